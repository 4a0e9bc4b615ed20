//! The rotation of roots while a server runs: what the operator asks for, and what the clock and the holders bring about.

use crate::server::{Server, lock, signatures};
use crate::standing::Standing;
use ca::log::What;
use ca::rotation::{Advice, Go, LastLeaf, RootId};
use ca::{CaError, Keys};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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

/// Why something an operator asked for was not done, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    /// The state does not allow it, or not yet.
    NotNow(String),
    /// It is wrong in itself.
    Wrong(String),
    /// It was tried.
    Failed(String),
}

impl std::fmt::Display for Undone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotNow(why) | Self::Wrong(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl From<CaError> for Undone {
    fn from(error: CaError) -> Self {
        match error {
            CaError::Refused(_) => Self::NotNow(error.to_string()),
            CaError::Deny(_) | CaError::JoinToken(_) | CaError::OtherDomain { .. } | CaError::NoPath(_) => {
                Self::Wrong(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
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
    /// What the rotation may do by itself: prepare near the end of the root, activate when everybody knows the new one, finish
    /// when nobody holds a leaf of the old one.
    pub(crate) fn rotate(&self, now: SystemTime) {
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
                (self.say)("rotation_refused", json!({ "detail": why.to_string() }));
            }
            // The others were advised of a state that is no more.
            return;
        }
    }

    /// Takes a step, records it, and stands by the new state.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub(crate) fn step(&self, step: Step, by: &str) -> Result<(), Undone> {
        let now = SystemTime::now();
        let mut folder = lock(&self.folder);
        let sequence = folder.rotation().sequence();
        let (what, subject, detail) = match step {
            Step::Prepare => {
                folder.prepare(self.keys(), now)?;
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
                        return Err(Undone::NotNow(format!(
                            "{} holders do not know the new root yet, among them {}; `override=true` does not wait for them",
                            verdict.awaited_total,
                            names.collect::<Vec<_>>().join(", ")
                        )));
                    }
                };
                let overridden = matches!(go, Go::Override { .. });
                folder.activate(go, self.schedule.splay, self.keys(), now)?;
                let what = if overridden { What::RotationOverridden } else { What::RotationActivated };
                (what, folder.rotation().issuing().to_string(), format!("{} not waited for", verdict.awaited_total))
            }
            Step::Rollback => {
                let leaves = self.leaves(now);
                folder.rollback(leaves, &self.schedule, self.keys(), now)?;
                (What::RotationRolledBack, folder.rotation().issuing().to_string(), String::new())
            }
            Step::Finish => {
                let before: Vec<RootId> = folder.rotation().retiring().collect();
                let cleared: Vec<_> = {
                    let mut memory = self.desk.memory();
                    before.iter().filter_map(|root| memory.roster.cleared(*root, now)).collect()
                };
                folder.finish(self.leaves(now), &cleared, &self.schedule, now)?;
                let left: Vec<String> = before.iter().map(ToString::to_string).collect();
                (What::RotationFinished, left.join(" "), String::new())
            }
            Step::Compromise { root, leave_after } => {
                let splay = self.schedule.splay_compromised.min(leave_after / 2);
                folder.compromise(root, now + leave_after, splay, self.keys(), now)?;
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
        self.act(what, &subject, &detail, Some(sequence), by).map_err(Undone::Failed)
    }

    /// Stands by what the folder says now, with a new intermediate.
    pub(crate) fn stand(&self, now: SystemTime) {
        let made = {
            let folder = lock(&self.folder);
            let authority = folder.authority(self.keys(), now).map_err(|error| error.to_string());
            authority.and_then(|authority| Standing::make(&authority, &self.own, signatures(&self.settings), now))
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
}
