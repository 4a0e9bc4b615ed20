//! What goes wrong is found: a panic, an end of the process, and an input that never ends; each with the input that did it.

#![allow(clippy::unwrap_used, clippy::panic)] // a failure in here is a failed test

use std::{env, fs, path::PathBuf, process::Command};

#[test]
fn a_panic_is_found_and_its_input_made_short() {
    let (said, input) = found("faulty_panic");
    assert!(said.contains("a fault"), "{said}");
    assert_eq!(input, b"fault");
}

#[test]
fn an_end_of_the_process_is_found() {
    let (said, input) = found("faulty_abort");
    assert!(said.contains("the process ended"), "{said}");
    assert!(has_fault(&input));
}

#[test]
fn an_input_that_never_ends_is_found() {
    let (said, input) = found("faulty_hang");
    assert!(said.contains("takes too long"), "{said}");
    assert!(has_fault(&input));
}

fn has_fault(input: &[u8]) -> bool {
    input.windows(5).any(|window| window == b"fault")
}

/// Fuzzes a target that goes wrong: what was said of it, and the input that was kept.
fn found(target: &str) -> (String, Vec<u8>) {
    let corpus = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(target);
    let folder = corpus.join(target);
    let _ = fs::remove_dir_all(&corpus);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("good"), "nothing wrong").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sekisho-fuzz"))
        .args(["--target", target, "--seconds", "60"])
        .env("SEKISHO_FUZZ_CORPUS", &corpus)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success(), "nothing was found: {said}");
    let mut inputs = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let kept = inputs.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("found-"));
    (said, fs::read(kept.unwrap_or_else(|| panic!("nothing is kept: {}", output.status))).unwrap())
}
