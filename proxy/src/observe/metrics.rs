//! Counters of the data path: one set per worker, summed when somebody scrapes.
//!
//! A worker is the only writer of its set, so a count is a load and a store, never a locked instruction. What has labels
//! (rule, upstream, status) lives in one small table per worker behind a lock that only a scrape contends for. Labels come
//! from the file (rules, services) and from status codes, never from a path, a header or a peer.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::runtime::{Handle, RuntimeMetrics};

/// Upper bounds of Envoy's default histogram buckets, in milliseconds.
pub(crate) const BUCKETS_MS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// A count or a level with one writer.
#[derive(Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
    pub(crate) fn inc(&self) {
        self.add(1);
    }
    pub(crate) fn dec(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one direction of one worker counted.
#[derive(Default)]
pub(crate) struct DirectionCells {
    pub(crate) connections: Cell,
    pub(crate) connections_active: Cell,
    pub(crate) tls_handshakes: Cell,
    /// Of these, the ones that took up an earlier session.
    pub(crate) tls_resumed: Cell,
    /// Under way now.
    pub(crate) tls_handshakes_active: Cell,
    pub(crate) tls_no_certificate: Cell,
    pub(crate) tls_verify_error: Cell,
    pub(crate) tls_verify_san: Cell,
    pub(crate) tls_connection_error: Cell,
    pub(crate) http1_connections: Cell,
    pub(crate) http2_connections: Cell,
    pub(crate) tcp_connections: Cell,
    pub(crate) requests: Cell,
    pub(crate) requests_active: Cell,
    pub(crate) protocol_errors: Cell,
    pub(crate) path_refused: Cell,
    pub(crate) idle_timeouts: Cell,
    pub(crate) allowed: Cell,
    pub(crate) denied: Cell,
    pub(crate) would_deny: Cell,
    pub(crate) overflow: Cell,
    pub(crate) bytes_received: Cell,
    pub(crate) bytes_sent: Cell,
}

/// Everything one worker counts.
#[derive(Default)]
pub(crate) struct WorkerMetrics {
    pub(crate) inbound: DirectionCells,
    pub(crate) outbound: DirectionCells,
    /// When the worker last swept, in milliseconds since the start: a worker that stands still is not ready.
    pub(crate) alive_ms: Cell,
    /// The worker's own runtime, which knows how many tasks live in it.
    runtime: OnceLock<RuntimeMetrics>,
    tables: Mutex<Tables>,
}

#[derive(Default)]
pub(crate) struct Tables {
    /// By [`Series::pack`].
    pub(crate) requests: HashMap<u64, u64, BuildHasherDefault<Mix>>,
    /// By upstream name id.
    pub(crate) upstreams: HashMap<u32, Upstream, BuildHasherDefault<Mix>>,
    /// Refusals by direction and reason; reasons are fixed words of the code.
    pub(crate) refusals: HashMap<(bool, &'static str), u64>,
}

/// What is known of one upstream (Envoy: cluster).
#[derive(Default, Clone)]
pub(crate) struct Upstream {
    pub(crate) requests: u64,
    pub(crate) connections: u64,
    pub(crate) connections_closed: u64,
    pub(crate) connect_failures: u64,
    pub(crate) time_buckets: [u64; 20],
    pub(crate) time_sum_ms: f64,
}

impl Upstream {
    fn observe(&mut self, time: Duration) {
        let ms = time.as_secs_f64() * 1e3;
        let at = BUCKETS_MS.iter().position(|bound| ms <= *bound).unwrap_or(BUCKETS_MS.len());
        if let Some(bucket) = self.time_buckets.get_mut(at) {
            *bucket += 1;
        }
        self.time_sum_ms += ms;
    }
}

/// The labels of one request, as small numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) inbound: bool,
    /// Name id of the rule; 0 for none.
    pub(crate) rule: u32,
    /// Name id of the upstream; 0 for none.
    pub(crate) upstream: u32,
    pub(crate) verdict: Verdict,
    pub(crate) status: u16,
}

/// The verdict as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No rule was asked: malformed, or the connection ended first.
    None,
    Allow,
    Deny,
    /// Allowed because the mode is `observe`; `enforce` would have denied.
    WouldDeny,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::WouldDeny => "would_deny",
        }
    }
}

impl Series {
    fn pack(self) -> u64 {
        u64::from(self.inbound)
            | (self.verdict as u64) << 1
            | u64::from(self.status) << 4
            | u64::from(self.rule & 0xf_ffff) << 20
            | u64::from(self.upstream & 0xf_ffff) << 40
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        let low = |value: u64, bits: u32| u32::try_from(value & ((1 << bits) - 1)).unwrap_or(0);
        Self {
            inbound: packed & 1 == 1,
            verdict: match packed >> 1 & 3 {
                0 => Verdict::None,
                1 => Verdict::Allow,
                2 => Verdict::Deny,
                _ => Verdict::WouldDeny,
            },
            status: u16::try_from(packed >> 4 & 0xffff).unwrap_or(0),
            rule: low(packed >> 20, 20),
            upstream: low(packed >> 40, 20),
        }
    }
}

impl WorkerMetrics {
    /// To be called once by the worker's own thread, inside its runtime.
    pub(crate) fn counts_tasks(&self) {
        let _ = self.runtime.set(Handle::current().metrics());
    }

    /// Tasks that live on the worker now: connections, HTTP/2 streams, and the two that accept. 0 before it runs.
    pub(crate) fn tasks(&self) -> usize {
        self.runtime.get().map_or(0, RuntimeMetrics::num_alive_tasks)
    }

    pub(crate) fn direction(&self, inbound: bool) -> &DirectionCells {
        if inbound { &self.inbound } else { &self.outbound }
    }

    /// One request ended. `time` is the time until the upstream's response head, when there was one.
    pub(crate) fn request(&self, series: Series, time: Option<Duration>) {
        let mut tables = self.tables();
        *tables.requests.entry(series.pack()).or_default() += 1;
        if series.upstream != 0 {
            let upstream = tables.upstreams.entry(series.upstream).or_default();
            upstream.requests += 1;
            if let Some(time) = time {
                upstream.observe(time);
            }
        }
    }

    pub(crate) fn refused(&self, inbound: bool, reason: &'static str) {
        *self.tables().refusals.entry((inbound, reason)).or_default() += 1;
    }

    pub(crate) fn upstream(&self, name: u32, change: impl FnOnce(&mut Upstream)) {
        change(self.tables().upstreams.entry(name).or_default());
    }

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names that become labels, as numbers that stay the same over reloads. Only rule and service names of accepted files
/// enter, so its size is bounded by what an operator wrote since the start.
#[derive(Default)]
pub(crate) struct Names {
    state: Mutex<(Vec<String>, HashMap<String, u32>)>,
}

impl Names {
    pub(crate) fn id(&self, name: &str) -> u32 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = state.1.get(name) {
            return *id;
        }
        state.0.push(name.to_owned());
        let id = u32::try_from(state.0.len()).unwrap_or(u32::MAX);
        state.1.insert(name.to_owned(), id);
        id
    }

    /// The name behind an id; empty for 0.
    pub(crate) fn name(&self, id: u32) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(id).unwrap_or(0).wrapping_sub(1);
        state.0.get(index).cloned().unwrap_or_default()
    }
}

/// A hasher for keys that are already small numbers of our own making.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        // Fibonacci hashing: the table takes its index from the high bits as well as the low ones.
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_survives_packing() {
        for verdict in [Verdict::None, Verdict::Allow, Verdict::Deny, Verdict::WouldDeny] {
            let series = Series { inbound: true, rule: 7, upstream: 1_000, verdict, status: 503 };
            assert_eq!(Series::unpack(series.pack()), series);
        }
    }

    #[test]
    fn ids_of_names_are_stable() {
        let names = Names::default();
        let first = names.id("web-reads-orders");
        assert_ne!(first, names.id("other"));
        assert_eq!(first, names.id("web-reads-orders"));
        assert_eq!(names.name(first), "web-reads-orders");
        assert_eq!(names.name(0), "");
    }
}
