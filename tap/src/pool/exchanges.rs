//! An exchange on a synthetic connection: on the open one while there is room, else on the next.
//!
//! In: exchanges, whole, in the order they finished. Out: frames. A connection is replaced before a message would take a direction
//! past `rollover`; a message that is larger by itself goes on one of its own. What was broken off ends its connection with RST,
//! what has no end of its own with FIN.

use std::time::Instant;

use super::{Entry, Limits, Pool, owe};
use crate::exchange::{End, Exchange};
use crate::flow::{Flow, Out};
use crate::h2c;
use crate::http1::Wire;
use crate::packet::{Pieces, Tuple};
use crate::record::Side;
use crate::settings::Mapping;

impl Pool {
    /// Writes one exchange. Says on which connection it lies.
    pub(crate) fn write(&mut self, exchange: &Exchange, now: Instant, out: &mut dyn Out) -> Tuple {
        let connection = exchange.connection;
        let request = exchange.request.len() as u64;
        let response = exchange.response.as_ref().map_or(0, Wire::len) as u64;
        if exchange.mapping == Mapping::H2c || request.max(response) > self.limits.rollover {
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

    /// Request and response on an open connection; gives it back if it stays open.
    fn converse(
        &mut self,
        mut entry: Entry,
        exchange: &Exchange,
        end: End,
        now: Instant,
        out: &mut dyn Out,
    ) -> Option<Entry> {
        match (exchange.mapping, end) {
            (Mapping::H2c, End::Finish(side) | End::Reset(side)) => h2c::speak(&mut entry.flow, exchange, side, out),
            _ => speak(&mut entry.flow, exchange, out),
        }
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
}

/// Request and response, each at its time; what follows passes when the exchange was over, or later.
pub(super) fn speak(flow: &mut Flow, exchange: &Exchange, out: &mut dyn Out) {
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

pub(super) fn is_room(limits: Limits, entry: &Entry, request: u64, response: u64) -> bool {
    entry.flow.sent(Side::Client) + request <= limits.rollover
        && entry.flow.sent(Side::Server) + response <= limits.rollover
}

/// A connection that holds one exchange ends after it; every one of HTTP/2 does.
fn alone(end: End) -> End {
    match end {
        End::Open => End::Finish(Side::Client),
        ended => ended,
    }
}

fn pieces(wire: &Wire) -> Pieces<'_> {
    [&wire.head, &wire.body, &wire.tail]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::flow::tests::Kept;
    use crate::pool::tests::{MAX_BODY, body, count, heard, opened, pool, record, write};

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
