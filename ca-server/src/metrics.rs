//! What is counted, and its text for Prometheus.

use ca::Ignored;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The counters of one server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) connections: AtomicUsize,
    pub(crate) watches: AtomicUsize,
    issued: Labelled,
    refused: Labelled,
    ignored: Labelled,
    handshakes_refused: Labelled,
    latency: Latency,
}

impl Metrics {
    /// A certificate left, by this kind of evidence, so long after its request came.
    pub(crate) fn issued(&self, evidence: &'static str, after: Duration) {
        self.issued.add(evidence);
        self.latency.add(after);
    }

    /// A request was refused, for this reason.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.add(reason);
    }

    /// What a request held besides its key, and that went nowhere.
    pub(crate) fn ignored(&self, ignored: &Ignored) {
        let Ignored { subjects, names, extensions, attributes } = *ignored;
        for (what, count) in
            [("subject", subjects), ("name", names), ("extension", extensions), ("attribute", attributes)]
        {
            if count > 0 {
                self.ignored.add_many(what, count);
            }
        }
    }

    /// A connection came to nothing.
    pub(crate) fn handshake_refused(&self, reason: &'static str) {
        self.handshakes_refused.add(reason);
    }

    /// All of it, with what only the moment knows.
    pub(crate) fn text(&self, now: &Now) -> String {
        let mut out = String::with_capacity(4096);
        self.issued.write("sekisho_ca_issued_total", "Certificates issued, by evidence.", "evidence", &mut out);
        self.refused.write("sekisho_ca_refused_total", "Requests refused, by reason.", "reason", &mut out);
        let help = "What requests held besides a key, and that went nowhere.";
        self.ignored.write("sekisho_ca_csr_ignored_total", help, "what", &mut out);
        let name = "sekisho_ca_connections_refused_total";
        self.handshakes_refused.write(name, "Connections that came to nothing, by reason.", "reason", &mut out);
        self.latency.write(&mut out);
        for (name, help, value) in [
            ("sekisho_ca_connections", "Open connections.", self.connections.load(Ordering::Relaxed)),
            ("sekisho_ca_watches", "Open watches of the bundle.", self.watches.load(Ordering::Relaxed)),
            ("sekisho_ca_waiting", "Requests that wait for their turn.", now.waiting),
            ("sekisho_ca_holders", "Holders of a certificate that has not ended.", now.holders),
            ("sekisho_ca_certificates", "Certificates that have not ended.", now.certificates),
            ("sekisho_ca_denied", "Entries of the deny list.", now.denied),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        for (name, help, value) in [
            ("sekisho_ca_bundle_sequence", "The bundle's number.", now.sequence),
            ("sekisho_ca_log_records", "The number of the last record in the audit log.", now.log_sequence),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        let name = "sekisho_ca_certificate_expiry_seconds";
        let _ = writeln!(out, "# HELP {name} Unix time of the last second of each certificate in chain and bundle.");
        let _ = writeln!(out, "# TYPE {name} gauge");
        for (what, end) in &now.expiries {
            let seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let _ = writeln!(out, "{name}{{certificate=\"{what}\"}} {seconds}");
        }
        out
    }
}

/// What is not counted but is so.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) waiting: usize,
    pub(crate) holders: usize,
    pub(crate) certificates: usize,
    pub(crate) denied: usize,
    pub(crate) sequence: u64,
    pub(crate) log_sequence: u64,
    /// `own`, `intermediate`, and `root <id>` each.
    pub(crate) expiries: Vec<(String, SystemTime)>,
}

/// A counter for each word of a fixed set.
#[derive(Debug, Default)]
struct Labelled(Mutex<BTreeMap<&'static str, u64>>);

impl Labelled {
    fn add(&self, label: &'static str) {
        self.add_many(label, 1);
    }

    fn add_many(&self, label: &'static str, more: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(label).or_default();
        *count = count.saturating_add(more);
    }

    fn write(&self, name: &str, help: &str, label: &str, out: &mut String) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for (word, count) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "{name}{{{label}=\"{word}\"}} {count}");
        }
    }
}

/// How long requests took.
#[derive(Debug, Default)]
struct Latency {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

/// Upper bounds in milliseconds: an issue takes about one.
const BOUNDS: [u64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000];

impl Latency {
    fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            if micros <= bound * 1000 {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn write(&self, out: &mut String) {
        let name = "sekisho_ca_issue_seconds";
        let _ = writeln!(out, "# HELP {name} From a request to its certificate.\n# TYPE {name} histogram");
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            let (bound, count) = (*bound as f64 / 1000.0, bucket.load(Ordering::Relaxed));
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum {}", self.micros.load(Ordering::Relaxed) as f64 / 1e6);
        let _ = writeln!(out, "{name}_count {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_count() {
        let metrics = Metrics::default();
        metrics.issued("kubernetes", Duration::from_millis(3));
        metrics.issued("kubernetes", Duration::from_millis(30));
        metrics.refused("csr_signature");
        let text = metrics.text(&Now {
            waiting: 0,
            holders: 2,
            certificates: 2,
            denied: 0,
            sequence: 7,
            log_sequence: 9,
            expiries: vec![("own".to_owned(), SystemTime::UNIX_EPOCH + Duration::from_secs(5))],
        });
        for line in [
            "sekisho_ca_issued_total{evidence=\"kubernetes\"} 2",
            "sekisho_ca_refused_total{reason=\"csr_signature\"} 1",
            "sekisho_ca_issue_seconds_bucket{le=\"0.005\"} 1",
            "sekisho_ca_issue_seconds_bucket{le=\"0.05\"} 2",
            "sekisho_ca_issue_seconds_count 2",
            "sekisho_ca_bundle_sequence 7",
            "sekisho_ca_certificate_expiry_seconds{certificate=\"own\"} 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
