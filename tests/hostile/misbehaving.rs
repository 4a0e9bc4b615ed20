//! Peers and readers that do not behave: origins whose answers have two lengths, callers that smuggle claims or send before
//! their turn, a stream that outlives its permission, an operator who does not read stderr.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::pair::{HOST, Pair, Setting};
use support::sidecar::Sidecar;
use support::{wait, wire};

/// An origin that answers the first request of a connection with these bytes and says nothing more.
fn raw_origin(at: SocketAddr, answer: &'static [u8]) {
    let listener = TcpListener::bind(at).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(answer);
                // Until the proxy has had enough of it.
                while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
            });
        }
    });
}

/// Both sidecars, with a rule that lets any request under `/open` pass.
fn open(setting: Setting) -> Setting {
    setting.server(|text| {
        text + "\n[[inbound]]\nname = \"open\"\nfrom = \"shop/web\"\nrequests = [\"* /open/{rest...}\"]\n"
    })
}

#[test]
fn a_response_whose_length_can_be_read_in_two_ways_is_not_passed_on() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n01234",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n",
    ] {
        let setting = open(Setting::new());
        raw_origin(setting.at.app, answer);
        let (_server, _client) = (setting.start_server(), setting.start_client());
        let reply = wire::get(setting.at.entry, HOST, "/open/x").unwrap();
        assert_eq!(reply.status(), 502, "{}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn claims_of_a_caller_reach_the_application_under_no_spelling() {
    let pair = open(Setting::new()).start();
    let head = format!(
        "POST /open/claims HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nTrailer: x-forwarded-client-cert, x-sum\r\n\
         x_forwarded_client_cert: By=forged\r\nx_envoy_internal: forged\r\nx-http-method-override: forged\r\n\
         x_http_method_override: forged\r\nl5d-client-id: forged\r\nx-original-uri: /forged\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nx-forwarded-client-cert: By=forged\r\nx-sum: 1\r\n\r\n"
    );
    let reply = wire::request(pair.entry(), head.as_bytes()).unwrap();
    assert_eq!(reply.status(), 200);
    assert!(!pair.origin.saw(b"forged"));
    assert_eq!(pair.origin.last("/open/claims").trailer("x-sum"), Some("1"));
}

#[test]
fn a_get_with_a_body_arrives_with_it() {
    let pair = open(Setting::new()).start();
    let head =
        format!("GET /open/body HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(wire::request(pair.entry(), head.as_bytes()).unwrap().status(), 200);
    assert!(pair.origin.saw(b"hello"));
}

#[test]
fn an_open_request_body_does_not_outlive_its_permission() {
    let pair =
        open(Setting::new()).server(|text| text.replace("[proxy]\n", "[proxy]\nrevoke_within = \"2s\"\n")).start();
    let mut stream = TcpStream::connect(pair.entry()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!("POST /open/upload HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    wait::until("the application to hear of it", wait::SOON, || pair.origin.saw(b"abc").then_some(()));
    let closed = pair.setting.dir.read("server.toml").replace("/open/{rest...}", "/elsewhere");
    pair.setting.dir.write("server.toml", closed);
    pair.server.reload();
    wait::until("the new rules", wait::SOON, || (pair.server.generation() == 2).then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    let _ = stream.write_all(b"7\r\nSECRET!\r\n0\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!pair.origin.saw(b"SECRET!"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn the_time_for_a_whole_request_covers_its_body() {
    let setting = open(Setting::new()).server(|text| text.replace("[app]\n", "[app]\ntimeout = \"1s\"\n"));
    // Ten bytes are promised and five come.
    raw_origin(setting.at.app, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234");
    let (_server, _client) = (setting.start_server(), setting.start_client());
    let started = Instant::now();
    assert!(wire::get(setting.at.entry, HOST, "/open/slow").is_err(), "a cut body must not look whole");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn bytes_sent_before_their_turn_are_not_gathered() {
    let pair = Pair::start();
    let mut stream = TcpStream::connect(pair.entry()).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let head = format!("GET /api/orders/42 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let many = head.repeat(2000);
    let before = resident(&pair.client);
    let mut sent = 0;
    // Nobody reads the answers: soon nothing more is taken either.
    while sent < 200 * many.len() {
        match stream.write(many.as_bytes()) {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    let grown = resident(&pair.client).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more after {sent} bytes");
}

#[test]
fn a_reader_of_stderr_that_stalls_holds_up_neither_reload_nor_drain() {
    let setting = Setting::new();
    let _origin = support::origin::Origin::on(setting.at.app);
    let mut server = Command::new(support::tools::sekisho())
        .args(["proxy", "-c"])
        .arg(setting.dir.join("server.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _client = setting.start_client();
    wait::until("the callee's sidecar", wait::SOON, || {
        wire::get(setting.at.entry, HOST, "/api/orders/1").is_ok_and(|reply| reply.status() == 200).then_some(())
    });
    // Each refusal is a line of some hundred bytes; a pipe holds 64 KiB.
    for _ in 0..400 {
        assert_eq!(wire::get(setting.at.entry, HOST, "/refused").unwrap().status(), 403);
    }
    for path in ["/one", "/two"] {
        let text = setting.dir.read("server.toml").replace("requests = [", &format!("requests = [\"GET {path}\", "));
        setting.dir.write("server.toml", text);
        wait::until("the new rules", wait::SOON, || {
            wire::get(setting.at.entry, HOST, path).is_ok_and(|reply| reply.status() == 200).then_some(())
        });
    }
    support::child::signal(server.id(), "TERM");
    let ended = wait::within(Duration::from_secs(20), || server.try_wait().unwrap());
    let _ = server.kill();
    assert!(ended.is_some_and(|status| status.code() == Some(0)), "{ended:?}");
}

/// Resident memory of a sidecar, in KiB.
fn resident(sidecar: &Sidecar) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
