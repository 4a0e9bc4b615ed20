//! The state of the policy and of the credentials, as `/policy/status`, `/ready` and the metrics tell it.
//!
//! A reload that failed leaves what was in force in force, and is remembered here until one succeeds: stale, and visibly so.

use crate::{observe::clock, worker::Shared};
use serde_json::{Value, json};
use std::{
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime},
};

/// What went wrong since the last success.
#[derive(Default)]
pub(crate) struct Failures {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    policy: Option<(SystemTime, Value)>,
    credentials: Option<(SystemTime, String)>,
    rejected: u64,
}

impl Failures {
    /// A file was not accepted.
    pub(crate) fn policy(&self, report: &config::Report) {
        let mut state = self.lock();
        state.rejected += 1;
        state.policy = Some((SystemTime::now(), problems(&report.problems)));
    }

    /// A valid file could not be put in force.
    pub(crate) fn policy_refused(&self, why: &str) {
        let mut state = self.lock();
        state.rejected += 1;
        let problem =
            json!({ "code": "restart", "severity": "error", "message": why, "line": 0, "column": 0, "help": null });
        state.policy = Some((SystemTime::now(), json!([problem])));
    }

    pub(crate) fn policy_accepted(&self) {
        self.lock().policy = None;
    }

    pub(crate) fn credentials(&self, why: String) {
        self.lock().credentials = Some((SystemTime::now(), why));
    }

    pub(crate) fn credentials_accepted(&self) {
        self.lock().credentials = None;
    }

    pub(crate) fn is_policy_stale(&self) -> bool {
        self.lock().policy.is_some()
    }

    pub(crate) fn is_credentials_stale(&self) -> bool {
        self.lock().credentials.is_some()
    }

    pub(crate) fn rejected(&self) -> u64 {
        self.lock().rejected
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn problems(problems: &[config::Problem]) -> Value {
    let mut report = config::Report { problems: problems.to_vec() }.to_json();
    report.get_mut("problems").map_or(Value::Null, Value::take)
}

/// The document behind `GET /policy/status`.
pub(crate) fn policy(shared: &Shared) -> Value {
    let published = shared.live.load();
    let identity = shared.identity.load();
    let state = shared.failures.lock();
    let snapshot = &published.snapshot;
    let rules = |direction| {
        snapshot
            .rules
            .rules(direction)
            .iter()
            .map(|rule| json!({ "name": &*rule.name, "action": rule.action.as_str(), "owner": rule.owner, "ticket": rule.ticket }))
            .collect::<Vec<_>>()
    };
    let svid = identity.credentials.svid();
    json!({
        "schema": 1,
        "workload": snapshot.workload.as_str(),
        "generation": published.generation,
        "digest": snapshot.digest,
        "since": clock::text(published.since),
        "mode": snapshot.mode.as_str(),
        "stale": state.policy.is_some(),
        "problems": state.policy.as_ref().map_or_else(|| json!([]), |(_, problems)| problems.clone()),
        "rejected_at": state.policy.as_ref().map(|(at, _)| clock::text(*at)),
        "rejected_total": state.rejected,
        "warnings": problems(&snapshot.warnings),
        "rules": { "inbound": rules(policy::Direction::Inbound), "outbound": rules(policy::Direction::Outbound) },
        "certificate": {
            "id": svid.id().as_str(),
            "serial": svid.serial(),
            "not_before": clock::text(svid.not_before()),
            "not_after": clock::text(svid.not_after()),
            "since": clock::text(identity.since),
            "stale": state.credentials.is_some(),
            "problem": state.credentials.as_ref().map(|(at, why)| json!({ "at": clock::text(*at), "why": why })),
        },
    })
}

/// Whether connections can be served; the state's name (Envoy's) and, if it is not, why.
pub(crate) fn readiness(shared: &Shared) -> Result<&'static str, (&'static str, &'static str)> {
    if shared.draining.load(Ordering::Relaxed) {
        return Err(("DRAINING", "the proxy is draining"));
    }
    if !shared.serving.load(Ordering::Acquire) {
        return Err(("PRE_INITIALIZING", "listeners are not open yet"));
    }
    if shared.identity.load().credentials.svid().not_after() <= SystemTime::now() {
        return Err(("INITIALIZING", "the certificate has expired"));
    }
    let now = u64::try_from(shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let stuck = Duration::from_secs(10).as_millis();
    if shared.metrics.iter().any(|worker| u128::from(now.saturating_sub(worker.alive_ms.get())) > stuck) {
        return Err(("INITIALIZING", "a worker does not answer"));
    }
    Ok("LIVE")
}
