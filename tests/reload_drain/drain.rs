//! SIGTERM: readiness goes first, running requests finish, kept connections are told, and the process ends by itself.

use std::time::{Duration, Instant};

use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::peers::{GrpcServer, grpc_calls};
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
