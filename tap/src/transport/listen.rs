//! A pcap stream for each reader that connects to us: `pcap-listen`.
//!
//! Every reader has each frame counted as built once more, and as sent or not. A reader that does not keep up is left whole
//! at 1 MiB of what it has not taken; it never delays the others. A new reader begins with a header, and for its sake every
//! synthetic connection ends and begins anew, so that it sees each handshake.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::flow::Out;
use crate::pcap;
use crate::tap::Shared;
use crate::transport::clock::Clock;
use crate::transport::peer::{Peer, QUIET, QUIET_IN_HASTE, STALL, errno, has_left};
use crate::transport::wire::Wire;
use crate::transport::{News, Transport, frame_room};
use sys::streams;

/// The listener and its readers.
pub(crate) struct Listen {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// `None` while another still listens there.
    listener: Option<TcpListener>,
    readers: Vec<Peer>,
    /// Given up, but it is not known yet what has arrived, and the errno for what has not.
    leaving: Vec<(Peer, i32)>,
    /// Accepted, not served yet.
    waiting: Vec<Peer>,
    /// The room of the last one that was left, for the next.
    spare: Vec<u8>,
    /// What ended the last reader.
    gone: i32,
    clock: Clock,
    frame: Vec<u8>,
    stamp: u64,
    news: News,
}

impl Listen {
    pub(crate) fn open(address: SocketAddr, takes_over: bool, shared: Arc<Shared>) -> io::Result<Self> {
        let listener = match bind(address, &shared) {
            Err(error) if takes_over && error.kind() == io::ErrorKind::AddrInUse => None,
            bound => Some(bound?),
        };
        Ok(Self {
            shared,
            address,
            listener,
            readers: Vec::new(),
            leaving: Vec::new(),
            waiting: Vec::new(),
            spare: Vec::new(),
            gone: libc::ENOTCONN,
            clock: Clock::new(Instant::now(), SystemTime::now()),
            frame: Vec::new(),
            stamp: 0,
            news: News::default(),
        })
    }

    fn accept(&mut self) {
        if self.listener.is_none() {
            self.listener = bind(self.address, &self.shared).ok();
        }
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) {
            if self.readers.len() + self.waiting.len() + self.leaving.len() >= READERS {
                self.turn_away(&stream);
            } else if let Ok(link) = Wire::new(stream) {
                let room = Peer::room(std::mem::take(&mut self.spare), HELD);
                self.waiting.push(Peer::new(Box::new(link), &pcap::HEADER, room, Instant::now()));
            }
        }
    }

    /// One too many: it shall notice at once.
    fn turn_away(&self, stream: &TcpStream) {
        self.shared.tally.streams_broken.fetch_add(1, Relaxed);
        let _ = streams::abort_on_close(stream);
    }

    /// Serves every reader; those that cannot be served any more are left.
    fn pump(&mut self) {
        let now = Instant::now();
        let had_readers = !self.readers.is_empty();
        for mut reader in std::mem::take(&mut self.readers) {
            let pumped = reader.pump(now, &self.shared.tally);
            let slow = reader.waiting() > HELD;
            match pumped {
                Ok(()) if !slow => {
                    self.readers.push(reader);
                    continue;
                }
                Err(error) if !has_left(&error) => {
                    self.gone = errno(&error);
                    reader.give_up(self.gone, &self.shared.tally);
                }
                ended => {
                    self.gone = ended.map_or_else(|error| errno(&error), |()| libc::ENOBUFS);
                    self.spare = reader.leave(self.gone, now, &self.shared.tally);
                    self.leaving.push((reader, self.gone));
                }
            }
            self.shared.tally.streams_broken.fetch_add(1, Relaxed);
        }
        self.let_go(now, QUIET);
        self.news.lost_all |= had_readers && self.readers.is_empty();
    }
}

impl Listen {
    /// Ends the connections of which it is known what has arrived.
    fn let_go(&mut self, now: Instant, quiet: Duration) {
        let tally = &self.shared.tally;
        for (reader, errno) in self.leaving.extract_if(.., |(reader, _)| reader.has_come_to_rest(now, quiet, tally)) {
            reader.give_up(errno, tally);
        }
    }
}

impl Out for Listen {
    fn begin(&mut self, _connection: u64, at: Instant) -> &mut Vec<u8> {
        let copies = self.readers.len().max(1) as u64;
        self.shared.tally.packets_built.fetch_add(copies, Relaxed);
        self.stamp = self.clock.stamp(at);
        self.frame.clear();
        self.frame.extend_from_slice(&[0; 16]);
        &mut self.frame
    }

    fn end(&mut self) {
        let record = pcap::record(self.stamp, self.frame.len().saturating_sub(16));
        self.frame.iter_mut().zip(record).for_each(|(to, from)| *to = from);
        if self.readers.is_empty() {
            self.shared.tally.send_error(self.gone);
        }
        let mut full = false;
        for reader in &mut self.readers {
            reader.push(&self.frame);
            full |= reader.waiting() > HELD / 4;
        }
        if full {
            self.pump();
        }
    }
}

impl Transport for Listen {
    fn room(&self) -> u16 {
        frame_room(self.shared.settings.mtu)
    }

    /// A reader that waits is about to be served.
    fn is_up(&self) -> bool {
        !self.readers.is_empty()
    }

    fn move_to(&mut self, _: Option<SocketAddr>) {}

    fn flush(&mut self) {
        self.pump();
    }

    fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    fn tend(&mut self) -> Option<Duration> {
        self.accept();
        self.pump();
        let idle = self.leaving.is_empty() && self.readers.iter().all(Peer::is_idle);
        Some(if idle { LOOK_IDLE } else { LOOK_BUSY })
    }

    fn wants_renewal(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn renew(&mut self) {
        if self.readers.is_empty() {
            self.clock.set(Instant::now(), SystemTime::now());
        }
        self.readers.append(&mut self.waiting);
        self.pump();
    }

    fn finish(&mut self) {
        let until = Instant::now() + STALL;
        let in_haste = |tap: &Self| tap.shared.abandon.load(Relaxed);
        while !self.readers.iter().all(Peer::is_idle) && !in_haste(self) && Instant::now() < until {
            thread::sleep(PAUSE);
            self.pump();
        }
        for mut reader in self.readers.drain(..) {
            if reader.is_idle() {
                reader.close();
            } else {
                drop(reader.leave(libc::ECANCELED, Instant::now(), &self.shared.tally));
                self.leaving.push((reader, libc::ECANCELED));
            }
        }
        while !self.leaving.is_empty() {
            self.let_go(Instant::now(), if in_haste(self) { QUIET_IN_HASTE } else { QUIET });
            thread::sleep(PAUSE);
        }
    }
}

fn bind(address: SocketAddr, shared: &Shared) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    *shared.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener.local_addr()?);
    Ok(listener)
}

/// Readers at a time.
const READERS: usize = 8;
/// Bytes that wait for one reader beyond what the kernel holds.
const HELD: usize = 1024 * 1024;
const PAUSE: Duration = Duration::from_millis(2);
const LOOK_BUSY: Duration = Duration::from_millis(10);
/// How often new readers are looked for, and those that left.
const LOOK_IDLE: Duration = Duration::from_millis(100);
