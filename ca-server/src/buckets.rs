//! How much one caller may ask for: a token bucket for each, in bounded memory.
//!
//! In comes a key, such as an address, and the time; out comes whether it may go on, or when it may. The bucket is kept as one
//! instant, the time at which it would be full again (the generic cell rate algorithm of ITU-T I.371).

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Buckets of one kind.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    /// From one token to the next.
    interval: Duration,
    /// How long an empty bucket takes to fill.
    depth: Duration,
    full_at: HashMap<K, Instant>,
    most: usize,
}

impl<K: Hash + Eq> Buckets<K> {
    /// So many tokens in `per`, all of which may be taken at once; remembers at most `most` callers.
    pub(crate) fn new(tokens: u32, per: Duration, most: usize) -> Self {
        Self { interval: per / tokens.max(1), depth: per, full_at: HashMap::new(), most }
    }

    /// Takes a token of `key`.
    ///
    /// # Errors
    /// How long until there is one.
    pub(crate) fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.full_at.len() >= self.most && !self.full_at.contains_key(&key) {
            self.full_at.retain(|_, full| *full > now);
            if self.full_at.len() >= self.most {
                // Everybody in memory is spending: whoever comes now waits, rather than that anybody is forgotten.
                return Err(self.interval.max(Duration::from_secs(1)));
            }
        }
        let full = self.full_at.get(&key).copied().unwrap_or(now).max(now);
        let after = full + self.interval;
        let over = after.saturating_duration_since(now);
        if over > self.depth {
            return Err(over - self.depth);
        }
        self.full_at.insert(key, after);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let now = Instant::now();
        let mut buckets = Buckets::new(10, SECOND, 100);
        for _ in 0..10 {
            buckets.take("a", now).unwrap();
        }
        assert_eq!(buckets.take("a", now), Err(SECOND / 10));
        buckets.take("b", now).unwrap();
        buckets.take("a", now + SECOND / 10).unwrap();
        assert!(buckets.take("a", now + SECOND / 10).is_err());
    }

    #[test]
    fn memory_is_bounded_and_nobody_who_spends_is_forgotten() {
        let now = Instant::now();
        let mut buckets = Buckets::new(1, SECOND, 3);
        for key in 0..3 {
            buckets.take(key, now).unwrap();
        }
        assert!(buckets.take(3, now).is_err());
        assert!(buckets.take(0, now).is_err());
        // A second later the first three are full again, which needs no memory.
        buckets.take(3, now + SECOND * 2).unwrap();
        assert_eq!(buckets.full_at.len(), 1);
    }
}
