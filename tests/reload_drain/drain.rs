//! SIGTERM: readiness goes first, running requests finish, kept connections are told, and the process ends by itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::peers::{GrpcServer, grpc_calls};
use support::script::Scripted;
use support::{wait, wire};

#[test]
fn a_request_that_is_running_at_sigterm_finishes() {
    let pair = slow_pair(Duration::from_secs(3));
    let entry = pair.entry();
    let asking = std::thread::spawn(move || get(entry, "/api/orders/1"));
    pair.origin.last("/api/orders/1");
    let Pair { mut client, mut server, origin, setting } = pair;
    let begin = Instant::now();
    client.terminate();
    server.terminate();
    wait::until("readiness to go", wait::SOON, || (!server.is_ready()).then_some(()));
    let reply = asking.join().unwrap();
    assert_eq!((reply.status(), reply.text().as_str()), (200, "late"));
    assert!(client.ended(wait::SOON).success());
    assert!(server.ended(wait::SOON).success());
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "the drain went on after its last request: {:?}",
        begin.elapsed()
    );
    drop((origin, setting));
}

#[test]
fn an_idle_sidecar_ends_soon_after_sigterm() {
    let mut pair = Pair::start();
    assert_eq!(get(pair.entry(), "/api/orders/1").status(), 200);
    for sidecar in [&mut pair.client, &mut pair.server] {
        sidecar.terminate();
        assert!(sidecar.ended(Duration::from_secs(10)).success());
    }
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let deadline = |text: String| text.replace("capture = \"none\"", "capture = \"none\"\ndrain_timeout = \"2s\"");
    let setting = Setting::new().client(deadline);
    let origin = slow_origin(&setting, Duration::from_secs(60));
    let mut pair = setting.start_with(origin);
    let entry = pair.entry();
    let asking = std::thread::spawn(move || {
        let bytes = format!("GET /api/orders/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        wire::exchange(entry, bytes.as_bytes(), Duration::from_secs(30))
    });
    pair.origin.last("/api/orders/1");
    let begin = Instant::now();
    pair.client.terminate();
    assert!(!pair.client.ended(Duration::from_secs(15)).success(), "a drain that was cut short is no success");
    assert!((1..10).contains(&begin.elapsed().as_secs()), "ended after {:?}", begin.elapsed());
    let (received, _) = asking.join().unwrap();
    assert!(!received.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn a_second_sigterm_ends_the_drain_at_once() {
    let setting = Setting::new();
    let origin = endless_origin(&setting);
    let (mut client, _server) = (setting.start_client(), setting.start_server());
    let mut streams = [Stream::begin(setting.at.entry), Stream::begin(setting.at.entry)];
    client.terminate();
    wait::until("the drain", wait::SOON, || (!client.is_ready()).then_some(()));
    // With the default of 45 s to go, what is under way goes on.
    for stream in &mut streams {
        stream.expect_more();
    }
    let begin = Instant::now();
    client.terminate();
    let status = client.ended(Duration::from_secs(15));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(status.code(), Some(3), "an end with connections open says so");
    for stream in &mut streams {
        stream.expect_cut();
    }
    drop(origin);
}

#[test]
fn long_streams_go_on_in_a_drain_and_are_seen_to_be_cut_at_its_deadline() {
    let deadline = |text: String| text.replace("[proxy]\n", "[proxy]\ndrain_timeout = \"3s\"\n");
    let setting = Setting::new().server(deadline);
    let origin = endless_origin(&setting);
    let (client, mut server) = (setting.start_client(), setting.start_server());
    let mut stream = Stream::begin(setting.at.entry);
    server.terminate();
    wait::until("the drain", wait::SOON, || (!server.is_ready()).then_some(()));
    stream.expect_more();
    assert_eq!(server.ended(wait::SOON).code(), Some(3));
    stream.expect_cut();
    // The caller's sidecar has lost its callee, and says so.
    let reply = get(setting.at.entry, "/api/orders/1");
    assert!((502..=504).contains(&reply.status()), "{}", reply.start);
    drop((origin, client));
}

#[test]
fn after_sigkill_a_new_sidecar_serves_on_the_same_ports_at_once() {
    let mut pair = Pair::start();
    assert_eq!(get(pair.entry(), "/api/orders/1").status(), 200);
    let mut kept = support::wire::Connection::open(pair.entry()).unwrap();
    for _ in 0..3 {
        pair.client.child.kill();
        pair.server.child.kill();
        assert!(wire::get(pair.entry(), HOST, "/api/orders/1").is_err(), "nobody is there to answer");
        pair.client = pair.setting.start_client();
        pair.server = pair.setting.start_server();
        assert_eq!(get(pair.entry(), "/api/orders/1").status(), 200);
    }
    assert!(kept.is_closed_within(wait::SOON));
}

/// An application that begins an answer and sends a chunk every 20 ms for as long as it is read.
fn endless_origin(setting: &Setting) -> Scripted {
    Scripted::on(setting.at.app, |line| {
        line.head()?;
        line.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        loop {
            line.send("5\r\nhello\r\n")?;
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

/// A client that reads such an answer.
struct Stream(TcpStream);

impl Stream {
    fn begin(entry: std::net::SocketAddr) -> Self {
        let mut stream = TcpStream::connect(entry).unwrap();
        stream.set_read_timeout(Some(wait::SOON)).unwrap();
        stream.write_all(format!("GET /api/orders/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        Self(stream)
    }

    /// It still comes: more than any buffer on the way held back.
    fn expect_more(&mut self) {
        let until = Instant::now() + Duration::from_secs(1);
        let mut count = 0;
        while Instant::now() < until {
            count += self.0.read(&mut [0; 4096]).unwrap();
        }
        assert!(count > 0);
    }

    /// It ends without the last chunk.
    fn expect_cut(&mut self) {
        let mut rest = Vec::new();
        let end = self.0.read_to_end(&mut rest);
        assert!(!rest.ends_with(b"0\r\n\r\n"), "a cut body looks whole: {end:?}");
    }
}

#[test]
fn grpc_calls_that_are_running_at_sigterm_finish() {
    let setting = Setting::new();
    let server_app = GrpcServer::start(setting.dir.path());
    let rule = "[[inbound]]\nname = \"calls\"\nfrom = \"shop/web\"\ngrpc = [\"echo.Echo/*\"]\n\n[[tap]]";
    let (old, new) = (setting.at.app.to_string(), server_app.addr().to_string());
    let setting = setting.server(|text| text.replace(&old, &new).replace("[[tap]]", rule));
    let mut server = setting.start_server();
    let mut client = setting.start_client();
    let entry = setting.at.entry.to_string();
    // The chat pauses between messages; the signal falls into one of the pauses.
    let calling = std::thread::spawn(move || grpc_calls(&entry, &["unary", "chat"]));
    wait::until("the chat to begin", wait::SOON, || {
        server_app.calls().iter().any(|call| call["method"] == "Chat").then_some(())
    });
    client.terminate();
    server.terminate();
    for result in calling.join().unwrap() {
        assert_eq!(result["ok"], true, "{result}");
    }
    assert!(client.ended(wait::SOON).success());
    assert!(server.ended(wait::SOON).success());
}

fn slow_pair(delay: Duration) -> Pair {
    let setting = Setting::new();
    let origin = slow_origin(&setting, delay);
    setting.start_with(origin)
}

fn slow_origin(setting: &Setting, delay: Duration) -> Origin {
    Origin::with(setting.at.app, move |_| Reply::text("late").after(delay))
}

fn get(entry: std::net::SocketAddr, path: &str) -> Message {
    wire::get(entry, HOST, path).unwrap()
}
