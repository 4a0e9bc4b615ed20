//! How long to wait before the next attempt: full jitter under a ceiling that doubles.
//!
//! Full jitter (a random part of the whole ceiling) spreads a herd best: after an outage of the other end, all of a node's
//! workloads come back at once otherwise.

use crate::surroundings::part;
use std::time::Duration;

/// What the last failure says about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It may be over soon.
    BackOff,
    /// It will not be over until somebody mends something.
    Long,
}

/// The pause after this many attempts in a row without success; `random` is uniform over all of `u64`.
pub fn pause(attempts: u32, random: u64, patience: Patience) -> Duration {
    match patience {
        Patience::BackOff => part(FIRST.saturating_mul(1 << attempts.min(16)).min(CEILING), random),
        Patience::Long => CEILING / 2 + part(CEILING / 2, random),
    }
}

const FIRST: Duration = Duration::from_millis(250);
const CEILING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_and_ends_at_a_minute() {
        let longest = |attempts| pause(attempts, u64::MAX, Patience::BackOff).as_millis();
        assert_eq!(
            [0, 1, 2, 3, 7, 8, 9, u32::MAX].map(longest),
            [250, 500, 1000, 2000, 32_000, 60_000, 60_000, 60_000]
        );
        assert_eq!(pause(9, 0, Patience::BackOff), Duration::ZERO);
        assert_eq!(pause(9, u64::MAX / 4, Patience::BackOff).as_secs(), 14);
    }

    #[test]
    fn what_needs_mending_is_asked_for_seldom_from_the_first_time_on() {
        for attempts in [0, 1, 40] {
            assert_eq!(pause(attempts, 0, Patience::Long).as_secs(), 30);
            assert_eq!(pause(attempts, u64::MAX, Patience::Long).as_secs(), 60);
        }
    }
}
