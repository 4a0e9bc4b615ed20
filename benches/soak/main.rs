//! Half an hour of mixed load with faults, and what it left behind: `cargo bench --bench soak`.
//!
//! A pair of sidecars stands between callers of every kind and an application that now and then closes, resets, stalls or
//! talks nonsense; rules change and certificates are renewed all the while. Every few seconds memory, descriptors, tasks,
//! connections and the latency of a probe are noted from outside. At the end the load leaves, and what is still held is
//! counted. Out: a table of gates on the terminal, the samples as JSON lines, and a plot of them. The exit status is 1 when
//! a gate is not met.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `options` `stage` `app` | the command line, the sidecars and their files, the application and its faults |
//! | `load/` | callers: polite, rude, and those who ask for a fault; each knows what it must be answered |
//! | `ledger` `probe` `sample` | what came of every request, how long one takes, what the sidecars hold |
//! | `changes` | new rules and new certificates while all this goes on |
//! | `judge` `show/` | the gates; the table, the plot |

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed measurement

mod app;
mod changes;
mod judge;
mod ledger;
mod load;
mod options;
mod probe;
mod sample;
mod show;
mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use changes::Changes;
use ledger::Ledger;
use load::Load;
use options::Options;
use probe::Probe;
use sample::{Sampler, Samples};
use stage::Stage;

fn main() {
    // cargo passes `--bench`; a test runner, which asks for tests, does not.
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = args.iter().position(|arg| arg == "--bench") {
        args.remove(at);
        soak(&Options::of(&args));
    }
}

fn soak(options: &Options) {
    let stage = Arc::new(Stage::start());
    let mut sampler = Sampler::new(&stage);
    let ledger = Arc::new(Ledger::default());
    let mut samples = Samples::create(options, &stage);
    let base = sampler.base();
    eprintln!("{} minutes; before any load: {}", options.minutes, base.in_words());

    let begin = Instant::now();
    let end = begin + Duration::from_secs(60 * options.minutes);
    let load = Load::start(&stage, &ledger);
    let probe = Probe::start(&stage, &ledger);
    let changes = Changes::start(&stage, &ledger);
    let mut next = begin;
    while next < end {
        next += options.every;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let sample = sampler.take(begin, &ledger, probe.latencies());
        if samples.all().len().is_multiple_of(12) {
            eprintln!("{}", sample.in_words());
        }
        samples.add(sample);
    }
    changes.stop();
    probe.stop();
    load.stop();
    let left = sampler.settled(&base);
    samples.finish(&base, &left, &ledger);

    let gates = judge::gates(samples.all(), &base, &left, &ledger, &stage, options);
    print!("{}", show::terminal(samples.all(), &base, &left, &ledger, &gates, options));
    let plot = samples.path().with_extension("svg");
    std::fs::write(&plot, show::plot::svg(samples.all(), options)).unwrap();
    println!("samples: {}\nplot: {}", samples.path().display(), plot.display());
    if gates.iter().any(|gate| gate.is_met() == Some(false)) {
        std::process::exit(1);
    }
}
