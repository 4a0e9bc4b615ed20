//! `sekisho ca log verify`: whether the audit log is what was written, for people or for programs.

use crate::cli::{self, EXIT_CONFIG, EXIT_FAILURE, Format};
use ca::log::{self, Finding, Head, Known, LogError, Verified};
use std::{
    fs,
    io::{self, IsTerminal},
    process::ExitCode,
    time::{Duration, Instant},
};

/// Verifies the log of one folder.
pub(crate) fn verify(arguments: &cli::CaLogVerify) -> ExitCode {
    match judged(arguments) {
        Ok(verified) => {
            whole(arguments, &verified);
            ExitCode::SUCCESS
        }
        Err(Problem::Found(finding)) => {
            tampered(arguments.format, &finding);
            ExitCode::from(EXIT_FAILURE)
        }
        Err(Problem::Other(error)) => {
            match arguments.format {
                Format::Json => out!("{}", serde_json::json!({ "ok": serde_json::Value::Null, "error": error })),
                Format::Human => err!("sekisho: {error}"),
            }
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

enum Problem {
    Found(Finding),
    Other(String),
}

fn judged(arguments: &cli::CaLogVerify) -> Result<Verified, Problem> {
    let head = match &arguments.head {
        None => None,
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| Problem::Other(format!("{}: {error}", path.display()));
            let text = fs::read(path).map_err(|error| wrong(&error))?;
            Some(Head::read(&text).map_err(|misread| wrong(&format!("not a head of an audit log: {misread}")))?)
        }
    };
    let known = Known { key: arguments.key, head, record: arguments.expect };
    let mut progress = Progress::new();
    let verified = log::verify(&arguments.dir, &known, &mut |done, all| progress.show(done, all));
    progress.end();
    verified.map_err(|error| match error {
        LogError::Found(finding) => Problem::Found(finding),
        other => Problem::Other(other.to_string()),
    })
}

fn whole(arguments: &cli::CaLogVerify, verified: &Verified) {
    let Verified { records, segments, first, head, open } = verified;
    match arguments.format {
        Format::Json => out!(
            "{}",
            serde_json::json!({
                "ok": true, "records": records, "segments": segments, "open": open,
                "first": first.to_string(), "last": head.time.to_string(),
                "head": { "seq": head.seq, "hash": head.hash.to_string(), "key": head.key.to_string() },
            })
        ),
        Format::Human => {
            out!("{}: {records} records in {segments} segments, unchanged", arguments.dir.join("log").display());
            out!("from {first} to {}", head.time);
            out!("head {}:{}", head.seq, head.hash);
            out!("key  {}", head.key);
            if *open {
                out!("the CA is running: what it wrote behind this head was not looked at");
            }
            if arguments.head.is_none() && arguments.expect.is_none() && arguments.key.is_none() {
                out!("compared with nothing kept elsewhere: an older folder put back whole would look like this too");
            }
        }
    }
}

fn tampered(format: Format, finding: &Finding) {
    match format {
        Format::Json => out!(
            "{}",
            serde_json::json!({
                "ok": false, "file": finding.file, "line": finding.line, "seq": finding.seq,
                "problem": finding.flaw.to_string(),
            })
        ),
        Format::Human => err!("sekisho: the audit log is not what was written\n{finding}"),
    }
}

/// A bar on a terminal, once it takes long.
struct Progress {
    begin: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { begin: Instant::now(), shown: None, terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, done: u64, all: u64) {
        let pause = self.shown.map_or(self.begin.elapsed() > PATIENCE, |shown| shown.elapsed() > REFRESH);
        if !self.terminal || !pause {
            return;
        }
        self.shown = Some(Instant::now());
        let hundredths = done.saturating_mul(100) / all.max(1);
        let filled = usize::try_from(hundredths * WIDTH / 100).unwrap_or_default();
        let bar: String = (0..WIDTH as usize).map(|at| if at < filled { '#' } else { '.' }).collect();
        err_text!("\r[{bar}] {hundredths:>3} %");
    }

    fn end(&self) {
        if self.shown.is_some() {
            err_text!("\r\x1b[K");
        }
    }
}

const PATIENCE: Duration = Duration::from_millis(500);
const REFRESH: Duration = Duration::from_millis(100);
const WIDTH: u64 = 40;
