//! The tap's thread: takes exchanges off the queue, builds packets, sends them.
//!
//! In: the queue, and changes of the sensor. Out: datagrams and counts. It alone may wait; while it does, the queue
//! fills and whole exchanges are dropped at admission. While exchanges keep coming it looks at the queue every
//! [`GATHER`], unasked: to be woken for each of them, and to send each by itself, would cost more than the packets.
//! A whole [`GATHER`] without work, and it sleeps until somebody wakes it.

use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::counters::Reason;
use crate::pool::{Limits, Pool};
use crate::sender::{Outlet, Sender};
use crate::tap::{Shared, Work};
use sys::datagrams;

/// Runs until the tap is told to stop or every handle is gone.
pub(crate) fn run(shared: &Arc<Shared>, queue: &Receiver<Work>, outlet: Option<Outlet>) {
    datagrams::lower_priority();
    let settings = &shared.settings;
    let limits = Limits { vni: settings.vni, rollover: settings.rollover, idle: settings.idle };
    let mut station = Station { shared, pool: Pool::new(limits, RandomState::new()), sender: None };
    station.move_to(outlet);
    let mut gathering = false;
    shared.set_asleep(true);
    while !shared.abandon.load(Relaxed) {
        if let Some(outlet) = shared.take_change() {
            station.move_to(outlet);
        }
        // Read before the queue is: what was offered before the stop is then still seen.
        let stopping = shared.stopping.load(SeqCst);
        let (came, end) = station.take(queue);
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
    station.move_to(None);
}

struct Station<'a> {
    shared: &'a Shared,
    pool: Pool,
    /// `None` while there is no sensor.
    sender: Option<Sender<'a>>,
}

impl<'a> Station<'a> {
    /// Ends what is open at the old sensor and turns to the new one.
    fn move_to(&mut self, outlet: Option<Outlet>) {
        if let Some(old) = &mut self.sender {
            self.pool.close_all(Instant::now(), old);
            old.flush();
        }
        let shared = self.shared;
        self.sender = outlet.map(|outlet| {
            self.pool.set_path(outlet.mtu, outlet.is_ipv6());
            Sender::new(outlet, shared.settings.batch_gap, &shared.tally, &shared.abandon)
        });
    }

    /// Takes what is in the queue, at most [`LOOK`]. Says whether there was anything, and how the queue ended if it did.
    fn take(&mut self, queue: &Receiver<Work>) -> (bool, Option<TryRecvError>) {
        let mut came = false;
        let now = Instant::now();
        for _ in 0..LOOK {
            match queue.try_recv() {
                Ok(work) => self.handle(work, now),
                Err(end) => return (came, Some(end)),
            }
            came = true;
            if self.shared.abandon.load(Relaxed) {
                break;
            }
        }
        (came, None)
    }

    fn handle(&mut self, work: Work, now: Instant) {
        match (work, &mut self.sender) {
            (Work::Exchange(boxed), Some(sender)) => {
                let (admission, exchange) = *boxed;
                self.pool.write(&exchange, now, sender);
                admission.mirrored(&exchange);
            }
            (Work::Exchange(boxed), None) => boxed.0.refuse(Reason::TapDown),
            (Work::Closed(connection), Some(sender)) => self.pool.close(connection, now, sender),
            (Work::Closed(_), None) => {}
        }
        self.after_losses();
    }

    /// Sends what was gathered, with what is due by now: a queue that is never empty must not put it off for ever.
    fn flush(&mut self) {
        if let Some(sender) = &mut self.sender {
            let now = Instant::now();
            self.pool.acknowledge(now, sender);
            self.pool.expire(now, sender);
            sender.flush();
        }
        self.after_losses();
    }

    /// Nothing came for a while: acknowledge everything, end what is idle, send.
    fn rest(&mut self) {
        if let Some(sender) = &mut self.sender {
            self.pool.acknowledge_all(sender);
        }
        self.flush();
    }

    fn after_losses(&mut self) {
        let Some(sender) = &mut self.sender else {
            return;
        };
        for connection in sender.take_lost() {
            self.pool.forget(connection, Instant::now());
        }
        if sender.remeasure(self.shared.settings.mtu) {
            self.pool.set_path(sender.outlet().mtu, sender.outlet().is_ipv6());
        }
    }

    fn until_next(&self) -> Duration {
        let next = self.pool.next_expiry().map(|at| at.saturating_duration_since(Instant::now()));
        next.unwrap_or(LONGEST_PARK).min(LONGEST_PARK)
    }
}

/// How long exchanges gather before they are sent together.
const GATHER: Duration = Duration::from_millis(10);
/// Exchanges taken before looking at anything else.
const LOOK: usize = 256;
/// A wake-up that was missed for any reason is made good after this long.
const LONGEST_PARK: Duration = Duration::from_secs(10);
