//! What should happen next, by the clock: a pure reading of the state.
//!
//! In come the state, the time and the operator's schedule; out comes what to warn of and what the server may do
//! by itself. Preparing may be automatic, since it takes nothing away. Activating needs the gate, and finishing
//! the leaves' end, so they are only named when they are due.

use std::time::{Duration, SystemTime};

use super::{LastLeaf, Phase, RootId, Rotation, at, leaves_until, seconds};

/// The operator's choices, with defaults that fit a root of ten years and leaves of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// A new root is prepared when this part of the issuing root's life is left, in percent. 0: never by itself.
    pub prepare_at_percent_left: u8,
    /// A root whose end is nearer is warned of.
    pub warn_before: Duration,
    /// How far clocks of holders may be behind: a root stays so much longer than its last leaf.
    pub skew: Duration,
    /// Over how long renewals are spread after a change of the issuing root.
    pub splay: Duration,
    /// The same after a compromise.
    pub splay_compromised: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            prepare_at_percent_left: 33,
            warn_before: Duration::from_secs(30 * 24 * 3600),
            skew: Duration::from_secs(600),
            splay: Duration::from_secs(600),
            splay_compromised: Duration::from_secs(30),
        }
    }
}

/// One thing to do or to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The root has expired: nothing that it signs or signed is valid.
    Expired(RootId),
    /// The issuing root ends soon.
    ExpiresSoon {
        /// The root.
        root: RootId,
        /// Its last second.
        at: SystemTime,
    },
    /// It is time to prepare a new root.
    Prepare,
    /// A new root waits for the gate.
    AwaitGate {
        /// Which root.
        root: RootId,
        /// Since when everybody can know it.
        since: SystemTime,
    },
    /// A retiring root leaves after this time.
    Leaves {
        /// Which root.
        root: RootId,
        /// The last second it must stay, as far as known.
        until: SystemTime,
    },
    /// A retiring root may leave now: finish.
    Finish(RootId),
}

impl Rotation {
    /// What should happen, most urgent first. `life` is how long the issuing root is valid in all.
    pub fn advice(
        &self,
        life: Duration,
        last_leaf: impl Fn(RootId) -> LastLeaf,
        schedule: &Schedule,
        now: SystemTime,
    ) -> Vec<Advice> {
        let mut advice = Vec::new();
        let now_seconds = seconds(now);
        let left = self.issuing.not_after.saturating_sub(now_seconds);
        if self.issuing.not_after < now_seconds {
            advice.push(Advice::Expired(self.issuing.id));
        } else if left <= schedule.warn_before.as_secs() {
            advice.push(Advice::ExpiresSoon { root: self.issuing.id, at: at(self.issuing.not_after) });
        }
        let threshold = u128::from(life.as_secs()) * u128::from(schedule.prepare_at_percent_left.min(100)) / 100;
        if self.phase() == Phase::Steady && schedule.prepare_at_percent_left > 0 && u128::from(left) <= threshold {
            advice.push(Advice::Prepare);
        }
        if let Some(next) = &self.next {
            advice.push(Advice::AwaitGate { root: next.id, since: at(self.published) });
        }
        for retiring in &self.retiring {
            let leaves = leaves_until(&retiring.root, last_leaf(retiring.root.id), schedule.skew);
            let until = retiring.leave_by.map_or(leaves, |leave_by| leave_by.min(leaves));
            advice.push(match now_seconds > until {
                true => Advice::Finish(retiring.root.id),
                false => Advice::Leaves { root: retiring.root.id, until: at(until) },
            });
        }
        advice
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rotation::NewRoot;

    const LIFE: u64 = 100_000_000;

    fn root(number: u8) -> NewRoot {
        NewRoot { id: RootId::of_key(&[number]), not_after: at(LIFE) }
    }

    #[test]
    fn a_root_is_prepared_in_its_last_third_and_warned_of_near_its_end() {
        let state = Rotation::founded(root(1), at(0));
        let schedule = Schedule { warn_before: Duration::from_secs(1000), ..Schedule::default() };
        let advice = |now| state.advice(Duration::from_secs(LIFE), |_| LastLeaf::Unknown, &schedule, at(now));
        let a = state.issuing();
        assert_eq!(advice(LIFE - 33_000_001), []);
        assert_eq!(advice(LIFE - 33_000_000), [Advice::Prepare]);
        assert_eq!(advice(LIFE - 1000), [Advice::ExpiresSoon { root: a, at: at(LIFE) }, Advice::Prepare]);
        assert_eq!(advice(LIFE + 1), [Advice::Expired(a), Advice::Prepare]);
        let never = Schedule { prepare_at_percent_left: 0, ..schedule };
        let advice = state.advice(Duration::from_secs(LIFE), |_| LastLeaf::Unknown, &never, at(LIFE - 2000));
        assert_eq!(advice, []);
    }

    #[test]
    fn every_phase_says_what_it_waits_for() {
        let schedule = Schedule::default();
        let life = Duration::from_secs(LIFE);
        let state = Rotation::founded(root(1), at(0)).prepare(root(2), at(10)).unwrap();
        let (a, b) = (RootId::of_key(&[1]), RootId::of_key(&[2]));
        let waits = state.advice(life, |_| LastLeaf::Unknown, &schedule, at(11));
        assert_eq!(waits, [Advice::AwaitGate { root: b, since: at(10) }]);
        let go = super::super::Go::Override { left_out: Vec::new(), total: None };
        let state = state.activate(go, schedule.splay, at(20)).unwrap();
        let until = at(20 + 7 * 86_400 + 600);
        let leaves = state.advice(life, |_| LastLeaf::Unknown, &schedule, until);
        assert_eq!(leaves, [Advice::Leaves { root: a, until }]);
        let due = state.advice(life, |_| LastLeaf::Ends(at(100)), &schedule, at(701));
        assert_eq!(due, [Advice::Finish(a)]);
    }
}
