//! Which synthetic connections are open, in which order they were used, and when each ends.
//!
//! In: exchanges in the order they finished, streams, and the time. Out: frames. One real connection becomes a row of
//! synthetic keep-alive connections, one at a time, the first with the real client port, so that its Community ID is
//! the wire's; with [`Mapping::H2c`] each exchange that was HTTP/2 has one of its own. Exchanges arrive whole, so one after the other is valid HTTP/1.1 however they overlapped in HTTP/2.
//! Bounded: at most [`MAX_OPEN`] are open, the longest unused ends first.
//!
//! | file | idea |
//! | --- | --- |
//! | `exchanges` | an exchange on its connection, and when the next one begins |
//! | `streams` | a stream, cut over one connection after the other |
//! | `ports` | the pairs of addresses, and how long each rests |

mod exchanges;
mod ports;
mod streams;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::flow::{Flow, Link, Out};
use crate::packet::{self, Tuple};
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
    ports: ports::Ports,
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
            ports: ports::Ports::default(),
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

/// Notes that something is unacknowledged on a connection that is not noted yet.
fn owe(owed: &mut VecDeque<(Instant, u64)>, connection: u64, entry: &mut Entry, out: &mut dyn Out) {
    entry.owed = owed.len() < MAX_OPEN;
    if entry.owed {
        owed.push_back((entry.used, connection));
    } else {
        entry.flow.settle(out);
    }
}

/// How long the end of an exchange waits for a later one to acknowledge it, as TCP's own delayed acknowledgement does
/// (RFC 9293 section 3.8.6.3: less than 0.5 s). Twice that at most, where exchanges follow each other closely.
const ACK_DELAY: Duration = Duration::from_millis(100);
/// Open synthetic connections of one tap. About 300 bytes each.
const MAX_OPEN: usize = 4096;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::exchange::Exchange;
    use crate::flow::tests::Kept;
    use crate::receive::{Heard, Receiver};
    use crate::record::{Message, Record, Verdict};
    use crate::settings::Mapping;
    use http::{HeaderMap, Method, StatusCode};

    pub(crate) const MAX_BODY: usize = 128 * 1024;

    pub(crate) fn pool() -> Pool {
        let limits = Limits { rollover: 512 * 1024, idle: Duration::from_secs(30), vlan: None };
        let mut pool = Pool::new(limits, RandomState::new());
        pool.set_room(1450);
        pool
    }

    pub(crate) fn body(n: usize) -> Vec<u8> {
        (0..n).map(|i| b'a' + (i % 23) as u8).collect()
    }

    pub(crate) fn record(connection: u64, sent: usize, answered: usize) -> Record {
        let with = |mut message: Message, n: usize| {
            (message.body, message.body_len, message.complete) = (body(n), n as u64, true);
            message
        };
        let host = Some("orders");
        Record {
            connection,
            client: "10.0.0.1:40000".parse().unwrap(),
            server: "10.0.0.2:8080".parse().unwrap(),
            http2: false,
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

    pub(crate) fn write(pool: &mut Pool, record: Record, now: Instant, out: &mut Kept) {
        pool.write(&Exchange::of(record, MAX_BODY, Mapping::H2c).unwrap(), now, out);
    }

    pub(crate) fn heard(out: &Kept) -> Vec<Heard> {
        let mut receiver = Receiver::new();
        out.0.iter().flat_map(|datagram| receiver.datagram(datagram).unwrap()).collect()
    }

    /// Client port of every SYN, in order.
    pub(crate) fn opened(out: &Kept) -> Vec<u16> {
        let syn = |tcp: &etherparse::TcpHeader| tcp.syn && !tcp.ack;
        out.segments().iter().filter(|(tcp, _)| syn(tcp)).map(|(tcp, _)| tcp.source_port).collect()
    }

    pub(crate) fn count(out: &Kept, wanted: impl Fn(&etherparse::TcpHeader) -> bool) -> usize {
        out.segments().iter().filter(|(tcp, _)| wanted(tcp)).count()
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
}
