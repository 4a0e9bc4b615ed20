//! The chain: each record carries the hash of the line before it. Pure.
//!
//! [`Chain::append`] writes the next line, [`Chain::follow`] judges one that was read. Whoever changes, removes,
//! inserts or moves a line breaks the link behind it; what cannot be seen from the links, that the end is
//! missing or that all was written anew, the signed head tells.

use super::error::Flaw;
use super::hash::Hash;
use super::record::{self, Event, Record};
use super::stamp::Stamp;

/// The last record so far, as the next one sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    pub(crate) time: Stamp,
}

impl Chain {
    /// Before the first record.
    pub(crate) fn empty() -> Self {
        Self { seq: 0, hash: Hash::ZERO, time: Stamp::of(std::time::SystemTime::UNIX_EPOCH) }
    }

    /// Before the record in this line, whatever it says: the link is checked from the other side.
    pub(crate) fn before(line: &[u8]) -> Result<Self, Flaw> {
        let record = Record::read(line).map_err(Flaw::Misread)?;
        let seq = record.seq.checked_sub(1).ok_or(Flaw::Sequence { expected: 1 })?;
        Ok(Self { seq, hash: record.prev, time: record.time })
    }

    /// Writes the next line with its line feed.
    pub(crate) fn append(&mut self, time: Stamp, event: &Event, out: &mut Vec<u8>) {
        let begin = out.len();
        self.seq += 1;
        record::write(self.seq, time, event, &self.hash, out);
        self.hash = Hash::of(out.get(begin..).unwrap_or_default());
        self.time = time;
        out.push(b'\n');
    }

    /// Judges the next line, without its line feed. `again` is scratch space.
    pub(crate) fn follow(&mut self, line: &[u8], again: &mut Vec<u8>) -> Result<Record, Flaw> {
        let record = Record::read(line).map_err(Flaw::Misread)?;
        again.clear();
        record.write(again);
        if again != line {
            return Err(Flaw::Spelling);
        }
        let expected = self.seq.checked_add(1).ok_or(Flaw::Sequence { expected: self.seq })?;
        if record.seq != expected {
            return Err(Flaw::Sequence { expected });
        }
        if record.prev != self.hash {
            return Err(Flaw::Link);
        }
        *self = Self { seq: record.seq, hash: Hash::of(line), time: record.time };
        Ok(record)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::record::tests::{examples, stamp};
    use super::*;

    #[test]
    fn what_was_appended_is_followed_and_nothing_else() {
        let mut text = Vec::new();
        let mut writing = Chain::empty();
        for event in examples() {
            writing.append(stamp(1_800_000_000_000), &event, &mut text);
        }
        let (mut reading, mut again) = (Chain::empty(), Vec::new());
        let lines: Vec<&[u8]> = text.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').collect();
        for (line, event) in lines.iter().zip(examples()) {
            assert_eq!(reading.follow(line, &mut again).unwrap().event, event);
        }
        assert_eq!(reading, writing);
        let (first, second, third) = (lines.first().unwrap(), lines.get(1).unwrap(), lines.get(2).unwrap());
        let mut reading = Chain::empty();
        assert_eq!(reading.follow(second, &mut again), Err(Flaw::Sequence { expected: 1 }));
        reading.follow(first, &mut again).unwrap();
        assert_eq!(reading.follow(first, &mut again), Err(Flaw::Sequence { expected: 2 }));
        assert_eq!(reading.follow(third, &mut again), Err(Flaw::Sequence { expected: 2 }));
        let other = String::from_utf8(second.to_vec()).unwrap().replace("main", "mean");
        reading.follow(other.as_bytes(), &mut again).unwrap();
        assert_eq!(reading.follow(third, &mut again), Err(Flaw::Link));
    }
}
