//! Exchanges and flows become lines of JSON: one record each, and one of its own when something was lost.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::counters::Reason;
use crate::record::line::{Clock, Series, Totals};
use crate::record::sink::{self, Sink};
use crate::record::text::rfc3339;
use crate::record::{Told, Verdict};
use crate::station::Station;
use crate::tap::{Shared, Work};

/// The station of every tap of records.
pub(crate) struct Records {
    shared: Arc<Shared>,
    sink: Sink,
    series: Series,
    /// As the syslog messages name it.
    host: String,
    clock: Clock,
    /// Whole lines, to be written together.
    lines: Vec<Vec<u8>>,
    bytes: usize,
    /// Losses that a record has told of, and when it did.
    told: Totals,
    told_at: Option<Instant>,
}

impl Records {
    pub(crate) fn open(shared: &Arc<Shared>) -> io::Result<Self> {
        let settings = &shared.settings;
        let sink = Sink::open(&settings.sensor)?;
        shared.set_down(!sink.is_up());
        let series = Series {
            tap: settings.name.clone(),
            workload: settings.workload.clone(),
            // Random per process and tap; nothing rests on it but that two runs differ.
            run: format!("{:016x}", RandomState::new().hash_one((std::process::id(), Instant::now()))),
            sequence: 0,
        };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let is_name =
            |name: &str| !name.is_empty() && name.len() < 64 && name.bytes().all(|byte| byte.is_ascii_graphic());
        let host = Some(host.trim()).filter(|name| is_name(name)).unwrap_or("-").to_owned();
        Ok(Self {
            shared: Arc::clone(shared),
            sink,
            series,
            host,
            clock: Clock::now(),
            lines: Vec::new(),
            bytes: 0,
            told: Totals::default(),
            told_at: None,
        })
    }

    fn record(&mut self, told: &Told) {
        let totals = Totals::of(&self.shared.tally);
        let line = self.series.told(told, &totals, self.clock, self.sink.most());
        self.line(line, told.verdict != Verdict::Allowed);
    }

    fn line(&mut self, mut line: String, is_notice: bool) {
        let bytes = if let Sink::Syslog(_) = self.sink {
            let mut time = String::new();
            rfc3339(&mut time, self.clock.since_1970());
            // RFC 5424 section 6.2.3.1: six digits of a second at most.
            time.replace_range(26..29, "");
            sink::syslog(&line, &time, &self.host, std::process::id(), is_notice)
        } else {
            line.push('\n');
            line.into_bytes()
        };
        self.shared.tally.packets_built.fetch_add(1, Relaxed);
        self.bytes += bytes.len();
        self.lines.push(bytes);
        if self.bytes > BATCH {
            self.write();
        }
    }

    fn write(&mut self) {
        if !self.lines.is_empty() {
            self.sink.write(&self.lines, &self.shared.tally);
            self.lines.clear();
            self.bytes = 0;
        }
        self.clock = Clock::now();
    }

    /// One record when something was lost since the last, at most once a second; at the end at once.
    fn tell_losses(&mut self, at_once: bool) {
        let totals = Totals::of(&self.shared.tally);
        let is_time = at_once || self.told_at.is_none_or(|at| at.elapsed() >= LOSSES);
        if totals != self.told && is_time && self.sink.is_up() {
            (self.told, self.told_at) = (totals, Some(Instant::now()));
            let line = self.series.loss(&self.shared.counters(), &totals, self.clock);
            self.line(line, true);
            self.write();
        }
    }
}

impl Station for Records {
    fn handle(&mut self, work: Work, _: Instant) {
        match work {
            Work::Record(boxed) if self.sink.is_up() => {
                let (admission, told) = *boxed;
                self.record(&told);
                admission.told(&told);
            }
            Work::Record(boxed) => boxed.0.refuse(Reason::TapDown),
            // Packets are not offered to a tap of records.
            Work::Exchange(boxed) => boxed.0.refuse(Reason::Abandoned),
            Work::Stream(..) | Work::Closed(_) => {}
        }
    }

    fn flush(&mut self) {
        self.write();
        self.tell_losses(false);
    }

    fn rest(&mut self) {
        self.flush();
    }

    fn move_to(&mut self, address: Option<SocketAddr>) {
        self.write();
        self.sink.move_to(address);
        self.shared.set_down(!self.sink.is_up());
    }

    fn until_next(&self) -> Duration {
        if Totals::of(&self.shared.tally) == self.told { LONGEST_PARK } else { LOSSES }
    }

    fn finish(&mut self) {
        self.write();
        self.tell_losses(true);
    }
}

/// Bytes that are written together.
const BATCH: usize = 64 * 1024;
/// Between two records of losses.
const LOSSES: Duration = Duration::from_secs(1);
/// A loss while nothing else happens is told after this long.
const LONGEST_PARK: Duration = Duration::from_secs(5);
