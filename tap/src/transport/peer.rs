//! One receiver of a stream, and what it has got.
//!
//! In: whole frames. Out: bytes to a [`Link`], and the exact number of frames that have arrived at the receiver's host: a
//! frame counts as sent when its last byte is acknowledged, and as a send error when the stream ends before.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::counters::Tally;
use crate::transport::link::Link;
use crate::transport::wire::is_for_later;

/// An open stream and what is on its way.
#[derive(Debug)]
pub(crate) struct Peer {
    link: Box<dyn Link>,
    /// Bytes the link has not taken, from `start` on.
    held: Vec<u8>,
    start: usize,
    /// All bytes so far.
    pushed: u64,
    /// Where in the stream each frame ends that is not known to have arrived.
    ends: VecDeque<u64>,
    /// When it last got on, or had nothing to do.
    moved: Instant,
    arrived: u64,
}

impl Peer {
    /// A stream that begins with these bytes. `room`: what holds those that the link has not taken, see [`Peer::room`].
    pub(crate) fn new(link: Box<dyn Link>, header: &[u8], mut room: Vec<u8>, now: Instant) -> Self {
        room.clear();
        room.extend_from_slice(header);
        let (held, pushed) = (room, header.len() as u64);
        Self { link, held, start: 0, pushed, ends: VecDeque::new(), moved: now, arrived: 0 }
    }

    /// Room for so many bytes, taken at once: what grows by halves leaves holes of every size in the memory around it. `spare`: of an
    /// earlier stream.
    pub(crate) fn room(mut spare: Vec<u8>, most: usize) -> Vec<u8> {
        spare.clear();
        spare.reserve_exact(most + 2 * COMPACT);
        spare
    }

    /// Takes a frame, with what stands before it.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        if self.start > COMPACT {
            self.held.drain(..self.start);
            self.start = 0;
        }
        self.held.extend_from_slice(frame);
        self.pushed += frame.len() as u64;
        self.ends.push_back(self.pushed);
    }

    /// Bytes the link has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.held.len() - self.start
    }

    /// Everything has arrived.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.ends.is_empty()
    }

    /// Hands on what the link takes now and counts what has arrived.
    ///
    /// # Errors
    /// What broke the stream; a receiver that takes nothing for [`STALL`] among it. [`Peer::give_up`] follows.
    pub(crate) fn pump(&mut self, now: Instant, tally: &Tally) -> io::Result<()> {
        let before = self.start;
        loop {
            let rest = self.held.get(self.start..).unwrap_or_default();
            if rest.is_empty() {
                self.held.clear();
                self.start = 0;
                break;
            }
            match self.link.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.start += count,
                Err(error) if is_for_later(&error) => break,
                Err(error) => return Err(error),
            }
        }
        match self.link.flush() {
            Err(error) if !is_for_later(&error) => return Err(error),
            _ => {}
        }
        self.link.listen()?;
        let arrived = self.arrived;
        self.count(tally);
        if self.start != before || self.arrived != arrived || self.is_idle() {
            self.moved = now;
        } else if now.saturating_duration_since(self.moved) > STALL {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Hands on nothing more: what the link has not taken counts as refused with this errno. What it has taken may still
    /// arrive; [`Peer::has_come_to_rest`] says when it is known. Gives back its room.
    pub(crate) fn leave(&mut self, errno: i32, now: Instant, tally: &Tally) -> Vec<u8> {
        self.count(tally);
        let taken = self.pushed - self.waiting() as u64;
        let whole = self.ends.partition_point(|end| *end <= taken);
        let refused = self.ends.drain(whole..).count();
        tally.send_errors(errno, refused as u64);
        self.start = 0;
        self.moved = now;
        std::mem::take(&mut self.held)
    }

    /// After [`Peer::leave`]: nothing is on its way any more, or nothing was acknowledged for so long.
    pub(crate) fn has_come_to_rest(&mut self, now: Instant, quiet: Duration, tally: &Tally) -> bool {
        let before = self.arrived;
        self.count(tally);
        if self.arrived != before {
            self.moved = now;
        }
        self.ends.is_empty() || now.saturating_duration_since(self.moved) > quiet
    }

    /// Ends the stream at once. What has not arrived counts as refused with this errno.
    pub(crate) fn give_up(mut self, errno: i32, tally: &Tally) {
        self.count(tally);
        tally.send_errors(errno, self.ends.len() as u64);
        self.link.close(false);
    }

    /// Ends the stream in order. Only when it [`Peer::is_idle`].
    pub(crate) fn close(mut self) {
        self.link.close(true);
    }

    fn count(&mut self, tally: &Tally) {
        self.arrived = self.link.acknowledged();
        let sent = self.ends.partition_point(|end| *end <= self.arrived);
        if sent > 0 {
            self.ends.drain(..sent);
            tally.packets_sent.fetch_add(sent as u64, Relaxed);
        }
    }
}

/// The receiver has ended its side, but may still be reading, and its host may not have acknowledged yet what it has.
pub(crate) fn has_left(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// The number to count an error by.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(match error.kind() {
        // The receiver has ended the stream.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => libc::EPIPE,
        io::ErrorKind::ConnectionReset => libc::ECONNRESET,
        io::ErrorKind::TimedOut => libc::ETIMEDOUT,
        _ => libc::EIO,
    })
}

/// Longer than a receiver's host puts off an acknowledgement (40 ms in Linux): what is not acknowledged after that long a
/// silence has not arrived.
pub(crate) const QUIET: Duration = Duration::from_millis(500);
/// The same where there is no time.
pub(crate) const QUIET_IN_HASTE: Duration = Duration::from_millis(50);
/// How long a receiver may take nothing and acknowledge nothing.
pub(crate) const STALL: Duration = Duration::from_secs(10);
/// Bytes already taken that may stand before the others.
const COMPACT: usize = 64 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};

    /// A link that takes and acknowledges as it is told.
    #[derive(Debug, Default, Clone)]
    pub(crate) struct Given(pub(crate) Arc<Mutex<State>>);

    #[derive(Debug, Default)]
    pub(crate) struct State {
        pub(crate) room: usize,
        pub(crate) got: Vec<u8>,
        pub(crate) acknowledged: u64,
        pub(crate) broken: bool,
        pub(crate) closed: Option<bool>,
    }

    impl Link for Given {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.lock().unwrap();
            let count = bytes.len().min(state.room);
            if state.broken {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state.room -= count;
            state.got.extend(bytes.iter().take(count));
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn acknowledged(&mut self) -> u64 {
            self.0.lock().unwrap().acknowledged
        }

        fn listen(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn close(&mut self, in_order: bool) {
            self.0.lock().unwrap().closed = Some(in_order);
        }
    }

    #[test]
    fn a_receiver_that_takes_nothing_is_given_up_and_what_it_got_still_counts() {
        let (given, tally, now) = (Given::default(), Tally::default(), Instant::now());
        let mut peer = Peer::new(Box::new(given.clone()), b"head", Vec::new(), now);
        (0..3).for_each(|_| peer.push(b"frame"));
        given.0.lock().unwrap().room = 12;
        peer.pump(now, &tally).unwrap();
        peer.pump(now + STALL, &tally).unwrap();
        let error = peer.pump(now + STALL + Duration::from_millis(1), &tally).unwrap_err();
        // It was acknowledged after the last look.
        given.0.lock().unwrap().acknowledged = 12;
        peer.give_up(errno(&error), &tally);
        let counters = tally.snapshot(0);
        assert_eq!((counters.packets_sent, counters.send_errors), (1, vec![("ETIMEDOUT", 2)]));
        assert_eq!(given.0.lock().unwrap().closed, Some(false));
    }

    proptest! {
        #[test]
        fn every_frame_is_sent_or_counted_as_not(
            steps in prop::collection::vec((0usize..40, 0usize..60, 0u64..60), 0..40),
            breaks: bool,
        ) {
            let (given, tally, now) = (Given::default(), Tally::default(), Instant::now());
            let mut peer = Peer::new(Box::new(given.clone()), b"head", Vec::new(), now);
            let mut ends = Vec::new();
            let mut stream = b"head".to_vec();
            for (frame, room, acknowledged) in steps {
                let frame = vec![ends.len() as u8; frame];
                peer.push(&frame);
                stream.extend(&frame);
                ends.push(stream.len() as u64);
                {
                    let mut state = given.0.lock().unwrap();
                    state.room += room;
                    state.acknowledged = (state.acknowledged + acknowledged).min(state.got.len() as u64);
                }
                peer.pump(now, &tally).unwrap();
            }
            if breaks {
                given.0.lock().unwrap().broken = true;
                prop_assert!(peer.waiting() == 0 || peer.pump(now, &tally).is_err());
            }
            let acknowledged = given.0.lock().unwrap().acknowledged;
            peer.give_up(libc::ECONNRESET, &tally);
            let counters = tally.snapshot(0);
            let arrived = ends.iter().filter(|end| **end <= acknowledged).count() as u64;
            prop_assert_eq!(counters.packets_sent, arrived);
            prop_assert_eq!(counters.send_errors_total(), ends.len() as u64 - arrived);
            prop_assert!(stream.starts_with(&given.0.lock().unwrap().got));
        }
    }
}
