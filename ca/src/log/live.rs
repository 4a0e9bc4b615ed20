//! Reading back: the certificates that are still valid, and those whose tokens are.
//!
//! The log is the only store of what was issued. At its start the CA rebuilds from it who holds what, and which
//! tokens were used. It reads from the newest segment back, each verified in itself and against the one behind
//! it, the newest against the signed head, and stops where nothing is alive any more: the cost is that of the
//! longest lifetime, not of the CA's age. Memory does not grow with either.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::chain::Chain;
use super::error::{Finding, Flaw, LogError};
use super::folder::{self, segment_name};
use super::head::Head;
use super::key::LogPublicKey;
use super::record::{Event, Evidence, Issue, Record};
use super::segment;
use super::stamp::Stamp;

/// Shows every issued certificate that has not ended at `now`, and every one whose service-account token may not have ended:
/// a token can outlive what was issued for it, and is held to its key as long as it lives. Newest segment first, in order inside
/// each. `longest` is the longest lifetime of a leaf, `token` that of a token. Returns how many records were read.
///
/// # Errors
/// The part that was read is not what was written, or the disk. Then what was shown must not be used.
pub fn live(
    dir: &Path,
    now: SystemTime,
    longest: Duration,
    token: Duration,
    show: &mut dyn FnMut(&Record, &Issue),
) -> Result<u64, LogError> {
    let folder = folder::of(dir)?;
    let key = LogPublicKey::load(&folder)?;
    let head = Head::load(&folder, &key)?;
    let now = Stamp::of(now);
    let token_may_live = |record: &Record, issue: &Issue| {
        let until = record.time.time().checked_add(token);
        matches!(issue.evidence, Evidence::Kubernetes { .. }) && until.is_none_or(|until| Stamp::of(until) >= now)
    };
    let mut read = 0;
    // What must stand at the end of the segment that is read next, and who says so.
    let mut end = Chain { seq: head.seq, hash: head.hash, time: head.time };
    for number in (1..=head.segment).rev() {
        let name = segment_name(number);
        let path = folder.join(&name);
        let file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Finding::in_file(&name, Flaw::SegmentMissing).into(),
            _ => LogError::io("read", &path, error),
        })?;
        let newest = number == head.segment;
        let before = (number == 1).then(Chain::empty);
        let (mut alive, mut last_line) = (false, 0);
        let walked = segment::walk(file, number, before, newest.then_some(head.seq), &mut |record, _, line| {
            (read, last_line) = (read + 1, line);
            match &record.event {
                Event::Issued(issue) if issue.not_after >= now || token_may_live(record, issue) => {
                    alive = true;
                    show(record, issue);
                }
                Event::Begun { key: begun, .. } if *begun != key.id() => return Err(Flaw::KeyOther),
                _ => {}
            }
            Ok(())
        });
        let walked = walked.map_err(|stop| stop.into_error(&folder, number))?;
        let at_end = |flaw| Finding { file: name.clone(), line: Some(last_line), seq: Some(walked.end.seq), flaw };
        if walked.end.seq < end.seq {
            return Err(at_end(Flaw::Truncated { ends: walked.end.seq, head: end.seq }).into());
        }
        if walked.end.seq != end.seq {
            return Err(at_end(Flaw::Sequence { expected: end.seq }).into());
        }
        if walked.end.hash != end.hash || (newest && walked.end.time != head.time) {
            return Err(at_end(if newest { Flaw::HeadDiffers } else { Flaw::Link }).into());
        }
        let over = walked.before.time.time().checked_add(longest.max(token)).is_some_and(|over| Stamp::of(over) < now);
        if over && !alive {
            break;
        }
        end = walked.before;
    }
    Ok(read)
}
