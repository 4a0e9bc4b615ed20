//! A tap under more than it can take: no request fails, everything is counted, and memory stays within the queue's bound.
//!
//! How long requests take is for the bench (`just bench --workload tap`): on a busy machine a test would tell nothing of it.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::load::Load;
use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Setting};

use crate::sensor::Sensor;

const ANSWER: usize = 100_000;
const QUEUE_MIB: f64 = 2.0;

#[test]
fn a_flooded_tap_costs_no_request_and_no_more_memory_than_its_queue() {
    let without = flood("");
    assert_eq!(without.matched, 0.0);
    let with = flood("[[tap]]\nname = \"ids\"\nto_sensor = \"vxlan://SENSOR?vni=42\"\nqueue = \"2MiB\"\n");
    assert_eq!(with.matched, with.requests);
    assert_eq!(with.matched, with.mirrored + with.dropped);
    assert!(with.dropped > 0.0 && with.mirrored > 0.0, "{} mirrored, {} dropped", with.mirrored, with.dropped);
    assert_bounded("a flood", &with, &without);
}

#[test]
fn a_pcap_stream_to_a_dead_a_silent_a_slow_and_a_fast_receiver_takes_no_more_memory_than_its_queue() {
    let without = flood("");
    let table = "[[tap]]\nname = \"ids\"\nto_sensor = \"pcap://SENSOR\"\nqueue = \"2MiB\"\n";
    for receiver in [Receiver::Dead, Receiver::Silent, Receiver::Slow, Receiver::Fast] {
        let with = flood_towards(table, receiver);
        assert_eq!((with.matched, with.matched), (with.requests, with.mirrored + with.dropped), "{receiver:?}");
        assert!(receiver == Receiver::Fast || with.dropped > 0.0, "{receiver:?} lost nothing");
        assert_eq!(with.mirrored > 0.0, receiver != Receiver::Dead, "{receiver:?}");
        assert_bounded(&format!("{receiver:?}"), &with, &without);
    }
}

#[test]
fn readers_of_a_served_pcap_stream_take_no_more_memory_than_the_queue_and_what_each_may_lag() {
    let without = flood("");
    let table = "[[tap]]\nname = \"ids\"\nto_sensor = \"pcap-listen://SENSOR\"\nqueue = \"2MiB\"\n";
    for receiver in [Receiver::Dead, Receiver::Silent, Receiver::Fast] {
        let with = flood_towards(table, receiver);
        assert_eq!((with.matched, with.matched), (with.requests, with.mirrored + with.dropped), "{receiver:?}");
        assert_eq!(with.mirrored > 0.0, receiver != Receiver::Dead, "{receiver:?}");
        assert_bounded(&format!("{receiver:?}"), &with, &without);
    }
}

/// Beside the queue: what waits for a receiver (1 MiB at most, and as much for the one before it), a batch of datagrams, the table of synthetic connections,
/// the thread, and what its allocations split.
fn assert_bounded(what: &str, with: &Outcome, without: &Outcome) {
    let more = with.peak_mib - without.peak_mib;
    assert!(more < QUEUE_MIB + 7.0, "{what}: {more} MiB more than without a tap ({} MiB)", without.peak_mib);
    eprintln!("{what}: {more:.1} MiB more than {:.1} MiB without a tap", without.peak_mib);
}

/// Who takes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiver {
    /// Nobody is there.
    Dead,
    /// Connected, and reads nothing.
    Silent,
    /// Reads 1 MB in a second.
    Slow,
    Fast,
}

impl Receiver {
    /// Serves `at`, or dials it if the sidecar does that, for as long as the test runs.
    fn start(self, at: SocketAddr, dials: bool) {
        if self == Self::Dead {
            return;
        }
        let listener = (!dials).then(|| TcpListener::bind(at).unwrap());
        std::thread::spawn(move || {
            loop {
                let opened =
                    listener.as_ref().map_or_else(|| TcpStream::connect(at), |it| it.accept().map(|one| one.0));
                match opened {
                    Ok(stream) => self.take(stream),
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        });
    }

    fn take(self, mut stream: TcpStream) {
        let mut buffer = vec![0; 20_000];
        while self != Self::Silent && stream.read(&mut buffer).is_ok_and(|count| count > 0) {
            if self == Self::Slow {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if self == Self::Silent {
            std::thread::park();
        }
    }
}

/// What came of it.
struct Outcome {
    requests: f64,
    matched: f64,
    mirrored: f64,
    dropped: f64,
    /// The most that the callee's sidecar ever held in memory (VmHWM).
    peak_mib: f64,
}

/// Eight callers without a pause, under this table of a tap.
fn flood(tap: &str) -> Outcome {
    flood_towards(tap, Receiver::Dead)
}

/// The same with a receiver of a stream.
fn flood_towards(tap: &str, receiver: Receiver) -> Outcome {
    let dials = tap.contains("pcap-listen");
    // Where the test says that something is lost.
    let loses = tap.contains("vxlan") || tap.contains("pcap:") && receiver != Receiver::Fast;
    let setting = Setting::new();
    let tap = tap.replace("SENSOR", &setting.at.sensor.to_string());
    let setting = setting.server(|text| format!("{}{tap}", text.split("[[tap]]").next().unwrap()));
    let _sensor = Sensor::start(setting.at.sensor);
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let app = Origin::forgetful(setting.at.app, move |_: &Message| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::text(vec![b'x'; ANSWER])
    });
    receiver.start(setting.at.sensor, dials);
    let pair = setting.start_with(app);
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 8);
    std::thread::sleep(Duration::from_secs(2));
    let sum = |name: &str| pair.server.metrics().sum(&format!("sekisho_tap_{name}_total"), &[]);
    // How much 2 s are is the machine's choice: it is a flood when there is more than fits.
    support::wait::until("enough requests, and a loss", Duration::from_secs(60), || {
        let enough = answered.load(Ordering::SeqCst) >= 60;
        (enough && (!loses || sum("dropped") > 0.0)).then_some(())
    });
    let total = load.stop();
    total.assert_clean(50);
    support::wait::until("the tap to rest", Duration::from_secs(60), || {
        (sum("matched") == sum("mirrored") + sum("dropped")).then_some(())
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", pair.server.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    Outcome {
        requests: total.ok as f64,
        matched: sum("matched"),
        mirrored: sum("mirrored"),
        dropped: sum("dropped"),
        peak_mib: peak / 1024.0,
    }
}
