//! One who changes the folder at a time.
//!
//! In comes a folder; out comes the lock, or that somebody else has it: a server, or another command. It is the
//! kernel's lock on the file `lock` (flock), so a process that dies lets go of it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::CaError;

/// Held until dropped. What changes the folder asks for one.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Takes the lock of `dir`, at once or not at all.
    pub fn take(dir: &Path) -> Result<Self, CaError> {
        Self::take_file(dir, LOCK)
    }

    /// The lock of the deny list alone: it changes while a server runs, which reads it.
    pub(crate) fn take_denied(dir: &Path) -> Result<Self, CaError> {
        Self::take_file(dir, DENIED)
    }

    fn take_file(dir: &Path, name: &str) -> Result<Self, CaError> {
        let path = dir.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| super::io_error("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(CaError::Locked(dir.to_owned())),
            Err(TryLockError::Error(error)) => Err(super::io_error("lock", &path, error)),
        }
    }
}

const LOCK: &str = "lock";
const DENIED: &str = "denied.lock";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        assert!(matches!(Lock::take(dir.path()), Err(CaError::Locked(_))));
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}
