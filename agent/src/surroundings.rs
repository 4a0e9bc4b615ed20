//! The clock and the randomness, as parameters: what decides takes them from here, and a test brings its own.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Where the time and random numbers come from. Clones share them.
#[derive(Clone)]
pub struct Surroundings {
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Surroundings {
    /// The system's clock, and random numbers of the crypto library.
    pub fn real() -> Self {
        Self::new(SystemTime::now, || {
            let mut bytes = [0; 8];
            // Without randomness every wait is its longest, which is safe.
            aws_lc_rs::rand::fill(&mut bytes).map_or(u64::MAX, |()| u64::from_le_bytes(bytes))
        })
    }

    /// Others. `random` is expected to be uniform over all of `u64`.
    pub fn new(
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
        random: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { clock: Arc::new(clock), random: Arc::new(random) }
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    pub(crate) fn random(&self) -> u64 {
        (self.random)()
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surroundings(..)")
    }
}

/// The part of `whole` that `random` stands for: 0 is none of it, `u64::MAX` all of it.
pub(crate) fn part(whole: Duration, random: u64) -> Duration {
    let nanos = whole.as_nanos().saturating_mul(u128::from(random)) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_between_nothing_and_all() {
        let whole = Duration::from_secs(60);
        assert_eq!(part(whole, 0), Duration::ZERO);
        assert_eq!(part(whole, u64::MAX), whole);
        let half = part(whole, u64::MAX / 2).as_millis();
        assert!((29_999..=30_000).contains(&half));
    }
}
