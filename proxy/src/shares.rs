//! How many connections there may be, and how many of them each identity holds, so that one caller cannot take every place from
//! the others.
//!
//! Counted over all workers. A connection takes its share once its peer is proved and gives it back when it ends; an identity
//! that holds none costs nothing. Some places beyond the bound are kept for callers that hold few: whoever already holds half
//! of all cannot have those.

use crate::limits;
use identity::SpiffeId;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many downstream connections there may be at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// For anybody.
    pub(crate) open: usize,
    /// With those that are kept for callers who hold few.
    pub(crate) all: usize,
}

impl Places {
    /// What the file allows, and those kept.
    pub(crate) fn new(max_connections: usize) -> Self {
        Self { open: max_connections, all: max_connections.saturating_add(limits::KEPT_PLACES) }
    }

    /// How many connections one identity may hold while `taken` are taken in all. `wanted` is what the file says of it.
    pub(crate) fn of_one(self, taken: usize, wanted: Option<usize>) -> usize {
        let share = if taken > self.open { self.open.div_ceil(2) } else { usize::MAX };
        wanted.unwrap_or(usize::MAX).min(share)
    }
}

/// The connections of every identity that has any.
#[derive(Default)]
pub(crate) struct Shares {
    held: Mutex<HashMap<SpiffeId, Arc<AtomicUsize>>>,
}

/// One connection's part of its identity's share; given back when dropped.
pub(crate) struct Share(Arc<AtomicUsize>);

impl Shares {
    /// One more connection of `id`, unless it holds `limit` already.
    pub(crate) fn take(&self, id: &SpiffeId, limit: usize) -> Option<Share> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match held.get(id) {
            Some(count) => Arc::clone(count),
            None => {
                // Identities come and go: whoever holds nothing any more is forgotten when the table would grow.
                if held.len() == held.capacity() {
                    held.retain(|_, count| count.load(Ordering::Relaxed) > 0);
                }
                Arc::clone(held.entry(id.clone()).or_default())
            }
        };
        if count.load(Ordering::Relaxed) >= limit {
            return None;
        }
        // Only here does a count rise, and the table is locked: two takers cannot both find the last place.
        count.fetch_add(1, Ordering::Relaxed);
        Some(Share(count))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://example.org/ns/shop/sa/{name}")).unwrap()
    }

    #[test]
    fn a_share_is_bounded_and_comes_back() {
        let shares = Shares::default();
        let first = shares.take(&id("web"), 2).unwrap();
        let _second = shares.take(&id("web"), 2).unwrap();
        assert!(shares.take(&id("web"), 2).is_none());
        assert!(shares.take(&id("cart"), 2).is_some(), "another identity has its own");
        drop(first);
        assert!(shares.take(&id("web"), 2).is_some());
    }

    #[test]
    fn the_last_places_are_for_callers_that_hold_few() {
        let places = Places::new(100);
        assert_eq!(places.of_one(100, None), usize::MAX);
        assert_eq!(places.of_one(101, None), 50);
        assert_eq!(places.of_one(101, Some(10)), 10);
        assert_eq!(places.of_one(5, Some(10)), 10);
    }

    #[test]
    fn identities_without_connections_are_forgotten() {
        let shares = Shares::default();
        for number in 0..1000 {
            drop(shares.take(&id(&format!("sa{number}")), 1).unwrap());
        }
        assert!(shares.held.lock().unwrap().len() < 100);
    }
}
