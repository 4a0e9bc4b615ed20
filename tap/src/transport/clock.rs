//! Wall-clock times of frames that never go back.
//!
//! In: instants. Out: nanoseconds since 1970. Exchanges are copied when they end, so that a long one began before others
//! that are copied already; Suricata's and Zeek's timers go wrong where a capture goes back in time, so that such a frame
//! has the time of the one before it.

use std::time::{Instant, SystemTime};

/// One stream's clock.
#[derive(Debug)]
pub(crate) struct Clock {
    instant: Instant,
    /// What the wall clock said then.
    nanos: u64,
    last: u64,
}

impl Clock {
    /// A clock that reads `wall` at `now`.
    pub(crate) fn new(now: Instant, wall: SystemTime) -> Self {
        Self { instant: now, nanos: nanos(wall), last: 0 }
    }

    /// Follows a wall clock that was put right meanwhile.
    pub(crate) fn set(&mut self, now: Instant, wall: SystemTime) {
        (self.instant, self.nanos) = (now, nanos(wall));
    }

    /// Nanoseconds since 1970, not before any given out earlier.
    pub(crate) fn stamp(&mut self, at: Instant) -> u64 {
        let span =
            |from: Instant, to: Instant| u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(0);
        let wall = self.nanos.saturating_add(span(self.instant, at)).saturating_sub(span(at, self.instant));
        self.last = self.last.max(wall);
        self.last
    }
}

fn nanos(wall: SystemTime) -> u64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_follow_the_wall_clock_and_never_go_back() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        let mut clock = Clock::new(now, wall);
        let second = Duration::from_secs(1);
        assert_eq!(clock.stamp(now - second), 999_000_000_000);
        assert_eq!(clock.stamp(now + second), 1_001_000_000_000);
        assert_eq!(clock.stamp(now), 1_001_000_000_000);
        clock.set(now + second, wall - 500 * second);
        assert_eq!(clock.stamp(now + 2 * second), 1_001_000_000_000);
        clock.set(now + second, wall + 500 * second);
        assert_eq!(clock.stamp(now + 2 * second), 1_501_000_000_000);
    }
}
