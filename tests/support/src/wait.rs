//! Patience with a limit: asks again every few milliseconds until something holds, and says what it waited for.

use std::time::{Duration, Instant};

/// How long the tests wait for anything that should happen "soon". Generous, because two cores may run many tests.
pub const SOON: Duration = Duration::from_secs(20);

/// Asks until `look` gives a value, and gives that value. Panics after `limit` with what it waited for.
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    match within(limit, look) {
        Some(found) => found,
        None => panic!("waited {limit:?} in vain for {what}"),
    }
}

/// Asks until `look` gives a value or `limit` has passed.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
