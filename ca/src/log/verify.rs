//! The whole log, from its first byte: what `sekisho ca log verify` says.
//!
//! Needs no secret. Finds every change of any byte, every record or segment that is missing, added, repeated or
//! moved, and an end that was cut off, and says where. It cannot find that the whole folder was put back to an
//! older state, or was made anew with another key, unless something is known from elsewhere: [`Known`].

use std::fs::{self, File};
use std::path::Path;

use super::chain::Chain;
use super::error::{Finding, Flaw, LogError};
use super::folder::{self, PUBLIC, segment_name};
use super::hash::Hash;
use super::head::Head;
use super::key::LogPublicKey;
use super::ledger;
use super::record::Event;
use super::segment;
use super::stamp::Stamp;

/// What is known of the log from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its key.
    pub key: Option<Hash>,
    /// A head of it.
    pub head: Option<Head>,
    /// The hash of a record.
    pub record: Option<(u64, Hash)>,
}

/// A log as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many records the head signs.
    pub records: u64,
    /// In how many segments.
    pub segments: u64,
    /// The time of the first.
    pub first: Stamp,
    /// The signed head.
    pub head: Head,
    /// The CA is running and may have gone on since; that was not looked at.
    pub open: bool,
}

/// Verifies the log in the CA's folder `dir`. `progress` hears how many bytes of how many are done.
///
/// # Errors
/// [`LogError::Found`] says what is wrong and where; others, why the log could not be read.
pub fn verify(dir: &Path, known: &Known, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified, LogError> {
    let folder = folder::of(dir)?;
    let key = LogPublicKey::load(&folder)?;
    if known.key.is_some_and(|known| known != key.id()) {
        return Err(Finding::in_file(PUBLIC, Flaw::KeyUnexpected { key: key.id() }).into());
    }
    if let Some(head) = &known.head {
        head.check(&key).map_err(|flaw| Finding::in_file(KNOWN_HEAD, flaw))?;
    }
    let open = ledger::is_open(&folder);
    let head = Head::load(&folder, &key)?;
    match walk(&folder, &key, &head, known, open, progress) {
        // The CA was started meanwhile, and went on or cut what a crash had left.
        Err(LogError::Found(_)) if !open && changes(&folder, &key, &head) => {
            let head = Head::load(&folder, &key)?;
            walk(&folder, &key, &head, known, true, progress)
        }
        result => result,
    }
}

fn walk(
    folder: &Path,
    key: &LogPublicKey,
    head: &Head,
    known: &Known,
    open: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, LogError> {
    let last = folder::last_segment(folder)?;
    if last < head.segment {
        return Err(
            Finding { seq: Some(head.seq), ..Finding::in_file(&segment_name(last + 1), Flaw::SegmentMissing) }.into()
        );
    }
    // What an open log has behind its head is being written.
    let (last, until) = if open { (head.segment, Some(head.seq)) } else { (last, None) };
    let mut points: Vec<(u64, Hash, Flaw)> = vec![(head.seq, head.hash, Flaw::HeadDiffers)];
    points.extend(known.head.as_ref().map(|head| (head.seq, head.hash, Flaw::Unexpected)));
    points.extend(known.record.map(|(seq, hash)| (seq, hash, Flaw::Unexpected)));
    let all = total(folder, last)?;
    let (mut chain, mut done) = (Chain::empty(), 0);
    let mut first = chain.time;
    for number in 1..=last {
        let path = folder.join(segment_name(number));
        let file = File::open(&path).map_err(|error| LogError::io("read", &path, error))?;
        let until = until.filter(|_| number == head.segment);
        let walked = segment::walk(file, number, Some(chain), until, &mut |record, place, line| {
            if let Event::Begun { key: begun, .. } = &record.event {
                first = record.time;
                if *begun != key.id() {
                    return Err(Flaw::KeyOther);
                }
            }
            if record.seq > head.seq {
                return Err(Flaw::Unsigned { head: head.seq });
            }
            if record.seq == head.seq && !head.is(number, place) {
                return Err(Flaw::HeadDiffers);
            }
            match points.iter().find(|(seq, hash, _)| *seq == record.seq && *hash != place.hash) {
                Some((_, _, flaw)) => Err(flaw.clone()),
                None => {
                    if line.is_multiple_of(PROGRESS) {
                        progress(done, all);
                    }
                    Ok(())
                }
            }
        });
        let walked = walked.map_err(|stop| stop.into_error(folder, number))?;
        chain = walked.end;
        done += walked.bytes;
        progress(done, all);
    }
    let end = |flaw, seq| Finding { seq: Some(seq), ..Finding::in_file(&segment_name(last), flaw) };
    if chain.seq < head.seq {
        return Err(end(Flaw::Truncated { ends: chain.seq, head: head.seq }, head.seq).into());
    }
    if let Some((seq, ..)) = points.iter().find(|(seq, ..)| *seq > chain.seq) {
        return Err(end(Flaw::TooShort { ends: chain.seq }, *seq).into());
    }
    Ok(Verified { records: head.seq, segments: head.segment, first, head: head.clone(), open })
}

/// Whether the CA writes this log now, or has since `head`.
fn changes(folder: &Path, key: &LogPublicKey, head: &Head) -> bool {
    // Whoever writes has the lock before anything else, and leaves another head behind.
    ledger::is_open(folder) || Head::load(folder, key).is_ok_and(|now| now != *head)
}

fn total(folder: &Path, last: u64) -> Result<u64, LogError> {
    (1..=last)
        .map(|number| {
            let path = folder.join(segment_name(number));
            fs::metadata(&path).map(|about| about.len()).map_err(|error| LogError::io("read", &path, error))
        })
        .sum()
}

/// How the head that was kept elsewhere is called in a finding.
const KNOWN_HEAD: &str = "the head kept elsewhere";

/// Records between two reports.
const PROGRESS: u64 = 20_000;
