//! Tests that need root rights: network namespaces, packet capture, other users.
//!
//! They live in modules named `root`, so that one filter finds them all. Without root they fail, and with
//! `SEKISHO_TESTS=unprivileged` they are left out and say so.

use std::process::Command;

/// Whether to go on: true as root; false, with a line on stderr, when such tests are left out on purpose.
/// Panics otherwise, because a right that is missing is a failure.
#[must_use]
pub fn granted(test: &str) -> bool {
    if is_root() {
        return true;
    }
    if std::env::var("SEKISHO_TESTS").as_deref() == Ok("unprivileged") {
        eprintln!("left out, needs root: {test}");
        return false;
    }
    panic!("{test} needs root: run scripts/test, or set SEKISHO_TESTS=unprivileged to leave it out");
}

/// Whether this process has the rights of root.
#[must_use]
pub fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}
