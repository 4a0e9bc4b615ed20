//! The results section of `benches/README.md` and the plot beside it, written anew by every full run.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::options::Options;
use crate::summary::Summary;
use crate::{plot, table};

const BEGIN: &str = "<!-- results: written by the bench -->\n";
const END: &str = "<!-- end of results -->\n";

/// Replaces what stands between the marks of the README, and `latency.svg`.
pub(crate) fn write(summary: &Summary, machine: &Value, options: &Options, runs: &Path) {
    let dir = support::tools::repository().join("benches");
    std::fs::write(dir.join("latency.svg"), plot::latency(summary, options.rounds)).unwrap();
    let readme = dir.join("README.md");
    let text = std::fs::read_to_string(&readme).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the README has the mark where results begin");
    let (_, after) = rest.split_once(END).expect("the README has the mark where results end");
    let section = section(summary, machine, options, runs);
    std::fs::write(&readme, format!("{before}{BEGIN}{section}{END}{after}")).unwrap();
    println!("written: {}, {}", readme.display(), dir.join("latency.svg").display());
}

fn section(summary: &Summary, machine: &Value, options: &Options, runs: &Path) -> String {
    let word = |key: &str| machine[key].as_str().unwrap_or("–").to_owned();
    let runs = runs.file_name().unwrap_or_default().to_string_lossy();
    let place = if machine["virtual"] == true { "Virtual machine" } else { "Machine" };
    let mut text = format!(
        "\n{} at commit `{}`, {} rounds of {} s per workload. Raw runs: [`runs/{runs}`](runs/{runs}).\n\n\
         {place}: {}, {} cores, {} MiB, Linux {} ({}). {} · {} · {}.\n\n",
        word("time"),
        word("commit"),
        options.rounds,
        options.window.as_secs_f64(),
        word("processor"),
        machine["cores"],
        machine["memory_mib"],
        word("kernel"),
        word("congestion_control"),
        word("sekisho"),
        word("envoy"),
        word("haproxy"),
    );
    text.push_str(&table::markdown(summary));
    text.push_str("\n![latency at a fixed rate](latency.svg)\n\n");
    text.push_str("In the closed loop:\n\n| pair | p50 µs | p99 µs | sidecars on their core | load and origin on theirs | others on the sidecars' core |\n");
    text.push_str("| --- | ---: | ---: | ---: | ---: | ---: |\n");
    for line in &summary.lines {
        let closed = &line.closed;
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        writeln!(
            text,
            "| {} | {:.0} | {:.0} | {} | {} | up to {} |",
            line.make.title(),
            closed.p50.median,
            closed.p99.median,
            percent(closed.sidecar_share.median),
            percent(closed.load_share.median),
            percent(closed.other.high),
        )
        .unwrap();
    }
    text.push('\n');
    text
}
