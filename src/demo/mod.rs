//! `sekisho demo`: the whole story on one machine, without root.
//!
//! A CA in this process; three workloads, each with a sidecar that is a process of its own, run by the very command a pod
//! runs; an attacker with a valid certificate of another namespace, and one with none; an IDS's end of the tap. Each scene
//! says what should happen, does it, and reports what did.

mod apps;
mod attacker;
mod client;
mod scenes;
mod sensor;
mod world;

use crate::cli::{self, EXIT_FAILURE};
use std::{io::IsTerminal, process::ExitCode, time::Duration};

/// Plays the scenes; stays up afterwards unless `--once`.
pub(crate) fn run(arguments: &cli::Demo) -> ExitCode {
    let style = Style { color: std::io::stdout().is_terminal() };
    let mut world = match world::World::build(arguments.keep) {
        Ok(world) => world,
        Err(error) => {
            err!("sekisho: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    world.introduce(&style);
    let mut results = Vec::new();
    for (number, scene) in scenes::ALL.iter().enumerate() {
        out!("\n{}", style.bold(&format!("Scene {}: {}", number + 1, scene.title)));
        out!("  {}", style.dim(scene.told));
        let result = (scene.play)(&mut world);
        match &result {
            Ok(outcome) => {
                for line in &outcome.lines {
                    out!("  {line}");
                }
                out!("  {}", style.green(&format!("as told: {}", outcome.summary)));
            }
            Err(wrong) => out!("  {}", style.red(&format!("NOT as told: {wrong}"))),
        }
        results.push((scene, result));
    }
    out!("\n{}", style.bold("What the IDS saw on the mirror port"));
    for line in world.sensor.exchanges() {
        out!("  {line}");
    }
    let as_told = summary(&style, &results);
    if arguments.once {
        return if as_told { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) };
    }
    world.invite(&style);
    wait_for_interrupt();
    out!();
    if as_told { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) }
}

fn summary(style: &Style, results: &[(&scenes::Scene, Result<scenes::Outcome, String>)]) -> bool {
    out!("\n{}", style.bold("Summary"));
    let width = results.iter().map(|(scene, _)| scene.title.chars().count()).max().unwrap_or(0);
    out!("  {:<width$}  {:<10}  why", "scene", "result");
    out!("  {}  {}  {}", "─".repeat(width), "─".repeat(10), "─".repeat(40));
    let mut good = 0;
    for (scene, result) in results {
        let (mark, why) = match result {
            Ok(outcome) => {
                good += 1;
                (style.green(&format!("{:<10}", outcome.verdict)), outcome.summary.clone())
            }
            Err(wrong) => (style.red(&format!("{:<10}", "WRONG")), wrong.clone()),
        };
        out!("  {:<width$}  {mark}  {why}", scene.title);
    }
    out!("\n{good} of {} scenes went as told", results.len());
    good == results.len()
}

fn wait_for_interrupt() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
        let terminated = async {
            match &mut terminate {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated => {}
        }
    });
}

/// Colour on a terminal, none elsewhere.
pub(crate) struct Style {
    color: bool,
}

impl Style {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    pub(crate) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }
    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }
    pub(crate) fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }
    pub(crate) fn red(&self, text: &str) -> String {
        self.paint("31;1", text)
    }
}

/// Asks again and again until `check` says yes, or `patience` is over.
pub(crate) fn eventually(patience: Duration, mut check: impl FnMut() -> bool) -> bool {
    let until = std::time::Instant::now() + patience;
    loop {
        if check() {
            return true;
        }
        if std::time::Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
