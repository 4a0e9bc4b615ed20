//! The tap's thread: takes exchanges off the queue, builds packets, sends them.
//!
//! In: the queue, and changes of the sensor. Out: datagrams and counts. It alone may wait; while it does, the queue
//! fills and whole exchanges are dropped at admission.

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
    while !shared.abandon.load(Relaxed) {
        if let Some(outlet) = shared.take_change() {
            station.move_to(outlet);
        }
        // Read before the queue is: what was offered before the stop is then still seen.
        let stopping = shared.stopping.load(SeqCst);
        match queue.try_recv() {
            Ok(work) => station.handle(work),
            Err(empty) => {
                station.rest();
                if stopping || empty == TryRecvError::Disconnected {
                    break;
                }
                thread::park_timeout(station.until_next());
            }
        }
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

    fn handle(&mut self, work: Work) {
        let now = Instant::now();
        match (work, &mut self.sender) {
            (Work::Exchange(boxed), Some(sender)) => {
                let (admission, exchange) = *boxed;
                self.pool.write(&exchange, now, sender);
                // A queue that is never empty must not keep idle connections open.
                self.pool.expire(now, sender);
                admission.mirrored(&exchange);
            }
            (Work::Exchange(boxed), None) => boxed.0.refuse(Reason::TapDown),
            (Work::Closed(connection), Some(sender)) => self.pool.close(connection, now, sender),
            (Work::Closed(_), None) => {}
        }
        self.after_losses();
    }

    /// The queue is empty: send the started batch and end what is idle.
    fn rest(&mut self) {
        if let Some(sender) = &mut self.sender {
            self.pool.expire(Instant::now(), sender);
            sender.flush();
        }
        self.after_losses();
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

/// A wake-up that was missed for any reason is made good after this long.
const LONGEST_PARK: Duration = Duration::from_secs(10);
