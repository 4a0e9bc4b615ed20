//! A stream that is copied as it goes: what follows a switch of protocols, a tunnel, opaque TCP.
//!
//! In: its opening, then bytes of either side in order, then how it ended. Out: work for the tap's thread. An exchange waits
//! until it is whole; a stream may last for days, so each chunk reserves its own part of the tap's budget. When that is refused,
//! the rest of the stream is not copied and the copy ends with a reset: what was copied has no hole. Nothing here waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crate::counters::Reason;
use crate::exchange::Exchange;
use crate::packet::Tuple;
use crate::record::{Record, Side};
use crate::tap::{Admission, Shared, Tap, Work};

/// How a stream begins.
#[derive(Debug)]
pub enum Opening {
    /// With an exchange after which its connection carries bytes: 101, or the answer to CONNECT. They go on where it ends.
    Switched(Box<Record>),
    /// As a connection of its own.
    Fresh {
        /// Number of the real connection, unique within the process.
        connection: u64,
        /// Peer address and port of the real connection.
        client: SocketAddr,
        /// As in [`Record::server`].
        server: SocketAddr,
        /// When it was opened.
        started: Instant,
    },
}

/// One stream in the making. Dropped without an end, it ends with a reset.
#[derive(Debug)]
pub struct Stream {
    tap: Tap,
    connection: u64,
    client: Half,
    server: Half,
    /// More may follow.
    open: bool,
}

#[derive(Debug)]
struct Half {
    /// Bytes that may still be copied.
    left: u64,
    finished: bool,
}

/// What the thread hears of a stream.
#[derive(Debug)]
pub(crate) enum Event {
    Opened(Box<(Admission, Opened)>),
    Said(Side, Instant, Chunk),
    Finished(Side, Instant),
    Reset(Side, Instant),
}

/// An opening, made ready.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) tuple: Tuple,
    pub(crate) started: Instant,
    pub(crate) exchange: Option<Exchange>,
}

/// Bytes, and the part of the budget they hold until they are sent or given up.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    room: usize,
    built: bool,
    shared: Arc<Shared>,
}

impl Tap {
    /// Begins the copy of a stream, of each side at most `limit` bytes. `None`: it is already counted as dropped.
    pub fn open(&self, mut admission: Admission, opening: Opening, limit: u64) -> Option<Stream> {
        admission.count();
        let (connection, opened) = match opening {
            Opening::Fresh { connection, client, server, started } => {
                (connection, Opened { tuple: Tuple::new(client, server), started, exchange: None })
            }
            Opening::Switched(mut record) => {
                // Only text can be followed by raw bytes.
                record.http2 = false;
                let connection = record.connection;
                let started = record.started;
                let exchange = self.prepare(&mut admission, *record)?;
                (connection, Opened { tuple: exchange.tuple, started, exchange: Some(exchange) })
            }
        };
        if opened.exchange.is_none() && !self.shared.earns(1) {
            admission.refuse(Reason::RateCap);
            return None;
        }
        let event = Box::new(Event::Opened(Box::new((admission, opened))));
        let half = || Half { left: limit, finished: false };
        match self.try_enqueue(Work::Stream(connection, event)) {
            Ok(()) => Some(Stream { tap: self.clone(), connection, client: half(), server: half(), open: true }),
            Err((work, reason)) => {
                if let Work::Stream(_, event) = work
                    && let Event::Opened(boxed) = *event
                {
                    boxed.0.refuse(reason);
                }
                None
            }
        }
    }
}

impl Stream {
    /// Bytes that one side has sent, and that have passed.
    pub fn chunk(&mut self, side: Side, bytes: &[u8]) {
        let shared = Arc::clone(&self.tap.shared);
        let tally = &shared.tally;
        tally.body_seen.fetch_add(bytes.len() as u64, Relaxed);
        if !self.open {
            tally.body_dropped.fetch_add(bytes.len() as u64, Relaxed);
            return;
        }
        let half = self.half(side);
        let count = usize::try_from(half.left).unwrap_or(usize::MAX).min(bytes.len());
        half.left -= count as u64;
        let (taken, beyond) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
        tally.body_truncated.fetch_add(beyond.len() as u64, Relaxed);
        if !taken.is_empty() {
            match Chunk::of(&shared, taken) {
                Some(chunk) => self.tell(Event::Said(side, Instant::now(), chunk)),
                None => {
                    tally.body_dropped.fetch_add(taken.len() as u64, Relaxed);
                    self.cut();
                }
            }
        }
        if !beyond.is_empty() {
            // As with a body that is cut: what was taken stands, and the copy says that no more of this side follows.
            self.finish(side);
        }
    }

    /// One side has ended in order; the other may go on.
    pub fn finish(&mut self, side: Side) {
        if self.open && !std::mem::replace(&mut self.half(side).finished, true) {
            self.half(side).left = 0;
            self.tell(Event::Finished(side, Instant::now()));
            self.open &= !(self.client.finished && self.server.finished);
        }
    }

    /// One side broke off, and the stream with it.
    pub fn reset(&mut self, side: Side) {
        if std::mem::take(&mut self.open) {
            // With the queue full, the end of the real connection says so later.
            let event = Box::new(Event::Reset(side, Instant::now()));
            let _ = self.tap.try_enqueue(Work::Stream(self.connection, event));
        }
    }

    /// The rest is not copied, by our own doing.
    fn cut(&mut self) {
        self.tap.shared.tally.streams_cut.fetch_add(1, Relaxed);
        self.reset(Side::Client);
    }

    fn tell(&mut self, event: Event) {
        if self.tap.try_enqueue(Work::Stream(self.connection, Box::new(event))).is_err() {
            self.cut();
        }
    }

    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reset(Side::Client);
    }
}

impl Chunk {
    fn of(shared: &Arc<Shared>, bytes: &[u8]) -> Option<Self> {
        // However small the chunks, the slots of the queue last as long as its bytes.
        let room = (bytes.len() + OVERHEAD).max(crate::tap::ADMIT_COST);
        if !shared.earns(bytes.len()) || !shared.reserve(room) {
            return None;
        }
        Some(Self { bytes: bytes.to_vec(), room, built: false, shared: Arc::clone(shared) })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// It is built into packets.
    pub(crate) fn mirrored(mut self) {
        self.built = true;
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.shared.release(self.room);
        let tally = &self.shared.tally;
        let cell = if self.built { &tally.body_mirrored } else { &tally.body_dropped };
        cell.fetch_add(self.bytes.len() as u64, Relaxed);
    }
}

/// What a chunk takes besides its bytes.
const OVERHEAD: usize = 256;
