//! From raw runs to figures: per make, the median over the rounds, with the lowest and the highest.

use serde_json::Value;

use crate::cost;
use crate::pairs::Make;

/// The figures of every make that took part, in the order of a round.
pub(crate) struct Summary {
    pub(crate) lines: Vec<Line>,
}

/// The figures of one make.
pub(crate) struct Line {
    pub(crate) make: Make,
    pub(crate) closed: Workload,
    pub(crate) open: Workload,
    /// Resident memory before any load, MiB: caller, callee.
    pub(crate) idle: [Figure; 2],
    /// The same at the end of the closed loop, its connections still open.
    pub(crate) loaded: [Figure; 2],
}

/// The figures of one workload.
pub(crate) struct Workload {
    /// CPU of both sidecars per request, µs.
    pub(crate) cpu: Figure,
    pub(crate) user: Figure,
    pub(crate) system: Figure,
    /// Requests per second.
    pub(crate) rate: Figure,
    /// µs.
    pub(crate) p50: Figure,
    pub(crate) p90: Figure,
    pub(crate) p99: Figure,
    /// Share of their core that the sidecars used, and of theirs that load and origin used, 0 to 1. In the closed loop
    /// the first should be near 1: what is missing went to others, or the load was the bottleneck.
    pub(crate) sidecar_share: Figure,
    pub(crate) load_share: Figure,
    /// Share of the sidecars' core that others used.
    pub(crate) other: Figure,
}

/// Over the rounds.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Summary {
    pub(crate) fn of(records: &[Value], makes: &[Make]) -> Self {
        let lines = makes.iter().map(|make| {
            let of = |workload: &str| -> Vec<&Value> {
                let wanted = |record: &&Value| record["make"] == make.name() && record["workload"] == workload;
                records.iter().filter(wanted).collect()
            };
            let (closed, open) = (of("closed"), of("open"));
            let sides = ["caller", "callee"];
            Line {
                make: *make,
                idle: sides.map(|side| Figure::of(&closed, |run| mib(&run["idle_memory_kib"][side]))),
                loaded: sides.map(|side| Figure::of(&closed, |run| mib(&run[side]["memory_kib"]))),
                closed: Workload::of(&closed),
                open: Workload::of(&open),
            }
        });
        Self { lines: lines.collect() }
    }

    /// The line that the others are put in relation to: Envoy with HTTP/1.1 between, where it took part.
    pub(crate) fn reference(&self) -> Option<&Line> {
        self.lines.iter().find(|line| line.make == Make::Envoy)
    }

    /// A figure of a line as a multiple of the reference's.
    pub(crate) fn ratio(&self, line: &Line, figure: impl Fn(&Line) -> Figure) -> Option<f64> {
        Some(figure(line).median / figure(self.reference()?).median)
    }
}

impl Workload {
    fn of(runs: &[&Value]) -> Self {
        let spent = |run: &Value, kind: &str| -> f64 {
            let seconds: f64 = ["caller", "callee"].iter().map(|side| number(&run[side][kind])).sum();
            seconds * 1e6 / number(&run["requests"])
        };
        let latency = |name: &'static str| Figure::of(runs, |run| number(&run["latency_us"][name]));
        Self {
            cpu: Figure::of(runs, |run| spent(run, "user_s") + spent(run, "system_s")),
            user: Figure::of(runs, |run| spent(run, "user_s")),
            system: Figure::of(runs, |run| spent(run, "system_s")),
            rate: Figure::of(runs, |run| number(&run["requests"]) / number(&run["seconds"])),
            p50: latency("p50"),
            p90: latency("p90"),
            p99: latency("p99"),
            sidecar_share: Figure::of(runs, |run| cost::share(run, ["caller", "callee"])),
            load_share: Figure::of(runs, |run| cost::share(run, ["origin", "load"])),
            other: Figure::of(runs, |run| number(&run["other_work"]["sidecar_core"])),
        }
    }
}

impl Figure {
    fn of(runs: &[&Value], value: impl Fn(&Value) -> f64) -> Self {
        let mut values: Vec<f64> = runs.iter().map(|run| value(run)).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Self { median, low: values[0], high: values[values.len() - 1] }
    }
}

fn mib(memory: &Value) -> f64 {
    number(&memory["rss"]) / 1024.0
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}
