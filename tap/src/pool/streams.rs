//! Which synthetic connections a stream goes on: one after the other, each up to the rollover.
//!
//! There is at most one stream to a real connection. What it says is written when it comes, cut at the rollover: the bytes of the
//! connections, in their order, are those of the stream. A side that has ended has ended on each of them. A connection that lost
//! a packet, or had to end because the sensor changed, is followed by another one as well.

use std::collections::HashMap;
use std::time::Instant;

use crate::flow::{Flow, Out};
use crate::http1::Wire;
use crate::packet::Tuple;
use crate::pool::exchanges::{is_room, speak};
use crate::pool::{MAX_OPEN, Pool};
use crate::record::Side;
use crate::stream::Opened;

/// The open streams, by number of the real connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<u64, Streaming>,
    /// Those with something unacknowledged.
    owed: Vec<u64>,
}

#[derive(Debug)]
struct Streaming {
    /// `None`: what follows goes on a new one.
    flow: Option<Flow>,
    tuple: Tuple,
    /// As it was asked for.
    wanted: Tuple,
    client_finished: bool,
    server_finished: bool,
    owed: bool,
}

impl Pool {
    /// Begins a stream, after its exchange if there is one. Says on which connection; `None`: there are too many.
    pub(crate) fn open_stream(
        &mut self,
        connection: u64,
        opened: &Opened,
        now: Instant,
        out: &mut dyn Out,
    ) -> Option<Tuple> {
        self.end_stream(connection, Side::Client, now, now, out);
        // What stands idle makes room; another stream does not.
        if self.streams.len() >= MAX_OPEN {
            return None;
        }
        if self.current.len() + self.streams.len() >= MAX_OPEN
            && !self.current.contains_key(&connection)
            && let Some(oldest) = self.longest_unused()
        {
            self.close(oldest, now, out);
        }
        let (flow, tuple) = match &opened.exchange {
            None => self.new_flow(connection, opened.tuple, opened.started, now, out),
            Some(exchange) => {
                let request = exchange.request.len() as u64;
                let response = exchange.response.as_ref().map_or(0, Wire::len) as u64;
                let (mut flow, tuple) = match self.take(connection) {
                    Some(entry) if is_room(self.limits, &entry, request, response) => (entry.flow, entry.tuple),
                    full => {
                        if let Some(full) = full {
                            self.end(full, Side::Client, now, out);
                        }
                        self.new_flow(connection, opened.tuple, opened.started, now, out)
                    }
                };
                speak(&mut flow, exchange, out);
                (flow, tuple)
            }
        };
        let streaming = Streaming {
            flow: Some(flow),
            tuple,
            wanted: opened.tuple,
            client_finished: false,
            server_finished: false,
            owed: false,
        };
        self.streams.open.insert(connection, streaming);
        self.owe_stream(connection);
        Some(tuple)
    }

    /// One side of a stream says something. False: there is no such stream.
    pub(crate) fn say(
        &mut self,
        connection: u64,
        side: Side,
        bytes: &[u8],
        (at, now): (Instant, Instant),
        out: &mut dyn Out,
    ) -> bool {
        let Some(mut streaming) = self.streams.open.remove(&connection) else {
            return false;
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let full = |flow: &Flow| flow.sent(side) >= self.limits.rollover || flow.has_finished(side);
            if streaming.flow.as_ref().is_none_or(full) {
                self.roll(connection, &mut streaming, at, now, out);
            }
            let Some(flow) = &mut streaming.flow else { break };
            let room = self.limits.rollover.saturating_sub(flow.sent(side)).max(1);
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (part, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            flow.advance(at);
            flow.send(side, [part, &[], &[]], out);
            rest = later;
        }
        self.streams.open.insert(connection, streaming);
        self.owe_stream(connection);
        true
    }

    /// One side of a stream ends; with the second the stream is over.
    pub(crate) fn finish_stream(
        &mut self,
        connection: u64,
        side: Side,
        (at, now): (Instant, Instant),
        out: &mut dyn Out,
    ) {
        let Some(mut streaming) = self.streams.open.remove(&connection) else {
            return;
        };
        *streaming.finished(side) = true;
        let over = *streaming.finished(side.other());
        match streaming.flow.take() {
            Some(mut flow) if over => {
                flow.advance(at);
                self.ports.release(streaming.tuple, connection, now);
                flow.close(side.other(), out);
            }
            Some(mut flow) => {
                flow.advance(at);
                flow.finish(side, out);
                streaming.flow = Some(flow);
            }
            None => {}
        }
        if !over {
            self.streams.open.insert(connection, streaming);
        }
    }

    /// A stream breaks off.
    pub(crate) fn end_stream(&mut self, connection: u64, side: Side, at: Instant, now: Instant, out: &mut dyn Out) {
        if let Some(streaming) = self.streams.open.remove(&connection)
            && let Some(mut flow) = streaming.flow
        {
            self.ports.release(streaming.tuple, connection, now);
            flow.advance(at);
            flow.reset(side, out);
        }
    }

    /// A stream is no longer copied, and nothing more can be said of it.
    pub(crate) fn abandon_stream(&mut self, connection: u64, now: Instant) {
        self.forget_stream(connection, now);
        self.streams.open.remove(&connection);
    }

    /// What follows goes on a new connection; the old one ends in order.
    pub(super) fn close_streams(&mut self, now: Instant, out: &mut dyn Out) {
        for (connection, streaming) in &mut self.streams.open {
            if let Some(mut flow) = streaming.flow.take() {
                self.ports.release(streaming.tuple, *connection, now);
                flow.settle(out);
                flow.close(Side::Client, out);
            }
        }
    }

    /// What follows goes on a new connection; the old one has a hole.
    pub(super) fn forget_stream(&mut self, connection: u64, now: Instant) {
        if let Some(streaming) = self.streams.open.get_mut(&connection)
            && streaming.flow.take().is_some()
        {
            self.ports.release(streaming.tuple, connection, now);
        }
    }

    /// The same for every stream.
    pub(super) fn forget_streams(&mut self, now: Instant) {
        for (connection, streaming) in &mut self.streams.open {
            if streaming.flow.take().is_some() {
                self.ports.release(streaming.tuple, *connection, now);
            }
        }
    }

    /// Acknowledges what streams have said.
    pub(super) fn acknowledge_streams(&mut self, out: &mut dyn Out) {
        for connection in self.streams.owed.drain(..) {
            if let Some(streaming) = self.streams.open.get_mut(&connection) {
                streaming.owed = false;
                if let Some(flow) = &mut streaming.flow {
                    flow.settle(out);
                }
            }
        }
    }

    fn owe_stream(&mut self, connection: u64) {
        if let Some(streaming) = self.streams.open.get_mut(&connection)
            && !std::mem::replace(&mut streaming.owed, true)
        {
            self.streams.owed.push(connection);
        }
    }

    fn roll(&mut self, connection: u64, streaming: &mut Streaming, at: Instant, now: Instant, out: &mut dyn Out) {
        if let Some(mut full) = streaming.flow.take() {
            self.ports.release(streaming.tuple, connection, now);
            full.advance(at);
            full.settle(out);
            full.close(Side::Client, out);
        }
        let (mut flow, tuple) = self.new_flow(connection, streaming.wanted, at, now, out);
        for side in [Side::Client, Side::Server] {
            if *streaming.finished(side) {
                flow.finish(side, out);
            }
        }
        (streaming.flow, streaming.tuple) = (Some(flow), tuple);
    }
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Streaming {
    fn finished(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Client => &mut self.client_finished,
            Side::Server => &mut self.server_finished,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::RandomState;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::flow::tests::Kept;
    use crate::pool::Limits;

    fn pool(rollover: u64) -> Pool {
        let mut pool = Pool::new(Limits { rollover, idle: Duration::from_secs(30), vlan: None }, RandomState::new());
        pool.set_room(1450);
        pool
    }

    fn opened(now: Instant) -> Opened {
        let tuple = Tuple::new("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:5432".parse().unwrap());
        Opened { tuple, started: now, exchange: None }
    }

    type Heard = (Vec<u8>, Vec<u8>, String);

    /// Of each synthetic connection, in the order of their opening: what both sides said, and how it ended.
    fn heard(out: &Kept) -> Vec<Heard> {
        let mut order = Vec::new();
        let mut found: BTreeMap<u16, Heard> = BTreeMap::new();
        for (tcp, payload) in out.segments() {
            let up = tcp.destination_port == 5432;
            let port = if up { tcp.source_port } else { tcp.destination_port };
            if !found.contains_key(&port) {
                assert!(tcp.syn, "a connection begins with its handshake");
                order.push(port);
            }
            let (client, server, end) = found.entry(port).or_default();
            if up {
                client.extend(payload)
            } else {
                server.extend(payload)
            }
            for (set, letter) in [(tcp.fin, 'F'), (tcp.rst, 'R')] {
                if set {
                    end.push(if up { '>' } else { '<' });
                    end.push(letter);
                }
            }
        }
        order.into_iter().map(|port| found.remove(&port).unwrap()).collect()
    }

    #[test]
    fn a_stream_is_one_connection_and_ends_as_it_ended() {
        let now = Instant::now();
        for (end, expected) in [("fin", ">F<F"), ("reset", "<R"), ("closed", ">R")] {
            let (mut pool, mut out) = (pool(1 << 20), Kept::default());
            assert!(pool.open_stream(7, &opened(now), now, &mut out).is_some());
            assert!(pool.say(7, Side::Client, b"ping", (now, now), &mut out));
            assert!(pool.say(7, Side::Server, b"pong", (now, now), &mut out));
            match end {
                "fin" => {
                    pool.finish_stream(7, Side::Client, (now, now), &mut out);
                    assert!(pool.say(7, Side::Server, b"!", (now, now), &mut out));
                    pool.finish_stream(7, Side::Server, (now, now), &mut out);
                }
                "reset" => pool.end_stream(7, Side::Server, now, now, &mut out),
                _ => pool.close(7, now, &mut out),
            }
            let server = if end == "fin" { b"pong!".to_vec() } else { b"pong".to_vec() };
            assert_eq!(heard(&out), [(b"ping".to_vec(), server, expected.to_owned())]);
            assert!(pool.streams.open.is_empty() && pool.ports.open.is_empty());
            assert!(!pool.say(7, Side::Client, b"late", (now, now), &mut out), "nothing follows an end");
        }
    }

    #[test]
    fn what_a_lost_packet_or_a_new_sensor_cuts_goes_on_anew() {
        let (mut pool, mut out, now) = (pool(1 << 20), Kept::default(), Instant::now());
        pool.open_stream(7, &opened(now), now, &mut out);
        pool.say(7, Side::Client, b"one", (now, now), &mut out);
        pool.forget(7, now);
        pool.say(7, Side::Client, b"two", (now, now), &mut out);
        pool.close_all(now, &mut out);
        pool.finish_stream(7, Side::Client, (now, now), &mut out);
        pool.say(7, Side::Server, b"three", (now, now), &mut out);
        pool.finish_stream(7, Side::Server, (now, now), &mut out);
        let heard = heard(&out);
        let said: Vec<_> = heard.iter().map(|(c, s, end)| (c.as_slice(), s.as_slice(), end.as_str())).collect();
        assert_eq!(said, [(&b"one"[..], &b""[..], ""), (b"two", b"", ">F<F"), (b"", b"three", ">F<F")]);
        assert!(pool.ports.open.is_empty());
    }

    #[test]
    fn there_are_at_most_so_many_streams() {
        let (mut pool, mut out, now) = (pool(1 << 20), Kept::default(), Instant::now());
        for connection in 0..MAX_OPEN as u64 {
            assert!(pool.open_stream(connection, &opened(now), now, &mut out).is_some());
            out.0.clear();
        }
        assert!(pool.open_stream(u64::MAX, &opened(now), now, &mut out).is_none());
    }

    proptest! {
        #[test]
        fn the_bytes_of_the_connections_are_those_of_the_stream(
            // Not so little that the connections come to the end of their ports, and begin again with the first.
            rollover in 30u64..5_000,
            talk in prop::collection::vec((any::<bool>(), 0usize..4_000), 0..12),
            client_ends_after in 0usize..14,
        ) {
            let (mut pool, mut out, now) = (pool(rollover), Kept::default(), Instant::now());
            pool.open_stream(7, &opened(now), now, &mut out);
            let mut said = (Vec::new(), Vec::new());
            let mut ended = false;
            for (i, (up, count)) in talk.into_iter().enumerate() {
                if i == client_ends_after {
                    pool.finish_stream(7, Side::Client, (now, now), &mut out);
                    ended = true;
                }
                let bytes: Vec<u8> = (0..count).map(|n| (n * 7 + i) as u8).collect();
                let side = if up && !ended { Side::Client } else { Side::Server };
                if side == Side::Client { said.0.extend(&bytes) } else { said.1.extend(&bytes) }
                pool.say(7, side, &bytes, (now, now), &mut out);
                if i % 3 == 0 {
                    pool.acknowledge_all(&mut out);
                }
            }
            if !ended {
                pool.finish_stream(7, Side::Client, (now, now), &mut out);
            }
            pool.finish_stream(7, Side::Server, (now, now), &mut out);
            let heard = heard(&out);
            for (client, server, end) in &heard {
                prop_assert!(client.len() as u64 <= rollover && server.len() as u64 <= rollover);
                prop_assert!(end == ">F<F" || end == "<F>F", "{}", end);
            }
            let whole = |of: fn(&Heard) -> &Vec<u8>| heard.iter().flat_map(of).copied().collect::<Vec<u8>>();
            prop_assert_eq!((whole(|h| &h.0), whole(|h| &h.1)), said);
            prop_assert!(pool.ports.open.is_empty() && pool.streams.open.is_empty());
        }
    }
}
