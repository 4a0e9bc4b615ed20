//! Frames that the receiver's host has acknowledged are packets counted as sent, exactly, whatever becomes of the connection:
//! captured at the sidecar's end of the link, for a stream that it dials and for one that it serves.
//!
//! What the receiver itself has read is the same while no connection was cut. Of a cut one it may have more than was counted,
//! as much as was on its way (the sidecar's send buffer), or less, by what it had not read when it died (its receive buffer).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use support::child::run;
use support::load::Load;
use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::prometheus::Scrape;
use support::scratch::Scratch;
use support::{root, wait, wire};

use super::accounts::balanced;
use super::acknowledged;
use super::link::{Capture, Link};
use super::reader::{self, Reader, whole_packets};
use crate::receivers::judge;
use crate::sensor::Copy;

#[test]
fn at_rest_a_dialled_reader_has_all() {
    at_rest("at_rest_a_dialled_reader_has_all", Way::Dial);
}

#[test]
fn at_rest_a_reader_that_dials_has_all() {
    at_rest("at_rest_a_reader_that_dials_has_all", Way::Listen);
}

fn at_rest(test: &str, way: Way) {
    let Some(scene) = Scene::new(test, way, "", 1000) else { return };
    let _reader = scene.reader(0);
    let before = scene.ask_until_copied();
    for number in 0..100 {
        wire::get(scene.pair.entry(), HOST, &format!("/api/orders/{number}")).unwrap();
    }
    let account = scene.account(before + 100);
    assert_eq!(account.sum("dropped"), account.dropped("tap_down"));
    account.none_was_cut();
    let path = account.link.dir.join("read.pcap");
    std::fs::write(&path, account.read.values().next().unwrap()).unwrap();
    let talks = judge::agreed(&Copy::of_file(path, account.link.dir.path()));
    let requests = |talk: &judge::Talk| String::from_utf8_lossy(&talk.asked).matches(" HTTP/1.1\r\n").count();
    assert_eq!(talks.iter().map(requests).sum::<usize>() as u64, account.sum("mirrored"));
}

#[test]
fn a_dialled_reader_that_reads_nothing_for_a_while_has_all_of_what_was_not_dropped() {
    let name = "a_dialled_reader_that_reads_nothing_for_a_while_has_all_of_what_was_not_dropped";
    let Some(scene) = Scene::new(name, Way::Dial, QUEUE, 8000) else { return };
    let reader = scene.reader(0);
    let before = scene.ask_until_copied();
    reader.pause();
    let total = scene.load_until_full();
    reader.go_on();
    let account = scene.account(before + total);
    account.none_was_cut();
}

#[test]
fn a_dialled_reader_that_reads_nothing_at_all_is_left_and_has_what_was_counted() {
    let name = "a_dialled_reader_that_reads_nothing_at_all_is_left_and_has_what_was_counted";
    let Some(scene) = Scene::new(name, Way::Dial, QUEUE, 8000) else { return };
    let reader = scene.reader(0);
    let before = scene.ask_until_copied();
    reader.pause();
    let load = Load::start(scene.pair.entry(), HOST, "/api/orders/42", 2);
    scene.wait_for_errors("ETIMEDOUT");
    let total = load.stop();
    total.assert_clean(1);
    reader.go_on();
    reader.ended(1);
    let account = scene.account(before + total.ok);
    assert!(account.errno("ETIMEDOUT") > 0 && account.errors() == account.errno("ETIMEDOUT"));
    // It lives, so that it reads whatever its host has acknowledged.
    account.within(0, 0);
}

#[test]
fn a_served_reader_that_reads_nothing_is_left_and_has_what_was_counted() {
    let name = "a_served_reader_that_reads_nothing_is_left_and_has_what_was_counted";
    let Some(scene) = Scene::new(name, Way::Listen, "", 8000) else { return };
    let reader = scene.reader(0);
    let before = scene.ask_until_copied();
    reader.pause();
    let load = Load::start(scene.pair.entry(), HOST, "/api/orders/42", 4);
    scene.wait_for_errors("ENOBUFS");
    let total = load.stop();
    total.assert_clean(1);
    reader.go_on();
    reader.ended(1);
    let account = scene.account(before + total.ok);
    assert_eq!(account.errors(), account.errno("ENOBUFS") + account.errno("ENOTCONN"));
    account.within(0, 0);
}

#[test]
fn a_slow_dialled_reader_has_all_of_what_was_not_dropped() {
    let name = "a_slow_dialled_reader_has_all_of_what_was_not_dropped";
    let Some(scene) = Scene::new(name, Way::Dial, QUEUE, 8000) else { return };
    let _reader = scene.reader(300_000);
    let before = scene.ask_until_copied();
    let total = scene.load_until_full();
    let account = scene.account(before + total);
    account.none_was_cut();
}

#[test]
fn a_link_of_one_mbit_costs_whole_exchanges_and_no_packet() {
    let name = "a_link_of_one_mbit_costs_whole_exchanges_and_no_packet";
    let Some(scene) = Scene::new(name, Way::Dial, QUEUE, 8000) else { return };
    let _reader = scene.reader(0);
    let before = scene.ask_until_copied();
    scene.link.slow_down();
    let total = scene.load_until_full();
    let account = scene.account(before + total);
    account.none_was_cut();
}

#[test]
fn a_link_of_one_mbit_costs_a_served_reader_that_comes_back_no_uncounted_packet() {
    let name = "a_link_of_one_mbit_costs_a_served_reader_that_comes_back_no_uncounted_packet";
    let Some(scene) = Scene::new(name, Way::Listen, "", 8000) else { return };
    let _reader = scene.reader(0);
    let before = scene.ask_until_copied();
    scene.link.slow_down();
    let load = Load::start(scene.pair.entry(), HOST, "/api/orders/42", 4);
    scene.wait_for_errors("ENOBUFS");
    let total = load.stop();
    total.assert_clean(1);
    let account = scene.account(before + total.ok);
    account.within(SENDING, 0);
}

#[test]
fn a_black_hole_on_a_dialled_stream_costs_what_was_never_acknowledged() {
    black_hole("a_black_hole_on_a_dialled_stream_costs_what_was_never_acknowledged", Way::Dial, "INPUT");
}

#[test]
fn a_black_hole_on_a_served_stream_costs_what_was_never_acknowledged() {
    black_hole("a_black_hole_on_a_served_stream_costs_what_was_never_acknowledged", Way::Listen, "INPUT");
}

#[test]
fn acknowledgements_that_are_swallowed_count_as_not_sent() {
    black_hole("acknowledgements_that_are_swallowed_count_as_not_sent", Way::Dial, "OUTPUT");
}

/// The sensor's host takes nothing in, or lets nothing out, from some moment amid the load on.
fn black_hole(test: &str, way: Way, chain: &str) {
    let Some(scene) = Scene::new(test, way, QUEUE, 1000) else { return };
    let _reader = scene.reader(0);
    let before = scene.ask_until_copied();
    let load = Load::start(scene.pair.entry(), HOST, "/api/orders/42", 2);
    scene.wait_for_more(200);
    scene.iptables(&format!("-A {chain} -p tcp -j DROP"));
    let errno = scene.wait_for_errors(if way == Way::Dial { "ETIMEDOUT" } else { "" });
    let total = load.stop();
    total.assert_clean(1);
    scene.iptables(&format!("-D {chain} -p tcp -j DROP"));
    // A reader that dialled may not have heard that its stream has ended, and wait for ever: another one comes.
    let _another = (way == Way::Listen).then(|| scene.reader(0));
    let again = scene.ask_until_copied();
    let account = scene.account(before + total.ok + again);
    assert!(account.errors() > 0, "{errno}");
    // Nothing is on its way to a host that takes nothing in; one that is not heard has got what it was sent.
    account.within(SENDING, 0);
}

#[test]
fn a_dialled_reader_killed_and_back_costs_no_uncounted_packet() {
    killed("a_dialled_reader_killed_and_back_costs_no_uncounted_packet", Way::Dial);
}

#[test]
fn a_served_reader_killed_and_back_costs_no_uncounted_packet() {
    killed("a_served_reader_killed_and_back_costs_no_uncounted_packet", Way::Listen);
}

fn killed(test: &str, way: Way) {
    let Some(scene) = Scene::new(test, way, "", 1000) else { return };
    let load = Load::start(scene.pair.entry(), HOST, "/api/orders/42", 4);
    for _ in 0..4 {
        let mut reader = scene.reader(0);
        // Until then what is counted as sent may still be of the one before it.
        reader.child.wait_for("open");
        scene.wait_for_more(200);
        reader.child.kill();
    }
    let mut reader = scene.reader(0);
    reader.child.wait_for("open");
    scene.wait_for_more(200);
    let total = load.stop();
    total.assert_clean(1);
    let account = scene.account(total.ok);
    assert!(account.read.len() >= 5, "{} connections", account.read.len());
    assert!(account.sum("dropped") == account.dropped("tap_down") + account.dropped("queue_full"));
    account.within(SENDING, RECEIVING);
}

/// Who opens the stream: the sidecar, or its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Dial,
    Listen,
}

/// A pair whose callee has a pcap stream into a namespace of its own, and a capture at this end of the link.
struct Scene {
    link: Link,
    pair: Pair,
    way: Way,
    /// Of the stream's listener.
    at: SocketAddr,
    capture: Capture,
    files: Scratch,
}

impl Scene {
    /// `None` where tests that need root are left out. Answers are of so many bytes.
    fn new(test: &str, way: Way, lines: &str, answer: usize) -> Option<Self> {
        if !root::granted(test) {
            return None;
        }
        let link = Link::new();
        let setting = link.tapped(Setting::new(), lines);
        let sensor: IpAddr = link.sensor().parse().unwrap();
        let host: IpAddr = link.host().parse().unwrap();
        let (ip, scheme) = if way == Way::Dial { (sensor, "pcap") } else { (host, "pcap-listen") };
        let at = SocketAddr::new(ip, setting.at.sensor.port());
        let old = format!("vxlan://{sensor}:{}?vni=42", at.port());
        let setting = setting.server(|text| text.replace(&old, &format!("{scheme}://{at}")));
        let capture = link.capture_here(&format!("tcp port {}", at.port()));
        let app = Origin::forgetful(setting.at.app, move |_: &Message| Reply::text(vec![b'x'; answer]));
        Some(Self { pair: setting.start_with(app), link, way, at, capture, files: Scratch::new() })
    }

    fn reader(&self, rate: u32) -> Reader {
        let how = if self.way == Way::Dial { "accept" } else { "dial" };
        Reader::start(&self.link, how, self.at, &self.files, rate)
    }

    fn sum(&self, name: &str) -> u64 {
        self.pair.server.metrics().sum(&format!("sekisho_tap_{name}_total"), &TAP) as u64
    }

    /// Asks until something is copied; says how many requests that took.
    fn ask_until_copied(&self) -> u64 {
        let (before, mut asked) = (self.sum("mirrored"), 0);
        wait::until("the tap to be up", Duration::from_secs(60), || {
            wire::get(self.pair.entry(), HOST, "/api/orders/0").unwrap();
            asked += 1;
            (self.sum("mirrored") > before).then_some(())
        });
        asked
    }

    /// Requests until whole exchanges are dropped because the queue is full; none fails. How many there were.
    fn load_until_full(&self) -> u64 {
        let load = Load::start(self.pair.entry(), HOST, "/api/orders/42", 4);
        wait::until("the queue to be full", Duration::from_secs(60), || {
            let labels = [TAP[0], ("reason", "queue_full")];
            (self.pair.server.metrics().sum("sekisho_tap_dropped_total", &labels) > 0.0).then_some(())
        });
        let total = load.stop();
        total.assert_clean(1);
        total.ok
    }

    fn wait_for_more(&self, packets: u64) {
        let before = self.sum("packets_sent");
        wait::until("packets to be sent", Duration::from_secs(60), || {
            (self.sum("packets_sent") >= before + packets).then_some(())
        });
    }

    /// Waits for send errors; of this kind, or of any with "".
    fn wait_for_errors(&self, errno: &str) -> String {
        wait::until("send errors", Duration::from_secs(60), || {
            let metrics = self.pair.server.metrics();
            let of = |labels: &[(&str, &str)]| metrics.sum("sekisho_tap_send_errors_total", labels);
            let found = if errno.is_empty() { of(&TAP) } else { of(&[TAP[0], ("errno", errno)]) };
            (found > 0.0).then(|| format!("{:?}", metrics.samples()))
        })
    }

    fn iptables(&self, rule: &str) {
        run(self.link.command("iptables").args(rule.split(' ')));
    }

    /// Both equations at rest, and the third: acknowledged on the wire = counted as sent.
    fn account(self, matched: u64) -> Account {
        let sent = |metrics: &Scrape| metrics.sum("sekisho_tap_packets_sent_total", &TAP) as u64;
        let metrics = wait::until("the tap to rest", Duration::from_secs(60), || {
            let before = balanced(&self.pair.server, matched);
            // A notice of loss may follow within a second of the last.
            std::thread::sleep(Duration::from_millis(1300));
            let after = balanced(&self.pair.server, matched);
            (sent(&before) == sent(&after)).then_some(after)
        });
        // What the reader's host has, a reader that lives has soon.
        wait::until("the reader to rest", wait::SOON, || {
            let before = reader::bytes(&self.files);
            std::thread::sleep(Duration::from_millis(1000));
            (reader::bytes(&self.files) == before).then_some(())
        });
        let sender: Ipv4Addr = self.link.host().parse().unwrap();
        let acknowledged = |frames: &[Vec<u8>]| acknowledged::by_port(frames, sender, self.at.port());
        // What tcpdump has not read when it ends is in no file.
        self.capture.wait_for(|frames| acknowledged::packets(&acknowledged(frames)) >= sent(&metrics));
        let acknowledged = acknowledged(&self.capture.end());
        let there = acknowledged::packets(&acknowledged);
        assert_eq!(there, sent(&metrics), "acknowledged, and counted as sent: {:#?}", metrics.samples());
        let read = reader::read(&self.files);
        Account { link: self.link, metrics, acknowledged, read }
    }
}

/// What the sidecar counted, all of it proved, and what there is to compare it with.
struct Account {
    link: Link,
    metrics: Scrape,
    /// On the wire, by the port of each connection.
    acknowledged: BTreeMap<u16, Vec<u8>>,
    /// The same by the receiver.
    read: BTreeMap<u16, Vec<u8>>,
}

impl Account {
    fn sum(&self, name: &str) -> u64 {
        self.metrics.sum(&format!("sekisho_tap_{name}_total"), &TAP) as u64
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.metrics.sum("sekisho_tap_dropped_total", &[TAP[0], ("reason", reason)]) as u64
    }

    fn errno(&self, errno: &str) -> u64 {
        self.metrics.sum("sekisho_tap_send_errors_total", &[TAP[0], ("errno", errno)]) as u64
    }

    fn errors(&self) -> u64 {
        self.sum("send_errors")
    }

    /// One connection, and the receiver has read of it exactly what was counted.
    fn none_was_cut(&self) {
        assert_eq!((self.errors(), self.read.len()), (0, 1));
        self.within(0, 0);
        let bytes = self.read.values().next().unwrap();
        assert_eq!((whole_packets(bytes).len() as u64, reader::torn(bytes)), (self.sum("packets_sent"), 0));
    }

    /// Of each connection the receiver has read at most so many bytes more than were acknowledged, or less.
    fn within(&self, more: usize, less: usize) {
        for (port, read) in &self.read {
            let counted = &self.acknowledged[port];
            let same = read.len().min(counted.len());
            assert!(read[..same] == counted[..same], "the capture and the receiver have read otherwise");
            let (beyond, missing) = (read.len() - same, counted.len() - same);
            assert!(beyond <= more && missing <= less, "{port}: {beyond} bytes more, {missing} less");
        }
        // A connection that the receiver never came to read.
        for (port, counted) in &self.acknowledged {
            assert!(self.read.contains_key(port) || counted.len() <= less, "{port}: {} bytes unread", counted.len());
        }
    }
}

const TAP: [(&str, &str); 1] = [("tap", "ids")];
const QUEUE: &str = "queue = \"256KiB\"\n";
/// What the sidecar's kernel holds of one stream: `SO_SNDBUF`, which Linux doubles.
const SENDING: usize = 512 * 1024;
/// What the reader's host holds that it has not read, with a segment more than `SO_RCVBUF`, and what is in its own hands.
const RECEIVING: usize = 128 * 1024 + 64 * 1024 + 16 * 1024;
