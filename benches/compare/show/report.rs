//! The results section of `benches/README.md` and the plots beside it, written anew by every full run.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::{latency, scaling, tables};
use crate::options::Options;
use crate::summary::Summary;

const BEGIN: &str = "<!-- results: written by the bench -->\n";
const END: &str = "<!-- end of results -->\n";

/// Replaces what stands between the marks of the README, `latency.svg` and `scale.svg`.
pub(crate) fn write(summary: &Summary<'_>, machine: &Value, newer: &str, options: &Options, runs: &Path) {
    let dir = support::tools::repository().join("benches");
    plots(&dir, summary, options);
    let readme = dir.join("README.md");
    let text = std::fs::read_to_string(&readme).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the README has the mark where results begin");
    let (_, after) = rest.split_once(END).expect("the README has the mark where results end");
    let section = section(summary, machine, newer, options, runs);
    std::fs::write(&readme, format!("{before}{BEGIN}{section}{END}{after}")).unwrap();
    println!("written: {}, latency.svg, scale.svg", readme.display());
}

/// Draws both plots into a folder.
pub(crate) fn plots(dir: &Path, summary: &Summary<'_>, options: &Options) {
    std::fs::write(dir.join("latency.svg"), latency::svg(summary, options)).unwrap();
    std::fs::write(dir.join("scale.svg"), scaling::svg(summary, options)).unwrap();
}

fn section(summary: &Summary<'_>, machine: &Value, newer: &str, options: &Options, runs: &Path) -> String {
    let word = |key: &str| machine[key].as_str().unwrap_or("–").to_owned();
    let runs = runs.file_name().unwrap_or_default().to_string_lossy();
    let place = if machine["virtual"] == true { "Virtual machine" } else { "Machine" };
    let mut text = format!(
        "\n{} at commit `{}`, {} rounds. Raw runs: [`runs/{runs}`](runs/{runs}). {newer}\n\n\
         {place}: {}, {} cores, {} MiB, Linux {} ({}). {}.\n\n\
         Medians over the rounds, with the lowest and the highest; × is the ratio of medians.\n\n",
        word("time"),
        word("commit"),
        options.rounds,
        word("processor"),
        machine["cores"],
        machine["memory_mib"],
        word("kernel"),
        word("congestion_control"),
        ["sekisho", "envoy", "haproxy", "nginx"].map(word).join(" · "),
    );
    let mut tables = tables::all(summary, options);
    // What a reader looks for first.
    tables.rotate_right(1);
    for table in tables {
        writeln!(text, "{}", table.markdown()).unwrap();
    }
    for error in summary.errors() {
        writeln!(text, "- invalid: {error}").unwrap();
    }
    text.push_str(
        "![latency at a fixed rate](latency.svg)\n\n![cost against connections, rules and services](scale.svg)\n\n",
    );
    text
}
