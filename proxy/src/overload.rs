//! Shedding load before the kernel kills: how near resident memory is to its limit, and what that forbids.
//!
//! The control thread looks at the resident set many times a second, a worker whenever it has put much aside, and the one of
//! four levels that follows is one number that everybody reads. The steps follow Envoy's overload manager (`shrink_heap`, `stop_accepting_connections`,
//! `stop_accepting_requests`, `reduce_timeouts`), with thresholds that leave room for what is under way:
//!
//! | level | from | what |
//! | --- | --- | --- |
//! | calm | | nothing |
//! | shrink | 80 % | workers give free memory back |
//! | refuse | 88 % | new connections are closed, new requests answered 503, connections between two requests closed |
//! | cut | 94 % | streams that stand still end after a second instead of `idle_timeout` |

use crate::{limits, worker::Shared};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The resident set is looked at again before memory could fill up, if it grew as fast as bytes can be received: half of what
/// is free at 1 GiB a second. Within these bounds.
const FILLING: u64 = 2 << 30;
const SOONEST: Duration = Duration::from_millis(2);
const LATEST: Duration = Duration::from_millis(100);

/// Thousandths of the limit from which each level holds.
const SHRINK: u64 = 800;
const REFUSE: u64 = 880;
const CUT: u64 = 940;
/// A level ends only this much below where it begins, so that it does not come and go with every request.
const SLACK: u64 = 30;

/// How near memory is to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Level {
    #[default]
    Calm,
    Shrink,
    Refuse,
    Cut,
}

/// What is said of a limit that cannot be kept. One that is the cgroup's is the kernel's to keep.
pub(crate) const BLIND: &str =
    "memory_limit: /proc/self/statm cannot be read, so load could not be shed: mount /proc, or remove the key";

/// The level in force, and what it has done.
pub(crate) struct Overload {
    /// The limit where the file names none.
    host_limit: Option<u64>,
    resident: fn() -> Option<u64>,
    level: AtomicU8,
    /// The limit in bytes; 0 for none.
    limit: AtomicU64,
    /// Bytes that handshakes under way are going to need.
    promised: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    streams: AtomicU64,
}

impl Overload {
    /// Calm. `resident` tells the bytes of this process in memory.
    pub(crate) fn new(host_limit: Option<u64>, resident: fn() -> Option<u64>) -> Self {
        Self {
            host_limit,
            resident,
            level: AtomicU8::default(),
            limit: AtomicU64::default(),
            promised: AtomicU64::default(),
            connections: AtomicU64::default(),
            requests: AtomicU64::default(),
            streams: AtomicU64::default(),
        }
    }

    pub(crate) fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Calm,
            1 => Level::Shrink,
            2 => Level::Refuse,
            _ => Level::Cut,
        }
    }

    /// Whether nothing new is taken on.
    pub(crate) fn refuses(&self) -> bool {
        self.level() >= Level::Refuse
    }

    /// A connection was closed because memory runs short.
    pub(crate) fn shed_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered 503.
    pub(crate) fn shed_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream that stood still was ended before its time.
    pub(crate) fn shed_stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// What was shed so far.
    pub(crate) fn shed(&self) -> [(&'static str, u64); 3] {
        [("connection", &self.connections), ("request", &self.requests), ("stream", &self.streams)]
            .map(|(what, count)| (what, count.load(Ordering::Relaxed)))
    }

    /// The limit in bytes. `None`: there is none.
    pub(crate) fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// Resident bytes now.
    pub(crate) fn resident(&self) -> Option<u64> {
        (self.resident)()
    }

    /// Whether a limit that the file names, if it names one, can be kept: not where the system hides what is used.
    pub(crate) fn can_keep(&self, from_file: Option<u64>) -> bool {
        from_file.is_none() || self.resident().is_some()
    }

    /// Takes a look, and says when the next one is due. `from_file` is the limit that the file names.
    pub(crate) fn look(&self, from_file: Option<u64>) -> Duration {
        let limit = from_file.or(self.host_limit);
        self.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
        let (level, wait) = match (limit, self.resident()) {
            (Some(limit), Some(resident)) => {
                let used = resident.saturating_add(self.promised.load(Ordering::Relaxed));
                (next(self.level(), used, limit), until_next(used, limit))
            }
            _ => (Level::Calm, LATEST),
        };
        self.level.store(level as u8, Ordering::Relaxed);
        wait
    }
}

/// Memory that a handshake under way is going to need: it counts as used before it is.
pub(crate) struct Promise(Arc<Shared>);

impl Promise {
    /// Holds until dropped.
    pub(crate) fn of_handshake(shared: &Arc<Shared>) -> Self {
        shared.overload.promised.fetch_add(limits::HANDSHAKE_BYTES, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.overload.promised.fetch_sub(limits::HANDSHAKE_BYTES, Ordering::Relaxed);
    }
}

/// Watches the resident set until the process ends.
pub(crate) async fn watch(shared: Arc<Shared>) {
    loop {
        let wait = shared.overload.look(shared.live.load().snapshot.proxy.memory_limit);
        tokio::time::sleep(wait).await;
    }
}

/// Time until the next look.
fn until_next(used: u64, limit: u64) -> Duration {
    let micros = limit.saturating_sub(used).saturating_mul(1_000_000) / FILLING;
    Duration::from_micros(micros).clamp(SOONEST, LATEST)
}

/// The level that follows `was`.
fn next(was: Level, used: u64, limit: u64) -> Level {
    let Some(used) = used.saturating_mul(1000).checked_div(limit) else { return Level::Calm };
    let holds = |level: Level, from: u64| used >= if was >= level { from - SLACK } else { from };
    [(Level::Cut, CUT), (Level::Refuse, REFUSE), (Level::Shrink, SHRINK)]
        .into_iter()
        .find_map(|(level, from)| holds(level, from).then_some(level))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_begins_at_its_threshold_and_ends_a_little_below() {
        let after = |was, used| next(was, used, 1000);
        assert_eq!(after(Level::Calm, 799), Level::Calm);
        assert_eq!(after(Level::Calm, 800), Level::Shrink);
        assert_eq!(after(Level::Shrink, 879), Level::Shrink);
        assert_eq!(after(Level::Shrink, 880), Level::Refuse);
        assert_eq!(after(Level::Refuse, 860), Level::Refuse);
        assert_eq!(after(Level::Refuse, 849), Level::Shrink);
        assert_eq!(after(Level::Calm, 2000), Level::Cut);
        assert_eq!(after(Level::Cut, 100), Level::Calm);
    }

    #[test]
    fn a_limit_of_the_file_needs_to_be_seen() {
        let (sees, blind) = (Overload::new(None, || Some(1)), Overload::new(Some(1), || None));
        assert!(sees.can_keep(Some(1)) && sees.can_keep(None) && blind.can_keep(None));
        assert!(!blind.can_keep(Some(1)));
    }

    #[test]
    fn without_a_limit_nothing_is_shed() {
        let overload = Overload::new(None, || Some(u64::MAX));
        assert_eq!(overload.look(None), LATEST);
        assert_eq!((overload.level(), overload.limit()), (Level::Calm, None));
        let overload = Overload::new(Some(1), || None);
        assert_eq!(overload.look(None), LATEST);
        assert!(!overload.refuses());
    }

    #[test]
    fn the_file_has_the_word_before_the_host() {
        let overload = Overload::new(Some(1 << 30), || Some(62 << 20));
        overload.look(Some(64 << 20));
        assert_eq!((overload.level(), overload.limit()), (Level::Cut, Some(64 << 20)));
        overload.look(None);
        assert_eq!(overload.level(), Level::Calm);
    }

    #[test]
    fn the_nearer_the_limit_the_sooner_the_next_look() {
        assert_eq!(until_next(0, 1 << 40), LATEST);
        assert_eq!(until_next(32 << 20, 64 << 20), Duration::from_micros(15_625));
        assert_eq!(until_next(70 << 20, 64 << 20), SOONEST);
    }
}
