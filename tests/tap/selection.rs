//! What a tap copies: each selector takes what it names and leaves the rest, with exact counters; several taps have limits of
//! their own; the caller's side; a reload that changes a selector.

use std::net::SocketAddr;

use support::pair::{HOST, Pair, Setting};
use support::peers::TlsClient;
use support::prometheus::Scrape;
use support::sidecar::Sidecar;
use support::{ports, wait, wire};

use crate::sensor::Sensor;

/// A tap beside the contract's, with its own keys.
fn tap(name: &str, sensor: SocketAddr, keys: &str) -> String {
    format!("\n[[tap]]\nname = \"{name}\"\nto_sensor = \"vxlan://{sensor}?vni=42\"\n{keys}\n")
}

/// Of one tap, when everything that is matched has become something.
fn counted(sidecar: &Sidecar, name: &str, matched: u64) -> Scrape {
    let sum = |metrics: &Scrape, what: &str| metrics.sum(&format!("sekisho_tap_{what}_total"), &[("tap", name)]) as u64;
    wait::until(&format!("{matched} matched by {name}"), wait::SOON, || {
        let metrics = sidecar.metrics();
        assert!(sum(&metrics, "matched") <= matched, "{name}: {}", sum(&metrics, "matched"));
        let done = sum(&metrics, "mirrored") + sum(&metrics, "dropped");
        (sum(&metrics, "matched") == matched && done == matched).then_some(metrics)
    })
}

fn sum(metrics: &Scrape, what: &str, labels: &[(&str, &str)]) -> u64 {
    metrics.sum(&format!("sekisho_tap_{what}_total"), labels) as u64
}

#[test]
fn each_selector_takes_what_it_names_and_counts_nothing_else() {
    let setting = Setting::new();
    let (sensor, app) = (setting.at.sensor, setting.at.app.port());
    let host = format!("hosts = \"{HOST}\"");
    let port = format!("ports = [{app}]");
    // Three allowed, two refused by the rules, one without a canonical reading.
    let taps: [(&str, &str, u64); 17] = [
        ("from-web", "from = \"shop/web\"", 6),
        ("from-namespace", "from = [\"ns:bank\", \"ns:shop\"]", 6),
        ("from-other", "from = \"shop/db\"", 0),
        ("requests", "requests = \"GET /api/orders/{id:uint}\"", 3),
        ("requests-other", "requests = \"POST /api/orders/{id:uint}\"", 0),
        ("hosts", &host, 5),
        ("hosts-other", "hosts = \"*.example.org\"", 0),
        ("ports", &port, 6),
        ("ports-other", "ports = [1]", 0),
        ("rules", "rules = \"web-reads-orders\"", 3),
        ("denied", "verdicts = \"deny\"", 3),
        ("allowed", "verdicts = [\"allow\", \"shadow-deny\"]", 3),
        ("shadow", "verdicts = \"shadow-deny\"", 0),
        ("status", "status = \"403\"", 2),
        ("status-class", "status = [\"4xx\", \"5xx\"]", 3),
        ("several", "verdicts = \"deny\"\nrequests = \"GET /admin\"\nfrom = \"shop/web\"", 2),
        ("outbound", "direction = \"outbound\"", 0),
    ];
    let more: String = taps.iter().map(|(name, keys, _)| tap(name, sensor, keys)).collect();
    let pair = setting.server(|text| text + &more).start();
    for path in ["/api/orders/1", "/admin", "/api/orders/2", "/admin", "/api/orders/3"] {
        wire::get(pair.entry(), HOST, path).unwrap();
    }
    let odd = format!("GET /api/orders/../1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let client = TlsClient::new(pair.setting.at.inbound).cert(&pair.setting.web);
    assert!(client.send(odd.as_bytes()).received.starts_with(b"HTTP/1.1 400"));
    counted(&pair.server, "ids", 6);
    for (name, _, matched) in taps {
        let metrics = counted(&pair.server, name, matched);
        assert_eq!(sum(&metrics, "mirrored", &[("tap", name)]), matched, "{name}");
    }
}

#[test]
fn a_sample_is_the_same_for_every_tap_and_what_it_leaves_out_is_counted() {
    let setting = Setting::new();
    let sensor = setting.at.sensor;
    let keys = "sample = 0.5";
    let late = "sample = 0.5\nverdicts = \"allow\"";
    let more = tap("half", sensor, keys) + &tap("other-half", sensor, keys) + &tap("late-half", sensor, late);
    let pair = setting.server(|text| text + &more).start();
    // Straight to the callee: the caller's sidecar would use one connection for all.
    let ask = |path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        TlsClient::new(pair.setting.at.inbound).cert(&pair.setting.web).send(text.as_bytes())
    };
    for number in 0..40 {
        assert!(ask(&format!("/api/orders/{number}")).received.starts_with(b"HTTP/1.1 200"));
    }
    let taken = ["half", "other-half", "late-half"].map(|name| {
        let metrics = counted(&pair.server, name, 40);
        let left = sum(&metrics, "dropped", &[("tap", name), ("reason", "sampled_out")]);
        let mirrored = sum(&metrics, "mirrored", &[("tap", name)]);
        assert_eq!(mirrored + left, 40, "{name}");
        mirrored
    });
    assert!((5..=35).contains(&taken[0]), "{taken:?}");
    assert!(taken.iter().all(|count| *count == taken[0]), "{taken:?}");
}

#[test]
fn two_taps_cut_the_same_body_at_their_own_limits() {
    let setting = Setting::new();
    let (first, second, third) = (setting.at.sensor, ports::local(), ports::local());
    let open = "[[inbound]]\nname = \"open\"\nfrom = \"shop/web\"\nrequests = \"* /open/{rest...}\"\n\n[[tap]]";
    let more = tap("small", second, "body = \"first 1KiB\"") + &tap("heads", third, "body = \"none\"");
    let setting = setting.server(|text| text.replace("[[tap]]", open) + &more);
    let sensors = [first, second, third].map(Sensor::start);
    let pair = setting.start();
    let head = format!("POST /open/a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4096\r\n\r\n");
    let bytes = [head.as_bytes(), &[7; 4096]].concat();
    assert_eq!(wire::request(pair.entry(), &bytes).unwrap().status(), 200);
    let seen = sensors.map(|sensor| {
        let copy = sensor.settle(pair.setting.dir.path());
        copy.assert_faultless();
        copy.flows().concat().iter().filter(|byte| **byte == 7).count()
    });
    // No head has this byte.
    assert_eq!(seen, [4096, 1024, 0]);
    for (name, truncated) in [("ids", 0), ("small", 1), ("heads", 1)] {
        let metrics = counted(&pair.server, name, 1);
        assert_eq!(sum(&metrics, "truncated", &[("tap", name)]), truncated, "{name}");
    }
}

#[test]
fn a_rate_cap_drops_whole_exchanges_and_counts_them() {
    let setting = Setting::new();
    let sensor = setting.at.sensor;
    // A hundred bytes at once, a kilobyte a second: the first exchange is more than that.
    let pair = setting.server(|text| text + &tap("capped", sensor, "rate_cap = \"8kbit/s\"")).start();
    for number in 0..20 {
        wire::get(pair.entry(), HOST, &format!("/api/orders/{number}")).unwrap();
    }
    counted(&pair.server, "ids", 20);
    let metrics = counted(&pair.server, "capped", 20);
    let capped = sum(&metrics, "dropped", &[("tap", "capped"), ("reason", "rate_cap")]);
    assert!(capped > 0 && sum(&metrics, "mirrored", &[("tap", "capped")]) > 0, "{capped}");
}

#[test]
fn what_is_held_without_room_counts_only_if_it_was_meant() {
    let setting = Setting::new();
    let sensor = setting.at.sensor;
    let open = "[[inbound]]\nname = \"open\"\nfrom = \"shop/web\"\nrequests = \"* /open/{rest...}\"\n\n[[tap]]";
    let keys = |verdict: &str| format!("queue = \"64KiB\"\nbody = \"first 64KiB\"\nverdicts = \"{verdict}\"");
    let more = tap("meant", sensor, &keys("allow")) + &tap("not-meant", sensor, &keys("deny"));
    let pair = setting.server(|text| text.replace("[[tap]]", open) + &more).start();
    let head = format!("POST /open/a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 131072\r\n\r\n");
    let bytes = [head.as_bytes(), &vec![b'q'; 131_072]].concat();
    assert_eq!(wire::request(pair.entry(), &bytes).unwrap().status(), 200);
    let metrics = counted(&pair.server, "meant", 1);
    assert_eq!(sum(&metrics, "dropped", &[("tap", "meant"), ("reason", "hold_overflow")]), 1);
    let metrics = counted(&pair.server, "not-meant", 0);
    assert_eq!(metrics.sum("sekisho_tap_queue_bytes", &[("tap", "not-meant")]), 0.0);
}

#[test]
fn the_callers_side_is_copied_where_a_tap_says_so() {
    let setting = Setting::new();
    let sensor = Sensor::start(setting.at.sensor);
    let at = setting.at.sensor;
    let taps = tap("calls", at, "direction = \"outbound\"\nto = \"shop/orders\"")
        + &tap("elsewhere", at, "direction = \"outbound\"\nto = \"shop/db\"")
        + &tap("comes-in", at, "");
    let setting = setting.client(|text| text + &taps).server(|text| text.split("[[tap]]").next().unwrap().to_owned());
    let pair = setting.start();
    for path in ["/api/orders/42", "/admin"] {
        wire::get(pair.entry(), HOST, path).unwrap();
    }
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    assert_eq!(copy.requests(), ["GET /api/orders/42", "GET /admin"]);
    assert_eq!(copy.statuses(), ["200", "403"]);
    // The callee as the file names it, not our own listener.
    let callee = pair.setting.at.inbound.port().to_string();
    assert!(copy.fields("http.request", &["tcp.dstport"]).iter().all(|port| *port == callee));
    counted(&pair.client, "calls", 2);
    counted(&pair.client, "elsewhere", 0);
    counted(&pair.client, "comes-in", 0);
}

#[test]
fn a_reload_that_changes_a_selector_keeps_the_tap_and_its_counters() {
    let pair = Pair::start();
    wire::get(pair.entry(), HOST, "/api/orders/1").unwrap();
    counted(&pair.server, "ids", 1);
    let text = pair.setting.dir.read("server.toml").replace("[[tap]]\n", "[[tap]]\nverdicts = \"deny\"\n");
    pair.setting.dir.write("server.toml", &text);
    wait::until("the new file", wait::SOON, || {
        (pair.server.metrics().sum("sekisho_policy_generation", &[]) as u64 == 2).then_some(())
    });
    wire::get(pair.entry(), HOST, "/api/orders/2").unwrap();
    wire::get(pair.entry(), HOST, "/admin").unwrap();
    counted(&pair.server, "ids", 2);
}

#[test]
fn a_head_that_cannot_be_read_is_selected_by_the_status_of_its_answer() {
    let setting = Setting::new();
    let to = |name: &str, keys: &str| tap(name, setting.at.sensor, keys);
    let taps = [
        to("class", "status = [\"4xx\"]"),
        to("exact", "status = [\"400\"]"),
        to("other", "status = [\"5xx\", \"403\"]"),
        to("path", "status = [\"4xx\"]\nrequests = [\"GET /{rest...}\"]"),
    ];
    let path = setting.dir.path().join("records.json");
    let records =
        format!("\n[[tap]]\nname = \"records\"\nto_sensor = \"json://{}\"\nstatus = [\"400\"]\n", path.display());
    let setting = setting.server(|text| text + &taps.concat() + &records);
    let pair = setting.start();
    let client = TlsClient::new(pair.setting.at.inbound).cert(&pair.setting.web).seconds(3);
    assert!(client.send(b"GET / HTTP/1.1\r\nHost : broken\r\n\r\n").received.starts_with(b"HTTP/1.1 400"));
    for name in ["ids", "class", "exact", "records"] {
        counted(&pair.server, name, 1);
    }
    for name in ["other", "path"] {
        counted(&pair.server, name, 0);
    }
}
