//! One segment, read line by line in bounded memory.

use std::io::{self, BufRead, BufReader, Read};

use super::MAX_LINE;
use super::chain::Chain;
use super::error::{Finding, Flaw, LogError};
use super::folder::segment_name;
use super::record::{Event, Record};

/// Where a walk came from and got to.
pub(crate) struct Walk {
    /// Before the first record.
    pub(crate) before: Chain,
    /// At the last one.
    pub(crate) end: Chain,
    /// The length up to there.
    pub(crate) bytes: u64,
}

/// What a walk shows of each record: itself, its place in the chain, its line.
pub(crate) type Visit<'a> = dyn FnMut(&Record, &Chain, u64) -> Result<(), Flaw> + 'a;

/// Reads segment `number` behind `before`, to its end or through record `until`. Without `before` the first
/// record is taken at its word, and the caller compares [`Walk::before`] with what it finds there.
pub(crate) fn walk(
    source: impl Read,
    number: u64,
    before: Option<Chain>,
    until: Option<u64>,
    visit: &mut Visit<'_>,
) -> Result<Walk, Stop> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    let (mut line, mut again) = (Vec::new(), Vec::new());
    let mut count = 0;
    let mut state: Option<Walk> = before.map(|before| Walk { before, end: before, bytes: 0 });
    loop {
        if let Some(walk) = &state
            && count > 0
            && until.is_some_and(|until| walk.end.seq >= until)
        {
            break;
        }
        count += 1;
        let seq = state.as_ref().map(|walk| walk.end.seq.saturating_add(1));
        let stop = |flaw| Stop::Flaw { line: count, seq, flaw };
        let Some(length) = next_line(&mut source, &mut line).map_err(Stop::Io)?.map_err(stop)? else { break };
        let walk = match &mut state {
            Some(walk) => walk,
            None => {
                let before = Chain::before(&line).map_err(stop)?;
                state.insert(Walk { before, end: before, bytes: 0 })
            }
        };
        let record = walk.end.follow(&line, &mut again).map_err(stop)?;
        check_place(&record, number, count == 1).map_err(stop)?;
        walk.bytes += length;
        visit(&record, &walk.end, count).map_err(|flaw| Stop::Flaw { line: count, seq: Some(record.seq), flaw })?;
    }
    match state {
        Some(walk) if walk.bytes > 0 => Ok(walk),
        _ => Err(Stop::Flaw { line: 1, seq: None, flaw: Flaw::Empty }),
    }
}

/// Judges a whole segment that stands alone, as the first one does or as one after another; returns how many records it has.
///
/// # Errors
/// What is wrong with it, and in which line.
pub fn judge(segment: &[u8], number: u64) -> Result<u64, Finding> {
    let mut count = 0;
    let walked = walk(segment, number, None, None, &mut |_, _, _| {
        count += 1;
        Ok(())
    });
    match walked {
        Ok(_) => Ok(count),
        Err(stop) => Err(match stop {
            Stop::Flaw { line, seq, flaw } => Finding { file: segment_name(number), line: Some(line), seq, flaw },
            Stop::Io(_) => Finding::in_file(&segment_name(number), Flaw::Torn),
        }),
    }
}

/// Why a walk ended early.
pub(crate) enum Stop {
    Io(io::Error),
    Flaw { line: u64, seq: Option<u64>, flaw: Flaw },
}

impl Stop {
    pub(crate) fn into_error(self, folder: &std::path::Path, number: u64) -> LogError {
        let file = segment_name(number);
        match self {
            Self::Io(error) => LogError::io("read", &folder.join(file), error),
            Self::Flaw { line, seq, flaw } => Finding { file, line: Some(line), seq, flaw }.into(),
        }
    }
}

/// A segment begins by saying so, and nothing else does.
fn check_place(record: &Record, number: u64, first: bool) -> Result<(), Flaw> {
    let begins = match &record.event {
        Event::Begun { .. } => number == 1 && record.seq == 1,
        Event::Segment { segment, previous } => number > 1 && *segment == number && *previous == record.prev,
        _ if first => false,
        _ => return Ok(()),
    };
    match (begins, first) {
        (true, true) => Ok(()),
        (false, true) => Err(Flaw::Beginning { segment: number }),
        (_, false) => Err(Flaw::Misplaced),
    }
}

/// Puts the next line, without its line feed, into `line`; returns its length with it, `None` at the end.
fn next_line(source: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Result<Option<u64>, Flaw>> {
    line.clear();
    let read = source.take(MAX_LINE as u64 + 1).read_until(b'\n', line)?;
    Ok(match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(read as u64)),
        Some(_) if read > MAX_LINE => Err(Flaw::TooLong),
        Some(_) => Err(Flaw::Torn),
    })
}

const BUFFER: usize = 256 << 10;
