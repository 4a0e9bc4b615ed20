//! What the copy for a sensor costs: the same load with a tap for all traffic and without, one after the other.
//!
//! At a fixed rate, since a tap under more load than it can follow loses copies and so gets cheaper; what it lost is counted.

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

/// Adds two records.
pub(crate) fn measure(world: &World, make: Make, round: u32, options: &Options, runs: &mut Runs) {
    if !options.wants(make, Workload::Tap) {
        return;
    }
    let address = ports::local();
    let sensor = Child::start(world.path(), "sensor", &mut world.role("sensor", &address.to_string()));
    for (name, sensor) in [("tap-off", None), ("tap-on", Some(address))] {
        let shape = Shape { sensor, ..Shape::default() };
        record(runs, options.cores, make, round, name, attempt(|| once(world, make, shape, options)));
    }
    drop(sensor);
}

fn once(world: &World, make: Make, shape: Shape, options: &Options) -> Outcome {
    let pair = start(world, make, shape)?;
    let mut outcome = world.run("open", &Load { rate: RATE, ..pair.load(options.times) })?;
    let reply = wire::get(pair.callee_metrics, "bench", "/stats/prometheus").map_err(|error| error.to_string())?;
    let metrics = Scrape::parse(&reply.text());
    outcome["packets"] = metrics.sum("sekisho_tap_packets_sent_total", &[]).into();
    outcome["dropped"] = metrics.sum("sekisho_tap_dropped_total", &[]).into();
    let tapped = outcome["packets"].as_f64() > Some(0.0);
    if tapped == shape.sensor.is_some() {
        Ok(outcome)
    } else {
        Err(format!("packets of the tap: {}", outcome["packets"]))
    }
}
