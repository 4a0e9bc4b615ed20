//! What an operator and a probe see of the server: readiness, metrics, state.

use crate::metrics::Now;
use crate::server::Server;
use ca::rotation::Phase;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

impl Server {
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
