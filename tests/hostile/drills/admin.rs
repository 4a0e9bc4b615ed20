//! Class 113: the admin port as an attacker would use it. Nothing a caller names comes back as a page, a huge body is not read, who
//! stalls keeps nobody from asking for health, and slow ones are ended.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use support::pair::{HOST, Setting};
use support::{rest, wait, wire};

const SCRIPT: &str = "<script>alert(1)</script>";

/// The address of a port of the sidecar's own.
fn own(setting: &Setting, key: &str) -> SocketAddr {
    let text = setting.dir.read("server.toml");
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split('"').nth(1).unwrap().parse().unwrap()
}

/// A GET on the admin port with any target and host.
fn ask(at: SocketAddr, target: &str, host: &str) -> support::message::Message {
    let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Note: {SCRIPT}\r\nConnection: close\r\n\r\n");
    wire::request(at, head.as_bytes()).unwrap()
}

#[test]
fn names_do_not_become_pages() {
    // What an operator may write freely, and what anybody may ask for.
    let owner = format!("action = \"allow\"\nowner = \"{SCRIPT}\"\n");
    let pair = Setting::new()
        .server(|text| text.replace("from = \"shop/web\"\n", &format!("from = \"shop/web\"\n{owner}")))
        .start();
    let admin = own(&pair.setting, "admin");
    for (target, host) in [
        ("/policy/status", "localhost"),
        ("/", "localhost"),
        ("/<script>alert(1)</script>", "localhost"),
        ("/%3Cscript%3Ealert(1)%3C/script%3E", "localhost"),
        ("/policy/status?<script>alert(1)</script>", "localhost"),
        ("/ready", "<script>alert(1)</script>"),
        ("/stats/prometheus", "evil.example"),
        ("http://evil.example/<script>", "evil.example"),
    ] {
        let reply = ask(admin, target, host);
        let text = format!("{} {:?} {}", reply.start, reply.headers, reply.text());
        // The owner of a rule is shown where it is asked for; the words of whoever asks are shown nowhere.
        assert_eq!(text.contains(SCRIPT), target == "/policy/status", "{target}: {text}");
        if reply.status() != 400 {
            // A browser that is led here shows text, or offers to save JSON, and takes neither for a page.
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{target}: {text}");
            let kind = reply.header("content-type").unwrap_or_default();
            assert!(kind.starts_with("text/plain") || kind == "application/json", "{target}: {kind}");
        }
    }
    // And a caller's own words are labels of nothing.
    for value in [SCRIPT, "a\"} 1", "a\\"] {
        let head = format!("GET /{value} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {value}\r\nConnection: close\r\n\r\n");
        let _ = wire::request(pair.entry(), head.as_bytes());
    }
    for at in [admin, own(&pair.setting, "metrics")] {
        let page = ask(at, "/stats/prometheus", "localhost").text();
        assert!(!page.contains("script"), "{page}");
    }
}

#[test]
fn a_huge_body_is_not_read_and_slow_callers_keep_nobody_out() {
    let pair = rest::soon(Setting::new()).start();
    let admin = own(&pair.setting, "admin");
    let base = rest::base(&pair.server);
    let before = rest::resident(&pair.server);
    for (method, framing) in [
        ("POST", "Content-Length: 10000000000"),
        ("GET", "Content-Length: 10000000000"),
        ("GET", "Transfer-Encoding: chunked"),
    ] {
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        stream
            .write_all(format!("{method} /policy/status HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n").as_bytes())
            .unwrap();
        let piece = if framing.starts_with('C') {
            vec![b'x'; 1 << 20]
        } else {
            [b"100000\r\n", &vec![b'x'; 1 << 20][..], b"\r\n"].concat()
        };
        let sent = (0..64).take_while(|_| stream.write_all(&piece).is_ok()).count();
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(wait::SOON)).unwrap();
        let _ = stream.take(1 << 20).read_to_end(&mut answer);
        println!(
            "{method} {framing}: {sent} MiB were taken; {}",
            answer.escape_ascii().to_string().chars().take(40).collect::<String>()
        );
    }
    let grown = rest::resident(&pair.server).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    // More stalled callers than there are places, on the admin and on the metrics port; heads that stall, and answers unread.
    let stalled: Vec<TcpStream> = [admin, own(&pair.setting, "metrics")]
        .into_iter()
        .flat_map(|at| (0..100).map(move |number| (at, number)))
        .map(|(at, number)| {
            let mut stream = TcpStream::connect(at).unwrap();
            let begin = if number % 2 == 0 { "GET /stats/prom" } else { "" };
            stream.write_all(begin.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert!(pair.server.is_ready(), "health has places of its own");
    assert_eq!(wire::get(pair.entry(), HOST, "/api/orders/1").unwrap().status(), 200);
    // The places are free again once the timer has ended those that stalled, two times over: there are 64 of them.
    wait::until("the admin port to answer", Duration::from_secs(40), || {
        let head = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        wire::exchange(admin, head, Duration::from_secs(5)).0.starts_with(b"HTTP/1.1 200").then_some(())
    });
    drop(stalled);
    rest::returned(&pair.server, base);
}
