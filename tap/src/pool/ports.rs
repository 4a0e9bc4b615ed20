//! Which pairs of addresses synthetic connections may have: the real one first, then the next that has rested.
//!
//! In: the real pair, the real connection, and the time. Out: a pair that no open connection has. Bounded: so many rest, and
//! the one closed longest ago is forgotten first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::packet::Tuple;

/// Which address pairs are in use, and which rest after use.
#[derive(Debug, Default)]
pub(super) struct Ports {
    pub(super) open: HashSet<Tuple>,
    /// Closed lately: when, and by which real connection.
    resting: HashMap<Tuple, (Instant, u64)>,
    /// `resting` by age. A tuple used again stands here twice; the map knows the valid time.
    by_age: VecDeque<(Instant, Tuple)>,
    /// Next synthetic port to try, as an offset into the range.
    next: u16,
}

impl Ports {
    /// The real port where it is free, else the next synthetic one that is free and rested.
    pub(super) fn claim(&mut self, wanted: Tuple, connection: u64, now: Instant) -> Tuple {
        self.wake(now);
        // Another real connection that used the port before is no hindrance: the kernel gave it out again.
        let used_by_itself = self.resting.get(&wanted).is_some_and(|(_, by)| *by == connection);
        let tuple = if !used_by_itself && !self.open.contains(&wanted) { wanted } else { self.synthetic(wanted) };
        self.open.insert(tuple);
        tuple
    }

    fn synthetic(&mut self, wanted: Tuple) -> Tuple {
        let tuple_at = |offset| wanted.with_client_port(SYNTHETIC_FIRST + offset);
        let row = (self.next..SYNTHETIC_COUNT).chain(0..self.next);
        let mut closed = row.filter(|offset| !self.open.contains(&tuple_at(*offset))).take(MOST_ASKED).peekable();
        // Where so many in a row rest, all do, and the first is the one used longest ago. With a new sequence number it is
        // a new connection to an IDS. `open` never holds all: MAX_OPEN is smaller than the range.
        let first = closed.peek().copied();
        let rested = closed.find(|offset| !self.resting.contains_key(&tuple_at(*offset)));
        let Some(offset) = rested.or(first) else { return wanted };
        self.next = (offset + 1) % SYNTHETIC_COUNT;
        tuple_at(offset)
    }

    pub(super) fn release(&mut self, tuple: Tuple, connection: u64, now: Instant) {
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

/// Address pairs remembered as resting. About 100 bytes each.
const MAX_RESTING: usize = 16_384;
/// How long a synthetic port rests before it is used again: Zeek and Suricata have forgotten the connection by then.
const QUARANTINE: Duration = Duration::from_secs(60);
/// Synthetic client ports: 61000 to 65535, above Linux's default range for real ones (32768 to 60999).
const SYNTHETIC_FIRST: u16 = 61_000;
const SYNTHETIC_COUNT: u16 = 65_535 - SYNTHETIC_FIRST + 1;
/// So many closed ones are asked whether they have rested: where each exchange has a connection, none has most of the time.
const MOST_ASKED: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

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
        // And not the same again.
        ports.release(wanted.with_client_port(SYNTHETIC_FIRST), 1, now);
        assert_eq!(ports.claim(wanted, 1, now).client.port(), SYNTHETIC_FIRST + 1);
        ports.wake(now + QUARANTINE);
        assert!(ports.resting.is_empty() && ports.by_age.is_empty());
    }
}
