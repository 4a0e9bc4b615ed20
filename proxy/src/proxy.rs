//! Starting and steering the proxy: listeners, workers, the control thread, and what is published to them.

use crate::{
    accept::{self, Door},
    connection::Entry,
    descriptors::Descriptors,
    dns, drain, limits, listen,
    live::{Current, Published},
    observe::{
        admin::{self, Role},
        metrics::{Names, WorkerMetrics},
        sink::{Destination, Sink},
        status::Failures,
    },
    overload::{self, Overload},
    shares::Shares,
    taps::Taps,
    tls::Identity,
    worker::{LocalAddresses, Shared, Worker},
};
use config::{AccessSink, Listen, Snapshot};
use identity::Credentials;
use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{Semaphore, mpsc, oneshot},
};

/// A running proxy. Its threads live as long as the process.
pub struct Proxy {
    shared: Arc<Shared>,
    taps: Arc<Mutex<Taps>>,
    generation: AtomicU64,
    events: crate::observe::sink::Lines,
}

/// What the machine allows, where the file does not say.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Worker threads.
    pub workers: usize,
    /// Resident bytes from which load is shed. `None`: none is.
    pub memory_limit: Option<u64>,
    /// File descriptors this process may have open. `None`: not known.
    pub descriptors: Option<u64>,
    /// Resident bytes of this process. `None` where the system does not say: then nothing is shed.
    pub resident: fn() -> Option<u64>,
    /// Gives the operating system back what the calling thread's allocator has free.
    pub release_memory: fn(),
}

/// Why the proxy did not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener could not be opened: its place in the file, its address, and the system's answer.
    Listen(&'static str, SocketAddr, io::Error),
    /// No address of a listener that was asked for exists on this host.
    NoFamily(&'static str),
    /// A tap could not be started.
    Tap(io::Error),
    /// A limit of memory is written, and the system does not say how much is used.
    Memory,
    /// The access log could not be opened.
    Log(io::Error),
    /// The credentials do not make a TLS configuration.
    Tls(rustls::Error),
    /// A thread or its runtime could not be made.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(what, address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "{what}: {address} is taken by another process")
            }
            Self::Listen(what, address, error) => write!(f, "{what}: {address}: {error}"),
            Self::NoFamily(what) => write!(f, "{what}: the host has no address of any family of its defaults"),
            Self::Tap(error) => write!(f, "{error}"),
            Self::Memory => f.write_str(overload::BLIND),
            Self::Log(error) => write!(f, "access log: {error}"),
            Self::Tls(error) => write!(f, "credentials: {error}"),
            Self::Thread(error) => write!(f, "thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Proxy {
    /// Opens every listener, then serves. `host` holds where the file does not say.
    ///
    /// # Errors
    /// [`StartError`]; nothing is served then.
    pub fn start(snapshot: Snapshot, credentials: Arc<Credentials>, host: Host) -> Result<Self, StartError> {
        let settings = snapshot.proxy.clone();
        let overload = Overload::new(host.memory_limit, host.resident);
        if !overload.can_keep(settings.memory_limit) {
            return Err(StartError::Memory);
        }
        let mut data = Vec::new();
        for (what, entry, addresses) in
            [("inbound", Entry::Inbound, &settings.inbound), ("outbound", Entry::Outbound, &settings.outbound)]
        {
            data.extend(open_all(what, addresses)?.into_iter().map(|listener| (listener, entry)));
        }
        for service in &snapshot.services {
            let addresses: Vec<Listen> =
                service.bind.iter().map(|addr| Listen { addr: *addr, defaulted: false }).collect();
            data.extend(
                open_all("bind", &addresses)?
                    .into_iter()
                    .zip(&service.bind)
                    .map(|(listener, address)| (listener, Entry::Service(*address))),
            );
        }
        let mut control = Vec::new();
        for (what, role, addresses) in [
            ("admin", Role::Admin, &settings.admin),
            ("health", Role::Health, &settings.health),
            ("metrics", Role::Metrics, &settings.metrics),
        ] {
            control.extend(open_all(what, addresses)?.into_iter().map(|listener| (listener, role)));
        }
        let own = data
            .iter()
            .map(|(listener, _)| listener)
            .chain(control.iter().map(|(listener, _)| listener))
            .filter_map(|listener| listener.local_addr().ok())
            .collect();

        let workers = settings.workers.unwrap_or(host.workers).max(1);
        let names = Names::default();
        let mut taps = Taps::new(Arc::clone(&credentials));
        let running = taps.set(&snapshot.taps).map_err(StartError::Tap)?;
        let sink = Sink::start(destination(&snapshot)).map_err(StartError::Log)?;
        let identity = Identity::new(credentials).map_err(StartError::Tls)?;
        let published = Published::new(snapshot, 1, running, &names);
        let shared = Arc::new(Shared {
            release_memory: host.release_memory,
            descriptors: Descriptors::new(host.descriptors),
            overload,
            shares: Shares::default(),
            live: Current::new(Arc::new(published)),
            identity: Current::new(Arc::new(identity)),
            names,
            sink,
            metrics: (0..workers).map(|_| Arc::new(WorkerMetrics::default())).collect(),
            draining: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            accept_pauses: AtomicU64::new(0),
            own,
            started: Instant::now(),
            local_addresses: LocalAddresses,
            failures: Failures::default(),
        });
        let taps = Arc::new(Mutex::new(taps));
        spawn_workers(&shared, data)?;
        spawn_control(&shared, &taps, control)?;
        shared.serving.store(true, Ordering::Release);
        let events = shared.sink.events();
        Ok(Self { shared, taps, generation: AtomicU64::new(1), events })
    }

    /// Puts a newer snapshot in force, whole, and returns its generation. Open connections stay.
    ///
    /// # Errors
    /// What of the file needs a restart, or could not be started; the old snapshot stays in force then.
    pub fn publish(&self, snapshot: Snapshot) -> Result<u64, String> {
        let old = self.shared.live.load();
        if let Some(what) = needs_restart(&old.snapshot, &snapshot) {
            return Err(format!("{what} changed: this needs a restart; the rules in force stay as they were"));
        }
        if !self.shared.overload.can_keep(snapshot.proxy.memory_limit) {
            return Err(overload::BLIND.to_owned());
        }
        self.shared.sink.redirect(destination(&snapshot)).map_err(|error| format!("access log: {error}"))?;
        let taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner).set(&snapshot.taps);
        let taps = match taps {
            Ok(taps) => taps,
            Err(error) => {
                // All or nothing. Where lines went before, they can go again.
                let _ = self.shared.sink.redirect(destination(&old.snapshot));
                return Err(error.to_string());
            }
        };
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let published = Published::new(snapshot, generation, taps, &self.shared.names);
        self.shared.live.publish(Arc::new(published));
        self.shared.failures.policy_accepted();
        Ok(generation)
    }

    /// Writes text to stderr without ever waiting for its reader.
    pub fn event(&self, text: &str) {
        self.events.write(text.as_bytes());
    }

    /// A newer file was not accepted. It is shown in `/policy/status` until one is.
    pub fn reload_failed(&self, report: &config::Report) {
        self.shared.failures.policy(report);
    }

    /// A newer file is valid but cannot be put in force, and why.
    pub fn reload_refused(&self, why: &str) {
        self.shared.failures.policy_refused(why);
    }

    /// Digest of the file in force.
    #[must_use]
    pub fn digest(&self) -> String {
        self.shared.live.load().snapshot.digest.clone()
    }

    /// Whether the newest file was not accepted.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.shared.failures.is_policy_stale()
    }

    /// Puts newer credentials in force. New connections use them; open ones stay.
    ///
    /// # Errors
    /// The credentials do not make a TLS configuration; the old ones stay in force.
    pub fn publish_credentials(&self, credentials: Arc<Credentials>) -> Result<(), String> {
        let current = self.shared.identity.load();
        let same = current.credentials.chain() == credentials.chain()
            && current.credentials.bundle().roots() == credentials.bundle().roots()
            && current.credentials.bundle().denials() == credentials.bundle().denials();
        if same {
            // Connections made with them stay usable.
            self.shared.failures.credentials_accepted();
            return Ok(());
        }
        let identity = Identity::new(credentials).map_err(|error| error.to_string())?;
        self.taps.lock().unwrap_or_else(PoisonError::into_inner).renew(Arc::clone(&identity.credentials));
        self.shared.identity.publish(Arc::new(identity));
        self.shared.failures.credentials_accepted();
        Ok(())
    }

    /// Newer credentials were not accepted. It is shown in `/policy/status` until some are.
    pub fn credentials_failed(&self, why: String) {
        self.shared.failures.credentials(why);
    }

    /// Drains: returns when every connection has ended (true), or when the drain time is over (false).
    pub fn drain(&self) -> bool {
        let patience = self.shared.live.load().snapshot.proxy.timeouts.drain;
        drain::drain(&self.shared, patience)
    }

    /// Writes what logs and taps still hold. The process ends after this.
    pub fn finish(&self) {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner).stop();
        self.shared.sink.stop(Duration::from_secs(2));
    }
}

fn open_all(what: &'static str, addresses: &[Listen]) -> Result<Vec<TcpListener>, StartError> {
    let mut opened = Vec::new();
    for address in addresses {
        let listener = listen::open(*address).map_err(|error| StartError::Listen(what, address.addr, error))?;
        opened.extend(listener);
    }
    if opened.is_empty() && !addresses.is_empty() {
        return Err(StartError::NoFamily(what));
    }
    Ok(opened)
}

fn destination(snapshot: &Snapshot) -> Destination {
    match &snapshot.log.access {
        AccessSink::Stdout => Destination::Stdout,
        AccessSink::Off => Destination::Off,
        AccessSink::File(path) => Destination::File(path.clone()),
    }
}

/// What a reload cannot change, because it is bound or built at start.
fn needs_restart(old: &Snapshot, new: &Snapshot) -> Option<&'static str> {
    let (a, b) = (&old.proxy, &new.proxy);
    let binds =
        |snapshot: &Snapshot| snapshot.services.iter().flat_map(|service| service.bind.clone()).collect::<Vec<_>>();
    [
        (old.workload != new.workload, "workload"),
        (old.identity != new.identity, "[identity]"),
        (a.capture != b.capture, "[proxy] capture"),
        (a.inbound != b.inbound, "[proxy] inbound"),
        (a.outbound != b.outbound, "[proxy] outbound"),
        (a.admin != b.admin, "[proxy] admin"),
        (a.health != b.health, "[proxy] health"),
        (a.metrics != b.metrics, "[proxy] metrics"),
        (a.workers != b.workers, "[proxy] workers"),
        (binds(old) != binds(new), "[[service]] bind"),
    ]
    .into_iter()
    .find_map(|(changed, what)| changed.then_some(what))
}

fn spawn_workers(shared: &Arc<Shared>, listeners: Vec<(TcpListener, Entry)>) -> Result<(), StartError> {
    let mut doors = Vec::new();
    let mut receivers = Vec::new();
    for _ in &shared.metrics {
        // Unbounded by itself; the bound is the number of connections, taken before a connection is sent.
        let (send, receive) = mpsc::unbounded_channel();
        doors.push(Door { send, load: Arc::new(AtomicUsize::new(0)) });
        receivers.push(receive);
    }
    let mut listeners = Some(listeners);
    for (index, (receiver, metrics)) in receivers.into_iter().zip(&shared.metrics).enumerate() {
        let (shared, metrics, doors) = (Arc::clone(shared), Arc::clone(metrics), doors.clone());
        // The first worker accepts for all.
        let listeners = listeners.take().unwrap_or_default();
        run_thread(&format!("worker-{index}"), move || async move {
            metrics.counts_tasks();
            let worker = Worker::new(shared, index, metrics);
            for (listener, entry) in listeners {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::task::spawn_local(accept::accept(Rc::clone(&worker), listener, entry, doors.clone()));
            }
            tokio::task::spawn_local(accept::receive(Rc::clone(&worker), receiver));
            Ok(worker.housekeeping())
        })?;
    }
    Ok(())
}

fn spawn_control(
    shared: &Arc<Shared>,
    taps: &Arc<Mutex<Taps>>,
    listeners: Vec<(TcpListener, Role)>,
) -> Result<(), StartError> {
    let (shared, taps) = (Arc::clone(shared), Arc::clone(taps));
    run_thread("control", move || async move {
        tokio::task::spawn_local(overload::watch(Arc::clone(&shared)));
        for (listener, role) in listeners {
            // Each listener has places of its own: who fills the metrics port must not keep a health probe out.
            let places = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::task::spawn_local(admin::serve(listener, role, Arc::clone(&shared), places));
        }
        Ok(resolve_sensors(taps))
    })
}

/// Keeps the addresses of sensors that are names up to date.
async fn resolve_sensors(taps: Arc<Mutex<Taps>>) {
    loop {
        let named = taps.lock().unwrap_or_else(PoisonError::into_inner).named();
        let all_known = {
            let mut all = true;
            for (host, port, tap) in named {
                match dns::resolve_once(&host).await {
                    Ok(found) => {
                        let sensor = found.first().map(|ip| SocketAddr::new(*ip, port));
                        tap.set_sensor(sensor);
                    }
                    // The last good address serves on.
                    Err(_) => all = false,
                }
            }
            all
        };
        tokio::time::sleep(if all_known { limits::DNS_MAX_TTL / 2 } else { limits::DNS_MIN_TTL }).await;
    }
}

/// Runs a thread with a runtime of its own; returns when `start` has run inside it.
fn run_thread<S, F, R>(name: &str, start: S) -> Result<(), StartError>
where
    S: FnOnce() -> F + Send + 'static,
    F: Future<Output = io::Result<R>>,
    R: Future<Output = ()>,
{
    let (told, ready) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(told.send(Err(error))),
            };
            runtime.block_on(async move {
                match start().await {
                    Ok(rest) => {
                        let _ = told.send(Ok(()));
                        rest.await;
                    }
                    Err(error) => {
                        let _ = told.send(Err(error));
                    }
                }
            });
        })
        .map_err(StartError::Thread)?;
    match ready.blocking_recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(StartError::Thread(error)),
        Err(_gone) => Err(StartError::Thread(io::Error::other("the thread ended while starting"))),
    }
}
