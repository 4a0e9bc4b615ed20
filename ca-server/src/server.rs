//! The life of a server: open the folder, listen, look at the clock and the files each second, end in order.

use crate::admin::{self, Face};
use crate::desk::{Desk, Parts, Shares};
use crate::istio::{Bounded, Istio};
use crate::kubernetes::Api;
use crate::memory::{LONGEST_TOKEN, Memory};
use crate::metrics::Now;
use crate::standing::{Own, Standing};
use crate::trust::Watching;
use crate::turns::Turns;
use ca::attest::{Cluster, Clusters, Jwks, Template, TokenRules};
use ca::denied::DenyList;
use ca::log::{self, Act, Event, Log, LogKey, Text, What};
use ca::rotation::{Advice, Go, LastLeaf, Phase, RootId, Schedule};
use ca::{Keys, RotatingFolder, Tokens};
use config::{CaSettings, ClusterSettings, Listen};
use identity::{SpiffeId, TrustDomain};
use rpc::{Limits, Refused, Routes, Watcher};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use wire::sekisho::ca::v1::trust_server::TrustServer;

/// What tells of events: a name and a JSON object, for a line on stderr.
pub type Say = Arc<dyn Fn(&str, Value) + Send + Sync>;

/// A CA that may begin to answer.
pub struct Server {
    desk: Arc<Desk>,
    folder: Mutex<RotatingFolder>,
    settings: CaSettings,
    passphrase: Option<Vec<u8>>,
    own: Own,
    schedule: Schedule,
    key_sets: Mutex<Vec<KeySet>>,
    taking_keys: Mutex<()>,
    /// Of the deny list on the disk.
    denied_version: AtomicU64,
    say: Say,
}

/// A sentence for the operator.
#[derive(Debug)]
pub struct ServerError(String);

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}

/// Takes any error that has a sentence.
fn error(error: impl std::fmt::Display) -> ServerError {
    ServerError(error.to_string())
}

/// A step of a rotation that an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Found a new root and publish it.
    Prepare,
    /// Let it issue; with the flag although not everybody knows it.
    Activate {
        /// Not everybody is waited for.
        unasked: bool,
    },
    /// One step back.
    Rollback,
    /// Take roots out whose time has come.
    Finish,
    /// A root is known to others.
    Compromise {
        /// Which.
        root: RootId,
        /// When it leaves, from now.
        leave_after: Duration,
    },
}

impl Step {
    /// Reads the last segment of a path and the query behind it.
    pub(crate) fn parse(word: &str, query: &str) -> Result<Self, String> {
        let mut parameters = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('='));
        match word {
            "prepare" | "rollback" | "finish" if query.is_empty() => Ok(match word {
                "prepare" => Self::Prepare,
                "rollback" => Self::Rollback,
                _ => Self::Finish,
            }),
            "activate" => match (parameters.next(), parameters.next()) {
                (None, _) => Ok(Self::Activate { unasked: false }),
                (Some(Some(("override", "true"))), None) => Ok(Self::Activate { unasked: true }),
                _ => Err("activate takes `override=true` and nothing else".to_owned()),
            },
            "compromise" => {
                let (mut root, mut leave_after) = (None, None);
                for parameter in parameters {
                    match parameter {
                        Some(("root", value)) if root.is_none() => root = RootId::parse(value),
                        Some(("leave_after", value)) if leave_after.is_none() => {
                            leave_after = value.parse().ok().filter(|seconds| *seconds <= 604_800);
                        }
                        _ => return Err("compromise takes `root` and `leave_after`, once each".to_owned()),
                    }
                }
                match (root, leave_after) {
                    (Some(root), Some(seconds)) => {
                        Ok(Self::Compromise { root, leave_after: Duration::from_secs(seconds) })
                    }
                    _ => Err("compromise takes `root=ID` and `leave_after=SECONDS`".to_owned()),
                }
            }
            "prepare" | "rollback" | "finish" => Err(format!("{word} takes no parameters")),
            _ => Err("the steps are prepare, activate, rollback, finish and compromise".to_owned()),
        }
    }
}

impl Server {
    /// Opens the folder and everything in it, reads the log back, and makes an issuer. Nobody is answered yet.
    ///
    /// # Errors
    /// What cannot be used, as a sentence.
    pub fn open(
        settings: &CaSettings,
        passphrase: Option<Vec<u8>>,
        say: Say,
        now: SystemTime,
    ) -> Result<Arc<Self>, ServerError> {
        let folder = RotatingFolder::open(&settings.dir).map_err(error)?;
        let domain = folder.trust_domain().clone();
        let id = SpiffeId::parse(&format!("spiffe://{domain}/{}", settings.identity)).map_err(error)?;
        let own = Own { id, names: settings.names.clone() };
        let keys = Keys { passphrase: passphrase.as_deref(), secret: settings.keys.as_deref() };
        let authority = folder.authority(keys, now).map_err(error)?;
        let standing = Standing::make(&authority, &own, now).map_err(error)?;
        let log_key = LogKey::load(&settings.dir, passphrase.as_deref()).map_err(error)?;
        let (log, opened) = Log::open(&settings.dir, log_key, now, log::Settings::default()).map_err(error)?;
        let memory = recall(settings, &standing, now)?;
        let denied = DenyList::load(&settings.dir).map_err(error)?;
        let (clusters, key_sets) = clusters(&settings.clusters, &domain)?;
        let signing = match settings.signing {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        let shares = Shares {
            per_source_per_second: settings.per_source_per_second,
            per_holder_per_hour: settings.per_identity_per_hour,
        };
        let held = memory.len();
        let version = denied.version();
        let desk = Desk::new(Parts {
            standing,
            denied,
            clusters,
            tokens: Tokens::of(&settings.dir, &domain),
            log,
            memory,
            apis: apis(&settings.clusters),
            turns: Turns::new(signing, settings.waiting),
            lifetimes: settings.lifetimes,
            shares,
            now,
        });
        let server = Arc::new(Self {
            desk: Arc::new(desk),
            folder: Mutex::new(folder),
            settings: settings.clone(),
            passphrase,
            own,
            schedule: Schedule {
                prepare_at_percent_left: settings.rotation.prepare_at_percent_left,
                skew: settings.rotation.skew,
                splay: settings.rotation.splay,
                ..Schedule::default()
            },
            key_sets: Mutex::new(key_sets),
            taking_keys: Mutex::new(()),
            denied_version: AtomicU64::new(version),
            say,
        });
        server.act(What::Started, "", &format!("version {}", env!("CARGO_PKG_VERSION")), None, "ca").map_err(error)?;
        (server.say)(
            "opened",
            json!({ "trust_domain": domain.as_str(), "log_records": opened.seq, "certificates": held, "cut_bytes": opened.cut }),
        );
        Ok(server)
    }

    /// Answers until `stop` becomes true and what was open has ended. `descriptors` is the most this process may have open:
    /// there are never so many connections that its own files could not be opened.
    ///
    /// # Errors
    /// A listener cannot be had.
    pub async fn run(
        self: Arc<Self>,
        descriptors: Option<u64>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), ServerError> {
        let grpc = bind(&self.settings.listen)?;
        let faces = [(Face::Admin, bind(&self.settings.admin)?), (Face::Health, bind(&self.settings.health)?)];
        let (reception, receptions) = watch::channel(Arc::clone(&self.desk.standing.borrow().reception));
        let istio = IstioCertificateServiceServer::new(Istio(Arc::clone(&self.desk)));
        let routes = Routes::default()
            .with(Bounded { service: istio.max_decoding_message_size(MOST_MESSAGE), desk: Arc::clone(&self.desk) })
            .with(TrustServer::new(Watching(Arc::clone(&self.desk))).max_decoding_message_size(MOST_MESSAGE));
        let mut limits = Limits::default();
        if let Some(descriptors) = descriptors.and_then(|descriptors| usize::try_from(descriptors).ok()) {
            limits.connections = limits.connections.min(descriptors.saturating_sub(KEPT_DESCRIPTORS)).max(1);
        }
        let mut serving = Vec::new();
        let bound: Vec<_> = grpc.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        for listener in grpc {
            let watcher: Arc<dyn Watcher> = Arc::clone(&self) as Arc<dyn Watcher>;
            serving.push(tokio::spawn(rpc::serve_tls(
                listener,
                receptions.clone(),
                routes.clone(),
                limits,
                watcher,
                stop.clone(),
            )));
        }
        for (face, listeners) in faces {
            for listener in listeners {
                serving.push(tokio::spawn(admin::serve(listener, face, Arc::clone(&self), stop.clone())));
            }
        }
        for cluster in self.settings.clusters.iter().filter(|cluster| cluster.jwks.is_none()) {
            serving.push(tokio::spawn(Arc::clone(&self).follow_keys(cluster.name.clone(), stop.clone())));
        }
        (self.say)("serving", json!({ "grpc": bound.iter().map(ToString::to_string).collect::<Vec<_>>() }));
        let mut stopped = stop.clone();
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                _ = seconds.tick() => {}
            }
            let server = Arc::clone(&self);
            // It may wait for the disk.
            let _ = tokio::task::spawn_blocking(move || server.look(SystemTime::now())).await;
            let now = Arc::clone(&self.desk.standing.borrow().reception);
            reception.send_if_modified(|before| {
                !Arc::ptr_eq(before, &now) && {
                    *before = now;
                    true
                }
            });
        }
        self.desk.ending.send_replace(true);
        for task in serving {
            let _ = task.await;
        }
        let server = Arc::clone(&self);
        let _ = tokio::task::spawn_blocking(move || server.act(What::Stopped, "", "", None, "ca")).await;
        Ok(())
    }

    /// Asks a cluster for its keys: at once, then now and then, and when a token names one that is not known here.
    async fn follow_keys(self: Arc<Self>, cluster: String, mut stop: watch::Receiver<bool>) {
        let Some(api) = self.desk.apis.get(&cluster) else { return };
        let mut before = None;
        loop {
            let asked = api.key_set().await;
            let pause = if asked.is_ok() { KEYS_EVERY } else { KEYS_AGAIN };
            if before.as_ref() != Some(&asked) {
                let parsed = asked
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|text| Jwks::parse(text).map_err(|error| error.to_string()));
                self.take_keys(&cluster, parsed);
                before = Some(asked);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.desk.keys_wanted.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn take_keys(&self, cluster: &str, read: Result<Jwks, String>) {
        // One after the other: each makes a new set of clusters from the last one.
        let _one = lock(&self.taking_keys);
        let clusters =
            read.and_then(|jwks| self.desk.clusters.load().with_keys(cluster, jwks).map_err(|error| error.to_string()));
        match clusters {
            Ok(clusters) => {
                self.desk.clusters.store(Arc::new(clusters));
                (self.say)("keys_changed", json!({ "cluster": cluster }));
            }
            // The old ones go on.
            Err(why) => (self.say)("keys_rejected", json!({ "cluster": cluster, "detail": why })),
        }
    }

    /// What each second brings: new keys of clusters, a changed deny list, a step of the rotation, a new issuer.
    fn look(&self, now: SystemTime) {
        self.desk.memory().expire(now);
        if !self.desk.log_works.load(Ordering::Relaxed) && self.act(What::LogResumed, "", "", None, "ca").is_ok() {
            (self.say)("log_resumed", json!({}));
        }
        self.look_at_key_sets();
        self.look_at_the_deny_list();
        self.rotate(now);
        if now >= self.desk.standing.borrow().replace_at {
            self.stand(now);
        }
    }

    fn look_at_key_sets(&self) {
        for set in lock(&self.key_sets).iter_mut() {
            if let Some(read) = set.changed() {
                self.take_keys(&set.cluster, read);
            }
        }
    }

    fn look_at_the_deny_list(&self) {
        match DenyList::load(&self.settings.dir) {
            Ok(list) if list.version() != self.denied_version.load(Ordering::Relaxed) => {
                self.denied_version.store(list.version(), Ordering::Relaxed);
                (self.say)("deny_list_changed", json!({ "version": list.version() }));
                self.desk.denied.send_replace(Arc::new(list));
            }
            Ok(_) => {}
            Err(error) => (self.say)("deny_list_rejected", json!({ "detail": error.to_string() })),
        }
    }

    /// What the rotation may do by itself: prepare near the end of the root, activate when everybody knows the new one, finish
    /// when nobody holds a leaf of the old one.
    fn rotate(&self, now: SystemTime) {
        let standing = Arc::clone(&self.desk.standing.borrow());
        let advice = {
            let memory = self.desk.memory();
            standing.rotation.advice(standing.root_life, |root| memory.roster.last_leaf(root, now), &self.schedule, now)
        };
        for advice in advice {
            let step = match advice {
                Advice::Prepare => Step::Prepare,
                Advice::AwaitGate { .. } => {
                    let verdict = self.desk.memory().roster.verdict(standing.rotation.sequence(), 0, now);
                    if verdict.met().is_none() {
                        continue;
                    }
                    Step::Activate { unasked: false }
                }
                Advice::Finish(_) => Step::Finish,
                Advice::Expired(_) | Advice::ExpiresSoon { .. } | Advice::Leaves { .. } => continue,
            };
            if let Err(why) = self.step(step, "ca") {
                (self.say)("rotation_refused", json!({ "detail": why }));
            }
            // The others were advised of a state that is no more.
            return;
        }
    }

    /// Takes a step, records it, and stands by the new state.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub(crate) fn step(&self, step: Step, by: &str) -> Result<(), String> {
        let now = SystemTime::now();
        let mut folder = lock(&self.folder);
        let sequence = folder.rotation().sequence();
        let text = |error: ca::CaError| error.to_string();
        let (what, subject, detail) = match step {
            Step::Prepare => {
                folder.prepare(self.keys(), now).map_err(text)?;
                let next = folder.rotation().next().map(|root| root.to_string()).unwrap_or_default();
                (What::RotationPrepared, next, String::new())
            }
            Step::Activate { unasked } => {
                let verdict = self.desk.memory().roster.verdict(sequence, ca::rotation::MAX_NAMED, now);
                let go = match (verdict.met(), unasked) {
                    (Some(met), _) => Go::Met(met),
                    (None, true) => Go::Override {
                        left_out: verdict.awaited.iter().map(|awaited| awaited.id.clone()).collect(),
                        total: u64::try_from(verdict.awaited_total).ok(),
                    },
                    (None, false) => {
                        let names = verdict.awaited.iter().take(3).map(|awaited| awaited.id.as_str());
                        return Err(format!(
                            "{} holders do not know the new root yet, among them {}; `override=true` does not wait for them",
                            verdict.awaited_total,
                            names.collect::<Vec<_>>().join(", ")
                        ));
                    }
                };
                let overridden = matches!(go, Go::Override { .. });
                folder.activate(go, self.schedule.splay, self.keys(), now).map_err(text)?;
                let what = if overridden { What::RotationOverridden } else { What::RotationActivated };
                (what, folder.rotation().issuing().to_string(), format!("{} not waited for", verdict.awaited_total))
            }
            Step::Rollback => {
                let leaves = self.leaves(now);
                folder.rollback(leaves, &self.schedule, self.keys(), now).map_err(text)?;
                (What::RotationRolledBack, folder.rotation().issuing().to_string(), String::new())
            }
            Step::Finish => {
                let before: Vec<RootId> = folder.rotation().retiring().collect();
                let cleared: Vec<_> = {
                    let mut memory = self.desk.memory();
                    before.iter().filter_map(|root| memory.roster.cleared(*root, now)).collect()
                };
                folder.finish(self.leaves(now), &cleared, &self.schedule, now).map_err(text)?;
                let left: Vec<String> = before.iter().map(ToString::to_string).collect();
                (What::RotationFinished, left.join(" "), String::new())
            }
            Step::Compromise { root, leave_after } => {
                let splay = self.schedule.splay_compromised.min(leave_after / 2);
                folder.compromise(root, now + leave_after, splay, self.keys(), now).map_err(text)?;
                (
                    What::RootCompromised,
                    root.to_string(),
                    format!("leaves in {} s at the latest", leave_after.as_secs()),
                )
            }
        };
        let sequence = folder.rotation().sequence();
        drop(folder);
        (self.say)(what.label(), json!({ "subject": subject, "sequence": sequence, "by": by }));
        self.stand(now);
        self.act(what, &subject, &detail, Some(sequence), by)
    }

    /// Stands by what the folder says now, with a new intermediate.
    fn stand(&self, now: SystemTime) {
        let made = {
            let folder = lock(&self.folder);
            let authority = folder.authority(self.keys(), now).map_err(|error| error.to_string());
            authority.and_then(|authority| Standing::make(&authority, &self.own, now))
        };
        match made {
            Ok(standing) => drop(self.desk.standing.send_replace(Arc::new(standing))),
            // The issuer of before goes on while it lives; readiness tells when that ends.
            Err(why) => (self.say)("issuer_rejected", json!({ "detail": why })),
        }
    }

    fn leaves(&self, now: SystemTime) -> impl Fn(RootId) -> LastLeaf + '_ {
        move |root| self.desk.memory().roster.last_leaf(root, now)
    }

    fn keys(&self) -> Keys<'_> {
        Keys { passphrase: self.passphrase.as_deref(), secret: self.settings.keys.as_deref() }
    }

    /// Records what was done. Waits for the disk.
    fn act(&self, what: What, subject: &str, detail: &str, bundle: Option<u64>, by: &str) -> Result<(), String> {
        let text = Text::bounded;
        let act = Act { what, subject: text(subject), detail: text(detail), bundle, by: text(by) };
        let written = self.desk.log.append_and_wait(SystemTime::now(), Event::Act(Box::new(act)));
        self.desk.log_works.store(written.is_ok(), Ordering::Relaxed);
        written.map(drop).map_err(|error| error.to_string())
    }

    /// Whether requests can be answered as they should be, and will be for as long as a certificate lives.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let now = SystemTime::now();
        let standing = Arc::clone(&self.desk.standing.borrow());
        let wanted = self.settings.lifetimes.default;
        let left = |end: SystemTime| end.duration_since(now).unwrap_or_default();
        if left(standing.own_not_after).is_zero() {
            return Err("the server's own certificate has ended".to_owned());
        }
        for (what, end) in [("root", standing.root_not_after), ("intermediate", standing.issuer.not_after())] {
            if left(end) < wanted {
                return Err(format!("the {what} ends before a certificate issued now should"));
            }
        }
        match self.desk.log_works.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("the audit log cannot be written".to_owned()),
        }
    }

    /// The text for Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let standing = Arc::clone(&self.desk.standing.borrow());
        let mut expiries =
            vec![("own".to_owned(), standing.own_not_after), ("intermediate".to_owned(), standing.issuer.not_after())];
        for root in standing.rotation.bundle() {
            if let Some(end) = standing.rotation.not_after(root) {
                expiries.push((format!("root {root}"), end));
            }
        }
        let (holders, certificates) = {
            let memory = self.desk.memory();
            (memory.roster.len(), memory.len())
        };
        self.desk.metrics.text(&Now {
            waiting: self.desk.turns.waiting(),
            holders,
            certificates,
            denied: self.desk.denied.borrow().entries(SystemTime::now()).len(),
            sequence: standing.rotation.sequence(),
            log_sequence: self.desk.log.head().seq,
            expiries,
        })
    }

    /// The state, for people and scripts.
    pub(crate) fn status(&self) -> Value {
        let now = SystemTime::now();
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let standing = Arc::clone(&self.desk.standing.borrow());
        let rotation = &standing.rotation;
        let (verdict, holders) = {
            let mut memory = self.desk.memory();
            (memory.roster.verdict(rotation.sequence(), ca::rotation::MAX_NAMED, now), memory.roster.len())
        };
        let roots: Vec<Value> = rotation
            .bundle()
            .into_iter()
            .map(|root| {
                json!({
                    "id": root.to_string(),
                    "issues": root == rotation.issuing(),
                    "not_after": rotation.not_after(root).map(seconds),
                    "holders": self.desk.memory().roster.holders_of(root),
                })
            })
            .collect();
        let awaited: Vec<Value> = verdict
            .awaited
            .iter()
            .map(|awaited| {
                json!({
                    "id": awaited.id,
                    "knows": awaited.knows,
                    "watches": awaited.watches,
                    "ends": seconds(awaited.ends),
                    "refused": awaited.nack,
                })
            })
            .collect();
        let head = self.desk.log.head();
        json!({
            "trust_domain": standing.bundle.trust_domain().as_str(),
            "id": self.own.id.as_str(),
            "ready": self.readiness().is_ok(),
            "phase": rotation.phase().word(),
            "sequence": rotation.sequence(),
            "roots": roots,
            "holders": holders,
            "awaited": awaited,
            "awaited_total": verdict.awaited_total,
            "gate_open": rotation.phase() == Phase::Prepared && verdict.met().is_some(),
            "own_not_after": seconds(standing.own_not_after),
            "intermediate_not_after": seconds(standing.issuer.not_after()),
            "log": { "records": head.seq, "head": head.hash.to_string() },
        })
    }
}

impl Watcher for Server {
    fn refused(&self, _address: Option<SocketAddr>, why: &Refused) {
        self.desk.metrics.handshake_refused(match why {
            Refused::Handshake(_) => "tls",
            Refused::TimedOut => "tls_timeout",
            Refused::Process(_) => "process",
        });
    }

    fn open(&self, connections: usize) {
        self.desk.metrics.connections.store(connections, Ordering::Relaxed);
    }
}

/// The log, read back.
fn recall(settings: &CaSettings, standing: &Standing, now: SystemTime) -> Result<Memory, ServerError> {
    let mut memory = Memory::new(settings.keys_per_token);
    let published = (standing.rotation.sequence(), standing.rotation.published());
    // The offline command may have issued for as long as an intermediate lives.
    let longest = settings.lifetimes.longest.max(Duration::from_secs(7 * 86_400));
    log::live(&settings.dir, now, longest, LONGEST_TOKEN, &mut |record, issue| {
        memory.recall(record, issue, published, now);
    })
    .map_err(error)?;
    Ok(memory)
}

fn apis(clusters: &[ClusterSettings]) -> BTreeMap<String, Api> {
    let of = |cluster: &ClusterSettings| {
        let api = cluster.api.clone()?;
        Some((cluster.name.clone(), Api { address: api.address, roots: api.roots, token: api.token }))
    };
    clusters.iter().filter_map(of).collect()
}

/// Where a cluster's keys are, and what they looked like.
struct KeySet {
    cluster: String,
    path: PathBuf,
    text: Vec<u8>,
}

impl KeySet {
    /// The keys, if the file is another than last time. What cannot be read is told once.
    fn changed(&mut self) -> Option<Result<Jwks, String>> {
        let text = read_keys(&self.path);
        match text {
            Ok(text) if text == self.text => None,
            Ok(text) => {
                let parsed = Jwks::parse(&text).map_err(|error| format!("{}: {error}", self.path.display()));
                self.text = text;
                Some(parsed)
            }
            Err(_) if self.text.is_empty() => None,
            Err(error) => {
                self.text.clear();
                Some(Err(format!("{}: {error}", self.path.display())))
            }
        }
    }
}

fn clusters(settings: &[ClusterSettings], domain: &TrustDomain) -> Result<(Clusters, Vec<KeySet>), ServerError> {
    let (mut clusters, mut sets) = (Vec::new(), Vec::new());
    for cluster in settings {
        let described = |error: &dyn std::fmt::Display| ServerError(format!("cluster `{}`: {error}", cluster.name));
        let keys = match &cluster.jwks {
            // A file that is there and wrong should be heard of at the start.
            Some(path) => {
                let in_file = |error: &dyn std::fmt::Display| ServerError(format!("{}: {error}", path.display()));
                let text = read_keys(path).map_err(|error| in_file(&error))?;
                let keys = Jwks::parse(&text).map_err(|error| in_file(&error))?;
                sets.push(KeySet { cluster: cluster.name.clone(), path: path.clone(), text });
                keys
            }
            // The cluster is asked once we run.
            None => Jwks::unknown(),
        };
        clusters.push(Cluster {
            name: cluster.name.clone(),
            issuer: cluster.issuer.clone(),
            audience: cluster.audience.clone(),
            keys: Arc::new(keys),
            template: Template::parse(&cluster.template).map_err(|error| described(&error))?,
            strict: cluster.strict,
        });
    }
    let clusters = Clusters::new(domain.clone(), TokenRules::default(), clusters).map_err(error)?;
    Ok((clusters, sets))
}

/// One byte more than a key set may have, so that one that is too large is refused by its reader.
fn read_keys(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut text = Vec::new();
    fs::File::open(path)?.take(MOST_KEYS).read_to_end(&mut text)?;
    Ok(text)
}

fn bind(listens: &[Listen]) -> Result<Vec<TcpListener>, ServerError> {
    let mut listeners = Vec::new();
    for listen in listens {
        match rpc::bind_tcp(listen.addr) {
            Ok(listener) => listeners.push(listener),
            Err(error) if listen.defaulted && rpc::family_is_missing(&error) => {}
            Err(error) => return Err(ServerError(format!("{}: {error}", listen.addr))),
        }
    }
    Ok(listeners)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request of 16 KiB, its token not counted, which stands in a header.
const MOST_MESSAGE: usize = 32 * 1024;
const KEYS_EVERY: Duration = Duration::from_secs(300);
const KEYS_AGAIN: Duration = Duration::from_secs(10);
/// For the log, the folder, admin, and what the runtime needs.
const KEPT_DESCRIPTORS: usize = 256;
const MOST_KEYS: u64 = (64 << 10) + 1;
