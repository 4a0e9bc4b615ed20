//! All targets, as many at a time as there are processors, and the table of what came of them.

use crate::{
    corpus, places,
    targets::{FAULTY, TARGETS, Target},
    worker,
};
use std::{
    collections::HashMap,
    env, fs, io,
    process::{Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// What is asked of a run.
pub struct Asked {
    /// Targets by name; none are all.
    pub targets: Vec<String>,
    /// How long for each.
    pub time: Duration,
    /// How many at a time.
    pub jobs: usize,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Whether inputs that reached more are kept.
    pub keep: bool,
    /// Whether the edges are shown by source file.
    pub by_file: bool,
}

/// Runs the targets; false if one has found something.
///
/// # Errors
/// What the system says of the processes and files.
pub fn run(asked: &Asked) -> io::Result<bool> {
    let is_named = |target: &&Target| asked.targets.iter().any(|name| name == target.name);
    let chosen: Vec<&Target> = match asked.targets.is_empty() {
        true => TARGETS.iter().collect(),
        false => TARGETS.iter().chain(FAULTY).filter(is_named).collect(),
    };
    println!(
        "{} targets, {} s each, {} at a time, random numbers from {}",
        chosen.len(),
        asked.time.as_secs(),
        asked.jobs,
        asked.seed
    );
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..asked.jobs {
            scope.spawn(|| {
                while let Some(target) = chosen.get(next.fetch_add(1, Relaxed)) {
                    let row = one(target, asked);
                    rows.lock().unwrap().push((target.name, row));
                }
            });
        }
    });
    let rows: HashMap<&str, io::Result<Row>> = rows.into_inner().unwrap().into_iter().collect();
    let mut well = true;
    println!(
        "{:<18} {:>12} {:>9} {:>6} {:>7} {:>8} {:>8}",
        "target", "executions", "a second", "kept", "inputs", "edges", "by kept"
    );
    for target in &chosen {
        match &rows[target.name] {
            Ok(Row::Done(words)) => {
                let word = |name: &str| words.get(name).cloned().unwrap_or_default();
                let number = |name: &str| word(name).parse::<f64>().unwrap_or(0.0);
                let rate = number("executions") / number("seconds").max(0.001);
                println!(
                    "{:<18} {:>12} {:>9.0} {:>6} {:>7} {:>8} {:>8}",
                    target.name,
                    word("executions"),
                    rate,
                    word("kept"),
                    word("inputs"),
                    word("reached"),
                    word("by_kept")
                );
            }
            Ok(Row::Broken(text)) => {
                well = false;
                println!("{:<18} BROKEN\n{}", target.name, text.trim_end());
            }
            Err(error) => {
                well = false;
                println!("{:<18} {error}", target.name);
            }
        }
    }
    if well {
        total(&chosen, asked.by_file)?;
    }
    Ok(well)
}

enum Row {
    Done(HashMap<String, String>),
    /// What was said of it.
    Broken(String),
}

fn one(target: &Target, asked: &Asked) -> io::Result<Row> {
    let output = Command::new(env::current_exe()?)
        .args([
            "worker",
            target.name,
            &asked.time.as_secs().to_string(),
            &asked.seed.to_string(),
            if asked.keep { "keep" } else { "-" },
        ])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        let words = said.split_whitespace().filter_map(|word| word.split_once('='));
        return Ok(Row::Done(words.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()));
    }
    if said.contains("broken=") {
        return Ok(Row::Broken(said));
    }
    died(target, &output)
}

/// A process that could not say what happened to it.
fn died(target: &Target, output: &Output) -> io::Result<Row> {
    let path = corpus::keep(target.name, "found-", &worker::last_tried(target.name)?)?;
    let words = String::from_utf8_lossy(&output.stderr);
    Ok(Row::Broken(format!("broken=found {}\nthe process ended: {}\n{words}", path.display(), output.status)))
}

/// The edges of our crates that all targets together have reached.
fn total(chosen: &[&Target], by_file: bool) -> io::Result<()> {
    let mut all: Vec<u8> = Vec::new();
    for target in chosen {
        let edges = fs::read(worker::edges_path(target.name))?;
        all.resize(edges.len(), 0);
        all.iter_mut().zip(&edges).for_each(|(all, edge)| *all |= edge);
    }
    if all.is_empty() {
        println!("no edges are counted: build with RUSTC_WORKSPACE_WRAPPER=fuzz/instrument (`just fuzz`)");
        return Ok(());
    }
    let hit = all.iter().filter(|edge| **edge != 0).count();
    println!("edges reached in our crates (SanitizerCoverage): {hit} of {}", all.len());
    if by_file {
        places::print(&all)?;
    }
    Ok(())
}
