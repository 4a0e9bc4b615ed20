//! One folder per test, gone when the test is over. Kept, with its path printed, when the test failed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A scratch folder that other users may read, since some tests run the sidecar under its own user.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// Makes a new, empty folder.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sekisho-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().to_owned();
        Self { dir: Some(dir), path }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside the folder.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, as a whole or not at all for whoever watches it: new file, then rename.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        let aside = self.join(format!(".{name}.new"));
        std::fs::write(&aside, content).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        path
    }

    /// Reads a file as text; empty when it is not there yet.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        std::fs::read(self.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("scratch folder kept: {}", dir.keep().display());
        }
    }
}
