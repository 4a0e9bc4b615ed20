//! The document behind `GET /tap/status`: for each tap what it is, whether its sensor is there, what it copied, and what was lost.

use crate::{observe::clock, worker::Shared};
use serde_json::{Map, Value, json};
use std::time::{Instant, SystemTime};

/// All taps of the rules in force, in the order of the file.
pub(crate) fn document(shared: &Shared) -> Value {
    let published = shared.live.load();
    let settings = &published.snapshot.taps;
    let taps: Vec<Value> = published.taps.iter().zip(settings).map(|(tapped, said)| tap(&tapped.tap, said)).collect();
    json!({ "schema": 1, "generation": published.generation, "taps": taps })
}

fn tap(tap: &tap::Tap, said: &config::TapSettings) -> Value {
    let counters = tap.counters();
    let state = tap.state();
    let lost = counters.dropped_total() - counters.dropped_for(tap::Reason::SampledOut);
    json!({
        "name": tap.name(),
        "kind": match said.sensor.kind() {
            config::TapKind::Frames => "frames",
            config::TapKind::Records => "records",
            config::TapKind::Requests => "requests",
        },
        "sensor": sensor(&said.sensor),
        "up": state.up,
        "since": wall(state.since),
        "started": wall(state.started),
        "queue_bytes": counters.queue_bytes,
        "queue_limit_bytes": said.queue,
        "matched": counters.matched,
        "mirrored": counters.mirrored,
        "dropped": counts(&counters.dropped),
        "truncated": counters.truncated,
        "length_conflicts": counters.length_conflicts,
        "body_bytes": {
            "seen": counters.body_seen,
            "mirrored": counters.body_mirrored,
            "truncated": counters.body_truncated,
            "dropped": counters.body_dropped,
        },
        "built": counters.packets_built,
        "sent": counters.packets_sent,
        "send_errors": counts(&counters.send_errors),
        "last_error": counters.last_error.map(|(errno, at)| json!({ "errno": errno, "at": clock::text(at) })),
        "credentials": counts(&counters.credentials),
        "loss": lost > 0 || counters.send_errors_total() > 0,
    })
}

fn counts(counts: &[(&'static str, u64)]) -> Value {
    Value::Object(counts.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect::<Map<_, _>>())
}

/// As the file has it, as far as it says where.
fn sensor(sensor: &config::Sensor) -> String {
    use config::Sensor;
    let scheme = sensor.scheme();
    match sensor {
        Sensor::PcapListen { address } => format!("{scheme}://{address}"),
        Sensor::Pcapng { folder, .. } => format!("{scheme}://{}", folder.display()),
        Sensor::JsonStdout => "json:stdout".to_owned(),
        Sensor::JsonFile { path } => format!("{scheme}://{}", path.display()),
        _ => match sensor.remote() {
            Some((host, port)) if host.contains(':') => format!("{scheme}://[{host}]:{port}"),
            Some((host, port)) => format!("{scheme}://{host}:{port}"),
            None => scheme.to_owned(),
        },
    }
}

fn wall(instant: Instant) -> String {
    let now = SystemTime::now();
    clock::text(now.checked_sub(instant.elapsed()).unwrap_or(now))
}
