//! A pcap stream over a connection that we open: `pcap` and `pcap+mtls`.
//!
//! While there is no connection exchanges are dropped at admission. A receiver that is slower than the traffic makes this
//! thread wait, so that the queue fills and whole exchanges are dropped there; one that takes nothing for ten seconds is
//! left. Every connection begins with a header, and every synthetic connection on it with a handshake.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::flow::Out;
use crate::pcap;
use crate::tap::Shared;
use crate::transport::clock::Clock;
use crate::transport::link::Connect;
use crate::transport::peer::{Peer, QUIET, QUIET_IN_HASTE, STALL, errno, has_left};
use crate::transport::{News, Transport, frame_room};

/// The stream, or the tries to open it.
pub(crate) struct Dial {
    shared: Arc<Shared>,
    connector: Arc<dyn Connect>,
    to: Option<SocketAddr>,
    peer: Option<Peer>,
    /// What ended the last connection.
    gone: i32,
    tries: u32,
    next_try: Instant,
    clock: Clock,
    /// The frame in the making, behind 16 bytes for its header.
    frame: Vec<u8>,
    stamp: u64,
    news: News,
}

impl Dial {
    pub(crate) fn new(to: Option<SocketAddr>, connector: Arc<dyn Connect>, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            connector,
            to,
            peer: None,
            gone: libc::ENOTCONN,
            tries: 0,
            next_try: now,
            clock: Clock::new(now, SystemTime::now()),
            frame: Vec::new(),
            stamp: 0,
            news: News::default(),
        }
    }

    fn pump(&mut self) {
        if let Some(peer) = &mut self.peer
            && let Err(error) = peer.pump(Instant::now(), &self.shared.tally)
        {
            let errno = errno(&error);
            if has_left(&error) {
                self.leave(errno, QUIET);
            } else {
                self.break_off(errno);
            }
        }
    }

    fn break_off(&mut self, errno: i32) {
        if let Some(peer) = self.peer.take() {
            peer.give_up(errno, &self.shared.tally);
            self.shared.tally.streams_broken.fetch_add(1, Relaxed);
            self.gone = errno;
            self.news.lost_all = true;
            // A receiver that went away on purpose is mostly back soon; one that never stays is not asked too often.
            self.next_try = Instant::now() + backoff(self.tries);
            self.tries = self.tries.saturating_add(1);
        }
    }

    /// Ends a connection that still stands, when it is known what has arrived on it.
    fn leave(&mut self, errno: i32, quiet: Duration) {
        let tally = &self.shared.tally;
        if let Some(peer) = &mut self.peer {
            drop(peer.leave(errno, Instant::now(), tally));
            while !peer.has_come_to_rest(Instant::now(), quiet, tally) {
                thread::sleep(LONGEST_PAUSE);
            }
        }
        self.break_off(errno);
    }

    fn connect(&mut self, to: SocketAddr) {
        let opened = self.connector.connect(to);
        let now = Instant::now();
        match opened {
            Ok(link) => {
                self.clock.set(now, SystemTime::now());
                self.peer = Some(Peer::new(link, &pcap::HEADER, Peer::room(Vec::new(), HELD), now));
                self.news.lost_all = true;
                self.pump();
            }
            Err(_) => {
                self.next_try = now + backoff(self.tries);
                self.tries = self.tries.saturating_add(1);
            }
        }
    }

    /// Waits until at most so many bytes are left to hand on, or the stream is broken, or the tap is to leave.
    fn wait_for(&mut self, done: impl Fn(&Peer) -> bool) {
        let mut pause = Duration::from_micros(200);
        loop {
            self.pump();
            if self.peer.as_ref().is_none_or(&done) {
                return;
            }
            if self.shared.abandon.load(Relaxed) {
                return self.leave(libc::ECANCELED, QUIET_IN_HASTE);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Hands on everything and closes, or counts what does not arrive in time.
    fn close(&mut self, within: Duration) {
        let until = Instant::now() + within;
        self.wait_for(|peer| peer.is_idle() || Instant::now() > until);
        match self.peer.take_if(|peer| peer.is_idle()) {
            Some(peer) => peer.close(),
            None => self.leave(libc::ETIMEDOUT, QUIET),
        }
    }
}

impl Out for Dial {
    fn begin(&mut self, _connection: u64, at: Instant) -> &mut Vec<u8> {
        self.shared.tally.packets_built.fetch_add(1, Relaxed);
        self.stamp = self.clock.stamp(at);
        self.frame.clear();
        self.frame.extend_from_slice(&[0; 16]);
        &mut self.frame
    }

    fn end(&mut self) {
        let record = pcap::record(self.stamp, self.frame.len().saturating_sub(16));
        self.frame.iter_mut().zip(record).for_each(|(to, from)| *to = from);
        if self.peer.as_ref().is_some_and(|peer| peer.waiting() > HELD) {
            self.wait_for(|peer| peer.waiting() <= HELD / 2);
        }
        match &mut self.peer {
            Some(peer) => {
                peer.push(&self.frame);
                // A connection that carries something is a good one.
                self.tries = 0;
            }
            None => self.shared.tally.send_error(self.gone),
        }
    }
}

impl Transport for Dial {
    fn room(&self) -> u16 {
        frame_room(self.shared.settings.mtu)
    }

    fn is_up(&self) -> bool {
        self.peer.is_some()
    }

    fn move_to(&mut self, address: Option<SocketAddr>) {
        self.close(MOVING);
        self.to = address;
        self.tries = 0;
        self.next_try = Instant::now();
    }

    fn flush(&mut self) {
        self.pump();
    }

    fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    fn tend(&mut self) -> Option<Duration> {
        self.pump();
        if let Some(to) = self.to
            && self.peer.is_none()
            && self.next_try <= Instant::now()
            && !self.shared.stopping.load(Relaxed)
        {
            self.connect(to);
        }
        match (&self.peer, self.to) {
            (Some(peer), _) if peer.is_idle() => Some(LOOK_IDLE),
            (Some(_), _) => Some(LOOK_BUSY),
            (None, Some(_)) => Some(self.next_try.saturating_duration_since(Instant::now())),
            (None, None) => None,
        }
    }

    fn wants_renewal(&self) -> bool {
        false
    }

    fn renew(&mut self) {}

    fn finish(&mut self) {
        self.close(STALL);
    }
}

/// The wait after so many failures: 0.1 s, doubled up to 5 s, of which half is by chance, so that many workloads do not
/// meet a receiver that is back all at once.
fn backoff(tries: u32) -> Duration {
    let step = (100_u64 << tries.min(6)).min(5_000);
    Duration::from_millis(step / 2 + RandomState::new().hash_one(tries) % (step / 2))
}

/// Bytes that wait for the receiver beyond what the kernel holds, give or take a frame.
const HELD: usize = 256 * 1024;
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// How often a connection is asked what has arrived, and whether it still stands.
const LOOK_BUSY: Duration = Duration::from_millis(10);
const LOOK_IDLE: Duration = Duration::from_millis(250);
/// How long the old receiver may take for what it still gets.
const MOVING: Duration = Duration::from_secs(1);
