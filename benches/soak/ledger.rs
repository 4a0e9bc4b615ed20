//! What came of every request: one count per kind of caller, and the words of what must not be.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Outcomes by kind of caller.
#[derive(Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kinds: BTreeMap<&'static str, Count>,
    /// The first of those that must not be, with the second in which they came.
    wrong: Vec<String>,
    begin: Option<Instant>,
}

/// What one kind of caller met.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    /// Answered 200 in full, with the right answer.
    pub(crate) good: u64,
    /// Ended as a refused request, a malformed one or one with a fault must.
    pub(crate) as_due: u64,
    /// Failed in a way that nobody could keep from it: a request that must not be sent twice met a connection that the
    /// application closed at that moment.
    pub(crate) unlucky: u64,
    /// Anything else.
    pub(crate) wrong: u64,
}

/// Words kept of what must not be.
const WORDS: usize = 100;

impl Ledger {
    pub(crate) fn good(&self, kind: &'static str) {
        self.state().kinds.entry(kind).or_default().good += 1;
    }

    pub(crate) fn as_due(&self, kind: &'static str) {
        self.state().kinds.entry(kind).or_default().as_due += 1;
    }

    pub(crate) fn unlucky(&self, kind: &'static str) {
        self.state().kinds.entry(kind).or_default().unlucky += 1;
    }

    pub(crate) fn wrong(&self, kind: &'static str, what: impl std::fmt::Display) {
        let mut state = self.state();
        state.kinds.entry(kind).or_default().wrong += 1;
        if state.wrong.len() < WORDS {
            let second = state.begin.map_or(0, |begin| begin.elapsed().as_secs());
            let words = format!("{second:>5} s  {kind}: {what}");
            eprintln!("{words}");
            state.wrong.push(words);
        }
    }

    /// Notes an outcome that is either the right one or told in words.
    pub(crate) fn note(&self, kind: &'static str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.good(kind),
            Err(what) => self.wrong(kind, what),
        }
    }

    /// The same for a request that must not be served.
    pub(crate) fn note_due(&self, kind: &'static str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.as_due(kind),
            Err(what) => self.wrong(kind, what),
        }
    }

    /// Every kind so far.
    pub(crate) fn kinds(&self) -> Vec<(&'static str, Count)> {
        self.state().kinds.iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    /// All kinds together.
    pub(crate) fn sum(&self) -> Count {
        self.state().kinds.values().fold(Count::default(), |sum, one| Count {
            good: sum.good + one.good,
            as_due: sum.as_due + one.as_due,
            unlucky: sum.unlucky + one.unlucky,
            wrong: sum.wrong + one.wrong,
        })
    }

    /// The words of what must not be.
    pub(crate) fn words(&self) -> Vec<String> {
        self.state().wrong.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.begin.get_or_insert_with(Instant::now);
        state
    }
}
