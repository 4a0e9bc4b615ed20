//! How long to wait before the next attempt: full jitter under a ceiling that doubles.
//!
//! Full jitter (a random part of the whole ceiling) spreads a herd best: after an outage of the other end, all of a node's
//! workloads come back at once otherwise. Near the end of what is in force the ceiling comes down again: an outage that is over in
//! time must not outlast a certificate because of a pause.

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

/// The pause after this many attempts in a row without success; `random` is uniform over all of `u64`, `left` is how long what is in
/// force can still be shown, if there is anything.
pub fn pause(attempts: u32, random: u64, patience: Patience, left: Option<Duration>) -> Duration {
    match patience {
        Patience::BackOff => {
            let ceiling = FIRST.saturating_mul(1 << attempts.min(16)).min(CEILING);
            // Some sixteen more attempts, until they cannot come faster.
            let in_time = left.map_or(CEILING, |left| (left / 8).max(FIRST));
            part(ceiling.min(in_time), random)
        }
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
        let longest = |attempts| pause(attempts, u64::MAX, Patience::BackOff, None).as_millis();
        assert_eq!(
            [0, 1, 2, 3, 7, 8, 9, u32::MAX].map(longest),
            [250, 500, 1000, 2000, 32_000, 60_000, 60_000, 60_000]
        );
        assert_eq!(pause(9, 0, Patience::BackOff, None), Duration::ZERO);
        assert_eq!(pause(9, u64::MAX / 4, Patience::BackOff, None).as_secs(), 14);
    }

    #[test]
    fn near_the_end_of_what_is_in_force_pauses_are_short() {
        let longest =
            |attempts, left| pause(attempts, u64::MAX, Patience::BackOff, Some(Duration::from_secs(left))).as_millis();
        assert_eq!([0, 1, 9].map(|attempts| longest(attempts, 24 * 3600)), [250, 500, 60_000]);
        assert_eq!([480, 400, 80, 8, 1, 0].map(|left| longest(9, left)), [60_000, 50_000, 10_000, 1000, 250, 250]);
        // Not longer than without.
        assert_eq!(longest(0, 80), 250);
    }

    #[test]
    fn what_needs_mending_is_asked_for_seldom_from_the_first_time_on() {
        for attempts in [0, 1, 40] {
            assert_eq!(pause(attempts, 0, Patience::Long, None).as_secs(), 30);
            assert_eq!(pause(attempts, u64::MAX, Patience::Long, None).as_secs(), 60);
        }
    }
}
