//! A ring of pcapng files: the newest is written, the oldest is removed.
//!
//! In: frames. Out: files of mode 0600, each readable by itself, that have their name only once they are finished:
//! `NAME-SECONDS-NUMBER.pcapng`, before that with `.part` behind it. What an earlier process left unfinished is given its
//! name at the start. Refused: a directory that is not there. A write that fails (a full disk) ends the file at its last whole
//! frame; the caller opens the next when it thinks fit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::pcapng::{self, Statistics};

/// The files.
#[derive(Debug)]
pub struct Ring {
    dir: PathBuf,
    name: String,
    interface: String,
    size: u64,
    files: usize,
    /// Of the next file: names of one second would otherwise be used again after the oldest is gone.
    number: u32,
    open: Option<Open>,
    /// Blocks not written yet, and where in them each frame ends.
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

/// The file being written.
#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    /// Bytes in the file.
    written: u64,
    /// It holds a frame.
    used: bool,
}

/// A write that failed.
#[derive(Debug)]
pub struct Failed {
    /// Frames that were written whole before.
    pub written: u64,
    /// Frames that were not.
    pub lost: u64,
    /// What the system said.
    pub error: io::Error,
}

impl Ring {
    /// Opens the first file. `name` is what the files' names begin with, `interface` what the workload is called in them;
    /// a file is finished after `size` bytes, and `files` finished ones are kept.
    ///
    /// # Errors
    /// `InvalidInput` for a name with a slash; otherwise what the system said about the directory or the file.
    pub fn open(dir: &Path, name: &str, interface: &str, size: u64, files: u32, now: SystemTime) -> io::Result<Self> {
        if name.is_empty() || name.contains(['/', '\0']) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of files cannot hold a slash"));
        }
        let mut ring = Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            interface: interface.to_owned(),
            size,
            files: usize::try_from(files).unwrap_or(usize::MAX),
            number: 0,
            open: None,
            buffer: Vec::new(),
            ends: Vec::new(),
        };
        for left in ring.listed(PART)? {
            let _ = fs::rename(&left, left.with_extension(""));
        }
        ring.prune()?;
        ring.number = ring.listed(DONE)?.iter().filter_map(|path| number(path)).max().map_or(0, |last| last + 1);
        ring.next(now)?;
        Ok(ring)
    }

    /// Whether there is a file to write to.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The file has reached its size.
    pub fn is_full(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            (open.used || !self.ends.is_empty()) && open.written + self.buffer.len() as u64 >= self.size
        })
    }

    /// Bytes that wait for [`Ring::flush`].
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Takes a frame of at most 65535 bytes that passed at `nanos` since 1970.
    pub fn frame(&mut self, nanos: u64, frame: &[u8]) {
        pcapng::packet(nanos, frame, &mut self.buffer);
        self.ends.push(self.buffer.len());
    }

    /// Takes what was counted so far.
    pub fn statistics(&mut self, statistics: &Statistics) {
        pcapng::statistics(statistics, &mut self.buffer);
    }

    /// Writes what it took; says how many frames that were.
    ///
    /// # Errors
    /// What failed, and how many frames it cost. There is no open file then.
    pub fn flush(&mut self) -> Result<u64, Failed> {
        let Some(open) = &mut self.open else {
            return match self.forget(0, io::ErrorKind::NotConnected.into()) {
                Failed { lost: 0, .. } => Ok(0),
                failed => Err(failed),
            };
        };
        let mut done = 0;
        while let Some(rest) = self.buffer.get(done..).filter(|rest| !rest.is_empty()) {
            match open.file.write(rest) {
                Ok(0) => return Err(self.forget(done, io::ErrorKind::WriteZero.into())),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.forget(done, error)),
            }
        }
        let frames = self.ends.len() as u64;
        open.used |= frames > 0;
        open.written += done as u64;
        self.buffer.clear();
        self.ends.clear();
        Ok(frames)
    }

    /// Finishes the file with what was counted, and gives it its name. One without a frame is removed. To be called after
    /// [`Ring::flush`].
    ///
    /// # Errors
    /// What the system said. The file is closed in any case.
    pub fn finish(&mut self, statistics: &Statistics) -> io::Result<()> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        self.buffer.clear();
        self.ends.clear();
        if !open.used {
            return fs::remove_file(&open.path);
        }
        let mut block = Vec::new();
        pcapng::statistics(statistics, &mut block);
        if let Err(error) = open.file.write_all(&block) {
            let _ = open.file.set_len(open.written);
            self.name_it(&open)?;
            return Err(error);
        }
        self.name_it(&open)
    }

    /// Begins the next file.
    ///
    /// # Errors
    /// What the system said.
    pub fn next(&mut self, now: SystemTime) -> io::Result<()> {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let (mut file, path) = self.create(seconds)?;
        let mut start = Vec::new();
        pcapng::start(&self.interface, &mut start);
        if let Err(error) = file.write_all(&start) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.open = Some(Open { file, path, written: start.len() as u64, used: false });
        Ok(())
    }

    fn create(&mut self, seconds: u64) -> io::Result<(File, PathBuf)> {
        for _ in 0..TRIES {
            let number = self.number % NUMBERS;
            self.number = (number + 1) % NUMBERS;
            let finished = self.dir.join(format!("{}-{seconds:010}-{number:06}{DONE}", self.name));
            if fs::exists(&finished)? {
                continue;
            }
            let path = self.dir.join(format!("{}-{seconds:010}-{number:06}{PART}", self.name));
            // Never an existing file, and so never a link that somebody else has laid there.
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Ends the file at its last whole frame. Nothing is left in the buffer.
    fn forget(&mut self, done: usize, error: io::Error) -> Failed {
        let written = self.ends.partition_point(|end| *end <= done);
        let whole = written.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        let lost = (self.ends.len() - written) as u64;
        if let Some(mut open) = self.open.take() {
            open.used |= written > 0;
            open.written += whole as u64;
            let cut = open.file.set_len(open.written);
            if open.used && cut.is_ok() {
                let _ = self.name_it(&open);
            } else {
                let _ = fs::remove_file(&open.path);
            }
        }
        self.buffer.clear();
        self.ends.clear();
        Failed { written: written as u64, lost, error }
    }

    fn name_it(&self, open: &Open) -> io::Result<()> {
        match fs::rename(&open.path, open.path.with_extension("")) {
            // Another tap of this name has begun meanwhile, and given it its name.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.prune(),
        }
    }

    /// Removes the oldest files.
    fn prune(&self) -> io::Result<()> {
        let mut finished = self.listed(DONE)?;
        finished.sort();
        let surplus = finished.len().saturating_sub(self.files);
        finished.iter().take(surplus).try_for_each(fs::remove_file)
    }

    /// Files of ours whose names end so. Nothing else in the directory is touched.
    fn listed(&self, end: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let stem = name.to_str().and_then(|name| name.strip_prefix(&self.name)?.strip_suffix(end));
            let digits = stem.and_then(|stem| stem.strip_prefix('-')).and_then(|stem| stem.split_once('-'));
            let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits.is_some_and(|(seconds, number)| are_digits(seconds) && are_digits(number)) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

/// The number in a name, which [`Ring::listed`] has checked.
fn number(path: &Path) -> Option<u32> {
    path.file_stem()?.to_str()?.rsplit_once('-')?.1.parse().ok()
}

const DONE: &str = ".pcapng";
/// [`DONE`], and what `with_extension("")` takes off.
const PART: &str = ".pcapng.part";
const NUMBERS: u32 = 1_000_000;
/// Names that may be taken by another ring of the same name.
const TRIES: u32 = 1000;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn turn(ring: &mut Ring, now: SystemTime) {
        assert!(ring.flush().is_ok());
        ring.finish(&Statistics::default()).unwrap();
        ring.next(now).unwrap();
    }

    #[test]
    fn files_have_their_name_when_they_are_finished_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ids-notes.pcapng"), "mine").unwrap();
        let mut ring = Ring::open(dir.path(), "ids", "web", 1000, 2, at(5)).unwrap();
        for n in 0..4 {
            ring.frame(n, b"frame");
            turn(&mut ring, at(5));
        }
        let expected = ["ids-0000000005-000002.pcapng", "ids-0000000005-000003.pcapng"];
        let names = names(dir.path());
        assert_eq!(
            (&names[..2], &names[3..]),
            (&expected.map(str::to_owned)[..], &["ids-notes.pcapng".to_owned()][..])
        );
        assert!(names[2].ends_with(".part"), "{names:?}");
        for name in &names[..3] {
            assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_was_left_unfinished_gets_its_name_and_an_empty_file_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = Ring::open(dir.path(), "ids", "web", 1000, 8, at(5)).unwrap();
        ring.frame(1, b"frame");
        assert_eq!(ring.flush().unwrap(), 1);
        drop(ring);
        let mut ring = Ring::open(dir.path(), "ids", "web", 1000, 8, at(5)).unwrap();
        ring.finish(&Statistics::default()).unwrap();
        assert_eq!(names(dir.path()), ["ids-0000000005-000000.pcapng"]);
    }

    #[test]
    fn a_failed_write_ends_the_file_at_its_last_whole_frame() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = Ring::open(dir.path(), "ids", "web", 1000, 8, at(5)).unwrap();
        ring.frame(1, b"frame");
        ring.flush().unwrap();
        (0..3).for_each(|n| ring.frame(n, b"frames"));
        let one = (ring.ends[1] - ring.ends[0]) as u64;
        let before = ring.open.as_ref().unwrap().written;
        let half = ring.buffer[..ring.ends[1] + 7].to_vec();
        ring.open.as_mut().unwrap().file.write_all(&half).unwrap();
        let failed = ring.forget(half.len(), io::Error::from_raw_os_error(28));
        assert_eq!((failed.written, failed.lost, ring.is_open()), (2, 1, false));
        let file = fs::read(dir.path().join("ids-0000000005-000000.pcapng")).unwrap();
        assert_eq!(file.len() as u64, before + 2 * one);
        assert_eq!(pcapng::tests::blocks(&file).len(), 2 + 3);
        ring.frame(9, b"x");
        let failed = ring.flush().unwrap_err();
        assert_eq!((failed.written, failed.lost), (0, 1));
        ring.next(at(6)).unwrap();
        ring.frame(9, b"x");
        assert_eq!(ring.flush().unwrap(), 1);
    }

    #[test]
    fn a_name_with_a_slash_and_a_missing_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Ring::open(dir.path(), "../x", "web", 1000, 8, at(5)).is_err());
        assert!(Ring::open(&dir.path().join("none"), "ids", "web", 1000, 8, at(5)).is_err());
    }
}
