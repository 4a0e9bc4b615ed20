//! The same account for a secured stream, whose acknowledged bytes nobody but its ends can read: what `tap receive` has
//! written is what was counted as sent, as long as no connection was cut.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use support::load::Load;
use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::pki::Cert;
use support::scratch::Scratch;
use support::{root, tools, wait, wire};

use super::link::Link;
use crate::receive::Receiver;
use crate::sensor::Copy;
use crate::transports::{at_rest, count, whole_packets_in_pcapng};

#[test]
fn a_receiver_that_stands_still_for_a_while_has_every_packet_that_was_counted() {
    let name = "a_receiver_that_stands_still_for_a_while_has_every_packet_that_was_counted";
    let Some(scene) = Scene::new(name) else { return };
    let receiver = scene.receiver();
    scene.ask_until_copied();
    receiver.child.signal("STOP");
    scene.load_until_full();
    receiver.child.signal("CONT");
    scene.uncut(receiver);
}

#[test]
fn a_link_of_one_mbit_costs_a_secured_stream_whole_exchanges_and_no_packet() {
    let name = "a_link_of_one_mbit_costs_a_secured_stream_whole_exchanges_and_no_packet";
    let Some(scene) = Scene::new(name) else { return };
    let receiver = scene.receiver();
    scene.ask_until_copied();
    scene.link.slow_down();
    scene.load_until_full();
    scene.uncut(receiver);
}

#[test]
fn a_secured_receiver_killed_at_rest_and_back_has_every_packet_that_was_counted() {
    let name = "a_secured_receiver_killed_at_rest_and_back_has_every_packet_that_was_counted";
    let Some(scene) = Scene::new(name) else { return };
    for round in 0..4 {
        let mut receiver = scene.receiver();
        scene.ask_until_copied();
        wire::get(scene.pair.entry(), HOST, &format!("/api/orders/{round}")).unwrap();
        let (_, sent) = at_rest(&scene.pair.server);
        // What it has taken it has not always written yet.
        wait::until("the files to have all", wait::SOON, || (scene.written() == sent).then_some(()));
        // An exchange that comes before the sidecar hears of it is counted by errno, and nothing of it is in a file.
        receiver.child.kill();
    }
}

#[test]
fn a_secured_receiver_killed_amid_a_load_and_back_leaves_the_account_even() {
    let name = "a_secured_receiver_killed_amid_a_load_and_back_leaves_the_account_even";
    let Some(scene) = Scene::new(name) else { return };
    let load = Load::start(scene.pair.entry(), HOST, "/api/orders/42", 4);
    for _ in 0..3 {
        let mut receiver = scene.receiver();
        let before = count(&scene.pair.server, "packets_sent");
        wait::until("packets to be sent", Duration::from_secs(60), || {
            (count(&scene.pair.server, "packets_sent") > before + 1000).then_some(())
        });
        receiver.child.kill();
    }
    let total = load.stop();
    total.assert_clean(1);
    let (_, sent) = at_rest(&scene.pair.server);
    assert_eq!(count(&scene.pair.server, "matched"), total.ok);
    // A kill may come within a write: then the file ends within a block.
    let written = scene.packets(|path| whole_packets_in_pcapng(&path).0);
    // Of each cut connection at most what the sidecar's kernel held; no packet is shorter than a segment without payload.
    let most = sent + 3 * 512 * 1024 / (16 + 14 + 20 + 20);
    assert!((1..=most).contains(&written), "{written} written, {sent} counted");
}

/// A pair whose callee has a secured stream into a namespace of its own.
struct Scene {
    link: Link,
    pair: Pair,
    cert: Cert,
    at: SocketAddr,
    files: Scratch,
}

impl Scene {
    /// `None` where tests that need root are left out.
    fn new(test: &str) -> Option<Self> {
        if !root::granted(test) {
            return None;
        }
        let link = Link::new();
        let setting = link.tapped(Setting::new(), "queue = \"256KiB\"\n");
        let cert = setting.ca.issue("ids", "ids", "sensor");
        let at = SocketAddr::new(link.sensor().parse().unwrap(), setting.at.sensor.port());
        let new = format!("pcap+mtls://{at}?id=ids/sensor");
        let setting = setting.server(|text| {
            text.replace(&format!("vxlan://{at}?vni=42"), &new).replace("allow_plaintext_tap = true\n", "")
        });
        let app = Origin::forgetful(setting.at.app, |_: &Message| Reply::text(vec![b'x'; 8000]));
        Some(Self { pair: setting.start_with(app), link, cert, at, files: Scratch::new() })
    }

    fn receiver(&self) -> Receiver {
        let command = self.link.command(tools::sekisho().to_str().unwrap());
        let ring = format!("ring:{}?size=1GiB&files=50", self.files.path().display());
        Receiver::secured_by(command, self.pair.setting.dir.path(), self.at, &self.cert, "shop/*", &[ring])
    }

    fn ask_until_copied(&self) {
        let before = count(&self.pair.server, "mirrored");
        wait::until("the tap to be up", Duration::from_secs(60), || {
            wire::get(self.pair.entry(), HOST, "/api/orders/42").unwrap();
            (count(&self.pair.server, "mirrored") > before).then_some(())
        });
    }

    /// Requests until whole exchanges are dropped because the queue is full.
    fn load_until_full(&self) {
        let load = Load::start(self.pair.entry(), HOST, "/api/orders/42", 4);
        let labels = [("tap", "ids"), ("reason", "queue_full")];
        wait::until("the queue to be full", Duration::from_secs(60), || {
            (self.pair.server.metrics().sum("sekisho_tap_dropped_total", &labels) > 0.0).then_some(())
        });
        load.stop().assert_clean(1);
    }

    /// Packets in the files, finished or not.
    fn written(&self) -> u64 {
        self.packets(|path| Copy::of_file(path, self.link.dir.path()).packets as u64)
    }

    /// The same by another count.
    fn packets(&self, in_file: impl Fn(PathBuf) -> u64) -> u64 {
        let files = std::fs::read_dir(self.files.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0)).map(in_file).sum()
    }

    /// One connection, of which the receiver has all that was counted.
    fn uncut(self, receiver: Receiver) {
        let (_, sent) = at_rest(&self.pair.server);
        assert_eq!(count(&self.pair.server, "send_errors"), 0);
        let counters: Value = receiver.end();
        assert_eq!(
            (
                counters["senders"]["accepted"].as_u64(),
                counters["senders"]["cut"].as_u64(),
                counters["frames"].as_u64()
            ),
            (Some(1), Some(0), Some(sent)),
            "{counters}"
        );
        assert_eq!(self.written(), sent);
    }
}
