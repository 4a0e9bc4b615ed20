//! Exchanges and flows become lines of JSON: one record each, and one of its own when something was lost.

use std::collections::VecDeque;
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
use crate::tap::{Admission, Shared, Work};

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
    /// Records that wait for the word where their copy lies, and since when; in order. Whatever comes later waits behind them.
    waiting: VecDeque<(Instant, Box<(Admission, Told)>)>,
    /// Bytes of the budget that they hold.
    held: usize,
    /// Losses that a record has told of, and when it did.
    told: Totals,
    told_at: Option<Instant>,
    /// The last such record was not taken. It is not tried again by itself, for each failure would be one more to tell of: it
    /// follows the next lines that are taken.
    owed: bool,
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
            waiting: VecDeque::new(),
            held: 0,
            told: Totals::default(),
            told_at: None,
            owed: false,
        })
    }

    /// Tells what need not wait, or has waited for long enough.
    fn tell_known(&mut self, patience: Duration) {
        let most = self.shared.settings.queue_bytes / SHARE;
        while let Some((since, boxed)) = self.waiting.front() {
            let is_known = boxed.1.facts.place.as_ref().is_none_or(|place| place.is_known());
            if !is_known && self.held <= most && since.elapsed() < patience {
                return;
            }
            let Some((_, boxed)) = self.waiting.pop_front() else { return };
            let (admission, told) = *boxed;
            self.held = self.held.saturating_sub(told.cost());
            if self.sink.is_up() {
                self.record(&told);
                admission.told(&told);
            } else {
                admission.refuse(Reason::TapDown);
            }
        }
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
            let failed = self.shared.tally.losses().1;
            self.sink.write(&self.lines, &self.shared.tally);
            self.lines.clear();
            self.bytes = 0;
            let all_taken = self.shared.tally.losses().1 == failed;
            if all_taken && std::mem::take(&mut self.owed) {
                self.told = Totals::default();
            }
        }
        self.clock = Clock::now();
    }

    /// One record when something was lost since the last, at most once a second; at the end at once.
    fn tell_losses(&mut self, at_once: bool) {
        let totals = Totals::of(&self.shared.tally);
        let is_time = at_once || self.told_at.is_none_or(|at| at.elapsed() >= LOSSES);
        let is_new = totals != self.told || (at_once && self.owed);
        if is_new && is_time && self.sink.is_up() {
            self.told_at = Some(Instant::now());
            let line = self.series.loss(&self.shared.counters(), &totals, self.clock);
            self.line(line, true);
            self.write();
            let failed = self.shared.tally.losses().1;
            self.owed = failed != totals.send_errors;
            self.told = Totals { send_errors: failed, ..totals };
        }
    }
}

impl Station for Records {
    fn handle(&mut self, work: Work, now: Instant) {
        match work {
            Work::Record(boxed) if self.sink.is_up() => {
                self.held += boxed.1.cost();
                self.waiting.push_back((now, boxed));
                self.tell_known(PATIENCE);
            }
            Work::Record(boxed) => boxed.0.refuse(Reason::TapDown),
            // Packets are not offered to a tap of records.
            Work::Exchange(boxed) => boxed.0.refuse(Reason::Abandoned),
            Work::Stream(..) | Work::Closed(_) => {}
        }
    }

    fn flush(&mut self) {
        self.tell_known(PATIENCE);
        self.write();
        self.tell_losses(false);
    }

    fn rest(&mut self) {
        self.flush();
    }

    fn move_to(&mut self, address: Option<SocketAddr>) {
        self.tell_known(Duration::ZERO);
        self.write();
        self.sink.move_to(address);
        self.shared.set_down(!self.sink.is_up());
    }

    fn until_next(&self) -> Duration {
        if !self.waiting.is_empty() {
            return LOOK_AGAIN;
        }
        if Totals::of(&self.shared.tally) == self.told { LONGEST_PARK } else { LOSSES }
    }

    fn finish(&mut self) {
        self.tell_known(Duration::ZERO);
        self.write();
        self.tell_losses(true);
    }
}

/// Bytes that are written together.
const BATCH: usize = 64 * 1024;
/// How long a record waits for the word where its copy lies: packets are built within some 10 ms, unless their receiver is slow,
/// or the machine is busy: the thread that builds them gives way to everybody else, and was seen to take more than 250 ms.
const PATIENCE: Duration = Duration::from_secs(2);
/// The part of the budget that such records may hold, so that a slow receiver of packets costs no records.
const SHARE: usize = 4;
/// When to look whether the word has come.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Between two records of losses.
const LOSSES: Duration = Duration::from_secs(1);
/// A loss while nothing else happens is told after this long.
const LONGEST_PARK: Duration = Duration::from_secs(5);
