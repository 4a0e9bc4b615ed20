//! The thread that writes: many callers, one disk.
//!
//! Records wait in a bounded queue. The thread takes all that wait, keeps them together with one flush and one
//! signature, and tells each caller. While the disk works the next group gathers, so a slow disk makes groups larger, not
//! queues longer. Who comes alone waits for nothing. In a crowd the next group gathers for two milliseconds more, in a large one for four:
//! a flush costs as much for one record as for many, and its CPU time is better spent on the certificates of those that wait. Every caller is told
//! exactly once, whatever happens.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use super::MAX_LINE;
use super::error::LogError;
use super::head::Head;
use super::key::LogKey;
use super::ledger::{Ledger, Opened, Receipt, Settings};
use super::record::Event;
use super::stamp::Stamp;

/// A log that is open for writing. One process may have it.
pub struct Log {
    queue: Option<SyncSender<Waiting>>,
    head: Arc<Mutex<Head>>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the log in the CA's folder `dir`, with the key that [`LogKey::load`] gave.
    ///
    /// The segment of the signed head is verified; [`verify`](super::verify) judges the whole log and
    /// [`live`](super::live) all of it that still matters.
    ///
    /// # Errors
    /// Another process has it; it is not what was written; the clock is before its last record; the disk.
    pub fn open(dir: &Path, key: LogKey, now: SystemTime, settings: Settings) -> Result<(Self, Opened), LogError> {
        let (ledger, opened) = Ledger::open(dir, key, now, settings)?;
        let log = Self::start(ledger).map_err(|error| LogError::io("start a thread for", dir, error))?;
        Ok((log, opened))
    }

    pub(crate) fn start(mut ledger: Ledger) -> std::io::Result<Self> {
        let (queue, waiting) = mpsc::sync_channel(QUEUE);
        let head = Arc::new(Mutex::new(ledger.head().clone()));
        let shown = Arc::clone(&head);
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let mut last = 0;
            while let Some(group) = gather(&waiting, gathering(last)) {
                last = group.len();
                keep(&mut ledger, group, &shown);
            }
        })?;
        Ok(Self { queue: Some(queue), head, thread: Some(thread) })
    }

    /// Hands over a record of something that happened at `time`; returns at once. `done` is called once, on the
    /// log's thread or, when it cannot be queued, on this one: with its place when it is durable, or with the
    /// reason why it is not in the log. It must not block.
    pub fn append(
        &self,
        time: SystemTime,
        event: Event,
        done: impl FnOnce(Result<Receipt, LogError>) + Send + 'static,
    ) {
        let waiting = Waiting { time: Stamp::of(time), event: Some(event), done: Some(Box::new(done)) };
        let Some(queue) = &self.queue else { return };
        match queue.try_send(waiting) {
            Ok(()) => {}
            Err(TrySendError::Full(waiting)) => waiting.answer(Err(LogError::Busy)),
            Err(TrySendError::Disconnected(waiting)) => waiting.answer(Err(LogError::Closed)),
        }
    }

    /// The same, waiting for the answer.
    ///
    /// # Errors
    /// The record is not in the log.
    pub fn append_and_wait(&self, time: SystemTime, event: Event) -> Result<Receipt, LogError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.append(time, event, move |answer| {
            let _ = sender.send(answer);
        });
        receiver.recv().unwrap_or(Err(LogError::Closed))
    }

    /// The signed head of all that was kept so far.
    pub fn head(&self) -> Head {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what waits, then lets others have the log.
    pub fn close(self) {}
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("head", &self.head()).finish_non_exhaustive()
    }
}

/// A record that waits to be kept. Dropped unanswered, it answers that the log is closed.
struct Waiting {
    time: Stamp,
    event: Option<Event>,
    done: Option<Done>,
}

type Done = Box<dyn FnOnce(Result<Receipt, LogError>) + Send>;

impl Waiting {
    fn answer(mut self, answer: Result<Receipt, LogError>) {
        if let Some(done) = self.done.take() {
            done(answer);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(LogError::Closed));
        }
    }
}

/// How long a group gathers after one with so many records. In a large crowd a certificate takes longer than that to make for all.
fn gathering(last: usize) -> Duration {
    match last {
        0..=1 => Duration::ZERO,
        2..CROWD => Duration::from_millis(2),
        _ => Duration::from_millis(4),
    }
}

/// Records in a group that tell of some thousands a second.
const CROWD: usize = 16;

/// Waits for a record, then for as long as this, and takes what else is there. `None` when there will be no more.
fn gather(queue: &Receiver<Waiting>, gathering: Duration) -> Option<Vec<Waiting>> {
    let mut group = vec![queue.recv().ok()?];
    if !gathering.is_zero() {
        thread::sleep(gathering);
    }
    while group.len() < GROUP
        && let Ok(next) = queue.try_recv()
    {
        group.push(next);
    }
    Some(group)
}

fn keep(ledger: &mut Ledger, mut group: Vec<Waiting>, shown: &Mutex<Head>) {
    let events: Vec<(Stamp, Event)> =
        group.iter_mut().filter_map(|waiting| Some((waiting.time, waiting.event.take()?))).collect();
    let kept = ledger.commit(&events);
    shown.lock().unwrap_or_else(PoisonError::into_inner).clone_from(ledger.head());
    match kept {
        Ok(receipts) => group.into_iter().zip(receipts).for_each(|(waiting, receipt)| waiting.answer(Ok(receipt))),
        Err(error) => group.into_iter().for_each(|waiting| waiting.answer(Err(error.clone()))),
    }
}

/// Records in one group; with the longest lines 4 MiB, half of what a crash may leave behind the head.
const GROUP: usize = 256;
const _: () = assert!((GROUP + 1) * MAX_LINE <= 5 << 20);

/// Records that may wait: some seconds of work for a slow disk. More are refused at once.
const QUEUE: usize = 4096;
