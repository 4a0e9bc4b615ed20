//! The ways a copy leaves: pcap streams that the sidecar dials or serves, and pcapng files. What is counted as sent is what a
//! receiver has, to the packet: also one that dies, comes back, or accepts nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::child::Child;
use support::pair::{HOST, Pair, Setting};
use support::sidecar::Sidecar;
use support::{tools, wait, wire};

use crate::sensor::Copy;

/// A pair whose tap sends to this sensor.
pub(crate) fn pair_to(sensor: &str) -> Pair {
    let setting = Setting::new();
    let old = format!("vxlan://{}?vni=42", setting.at.sensor);
    setting.server(|text| text.replace(&old, sensor)).start()
}

/// A setting with a listener at its sensor's port, to which the tap dials.
fn dialled() -> (Pair, TcpListener) {
    let setting = Setting::new();
    let listener = TcpListener::bind(setting.at.sensor).unwrap();
    let old = format!("vxlan://{}?vni=42", setting.at.sensor);
    let new = format!("pcap://{}", setting.at.sensor);
    (setting.server(|text| text.replace(&old, &new)).start(), listener)
}

/// A number of the tap.
pub(crate) fn count(sidecar: &Sidecar, name: &str) -> u64 {
    sidecar.metrics().sum(&format!("sekisho_tap_{name}_total"), &[("tap", "ids")]) as u64
}

/// Waits until every exchange is copied or dropped, every packet sent or counted as not, and nothing has changed for longer
/// than a notice of loss waits for the next; gives exchanges copied and packets sent.
pub(crate) fn at_rest(sidecar: &Sidecar) -> (u64, u64) {
    let names = ["matched", "mirrored", "dropped", "packets_built", "packets_sent", "send_errors"];
    let read = || names.map(|name| count(sidecar, name));
    let mut last = (read(), Instant::now());
    wait::until("the tap to come to rest", Duration::from_secs(60), || {
        let now = read();
        if now != last.0 {
            last = (now, Instant::now());
        }
        let [matched, mirrored, dropped, built, sent, errors] = now;
        let even = matched == mirrored + dropped && built == sent + errors;
        (even && last.1.elapsed() > Duration::from_millis(1300)).then_some((mirrored, sent))
    })
}

/// Asks until the tap has copied one more; gives how many were copied before.
fn ask_until_copied(pair: &Pair) {
    let before = count(&pair.server, "mirrored");
    wait::until("the tap to be up", Duration::from_secs(60), || {
        get(pair, "/api/orders/42");
        (count(&pair.server, "mirrored") > before).then_some(())
    });
}

fn get(pair: &Pair, path: &str) {
    wire::get(pair.entry(), HOST, path).unwrap();
}

/// Reads a stream into a file, until it is told to die.
struct Reader {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(mut stream: TcpStream, dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        let mut file = File::create(&path).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stopping.load(Ordering::SeqCst) {
                match stream.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => file.write_all(&buffer[..count]).unwrap(),
                    Err(_) => {}
                }
            }
        });
        Self { path, stop, thread: Some(thread) }
    }

    /// Waits until it has so many packets and no more, and gives them.
    fn copy(&self, packets: u64, dir: &Path) -> Copy {
        wait::until("the packets to be read", wait::SOON, || (packets_in(&self.path) >= packets).then_some(()));
        assert_eq!(packets_in(&self.path), packets);
        Copy::of_file(self.path.clone(), dir)
    }

    fn die(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Whole packets in a pcap file; every one must be whole when nothing more comes.
pub(crate) fn packets_in(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let Some(header) = bytes.get(..24) else {
        return 0;
    };
    // Nanoseconds, version 2.4, no zone, no accuracy, 65535 bytes, Ethernet.
    let expected = [[0x4d, 0x3c, 0xb2, 0xa1], [2, 0, 4, 0], [0; 4], [0; 4], [0xff, 0xff, 0, 0], [1, 0, 0, 0]].concat();
    assert_eq!(header, expected);
    let (mut at, mut packets, mut last) = (24, 0, (0, 0));
    while let Some(record) = bytes.get(at..at + 16) {
        let word = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
        assert_eq!(word(8), word(12), "a packet was cut");
        assert!((word(0), word(4)) >= last && word(4) < 1_000_000_000, "time goes back");
        last = (word(0), word(4));
        at += 16 + word(8) as usize;
        if at > bytes.len() {
            break;
        }
        packets += 1;
    }
    packets
}

/// Packets in a pcapng file, of which every block must be whole: lengths at both ends agree, and the last block ends the file.
pub(crate) fn packets_in_pcapng(path: &Path) -> u64 {
    let (packets, is_whole) = whole_packets_in_pcapng(path);
    assert!(is_whole, "the file ends within a block");
    packets
}

/// The same of a file whose writer may have been killed amid a write; and whether it ends with a block.
pub(crate) fn whole_packets_in_pcapng(path: &Path) -> (u64, bool) {
    let bytes = std::fs::read(path).unwrap();
    let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let (mut at, mut packets) = (0, 0);
    while let (Some(kind), Some(length)) = (word(at), word(at + 4)) {
        // The first is a section header, and there is one interface.
        assert_eq!(at == 0, kind == 0x0a0d_0d0a);
        assert!(length >= 12 && length.is_multiple_of(4), "a block of {length} bytes");
        let Some(end) = word(at + length as usize - 4) else { break };
        assert_eq!(end, length);
        packets += u64::from(kind == 6);
        at += length as usize;
    }
    (packets, at == bytes.len())
}

#[test]
fn a_dialled_reader_gets_every_packet_and_tshark_finds_no_fault() {
    let (pair, listener) = dialled();
    let reader = Reader::start(listener.accept().unwrap().0, pair.setting.dir.path(), "dialled.pcap");
    ask_until_copied(&pair);
    for path in ["/api/orders/1", "/admin", "/api/orders"] {
        get(&pair, path);
    }
    let (mirrored, sent) = at_rest(&pair.server);
    let copy = reader.copy(sent, pair.setting.dir.path());
    copy.assert_faultless();
    let requests = copy.requests();
    assert_eq!(requests.len() as u64, mirrored);
    assert!(requests.contains(&"GET /admin".to_owned()));
}

#[test]
fn a_reader_that_dies_and_comes_back_loses_nothing_uncounted() {
    let (pair, listener) = dialled();
    let dir = pair.setting.dir.path();
    let reader = Reader::start(listener.accept().unwrap().0, dir, "first.pcap");
    ask_until_copied(&pair);
    let (_, first) = at_rest(&pair.server);
    reader.copy(first, dir).assert_faultless();
    reader.die();
    drop(listener);
    // Gone: exchanges are dropped whole and counted.
    wait::until("the tap to be down", wait::SOON, || {
        get(&pair, "/api/orders/2");
        (count(&pair.server, "dropped") > 0).then_some(())
    });
    let listener = TcpListener::bind(pair.setting.at.sensor).unwrap();
    let reader = Reader::start(listener.accept().unwrap().0, dir, "second.pcap");
    ask_until_copied(&pair);
    get(&pair, "/api/orders/3");
    let (_, sent) = at_rest(&pair.server);
    let copy = reader.copy(sent - first, dir);
    copy.assert_faultless();
    assert!(copy.requests().contains(&"GET /api/orders/3".to_owned()));
    // What was lost meanwhile is told in the stream itself.
    let notices = copy.fields("syslog && udp.dstport == 514 && frame contains \"dropped_tap_down\"", &["frame.number"]);
    assert!(!notices.is_empty());
}

#[test]
fn a_reader_that_accepts_nothing_delays_nobody_and_has_what_was_sent_when_it_wakes() {
    const BODY: usize = 100_000;
    let setting = Setting::new();
    let listener = TcpListener::bind(setting.at.sensor).unwrap();
    let old = format!("vxlan://{}?vni=42\"", setting.at.sensor);
    let new = format!("pcap://{}\"\nqueue = \"512KiB\"", setting.at.sensor);
    let open = "[[inbound]]\nname = \"open\"\nfrom = \"shop/web\"\nrequests = [\"* /open/{rest...}\"]\n\n[[tap]]";
    let pair = setting.server(|text| text.replace(&old, &new).replace("[[tap]]", open)).start();
    let (stream, _) = listener.accept().unwrap();
    ask_until_copied(&pair);
    let mut asked = count(&pair.server, "matched");
    let bytes = [
        format!("POST /open/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {BODY}\r\n\r\n").into_bytes(),
        vec![b'a'; BODY],
    ]
    .concat();
    wait::until("the queue to be full", Duration::from_secs(60), || {
        assert_eq!(wire::request(pair.entry(), &bytes).unwrap().status(), 200);
        asked += 1;
        (count(&pair.server, "dropped") > 0).then_some(())
    });
    // It wakes: what it finds is the copy of whole exchanges.
    let dir = pair.setting.dir.path();
    let reader = Reader::start(stream, dir, "late.pcap");
    let (mirrored, sent) = at_rest(&pair.server);
    assert_eq!((count(&pair.server, "matched"), count(&pair.server, "send_errors")), (asked, 0));
    let copy = reader.copy(sent, dir);
    copy.assert_faultless();
    assert_eq!(copy.requests().len() as u64, mirrored);
}

#[test]
fn tshark_dials_a_tap_that_listens() {
    let setting = Setting::new();
    let at: SocketAddr = setting.at.sensor;
    let old = format!("vxlan://{at}?vni=42");
    let pair = setting.server(|text| text.replace(&old, &format!("pcap-listen://{at}"))).start();
    get(&pair, "/api/orders/1");
    assert_eq!(count(&pair.server, "mirrored"), 0, "nobody reads it yet");
    let dir = pair.setting.dir.path();
    let file = dir.join("heard.pcapng");
    let mut tshark = tools::system("tshark", "tshark");
    let mut tshark = Child::start(dir, "tshark", tshark.arg("-i").arg(format!("TCP@{at}")).arg("-w").arg(&file));
    ask_until_copied(&pair);
    get(&pair, "/admin");
    let (mirrored, sent) = at_rest(&pair.server);
    // What it has read it has not always written yet.
    wait::until("tshark to write every packet", Duration::from_secs(30), || {
        let written = std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 0);
        (written && Copy::of_file(file.clone(), dir).packets as u64 == sent).then_some(())
    });
    tshark.signal("INT");
    tshark.wait(wait::SOON).unwrap();
    let copy = Copy::of_file(file, dir);
    copy.assert_faultless();
    assert!(copy.requests().contains(&"GET /admin".to_owned()));
    assert_eq!((copy.requests().len() as u64, copy.packets as u64), (mirrored, sent));
}

#[test]
fn a_ring_of_files_holds_every_packet_and_says_what_was_counted() {
    let ring = support::scratch::Scratch::new();
    let pair = pair_to(&format!("pcapng://{}?size=64KiB&files=100", ring.path().display()));
    // About 1 KiB each, so that more than one file is needed.
    for number in 0..150 {
        get(&pair, &format!("/api/orders/{number}?{}", "x".repeat(600)));
    }
    assert_eq!(at_rest(&pair.server).0, 150);
    let mut server = pair.server;
    server.terminate();
    server.ended(wait::SOON);
    let mut files: Vec<PathBuf> = std::fs::read_dir(ring.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 1, "{files:?}");
    let (mut packets, mut requests) = (0, 0);
    for file in &files {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let copy = Copy::of_file(file.clone(), pair.setting.dir.path());
        copy.assert_faultless();
        let named = copy.fields("frame", &["frame.interface_name"]);
        assert!(named.iter().all(|name| name == "spiffe://example.org/ns/shop/sa/orders"), "{named:?}");
        packets += copy.packets as u64;
        requests += copy.requests().len();
        // Each file stands alone: it begins with a handshake and ends with statistics.
        assert_eq!(copy.fields("frame.number == 1", &["tcp.flags.syn"]), ["1"]);
    }
    assert_eq!(requests, 150);
    // The last block: received, dropped, delivered.
    let last = std::fs::read(files.last().unwrap()).unwrap();
    let number = |back: usize| u64::from_le_bytes(last[last.len() - back..][..8].try_into().unwrap());
    assert_eq!([number(40), number(28), number(16)], [packets, 0, packets]);
}
