//! A served socket, and what its observer heard.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)] // each test uses a part; a failure in here is a failed test

pub mod papers;

use agent::{Api, Callers, Material, Observer, Settings, Surroundings};
use papers::Papers;
use rpc::{Channel, Limits, Process, Refused, Watcher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const SOON: Duration = Duration::from_secs(20);
pub const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

pub fn material(papers: &Papers) -> Arc<Material> {
    let Papers { id, chain, key, roots, .. } = papers;
    Arc::new(Material::from_pem(chain.as_bytes(), key.as_bytes(), roots.as_bytes(), id, SystemTime::now()).unwrap())
}

pub struct Socket {
    pub path: PathBuf,
    pub identity: watch::Sender<Option<Arc<Material>>>,
    pub events: Arc<Events>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

pub struct Setting {
    pub settings: Settings,
    pub surroundings: Surroundings,
    pub callers: Callers,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            settings: Settings { splay: Duration::from_millis(20), ..Settings::default() },
            surroundings: Surroundings::real(),
            callers: Callers::only(own_user()),
        }
    }
}

impl Socket {
    pub fn serve(first: Option<&Papers>) -> Self {
        Self::with(first, Setting::default())
    }

    pub fn with(first: Option<&Papers>, setting: Setting) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (identity, published) = watch::channel(first.map(material));
        let (stop, stopped) = watch::channel(false);
        let events = Arc::new(Events::default());
        let observer = Arc::clone(&events) as Arc<dyn Observer>;
        let callers = setting.callers;
        let server = tokio::spawn(rpc::serve_unix(
            rpc::bind_unix(&path, 0o660).unwrap(),
            Arc::new(move |process| callers.admit(process)),
            agent::routes(published, setting.settings, setting.surroundings, observer, &agent::Readers::default()),
            Limits::default(),
            Arc::clone(&events) as Arc<dyn Watcher>,
            stopped,
        ));
        Self { path, identity, events, stop, server, _folder: folder }
    }

    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    pub async fn channel(&self) -> Channel {
        Channel::unix(&self.path, SOON).await.unwrap()
    }

    pub fn publish(&self, papers: &Papers) {
        self.identity.send_replace(Some(material(papers)));
    }

    /// Ends it as a crash would: every connection is cut.
    pub fn kill(&self) {
        self.server.abort();
        self.stop.send_replace(true);
    }
}

/// What the observer heard, in order, as lines.
#[derive(Default)]
pub struct Events(Mutex<Vec<String>>);

impl Events {
    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub fn count(&self, part: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub async fn wait_for(&self, part: &str, times: usize) {
        eventually(part, || (self.count(part) >= times).then_some(())).await;
    }
}

impl Observer for Events {
    fn streams(&self, api: Api, open: usize) {
        self.add(format!("streams {} {open}", api.label()));
    }

    fn served(&self, api: Api, _process: Process, version: &str) {
        self.add(format!("served {} {version}", api.label()));
    }

    fn refused(&self, api: Api, _process: Option<Process>, why: &str) {
        self.add(format!("refused {} {why}", api.label()));
    }

    fn rejected(&self, _process: Process, version: &str, why: &str) {
        self.add(format!("rejected {version} {why}"));
    }

    fn stale(&self, _process: Process) {
        self.add("stale".to_owned());
    }
}

impl Watcher for Events {
    fn refused(&self, _address: Option<SocketAddr>, why: &Refused) {
        self.add(format!("connection refused {why:?}"));
    }

    fn open(&self, connections: usize) {
        self.add(format!("connections {connections}"));
    }
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it takes too long")
}

pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn own_user() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap())
}
