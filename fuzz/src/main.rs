//! The command: all targets for a while, or one input again.

use fuzz::{
    crew::{self, Asked},
    many, targets,
    worker::{self, Orders},
};
use std::{
    env, fs, process, thread,
    time::{Duration, SystemTime},
};

const USAGE: &str = "\
sekisho-fuzz [--seconds N | --in-all N] [--target NAME]... [--jobs N] [--seed N] [--keep] [--files]
    fuzzes each target for N seconds (15), or all of them in N seconds together; --keep keeps inputs that reached more, --files shows edges by source file
sekisho-fuzz again TARGET FILE...
    tries these inputs again, and panics as they do
sekisho-fuzz exchanges COUNT [SEED]
    so many random exchanges through the tap, with what their copy must be known; says how many";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["worker", target, seconds, seed, keep] => worker::run(&Orders {
            target: target.to_owned(),
            time: Duration::from_secs(number(seconds)),
            seed: number(seed),
            keep: keep == "keep",
        })
        .map(|()| true),
        ["again", target, ref files @ ..] => {
            let target = targets::named(target).unwrap_or_else(|| usage());
            for file in files {
                println!("{file}");
                match fs::read(file) {
                    Ok(input) => (target.run)(&input),
                    Err(error) => {
                        eprintln!("{file}: {error}");
                        process::exit(2);
                    }
                }
            }
            Ok(true)
        }
        ["exchanges", count] => many::run(number(count), seed_of_now()),
        ["exchanges", count, seed] => many::run(number(count), number(seed)),
        _ => crew::run(&asked(&words)),
    };
    match done {
        Ok(true) => {}
        Ok(false) => process::exit(1),
        Err(error) => {
            eprintln!("{error}");
            process::exit(2);
        }
    }
}

fn asked(words: &[&str]) -> Asked {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let time = Duration::from_secs(15);
    let mut asked = Asked { targets: Vec::new(), time, jobs, seed: seed_of_now(), keep: false, by_file: false };
    let mut in_all = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().unwrap_or_else(|| usage());
        match *word {
            "--seconds" => asked.time = Duration::from_secs(number(value())),
            "--in-all" => in_all = Some(number(value())),
            "--target" => asked.targets.push(value().to_owned()),
            "--jobs" => asked.jobs = usize::try_from(number(value())).unwrap_or(1).max(1),
            "--seed" => asked.seed = number(value()),
            "--keep" => asked.keep = true,
            "--files" => asked.by_file = true,
            _ => usage(),
        }
    }
    if asked.targets.iter().any(|name| targets::named(name).is_none()) {
        usage();
    }
    if let Some(seconds) = in_all {
        let targets = if asked.targets.is_empty() { targets::TARGETS.len() } else { asked.targets.len() };
        let rounds = targets.div_ceil(asked.jobs);
        asked.time = Duration::from_secs(seconds / u64::try_from(rounds.max(1)).unwrap_or(1));
    }
    asked
}

fn seed_of_now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| usage())
}

fn usage() -> ! {
    eprintln!("{USAGE}\ntargets:");
    for target in targets::TARGETS {
        eprintln!("    {:<18} {}", target.name, target.about);
    }
    process::exit(2);
}
