//! SIGTERM: readiness goes first, running requests finish, kept connections are told, and the process ends by itself.

use std::time::{Duration, Instant};

use support::load::{Load, TlsLoad};
use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::peers::{GrpcServer, grpc_calls};
use support::sidecar::Sidecar;
use support::{wait, wire};

use super::{count, quiet};

/// Stop signals to the caller's sidecar, to the callee's and to both; `SEKISHO_STOPS` of them.
#[test]
fn stop_signals_under_load_fail_no_request_and_end_in_time() {
    let setting = quiet(Setting::new());
    let origin = Origin::forgetful(setting.at.app, |_| Reply::text("here"));
    let Pair { mut client, mut server, origin: _origin, setting } = setting.start_with(origin);
    let (mut ok, mut slowest) = (0, Duration::ZERO);
    let stops = count("SEKISHO_STOPS", 4);
    for round in 0..stops {
        let kept = Load::start(setting.at.entry, HOST, "/api/orders/42", 3);
        let fresh = Load::fresh(setting.at.entry, HOST, "/api/orders/42", 2);
        let tls = TlsLoad::start(setting.dir.path(), setting.at.inbound, &setting.web, "/api/orders/42", 2);
        // Another moment each time.
        std::thread::sleep(Duration::from_millis(300 + u64::from(round) * 37 % 200));
        let (ends_client, ends_server) = (round % 3 != 1, round % 3 != 0);
        let stopped: Vec<&mut Sidecar> = [(ends_client, &mut client), (ends_server, &mut server)]
            .into_iter()
            .filter_map(|(ends, one)| ends.then_some(one))
            .collect();
        stopped.iter().for_each(|sidecar| sidecar.terminate());
        // Callers that have not yet heard of the end go on for a while, on new connections too.
        std::thread::sleep(Duration::from_millis(1500));
        let begin = Instant::now();
        // A connection that ends at the caller's sidecar is told by that one alone (RFC 9110 §7.6.1).
        for (name, load, is_told) in
            [("kept", kept.stop(), ends_client), ("fresh", fresh.stop(), true), ("mtls", tls.stop(), ends_server)]
        {
            println!("round {round}: {name} {} answered, {} told to go", load.ok, load.closes);
            load.assert_clean(20);
            assert!(load.closes > 0 || !is_told, "nobody was told to go elsewhere");
            ok += load.ok;
        }
        for sidecar in stopped {
            assert!(sidecar.ended(Duration::from_secs(15)).success(), "round {round}");
            slowest = slowest.max(begin.elapsed());
        }
        if ends_server {
            server = setting.start_server();
        }
        if ends_client {
            client = setting.start_client();
        }
    }
    println!(
        "{stops} stops under load: {ok} requests, none failed; the slowest end {slowest:?} after the last caller had left"
    );
}

#[test]
fn a_draining_sidecar_under_load_is_not_ready_and_serves_on() {
    let mut pair = Pair::start();
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 4);
    for sidecar in [&pair.client, &pair.server] {
        sidecar.terminate();
    }
    std::thread::sleep(Duration::from_secs(3));
    assert!(!pair.client.is_ready() && pair.client.child.is_running());
    assert!(!pair.server.is_ready() && pair.server.child.is_running());
    load.stop().assert_clean(50);
    assert!(pair.client.ended(Duration::from_secs(10)).success());
    assert!(pair.server.ended(Duration::from_secs(15)).success());
}

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
