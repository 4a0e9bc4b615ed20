//! The tap's thread: takes work off the queue and gives it to the tap's station.
//!
//! In: the queue, and changes of the sensor. It alone may wait; while it does, the queue
//! fills and whole exchanges are dropped at admission. While exchanges keep coming it looks at the queue every
//! [`GATHER`], unasked: to be woken for each of them, and to send each by itself, would cost more than the packets.
//! A whole [`GATHER`] without work, and it sleeps until somebody wakes it.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::station::Station;
use crate::tap::{Shared, Work};
use sys::datagrams;

/// Runs until the tap is told to stop or every handle is gone.
pub(crate) fn run(shared: &Arc<Shared>, queue: &Receiver<Work>, mut station: Box<dyn Station>) {
    datagrams::lower_priority();
    let mut gathering = false;
    shared.set_asleep(true);
    while !shared.abandon.load(Relaxed) {
        if let Some(address) = shared.take_change() {
            station.move_to(address);
        }
        // Read before the queue is: what was offered before the stop is then still seen.
        let stopping = shared.stopping.load(SeqCst);
        let (came, end) = take(shared, queue, &mut *station);
        if came {
            // The first after a sleep waits for those that follow it.
            if gathering {
                station.flush();
            }
            gathering = true;
            shared.set_asleep(false);
            if end.is_some() && !stopping {
                thread::park_timeout(GATHER);
            }
            continue;
        }
        station.rest();
        if stopping || end == Some(TryRecvError::Disconnected) {
            break;
        }
        if !gathering {
            thread::park_timeout(station.until_next());
        }
        // The next look at the queue is the last before a sleep, or the first after one.
        gathering = false;
        shared.set_asleep(true);
    }
    station.finish();
}

/// Takes what is in the queue, at most [`LOOK`]. Says whether there was anything, and how the queue ended if it did.
fn take(shared: &Shared, queue: &Receiver<Work>, station: &mut dyn Station) -> (bool, Option<TryRecvError>) {
    let mut came = false;
    let now = Instant::now();
    for _ in 0..LOOK {
        match queue.try_recv() {
            Ok(work) => station.handle(work, now),
            Err(end) => return (came, Some(end)),
        }
        came = true;
        if shared.abandon.load(Relaxed) {
            break;
        }
    }
    (came, None)
}

/// How long exchanges gather before they are sent together.
const GATHER: Duration = Duration::from_millis(10);
/// Exchanges taken before looking at anything else.
const LOOK: usize = 256;
