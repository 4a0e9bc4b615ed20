//! One writer's view of the log: groups of records go in whole and durable, or not at all.
//!
//! The order of one [`commit`](Ledger::commit): lines into the segment, flush; new head beside the old one,
//! flush; rename, flush. Only then is anybody told. So whatever stands behind the head was promised to nobody:
//! after a crash [`open`](Ledger::open) cuts it off, and a failed group is taken back. Nothing is appended
//! before that has been done.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::chain::Chain;
use super::disk::Disk;
use super::error::{Finding, Flaw, LogError};
use super::folder::{self, LOCK, segment_name};
use super::hash::Hash;
use super::head::Head;
use super::key::LogKey;
use super::record::{Act, Event, What};
use super::segment;
use super::stamp::Stamp;

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How far the clock may be behind the last record.
    pub skew: Duration,
    /// Whether to go on although it is behind by more. That is a record of its own.
    pub accept_clock: bool,
    /// At which length in bytes a segment is followed by the next.
    pub segment_size: u64,
    /// How long to wait for another process to close the log.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            skew: Duration::from_secs(60),
            accept_clock: false,
            // Twenty thousand certificates, and read in a tenth of a second when the log is opened.
            segment_size: 16 << 20,
            patience: Duration::ZERO,
        }
    }
}

/// What was found when the log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The last record that had been kept.
    pub seq: u64,
    /// Its time.
    pub time: Stamp,
    /// How many bytes a crash had left behind it; they are cut.
    pub cut: u64,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its number.
    pub seq: u64,
    /// The hash of its line.
    pub hash: Hash,
    /// Its time.
    pub time: Stamp,
}

pub(crate) struct Ledger {
    pub(crate) disk: Disk,
    key: LogKey,
    settings: Settings,
    /// The last record that was kept, the head that signs it, and the length of its segment up to there.
    chain: Chain,
    head: Head,
    length: u64,
    file: File,
    doubt: Doubt,
    /// Held as long as we write.
    _lock: File,
}

/// What the disk may hold beyond what was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    Nothing,
    /// Something behind the head.
    Tail,
    /// That, and a head that signs it.
    Head,
}

impl Ledger {
    /// Opens the log in the CA's folder `dir` for writing, and cuts off what a crash left.
    pub(crate) fn open(
        dir: &Path,
        key: LogKey,
        now: SystemTime,
        settings: Settings,
    ) -> Result<(Self, Opened), LogError> {
        Self::on(Disk::new(folder::of(dir)?), key, now, settings)
    }

    pub(crate) fn on(disk: Disk, key: LogKey, now: SystemTime, settings: Settings) -> Result<(Self, Opened), LogError> {
        let lock = lock(disk.folder(), settings.patience)?;
        let head = Head::load(disk.folder(), &key.public())?;
        let last = folder::last_segment(disk.folder())?;
        if last < head.segment {
            return Err(Finding::in_file(&segment_name(head.segment), Flaw::SegmentMissing).into());
        }
        let file = disk.open_segment(head.segment)?;
        let (chain, length) = find_head(&disk, &file, &head)?;
        check_clock(now, chain.time, &settings)?;
        let (cut, cut_hash) = tail(&disk, &file, length, head.segment, last)?;

        let opened = Opened { seq: chain.seq, time: chain.time, cut };
        let late = Stamp::of(now) < chain.time && settings.accept_clock;
        let mut ledger = Self { disk, key, settings, chain, head, length, file, doubt: Doubt::Nothing, _lock: lock };
        let mut events = Vec::new();
        if cut > 0 || last > ledger.head.segment {
            ledger.doubt = Doubt::Tail;
            events.push((Stamp::of(now), Event::Recovered { cut_bytes: cut, cut_hash }));
        }
        if late {
            let detail = format!("the last record is of {}", opened.time);
            let (subject, by) = ("clock".into(), "operator".into());
            let act = Act { what: What::ClockAccepted, subject, detail: detail.as_str().into(), bundle: None, by };
            events.push((Stamp::of(now), Event::Act(Box::new(act))));
        }
        if !events.is_empty() {
            ledger.commit(&events)?;
        }
        Ok((ledger, opened))
    }

    /// The head that signs all that was kept.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Appends these events, durably and under a new head; or none of them.
    pub(crate) fn commit(&mut self, events: &[(Stamp, Event)]) -> Result<Vec<Receipt>, LogError> {
        self.settle()?;
        let kept = self.append(events);
        if kept.is_err() {
            // Room on a full disk comes back at once; what does not succeed now is tried before the next group.
            let _ = self.settle();
        }
        kept
    }

    fn append(&mut self, events: &[(Stamp, Event)]) -> Result<Vec<Receipt>, LogError> {
        let mut chain = self.chain;
        let mut lines = Vec::new();
        let rotates = self.length >= self.settings.segment_size;
        let number = self.head.segment + u64::from(rotates);
        if rotates && let Some((time, _)) = events.first() {
            chain.append(*time, &Event::Segment { segment: number, previous: chain.hash }, &mut lines);
        }
        let mut receipts = Vec::with_capacity(events.len());
        for (time, event) in events {
            chain.append(*time, event, &mut lines);
            receipts.push(Receipt { seq: chain.seq, hash: chain.hash, time: *time });
        }
        let head = Head::sign(&self.key, number, &chain)?;

        self.doubt = Doubt::Tail;
        let created = if rotates { Some(self.disk.create_segment(number)?) } else { None };
        let begin = if rotates { 0 } else { self.length };
        let segment = (number, created.as_ref().unwrap_or(&self.file));
        self.disk.write(segment, begin, &lines)?;
        self.disk.sync(segment)?;
        self.disk.prepare_head(&head.text())?;
        self.doubt = Doubt::Head;
        self.disk.swap_head()?;
        // The new segment's name with the new head's.
        self.disk.sync_folder()?;

        self.doubt = Doubt::Nothing;
        if let Some(created) = created {
            self.file = created;
        }
        (self.chain, self.head, self.length) = (chain, head, begin + lines.len() as u64);
        Ok(receipts)
    }

    /// Takes back what was not kept. The head comes first: one that signs lines which are gone would look like
    /// a log whose end was cut off.
    fn settle(&mut self) -> Result<(), LogError> {
        if self.doubt == Doubt::Head {
            self.disk.prepare_head(&self.head.text())?;
            self.disk.swap_head()?;
            self.disk.sync_folder()?;
            self.doubt = Doubt::Tail;
        }
        if self.doubt == Doubt::Tail {
            let segment = (self.head.segment, &self.file);
            self.disk.truncate(segment, self.length)?;
            self.disk.sync(segment)?;
            self.disk.remove_segment(self.head.segment + 1)?;
            self.disk.sync_folder()?;
            self.doubt = Doubt::Nothing;
        }
        Ok(())
    }
}

/// Whether somebody writes this log now.
pub(crate) fn is_open(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn lock(folder: &Path, patience: Duration) -> Result<File, LogError> {
    let path = folder.join(LOCK);
    // Not `truncate`: there is nothing in it.
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| LogError::io("open", &path, error))?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(LogError::io("lock", &path, error)),
            Err(TryLockError::WouldBlock) if begin.elapsed() >= patience => return Err(LogError::InUse(path)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
        }
    }
}

/// The record that the head signs, and where it ends.
fn find_head(disk: &Disk, file: &File, head: &Head) -> Result<(Chain, u64), LogError> {
    let name = segment_name(head.segment);
    let differs = |line: Option<u64>, flaw| Finding { file: name.clone(), line, seq: Some(head.seq), flaw };
    let mut lines = 0;
    let walked = segment::walk(file, head.segment, None, Some(head.seq), &mut |_, _, line| {
        lines = line;
        Ok(())
    });
    let walked = walked.map_err(|stop| stop.into_error(disk.folder(), head.segment))?;
    if walked.end.seq < head.seq {
        let flaw = Flaw::Truncated { ends: walked.end.seq, head: head.seq };
        return Err(differs(None, flaw).into());
    }
    if !head.is(head.segment, &walked.end) {
        return Err(differs(Some(lines), Flaw::HeadDiffers).into());
    }
    Ok((walked.end, walked.bytes))
}

fn check_clock(now: SystemTime, last: Stamp, settings: &Settings) -> Result<(), LogError> {
    let latest = now.checked_add(settings.skew).map_or(Stamp::of(now), Stamp::of);
    if latest < last && !settings.accept_clock {
        return Err(LogError::Clock { now: Stamp::of(now), last });
    }
    Ok(())
}

/// How much stands behind the head, and its hash. A crash leaves at most one group there, in this segment or as
/// the beginning of the next.
fn tail(disk: &Disk, mut file: &File, length: u64, segment: u64, last: u64) -> Result<(u64, Hash), LogError> {
    let path = |number| disk.folder().join(segment_name(number));
    if last > segment + 1 {
        return Err(Finding::in_file(&segment_name(segment + 1), Flaw::Unsigned { head: segment }).into());
    }
    let mut bytes = Vec::new();
    let read = |file: &mut dyn Read, number, bytes: &mut Vec<u8>| {
        let room = (MAX_TAIL + 1).saturating_sub(bytes.len() as u64);
        file.take(room).read_to_end(bytes).map_err(|error| LogError::io("read", &path(number), error))
    };
    file.seek(SeekFrom::Start(length)).map_err(|error| LogError::io("read", &path(segment), error))?;
    read(&mut file, segment, &mut bytes)?;
    if last > segment {
        read(&mut &disk.open_segment(last)?, last, &mut bytes)?;
    }
    match bytes.len() as u64 {
        count if count > MAX_TAIL => Err(LogError::Tail { bytes: count }),
        count => Ok((count, Hash::of(&bytes))),
    }
}

const POLL: Duration = Duration::from_millis(20);

/// Above the largest group the writer makes ([`super::writer`]).
const MAX_TAIL: u64 = 8 << 20;
