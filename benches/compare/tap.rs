//! What the copy for a sensor costs: the same load with a tap for all traffic and without, one after the other; with a tap
//! that wants none of it; and with sensors that are dead, deaf or far too slow.
//!
//! At a fixed rate, since a tap under more load than it can follow loses copies and so gets cheaper; what it lost is counted.
//! Envoy's row is its `request_mirror_policies`: each request, without its response, to a second cluster, which answers.

use support::child::Child;
use support::prometheus::Scrape;
use support::{ports, wire};

use crate::load::Load;
use crate::makes::Make;
use crate::options::Options;
use crate::round::{Outcome, attempt, record, start};
use crate::runs::Runs;
use crate::setup::Shape;
use crate::workloads::Workload;
use crate::world::World;

/// Requests per second.
pub(crate) const RATE: u32 = 3000;

/// The records of our own, all of one round next to each other, and what each is.
pub(crate) const OURS: [(&str, &str); 6] = [
    ("tap-off", "no tap"),
    ("tap-on", "everything copied"),
    ("tap-not-selected", "a tap that wants none of it"),
    ("tap-dead", "nobody at the sensor's port"),
    ("tap-deaf", "a sensor that reads nothing"),
    ("tap-full", "a queue with room for a few exchanges"),
];

/// Adds a record for each.
pub(crate) fn measure(world: &World, make: Make, round: u32, options: &Options, runs: &mut Runs) {
    if !options.wants(make, Workload::Tap) {
        return;
    }
    let kinds = if make == Make::Sekisho { &OURS[..] } else { &OURS[..2] };
    for (name, _) in kinds {
        let address = ports::local();
        let role = match *name {
            "tap-off" | "tap-dead" => None,
            "tap-deaf" => Some("deaf-sensor"),
            _ if make == Make::Sekisho => Some("sensor"),
            _ => Some("origin"),
        };
        let sensor = role.map(|role| Child::start(world.path(), "sensor", &mut world.role(role, &address.to_string())));
        let lines = match *name {
            "tap-not-selected" => "requests = [\"POST /api/other/{id:uint}\"]",
            // Room for a few exchanges: most are dropped at admission.
            "tap-full" => "body = \"first 1KiB\"\nqueue = \"64KiB\"",
            _ => "",
        };
        let sensor_at = (*name != "tap-off").then_some(address);
        let shape = Shape { sensor: sensor_at, tap: ("vxlan://ADDRESS?vni=42", lines), ..Shape::default() };
        record(runs, options.cores, make, round, name, attempt(|| once(world, make, name, shape, options)));
        drop(sensor);
    }
}

fn once(world: &World, make: Make, name: &str, shape: Shape, options: &Options) -> Outcome {
    let pair = start(world, make, shape)?;
    let mut outcome = world.run("open", &Load { rate: RATE, ..pair.load(options.times) })?;
    if make != Make::Sekisho {
        let reply = wire::get(pair.callee_admin, "bench", "/stats?filter=cluster.mirror.upstream_rq_total");
        let text = reply.map_err(|error| error.to_string())?.text();
        let mirrored: f64 = text.trim().rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
        outcome["mirrored"] = mirrored.into();
        let expected = outcome["requests"].as_f64().unwrap_or(f64::MAX);
        return if (name == "tap-on") == (mirrored >= expected) {
            Ok(outcome)
        } else {
            Err(format!("mirrored: {text}"))
        };
    }
    let reply = wire::get(pair.callee_metrics, "bench", "/stats/prometheus").map_err(|error| error.to_string())?;
    let metrics = Scrape::parse(&reply.text());
    let sum = |name: &str| metrics.sum(&format!("sekisho_tap_{name}_total"), &[]);
    outcome["packets"] = sum("packets_sent").into();
    outcome["dropped"] = sum("dropped").into();
    let copies = !["tap-off", "tap-not-selected"].contains(&name);
    let as_expected = (sum("matched") > 0.0) == copies && (name != "tap-full" || sum("dropped") > 0.0);
    if as_expected {
        Ok(outcome)
    } else {
        Err(format!("{name}: {} packets, {} dropped", sum("packets_sent"), sum("dropped")))
    }
}
