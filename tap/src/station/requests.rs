//! Exchanges become requests again: one that was seen whole is handed to a [`Repeat`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::counters::Reason;
use crate::repeat::{Repeat, Repeated};
use crate::station::Station;
use crate::stream::Event;
use crate::tap::{Shared, Work};

/// The station of a tap that repeats requests.
pub(crate) struct Requests {
    shared: Arc<Shared>,
    repeater: Arc<dyn Repeat>,
    to: Option<SocketAddr>,
    /// Handed over and not told of yet; what they hold stays within the queue's budget.
    flying: Arc<AtomicUsize>,
}

impl Requests {
    pub(crate) fn open(shared: &Arc<Shared>, to: Option<SocketAddr>, repeater: Arc<dyn Repeat>) -> Self {
        shared.set_down(to.is_none());
        Self { shared: Arc::clone(shared), repeater, to, flying: Arc::default() }
    }
}

impl Station for Requests {
    fn handle(&mut self, work: Work, _: Instant) {
        let (admission, exchange) = match work {
            Work::Exchange(boxed) => *boxed,
            Work::Stream(_, event) => {
                if let Event::Opened(boxed) = *event {
                    boxed.0.refuse(Reason::Unsuitable);
                }
                return;
            }
            Work::Record(boxed) => return boxed.0.refuse(Reason::Unsuitable),
            Work::Closed(_) => return,
        };
        let Some(to) = self.to else {
            return admission.refuse(Reason::TapDown);
        };
        match Repeated::of(exchange, admission, &self.shared, &self.flying) {
            Ok(request) => self.repeater.repeat(to, request),
            Err((admission, reason)) => admission.refuse(reason),
        }
    }

    fn flush(&mut self) {}

    fn rest(&mut self) {}

    fn move_to(&mut self, address: Option<SocketAddr>) {
        self.to = address;
        self.shared.set_down(address.is_none());
    }

    fn until_next(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn finish(&mut self) {
        while self.flying.load(Relaxed) > 0 && !self.shared.abandon.load(Relaxed) {
            thread::sleep(Duration::from_millis(2));
        }
    }
}
