//! Clients that leave or are slow: nobody waits for them, and the application hears of it.

use std::time::{Duration, Instant};

use support::wire::{Connection, exchange};
use support::{wait, wire};

use super::open::{get, head, pair, setting_with, staged};

/// How soon the application must hear that the client is gone.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn a_client_that_leaves_while_it_waits_takes_the_applications_connection_with_it() {
    let stage = staged(|line| {
        line.head()?;
        line.until_closed();
        Ok(())
    });
    let mut connection = stage.connect();
    connection.send(&get("wait")).unwrap();
    wait::until("the request at the application", wait::SOON, || (!stage.origin.heads().is_empty()).then_some(()));
    drop(connection);
    let left = Instant::now();
    wait::until("the application's connection to end", wait::SOON, || (stage.origin.ended() == 1).then_some(()));
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    for sidecar in [&stage.client, &stage.server] {
        sidecar.logged(&["/open/wait", "\"response_flags\":\"DC\"", "downstream_remote_disconnect"]);
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_response_takes_the_applications_connection_with_it() {
    let stage = staged(|line| {
        line.head()?;
        line.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        while line.send("5\r\nhello\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    });
    let mut connection = stage.connect();
    connection.send(&get("endless")).unwrap();
    let mut head = [0; 64];
    std::io::Read::read_exact(&mut connection.writer(), &mut head).unwrap();
    drop(connection);
    let left = Instant::now();
    wait::until("the application's connection to end", wait::SOON, || (stage.origin.ended() == 1).then_some(()));
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    for sidecar in [&stage.client, &stage.server] {
        sidecar.logged(&["/open/endless", "\"response_flags\":\"DC\""]);
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_takes_the_applications_connection_with_it() {
    let stage = staged(|line| {
        line.head()?;
        line.until_closed();
        Ok(())
    });
    let mut connection = stage.connect();
    connection.send((head("POST", "half", "Content-Length: 1000\r\n") + "half").as_bytes()).unwrap();
    wait::until("the request at the application", wait::SOON, || (!stage.origin.heads().is_empty()).then_some(()));
    drop(connection);
    let left = Instant::now();
    wait::until("the application's connection to end", wait::SOON, || (stage.origin.ended() == 1).then_some(()));
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    stage.server.logged(&["/open/half", "\"response_flags\":\"DC\""]);
}

#[test]
fn a_slow_head_is_answered_408_in_its_time_however_it_trickles() {
    let stage = super::open::staged_in(setting_with("head_timeout = \"1s\""), |line| {
        line.head()?;
        line.answer("never")
    });
    // The first request tells the protocol: the timer of a head is that of every later one too.
    for trickle in [false, true] {
        let mut connection = stage.connect();
        connection.send(b"GET /open/slow HTTP/1.1\r\nHost: or").unwrap();
        let started = Instant::now();
        let mut writer = connection.writer();
        let trickling = std::thread::spawn(move || {
            while trickle
                && std::io::Write::write_all(&mut writer, b"x").is_ok()
                && started.elapsed() < Duration::from_secs(8)
            {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let reply = connection.receive().unwrap();
        assert_eq!(reply.status(), 408, "{trickle}");
        assert!(reply.closes());
        assert!((1..5).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        let _ = connection.rest();
        trickling.join().unwrap();
    }
    assert_eq!(stage.origin.heads().len(), 0);
}

#[test]
fn a_slow_body_that_moves_is_not_hurried() {
    let setting = setting_with("idle_timeout = \"1s\"\nhead_timeout = \"1s\"");
    let pair = setting.start();
    let mut connection = Connection::open(pair.entry()).unwrap();
    connection.send(head("POST", "slow", "Content-Length: 12\r\n").as_bytes()).unwrap();
    for byte in b"hello worlds" {
        std::thread::sleep(Duration::from_millis(250));
        connection.send(&[*byte]).unwrap();
    }
    assert_eq!(connection.receive().unwrap().text(), "POST /open/slow 12");
}

#[test]
fn bytes_that_are_no_head_get_400_and_the_end() {
    let pair = pair();
    for text in [
        &b"GET /open/a HTTP/1.1\r\nHost: orders.shop.svc\r\n\x00: x\r\n\r\n"[..],
        b"GET /open/a HTTP/1.1\nHost: orders.shop.svc\n\n",
        b"GET  /open/a HTTP/1.1\r\nHost: orders.shop.svc\r\n\r\n",
        b"GET /open/a HTTP/1.1\r\nHost: orders.shop.svc\r\nA\r\n\r\n",
    ] {
        let (received, end) = exchange(pair.entry(), text, Duration::from_secs(5));
        let reply = String::from_utf8_lossy(&received);
        assert!(reply.starts_with("HTTP/1.1 400 "), "{}: {reply}", text.escape_ascii());
        assert!(end != wire::End::Quiet && reply.matches("HTTP/1.1").count() == 1, "{end:?} {reply}");
    }
    assert_eq!(pair.origin.connections(), 0);
}
