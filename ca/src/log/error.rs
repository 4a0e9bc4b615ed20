//! What is wrong with a log, and why a record could not be kept.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hash::Hash;
use super::line::Misread;
use super::stamp::Stamp;
use crate::error::CaError;

/// Why the log did not do something. A record for which this is the answer is not in the log.
#[derive(Clone, Debug)]
pub enum LogError {
    /// A file or folder could not be used; a full disk among it.
    Io {
        /// What was tried, as in "write".
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        error: Arc<io::Error>,
    },
    /// There is a log already.
    Exists(PathBuf),
    /// There is no log.
    Missing(PathBuf),
    /// The log is not what was written.
    Found(Finding),
    /// The key that signs heads could not be read or written.
    Key(Arc<CaError>),
    /// The key that signs heads is not the one whose public half stands beside it.
    KeyMismatch,
    /// The clock is before the last record.
    Clock {
        /// What the clock says.
        now: Stamp,
        /// The time of the last record.
        last: Stamp,
    },
    /// Another process writes this log.
    InUse(PathBuf),
    /// More bytes behind the signed head than a crash can leave.
    Tail {
        /// How many.
        bytes: u64,
    },
    /// More records wait than may.
    Busy,
    /// The log is closed.
    Closed,
    /// The crypto library failed.
    Crypto,
}

impl LogError {
    /// A label for metrics, from a fixed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Exists(_) => "exists",
            Self::Missing(_) => "missing",
            Self::Found(_) => "damaged",
            Self::Key(_) | Self::KeyMismatch => "key",
            Self::Clock { .. } => "clock",
            Self::InUse(_) => "in_use",
            Self::Tail { .. } => "tail",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Crypto => "crypto",
        }
    }

    pub(crate) fn io(verb: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { verb, path: path.to_owned(), error: Arc::new(error) }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { verb, path, error } => write!(f, "audit log: cannot {verb} {}: {error}", path.display()),
            Self::Exists(path) => write!(f, "audit log: {} is already there and is never overwritten", path.display()),
            Self::Missing(path) => write!(
                f,
                "audit log: {} is not there; nothing is issued that is not logged, so a folder without its log is of no use",
                path.display()
            ),
            Self::Found(finding) => write!(f, "audit log: {finding}"),
            Self::Key(error) => write!(f, "audit log: log.key: {error}"),
            Self::KeyMismatch => f.write_str("audit log: log.key does not belong to log.pub"),
            Self::Clock { now, last } => write!(
                f,
                "audit log: the clock says {now}, but the last record is of {last}; set the clock right, or, if it was wrong then, say so (--accept-clock)"
            ),
            Self::InUse(path) => write!(f, "audit log: {} is in use by another process", path.display()),
            Self::Tail { bytes } => write!(
                f,
                "audit log: {bytes} bytes behind the signed head are more than a crash can leave; keep a copy, then run `sekisho ca log verify`"
            ),
            Self::Busy => f.write_str("audit log: too many records wait for the disk"),
            Self::Closed => f.write_str("audit log: closed"),
            Self::Crypto => f.write_str("audit log: the crypto library failed"),
        }
    }
}

impl std::error::Error for LogError {}

impl From<Finding> for LogError {
    fn from(finding: Finding) -> Self {
        Self::Found(finding)
    }
}

/// What is wrong with a log, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name in the log's folder.
    pub file: String,
    /// The line in it, from 1.
    pub line: Option<u64>,
    /// Which record stands there, or should.
    pub seq: Option<u64>,
    /// What is wrong.
    pub flaw: Flaw,
}

impl Finding {
    pub(crate) fn in_file(file: &str, flaw: Flaw) -> Self {
        Self { file: file.to_owned(), line: None, seq: None, flaw }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(seq) = self.seq {
            write!(f, " (record {seq})")?;
        }
        write!(f, ": {}", self.flaw)
    }
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A line is not a record.
    Misread(Misread),
    /// A line is a record, but spelt in another way than it is written.
    Spelling,
    /// A line is longer than any record.
    TooLong,
    /// The last line has no end.
    Torn,
    /// Records are missing, repeated or moved.
    Sequence {
        /// The number that should follow.
        expected: u64,
    },
    /// The line before is not the one this record was written after.
    Link,
    /// A segment does not begin as it should.
    Beginning {
        /// The segment.
        segment: u64,
    },
    /// A record that begins a segment stands inside one.
    Misplaced,
    /// A segment without any record.
    Empty,
    /// A segment is not there.
    SegmentMissing,
    /// A file that looks like a segment and has no segment's name.
    SegmentName,
    /// The signed head is not there.
    HeadMissing,
    /// The signed head is not as it was written.
    HeadForm(Misread),
    /// The signed head is of another key than this log's.
    HeadKey {
        /// The key of this log.
        key: Hash,
    },
    /// The signature of the head does not verify.
    HeadSignature,
    /// The record that the head signs is another one here.
    HeadDiffers,
    /// The log ends before the head: its last records are missing.
    Truncated {
        /// The last record that is there; 0 when there is none.
        ends: u64,
        /// The last record there must be.
        head: u64,
    },
    /// Records behind the head, which nobody has signed.
    Unsigned {
        /// The last record that is signed.
        head: u64,
    },
    /// The public key is not there or not as it was written.
    KeyForm,
    /// The first record names another key.
    KeyOther,
    /// Not the key that was expected.
    KeyUnexpected {
        /// The key that is there.
        key: Hash,
    },
    /// Not the hash that was expected for this record.
    Unexpected,
    /// The log ends before a record that was expected.
    TooShort {
        /// The last record that is there.
        ends: u64,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misread(misread) => write!(f, "the line was changed: {misread}"),
            Self::Spelling => f.write_str("the line was changed: it is not spelt as it was written"),
            Self::TooLong => f.write_str("the line was changed: it is longer than any record"),
            Self::Torn => f.write_str("the line has no end: the file was cut, or a crash cut it"),
            Self::Sequence { expected } => {
                write!(f, "record {expected} should stand here: records are missing, repeated or moved")
            }
            Self::Link => f.write_str("the line before this one was changed, or this one's `prev`"),
            Self::Beginning { segment } => write!(f, "this is not the beginning of segment {segment}"),
            Self::Misplaced => f.write_str("the beginning of a segment inside another"),
            Self::Empty => f.write_str("the segment is empty"),
            Self::SegmentMissing => f.write_str("the segment is missing"),
            Self::SegmentName => f.write_str("no segment has this name"),
            Self::HeadMissing => f.write_str("the signed head is missing"),
            Self::HeadForm(misread) => write!(f, "the signed head was changed: {misread}"),
            Self::HeadKey { key } => write!(f, "the head is of another key; this log's is {key}"),
            Self::HeadSignature => f.write_str("the signature of the head does not verify"),
            Self::HeadDiffers => f.write_str("this is not the record that the head signs: all before it may be forged"),
            Self::Truncated { ends, head } => {
                write!(f, "the log ends with record {ends}, the head signs record {head}: the end was cut off")
            }
            Self::Unsigned { head } => write!(
                f,
                "the head signs up to record {head}, nothing from here on is signed: added, or left by a crash (then the CA cuts it at its next start)"
            ),
            Self::KeyForm => f.write_str("the public key is missing, or not as it was written"),
            Self::KeyOther => f.write_str("the log was begun with another key than log.pub"),
            Self::KeyUnexpected { key } => write!(f, "the log's key is {key}, not the expected one"),
            Self::Unexpected => f.write_str("this record's hash is not the expected one: the log was written anew"),
            Self::TooShort { ends } => write!(
                f,
                "the log ends with record {ends}, before a record that is known to have been there: an older state was put back"
            ),
        }
    }
}
