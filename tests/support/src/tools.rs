//! Where the tools are: the built binary, the Python environment that `scripts/test` prepares, and what the system has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root folder of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// The `sekisho` binary under test: `SEKISHO_BIN`, or else the one cargo built beside this test.
#[must_use]
pub fn sekisho() -> PathBuf {
    if let Some(path) = std::env::var_os("SEKISHO_BIN") {
        return std::fs::canonicalize(&path).unwrap_or_else(|error| panic!("SEKISHO_BIN={}: {error}", path.display()));
    }
    // target/<profile>/deps/<test> stands beside target/<profile>/sekisho.
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("sekisho");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

/// The statically linked binary that `just static-test` builds (`SEKISHO_STATIC_BIN` names another).
#[must_use]
pub fn static_sekisho() -> PathBuf {
    let path = std::env::var_os("SEKISHO_STATIC_BIN")
        .map_or_else(|| repository().join("target/static/sekisho"), PathBuf::from);
    assert!(path.exists(), "{} is not built: run just static-test, or scripts/test", path.display());
    path
}

/// What makes a process read its wall clock from `clock`, a file that says `+40d`; its monotonic clock and the times of files are
/// the real ones. It works with a dynamically linked build.
#[must_use]
pub fn faketime(clock: &Path) -> Vec<(&'static str, OsString)> {
    fake_clock(("FAKETIME_TIMESTAMP_FILE", clock.into()))
}

/// As [`faketime`], for a clock that stays moved `by` as much as that: `-2h`.
#[must_use]
pub fn faketime_by(by: &str) -> Vec<(&'static str, OsString)> {
    fake_clock(("FAKETIME", by.into()))
}

/// By the library itself: its starter makes a semaphore that is named by its process, and does not start where an older process of
/// that number left one.
fn fake_clock(clock: (&'static str, OsString)) -> Vec<(&'static str, OsString)> {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    let library = found.unwrap_or_else(|| panic!("libfaketime is missing: install faketime, or run scripts/test"));
    let yes = ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"];
    let yes = yes.into_iter().map(|name| (name, "1".into()));
    yes.chain([("LD_PRELOAD", library.into()), clock]).collect()
}

/// Python with grpcio and h2, in the environment that `scripts/test` makes (`SEKISHO_VENV` names another).
#[must_use]
pub fn python() -> Command {
    Command::new(venv().join("bin/python"))
}

/// A script of this folder's `py/`, to be run by [`python`].
#[must_use]
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("py").join(name)
}

/// The Envoy binary itself: the wheel's own starter would stand between a signal and the process.
#[must_use]
pub fn envoy() -> PathBuf {
    if let Some(path) = std::env::var_os("SEKISHO_ENVOY") {
        return path.into();
    }
    let lib = venv().join("lib");
    let found = std::fs::read_dir(&lib).ok().and_then(|entries| {
        entries.flatten().map(|entry| entry.path().join("site-packages/envoy/_bin/envoy")).find(|path| path.exists())
    });
    found.unwrap_or_else(|| panic!("no Envoy under {}: run scripts/test, which installs it", lib.display()))
}

/// A tool of the system; panics with the package that brings it when it is not there.
#[must_use]
pub fn system(name: &str, package: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.exists());
    match found {
        Some(path) => Command::new(path),
        None => panic!("{name} is missing: install {package}, or run scripts/test"),
    }
}

fn venv() -> PathBuf {
    let path = std::env::var_os("SEKISHO_VENV").map_or_else(|| repository().join("target/test-venv"), PathBuf::from);
    assert!(path.join("bin/python").exists(), "no Python environment at {}: run scripts/test", path.display());
    path
}
