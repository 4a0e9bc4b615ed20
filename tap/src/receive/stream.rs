//! One direction of a connection, put in order.
//!
//! In: segments as they come, doubled, overlapping or out of order. Out: the bytes that are complete up to here.
//! Sequence numbers wrap (RFC 9293 section 3.4). Holds at most [`MAX_HELD`] bytes; beyond that the direction is lost.

/// Bytes of one direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Sequence number of the next byte in order; `None` before SYN.
    next: Option<u32>,
    ready: Vec<u8>,
    /// Segments ahead of `next`.
    ahead: Vec<(u32, Vec<u8>)>,
    ahead_bytes: usize,
    /// Sequence number of the FIN.
    end: Option<u32>,
    cut_off: bool,
    lost: bool,
}

impl Stream {
    pub(super) fn take(&mut self, seq: u32, syn: bool, fin: bool, payload: &[u8]) {
        let first = if syn { seq.wrapping_add(1) } else { seq };
        if syn && self.next.is_none() {
            self.next = Some(first);
        }
        if fin {
            self.end = Some(first.wrapping_add(payload.len() as u32));
        }
        if payload.is_empty() || self.lost {
            return;
        }
        if self.ready.len() + self.ahead_bytes + payload.len() > MAX_HELD {
            self.lost = true;
            self.ready = Vec::new();
            self.ahead = Vec::new();
            return;
        }
        self.ahead_bytes += payload.len();
        self.ahead.push((first, payload.to_vec()));
        while self.join_one() {}
    }

    /// Moves one segment that continues the stream; false if there is none.
    fn join_one(&mut self) -> bool {
        let Some(next) = self.next else { return false };
        // Not ahead of `next`: the distance, read as signed, is not negative.
        let fits = |(seq, _): &(u32, Vec<u8>)| next.wrapping_sub(*seq) as i32 >= 0;
        let Some(which) = self.ahead.iter().position(fits) else {
            return false;
        };
        let (seq, payload) = self.ahead.swap_remove(which);
        self.ahead_bytes -= payload.len();
        let known = next.wrapping_sub(seq) as usize;
        let news = payload.get(known..).unwrap_or_default();
        self.ready.extend_from_slice(news);
        self.next = Some(next.wrapping_add(news.len() as u32));
        true
    }

    pub(super) fn ready(&self) -> &[u8] {
        &self.ready
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.ready.drain(..bytes.min(self.ready.len()));
    }

    /// Nothing will follow what is ready.
    pub(super) fn has_ended(&self) -> bool {
        self.cut_off || (self.end.is_some() && self.end == self.next)
    }

    /// The connection was reset.
    pub(super) fn cut_off(&mut self) {
        self.cut_off = true;
    }

    /// More was held than is allowed.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }
}

/// Bytes held for one direction.
pub(super) const MAX_HELD: usize = 2 * 1024 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_order_and_any_doubling_gives_the_same_bytes(
            isn in prop_oneof![any::<u32>(), u32::MAX - 100..=u32::MAX],
            text in prop::collection::vec(any::<u8>(), 1..300),
            cuts in prop::collection::vec((0usize..300, 1usize..80), 0..12),
            order in any::<u64>(),
        ) {
            // All of it in tens, plus overlapping pieces, shuffled.
            let mut pieces: Vec<(usize, usize)> = (0..text.len()).step_by(10).map(|at| (at, 10)).collect();
            pieces.extend(cuts.iter().filter(|(at, _)| *at < text.len()));
            let mut key = order | 1;
            pieces.sort_by_cached_key(|_| { key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); key >> 20 });
            let mut stream = Stream::default();
            stream.take(isn, true, false, b"");
            let first = isn.wrapping_add(1);
            stream.take(first.wrapping_add(text.len() as u32), false, true, b"");
            for (at, len) in pieces {
                let end = (at + len).min(text.len());
                stream.take(first.wrapping_add(at as u32), false, false, &text[at..end]);
            }
            prop_assert_eq!(stream.ready(), &text[..]);
            prop_assert!(stream.has_ended());
        }
    }

    #[test]
    fn hole_stops_the_stream_and_memory_is_bounded() {
        let mut stream = Stream::default();
        stream.take(0, true, false, b"");
        stream.take(5, false, false, b"later");
        assert_eq!(stream.ready(), b"");
        for n in 0..3000u32 {
            stream.take(10 + n * 1000, false, false, &[7; 1000]);
        }
        assert!(stream.is_lost());
    }
}
