//! How many connections each identity holds, so that one caller cannot take every place from the others.
//!
//! Counted over all workers. A connection takes its share once its peer is proved and gives it back when it ends; an identity
//! that holds none costs nothing.

use identity::SpiffeId;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

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
    fn identities_without_connections_are_forgotten() {
        let shares = Shares::default();
        for number in 0..1000 {
            drop(shares.take(&id(&format!("sa{number}")), 1).unwrap());
        }
        assert!(shares.held.lock().unwrap().len() < 100);
    }
}
