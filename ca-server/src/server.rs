//! The life of a server: open the folder, listen, look at the clock and the files each second, end in order.

use crate::admin::{self, Face};
use crate::desk::{Desk, Parts, Shares};
use crate::istio::{Bounded, Istio};
use crate::key_sets::{self, KeySet};
use crate::kubernetes::Api;
use crate::memory::{LONGEST_TOKEN, Memory};
use crate::standing::{Own, Standing};
use crate::trust::Watching;
use crate::turns::Turns;
use ca::denied::DenyList;
use ca::log::{self, Act, Event, Log, LogKey, Text, What};
use ca::rotation::Schedule;
use ca::{Keys, RotatingFolder, Signatures, Tokens};
use config::{CaSettings, ClusterSettings, Listen};
use identity::SpiffeId;
use rpc::{Limits, Refused, Routes, Watcher};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
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
    pub(crate) desk: Arc<Desk>,
    pub(crate) folder: Mutex<RotatingFolder>,
    pub(crate) settings: CaSettings,
    pub(crate) passphrase: Option<Vec<u8>>,
    pub(crate) own: Own,
    pub(crate) schedule: Schedule,
    pub(crate) key_sets: Mutex<Vec<KeySet>>,
    pub(crate) taking_keys: Mutex<()>,
    /// Of the deny list on the disk.
    pub(crate) denied_version: AtomicU64,
    pub(crate) say: Say,
}

/// A sentence for the operator.
#[derive(Debug)]
pub struct ServerError(pub(crate) String);

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}

/// Takes any error that has a sentence.
pub(crate) fn error(error: impl std::fmt::Display) -> ServerError {
    ServerError(error.to_string())
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
        let standing = Standing::make(&authority, &own, signatures(settings), now).map_err(error)?;
        let log_key = LogKey::load(&settings.dir, passphrase.as_deref()).map_err(error)?;
        let (log, opened) = Log::open(&settings.dir, log_key, now, log::Settings::default()).map_err(error)?;
        let memory = recall(settings, &standing, now)?;
        let denied = DenyList::load(&settings.dir).map_err(error)?;
        let (clusters, key_sets) = key_sets::clusters(&settings.clusters, &domain)?;
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
            own: own.id.clone(),
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
        server.begun().map_err(error)?;
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
        let socket = self.settings.dir.join(SOCKET);
        match (rpc::bind_unix(&socket, 0o600), own_user()) {
            (Ok(listener), Some(user)) => {
                serving.push(tokio::spawn(admin::serve_unix(listener, user, Arc::clone(&self), stop.clone())));
            }
            // Everything else works; the commands say that they find no socket.
            (bound, _) => {
                let why =
                    bound.err().map_or("whose process this is cannot be seen".to_owned(), |error| error.to_string());
                (self.say)("socket_missing", json!({ "path": socket.display().to_string(), "detail": why }));
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
        let _ = std::fs::remove_file(&socket);
        let server = Arc::clone(&self);
        let _ = tokio::task::spawn_blocking(move || server.act(What::Stopped, "", "", None, "ca")).await;
        Ok(())
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

    /// Records that the server begins, and what it begins from: a step that was taken, and not recorded before a crash, is on
    /// record from here on.
    fn begun(&self) -> Result<(), String> {
        let (issuing, detail, sequence) = {
            let folder = lock(&self.folder);
            let rotation = folder.rotation();
            let phase = rotation.phase().word();
            let version = env!("CARGO_PKG_VERSION");
            let denied = self.desk.denied.borrow().entries(SystemTime::now()).len();
            let detail = format!("version {version}, {phase}, {denied} denied");
            (rotation.issuing().to_string(), detail, rotation.sequence())
        };
        self.act(What::Started, &issuing, &detail, Some(sequence), "ca")
    }

    /// Records what was done. Waits for the disk.
    pub(crate) fn act(
        &self,
        what: What,
        subject: &str,
        detail: &str,
        bundle: Option<u64>,
        by: &str,
    ) -> Result<(), String> {
        let text = Text::bounded;
        let act = Act { what, subject: text(subject), detail: text(detail), bundle, by: text(by) };
        let written = self.desk.log.append_and_wait(SystemTime::now(), Event::Act(Box::new(act)));
        self.desk.log_works.store(written.is_ok(), Ordering::Relaxed);
        written.map(drop).map_err(|error| error.to_string())
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

/// Of which leaves the signature is verified before they leave.
pub(crate) fn signatures(settings: &CaSettings) -> Signatures {
    if settings.verify_signatures { Signatures::Every } else { Signatures::First }
}

fn apis(clusters: &[ClusterSettings]) -> BTreeMap<String, Api> {
    let of = |cluster: &ClusterSettings| {
        let api = cluster.api.clone()?;
        Some((cluster.name.clone(), Api { address: api.address, roots: api.roots, token: api.token }))
    };
    clusters.iter().filter_map(of).collect()
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

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The user this process runs as, from the owner of our own entry in `/proc`.
fn own_user() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().map(|about| std::os::unix::fs::MetadataExt::uid(&about))
}

/// In the CA's folder, where commands look for a server.
pub const SOCKET: &str = "admin.sock";
/// A request of 16 KiB, its token not counted, which stands in a header.
const MOST_MESSAGE: usize = 32 * 1024;
/// For the log, the folder, admin, and what the runtime needs.
const KEPT_DESCRIPTORS: usize = 256;
