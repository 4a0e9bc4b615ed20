//! Files that are whole or not there.
//!
//! In come a folder, a name and bytes; out comes a file that a reader finds complete under its name, before and
//! after a loss of power: written beside its place, flushed, moved, and the folder flushed. One who is killed in
//! between leaves the old file, or the new one, and perhaps a file beside, which the next write takes away. The
//! caller holds the folder's lock, or nobody else knows the folder yet.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Puts `bytes` under `name`, in place of what is there.
pub(crate) fn replace(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let beside = write_beside(dir, name, mode, bytes)?;
    step()?;
    fs::rename(&beside, dir.join(name))?;
    flush(dir)
}

/// Puts `bytes` under `name` where nothing is; fails with `AlreadyExists` otherwise.
pub(crate) fn create(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let beside = write_beside(dir, name, mode, bytes)?;
    step()?;
    // A hard link fails where a rename would overwrite: two `init` at once cannot undo each other.
    let linked = fs::hard_link(&beside, dir.join(name));
    step()?;
    fs::remove_file(&beside)?;
    linked?;
    flush(dir)
}

/// Makes the folder `name` with these files in it (name, mode, bytes), all at once.
pub(crate) fn create_folder(dir: &Path, name: &str, files: &[(&str, u32, &[u8])]) -> io::Result<()> {
    let beside = beside(dir, name);
    remove_tree(&beside)?;
    step()?;
    DirBuilder::new().mode(0o700).create(&beside)?;
    for (file, mode, bytes) in files {
        write_new(&beside.join(file), *mode, bytes)?;
    }
    flush(&beside)?;
    step()?;
    fs::rename(&beside, dir.join(name))?;
    flush(dir)
}

/// Makes a folder, and those above it, if it is not there.
pub(crate) fn ensure_folder(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    step()?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(above) if !above.as_os_str().is_empty() => flush(above),
        _ => Ok(()),
    }
}

/// Moves a file or folder from one folder into another of the same file system.
pub(crate) fn move_into(from: &Path, name: &str, to: &Path) -> io::Result<()> {
    ensure_folder(to)?;
    step()?;
    fs::rename(from.join(name), to.join(name))?;
    flush(to)?;
    flush(from)
}

/// Removes a folder that a killed [`create_folder`] left. What it holds was never in use.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    step()?;
    fs::remove_dir_all(path)
}

/// Whether a name in a folder is one that a killed write left.
pub(crate) fn is_left_over(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(SUFFIX)
}

fn write_beside(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> io::Result<PathBuf> {
    let beside = beside(dir, name);
    step()?;
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => write_new(&beside, mode, bytes)?,
    }
    Ok(beside)
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    step()?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    step()?;
    file.write_all(half)?;
    step()?;
    file.write_all(rest)?;
    step()?;
    file.sync_all()
}

fn flush(dir: &Path) -> io::Result<()> {
    step()?;
    File::open(dir)?.sync_all()
}

fn beside(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}{SUFFIX}"))
}

const SUFFIX: &str = ".new";

/// Stands before each change of the disk. Tests let one fail, and all after it, as for a process that was killed.
#[cfg(not(test))]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use killing::step;
#[cfg(test)]
pub(crate) use killing::{kill_after, revive};

#[cfg(test)]
mod killing {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// From now on this thread changes the disk so many times, and then never again.
    pub(crate) fn kill_after(steps: u32) {
        LEFT.set(Some(steps));
    }

    /// The end of [`kill_after`]; whether it struck.
    pub(crate) fn revive() -> bool {
        LEFT.replace(None) == Some(0)
    }

    pub(super) fn step() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("killed")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
