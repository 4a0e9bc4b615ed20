//! How many refusals are recorded.
//!
//! A refusal costs its sender nothing and us a line on disk. So many a second are kept, with some more at once;
//! the others are counted, and the next record says how many were left out.

use std::time::{Duration, SystemTime};

/// A token bucket. Pure: the time is a parameter.
#[derive(Clone, Debug)]
pub struct RefusalBudget {
    left: u32,
    since: SystemTime,
    left_out: u64,
}

impl RefusalBudget {
    /// Refusals a second that are recorded on and on: below half a gigabyte a day, of lines of 500 bytes.
    pub const RATE: u32 = 10;

    /// How many at once.
    pub const BURST: u32 = 200;

    /// A full one.
    pub fn new(now: SystemTime) -> Self {
        Self { left: Self::BURST, since: now, left_out: 0 }
    }

    /// Whether a refusal at `now` is recorded: then how many before it were not. A clock that goes back gives
    /// nothing and takes nothing.
    pub fn admit(&mut self, now: SystemTime) -> Option<u64> {
        let passed = now.duration_since(self.since).unwrap_or_else(|_| {
            self.since = now;
            Duration::ZERO
        });
        let earned = u32::try_from(passed.as_millis() * u128::from(Self::RATE) / 1000).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(Self::BURST);
            self.since += Duration::from_millis(u64::from(earned) * 1000 / u64::from(Self::RATE));
            self.since = self.since.min(now);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_a_trickle_is_recorded() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut budget = RefusalBudget::new(start);
        let recorded = (0..1000).filter(|_| budget.admit(start).is_some()).count();
        assert_eq!(recorded, 200);
        assert_eq!(budget.admit(start + Duration::from_millis(100)), Some(800));
        assert_eq!(budget.admit(start + Duration::from_millis(199)), None);
        assert_eq!(budget.admit(start + Duration::from_millis(200)), Some(1));
        // A second on average gives ten, however it is cut.
        let mut budget = RefusalBudget::new(start);
        let asked = (0..100_000).map(|millis| budget.admit(start + Duration::from_millis(millis)));
        let recorded = asked.filter(Option::is_some).count();
        assert!((1195..=1201).contains(&recorded), "{recorded}");
        // Back in time and on.
        assert_eq!(budget.admit(start), None);
        assert!(budget.admit(start + Duration::from_secs(1)).is_some());
        assert!(budget.admit(SystemTime::UNIX_EPOCH + Duration::from_secs(u32::MAX.into())).is_some());
    }
}
