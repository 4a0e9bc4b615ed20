//! What is done at once: so many at work, so many waiting for a turn, the others told to come again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The turns of one kind of work.
#[derive(Debug)]
pub(crate) struct Turns {
    at_work: Semaphore,
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
}

impl Turns {
    pub(crate) fn new(at_work: usize, most_waiting: usize) -> Self {
        Self { at_work: Semaphore::new(at_work), waiting: Arc::default(), most_waiting }
    }

    /// Waits for a turn. `None`: too many wait already.
    pub(crate) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.at_work.try_acquire() {
            return Some(permit);
        }
        let waiting = Waiting(&self.waiting);
        if waiting.0.fetch_add(1, Ordering::Relaxed) >= self.most_waiting {
            return None;
        }
        self.at_work.acquire().await.ok()
    }

    /// How many wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Counts down also when the request was given up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn one_works_one_waits_and_the_third_is_told_to_come_again() {
        let turns = Turns::new(1, 1);
        let working = turns.take().await.unwrap();
        let waiting = turns.take();
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut waiting).await.is_err());
        assert_eq!(turns.waiting(), 1);
        assert!(turns.take().await.is_none());
        assert_eq!(turns.waiting(), 1);
        drop(working);
        assert!(waiting.await.is_some());
        assert_eq!(turns.waiting(), 0);
    }
}
