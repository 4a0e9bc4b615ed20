//! Packets captured are packets counted as sent, exactly, whatever becomes of them: at rest, and under every kind of overload.
//!
//! Captured at the sensor's end of a link. A datagram that the kernel took and the link dropped for want of room would be
//! in the count and not in the capture; the sidecar asks the kernel to tell it of those (IP_RECVERR), so there are none.

use std::time::Duration;

use support::child::{Child, run};
use support::load::Load;
use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::prometheus::Scrape;
use support::sidecar::Sidecar;
use support::{root, wait, wire};

use super::link::{Link, ip};
use crate::receivers::judge;
use crate::sensor::Copy;

const TAP: [(&str, &str); 1] = [("tap", "ids")];

#[test]
fn at_rest_all_is_captured_and_nothing_lost() {
    let Some(scene) = Scene::new("at_rest_all_is_captured_and_nothing_lost", "", 100) else { return };
    let _sensor = scene.sensor(true);
    for number in 0..100 {
        wire::get(scene.pair.entry(), HOST, &format!("/api/orders/{number}")).unwrap();
    }
    let link = scene.account(100).nothing_lost();
    let dir = link.dir.path();
    let inner = inner_file(&link);
    assert_eq!(judge::agreed(&Copy::of_file(inner, dir)).iter().map(requests).sum::<usize>(), 100);
}

#[test]
fn with_a_full_queue_whole_exchanges_are_dropped_and_the_rest_is_faultless() {
    let name = "with_a_full_queue_whole_exchanges_are_dropped_and_the_rest_is_faultless";
    let Some(scene) = Scene::new(name, "queue = \"128KiB\"\nbody = \"first 64KiB\"\n", 60_000) else { return };
    let _sensor = scene.sensor(true);
    let total = scene.load_until(8, Duration::from_millis(700), |metrics| queue_full(metrics) > 0.0);
    let account = scene.account(total);
    assert!(account.dropped("queue_full") > 0, "the queue was never full");
    assert_eq!(account.errors(), 0);
    let mirrored = account.sum("mirrored") as usize;
    let link = account.nothing_else();
    let talks = judge::agreed(&Copy::of_file(inner_file(&link), link.dir.path()));
    assert_eq!(talks.iter().map(requests).sum::<usize>(), mirrored);
}

#[test]
fn over_the_rate_cap_whole_exchanges_are_dropped_and_the_rest_is_faultless() {
    let name = "over_the_rate_cap_whole_exchanges_are_dropped_and_the_rest_is_faultless";
    let Some(scene) = Scene::new(name, "rate_cap = \"2Mbit/s\"\n", 8000) else { return };
    let _sensor = scene.sensor(true);
    let total = scene.load_until(4, Duration::from_secs(2), |metrics| {
        metrics.sum("sekisho_tap_dropped_total", &[("tap", "ids"), ("reason", "rate_cap")]) > 0.0
    });
    let account = scene.account(total);
    assert!(account.dropped("rate_cap") > 0 && account.sum("mirrored") > 0);
    assert_eq!((account.sum("dropped"), account.errors()), (account.dropped("rate_cap"), 0));
    let mirrored = account.sum("mirrored") as usize;
    let talks = judge::agreed(&Copy::of_file(inner_file(&account.link), account.link.dir.path()));
    assert_eq!(talks.iter().map(requests).sum::<usize>(), mirrored);
}

#[test]
fn a_receiver_that_reads_nothing_is_sent_everything() {
    let Some(scene) = Scene::new("a_receiver_that_reads_nothing_is_sent_everything", "", 1000) else { return };
    let _sensor = scene.sensor(false);
    let total = scene.load(4, Duration::from_secs(2));
    let account = scene.account(total);
    assert_eq!((account.errors(), account.sum("unreachable")), (0, 0));
}

#[test]
fn port_unreachable_costs_no_datagram() {
    let Some(scene) = Scene::new("port_unreachable_costs_no_datagram", "", 1000) else { return };
    let total = scene.load(4, Duration::from_secs(2));
    let account = scene.account(total);
    assert_eq!(account.errors(), 0);
}

#[test]
fn a_host_that_swallows_everything_is_sent_everything() {
    let Some(scene) = Scene::new("a_host_that_swallows_everything_is_sent_everything", "", 1000) else { return };
    let rule = "-t raw -A PREROUTING -p udp -j DROP";
    run(scene.link.command("iptables").args(rule.split(' ')));
    let total = scene.load(4, Duration::from_secs(2));
    assert_eq!(scene.account(total).errors(), 0);
}

#[test]
fn a_route_into_nowhere_is_counted_by_errno() {
    let Some(scene) = Scene::new("a_route_into_nowhere_is_counted_by_errno", "", 1000) else { return };
    let _sensor = scene.sensor(true);
    let route = format!("blackhole {}/32", scene.link.sensor());
    wire::get(scene.pair.entry(), HOST, "/api/orders/1").unwrap();
    ip(&format!("route add {route}"));
    let lost = |metrics: &Scrape| metrics.sum("sekisho_tap_send_errors_total", &TAP) > 0.0;
    let total = scene.load_until(4, Duration::from_secs(2), lost);
    ip(&format!("route del {route}"));
    wire::get(scene.pair.entry(), HOST, "/api/orders/2").unwrap();
    let account = scene.account(total + 2);
    assert!(account.errors() > 0 && account.sum("packets_sent") > 0, "{:?}", account.metrics.samples());
}

#[test]
fn a_link_of_one_mbit_makes_whole_exchanges_be_dropped() {
    let name = "a_link_of_one_mbit_makes_whole_exchanges_be_dropped";
    let Some(scene) = Scene::new(name, "queue = \"256KiB\"\n", 8000) else { return };
    let _sensor = scene.sensor(true);
    scene.link.slow_down();
    let total = scene.load_until(4, Duration::from_secs(2), |metrics| queue_full(metrics) > 0.0);
    let account = scene.account(total);
    // The device says that it is full (ENOBUFS), the tap waits for it, and so its queue fills.
    assert!(account.dropped("queue_full") > 0, "the link was never full");
    assert!(account.sum("packets_sent") > 0);
}

#[test]
fn a_receiver_killed_and_back_gets_what_was_sent_since() {
    let Some(scene) = Scene::new("a_receiver_killed_and_back_gets_what_was_sent_since", "", 1000) else { return };
    let load = Load::start(scene.pair.entry(), HOST, "/api/orders/42", 4);
    for _ in 0..3 {
        let mut sensor = scene.sensor(true);
        std::thread::sleep(Duration::from_millis(400));
        sensor.kill();
        std::thread::sleep(Duration::from_millis(400));
    }
    scene.wait_for(|metrics| metrics.sum("sekisho_tap_matched_total", &TAP) >= 100.0);
    let total = load.stop();
    total.assert_clean(100);
    assert_eq!(scene.account(total.ok).errors(), 0);
}

/// A pair whose callee copies to a namespace of its own, and a capture there.
struct Scene {
    link: Link,
    pair: Pair,
    capture: super::link::Capture,
}

impl Scene {
    /// `None` where tests that need root are left out. Answers are of so many bytes.
    fn new(test: &str, lines: &str, answer: usize) -> Option<Self> {
        if !root::granted(test) {
            return None;
        }
        let link = Link::new();
        let setting = link.tapped(Setting::new(), lines);
        let capture = link.capture("eth0", &format!("udp dst port {}", setting.at.sensor.port()));
        let app = Origin::forgetful(setting.at.app, move |_: &Message| Reply::text(vec![b'x'; answer]));
        Some(Self { pair: setting.start_with(app), link, capture })
    }

    /// A socket at the sensor's port, which reads or does not.
    fn sensor(&self, reads: bool) -> Child {
        let port = self.pair.setting.at.sensor.port();
        let script = format!(
            "import socket, time\none = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\none.bind(('0.0.0.0', {port}))\n\
             print('ready', flush=True)\nwhile True: one.recv(65536) if {} else time.sleep(60)",
            if reads { "True" } else { "False" }
        );
        let mut child =
            Child::start(self.link.dir.path(), "sensor", self.link.command("python3").args(["-c", &script]));
        child.wait_for("ready");
        child
    }

    /// Requests for so long, of which none fails; how many there were.
    fn load(&self, connections: usize, time: Duration) -> u64 {
        self.load_until(connections, time, |_| true)
    }

    /// The same for as long as it takes until this is so: how much comes in a time is the machine's choice.
    fn load_until(&self, connections: usize, time: Duration, done: impl Fn(&Scrape) -> bool) -> u64 {
        let load = Load::start(self.pair.entry(), HOST, "/api/orders/42", connections);
        std::thread::sleep(time);
        self.wait_for(|metrics| metrics.sum("sekisho_tap_matched_total", &TAP) >= 50.0 && done(metrics));
        let total = load.stop();
        total.assert_clean(50);
        total.ok
    }

    fn wait_for(&self, done: impl Fn(&Scrape) -> bool) {
        let last = || self.pair.server.metrics();
        wait::until("the load to do its work", Duration::from_secs(60), || done(&last()).then_some(()));
    }

    /// Both equations at rest, and the third: captured = sent.
    fn account(self, matched: u64) -> Account {
        balanced(&self.pair.server, matched);
        let Self { link, pair, capture } = self;
        let sent = |metrics: &Scrape| metrics.sum("sekisho_tap_packets_sent_total", &TAP) as usize;
        let metrics = wait::until("the tap to rest", wait::SOON, || {
            let before = balanced(&pair.server, matched);
            // A notice of loss may follow within a second of the last.
            std::thread::sleep(Duration::from_millis(1300));
            let after = balanced(&pair.server, matched);
            (sent(&before) == sent(&after)).then_some(after)
        });
        let packets = capture.packets(sent(&metrics));
        assert_eq!(packets.len(), sent(&metrics), "captured, and counted as sent: {:#?}", metrics.samples());
        Account { link, metrics }
    }
}

fn queue_full(metrics: &Scrape) -> f64 {
    metrics.sum("sekisho_tap_dropped_total", &[("tap", "ids"), ("reason", "queue_full")])
}

/// What the sidecar counted, all of it proved.
struct Account {
    link: Link,
    metrics: Scrape,
}

impl Account {
    fn sum(&self, name: &str) -> u64 {
        self.metrics.sum(&format!("sekisho_tap_{name}_total"), &TAP) as u64
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.metrics.sum("sekisho_tap_dropped_total", &[("tap", "ids"), ("reason", reason)]) as u64
    }

    fn errors(&self) -> u64 {
        self.sum("send_errors")
    }

    fn nothing_lost(self) -> Link {
        assert_eq!((self.sum("dropped"), self.errors()), (0, 0));
        self.link
    }

    /// No reason to drop but the queue.
    fn nothing_else(self) -> Link {
        assert_eq!(self.sum("dropped"), self.dropped("queue_full"));
        self.link
    }
}

/// A scrape in which both equations of the contract hold: matched = mirrored + dropped, built = sent + errors.
pub(super) fn balanced(sidecar: &Sidecar, matched: u64) -> Scrape {
    let sum = |metrics: &Scrape, name: &str| metrics.sum(&format!("sekisho_tap_{name}_total"), &TAP) as u64;
    let mut last = Scrape::default();
    let found = wait::within(Duration::from_secs(60), || {
        last = sidecar.metrics();
        let of = |name| sum(&last, name);
        let transactions = of("matched") == matched && matched == of("mirrored") + of("dropped");
        (transactions && of("packets_built") == of("packets_sent") + of("send_errors")).then_some(())
    });
    assert!(found.is_some(), "no balance at {matched} matched: {:#?}", last.samples());
    last
}

/// The frames inside the captured datagrams, as a file of their own.
fn inner_file(link: &Link) -> std::path::PathBuf {
    let frames = super::link::frames(&link.dir.join("eth0.pcap"));
    let now = std::time::SystemTime::now();
    // Outer Ethernet, IPv4, UDP and VXLAN.
    let inner = frames.iter().map(|frame| (now, &frame[14 + 20 + 8 + 8..]));
    let path = link.dir.join("inner.pcap");
    std::fs::write(&path, crate::sensor::pcap(inner)).unwrap();
    path
}

fn requests(talk: &judge::Talk) -> usize {
    String::from_utf8_lossy(&talk.asked).matches(" HTTP/1.1\r\n").count()
}
