//! Requests sent once more to a shadow service, as a real Envoy's `request_mirror_policies` sends them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::envoy::{CALLEE, Envoy};
use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::peers::TlsClient;
use support::pki::spiffe;
use support::{ports, wait, wire};

const OPEN: &str = r#"
[[inbound]]
name = "open"
from = "shop/web"
requests = ["* /open/{rest...}"]

[[tap]]"#;

#[test]
fn a_shadow_gets_what_an_envoys_gets() {
    let (pair, shadow) = start("", Origin::on(ports::local()));
    let theirs = Origin::on(ports::local());
    let envoy = mirroring_envoy(&pair, theirs.addr());
    let body = "x".repeat(300_000);
    let request = format!(
        "POST /open/a?b=c HTTP/1.1\r\nHost: {HOST}:8080\r\nX-Forwarded-For: 192.0.2.7\r\nX-Own: 1\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for entry in [pair.setting.at.inbound, envoy.addr()] {
        let client = TlsClient::new(entry).cert(&pair.setting.web);
        assert!(client.send(request.as_bytes()).received.starts_with(b"HTTP/1.1 200"));
    }
    let (ours, theirs) = (only(&shadow), only(&theirs));
    for name in ["host", "x-envoy-internal", "x-own", "content-length"] {
        assert_eq!(ours.header(name), theirs.header(name), "{name}");
    }
    assert_eq!(ours.header("host"), Some(format!("{HOST}-shadow:8080").as_str()));
    assert_eq!((ours.target(), &ours.body), (theirs.target(), &theirs.body));
    // Envoy's names its own host last; which of several addresses that is, is its choice.
    let hops = |message: &Message| message.header("x-forwarded-for").map(|text| text.split(',').count());
    assert!(hops(&ours) >= Some(2) && hops(&theirs) >= Some(2), "{ours:?} {theirs:?}");
    settled(&pair, 1, 1);
}

#[test]
fn what_was_refused_or_is_not_whole_is_not_sent_again() {
    let (pair, shadow) = start("body = \"first 1KiB\"", Origin::on(ports::local()));
    get(&pair, "/refused");
    let long = format!("POST /open/long HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2000\r\n\r\n{}", "x".repeat(2000));
    assert_eq!(wire::request(pair.entry(), long.as_bytes()).unwrap().status(), 200);
    get(&pair, "/open/short");
    assert_eq!(only(&shadow).target(), "/open/short");
    settled(&pair, 2, 1);
    assert_eq!(pair.server.metrics().sum("sekisho_tap_dropped_total", &[("reason", "unsuitable")]), 1.0);
}

#[test]
fn trailers_and_secrets_are_treated_as_in_every_copy() {
    let (pair, shadow) = start("", Origin::on(ports::local()));
    let text = format!(
        "POST /open/t?token=s3cr3t HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer s3cr3t\r\nTE: trailers\r\n\
         Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 99\r\n\r\n"
    );
    assert_eq!(wire::request(pair.entry(), text.as_bytes()).unwrap().status(), 200);
    let seen = only(&shadow);
    assert_eq!((seen.body.as_slice(), seen.trailer("x-sum")), (b"hello".as_slice(), Some("99")));
    assert!(!shadow.saw(b"s3cr3t"));
}

#[test]
fn a_slow_shadow_delays_nothing() {
    let slow = Origin::with(ports::local(), |_| Reply::text("late").after(Duration::from_secs(3)));
    let (pair, _shadow) = start("", slow);
    let started = Instant::now();
    (0..20).for_each(|_| get(&pair, "/open/a"));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "the application waited for the shadow: {took:?}");
    settled(&pair, 20, 20);
}

#[test]
fn a_shadow_that_is_not_there_is_counted_and_breaks_nothing() {
    let pair = start_towards(ports::local(), "");
    (0..5).for_each(|_| get(&pair, "/open/b"));
    wait::until("the errors to be counted", wait::SOON, || {
        let refused = pair.server.metrics().sum("sekisho_tap_send_errors_total", &[("errno", "ECONNREFUSED")]);
        (refused == 5.0).then_some(())
    });
}

fn start(keys: &str, shadow: Origin) -> (Pair, Origin) {
    (start_towards(shadow.addr(), keys), shadow)
}

fn start_towards(shadow: SocketAddr, keys: &str) -> Pair {
    let setting = Setting::new();
    let sensor = format!("vxlan://{}?vni=42", setting.at.sensor);
    let tap = format!("shadow://{shadow}\"\n{keys}\n#");
    setting.server(|text| text.replace("[[tap]]", OPEN).replace(&sensor, &tap)).start()
}

/// An Envoy before the same application, with a mirror.
fn mirroring_envoy(pair: &Pair, shadow: SocketAddr) -> Envoy {
    let mirrored = CALLEE
        .replace("cluster: app, timeout: 30s }", "cluster: app, timeout: 30s, request_mirror_policies: [{ cluster: shadow }] }")
        .replace("  clusters:\n", &format!(
            "  clusters:\n  - name: shadow\n    type: STATIC\n    load_assignment:\n      cluster_name: shadow\n      endpoints:\n      \
             - lb_endpoints:\n        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }} }}\n",
            shadow.port()
        ))
        .replace("@APP_PORT@", &pair.setting.at.app.port().to_string())
        .replace("@CALLER_ID@", &spiffe("shop", "web"));
    assert!(mirrored.contains("request_mirror_policies") && mirrored.contains("name: shadow"));
    Envoy::with(pair.setting.dir.path(), "mirror", ports::local(), mirrored, &pair.setting.orders)
}

/// The one request a shadow has got, once it has.
fn only(shadow: &Origin) -> Message {
    wait::until("the shadow to be asked", wait::SOON, || (!shadow.requests().is_empty()).then_some(()));
    let requests = shadow.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests.into_iter().next().unwrap()
}

/// Waits until the counts are whole and as many as given.
fn settled(pair: &Pair, matched: u32, sent: u32) {
    wait::until("the tap's counts", wait::SOON, || {
        let metrics = pair.server.metrics();
        let sum = |name: &str| metrics.sum(&format!("sekisho_tap_{name}_total"), &[]);
        let whole = sum("matched") == sum("mirrored") + sum("dropped") && sum("packets_built") == sum("packets_sent");
        (whole && sum("matched") == f64::from(matched) && sum("packets_sent") == f64::from(sent)).then_some(())
    });
}

fn get(pair: &Pair, path: &str) {
    wire::get(pair.entry(), HOST, path).unwrap();
}
