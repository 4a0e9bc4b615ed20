//! Frames into a ring of pcapng files: `pcapng`.
//!
//! A packet counts as sent when it is written. When a file is full the synthetic connections end in it, so that each file can be
//! read by itself. A disk that is full costs what was not written, then exchanges until it can be written again, tried once a second.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use crate::counters::Counters;
use crate::flow::Out;
use crate::loss;
use crate::pcapng::Statistics;
use crate::ring::{Failed, Ring};
use crate::tap::Shared;
use crate::transport::clock::Clock;
use crate::transport::peer::errno;
use crate::transport::{News, Transport, frame_room};

/// The files, and what was counted.
pub(crate) struct Files {
    shared: Arc<Shared>,
    ring: Ring,
    clock: Clock,
    since: u64,
    frame: Vec<u8>,
    stamp: u64,
    /// What ended the last file.
    gone: i32,
    next_try: Instant,
    news: News,
}

impl Files {
    pub(crate) fn open(dir: &Path, size: u64, files: u32, shared: Arc<Shared>) -> io::Result<Self> {
        let settings = &shared.settings;
        let interface = if settings.workload.is_empty() { &settings.name } else { &settings.workload };
        let (now, wall) = (Instant::now(), SystemTime::now());
        let ring = Ring::open(dir, &settings.name, interface, size, files, wall)?;
        let mut clock = Clock::new(now, wall);
        let since = clock.stamp(now);
        let news = News::default();
        Ok(Self { shared, ring, clock, since, frame: Vec::new(), stamp: 0, gone: 0, next_try: now, news })
    }

    fn write(&mut self) {
        let tally = &self.shared.tally;
        match self.ring.flush() {
            Ok(frames) => {
                tally.packets_sent.fetch_add(frames, Relaxed);
            }
            Err(Failed { written, lost, error }) => {
                tally.packets_sent.fetch_add(written, Relaxed);
                self.gone = errno(&error);
                tally.send_errors(self.gone, lost);
                tally.streams_broken.fetch_add(1, Relaxed);
                self.news.lost_all = true;
                self.next_try = Instant::now() + REOPEN;
            }
        }
    }

    fn statistics(&mut self) -> Statistics {
        let counters = self.shared.counters();
        Statistics {
            since: self.since,
            until: self.clock.stamp(Instant::now()),
            received: counters.packets_built,
            dropped: counters.send_errors_total(),
            delivered: counters.packets_sent,
            comment: loss::comment(&counters),
        }
    }

    fn reopen(&mut self) {
        let now = Instant::now();
        self.clock.set(now, SystemTime::now());
        self.next_try = now + REOPEN;
        if let Err(error) = self.ring.next(SystemTime::now()) {
            self.gone = errno(&error);
        }
    }
}

impl Out for Files {
    fn begin(&mut self, _connection: u64, at: Instant) -> &mut Vec<u8> {
        self.shared.tally.packets_built.fetch_add(1, Relaxed);
        self.stamp = self.clock.stamp(at);
        self.frame.clear();
        &mut self.frame
    }

    fn end(&mut self) {
        if !self.ring.is_open() {
            return self.shared.tally.send_error(self.gone);
        }
        self.ring.frame(self.stamp, &self.frame);
        if self.ring.buffered() > BUFFER {
            self.write();
        }
    }
}

impl Transport for Files {
    fn room(&self) -> u16 {
        frame_room(self.shared.settings.mtu)
    }

    fn is_up(&self) -> bool {
        self.ring.is_open()
    }

    fn move_to(&mut self, _: Option<SocketAddr>) {}

    fn flush(&mut self) {
        if self.ring.is_open() {
            self.write();
        }
    }

    fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    fn tend(&mut self) -> Option<Duration> {
        if self.ring.is_open() {
            return None;
        }
        if self.next_try <= Instant::now() {
            self.reopen();
        }
        (!self.ring.is_open()).then_some(REOPEN)
    }

    fn wants_renewal(&self) -> bool {
        self.ring.is_full()
    }

    fn renew(&mut self) {
        let statistics = self.statistics();
        // A file that cannot be given its name keeps what is in it; the next one shows whether there is still a way.
        let _ = self.ring.finish(&statistics);
        self.reopen();
    }

    fn tell_loss(&mut self, _: &Counters) -> bool {
        let statistics = self.statistics();
        self.ring.statistics(&statistics);
        true
    }

    fn finish(&mut self) {
        self.flush();
        let statistics = self.statistics();
        let _ = self.ring.finish(&statistics);
    }
}

/// Bytes written at once.
const BUFFER: usize = 256 * 1024;
/// Between two tries to begin a file.
const REOPEN: Duration = Duration::from_secs(1);
