//! How many bytes a second may be copied: a token bucket that is never locked.
//!
//! In: bytes, and the time as nanoseconds since any fixed instant. Out: yes or no. The bucket is one number, the time at
//! which all that was taken will have been earned (the generic cell rate algorithm). A transaction is taken whole if
//! the bucket is not in debt, and may bring it into debt: otherwise one larger than a burst could never be copied.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug)]
pub(crate) struct RateCap {
    bytes_per_second: u64,
    earned_at: AtomicU64,
}

impl RateCap {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), earned_at: AtomicU64::new(0) }
    }

    /// Whether anything would be let through now; takes nothing.
    pub(crate) fn is_open(&self, now: u64) -> bool {
        is_open(self.earned_at.load(Relaxed), now)
    }

    /// Takes the bytes if the bucket is not in debt.
    pub(crate) fn take(&self, bytes: usize, now: u64) -> bool {
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let taken = |at: u64| is_open(at, now).then(|| at.max(now).saturating_add(nanos));
        self.earned_at.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }
}

fn is_open(earned_at: u64, now: u64) -> bool {
    earned_at <= now.saturating_add(BURST)
}

/// What may be taken at once: 100 milliseconds' worth.
const BURST: u64 = 100_000_000;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_then_only_what_is_earned() {
        let cap = RateCap::new(1_000_000);
        let mut passed = 0;
        while cap.take(1_000, 0) {
            passed += 1;
        }
        assert_eq!(passed, 101, "100 ms at a megabyte a second, and the one that brings it into debt");
        assert!(!cap.is_open(0) && !cap.is_open(999_999) && cap.is_open(1_000_000));
        assert!(cap.take(1_000, 1_000_000) && !cap.take(1_000, 1_000_000));
    }

    #[test]
    fn what_is_larger_than_a_burst_passes_and_is_paid_for() {
        let cap = RateCap::new(1_000);
        assert!(cap.take(1 << 20, 0));
        assert!(!cap.is_open(1_000_000_000_000), "a mebibyte takes 1048 seconds");
        assert!(cap.is_open(1_048_576_000_000));
    }

    proptest! {
        #[test]
        fn over_time_no_more_passes_than_was_earned(
            rate in 1_000u64..1_000_000_000,
            steps in prop::collection::vec((0u64..50_000_000, 1usize..200_000), 1..200),
        ) {
            let cap = RateCap::new(rate);
            let (mut now, mut passed, mut largest) = (0, 0u128, 0);
            for (wait, bytes) in steps {
                now += wait;
                let open = cap.is_open(now);
                let taken = cap.take(bytes, now);
                prop_assert_eq!(open, taken);
                if taken {
                    passed += bytes as u128;
                    largest = largest.max(bytes);
                }
            }
            let earned = u128::from(rate) * u128::from(now + BURST) / 1_000_000_000;
            prop_assert!(passed <= earned + largest as u128 + 200);
        }
    }
}
