//! Exchanges become frames: the pool builds them, a transport takes them.

use std::hash::RandomState;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::counters::Reason;
use crate::loss::{self, Notices};
use crate::packet;
use crate::pool::{Limits, Pool};
use crate::station::Station;
use crate::stream::Event;
use crate::tap::{Shared, Work};
use crate::transport::{self, Transport};

/// The station of every tap that copies packets.
pub(crate) struct Frames {
    shared: Arc<Shared>,
    pool: Pool,
    transport: Box<dyn Transport>,
    address: Option<SocketAddr>,
    /// What admission was told last.
    up: bool,
    notices: Notices,
    /// Where an exchange was served last: the workload's address.
    workload: Option<IpAddr>,
    /// When the transport wants to be looked after.
    tend_at: Option<Instant>,
}

impl Frames {
    pub(crate) fn open(shared: &Arc<Shared>) -> io::Result<Self> {
        let settings = &shared.settings;
        let limits = Limits { rollover: settings.rollover, idle: settings.idle, vlan: settings.vlan };
        let transport = transport::open(shared)?;
        let mut pool = Pool::new(limits, RandomState::new());
        pool.set_room(transport.room());
        let up = transport.is_up();
        shared.set_down(!up);
        let address = settings.sensor.address();
        Ok(Self {
            shared: Arc::clone(shared),
            pool,
            transport,
            address,
            up,
            notices: Notices::default(),
            workload: None,
            tend_at: None,
        })
    }

    fn after(&mut self) {
        let news = self.transport.take_news();
        let now = Instant::now();
        if news.lost_all {
            self.pool.forget_all(now);
        }
        for connection in news.lost {
            self.pool.forget(connection, now);
        }
        if news.resized {
            self.pool.set_room(self.transport.room());
        }
        let up = self.transport.is_up();
        // Only when it changes: what `Tap::set_sensor` has said meanwhile is newer than what was so before.
        if up != self.up {
            self.up = up;
            self.shared.set_down(!up);
        }
    }

    /// What is said on a stream while nobody takes it is lost, and the rest with it: no hole.
    fn stream(&mut self, connection: u64, event: Event, now: Instant) {
        let out = &mut *self.transport;
        match event {
            Event::Opened(boxed) if !out.is_up() => boxed.0.refuse(Reason::TapDown),
            Event::Opened(boxed) => {
                let (admission, opened) = *boxed;
                if let Some(tuple) = self.pool.open_stream(connection, &opened, now, out) {
                    admission.lies_on(tuple);
                    admission.opened(opened.exchange.as_ref());
                } else {
                    admission.refuse(Reason::QueueFull);
                }
            }
            Event::Said(_, at, chunk) if !out.is_up() => {
                drop((at, chunk));
                self.pool.abandon_stream(connection, now);
            }
            Event::Said(side, at, chunk) => {
                if self.pool.say(connection, side, chunk.bytes(), (at, now), out) {
                    chunk.mirrored();
                }
            }
            Event::Finished(side, at) => self.pool.finish_stream(connection, side, (at, now), out),
            Event::Reset(side, at) => self.pool.end_stream(connection, side, at, now, out),
        }
    }

    /// Tells the reader of the copy that something was lost since the last time.
    fn tell_loss(&mut self, now: Instant) {
        let tally = &self.shared.tally;
        if !self.transport.is_up() || !self.notices.is_due(now, tally.lost()) {
            return;
        }
        let counters = self.shared.counters();
        if !self.transport.tell_loss(&counters) {
            let (from, to) = loss::ends(self.workload, self.address.map(|address| address.ip()));
            let name = &self.shared.settings.name;
            let vlan = self.shared.settings.vlan;
            let tag = vlan.map_or(0, |_| packet::TAG);
            let room = usize::from(self.transport.room().saturating_sub(tag)).min(NOTICE).saturating_sub(HEADERS);
            let text = loss::message(name, from.ip(), &counters, SystemTime::now(), room);
            packet::udp((from, to), vlan, 0, text.as_bytes(), self.transport.begin(NOBODY, now));
            self.transport.end();
        }
        self.transport.flush();
        self.notices.given(now, self.shared.tally.lost());
        self.after();
    }

    /// What the transport does by itself, and a new file or reader where it wants one.
    fn tend(&mut self) {
        let next = self.transport.tend();
        self.tend_at = next.map(|wait| Instant::now() + wait);
        self.after();
        if self.transport.wants_renewal() {
            self.pool.close_all(Instant::now(), &mut *self.transport);
            self.transport.flush();
            self.transport.renew();
            self.after();
        }
    }
}

impl Station for Frames {
    fn handle(&mut self, work: Work, now: Instant) {
        match work {
            Work::Exchange(boxed) if self.transport.is_up() => {
                let (admission, exchange) = *boxed;
                self.workload = Some(exchange.tuple.server.ip());
                let tuple = self.pool.write(&exchange, now, &mut *self.transport);
                admission.lies_on(tuple);
                admission.mirrored(&exchange);
            }
            Work::Exchange(boxed) => boxed.0.refuse(Reason::TapDown),
            // Records are not offered to a tap of packets.
            Work::Record(boxed) => boxed.0.refuse(Reason::Abandoned),
            Work::Stream(connection, event) => self.stream(connection, *event, now),
            Work::Closed(connection) => self.pool.close(connection, now, &mut *self.transport),
        }
        self.after();
        if self.transport.wants_renewal() {
            self.tend();
        }
    }

    fn flush(&mut self) {
        let now = Instant::now();
        self.pool.acknowledge(now, &mut *self.transport);
        self.pool.expire(now, &mut *self.transport);
        self.transport.flush();
        self.after();
        self.tend();
        self.tell_loss(now);
    }

    fn rest(&mut self) {
        self.pool.acknowledge_all(&mut *self.transport);
        self.flush();
    }

    fn move_to(&mut self, address: Option<SocketAddr>) {
        if address == self.address {
            return;
        }
        self.address = address;
        self.pool.close_all(Instant::now(), &mut *self.transport);
        self.transport.flush();
        self.transport.move_to(address);
        self.pool.set_room(self.transport.room());
        self.after();
    }

    fn until_next(&self) -> Duration {
        // While nobody is there to be told, there is nothing to wake up for.
        let notice = self.notices.next(self.shared.tally.lost()).filter(|_| self.up);
        let next = self.pool.next_expiry().into_iter().chain(self.tend_at).chain(notice).min();
        next.map_or(LONGEST_PARK, |at| at.saturating_duration_since(Instant::now())).min(LONGEST_PARK)
    }

    fn finish(&mut self) {
        self.pool.close_all(Instant::now(), &mut *self.transport);
        self.transport.finish();
        self.after();
    }
}

/// A frame of no real connection.
const NOBODY: u64 = u64::MAX;
/// A notice is an IP packet of at most so many bytes, of which so many are headers.
const NOTICE: usize = 1280;
const HEADERS: usize = 40 + 8;
/// A wake-up that was missed for any reason is made good after this long.
const LONGEST_PARK: Duration = Duration::from_secs(10);
