//! Kept connections to the application: closed behind our back, or with bytes on them that nobody asked for.

use std::time::Duration;

use support::pair::HOST;
use support::script::Line;
use support::wire::{self, Connection};

use super::open::{Staged, get, head, staged};

const ROUNDS: usize = 200;
/// What a bad application adds to an answer: a whole answer to the next request.
const EVIL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL";

#[test]
fn bytes_after_an_answer_without_body_are_never_the_next_clients() {
    for (start, pause) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 0),
        ("HTTP/1.1 204 No Content\r\n\r\n", 1),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 43\r\n\r\n", 0),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 43\r\n\r\n", 1),
    ] {
        assert_no_surplus(move |line| surplus(line, start, pause), "GET");
    }
}

#[test]
fn bytes_after_an_answer_to_head_are_never_the_next_clients() {
    for pause in [0, 1] {
        assert_no_surplus(move |line| surplus(line, "HTTP/1.1 200 OK\r\ncontent-length: 43\r\n\r\n", pause), "HEAD");
    }
}

#[test]
fn bytes_after_a_whole_body_are_never_the_next_clients() {
    for start in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        assert_no_surplus(move |line| surplus(line, start, 0), "GET");
    }
}

/// The bad answer to `/open/bad`, a good one to everything else.
fn surplus(line: &mut Line<'_>, start: &str, pause: u64) -> std::io::Result<()> {
    while let Some(head) = line.head()? {
        if !head.contains(" /open/bad ") {
            line.answer("good")?;
        } else if pause == 0 {
            line.send(format!("{start}{EVIL}"))?;
        } else {
            line.send(start)?;
            std::thread::sleep(Duration::from_millis(pause));
            line.send(EVIL)?;
        }
    }
    Ok(())
}

fn assert_no_surplus(script: impl Fn(&mut Line<'_>) -> std::io::Result<()> + Send + Sync + 'static, method: &str) {
    let stage = staged(script);
    let mut bad = stage.connect();
    let mut next = stage.connect();
    let mut wrong = 0;
    for _ in 0..ROUNDS {
        bad.send(head(method, "bad", "").as_bytes()).unwrap();
        let reply = if method == "HEAD" { bad.receive_head() } else { bad.receive_any() }.unwrap();
        assert!(matches!(reply.status(), 200 | 204 | 304), "{}", reply.start);
        next.send(&get("good")).unwrap();
        let reply = next.receive_any().unwrap();
        wrong += usize::from(reply.text() != "good");
    }
    assert_eq!(wrong, 0, "of {ROUNDS} next answers");
}

#[test]
fn no_get_fails_when_the_application_closes_after_each_answer_without_saying_so() {
    for pause in [0, 10] {
        let stage = staged(move |line| {
            let Some(_) = line.head()? else { return Ok(()) };
            line.answer("ok")?;
            std::thread::sleep(Duration::from_millis(pause));
            Ok(())
        });
        assert_every_get_succeeds(&stage, 250);
    }
}

#[test]
fn no_get_fails_when_the_application_closes_on_the_second_request() {
    let stage = staged(|line| {
        line.head()?;
        line.answer("ok")?;
        // The request after it is read, and not answered.
        line.head()?;
        Ok(())
    });
    assert_every_get_succeeds(&stage, 100);
}

fn assert_every_get_succeeds(stage: &Staged, count: usize) {
    let mut connection = stage.connect();
    for number in 0..count {
        connection.send(&get("a")).unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!((reply.status(), reply.text().as_str()), (200, "ok"), "request {number}");
    }
}

#[test]
fn a_post_is_never_sent_twice() {
    let stage = staged(|line| {
        let Some(head) = line.head()? else { return Ok(()) };
        if head.starts_with("POST") {
            return Ok(()); // read, and not answered
        }
        line.answer("ok")?;
        line.head()?;
        Ok(())
    });
    let mut connection = stage.connect();
    let mut posts = 0;
    for number in 0..50 {
        connection.send(&get("a")).unwrap();
        assert_eq!(connection.receive().unwrap().status(), 200);
        let text = head("POST", &format!("post{number}"), "Content-Length: 5\r\n") + "hello";
        connection.send(text.as_bytes()).unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!(reply.status(), 503, "{}", reply.text());
        posts += 1;
        if reply.closes() {
            connection = stage.connect();
        }
    }
    let heads = stage.origin.heads();
    for number in 0..posts {
        let sent = heads.iter().filter(|head| head.contains(&format!(" /open/post{number} "))).count();
        assert!(sent <= 1, "post{number} was sent {sent} times");
    }
    assert!(heads.iter().filter(|head| head.starts_with("POST")).count() > 0);
}

#[test]
fn an_application_that_says_close_is_asked_on_a_new_connection() {
    let stage = staged(|line| {
        line.head()?;
        line.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")?;
        line.until_closed();
        Ok(())
    });
    let mut connection: Connection = stage.connect();
    for _ in 0..5 {
        connection.send(&get("a")).unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!(reply.text(), "ok");
        assert!(!reply.closes(), "that is between the sidecar and the application");
    }
    assert_eq!(stage.origin.connections(), 5);
    assert_eq!(wire::get(stage.setting.at.entry, HOST, "/open/b").unwrap().status(), 200);
}
