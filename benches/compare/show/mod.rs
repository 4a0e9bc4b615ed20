//! What a reader sees: tables and gates on a terminal, and the same with plots on the page.

pub(crate) mod gates;
pub(crate) mod latency;
pub(crate) mod report;
pub(crate) mod scaling;
pub(crate) mod table;
pub(crate) mod tables;

use crate::options::Options;
use crate::summary::Summary;

/// Everything that was measured, for a terminal.
pub(crate) fn terminal(summary: &Summary<'_>, options: &Options) -> String {
    let mut text = format!(
        "\nMedian of {} round{} (low–high). CPU is user + system of both sidecars, on one core. × is the ratio of medians.\n",
        options.rounds,
        if options.rounds == 1 { "" } else { "s" },
    );
    for table in tables::all(summary, options) {
        text.push('\n');
        text.push_str(&table.terminal());
    }
    for error in summary.errors() {
        text.push_str(&format!("\ninvalid: {error}"));
    }
    text.push('\n');
    text
}
