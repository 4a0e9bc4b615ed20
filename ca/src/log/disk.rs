//! The few calls that change the log's folder, each of which may fail.
//!
//! They stand in one place so that tests can let any one of them fail, write half, or be the last before a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::folder::{HEAD, segment_name};

pub(crate) struct Disk {
    folder: PathBuf,
    #[cfg(test)]
    pub(crate) faults: faults::Faults,
}

impl Disk {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            #[cfg(test)]
            faults: faults::Faults::default(),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn open_segment(&self, number: u64) -> Result<File, LogError> {
        let path = self.folder.join(segment_name(number));
        self.step("open", &path, || OpenOptions::new().read(true).write(true).open(&path))
    }

    pub(crate) fn create_segment(&self, number: u64) -> Result<File, LogError> {
        let path = self.folder.join(segment_name(number));
        self.step("create", &path, || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path))
    }

    /// Removes a segment if it is there.
    pub(crate) fn remove_segment(&self, number: u64) -> Result<(), LogError> {
        let path = self.folder.join(segment_name(number));
        self.step("remove", &path, || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    pub(crate) fn write(&self, segment: (u64, &File), at: u64, bytes: &[u8]) -> Result<(), LogError> {
        let path = self.folder.join(segment_name(segment.0));
        #[cfg(test)]
        if let Some(half) = self.faults.half(bytes) {
            let _ = segment.1.write_all_at(half, at);
        }
        self.step("write", &path, || segment.1.write_all_at(bytes, at))
    }

    /// Flushes what was written; the length with it.
    pub(crate) fn sync(&self, segment: (u64, &File)) -> Result<(), LogError> {
        self.step("flush", &self.folder.join(segment_name(segment.0)), || segment.1.sync_data())
    }

    pub(crate) fn truncate(&self, segment: (u64, &File), length: u64) -> Result<(), LogError> {
        self.step("truncate", &self.folder.join(segment_name(segment.0)), || segment.1.set_len(length))
    }

    /// Makes created, renamed and removed files durable.
    pub(crate) fn sync_folder(&self) -> Result<(), LogError> {
        self.step("flush", &self.folder, || File::open(&self.folder)?.sync_all())
    }

    /// Writes the new head beside the old one, durably.
    pub(crate) fn prepare_head(&self, text: &[u8]) -> Result<(), LogError> {
        let beside = self.beside();
        let written = self.step("write", &beside, || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
            file.write_all(text)?;
            file.sync_data()
        });
        if written.is_err() {
            // On a full disk its block may be the one that is needed.
            let _ = self.step("remove", &beside, || fs::remove_file(&beside));
        }
        written
    }

    /// Puts the head that was written beside in the place of the old one.
    pub(crate) fn swap_head(&self) -> Result<(), LogError> {
        let place = self.folder.join(HEAD);
        self.step("replace", &place, || fs::rename(self.beside(), &place))
    }

    fn beside(&self) -> PathBuf {
        self.folder.join(format!(".{HEAD}.new"))
    }

    fn step<T>(&self, verb: &'static str, path: &Path, call: impl FnOnce() -> io::Result<T>) -> Result<T, LogError> {
        #[cfg(test)]
        let call = || if self.faults.strikes() { Err(io::ErrorKind::StorageFull.into()) } else { call() };
        call().map_err(|error| LogError::io(verb, path, error))
    }
}

#[cfg(test)]
pub(crate) mod faults {
    use std::ops::Range;
    use std::sync::{Arc, Mutex};

    /// Which of the calls from here on fail. Shared, so that a test can change it while the log is open.
    #[derive(Clone, Default)]
    pub(crate) struct Faults(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        call: u64,
        failing: Range<u64>,
        /// How many thousandths of a write that fails are written all the same.
        share: usize,
    }

    impl Faults {
        /// The calls of these numbers, counted from now on, fail.
        pub(crate) fn fail(&self, calls: Range<u64>, share: usize) {
            *self.0.lock().unwrap_or_else(|error| error.into_inner()) = State { call: 0, failing: calls, share };
        }

        /// How many calls there were since then.
        pub(crate) fn calls(&self) -> u64 {
            self.0.lock().unwrap_or_else(|error| error.into_inner()).call
        }

        pub(super) fn strikes(&self) -> bool {
            let mut state = self.0.lock().unwrap_or_else(|error| error.into_inner());
            state.call += 1;
            state.failing.contains(&(state.call - 1))
        }

        pub(super) fn half<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
            let state = self.0.lock().unwrap_or_else(|error| error.into_inner());
            state.failing.contains(&state.call).then(|| bytes.split_at(bytes.len() * state.share / 1000).0)
        }
    }
}
