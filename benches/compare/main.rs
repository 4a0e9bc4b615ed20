//! Envoy, HAProxy and ours, each as a pair of sidecars, side by side in one run: `cargo bench --bench compare`.
//!
//! In: the built `sekisho`, a real Envoy, a real HAProxy (see `benches/README.md` for method and setup). Out: a table on the
//! terminal, every run as a line in `benches/runs/`, and after a full run the results section and the plot of the README.
//! Refuses to measure a pair that answers wrongly or that passes what its rule forbids.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `options` | the command line |
//! | `pairs` | the three makes, started from the files in `setup/` |
//! | `origin` `closed` `open` `reply` | the application and the two load generators, each run as a process of its own |
//! | `cost` | CPU time and memory of a process, as the kernel counts them |
//! | `round` | one make, once: start, check, measure, end |
//! | `machine` `runs` `summary` | where it ran, what came out, and the medians of it |
//! | `table` `plot` `report` | the three ways to show them |

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed measurement

mod closed;
mod cost;
mod machine;
mod open;
mod options;
mod origin;
mod pairs;
mod plot;
mod reply;
mod report;
mod round;
mod runs;
mod summary;
mod table;

use options::{Options, Role};
use pairs::World;
use summary::Summary;

fn main() {
    match Role::of_this_process() {
        Role::Bench(options) => compare(&options),
        Role::Origin(address) => origin::serve(address),
        Role::Closed(load) => {
            end_at_the_first_panic();
            closed::run(&load);
        }
        Role::Open(load) => {
            end_at_the_first_panic();
            open::run(&load);
        }
        // `cargo test` and nextest start every bench to ask for its tests; there are none.
        Role::None => {}
    }
}

/// A wrong response in any task or thread makes the whole run worthless.
fn end_at_the_first_panic() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::exit(1)
    }));
}

fn compare(options: &Options) {
    let world = World::new(options);
    let machine = machine::describe(&world, options);
    let mut runs = runs::Runs::create(options, &machine);
    for round in 1..=options.rounds {
        for make in &options.makes {
            eprintln!("round {round} of {}: {}", options.rounds, make.name());
            runs.extend(round::measure(&world, *make, round, options));
        }
    }
    let summary = Summary::of(runs.all(), &options.makes);
    println!("{}", table::terminal(&summary));
    println!("raw runs: {}", runs.path().display());
    if options.is_complete() {
        report::write(&summary, &machine, options, runs.path());
    }
}
