//! Envoy, HAProxy, nginx and ours, each as a pair of sidecars, side by side in one run: `cargo bench --bench compare`.
//!
//! In: the built `sekisho`, a real Envoy, HAProxy and nginx (see `benches/README.md` for method and setup). Out: tables and
//! gates on the terminal, every run as a line in `benches/runs/`, and after a full run the results section and the plots of
//! the README. Refuses to measure a pair that answers wrongly or that passes what it must not; a wrong answer under load
//! makes the row invalid.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `options` `makes` `workloads` | the command line, who is measured, under what |
//! | `programs` `world` `setup` `pair` `proof` | processes, the files in `setup/`, a running pair, and what it must refuse |
//! | `load/` | origin, sensor and load generators, each run as a process of its own |
//! | `cost` `syscalls` | CPU time, memory and system calls of a process, as the kernel counts them |
//! | `round` `scale` `tap` | one make, once: start, check, measure, end |
//! | `machine` `runs` `summary` `figures` | where it ran, what came out, and the medians of it |
//! | `show/` | tables, gates, plots, the page |

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed measurement

mod cost;
mod figures;
mod load;
mod machine;
mod makes;
mod options;
mod pair;
mod programs;
mod proof;
mod round;
mod runs;
mod scale;
mod setup;
mod show;
mod summary;
mod syscalls;
mod tap;
mod workloads;
mod world;

use options::Options;
use summary::Summary;
use world::World;

fn main() {
    // cargo passes `--bench`; the bench itself passes `--role`; a test runner, which asks for tests, passes neither.
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--role") {
        load::play(&args[1], &args[2]);
    } else if let Some(at) = args.iter().position(|arg| arg == "--bench") {
        args.remove(at);
        compare(&Options::of(&args));
    }
}

fn compare(options: &Options) {
    programs::check(options);
    // Two runs at once would measure each other.
    let _turn = support::ports::exclusive("compare");
    let world = World::new(options);
    let machine = machine::describe(&world, options);
    let mut runs = runs::Runs::create(options, &machine);
    for round in 1..=options.rounds {
        for make in &options.makes {
            eprintln!("round {round} of {}: {}", options.rounds, make.name());
            round::measure(&world, *make, round, options, &mut runs);
            tap::measure(&world, *make, round, options, &mut runs);
        }
        round::without_sidecars(&world, round, options, &mut runs);
        if round <= options.scale_rounds {
            for make in &options.makes {
                scale::measure(&world, *make, round, options, &mut runs);
            }
        }
    }
    let (machine, newer) = match &options.again {
        Some(earlier) => runs.amend(earlier, &machine),
        None => (machine, String::new()),
    };
    let options = &if options.again.is_some() { options.of_everything() } else { options.clone() };
    let summary = Summary::of(runs.all());
    print!("{}", show::terminal(&summary, options));
    println!("raw runs: {}", runs.path().display());
    if options.is_complete() {
        show::report::write(&summary, &machine, &newer, options, runs.path());
    } else {
        show::report::plots(runs.path().parent().unwrap(), &summary, options);
    }
}
