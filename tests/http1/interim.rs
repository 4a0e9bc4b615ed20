//! What comes before the answer: "100 Continue" and those who wait for it, early hints, and what nobody asked for.

use support::child::run;
use support::pair::HOST;
use support::{tools, wire};

use super::open::{get, head, staged};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_application() {
    let stage = staged(|line| {
        while line.head()?.is_some() {
            line.send(CONTINUE)?;
            let body = line.bytes(5)?;
            line.answer(&String::from_utf8_lossy(&body))?;
        }
        Ok(())
    });
    let mut connection = stage.connect();
    for _ in 0..2 {
        connection.send(head("POST", "a", "Expect: 100-continue\r\nContent-Length: 5\r\n").as_bytes()).unwrap();
        // Nothing of the body is there before this.
        assert_eq!(connection.receive_any().unwrap().status(), 100);
        connection.send(b"hello").unwrap();
        let reply = connection.receive_any().unwrap();
        assert_eq!((reply.status(), reply.text().as_str()), (200, "hello"));
    }
    assert!(stage.origin.heads()[0].to_lowercase().contains("expect: 100-continue\r\n"));
    assert_eq!(stage.origin.connections(), 1);
}

#[test]
fn an_application_that_refuses_to_continue_is_heard_and_its_connection_not_used_again() {
    for status in [417, 413] {
        let stage = staged(move |line| {
            if line.number > 0 {
                line.head()?;
                return line.answer("next");
            }
            line.head()?;
            line.send(format!("HTTP/1.1 {status} No\r\ncontent-length: 2\r\n\r\nno"))?;
            line.until_closed();
            Ok(())
        });
        let mut connection = stage.connect();
        connection.send(head("POST", "a", "Expect: 100-continue\r\nContent-Length: 5\r\n").as_bytes()).unwrap();
        let reply = connection.receive_any().unwrap();
        assert_eq!((reply.status(), reply.text().as_str()), (status, "no"));
        assert!(reply.closes(), "the body may follow or not");
        assert_eq!(connection.rest().0, b"");
        assert_eq!(wire::get(stage.setting.at.entry, HOST, "/open/b").unwrap().text(), "next");
        assert_eq!(stage.origin.connections(), 2);
    }
}

#[test]
fn curl_waits_for_100_and_sends_two_megabytes() {
    let stage = staged(|line| {
        line.head()?;
        line.send(CONTINUE)?;
        let body = line.bytes(2_000_000)?;
        let right = body.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251);
        line.answer(if right { "right" } else { "wrong" })
    });
    let body: Vec<u8> = (0..2_000_000usize).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let file = stage.setting.dir.write("body", body);
    let mut curl = tools::system("curl", "curl");
    curl.args([
        "-sv",
        "--stderr",
        "-",
        "--max-time",
        "20",
        "--expect100-timeout",
        "20",
        "-H",
        &format!("Host: {HOST}"),
    ])
    .args(["-H", "Expect: 100-continue", "--data-binary", &format!("@{}", file.display())])
    .arg(format!("http://{}/open/a", stage.setting.at.entry));
    let said = run(&mut curl);
    let (continued, answered) = (said.find("< HTTP/1.1 100 Continue"), said.find("< HTTP/1.1 200 OK"));
    assert!(continued.is_some() && continued < answered && said.contains("right"), "{said}");
}

#[test]
fn early_hints_pass_in_order_with_their_fields() {
    let stage = staged(|line| {
        line.head()?;
        for number in 1..=3 {
            line.send(format!(
                "HTTP/1.1 103 Early Hints\r\nLink: </{number}.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"
            ))?;
        }
        line.answer("done")
    });
    let mut connection = stage.connect();
    connection.send(&get("a")).unwrap();
    for number in 1..=3 {
        let hint = connection.receive_any().unwrap();
        assert_eq!((hint.status(), hint.header("link")), (103, Some(&*format!("</{number}.css>; rel=preload"))));
        assert_eq!(
            (hint.header("x-hop"), hint.header("transfer-encoding"), hint.header("content-length")),
            (None, None, None)
        );
    }
    assert_eq!(connection.receive_any().unwrap().text(), "done");
}

#[test]
fn sixteen_interim_responses_pass_and_a_seventeenth_ends_it() {
    for (count, status) in [(16, 200), (17, 502), (2000, 502)] {
        let stage = staged(move |line| {
            line.head()?;
            for _ in 0..count {
                line.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
            }
            line.answer("done")?;
            line.until_closed();
            Ok(())
        });
        let reply = wire::get(stage.setting.at.entry, HOST, "/open/a").unwrap();
        assert_eq!(reply.status(), status, "{count}: {}", reply.text());
    }
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_refused() {
    let stage = staged(|line| {
        line.head()?;
        line.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nraw bytes")?;
        line.until_closed();
        Ok(())
    });
    let mut connection = stage.connect();
    connection.send(&get("a")).unwrap();
    let reply = connection.receive_any().unwrap();
    assert_eq!(reply.status(), 502);
    assert!(!reply.text().contains("raw"));
}
