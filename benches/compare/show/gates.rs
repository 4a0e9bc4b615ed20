//! The gates: what must hold before a release, and the goals beyond. Met or not met, by the medians of this run.

use super::table::{Table, plain};
use crate::figures::{self as of, afterwards, idle_kib_each, latency, syscalls};
use crate::makes::Make;
use crate::round::RULES_RATE;
use crate::summary::{Cell, Summary};

struct Gate {
    what: &'static str,
    value: Cell,
    /// The most that passes.
    gate: Option<f64>,
    goal: Option<f64>,
    decimals: usize,
}

/// None when ours was not measured at all.
pub(crate) fn table(summary: &Summary<'_>) -> Option<Table> {
    let gates: Vec<Gate> = all(summary).into_iter().filter(|gate| gate.value != Cell::Absent).collect();
    let mut table = Table::new("Gates and goals", &["Sekisho", "value", "gate", "", "goal", ""]);
    for Gate { what, value, gate, goal, decimals } in &gates {
        let bound = |bound: Option<f64>| bound.map_or("–".into(), |bound| format!("≤ {bound:.decimals$}"));
        table.rows.push(vec![
            (*what).into(),
            plain(*value, *decimals),
            bound(*gate),
            verdict(*value, *gate),
            bound(*goal),
            verdict(*value, *goal),
        ]);
    }
    (!gates.is_empty()).then_some(table)
}

fn verdict(value: Cell, bound: Option<f64>) -> String {
    match (value, bound) {
        (_, None) => "",
        (Cell::Is(figure), Some(bound)) if figure.median <= bound => "met",
        (Cell::Is(_), Some(_)) => "not met",
        (_, Some(_)) => "invalid",
    }
    .into()
}

/// What the tap adds to the CPU of a request, µs.
pub(crate) fn extra(summary: &Summary<'_>, make: Make) -> Cell {
    let [off, on] = ["tap-off", "tap-on"].map(|workload| summary.cell(make, workload, of::cpu_us));
    off.median().map_or(off, |off| on.map(|on| on - off))
}

fn all(summary: &Summary<'_>) -> Vec<Gate> {
    use Make::{Envoy, EnvoyH2, Haproxy, Sekisho};
    let ratio = |workload: &str, value: fn(&_) -> f64, other: Make| {
        summary.cell(Sekisho, workload, value).over(summary.cell(other, workload, value))
    };
    let ours = |workload: &str, value: &dyn Fn(&_) -> f64| summary.cell(Sekisho, workload, value);
    let p50 = |make| summary.cell(make, "w2", latency("p50"));
    let gate = |what, value, gate: f64, goal: Option<f64>| Gate { what, value, gate: Some(gate), goal, decimals: 2 };
    let tenths = |what, value, gate: f64, goal: Option<f64>| Gate { what, value, gate: Some(gate), goal, decimals: 1 };
    let off = ours("tap-off", &of::cpu_us).median().unwrap_or(0.0);
    vec![
        gate("W1 CPU × Envoy", ratio("w1", of::cpu_us, Envoy), 0.28, Some(0.22)),
        gate("W1 CPU × HAProxy", ratio("w1", of::cpu_us, Haproxy), 0.75, None),
        tenths("W1 user CPU, µs per pair", ours("w1", &of::user_us), 14.0, None),
        gate("W1 system calls per request and sidecar", ours("w1-syscalls", &syscalls("all")), 4.3, None),
        gate("W2 CPU × Envoy", ratio("w2", of::cpu_us, Envoy), 0.32, Some(0.24)),
        gate("W2 p50 × HAProxy", p50(Sekisho).over(p50(Haproxy)), 1.0, None),
        gate("W3 CPU × Envoy, h2 everywhere", ratio("w3", of::cpu_us, EnvoyH2), 0.45, Some(0.25)),
        Gate {
            what: "W3 CPU × HAProxy",
            value: ratio("w3", of::cpu_us, Haproxy),
            gate: None,
            goal: Some(1.0),
            decimals: 2,
        },
        gate("W4 one connection, CPU × Envoy", ratio("w4-1", of::cpu_s_per_gb, Envoy), 1.10, Some(0.75)),
        gate("W4 four connections, CPU × Envoy", ratio("w4-4", of::cpu_s_per_gb, Envoy), 0.95, Some(0.65)),
        gate("W5 full handshake, CPU × Envoy", ratio("w5-full", of::callee_ms, Envoy), 0.65, Some(0.50)),
        gate("W5 offered a ticket, CPU × Envoy resumed", ratio("w5-resumed", of::callee_ms, Envoy), 0.50, Some(0.35)),
        tenths("W6 idle RSS, MiB, larger side", ours("w6", &of::larger_idle_mib), 12.0, Some(8.0)),
        gate("W6 KiB per idle connection", ours("w6-plain", &idle_kib_each("caller")), 2.5, Some(1.3)),
        tenths("W6 RSS at 1000 req/s, MiB, larger side", ours("w2", &of::larger_loaded_mib), 20.0, None),
        gate("W6 RSS after the idle connections × before, caller", ours("w6-plain", &afterwards("caller")), 1.10, None),
        gate(
            "W6 RSS after the idle mTLS connections × before, callee",
            ours("w6-mtls", &afterwards("callee")),
            1.10,
            None,
        ),
        gate("10,000 rules at 5,000 req/s: cores of both", ours("rules", &of::cores_at(RULES_RATE)), 1.0, None),
        tenths(
            "10,000 rules, 1,000 connections: RSS, MB, larger side",
            ours("rules", &|run| of::larger_loaded_mib(run) * 1.048_576),
            40.0,
            None,
        ),
        tenths(
            "Tap: extra CPU, µs (8, or 15 % if that is more)",
            extra(summary, Sekisho),
            f64::max(8.0, 0.15 * off),
            None,
        ),
    ]
}
