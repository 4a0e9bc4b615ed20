//! The two versions of HTTP against each other: an HTTP/1.1 client before an HTTP/2 application, and an HTTP/2 client before an
//! HTTP/1.1 one.

use std::time::Duration;

use serde_json::{Value, json};
use support::child::run;
use support::message::Message;
use support::origin::Reply;
use support::pair::{HOST, Pair, Setting};
use support::peers::{H2Origin, h2_requests};
use support::script::Line;
use support::sidecar::Sidecar;
use support::wire::{Connection, End};
use support::{origin::Origin, tools, wait};

use super::open::{Staged, get, head, setting, setting_with, staged_in};

const MEGABYTE: usize = 1 << 20;

/// HTTP/1.1 in, HTTP/2 at the application.
struct Up {
    setting: Setting,
    origin: H2Origin,
    client: Sidecar,
    _server: Sidecar,
}

fn up() -> Up {
    up_at(false)
}

/// The versions meet in the callee's sidecar, or already in the caller's.
fn up_at(caller: bool) -> Up {
    up_in(setting(), caller)
}

fn up_in(setting: Setting, caller: bool) -> Up {
    let origin = H2Origin::start(setting.dir.path());
    let (app, new) = (setting.at.app.to_string(), origin.addr().to_string());
    let two = "protocol = \"http2\"\n";
    let setting = if caller {
        setting.client(|text| text.replace("[[service]]\n", &format!("[[service]]\n{two}")))
    } else {
        setting.server(|text| text.replace("[app]\n", &format!("[app]\n{two}")))
    };
    let setting = setting.server(|text| text.replace(&app, &new));
    let (server, client) = (setting.start_server(), setting.start_client());
    Up { setting, origin, client, _server: server }
}

impl Up {
    fn connect(&self) -> Connection {
        Connection::open(self.setting.at.entry).unwrap()
    }

    /// The only request so far for a path.
    fn seen(&self, path: &str) -> Value {
        let of = |request: &Value| request["path"] == format!("/open/{path}");
        wait::until(&format!("{path} at the application"), wait::SOON, || self.origin.requests().into_iter().find(of))
    }
}

fn field<'a>(seen: &'a Value, name: &str) -> Option<&'a str> {
    seen["headers"].as_array()?.iter().find(|pair| pair[0] == name)?[1].as_str()
}

#[test]
fn an_http1_client_asks_an_http2_application() {
    let up = up();
    let mut connection = up.connect();
    for (number, (method, lines, body, length)) in [
        ("GET", "", "", 0),
        ("POST", "Content-Length: 5\r\n", "hello", 5),
        ("POST", "Content-Length: 0\r\n", "", 0),
        (
            "PUT",
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n2;x\r\nde\r\n0\r\nx-up: 1\r\ncontent-length: 9\r\n\r\n",
            5,
        ),
        ("GET", "Cookie: a=1; b=2\r\n", "", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("{number}?q={number}");
        connection.send((head(method, &path, lines) + body).as_bytes()).unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!((reply.status(), reply.text()), (200, format!("h2 {length}")), "{method}");
        assert!(reply.chunked && reply.trailer("x-origin-sum").is_some_and(|sum| sum.len() == 64), "{reply:?}");
        let seen = up.seen(&path);
        assert_eq!((&seen["method"], &seen["authority"]), (&json!(method), &json!(HOST)));
        for gone in ["host", "connection", "transfer-encoding", "keep-alive"] {
            assert_eq!(field(&seen, gone), None, "{gone}");
        }
    }
    assert_eq!(up.seen("3?q=3")["trailers"], json!([["x-up", "1"]]));
    assert_eq!(field(&up.seen("1?q=1"), "content-length"), Some("5"));
    assert_eq!(up.origin.requests().len(), 5);
}

#[test]
fn an_http1_head_to_an_http2_application_has_no_body() {
    let up = up();
    let mut connection = up.connect();
    connection.send(&[head("HEAD", "a", "").into_bytes(), get("b")].concat()).unwrap();
    assert_eq!(connection.receive_head().unwrap().header("content-length"), Some("7"));
    assert_eq!(connection.receive().unwrap().text(), "h2 0");
}

#[test]
fn an_http1_client_that_waits_for_100_before_an_http2_application_gets_it() {
    for caller in [false, true] {
        let up = up_at(caller);
        let mut connection = up.connect();
        for _ in 0..2 {
            connection.send(head("POST", "a", "Expect: 100-continue\r\nContent-Length: 5\r\n").as_bytes()).unwrap();
            assert_eq!(connection.receive_any().unwrap().status(), 100);
            connection.send(b"hello").unwrap();
            let reply = connection.receive_any().unwrap();
            assert_eq!((reply.status(), reply.text().as_str()), (200, "h2 5"));
        }
    }
}

#[test]
fn an_http1_request_that_is_denied_never_reaches_an_http2_application() {
    let up = up();
    let mut connection = up.connect();
    let denied = format!("POST /denied HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello");
    connection.send(&[denied.into_bytes(), get("b")].concat()).unwrap();
    assert_eq!(connection.receive().unwrap().status(), 403);
    assert_eq!(connection.receive().unwrap().text(), "h2 0");
    assert_eq!(up.origin.requests().len(), 1);
}

#[test]
fn a_megabyte_passes_both_ways_between_the_versions() {
    let up = up();
    let mut connection = up.connect();
    let body = "x".repeat(MEGABYTE);
    for (path, lines, body) in [
        (format!("a?bytes={MEGABYTE}"), format!("Content-Length: {MEGABYTE}\r\n"), body.clone()),
        (
            format!("b?bytes={MEGABYTE}"),
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("100000\r\n{body}\r\n0\r\n\r\n"),
        ),
    ] {
        connection.send(head("POST", &path, &lines).as_bytes()).unwrap();
        connection.send(body.as_bytes()).unwrap();
        let reply = connection.receive().unwrap();
        assert!(reply.body.len() == MEGABYTE && reply.body.iter().all(|byte| *byte == b'x'));
        let seen = up.seen(&path);
        // Of a megabyte of x.
        assert_eq!(seen["length"], MEGABYTE);
        assert_eq!(seen["sha256"], sha256(&up.setting));
    }
}

/// Of a megabyte of `x`, by a program that is not ours.
fn sha256(setting: &Setting) -> String {
    let file = setting.dir.write("megabyte", "x".repeat(MEGABYTE));
    run(tools::system("sha256sum", "coreutils").arg(file)).split(' ').next().unwrap().to_owned()
}

#[test]
fn an_http2_application_may_answer_before_an_http1_body_has_come() {
    let up = up();
    let mut connection = up.connect();
    connection.send((head("POST", "a?early=413", "Content-Length: 1000000\r\n") + "some of it").as_bytes()).unwrap();
    let reply = connection.receive().unwrap();
    assert_eq!((reply.status(), reply.text().as_str()), (413, "early"));
    // The rest of the body can no longer be told from a request.
    let _ = connection.send(&get("smuggled"));
    let (rest, end) = connection.rest();
    assert!(rest.is_empty() && end != End::Quiet, "{end:?} {}", rest.escape_ascii());
    assert!(!up.origin.requests().iter().any(|request| request["path"] == "/open/smuggled"));
}

#[test]
fn half_a_request_to_an_http2_application_and_silence_is_ended_by_a_timer() {
    for caller in [false, true] {
        let up = up_in(setting_with("idle_timeout = \"1s\""), caller);
        let mut connection = up.connect();
        connection.send((head("POST", "a", "Content-Length: 10\r\n") + "01234").as_bytes()).unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!(reply.status(), 408, "{caller}: {reply:?}");
        let (rest, end) = connection.rest();
        assert!(rest.is_empty() && end != End::Quiet, "{caller}: {end:?}");
        assert!(
            !up.origin.requests().iter().any(|request| request["path"] == "/open/a"),
            "half a request looked whole"
        );
    }
}

#[test]
fn a_body_that_an_http2_answer_must_not_have_is_never_an_http1_clients_next_answer() {
    for (caller, status) in [(true, 204), (true, 304), (false, 204), (false, 304)] {
        let up = up_at(caller);
        let mut connection = up.connect();
        for _ in 0..20 {
            connection.send(&get(&format!("a?bare={status}"))).unwrap();
            let Ok(first) = connection.receive_any() else {
                connection = up.connect(); // cut, as it may be
                continue;
            };
            assert!([status, 502].contains(&first.status()), "{}", first.start);
            let _ = connection.send(&get("b"));
            match connection.receive_any() {
                Ok(next) => assert_eq!(next.text(), "h2 0", "{caller} {status}"),
                Err(_) => connection = up.connect(),
            }
        }
    }
}

#[test]
fn an_http1_client_that_leaves_resets_its_http2_stream() {
    let up = up();
    let mut connection = up.connect();
    connection.send((head("POST", "a", "Content-Length: 1000\r\n") + "some").as_bytes()).unwrap();
    // The application has the head: its log has only finished or reset ones, so the sidecar's counter is asked.
    wait::until("the request on its way", wait::SOON, || {
        let metrics = String::from_utf8_lossy(&up.client.admin("/stats").body).into_owned();
        (!metrics.is_empty()).then_some(())
    });
    drop(connection);
    up.client.logged(&["/open/a", "\"response_flags\":\"DC\""]);
    let whole = up.origin.requests().into_iter().any(|request| request["path"] == "/open/a");
    assert!(!whole, "half a request looked whole");
}

/// HTTP/2 in, HTTP/1.1 at the application.
fn http1_app(setting: Setting) -> Setting {
    let app = format!("address = \"{}\"", setting.at.app);
    setting.server(|text| text.replace(&app, &format!("{app}\nprotocol = \"http1\"")))
}

fn down() -> Pair {
    let setting = http1_app(setting());
    let origin = Origin::with(setting.at.app, |request: &Message| match request.target() {
        "/open/large" => Reply::text("x".repeat(MEGABYTE)),
        "/open/large-chunked" => Reply::text("x".repeat(MEGABYTE)).with_trailer("x-down", "1"),
        _ => Reply::text(format!("{} {}", request.method(), request.body.len())).with_trailer("x-down", "1"),
    });
    setting.start_with(origin)
}

fn staged_down(script: impl Fn(&mut Line<'_>) -> std::io::Result<()> + Send + Sync + 'static) -> Staged {
    staged_in(http1_app(setting()), script)
}

fn ask(method: &str, path: &str) -> Value {
    json!({"method": method, "path": path, "authority": HOST})
}

fn with(mut ask: Value, key: &str, value: Value) -> Value {
    ask[key] = value;
    ask
}

#[test]
fn an_http2_client_asks_an_http1_application() {
    let pair = down();
    let replies = h2_requests(
        pair.entry(),
        &[
            ask("GET", "/open/0?a=b"),
            with(with(ask("POST", "/open/1"), "body_length", json!(5)), "headers", json!([["content-length", "5"]])),
            with(ask("POST", "/open/2"), "body_length", json!(5)),
            with(
                with(ask("PUT", "/open/3"), "body_length", json!(5)),
                "trailers",
                json!([["x-up", "1"], ["content-length", "7"]]),
            ),
            with(ask("POST", "/open/4"), "headers", json!([["content-length", "0"]])),
            with(ask("GET", "/open/5"), "headers", json!([["cookie", "a=1"], ["cookie", "b=2"]])),
            ask("HEAD", "/open/6"),
            ask("POST", "/denied"),
        ],
    );
    let expected = ["GET 0", "POST 5", "POST 5", "PUT 5", "POST 0", "GET 0", "", "RBAC: access denied"];
    for (reply, expected) in replies.iter().zip(expected) {
        assert_eq!(reply["status"], if expected.starts_with("RBAC") { 403 } else { 200 }, "{reply}");
        assert_eq!((&reply["body"], &reply["error"]), (&json!(expected), &Value::Null), "{reply}");
    }
    assert_eq!(replies[0]["trailers"], json!([["x-down", "1"]]));
    assert_eq!(pair.origin.requests().len(), 7);
    for (number, framing) in [(1, "content-length"), (2, "transfer-encoding"), (3, "transfer-encoding")] {
        let seen = pair.origin.last(&format!("/open/{number}"));
        assert_eq!((seen.count("content-length") + seen.count("transfer-encoding"), seen.count(framing)), (1, 1));
    }
    for seen in pair.origin.requests() {
        assert_eq!((seen.count("host"), seen.header("host")), (1, Some(HOST)));
        assert!(seen.start.ends_with(" HTTP/1.1") && !seen.headers.iter().any(|(name, _)| name.starts_with(':')));
    }
    let seen = pair.origin.last("/open/3");
    assert_eq!((seen.trailer("x-up"), seen.trailer("content-length")), (Some("1"), None));
    assert_eq!(pair.origin.last("/open/5").header("cookie"), Some("a=1; b=2"));
}

#[test]
fn a_megabyte_passes_both_ways_from_http2_to_http1() {
    let pair = down();
    let mut asks = Vec::new();
    for path in ["/open/large", "/open/large-chunked"] {
        asks.push(with(ask("POST", path), "body_length", json!(MEGABYTE)));
        let declared = json!([["content-length", MEGABYTE.to_string()]]);
        asks.push(with(with(ask("POST", path), "body_length", json!(MEGABYTE)), "headers", declared));
    }
    for reply in h2_requests(pair.entry(), &asks) {
        assert_eq!(
            (&reply["status"], &reply["length"], &reply["error"]),
            (&json!(200), &json!(MEGABYTE), &Value::Null)
        );
    }
    let seen = pair.origin.requests();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|seen| seen.body.len() == MEGABYTE && seen.body.iter().all(|byte| *byte == b'x')));
}

#[test]
fn an_http1_application_may_answer_before_an_http2_body_has_come() {
    let stage = staged_down(|line| {
        if line.number > 0 {
            line.request()?;
            return line.answer("next");
        }
        line.head()?;
        line.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\n\r\ntoo large")?;
        line.hold();
        Ok(())
    });
    let replies = h2_requests(
        stage.setting.at.entry,
        &[with(ask("POST", "/open/a"), "body_length", json!(8 * MEGABYTE)), ask("GET", "/open/b")],
    );
    assert_eq!((&replies[0]["status"], &replies[0]["body"]), (&json!(413), &json!("too large")), "{}", replies[0]);
    assert_eq!(replies[1]["body"], "next");
    assert_eq!(stage.origin.connections(), 2);
}

#[test]
fn interim_responses_to_an_http2_client_are_bounded_however_slowly_they_come() {
    let stage = staged_down(|line| {
        line.head()?;
        for _ in 0..40 {
            line.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")?;
            std::thread::sleep(Duration::from_millis(5));
        }
        line.answer("done")?;
        line.until_closed();
        Ok(())
    });
    let replies = h2_requests(stage.setting.at.entry, &[ask("GET", "/open/a")]);
    assert_eq!(replies[0]["status"], 502, "{}", replies[0]);
}

#[test]
fn a_response_cut_short_breaks_an_http2_stream() {
    for (start, sent) in [
        ("content-length: 10", "01234"),
        ("transfer-encoding: chunked", "5\r\n01234\r\n"),
        ("transfer-encoding: chunked", "5\r\n01234\r\n0\r\n"),
    ] {
        let stage = staged_down(move |line| {
            line.head()?;
            line.send(format!("HTTP/1.1 200 OK\r\n{start}\r\n\r\n{sent}"))
        });
        let replies = h2_requests(stage.setting.at.entry, &[ask("GET", "/open/a")]);
        // Whoever saw the cut before the head had gone on may still answer by itself.
        let own = replies[0]["status"] == 503 || replies[0]["status"] == 502;
        assert!(own || replies[0]["error"].is_string(), "{sent:?}: {}", replies[0]);
    }
}

#[test]
fn bytes_after_an_http1_answer_are_never_an_http2_clients_next() {
    let stage = staged_down(|line| {
        while let Some(head) = line.head()? {
            if head.contains(" /open/bad ") {
                line.send("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL")?;
            } else {
                line.answer("good")?;
            }
        }
        Ok(())
    });
    let asks: Vec<Value> =
        (0..100).map(|number| ask("GET", if number % 2 == 0 { "/open/bad" } else { "/open/good" })).collect();
    for (number, reply) in h2_requests(stage.setting.at.entry, &asks).iter().enumerate() {
        assert_eq!(reply["body"], if number % 2 == 0 { "" } else { "good" }, "{number}: {reply}");
    }
}

#[test]
fn curl_speaks_http2_to_an_http1_application() {
    let pair = down();
    let body = pair.setting.dir.write("body", "x".repeat(MEGABYTE));
    let mut curl = tools::system("curl", "curl");
    curl.args([
        "-s",
        "--http2-prior-knowledge",
        "--max-time",
        "20",
        "-H",
        &format!("Host: {HOST}"),
        "-w",
        " %{http_code} %{http_version}",
    ]);
    let said = run(curl
        .args(["--data-binary", &format!("@{}", body.display())])
        .arg(format!("http://{}/open/a", pair.entry())));
    assert_eq!(said, format!("POST {MEGABYTE} 200 2"));
}
