//! A disk that is full: traffic goes on, what could not be written is counted by errno, what was written can be read, and
//! writing resumes when there is room again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::child::run;
use support::load::Load;
use support::pair::{HOST, Pair};
use support::scratch::Scratch;
use support::{root, tools, wait, wire};

use crate::sensor::Copy;
use crate::transports::{at_rest, count, packets_in_pcapng, pair_to};

#[test]
fn a_full_disk_costs_the_ring_what_was_not_written_and_no_more() {
    if !root::granted("a_full_disk_costs_the_ring_what_was_not_written_and_no_more") {
        return;
    }
    let disk = Disk::new(4096, 3072);
    let pair = pair_to(&format!("pcapng://{}?size=256KiB&files=100", disk.path().display()));
    until_full(&pair);
    wait::until("exchanges to be dropped while there is no file", Duration::from_secs(30), || {
        wire::get(pair.entry(), HOST, "/api/orders/1").unwrap();
        (dropped(&pair, "tap_down") > 0).then_some(())
    });
    disk.make_room();
    let before = count(&pair.server, "packets_sent");
    wait::until("writing to resume", Duration::from_secs(30), || {
        wire::get(pair.entry(), HOST, "/api/orders/after").unwrap();
        (count(&pair.server, "packets_sent") > before).then_some(())
    });
    let (_, sent) = at_rest(&pair.server);
    assert_eq!(count(&pair.server, "send_errors"), errors(&pair, "ENOSPC"));
    assert_eq!(count(&pair.server, "dropped"), dropped(&pair, "tap_down") + dropped(&pair, "queue_full"));
    let mut server = pair.server;
    server.terminate();
    server.ended(wait::SOON);
    let mut packets = 0;
    let files = disk.files();
    for file in &files {
        // To the last byte: an end within a block is an error here, and tshark would say so as well.
        let blocks = packets_in_pcapng(file);
        let copy = Copy::of_file(file.clone(), pair.setting.dir.path());
        copy.assert_faultless();
        assert_eq!(copy.packets as u64, blocks);
        packets += blocks;
    }
    // The last block says what was counted to the end, with the ends of connections: received, dropped, delivered.
    let bytes = std::fs::read(files.last().unwrap()).unwrap();
    let number = |back: usize| u64::from_le_bytes(bytes[bytes.len() - back..][..8].try_into().unwrap());
    let [received, lost, delivered] = [40, 28, 16].map(number);
    assert_eq!((packets, received), (delivered, delivered + lost));
    assert!(delivered >= sent);
    let last = Copy::of_file(files.last().unwrap().clone(), pair.setting.dir.path());
    assert!(last.requests().contains(&"GET /api/orders/after".to_owned()));
}

#[test]
fn a_full_disk_costs_the_records_what_was_not_written_and_no_more() {
    if !root::granted("a_full_disk_costs_the_records_what_was_not_written_and_no_more") {
        return;
    }
    // With more room afterwards than the load, which goes on for a moment, can fill.
    let disk = Disk::new(16_384, 16_128);
    let path = disk.path().join("records.json");
    let pair = pair_to(&format!("json://{}", path.display()));
    until_full(&pair);
    disk.make_room();
    let before = count(&pair.server, "packets_sent");
    wait::until("writing to resume", Duration::from_secs(30), || {
        wire::get(pair.entry(), HOST, "/api/orders/after").unwrap();
        (count(&pair.server, "packets_sent") > before).then_some(())
    });
    let (_, sent) = at_rest(&pair.server);
    assert_eq!(count(&pair.server, "send_errors"), errors(&pair, "ENOSPC"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (records, torn): (Vec<_>, Vec<_>) =
        text.lines().map(serde_json::from_str::<Value>).partition(|line| line.is_ok());
    assert_eq!(records.len() as u64, sent);
    // The line at which the disk was full, or as many as there were times.
    assert!(torn.len() as u64 <= errors(&pair, "ENOSPC"), "{} torn", torn.len());
    let told: Vec<Value> = records.into_iter().map(|line| line.unwrap()).collect();
    assert!(told.iter().any(|record| record["path"] == "/api/orders/after"));
    let loss = told.iter().rev().find(|record| record["type"] == "loss").expect("the loss is told");
    assert_eq!(loss["send_errors"]["ENOSPC"], errors(&pair, "ENOSPC"), "{loss}");
}

/// Asks until the disk is full; no request fails.
fn until_full(pair: &Pair) {
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 4);
    wait::until("the disk to be full", Duration::from_secs(60), || (errors(pair, "ENOSPC") > 0).then_some(()));
    load.stop().assert_clean(1);
}

fn errors(pair: &Pair, errno: &str) -> u64 {
    let labels = [("tap", "ids"), ("errno", errno)];
    pair.server.metrics().sum("sekisho_tap_send_errors_total", &labels) as u64
}

fn dropped(pair: &Pair, reason: &str) -> u64 {
    let labels = [("tap", "ids"), ("reason", reason)];
    pair.server.metrics().sum("sekisho_tap_dropped_total", &labels) as u64
}

/// A small disk, in memory, most of it taken by something else.
struct Disk(Scratch);

impl Disk {
    fn new(kib: usize, taken: usize) -> Self {
        let disk = Self(Scratch::new());
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(disk.path()));
        std::fs::write(disk.path().join(TAKEN), vec![1; taken * 1024]).unwrap();
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join(TAKEN)).unwrap();
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = tools::system("umount", "mount").arg("-l").arg(self.path()).output();
    }
}

const TAKEN: &str = "taken";
