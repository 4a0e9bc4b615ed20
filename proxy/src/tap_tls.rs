//! The tap's way to a receiver over mutual TLS, with the workload's own identity: `pcap+mtls`.
//!
//! In: the identity in force, and the one that the receiver must prove. Out: a [`tap::Link`]. Every connection is a full
//! handshake with the certificate of that moment. Refused: a receiver that is somebody else, and one that does not take us.
//! What the receiver acknowledges is told from the records that its host has acknowledged whole.

use crate::live::Current;
use identity::{Credentials, SpiffeId};
use rustls::ClientConnection;
use std::{
    collections::VecDeque,
    fmt,
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tap::{Connect, Link, Wire};

/// Dials one receiver.
pub(crate) struct Secured {
    pub(crate) credentials: Arc<Current<Credentials>>,
    pub(crate) receiver: SpiffeId,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}

impl Connect for Secured {
    fn connect(&self, to: SocketAddr) -> io::Result<Box<dyn Link>> {
        let expected = Arc::new(self.receiver.clone());
        // Made anew each time: it holds no session of an earlier certificate.
        let config = self.credentials.load().client_config(expected, &[]).map_err(io::Error::other)?;
        let tls = ClientConnection::new(config, to.ip().into()).map_err(io::Error::other)?;
        let mut link = Records {
            tls,
            wire: Wire::connect(to)?,
            taken: 0,
            ends: VecDeque::new(),
            told: 0,
            arrived: 0,
            heard: false,
        };
        link.greet(Instant::now() + HANDSHAKE)?;
        Ok(Box::new(link))
    }
}

/// An open stream of records.
struct Records {
    tls: ClientConnection,
    wire: Wire,
    /// Bytes taken, before encryption.
    taken: u64,
    /// For records handed on whole: where they end on the wire, and what of `taken` was in them.
    ends: VecDeque<(u64, u64)>,
    /// Bytes written to the wire.
    told: u64,
    arrived: u64,
    /// The receiver has said something.
    heard: bool,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("taken", &self.taken).field("arrived", &self.arrived).finish_non_exhaustive()
    }
}

impl Records {
    /// Shakes hands, and waits for the first word of the receiver, if it has one: with TLS 1.3 our side is done before the
    /// receiver has looked at our certificate (RFC 8446 section 4.4.2.4), and what we sent a receiver that refuses it would be lost.
    fn greet(&mut self, until: Instant) -> io::Result<()> {
        self.wire.wait(Some(STEP))?;
        while self.tls.is_handshaking() || self.tls.wants_write() {
            self.step(until)?;
        }
        if self.tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
            let until = until.min(Instant::now() + FIRST_WORD);
            while !self.heard && self.tls.tls13_tickets_received() == 0 && Instant::now() < until {
                self.step(until + STEP)?;
            }
        }
        self.wire.wait(None)
    }

    fn step(&mut self, until: Instant) -> io::Result<()> {
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let done = if self.tls.wants_write() { self.hand_on() } else { self.take_in() };
        match done {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.wire) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.told += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.ends.back().map_or(self.arrived, |(_, taken)| *taken) < self.taken {
            self.ends.push_back((self.told, self.taken));
        }
        Ok(())
    }

    fn take_in(&mut self) -> io::Result<()> {
        match self.tls.read_tls(&mut self.wire) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let state = self.tls.process_new_packets().map_err(io::Error::other)?;
        if state.peer_has_closed() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A receiver has nothing to say.
        let mut scrap = [0; 512];
        while self.tls.reader().read(&mut scrap).is_ok_and(|count| count > 0) {
            self.heard = true;
        }
        Ok(())
    }
}

impl Link for Records {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One record at a time, so that it is known where each ends.
        self.hand_on()?;
        let part = bytes.get(..RECORD.min(bytes.len())).unwrap_or_default();
        let count = self.tls.writer().write(part)?;
        self.taken += count as u64;
        match self.hand_on() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_on()
    }

    fn acknowledged(&mut self) -> u64 {
        let wire = self.wire.acknowledged();
        while let Some((end, taken)) = self.ends.front().copied().filter(|(end, _)| *end <= wire) {
            debug_assert!(end <= self.told);
            self.arrived = taken;
            self.ends.pop_front();
        }
        self.arrived
    }

    fn listen(&mut self) -> io::Result<()> {
        match self.take_in() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            done => done,
        }
    }

    fn close(&mut self, in_order: bool) {
        if in_order {
            self.tls.send_close_notify();
            // The receiver then knows that nothing was cut off; if it does not fit, the end of the connection says less.
            let _ = self.hand_on();
        }
        self.wire.close(in_order);
    }
}

/// Plain bytes in one record (RFC 8446 section 5.1).
const RECORD: usize = 16 * 1024;
/// The whole handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a receiver may take to say its first word; one that has none is served after that.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// One wait within them.
const STEP: Duration = Duration::from_millis(200);
