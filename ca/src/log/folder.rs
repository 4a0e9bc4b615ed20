//! The log's folder.
//!
//! ```text
//! ca/log/             0700
//!   log.key           0600, signs heads; encrypted when a passphrase was given
//!   log.pub           its public half
//!   head.json         the signed head
//!   00000001.jsonl    segments, without a gap
//!   lock              held by the one process that writes
//! ```
//! [`create`] makes all of it beside its place and moves it there, so there is never half of a log.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use identity::TrustDomain;

use super::chain::Chain;
use super::error::{Finding, Flaw, LogError};
use super::head::Head;
use super::key::{LogKey, LogPublicKey};
use super::record::Event;
use super::stamp::Stamp;
use super::value::Text;

/// Makes the log of a new CA in its folder `dir`, with its key and first record. Returns the public half of the key.
///
/// # Errors
/// There is a log already; the disk.
pub fn create(
    dir: &Path,
    trust_domain: &TrustDomain,
    passphrase: Option<&[u8]>,
    now: SystemTime,
) -> Result<LogPublicKey, LogError> {
    let key = LogKey::generate()?;
    let private = key.at_rest(passphrase)?;
    let mut chain = Chain::empty();
    let mut first = Vec::new();
    let begun = Event::Begun { trust_domain: Text::bounded(trust_domain.as_str()), key: key.public().id() };
    chain.append(Stamp::of(now), &begun, &mut first);
    let head = Head::sign(&key, 1, &chain)?;

    let place = dir.join(LOG);
    if fs::symlink_metadata(&place).is_ok() {
        return Err(LogError::Exists(place));
    }
    let beside = dir.join(format!(".log.{}.new", std::process::id()));
    let written = (|| {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        DirBuilder::new().mode(0o700).create(&beside)?;
        write(&beside.join(KEY), 0o600, private.as_bytes())?;
        write(&beside.join(PUBLIC), 0o644, key.public().pem().as_bytes())?;
        write(&beside.join(segment_name(1)), 0o600, &first)?;
        write(&beside.join(HEAD), 0o644, &head.text())?;
        write(&beside.join(LOCK), 0o600, b"")?;
        File::open(&beside)?.sync_all()?;
        // Onto a log that came meanwhile it fails: a folder that is not empty is not replaced.
        fs::rename(&beside, &place)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(|error: io::Error| {
        let _ = fs::remove_dir_all(&beside);
        LogError::io("make", &place, error)
    })?;
    Ok(key.public())
}

/// The log's folder in the CA's.
pub(crate) fn of(dir: &Path) -> Result<PathBuf, LogError> {
    let folder = dir.join(LOG);
    match fs::metadata(&folder) {
        Ok(_) => Ok(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LogError::Missing(folder)),
        Err(error) => Err(LogError::io("read", &folder, error)),
    }
}

/// The number of the last segment, all before it being there.
pub(crate) fn last_segment(folder: &Path) -> Result<u64, LogError> {
    let listing = |error| LogError::io("list", folder, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(listing)? {
        let name = entry.map_err(listing)?.file_name();
        let name = name.to_string_lossy();
        if let Some(digits) = name.strip_suffix(SEGMENT) {
            let number = digits.parse().ok().filter(|number| *number > 0 && segment_name(*number) == name);
            numbers.push(number.ok_or_else(|| Finding::in_file(&name, Flaw::SegmentName))?);
        }
    }
    numbers.sort_unstable();
    for (number, expected) in numbers.iter().zip(1..) {
        if *number != expected {
            return Err(Finding::in_file(&segment_name(expected), Flaw::SegmentMissing).into());
        }
    }
    let last: Option<u64> = numbers.last().copied();
    last.ok_or_else(|| Finding::in_file(&segment_name(1), Flaw::SegmentMissing).into())
}

/// Eight digits; more when there are more.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:08}{SEGMENT}")
}

/// A small file; `None` when it is not there. What is too large comes back cut, and is not what was written.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::io("read", path, error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_SMALL).read_to_end(&mut bytes).map_err(|error| LogError::io("read", path, error))?;
    Ok(Some(bytes))
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(crate) const LOG: &str = "log";
pub(crate) const KEY: &str = "log.key";
pub(crate) const PUBLIC: &str = "log.pub";
pub(crate) const HEAD: &str = "head.json";
pub(crate) const LOCK: &str = "lock";
const SEGMENT: &str = ".jsonl";

/// A head has below 512 bytes, a public key 113.
const MAX_SMALL: u64 = 4096;
