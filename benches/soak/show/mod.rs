//! What a reader sees: tables and gates on the terminal, and the plot.

pub(crate) mod plot;

use std::fmt::Write;

use support::trend::nearest_rank;

use crate::judge::{self, Gate};
use crate::ledger::Ledger;
use crate::options::Options;
use crate::sample::{Both, Sample};

/// Everything, for a terminal.
pub(crate) fn terminal(
    samples: &[Sample],
    base: &Both,
    left: &Both,
    ledger: &Ledger,
    gates: &[Gate],
    options: &Options,
) -> String {
    let mut out = String::from("\n| who | good | as due | unlucky | wrong |\n| --- | ---: | ---: | ---: | ---: |\n");
    for (kind, count) in ledger.kinds() {
        let (good, as_due) = (count.good, count.as_due);
        writeln!(out, "| {kind} | {good} | {as_due} | {} | {} |", count.unlucky, count.wrong).unwrap();
    }
    let sum = ledger.sum();
    writeln!(out, "| **all** | {} | {} | {} | {} |", sum.good, sum.as_due, sum.unlucky, sum.wrong).unwrap();
    for words in ledger.words().iter().take(20) {
        writeln!(out, "{words}").unwrap();
    }

    out.push_str("\n| sidecar | MiB before | after warm-up | at the end | when all have left | descriptors | tasks | connections |\n");
    out.push_str("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (at, name) in ["caller", "callee"].into_iter().enumerate() {
        let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
        let warm: Vec<_> = samples.iter().filter(|one| one.at >= options.warm_up()).map(|one| one.held.0[at]).collect();
        let (first, last) = (warm.first().map_or(0, |held| held.rss), warm.last().map_or(0, |held| held.rss));
        let range = |of: fn(&crate::sample::Held) -> u64| {
            let (low, high) = (warm.iter().map(of).min().unwrap_or(0), warm.iter().map(of).max().unwrap_or(0));
            format!("{low}–{high}")
        };
        writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            mib(base.0[at].rss),
            mib(first),
            mib(last),
            mib(left.0[at].rss),
            range(|held| held.descriptors),
            range(|held| held.tasks),
            range(|held| held.downstream + held.upstream),
        )
        .unwrap();
    }

    let median = |of: &dyn Fn(&Sample) -> u64| {
        let mut all: Vec<u64> = samples.iter().map(of).collect();
        all.sort_unstable();
        nearest_rank(&all, 0.5)
    };
    let [p50, p90, p99] = [0, 1, 2].map(|at| median(&|sample| sample.latency[at]));
    let worst = samples.iter().map(|sample| sample.latency[3]).max().unwrap_or(0);
    writeln!(
        out,
        "\nprobe, medians over samples: p50 {p50} µs, p90 {p90} µs, p99 {p99} µs; the longest answer of all {worst} µs"
    )
    .unwrap();
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / samples.len().max(1) as f64;
    let [sidecars, bench, machine] = [0, 1, 2].map(|at| mean(&|sample| sample.cores[at]));
    writeln!(
        out,
        "busy cores, mean: sidecars {sidecars:.2}, this load {bench:.2}, others {:.2}",
        (machine - sidecars - bench).max(0.0)
    )
    .unwrap();

    out.push_str("\n| gate | value | bound | |\n| --- | ---: | ---: | --- |\n");
    for gate in gates {
        let verdict = match gate.is_met() {
            Some(true) => "met".to_owned(),
            Some(false) => "NOT MET".to_owned(),
            None => judge::why_not(),
        };
        writeln!(out, "| {} | {} | {} | {verdict} |", gate.what, gate.value, gate.bound).unwrap();
    }
    out
}
