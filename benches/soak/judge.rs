//! The gates: what a run must show for the sidecars to be said to keep nothing.

use support::trend::slope;

use crate::ledger::Ledger;
use crate::options::{FULL, Options};
use crate::sample::{Both, Held, Sample};
use crate::stage::Stage;

/// One gate.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) what: String,
    pub(crate) value: String,
    pub(crate) bound: &'static str,
    verdict: Option<bool>,
}

impl Gate {
    /// `None` when this run cannot tell.
    pub(crate) fn is_met(&self) -> Option<bool> {
        self.verdict
    }
}

/// MiB in ten minutes, and descriptors in ten minutes.
const MEMORY: f64 = 1.0;
const DESCRIPTORS: f64 = 3.0;

/// Of both sidecars and of all requests.
pub(crate) fn gates(
    samples: &[Sample],
    base: &Both,
    left: &Both,
    ledger: &Ledger,
    stage: &Stage,
    options: &Options,
) -> Vec<Gate> {
    let mut gates = Vec::new();
    for (at, (name, sidecar)) in stage.sidecars().into_iter().enumerate() {
        let slope = |of: fn(&Held) -> f64| per_ten_minutes(&points(samples, at, options, of));
        let memory = slope(|held| held.rss as f64 / 1024.0);
        gates.push(Gate {
            what: format!("resident memory of the {name}, slope"),
            value: format!("{memory:+.2} MiB in 10 min"),
            bound: "< 1 MiB in 10 min",
            verdict: options.is_full().then_some(memory < MEMORY),
        });
        let descriptors = slope(|held| held.descriptors as f64);
        gates.push(Gate {
            what: format!("descriptors of the {name}, slope"),
            value: format!("{descriptors:+.1} in 10 min"),
            bound: "< 3 in 10 min",
            verdict: options.is_full().then_some(descriptors < DESCRIPTORS),
        });
        let (base, left) = (base.0[at], left.0[at]);
        for (what, left, base) in [
            ("descriptors", left.descriptors, base.descriptors),
            ("tasks", left.tasks, base.tasks),
            ("threads", left.threads, base.threads),
        ] {
            gates.push(Gate {
                what: format!("{what} of the {name} when all have left"),
                value: format!("{left}, and {base} before"),
                bound: "as before",
                // A figure that nobody gives is no figure.
                verdict: Some(left <= base && base > 0),
            });
        }
        let open = left.requests + left.downstream + left.upstream + left.handshakes;
        gates.push(Gate {
            what: format!("requests, connections and handshakes of the {name} then"),
            value: open.to_string(),
            bound: "0",
            verdict: Some(open == 0),
        });
        let status = sidecar.policy_status();
        let stale = status["stale"] == true || status["certificate"]["stale"] == true;
        gates.push(Gate {
            what: format!("rules and certificate of the {name} are the newest"),
            value: if stale { "no" } else { "yes" }.to_owned(),
            bound: "yes",
            verdict: Some(!stale && sidecar.is_ready()),
        });
    }
    let sum = ledger.sum();
    gates.push(Gate {
        what: "requests that ended otherwise than they must".to_owned(),
        value: format!("{} of {}", sum.wrong, sum.good + sum.as_due + sum.unlucky + sum.wrong),
        bound: "0",
        verdict: Some(sum.wrong == 0),
    });
    // A load that came to a stop would meet every other gate.
    let idle: Vec<&str> =
        ledger.kinds().into_iter().filter(|(_, count)| count.good + count.as_due == 0).map(|(kind, _)| kind).collect();
    let slowest = samples.iter().skip(1).map(|sample| sample.good).fold(f64::INFINITY, f64::min);
    gates.push(Gate {
        what: "requests answered in the poorest 5 s".to_owned(),
        value: if idle.is_empty() { format!("{slowest:.0}/s") } else { format!("none of {}", idle.join(", ")) },
        bound: "≥ 50/s, of every kind some",
        verdict: Some(idle.is_empty() && slowest >= 50.0),
    });
    gates
}

/// What a sidecar held after the warm-up, over seconds.
pub(crate) fn points(samples: &[Sample], sidecar: usize, options: &Options, of: fn(&Held) -> f64) -> Vec<(f64, f64)> {
    let warm = samples.iter().filter(|sample| sample.at >= options.warm_up());
    warm.map(|sample| (sample.at, of(&sample.held.0[sidecar]))).collect()
}

/// The slope of points over seconds.
pub(crate) fn per_ten_minutes(points: &[(f64, f64)]) -> f64 {
    slope(points) * 600.0
}

/// Why a gate was not judged.
pub(crate) fn why_not() -> String {
    format!("not judged in less than {FULL} minutes")
}
