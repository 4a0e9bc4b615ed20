//! Who has what: whether all who take the identity from this process have the one that is in force.
//!
//! To a CA the acknowledgement of new roots is leave to sign by them. Whoever hands the identity on gives that leave for its readers
//! too, so it waits until they have what it has. Not for ever: one that has stopped reading must not hold up a trust domain.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The open streams of one process, and the version that each was given last. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    given: Mutex<Given>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Given {
    next: u64,
    /// Streams that have been given nothing yet are not here: they will begin with what is in force.
    versions: HashMap<u64, String>,
}

impl Readers {
    /// Waits until every stream has `version`, at most [`LONGEST`], and a moment more if there are any: the Workload API knows no
    /// acknowledgement, so that a message has only been sent.
    pub(crate) async fn have(&self, version: &str) {
        self.have_within(version, LONGEST, TAKING).await;
    }

    async fn have_within(&self, version: &str, longest: Duration, taking: Duration) {
        if self.given().versions.is_empty() {
            return;
        }
        let all = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                // From here on no change is missed.
                changed.as_mut().enable();
                if self.given().versions.values().all(|given| given == version) {
                    return;
                }
                changed.await;
            }
        };
        // Whoever is late goes on with what it has.
        let _ = tokio::time::timeout(longest, all).await;
        tokio::time::sleep(taking).await;
    }

    /// One more stream.
    pub(crate) fn join(&self) -> Reader {
        let mut given = self.given();
        given.next = given.next.wrapping_add(1);
        Reader { readers: self.clone(), number: given.next }
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.0.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream, until dropped.
pub(crate) struct Reader {
    readers: Readers,
    number: u64,
}

impl Reader {
    /// It has this version.
    pub(crate) fn has(&self, version: &str) {
        self.readers.given().versions.insert(self.number, version.to_owned());
        self.readers.0.changed.notify_waiters();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.given().versions.remove(&self.number);
        self.readers.0.changed.notify_waiters();
    }
}

/// A change is spread over half a second, and an Envoy takes a secret up within milliseconds.
const LONGEST: Duration = Duration::from_secs(5);
const TAKING: Duration = Duration::from_millis(200);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Instant;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn all_are_waited_for() {
        let readers = Readers::default();
        readers.have_within("2", HOUR, HOUR).await;
        let _silent = readers.join();
        // Nobody has anything yet.
        readers.have_within("2", HOUR, HOUR).await;
        let all = [readers.join(), readers.join(), readers.join()];
        all.iter().for_each(|reader| reader.has("1"));
        let [quick, slow, gone] = all;
        let waiting = tokio::spawn(async move { readers.have_within("2", HOUR, Duration::ZERO).await });
        for reader in [&quick, &slow] {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!waiting.is_finished());
            reader.has("2");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        drop(gone);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_is_waited_for_for_ever() {
        let (readers, begun) = (Readers::default(), Instant::now());
        let reader = readers.join();
        reader.has("1");
        let [longest, taking] = [50, 20].map(Duration::from_millis);
        readers.have_within("2", longest, taking).await;
        assert!(begun.elapsed() >= longest + taking);
        reader.has("2");
        readers.have_within("2", HOUR, taking).await;
        assert!(begun.elapsed() >= longest + taking * 2);
    }
}
