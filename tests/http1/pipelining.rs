//! Requests sent before the answers to earlier ones, and what may follow a request that was refused.

use std::time::Duration;

use support::pair::HOST;
use support::wire::{Connection, End, exchange};

use super::open::{get, head, pair};

#[test]
fn ten_requests_in_one_write_are_answered_in_order() {
    let pair = pair();
    let mut all = Vec::new();
    for number in 0..10 {
        match number {
            3 => all.extend_from_slice(
                format!("POST /denied HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 6\r\n\r\nsecret").as_bytes(),
            ),
            1 | 6 => all.extend_from_slice(
                format!("{}{}", head("POST", &number.to_string(), "Content-Length: 5\r\n"), "GET /x"[..5].to_owned())
                    .as_bytes(),
            ),
            4 | 8 => {
                let chunked = head("PUT", &number.to_string(), "Transfer-Encoding: chunked\r\n");
                all.extend_from_slice(format!("{chunked}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nx-sum: 5\r\n\r\n").as_bytes());
            }
            _ => all.extend_from_slice(&get(&number.to_string())),
        }
    }
    let mut connection = Connection::open(pair.entry()).unwrap();
    connection.send(&all).unwrap();
    let expected =
        ["GET 0 0", "POST 1 5", "GET 2 0", "", "PUT 4 5", "GET 5 0", "POST 6 5", "GET 7 0", "PUT 8 5", "GET 9 0"];
    for expected in expected {
        let reply = connection.receive().unwrap();
        if expected.is_empty() {
            assert_eq!((reply.status(), reply.text().as_str()), (403, "RBAC: access denied"));
        } else {
            assert_eq!((reply.status(), reply.text().replace("/open/", "").as_str()), (200, expected));
        }
        assert!(!reply.closes(), "{expected}");
    }
    assert_eq!(pair.origin.requests().len(), 9);
    assert!(!pair.origin.saw(b"secret"));
    assert_eq!(pair.origin.last("/open/4").trailer("x-sum"), Some("5"));
    for request in pair.origin.requests() {
        let framings = request.count("content-length") + request.count("transfer-encoding");
        assert!(framings <= 1 && request.count("host") == 1, "{request:?}");
    }
}

#[test]
fn nothing_after_a_request_that_closes_is_served() {
    let pair = pair();
    let mut all = [get("1"), get("2")].concat();
    all.extend_from_slice(head("GET", "3", "Connection: close\r\n").as_bytes());
    all.extend_from_slice(&[get("4"), get("5")].concat());
    let (received, end) = exchange(pair.entry(), &all, Duration::from_secs(5));
    let text = String::from_utf8_lossy(&received);
    assert_eq!(text.matches("HTTP/1.1 200").count(), 3, "{text}");
    assert!(text.ends_with("GET /open/3 0") && end != End::Quiet, "{end:?} {text}");
    let targets: Vec<String> = pair.origin.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/open/1", "/open/2", "/open/3"]);
}

#[test]
fn nothing_after_a_head_that_cannot_be_read_is_served() {
    let pair = pair();
    for (bad, status) in [
        ("Bad : x\r\n", 400),
        ("Content-Length: 3\r\nContent-Length: 3\r\n", 400),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("A: b\r\n c\r\n", 400),
        ("A: b\nC: d\r\n", 400),
        ("A: b\0\r\n", 400),
    ] {
        let before = pair.origin.requests().len();
        let all = [get("before"), head("GET", "bad", bad).into_bytes(), get("after")].concat();
        let (received, end) = exchange(pair.entry(), &all, Duration::from_secs(5));
        let text = String::from_utf8_lossy(&received);
        assert_eq!(text.matches("HTTP/1.1 ").count(), 2, "{bad:?}: {text}");
        assert!(text.contains(&format!("HTTP/1.1 {status} ")) && end != End::Quiet, "{bad:?}: {end:?} {text}");
        assert_eq!(pair.origin.requests().len(), before + 1, "{bad:?}");
    }
    assert!(!pair.origin.saw(b"/open/bad") && !pair.origin.saw(b"/open/after"));
}

#[test]
fn a_refusal_keeps_the_connection_when_the_body_is_here() {
    let pair = pair();
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nx: y\r\n\r\n",
        "\r\n",
    ] {
        let mut connection = Connection::open(pair.entry()).unwrap();
        let denied = format!("POST /denied HTTP/1.1\r\nHost: {HOST}\r\n{body}");
        connection.send(&[denied.into_bytes(), get("next")].concat()).unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!(reply.status(), 403);
        assert!(!reply.closes(), "{body}");
        assert_eq!(connection.receive().unwrap().text(), "GET /open/next 0", "{body}");
    }
    assert_eq!(pair.origin.requests().len(), 3);
}

#[test]
fn a_refusal_closes_the_connection_when_the_body_is_not_here() {
    let pair = pair();
    for body in [
        "Content-Length: 100\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
        "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    ] {
        let mut connection = Connection::open(pair.entry()).unwrap();
        connection.send(format!("POST /denied HTTP/1.1\r\nHost: {HOST}\r\n{body}").as_bytes()).unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!(reply.status(), 403);
        assert!(reply.closes(), "{body}");
        // What could be the rest of the body could as well be a request.
        let _ = connection.send(&get("smuggled"));
        assert_eq!(connection.rest().0, b"", "{body}");
    }
    assert_eq!(pair.origin.requests().len(), 0);
}

#[test]
fn head_gets_no_body_from_us_either() {
    let pair = pair();
    let mut connection = Connection::open(pair.entry()).unwrap();
    connection
        .send(&[format!("HEAD /denied HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into_bytes(), get("next")].concat())
        .unwrap();
    let reply = connection.receive_head().unwrap();
    assert_eq!((reply.status(), reply.header("content-length")), (403, Some("19")));
    assert_eq!(connection.receive().unwrap().text(), "GET /open/next 0");
}

#[test]
fn an_answer_to_head_tells_the_length_and_has_no_body() {
    let pair = pair();
    let mut connection = Connection::open(pair.entry()).unwrap();
    connection.send(&[head("HEAD", "a", "").into_bytes(), get("next")].concat()).unwrap();
    let reply = connection.receive_head().unwrap();
    assert_eq!((reply.status(), reply.header("content-length")), (200, Some("14")));
    assert_eq!(connection.receive().unwrap().text(), "GET /open/next 0");
}

#[test]
fn what_follows_a_request_for_another_protocol_is_not_passed_on() {
    let pair = pair();
    for text in [
        head("GET", "a", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        format!("CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}:80\r\n\r\n"),
    ] {
        let (received, end) =
            exchange(pair.entry(), &[text.clone().into_bytes(), get("smuggled")].concat(), Duration::from_secs(5));
        let received = String::from_utf8_lossy(&received);
        assert!(
            !received.starts_with("HTTP/1.1 2") && received.matches("HTTP/1.1 ").count() == 1,
            "{text}: {received}"
        );
        assert!(end != End::Quiet, "{text}");
    }
    // Without the `Connection` option it is a field like any other for one hop.
    let mut connection = Connection::open(pair.entry()).unwrap();
    connection.send(head("GET", "plain", "Upgrade: h2c\r\n").as_bytes()).unwrap();
    assert_eq!(connection.receive().unwrap().status(), 200);
    assert_eq!(pair.origin.last("/open/plain").header("upgrade"), None);
    assert!(!pair.origin.saw(b"smuggled"));
    assert_eq!(pair.origin.requests().len(), 1);
}

#[test]
fn the_host_of_an_absolute_target_is_the_only_one_that_goes_on() {
    let pair = pair();
    for (target, host) in [
        (format!("http://{HOST}/open/a?b"), "evil.example"),
        (format!("HTTP://{HOST}:80/open/a?b"), "evil.example"),
        ("/open/a?b".to_owned(), HOST),
        ("/open/a?b".to_owned(), "ORDERS.shop.svc.:80"),
    ] {
        let mut connection = Connection::open(pair.entry()).unwrap();
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(connection.receive().unwrap().status(), 200, "{target} {host}");
    }
    for seen in pair.origin.requests() {
        assert_eq!((seen.target(), seen.count("host"), seen.header("host")), ("/open/a?b", 1, Some(HOST)), "{seen:?}");
    }
    assert!(!pair.origin.saw(b"evil"));
}

#[test]
fn what_a_connection_field_names_goes_and_what_the_message_needs_stays() {
    let pair = pair();
    let lines = "Connection: x-hop, host, content-length, x-forwarded-client-cert, content-type, close\r\nX-Hop: 1\r\n\
                 Content-Type: a/b\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nContent-Length: 5\r\n";
    let mut connection = Connection::open(pair.entry()).unwrap();
    connection.send((head("POST", "a", lines) + "hello").as_bytes()).unwrap();
    let reply = connection.receive().unwrap();
    assert!(reply.status() == 200 && reply.closes());
    let seen = pair.origin.last("/open/a");
    assert_eq!((seen.text().as_str(), seen.header("content-type"), seen.count("host")), ("hello", Some("a/b"), 1));
    for gone in ["x-hop", "keep-alive", "proxy-connection", "connection"] {
        assert_eq!(seen.count(gone), 0, "{gone}");
    }
    assert_eq!(seen.count("x-forwarded-client-cert"), 1);
}
