//! The callers, each a thread with a pace of its own, so that the load is the same from the first minute to the last.
//!
//! | room | who |
//! | --- | --- |
//! | `line` | one HTTP/1.1 connection, plain or with mutual TLS |
//! | `polite` | kept and fresh connections, uploads, downloads |
//! | `http2` | several streams at once, some of them taken back |
//! | `live` | WebSockets |
//! | `faults` | those who ask the application for a fault |
//! | `rude` | those who may not, who cannot write, who leave in the middle |

mod faults;
mod http2;
mod line;
mod live;
mod polite;
mod rude;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use line::Line;
pub(crate) use polite::judge;

use crate::ledger::Ledger;
use crate::stage::Stage;

/// The running callers.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What every caller is given.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) stage: Arc<Stage>,
    pub(crate) ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
}

type Part = fn(&Caller);

/// Who calls, and how many of them.
const CALLERS: [(Part, usize); 15] = [
    (polite::kept, 4),
    (polite::fresh, 2),
    (polite::mtls_kept, 3),
    (polite::mtls_fresh, 1),
    (polite::uploads, 2),
    (polite::mtls_uploads, 1),
    (polite::downloads, 2),
    (http2::streams, 3),
    (live::talks, 4),
    (faults::asked_for, 3),
    (faults::stalls, 2),
    (rude::refused, 1),
    (rude::strangers, 1),
    (rude::malformed, 1),
    (rude::leavers, 2),
];

impl Load {
    pub(crate) fn start(stage: &Arc<Stage>, ledger: &Arc<Ledger>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = Caller { stage: Arc::clone(stage), ledger: Arc::clone(ledger), stop: Arc::clone(&stop) };
        let parts = CALLERS.iter().flat_map(|(part, count)| std::iter::repeat_n(*part, *count));
        let threads = parts
            .map(|part| {
                let caller = caller.clone();
                std::thread::spawn(move || part(&caller))
            })
            .collect();
        Self { stop, threads }
    }

    /// Lets every caller finish what it is at.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

impl Caller {
    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// Turns at a fixed pace, until the load ends. A turn that came late does not make the next ones hurry.
    pub(crate) fn turns(&self, every: Duration) -> impl Iterator<Item = u64> {
        let mut next = Instant::now();
        let mut turn = 0;
        std::iter::from_fn(move || {
            let now = Instant::now();
            next = (next + every).max(now);
            std::thread::sleep(next - now);
            turn += 1;
            self.goes_on().then_some(turn)
        })
    }
}

/// A number that no other request has: an answer to another request is seen to be one.
pub(crate) fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
