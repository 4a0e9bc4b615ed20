//! Change and end under load: new rules take over without a failed request, a bad file changes nothing, SIGTERM lets
//! every request finish.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod drain;
mod files;
mod reload;
mod rotate;
mod stops;

use support::pair::Setting;

/// How often a test does its one thing: what the variable says, or the few times that tell most.
fn count(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// Without access logs, which would fill a disk when a test goes on for minutes.
fn quiet(setting: Setting) -> Setting {
    let off = |text: String| text.replace("[proxy]\n", "[log]\naccess = \"off\"\n\n[proxy]\n");
    setting.server(off).client(off)
}
