//! Leaving without breaking anything: readiness fails, every response asks the other end to reconnect elsewhere, listeners
//! stay open for those who have not heard yet, and the process ends when all is quiet, or when the drain time is over.

use crate::{limits, worker::Shared};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Starts the drain and waits for its end: true when every connection had ended, false when the time was over.
pub(crate) fn drain(shared: &Shared, patience: Duration) -> bool {
    shared.draining.store(true, Ordering::SeqCst);
    let until = Instant::now() + patience;
    let mut quiet_since = None;
    loop {
        let now = Instant::now();
        if shared.connections.load(Ordering::Relaxed) == 0 {
            let since = *quiet_since.get_or_insert(now);
            if now.duration_since(since) >= limits::DRAIN_QUIET {
                return true;
            }
        } else {
            quiet_since = None;
        }
        if now >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
