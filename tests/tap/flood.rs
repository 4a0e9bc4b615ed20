//! A tap under more than it can take: no request fails, everything is counted, and memory stays within the queue's bound.
//!
//! How long requests take is for the bench (`just bench --workload tap`): on a busy machine a test would tell nothing of it.

use std::time::Duration;

use support::load::Load;
use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Setting};

use crate::sensor::Sensor;

const ANSWER: usize = 100_000;
const QUEUE_MIB: f64 = 2.0;

#[test]
fn a_flooded_tap_costs_no_request_and_no_more_memory_than_its_queue() {
    let without = flood("");
    assert_eq!(without.matched, 0.0);
    let with = flood("[[tap]]\nname = \"ids\"\nto_sensor = \"vxlan://SENSOR?vni=42\"\nqueue = \"2MiB\"\n");
    assert_eq!(with.matched, with.requests);
    assert_eq!(with.matched, with.mirrored + with.dropped);
    assert!(with.dropped > 0.0 && with.mirrored > 0.0, "{} mirrored, {} dropped", with.mirrored, with.dropped);
    // Beside the queue: a batch of datagrams, the table of synthetic connections, the thread, and what its allocations split.
    let more = with.peak_mib - without.peak_mib;
    assert!(more < QUEUE_MIB + 6.0, "{more} MiB more than without a tap ({} MiB)", without.peak_mib);
}

/// What came of it.
struct Outcome {
    requests: f64,
    matched: f64,
    mirrored: f64,
    dropped: f64,
    /// The most that the callee's sidecar ever held in memory (VmHWM).
    peak_mib: f64,
}

/// Eight callers without a pause, under this table of a tap.
fn flood(tap: &str) -> Outcome {
    let setting = Setting::new();
    let tap = tap.replace("SENSOR", &setting.at.sensor.to_string());
    let setting = setting.server(|text| format!("{}{tap}", text.split("[[tap]]").next().unwrap()));
    let _sensor = Sensor::start(setting.at.sensor);
    let app = Origin::forgetful(setting.at.app, |_: &Message| Reply::text(vec![b'x'; ANSWER]));
    let pair = setting.start_with(app);
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 8);
    std::thread::sleep(Duration::from_secs(2));
    let total = load.stop();
    total.assert_clean(50);
    let sum = |name: &str| pair.server.metrics().sum(&format!("sekisho_tap_{name}_total"), &[]);
    support::wait::until("the tap to rest", Duration::from_secs(60), || {
        (sum("matched") == sum("mirrored") + sum("dropped")).then_some(())
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", pair.server.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    Outcome {
        requests: total.ok as f64,
        matched: sum("matched"),
        mirrored: sum("mirrored"),
        dropped: sum("dropped"),
        peak_mib: peak / 1024.0,
    }
}
