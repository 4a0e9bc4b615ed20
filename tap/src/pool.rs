//! Which synthetic connection an exchange goes on.
//!
//! In: exchanges in the order they finished, and the time. Out: frames. One real connection becomes a row of
//! synthetic keep-alive connections, one at a time, the first with the real client port, so that its Community ID is
//! the wire's. Exchanges arrive whole, so one after the other is valid HTTP/1.1 however they overlapped in HTTP/2.
//! A connection is replaced before a message would take a direction past `rollover`; a message that is larger by
//! itself goes on one of its own. Bounded: at most [`MAX_OPEN`] are open, the longest unused ends first.

mod streams;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::exchange::{End, Exchange};
use crate::flow::{Flow, Link, Out};
use crate::http1::Wire;
use crate::packet::{self, Pieces, Tuple};
use crate::record::Side;

/// The open synthetic connections of one tap.
#[derive(Debug)]
pub(crate) struct Pool {
    limits: Limits,
    /// Segment size for IPv4 and IPv6 inside.
    mss: (u16, u16),
    /// By number of the real connection.
    current: HashMap<u64, Entry>,
    /// By a stamp of use: real connection, and when it was used. As many as `current`. A stamp may be older than the last
    /// use: only at the front does that matter, and there it is put right.
    order: BTreeMap<u64, (u64, Instant)>,
    uses: u64,
    /// Connections with something unacknowledged, and since when; by age.
    owed: VecDeque<(Instant, u64)>,
    ports: Ports,
    streams: streams::Streams,
    /// Key of the initial sequence numbers (RFC 6528).
    secret: RandomState,
}

/// What a pool is told once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rollover: u64,
    pub(crate) idle: Duration,
    /// Identifier of an 802.1Q tag.
    pub(crate) vlan: Option<u16>,
}

#[derive(Debug)]
struct Entry {
    flow: Flow,
    tuple: Tuple,
    used: Instant,
    /// Of its last use.
    stamp: u64,
    /// The stamp under which it stands in `order`.
    place: u64,
    /// It stands in `owed`.
    owed: bool,
}

impl Pool {
    pub(crate) fn new(limits: Limits, secret: RandomState) -> Self {
        Self {
            limits,
            mss: (0, 0),
            current: HashMap::new(),
            order: BTreeMap::new(),
            uses: 0,
            owed: VecDeque::new(),
            ports: Ports::default(),
            streams: streams::Streams::default(),
            secret,
        }
    }

    /// Segment sizes for connections opened from now on: `room` is the largest IP packet that fits into a frame.
    pub(crate) fn set_room(&mut self, room: u16) {
        // A tag takes its bytes from the packet: in a tunnel the frame as a whole has to fit.
        let room = room.saturating_sub(if self.limits.vlan.is_some() { packet::TAG } else { 0 });
        self.mss = (packet::mss(room, false), packet::mss(room, true));
    }

    /// Writes one exchange. Says on which connection it lies.
    pub(crate) fn write(&mut self, exchange: &Exchange, now: Instant, out: &mut dyn Out) -> Tuple {
        let connection = exchange.connection;
        let request = exchange.request.len() as u64;
        let response = exchange.response.as_ref().map_or(0, Wire::len) as u64;
        if request.max(response) > self.limits.rollover {
            let entry = self.open(exchange, now, out);
            let tuple = entry.tuple;
            self.converse(entry, exchange, alone(exchange.end), now, out);
            if exchange.last {
                self.close(connection, now, out);
            }
            return tuple;
        }
        if exchange.end == End::Open
            && let Some(entry) = self.current.get_mut(&connection)
            && is_room(self.limits, entry, request, response)
        {
            speak(&mut entry.flow, exchange, out);
            self.uses += 1;
            (entry.used, entry.stamp) = (now, self.uses);
            if !entry.owed {
                owe(&mut self.owed, connection, entry, out);
            }
            return entry.tuple;
        }
        let entry = match self.take(connection) {
            Some(entry) if is_room(self.limits, &entry, request, response) => entry,
            Some(full) => {
                self.end(full, Side::Client, now, out);
                self.open(exchange, now, out)
            }
            None => self.open(exchange, now, out),
        };
        let tuple = entry.tuple;
        if let Some(entry) = self.converse(entry, exchange, exchange.end, now, out) {
            self.keep(connection, entry, now, out);
        }
        tuple
    }

    /// The real connection is gone: its synthetic one ends. A stream that has not ended by now was broken off.
    pub(crate) fn close(&mut self, connection: u64, now: Instant, out: &mut dyn Out) {
        self.end_stream(connection, Side::Client, now, now, out);
        if let Some(mut entry) = self.take(connection) {
            entry.flow.advance(now);
            self.end(entry, Side::Client, now, out);
        }
    }

    /// Ends every connection, at the end or before the sensor changes.
    pub(crate) fn close_all(&mut self, now: Instant, out: &mut dyn Out) {
        while let Some(connection) = self.longest_unused() {
            self.close(connection, now, out);
        }
        self.close_streams(now, out);
    }

    /// Ends what stood idle for too long.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut dyn Out) {
        let is_due = |pool: &Self| pool.next_expiry().is_some_and(|at| at <= now);
        while is_due(self) {
            // This puts the front right; then what is there may be due later.
            if let Some(connection) = self.longest_unused()
                && is_due(self)
            {
                self.close(connection, now, out);
            }
        }
    }

    /// Acknowledges what no later exchange has acknowledged for [`ACK_DELAY`].
    pub(crate) fn acknowledge(&mut self, now: Instant, out: &mut dyn Out) {
        self.acknowledge_streams(out);
        while let Some((since, connection)) = self.owed.front().copied() {
            if now.saturating_duration_since(since) < ACK_DELAY {
                return;
            }
            self.owed.pop_front();
            if let Some(entry) = self.current.get_mut(&connection).filter(|entry| entry.owed) {
                if now.saturating_duration_since(entry.used) < ACK_DELAY {
                    // Another exchange has acknowledged the one before it, and waits in turn.
                    self.owed.push_back((entry.used, connection));
                } else {
                    entry.owed = false;
                    entry.flow.advance(now);
                    entry.flow.settle(out);
                }
            }
        }
    }

    /// Acknowledges everything.
    pub(crate) fn acknowledge_all(&mut self, out: &mut dyn Out) {
        self.acknowledge_streams(out);
        for (_, connection) in self.owed.drain(..) {
            if let Some(entry) = self.current.get_mut(&connection) {
                entry.owed = false;
                entry.flow.settle(out);
            }
        }
    }

    /// When [`Pool::expire`] has something to do; it may find that it is not yet so.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.order.first_key_value().map(|(_, (_, used))| *used + self.limits.idle)
    }

    /// A datagram of this connection was lost on the way out: what follows goes on a new one, so that no message has
    /// a hole. The IDS forgets the old one by itself; a FIN beyond the hole would not be understood.
    pub(crate) fn forget(&mut self, connection: u64, now: Instant) {
        self.forget_stream(connection, now);
        if let Some(entry) = self.take(connection) {
            self.ports.release(entry.tuple, connection, now);
        }
    }

    /// Every connection lost a frame.
    pub(crate) fn forget_all(&mut self, now: Instant) {
        while let Some(connection) = self.longest_unused() {
            self.forget(connection, now);
        }
        self.forget_streams(now);
    }

    /// Request and response on an open connection; gives it back if it stays open.
    fn converse(
        &mut self,
        mut entry: Entry,
        exchange: &Exchange,
        end: End,
        now: Instant,
        out: &mut dyn Out,
    ) -> Option<Entry> {
        speak(&mut entry.flow, exchange, out);
        match end {
            End::Open => {
                entry.used = now;
                Some(entry)
            }
            End::Finish(side) => {
                self.end(entry, side, now, out);
                None
            }
            End::Reset(side) => {
                self.ports.release(entry.tuple, exchange.connection, now);
                entry.flow.reset(side, out);
                None
            }
        }
    }

    fn open(&mut self, exchange: &Exchange, now: Instant, out: &mut dyn Out) -> Entry {
        let (flow, tuple) = self.new_flow(exchange.connection, exchange.tuple, exchange.started, now, out);
        Entry { flow, tuple, used: now, stamp: 0, place: 0, owed: false }
    }

    /// A synthetic connection that opens at `at`.
    fn new_flow(
        &mut self,
        connection: u64,
        wanted: Tuple,
        at: Instant,
        now: Instant,
        out: &mut dyn Out,
    ) -> (Flow, Tuple) {
        let tuple = self.ports.claim(wanted, connection, now);
        self.uses += 1;
        let isn = |side: u8| self.secret.hash_one((tuple, side, self.uses)) as u32;
        let mss = if tuple.is_ipv6() { self.mss.1 } else { self.mss.0 };
        (Flow::open(connection, &tuple, Link { mss, vlan: self.limits.vlan }, (isn(0), isn(1)), at, out), tuple)
    }

    fn end(&mut self, entry: Entry, first: Side, now: Instant, out: &mut dyn Out) {
        self.ports.release(entry.tuple, entry.flow.connection(), now);
        entry.flow.close(first, out);
    }

    fn keep(&mut self, connection: u64, mut entry: Entry, now: Instant, out: &mut dyn Out) {
        if self.current.len() + self.streams.len() >= MAX_OPEN
            && let Some(oldest) = self.longest_unused()
        {
            self.close(oldest, now, out);
        }
        self.uses += 1;
        (entry.stamp, entry.place) = (self.uses, self.uses);
        if !entry.owed {
            owe(&mut self.owed, connection, &mut entry, out);
        }
        self.order.insert(entry.place, (connection, now));
        self.current.insert(connection, entry);
    }

    fn take(&mut self, connection: u64) -> Option<Entry> {
        let entry = self.current.remove(&connection)?;
        self.order.remove(&entry.place);
        Some(entry)
    }

    /// Afterwards the front of `order` is right.
    fn longest_unused(&mut self) -> Option<u64> {
        loop {
            let front = self.order.first_entry()?;
            let (connection, _) = *front.get();
            let entry = self.current.get_mut(&connection)?;
            if entry.place == entry.stamp {
                return Some(connection);
            }
            front.remove();
            entry.place = entry.stamp;
            self.order.insert(entry.place, (connection, entry.used));
        }
    }
}

/// Request and response, each at its time; what follows passes when the exchange was over, or later.
fn speak(flow: &mut Flow, exchange: &Exchange, out: &mut dyn Out) {
    flow.advance(exchange.started);
    flow.send(Side::Client, pieces(&exchange.request), out);
    if exchange.request.cut {
        flow.finish(Side::Client, out);
    }
    if let Some(response) = &exchange.response {
        flow.advance(exchange.answered.unwrap_or(exchange.ended));
        flow.send(Side::Server, pieces(response), out);
    }
    flow.advance(exchange.ended);
}

/// Notes that something is unacknowledged on a connection that is not noted yet.
fn owe(owed: &mut VecDeque<(Instant, u64)>, connection: u64, entry: &mut Entry, out: &mut dyn Out) {
    entry.owed = owed.len() < MAX_OPEN;
    if entry.owed {
        owed.push_back((entry.used, connection));
    } else {
        entry.flow.settle(out);
    }
}

fn is_room(limits: Limits, entry: &Entry, request: u64, response: u64) -> bool {
    entry.flow.sent(Side::Client) + request <= limits.rollover
        && entry.flow.sent(Side::Server) + response <= limits.rollover
}

/// A connection that holds one exchange ends after it.
fn alone(end: End) -> End {
    match end {
        End::Open => End::Finish(Side::Client),
        ended => ended,
    }
}

fn pieces(wire: &Wire) -> Pieces<'_> {
    [&wire.head, &wire.body, &wire.tail]
}

/// Which address pairs are in use, and which rest after use.
#[derive(Debug, Default)]
struct Ports {
    open: HashSet<Tuple>,
    /// Closed lately: when, and by which real connection.
    resting: HashMap<Tuple, (Instant, u64)>,
    /// `resting` by age. A tuple used again stands here twice; the map knows the valid time.
    by_age: VecDeque<(Instant, Tuple)>,
    /// Next synthetic port to try, as an offset into the range.
    next: u16,
}

impl Ports {
    /// The real port where it is free, else the next synthetic one that is free and rested.
    fn claim(&mut self, wanted: Tuple, connection: u64, now: Instant) -> Tuple {
        self.wake(now);
        // Another real connection that used the port before is no hindrance: the kernel gave it out again.
        let used_by_itself = self.resting.get(&wanted).is_some_and(|(_, by)| *by == connection);
        let tuple = if !used_by_itself && !self.open.contains(&wanted) { wanted } else { self.synthetic(wanted) };
        self.open.insert(tuple);
        tuple
    }

    fn synthetic(&mut self, wanted: Tuple) -> Tuple {
        let mut unrested = None;
        for _ in 0..SYNTHETIC_COUNT {
            let tuple = wanted.with_client_port(SYNTHETIC_FIRST + self.next);
            self.next = (self.next + 1) % SYNTHETIC_COUNT;
            if self.open.contains(&tuple) {
                continue;
            }
            if !self.resting.contains_key(&tuple) {
                return tuple;
            }
            unrested.get_or_insert(tuple);
        }
        // All rest, and the search began at the one used longest ago. With a new sequence number it is a new
        // connection to an IDS. `open` never holds all: MAX_OPEN is smaller than the range.
        unrested.unwrap_or(wanted)
    }

    fn release(&mut self, tuple: Tuple, connection: u64, now: Instant) {
        self.open.remove(&tuple);
        if self.by_age.len() >= MAX_RESTING {
            self.wake_first();
        }
        self.resting.insert(tuple, (now, connection));
        self.by_age.push_back((now, tuple));
    }

    fn wake(&mut self, now: Instant) {
        while self.by_age.front().is_some_and(|(since, _)| *since + QUARANTINE <= now) {
            self.wake_first();
        }
    }

    fn wake_first(&mut self) {
        if let Some((since, tuple)) = self.by_age.pop_front()
            && self.resting.get(&tuple).is_some_and(|(at, _)| *at == since)
        {
            self.resting.remove(&tuple);
        }
    }
}

/// How long the end of an exchange waits for a later one to acknowledge it, as TCP's own delayed acknowledgement does
/// (RFC 9293 section 3.8.6.3: less than 0.5 s). Twice that at most, where exchanges follow each other closely.
const ACK_DELAY: Duration = Duration::from_millis(100);
/// Open synthetic connections of one tap. About 300 bytes each.
const MAX_OPEN: usize = 4096;
/// Address pairs remembered as resting. About 100 bytes each.
const MAX_RESTING: usize = 16_384;
/// How long a synthetic port rests before it is used again: Zeek and Suricata have forgotten the connection by then.
const QUARANTINE: Duration = Duration::from_secs(60);
/// Synthetic client ports: 61000 to 65535, above Linux's default range for real ones (32768 to 60999).
const SYNTHETIC_FIRST: u16 = 61_000;
const SYNTHETIC_COUNT: u16 = 65_535 - SYNTHETIC_FIRST + 1;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, Method, StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::flow::tests::Kept;
    use crate::receive::{Heard, Receiver};
    use crate::record::{Message, Record, Verdict};

    const MAX_BODY: usize = 128 * 1024;

    fn pool() -> Pool {
        let limits = Limits { rollover: 512 * 1024, idle: Duration::from_secs(30), vlan: None };
        let mut pool = Pool::new(limits, RandomState::new());
        pool.set_room(1450);
        pool
    }

    fn body(n: usize) -> Vec<u8> {
        (0..n).map(|i| b'a' + (i % 23) as u8).collect()
    }

    fn record(connection: u64, sent: usize, answered: usize) -> Record {
        let with = |mut message: Message, n: usize| {
            (message.body, message.body_len, message.complete) = (body(n), n as u64, true);
            message
        };
        let host = Some("orders");
        Record {
            connection,
            client: "10.0.0.1:40000".parse().unwrap(),
            server: "10.0.0.2:8080".parse().unwrap(),
            request: with(
                Message::request(&Arc::default(), Method::POST, &format!("/{connection}"), host, &HeaderMap::new()),
                sent,
            ),
            response: Some(with(Message::response(&Arc::default(), StatusCode::OK, &HeaderMap::new()), answered)),
            started: Instant::now(),
            answered: None,
            ended: Instant::now(),
            aborted: None,
            verdict: Verdict::Allowed,
            rule: None,
            last: false,
        }
    }

    fn write(pool: &mut Pool, record: Record, now: Instant, out: &mut Kept) {
        pool.write(&Exchange::of(record, MAX_BODY).unwrap(), now, out);
    }

    fn heard(out: &Kept) -> Vec<Heard> {
        let mut receiver = Receiver::new();
        out.0.iter().flat_map(|datagram| receiver.datagram(datagram).unwrap()).collect()
    }

    /// Client port of every SYN, in order.
    fn opened(out: &Kept) -> Vec<u16> {
        let syn = |tcp: &etherparse::TcpHeader| tcp.syn && !tcp.ack;
        out.segments().iter().filter(|(tcp, _)| syn(tcp)).map(|(tcp, _)| tcp.source_port).collect()
    }

    fn count(out: &Kept, wanted: impl Fn(&etherparse::TcpHeader) -> bool) -> usize {
        out.segments().iter().filter(|(tcp, _)| wanted(tcp)).count()
    }

    #[test]
    fn exchanges_of_one_connection_share_one_handshake_and_the_real_port() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        for _ in 0..100 {
            write(&mut pool, record(1, 10, 20), now, &mut out);
        }
        assert_eq!(opened(&out), [40000]);
        let heard = heard(&out);
        assert_eq!(heard.len(), 200);
        assert!(heard.iter().all(|m| m.complete && m.server.port() == 8080));
        // Three for the handshake, then request and response, which acknowledge each other.
        assert_eq!(out.0.len(), 3 + 200);
        pool.acknowledge_all(&mut out);
        assert_eq!(out.0.len(), 3 + 200 + 1);
    }

    #[test]
    fn frames_carry_the_times_of_what_they_hold_and_never_go_back() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        let at = |millis| now + Duration::from_millis(millis);
        let timed = |started, answered, ended| {
            let mut record = record(1, 10, 2_000);
            (record.started, record.answered, record.ended) = (at(started), Some(at(answered)), at(ended));
            record
        };
        write(&mut pool, timed(0, 20, 30), at(31), &mut out);
        // Began before the one that is already copied was over.
        write(&mut pool, timed(5, 25, 40), at(41), &mut out);
        pool.acknowledge_all(&mut out);
        pool.close(1, at(50), &mut out);
        let millis: Vec<_> = out.1.iter().map(|at| at.duration_since(now).as_millis()).collect();
        // Handshake and request, response in two segments, the same, acknowledgement, FIN, FIN, ACK.
        assert_eq!(millis, [0, 0, 0, 0, 20, 20, 30, 30, 30, 40, 50, 50, 50]);
    }

    #[test]
    fn last_exchange_is_acknowledged_after_the_delay_and_only_once() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        let at = |millis| now + Duration::from_millis(millis);
        write(&mut pool, record(1, 10, 20), now, &mut out);
        write(&mut pool, record(1, 10, 20), at(60), &mut out);
        for (millis, packets) in [(99, 7), (100, 7), (159, 7), (160, 8), (500, 8)] {
            pool.acknowledge(at(millis), &mut out);
            assert_eq!(out.0.len(), packets, "after {millis} ms");
        }
        assert_eq!(heard(&out).len(), 4);
        write(&mut pool, record(1, 10, 20), at(600), &mut out);
        pool.acknowledge_all(&mut out);
        pool.acknowledge_all(&mut out);
        assert_eq!(out.0.len(), 8 + 3);
    }

    #[test]
    fn connection_rolls_over_before_a_direction_passes_the_limit() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        for _ in 0..20 {
            write(&mut pool, record(1, 100_000, 10), now, &mut out);
        }
        // Five of 100 kB fit into 512 KiB.
        assert_eq!(opened(&out), [40000, 61000, 61001, 61002]);
        assert_eq!(count(&out, |tcp| tcp.fin), 2 * 3);
        let mut per_port: HashMap<u16, usize> = HashMap::new();
        for (tcp, payload) in out.segments() {
            *per_port.entry(tcp.source_port).or_default() += payload.len();
        }
        per_port.remove(&8080);
        assert!(per_port.values().all(|sent| *sent <= 512 * 1024));
        assert_eq!(heard(&out).len(), 40);
    }

    #[test]
    fn message_beyond_the_limit_has_a_connection_of_its_own() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        pool.limits.rollover = 50_000;
        write(&mut pool, record(1, 10, 10), now, &mut out);
        write(&mut pool, record(1, 10, 100_000), now, &mut out);
        write(&mut pool, record(1, 10, 10), now, &mut out);
        assert_eq!(opened(&out), [40000, 61000]);
        let ports: Vec<u16> = heard(&out).iter().map(|m| m.client.port()).collect();
        assert_eq!(ports, [40000, 40000, 61000, 61000, 40000, 40000]);
    }

    #[test]
    fn idle_connection_ends_with_fin_after_its_time() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        write(&mut pool, record(1, 10, 10), now, &mut out);
        assert_eq!(pool.next_expiry(), Some(now + Duration::from_secs(30)));
        pool.expire(now + Duration::from_millis(29_999), &mut out);
        assert_eq!(count(&out, |tcp| tcp.fin), 0);
        pool.expire(now + Duration::from_secs(30), &mut out);
        assert_eq!(count(&out, |tcp| tcp.fin), 2);
        assert_eq!(pool.next_expiry(), None);
        // The real connection lives on: its next exchange may not reuse the address pair at once.
        write(&mut pool, record(1, 10, 10), now + Duration::from_secs(31), &mut out);
        assert_eq!(opened(&out), [40000, 61000]);
        pool.close_all(now + Duration::from_secs(32), &mut out);
        write(&mut pool, record(1, 10, 10), now + Duration::from_secs(95), &mut out);
        assert_eq!(opened(&out), [40000, 61000, 40000]);
    }

    #[test]
    fn use_keeps_a_connection_open_and_the_longest_unused_ends_first() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for (connection, seconds) in [(1, 0), (2, 1), (1, 20), (2, 21), (1, 25)] {
            write(&mut pool, record(connection, 10, 10), at(seconds), &mut out);
        }
        pool.expire(at(50), &mut out);
        assert_eq!((pool.current.len(), pool.order.len(), pool.next_expiry()), (2, 2, Some(at(51))));
        pool.expire(at(51), &mut out);
        assert!(pool.current.contains_key(&1) && !pool.current.contains_key(&2));
        assert_eq!((pool.order.len(), pool.next_expiry()), (1, Some(at(55))));
        assert_eq!(pool.longest_unused(), Some(1));
    }

    #[test]
    fn closed_real_connection_ends_its_copy_and_frees_the_port_for_the_next_one() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        write(&mut pool, record(1, 10, 10), now, &mut out);
        pool.close(1, now, &mut out);
        let mut last = record(2, 10, 10);
        last.last = true;
        write(&mut pool, last, now, &mut out);
        assert_eq!(opened(&out), [40000, 40000]);
        assert_eq!(count(&out, |tcp| tcp.fin), 4);
        assert!(pool.current.is_empty() && pool.order.is_empty() && pool.ports.open.is_empty());
    }

    #[test]
    fn two_real_connections_never_share_an_address_pair() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        write(&mut pool, record(1, 10, 10), now, &mut out);
        write(&mut pool, record(2, 10, 10), now, &mut out);
        assert_eq!(opened(&out), [40000, 61000]);
    }

    #[test]
    fn abort_becomes_reset_from_the_side_that_broke_off() {
        for (side, port) in [(Side::Client, 40000), (Side::Server, 8080)] {
            let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
            let mut broken = record(1, 10, 10);
            broken.aborted = Some(side);
            broken.response = None;
            write(&mut pool, broken, now, &mut out);
            let segments = out.segments();
            let (tcp, _) = segments.last().unwrap();
            assert!(tcp.rst && tcp.source_port == port);
            assert!(pool.ports.open.is_empty());
        }
    }

    #[test]
    fn cut_body_ends_its_direction_and_the_answer_still_follows() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        write(&mut pool, record(1, 200_000, 10), now, &mut out);
        write(&mut pool, record(1, 10, 200_000), now, &mut out);
        let told: Vec<_> = heard(&out).iter().map(|m| (m.side, m.body.len(), m.complete)).collect();
        use Side::{Client, Server};
        let expected = [(Client, MAX_BODY, false), (Server, 10, true), (Client, 10, true), (Server, MAX_BODY, false)];
        assert_eq!(told, expected);
        assert_eq!((opened(&out).len(), count(&out, |tcp| tcp.fin), count(&out, |tcp| tcp.rst)), (2, 4, 0));
        assert!(pool.current.is_empty());
    }

    #[test]
    fn lost_datagram_makes_the_next_exchange_begin_anew() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        write(&mut pool, record(1, 10, 10), now, &mut out);
        pool.forget(1, now);
        write(&mut pool, record(1, 10, 10), now, &mut out);
        assert_eq!(opened(&out), [40000, 61000]);
    }

    #[test]
    fn open_connections_are_bounded_and_the_longest_unused_ends() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        for n in 0..MAX_OPEN as u64 + 10 {
            let mut one = record(n, 0, 0);
            one.client = format!("10.1.{}.{}:40000", n / 250, n % 250).parse().unwrap();
            write(&mut pool, one, now, &mut out);
            out.0.truncate(0);
        }
        assert_eq!((pool.current.len(), pool.order.len()), (MAX_OPEN, MAX_OPEN));
        assert!(!pool.current.contains_key(&9) && pool.current.contains_key(&10));
    }

    #[test]
    fn synthetic_ports_rest_before_they_return() {
        let (mut ports, now) = (Ports::default(), Instant::now());
        let wanted = Tuple::new("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        ports.claim(wanted, 1, now);
        let mut seen = HashSet::new();
        for _ in 0..SYNTHETIC_COUNT {
            let tuple = ports.claim(wanted, 1, now);
            assert!(tuple.client.port() >= SYNTHETIC_FIRST && seen.insert(tuple));
            ports.release(tuple, 1, now);
        }
        // All rest: the one used longest ago comes first.
        assert_eq!(ports.claim(wanted, 1, now).client.port(), SYNTHETIC_FIRST);
        ports.wake(now + QUARANTINE);
        assert!(ports.resting.is_empty() && ports.by_age.is_empty());
    }

    #[test]
    fn ipv6_inside_is_read_back_too() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        let mut six = record(1, 5000, 5000);
        six.client = "[fd00::1]:40000".parse().unwrap();
        six.server = "[fd00::2]:8080".parse().unwrap();
        write(&mut pool, six, now, &mut out);
        let heard = heard(&out);
        assert_eq!((heard.len(), heard[0].client), (2, "[fd00::1]:40000".parse().unwrap()));
        assert!(out.0.iter().all(|datagram| datagram.len() <= 8 + 14 + 1450));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_row_of_exchanges_is_read_back_as_it_was(
            rollover in 2_000u64..80_000,
            row in prop::collection::vec((0u64..4, 0usize..9_000, 0usize..9_000, any::<bool>()), 1..30),
        ) {
            let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
            pool.limits.rollover = rollover;
            for (connection, sent, answered, last) in &row {
                let mut one = record(*connection, *sent, *answered);
                one.client.set_port(40_000 + *connection as u16);
                one.last = *last;
                write(&mut pool, one, now, &mut out);
            }
            pool.close_all(now, &mut out);
            let heard = heard(&out);
            prop_assert_eq!(heard.len(), 2 * row.len());
            for (pair, (connection, sent, answered, _)) in heard.chunks(2).zip(&row) {
                prop_assert_eq!(pair[0].start_line(), format!("POST /{connection} HTTP/1.1"));
                prop_assert_eq!((&pair[0].body, &pair[1].body), (&body(*sent), &body(*answered)));
                prop_assert!(pair[0].complete && pair[1].complete && pair[0].client == pair[1].client);
            }
            prop_assert!(pool.ports.open.is_empty() && pool.order.is_empty());
        }
    }
}
