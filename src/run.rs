//! `sekisho proxy`: the file and the credentials in, a running proxy, then signals and changed files until the end.

use crate::{
    cli::{self, EXIT_CONFIG, EXIT_DRAIN, EXIT_FAILURE},
    credentials, files, host,
};
use config::{IdentitySource, Report, Snapshot};
use identity::SpiffeId;
use proxy::Proxy;
use serde_json::json;
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Runs until a signal ends it.
pub(crate) fn proxy(arguments: &cli::Proxy) -> ExitCode {
    let snapshot = match config::load(&arguments.config) {
        Ok(snapshot) => snapshot,
        Err(report) => {
            err_text!("{}", report.render(std::io::stderr().is_terminal()));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let credentials = match credentials::load(&snapshot.identity, &snapshot.workload, SystemTime::now()) {
        Ok(credentials) => credentials,
        Err(error) => {
            err!("sekisho: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let started = format!(
        "{} as {} ({}), {} inbound and {} outbound rules",
        cli::VERSION,
        snapshot.workload,
        snapshot.mode.as_str(),
        snapshot.rules.rules(policy::Direction::Inbound).len(),
        snapshot.rules.rules(policy::Direction::Outbound).len(),
    );
    let mut watched = Watched::new(&arguments.config, &snapshot);
    let proxy = match Proxy::start(snapshot, credentials, host::host()) {
        Ok(proxy) => Arc::new(proxy),
        Err(error) => {
            err!("sekisho: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    event(&proxy, "started", json!({ "detail": started }));
    // Reading the file and the certificates took memory that nothing needs again.
    sys::memory::release();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            err!("sekisho: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    runtime.block_on(async {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
            err!("sekisho: signals cannot be received");
            return ExitCode::from(EXIT_FAILURE);
        };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => watched.reload(&proxy),
                _ = look.tick() => watched.look(&proxy),
            }
        }
        drain(&proxy, &mut terminate, &mut interrupt).await
    })
}

async fn drain(proxy: &Arc<Proxy>, terminate: &mut Signal, interrupt: &mut Signal) -> ExitCode {
    event(proxy, "draining", json!({}));
    let draining = Arc::clone(proxy);
    let drained = tokio::task::spawn_blocking(move || draining.drain());
    let in_time = tokio::select! {
        drained = drained => drained.unwrap_or(false),
        // Twice means now.
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    event(proxy, "stopped", json!({ "in_time": in_time }));
    proxy.finish();
    // Not by returning: the blocking drain may still be waiting.
    std::process::exit(if in_time { 0 } else { i32::from(EXIT_DRAIN) });
}

/// The files, as they were last looked at.
struct Watched {
    /// The rule file, then the certificate files.
    paths: Vec<PathBuf>,
    seen: files::Seen,
    /// What may not be finished yet, as it looked last time.
    unfinished: Option<files::Seen>,
    source: IdentitySource,
    workload: SpiffeId,
    config: PathBuf,
}

impl Watched {
    fn new(config: &Path, snapshot: &Snapshot) -> Self {
        let mut paths = vec![config.to_owned()];
        paths.extend(credentials::paths(&snapshot.identity));
        Self {
            seen: files::look(&paths),
            paths,
            unfinished: None,
            source: snapshot.identity.clone(),
            workload: snapshot.workload.clone(),
            config: config.to_owned(),
        }
    }

    /// Reads again what changed, once it is whole.
    fn look(&mut self, proxy: &Proxy) {
        let seen = files::look(&self.paths);
        if seen == self.seen {
            self.unfinished = None;
        } else if seen.is_unfinished_since(&self.seen) && self.unfinished.as_ref() != Some(&seen) {
            self.unfinished = Some(seen);
        } else {
            self.reload(proxy);
        }
    }

    /// Reads both again. What is not valid leaves the old in force; neither waits for the other.
    fn reload(&mut self, proxy: &Proxy) {
        // Looked at before reading: a change in between is seen next time.
        self.seen = files::look(&self.paths);
        self.unfinished = None;
        match config::load(&self.config) {
            Err(report) => rejected(proxy, &report),
            Ok(snapshot) if snapshot.digest == proxy.digest() && !proxy.is_stale() => {}
            Ok(snapshot) => {
                let digest = snapshot.digest.clone();
                match proxy.publish(snapshot) {
                    Ok(generation) => event(proxy, "reloaded", json!({ "generation": generation, "digest": digest })),
                    Err(why) => {
                        event(proxy, "reload_rejected", json!({ "detail": why }));
                        proxy.reload_refused(&why);
                    }
                }
            }
        }
        // From where, and as whom, cannot change without a restart.
        let loaded = credentials::load(&self.source, &self.workload, SystemTime::now());
        if let Err(why) = loaded.and_then(|credentials| proxy.publish_credentials(credentials)) {
            event(proxy, "credentials_rejected", json!({ "detail": why }));
            proxy.credentials_failed(why);
        }
    }
}

fn rejected(proxy: &Proxy, report: &Report) {
    event(
        proxy,
        "reload_rejected",
        json!({ "detail": "the file is not valid; the old one stays in force", "problems": report.problems.len() }),
    );
    proxy.event(&report.render(false));
    proxy.reload_failed(report);
}

/// One JSON line on stderr. It never waits: a full pipe must not stop signals and reloads.
fn event(proxy: &Proxy, name: &str, mut fields: serde_json::Value) {
    if let Some(object) = fields.as_object_mut() {
        object.insert("event".to_owned(), name.into());
        object.insert("time".to_owned(), proxy::rfc3339(SystemTime::now()).into());
    }
    proxy.event(&format!("{fields}\n"));
}
