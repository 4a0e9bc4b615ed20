//! `sekisho proxy`: the file and the credentials in, a running proxy, then signals and changed files until the end.

use crate::{
    cli::{self, EXIT_CONFIG, EXIT_DRAIN, EXIT_FAILURE},
    credentials, files,
    following::Following,
    host, say, socket,
};
use agent::Material;
use config::{Report, Snapshot};
use identity::{Credentials, SpiffeId};
use proxy::Proxy;
use serde_json::json;
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

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
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            err!("sekisho: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let mut identity = match runtime.block_on(Identity::of(&snapshot)) {
        Ok(Some(identity)) => identity,
        // A signal came before there was an identity.
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            err!("sekisho: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let credentials = Arc::clone(&identity.credentials);
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
                () = identity.changed() => identity.hand_over(&proxy),
            }
        }
        drain(&proxy, identity, &mut terminate, &mut interrupt).await
    })
}

async fn drain(proxy: &Arc<Proxy>, identity: Identity, terminate: &mut Signal, interrupt: &mut Signal) -> ExitCode {
    event(proxy, "draining", json!({}));
    let draining = Arc::clone(proxy);
    let drained = tokio::task::spawn_blocking(move || draining.drain());
    let in_time = tokio::select! {
        drained = drained => drained.unwrap_or(false),
        // Twice means now.
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    if in_time {
        identity.leave().await;
    }
    event(proxy, "stopped", json!({ "in_time": in_time }));
    proxy.finish();
    // Not by returning: the blocking drain may still be waiting.
    std::process::exit(if in_time { 0 } else { i32::from(EXIT_DRAIN) });
}

/// Where certificate, key and bundle come from: files, looked at with the rule file, or a source that is followed.
struct Identity {
    /// The first.
    credentials: Arc<Credentials>,
    /// Further ones, if they do not come from files.
    following: Option<Following>,
    /// The socket for others, and what ends it.
    socket: Option<(JoinHandle<()>, watch::Sender<bool>)>,
}

impl Identity {
    /// The first identity, waited for if need be; `None` when a signal came first.
    async fn of(snapshot: &Snapshot) -> Result<Option<Self>, String> {
        let files = credentials::paths(&snapshot.identity);
        // The socket hands out the key as well, which the data path's own reading of files does not keep.
        let follows = files.is_none() || snapshot.agent.written;
        let mut following =
            if follows { Some(Following::begin(&snapshot.identity, &snapshot.workload)?) } else { None };
        let socket = match &following {
            Some(following) if snapshot.agent.written => {
                let (stop, stopped) = watch::channel(false);
                let identity = following.identity.clone();
                Some((socket::serve(&snapshot.agent, identity, &following.readers, say::events(), stopped)?, stop))
            }
            _ => None,
        };
        let credentials = match (files, &mut following) {
            (Some(files), _) => credentials::load(&files, &snapshot.workload, SystemTime::now())?,
            (None, Some(following)) => match first(following).await? {
                Some(material) => Arc::clone(material.credentials()),
                None => return Ok(None),
            },
            (None, None) => return Err("there is no source of an identity".to_owned()),
        };
        if credentials::paths(&snapshot.identity).is_some() && socket.is_none() {
            following = None;
        }
        Ok(Some(Self { credentials, following, socket }))
    }

    /// Waits for something to hand over. With files it is the look at the files that finds it.
    async fn changed(&mut self) {
        match &mut self.following {
            Some(following) => tokio::select! {
                Ok(()) = following.identity.changed() => {}
                Ok(()) = following.status.changed() => {}
                else => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Puts what the source brought in force, and shows how it stands.
    fn hand_over(&mut self, proxy: &Proxy) {
        let Some(following) = &mut self.following else { return };
        let material = following.identity.borrow_and_update().clone();
        let fault = following.status.borrow_and_update().fault.clone();
        let Some(material) = material else { return };
        let serial = material.credentials().svid().serial().to_owned();
        let fresh = !Arc::ptr_eq(material.credentials(), &self.credentials);
        // Where there is a fault and nothing new, what is in force stays, and with it the mark of the fault before.
        if fresh || fault.is_none() {
            match proxy.publish_credentials(Arc::clone(material.credentials())) {
                Ok(()) if fresh => {
                    self.credentials = Arc::clone(material.credentials());
                    let not_after = proxy::rfc3339(material.expiry());
                    event(proxy, "identity", json!({ "serial": serial, "not_after": not_after }));
                }
                Ok(()) => {}
                Err(why) => {
                    proxy.credentials_failed(why.clone());
                    event(proxy, "credentials_rejected", json!({ "detail": why }));
                }
            }
        }
        if let Some(fault) = fault {
            // Shown first, said then: who reads of it finds it so.
            proxy.credentials_failed(fault.text.clone());
            event(proxy, "identity_source_failed", json!({ "detail": fault.text, "times": fault.times }));
        }
    }

    async fn leave(self) {
        if let Some((serving, stop)) = self.socket {
            stop.send_replace(true);
            let _ = serving.await;
        }
        if let Some(following) = self.following {
            following.leave().await;
        }
    }
}

/// The first identity of a source; what fails meanwhile is told.
async fn first(following: &mut Following) -> Result<Option<Arc<Material>>, String> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        return Err("signals cannot be received".to_owned());
    };
    tokio::select! {
        material = following.first(|why| say::event("identity_source_failed", json!({ "detail": why }))) => {
            Ok(Some(material))
        }
        _ = terminate.recv() => Ok(None),
        _ = interrupt.recv() => Ok(None),
    }
}

/// The files, as they were last looked at.
struct Watched {
    /// The rule file, then the certificate files.
    paths: Vec<PathBuf>,
    seen: files::Seen,
    /// What may not be finished yet, as it looked last time.
    unfinished: Option<files::Seen>,
    /// Certificate, key and bundle, if they are files.
    credentials: Option<[PathBuf; 3]>,
    workload: SpiffeId,
    config: PathBuf,
}

impl Watched {
    fn new(config: &Path, snapshot: &Snapshot) -> Self {
        let mut paths = vec![config.to_owned()];
        let credentials = credentials::paths(&snapshot.identity);
        paths.extend(credentials.iter().flatten().cloned());
        Self {
            seen: files::look(&paths),
            paths,
            unfinished: None,
            credentials,
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
                        proxy.reload_refused(&why);
                        event(proxy, "reload_rejected", json!({ "detail": why }));
                    }
                }
            }
        }
        // From where, and as whom, cannot change without a restart.
        let Some(files) = &self.credentials else { return };
        let loaded = credentials::load(files, &self.workload, SystemTime::now());
        if let Err(why) = loaded.and_then(|credentials| proxy.publish_credentials(credentials)) {
            proxy.credentials_failed(why.clone());
            event(proxy, "credentials_rejected", json!({ "detail": why }));
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
fn event(proxy: &Proxy, name: &str, fields: serde_json::Value) {
    proxy.event(&format!("{}\n", say::line(name, fields)));
}
