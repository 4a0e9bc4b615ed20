//! `sekisho demo --once`: the whole story on one machine, which ends with 0 only if every scene went as told.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use support::child::Child;
use support::ports;
use support::scratch::Scratch;
use support::tools;

#[test]
fn the_demo_plays_to_its_end_and_every_scene_goes_as_told() {
    let _turn = ports::exclusive("contract-ports");
    let dir = Scratch::new();
    let mut command = Command::new(tools::sekisho());
    let mut demo = Child::start(dir.path(), "demo", command.args(["demo", "--once"]).current_dir(dir.path()));
    let status = demo.wait(Duration::from_secs(120)).expect("the demo is still running after two minutes");
    let said = demo.stdout.text() + &demo.stderr.text();
    assert!(status.success(), "{said}");
    for word in ["allowed", "refused", "mirrored"] {
        assert!(said.contains(word), "the demo never says {word:?}:\n{said}");
    }
}

#[test]
fn the_demo_leaves_no_process_behind() {
    let _turn = ports::exclusive("contract-ports");
    let dir = Scratch::new();
    let mut command = Command::new(tools::sekisho());
    let mut demo =
        Child::start(dir.path(), "demo", command.args(["demo", "--once"]).current_dir(dir.path()).process_group(0));
    let id = demo.id();
    demo.wait(Duration::from_secs(120)).expect("the demo is still running after two minutes");
    let children = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        // Orphans keep the process group of the demo, whoever their parent is now.
        let group: u32 = rest.split(' ').nth(2)?.parse().ok()?;
        (group == id).then(|| entry.file_name())
    });
    assert_eq!(children.count(), 0);
}
