//! Cost per request against the number of connections, of rules, of services.
//!
//! All points have the same fixed rate, so that only the number differs: in a closed loop more connections would also
//! mean more requests per wake-up.

use std::time::Duration;

use crate::load::{Load, mix::Mix};
use crate::makes::Make;
use crate::options::Options;
use crate::round::{attempt, record, start};
use crate::runs::Runs;
use crate::setup::Shape;
use crate::workloads::Workload;
use crate::world::World;

/// Requests per second of every point.
pub(crate) const RATE: u32 = 2000;

/// What grows, and through which numbers.
pub(crate) const AXES: [(&str, [usize; 4]); 3] =
    [("connections", [1, 64, 1000, 10_000]), ("rules", [1, 100, 1000, 10_000]), ("services", [1, 10, 100, 1000])];

/// Adds one record per point.
pub(crate) fn measure(world: &World, make: Make, round: u32, options: &Options, runs: &mut Runs) {
    if !options.wants(make, Workload::Scale) {
        return;
    }
    eprintln!("scale: {}", make.name());
    for (axis, points) in AXES {
        let ends = [points[0], if axis == "connections" { 1000 } else { points[3] }];
        let points = if options.quick { &ends[..] } else { &points[..] };
        for &point in points {
            let outcome = attempt(|| {
                let (shape, mix, connections) = match axis {
                    "connections" => (Shape::default(), Mix::Orders, point),
                    "rules" => (Shape { rules: point, ..Shape::default() }, Mix::Rules(point), 64),
                    _ => (Shape { services: point, ..Shape::default() }, Mix::Services(point), 64),
                };
                let pair = start(world, make, shape)?;
                let load = Load { rate: RATE, mix, connections, ..pair.load(options.times) };
                // Each service costs two handshakes before it is asked for the second time.
                let handshakes = Duration::from_millis(4) * u32::try_from(shape.services).unwrap();
                let load = Load { warm_up: load.warm_up + handshakes, window: options.times.short, ..load };
                world.run("open", &load)
            });
            record(runs, options.cores, make, round, &format!("{axis}-{point}"), outcome);
        }
    }
}
