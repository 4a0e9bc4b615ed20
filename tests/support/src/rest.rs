//! What a sidecar holds when nothing is under way: gauges at zero, descriptors as at the start, memory.

use std::fmt;
use std::time::Duration;

use crate::pair::Setting;
use crate::sidecar::Sidecar;
use crate::wait;

/// What must come back to where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Connections of callers, both directions.
    pub downstream: u64,
    /// Requests under way.
    pub requests: u64,
    /// Connections to applications and other sidecars, idle ones included.
    pub upstream: u64,
    /// Handshakes under way.
    pub handshakes: u64,
    /// Open descriptors of the process.
    pub descriptors: usize,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { downstream, requests, upstream, handshakes, descriptors } = self;
        write!(
            f,
            "{downstream} connections, {requests} requests, {upstream} upstream, {handshakes} handshakes, {descriptors} descriptors"
        )
    }
}

/// Both files with idle upstream connections kept for a second only, so that rest comes soon.
#[must_use]
pub fn soon(setting: Setting) -> Setting {
    let short = |text: String| text.replace("[proxy]\n", "[proxy]\npool_idle_timeout = \"1s\"\n");
    setting.server(short).client(short)
}

/// What it holds now.
#[must_use]
pub fn held(sidecar: &Sidecar) -> Held {
    let metrics = sidecar.metrics();
    let gauge = |name: &str| metrics.sum(name, &[]) as u64;
    Held {
        downstream: gauge("envoy_http_downstream_cx_active"),
        requests: gauge("envoy_http_downstream_rq_active"),
        upstream: gauge("envoy_cluster_upstream_cx_active"),
        handshakes: gauge("sekisho_tls_handshakes_active"),
        descriptors: descriptors(sidecar),
    }
}

/// Waits until the gauges are at zero and gives what is held then: the base of a later [`returned`].
#[must_use]
pub fn base(sidecar: &Sidecar) -> Held {
    let mut last = None;
    let found = wait::within(Duration::from_secs(30), || {
        let now = held(sidecar);
        // The same twice: a scrape's own connection may still be closing.
        let rests = (now.downstream, now.requests, now.upstream, now.handshakes) == (0, 0, 0, 0);
        let same = last.replace(now) == Some(now);
        (rests && same).then_some(now)
    });
    found.unwrap_or_else(|| panic!("no rest: {}", last.map(|held| held.to_string()).unwrap_or_default()))
}

/// Waits until nothing more is held than at `base`; panics with what is left.
pub fn returned(sidecar: &Sidecar, base: Held) {
    let mut last = None;
    let found = wait::within(Duration::from_secs(30), || {
        let now = held(sidecar);
        last = Some(now);
        (Held { descriptors: 0, ..now } == Held { descriptors: 0, ..base } && now.descriptors <= base.descriptors)
            .then_some(())
    });
    if found.is_none() {
        let now = last.map(|held| held.to_string()).unwrap_or_default();
        panic!("not back at rest: {now}; it was: {base}; open: {:?}", targets(sidecar));
    }
}

/// What may be added to resident memory between the first round and the last, in KiB: an allocator's pages settle.
const GROWTH: u64 = 4 * 1024;

/// Panics when resident memory grew from the first of these rounds to the last one. The first round is what warms up.
pub fn assert_flat<const N: usize>(rounds: &[[u64; N]]) {
    let (Some(first), Some(last)) = (rounds.first(), rounds.last()) else { panic!("no rounds") };
    for (first, last) in first.iter().zip(last) {
        assert!(last.saturating_sub(*first) < GROWTH, "{} KiB more: {rounds:?}", last - first);
    }
}

/// Resident memory in KiB.
#[must_use]
pub fn resident(sidecar: &Sidecar) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Open descriptors of the process.
#[must_use]
pub fn descriptors(sidecar: &Sidecar) -> usize {
    targets(sidecar).len()
}

fn targets(sidecar: &Sidecar) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", sidecar.child.id())).unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}
