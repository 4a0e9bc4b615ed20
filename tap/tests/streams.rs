//! The running tap into pcap streams and files: what is counted as sent is what a reader has, to the packet.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use tap::pcap::Reader;
use tap::receive::{Heard, Receiver};
use tap::{Counters, Message, Record, Running, Sensor, Settings, Tap, Verdict};

/// The tap's thread gives way to everybody else, so that on a busy machine it is late.
const SOON: Duration = Duration::from_secs(60);

fn record(connection: u64, target: &str, body: usize) -> Record {
    let mut request = Message::request(&Arc::default(), Method::POST, target, Some("orders"), &HeaderMap::new());
    request.body = vec![b'x'; body];
    request.body_len = body as u64;
    request.complete = true;
    let mut response = Message::response(&Arc::default(), StatusCode::OK, &HeaderMap::new());
    response.complete = true;
    Record {
        connection,
        client: SocketAddr::from(([10, 0, 0, 1], 30_000 + (connection % 10_000) as u16)),
        server: SocketAddr::from(([10, 0, 0, 2], 8080)),
        http2: false,
        request,
        response: Some(response),
        started: Instant::now(),
        answered: Some(Instant::now()),
        ended: Instant::now(),
        aborted: None,
        verdict: Verdict::Allowed,
        rule: None,
        last: false,
    }
}

/// What a reader has got.
#[derive(Debug, Default)]
struct Got {
    reader: Reader,
    frames: u64,
    last: u64,
    heard: Vec<Heard>,
    receiver: Receiver,
}

impl Got {
    fn take(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
        while let Some((nanos, frame)) = self.reader.next_frame().unwrap() {
            assert!(nanos >= self.last, "time goes back");
            self.last = nanos;
            self.frames += 1;
            let datagram = [&[8, 0, 0, 0, 0, 0, 1, 0], frame].concat();
            self.heard.extend(self.receiver.datagram(&datagram).unwrap());
        }
    }

    /// Everything until the stream ends, or so many frames are there.
    fn read(&mut self, stream: &mut TcpStream, frames: u64) {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut buffer = vec![0; 65_536];
        while self.frames < frames {
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.take(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn start(sensor: Sensor, queue: usize) -> (Tap, Running) {
    let mut settings = Settings::new("ids", sensor);
    settings.queue_bytes = queue;
    settings.workload = "spiffe://example.org/ns/shop/sa/web".into();
    Tap::start(settings).unwrap()
}

fn dial(queue: usize) -> (TcpListener, Tap, Running) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (tap, running) = start(Sensor::Pcap { addr: Some(listener.local_addr().unwrap()) }, queue);
    (listener, tap, running)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Offers one exchange as soon as the tap takes one.
fn offer(tap: &Tap, record: impl Fn() -> Record) {
    until("the tap takes an exchange", || tap.admit().map(|admission| tap.offer(admission, record())).is_some());
}

fn is_settled(tap: &Tap) -> bool {
    let c = tap.counters();
    c.queue_bytes == 0 && c.packets_built == c.packets_sent + c.send_errors_total()
}

fn assert_balance(c: &Counters) {
    assert_eq!(c.matched, c.mirrored + c.dropped_total(), "{c:?}");
    assert_eq!(c.packets_built, c.packets_sent + c.send_errors_total(), "{c:?}");
    assert_eq!(c.queue_bytes, 0, "{c:?}");
}

#[test]
fn dialled_reader_gets_every_packet() {
    let (listener, tap, running) = dial(4 << 20);
    let (mut stream, _) = listener.accept().unwrap();
    for n in 0..50 {
        offer(&tap, || record(n % 5, &format!("/{n}"), 2_000));
    }
    let reader = thread::spawn(move || {
        let mut got = Got::default();
        got.read(&mut stream, u64::MAX);
        got
    });
    assert!(running.stop(SOON));
    let got = reader.join().unwrap();
    let counters = tap.counters();
    assert_balance(&counters);
    assert_eq!((counters.packets_sent, counters.send_errors_total()), (got.frames, 0));
    assert_eq!((got.heard.len(), got.heard[0].start_line()), (100, "POST /0 HTTP/1.1"));
}

#[test]
fn reader_that_dies_and_comes_back_sees_connections_from_their_beginning() {
    let (listener, tap, running) = dial(4 << 20);
    let (mut stream, _) = listener.accept().unwrap();
    let mut first = Got::default();
    offer(&tap, || record(1, "/first", 2_000));
    until("the first is there", || is_settled(&tap) && tap.counters().mirrored == 1);
    first.read(&mut stream, tap.counters().packets_sent);
    assert_eq!((first.heard.len(), tap.counters().send_errors_total()), (2, 0));
    drop(stream);
    until("the break is noticed", || tap.counters().streams_broken == 1);
    let (mut stream, _) = listener.accept().unwrap();
    offer(&tap, || record(1, "/second", 2_000));
    let reader = thread::spawn(move || {
        let mut got = Got::default();
        got.read(&mut stream, u64::MAX);
        got
    });
    assert!(running.stop(SOON));
    let second = reader.join().unwrap();
    let counters = tap.counters();
    assert_balance(&counters);
    assert_eq!(counters.packets_sent, first.frames + second.frames);
    assert_eq!((second.heard.len(), second.heard[0].start_line()), (2, "POST /second HTTP/1.1"));
}

#[test]
fn reader_that_accepts_nothing_costs_whole_exchanges_and_what_it_has_is_what_was_sent() {
    let (listener, tap, running) = dial(200_000);
    let (mut stream, _) = listener.accept().unwrap();
    until("the queue is full", || {
        if let Some(admission) = tap.admit() {
            tap.offer(admission, record(1, "/", 20_000));
        }
        tap.counters().dropped_for(tap::Reason::QueueFull) > 0
    });
    assert!(tap.counters().queue_bytes <= 200_000);
    // It has nothing to wait for: the rest is given up, also by a thread that gets to it only later.
    running.stop(Duration::from_millis(50));
    until("the rest is given up", || {
        let c = tap.counters();
        is_settled(&tap) && c.matched == c.mirrored + c.dropped_total()
    });
    let counters = tap.counters();
    assert_balance(&counters);
    assert!(counters.send_errors_total() > 0);
    assert!(counters.send_errors.iter().all(|(errno, _)| *errno == "ECANCELED"), "{counters:?}");
    let mut got = Got::default();
    got.read(&mut stream, u64::MAX);
    assert_eq!(got.frames, counters.packets_sent);
}

#[test]
fn reader_that_resets_amid_an_exchange_leaves_the_books_in_order() {
    let (listener, tap, running) = dial(1 << 20);
    for round in 0..5 {
        let (mut stream, _) = listener.accept().unwrap();
        offer(&tap, || record(1, "/", 100_000));
        let mut some = [0; 30_000];
        stream.read_exact(&mut some[..6_000 * (round + 1)]).unwrap();
        // Unread bytes are left: closing resets.
        drop(stream);
        until("the break is noticed", || tap.counters().streams_broken == round as u64 + 1);
    }
    assert!(running.stop(SOON));
    let counters = tap.counters();
    assert_balance(&counters);
    assert_eq!((counters.streams_broken, counters.mirrored), (5, 5));
}

#[test]
fn nobody_there_is_a_drop_at_admission() {
    let (listener, tap, running) = dial(1 << 20);
    let address = listener.local_addr().unwrap();
    let (stream, _) = listener.accept().unwrap();
    drop((stream, listener));
    until("the break is noticed", || tap.admit().is_none());
    assert!(tap.counters().dropped_for(tap::Reason::TapDown) > 0);
    let listener = TcpListener::bind(address).unwrap();
    listener.accept().unwrap();
    assert!(running.stop(SOON));
    assert_balance(&tap.counters());
}

#[test]
fn each_listening_reader_gets_every_packet_and_a_slow_one_is_left() {
    let (tap, running) = start(Sensor::PcapListen { addr: "127.0.0.1:0".parse().unwrap(), takes_over: false }, 4 << 20);
    let address = tap.listening().unwrap();
    assert!(tap.admit().is_none(), "no reader yet");
    let mut quick = TcpStream::connect(address).unwrap();
    offer(&tap, || record(1, "/alone", 2_000));
    let mut got = Got::default();
    until("the first is there", || is_settled(&tap) && tap.counters().mirrored == 1);
    got.read(&mut quick, tap.counters().packets_sent);
    let alone = got.frames;
    let taken = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&taken);
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        quick.set_read_timeout(Some(SOON)).unwrap();
        // Until the tap closes it in order; a quick one that is reset was taken for a slow one.
        loop {
            let count = quick.read(&mut buffer).unwrap();
            if count == 0 {
                return got;
            }
            got.take(&buffer[..count]);
            tell.store(got.heard.len(), Relaxed);
        }
    });
    let mut slow = TcpStream::connect(address).unwrap();
    slow.read_exact(&mut [0; 24]).unwrap();
    let mut offered = 1;
    until("the slow one is left", || {
        // Only one that has all so far is quick, however little time its thread is given.
        if taken.load(Relaxed) >= 2 * offered - 2 {
            offered += usize::from(tap.admit().map(|one| tap.offer(one, record(1, "/both", 100_000))).is_some());
        }
        tap.counters().streams_broken == 1
    });
    assert!(running.stop(SOON));
    let got = reader.join().unwrap();
    let mut late = Got::default();
    late.take(&tap::pcap::HEADER);
    late.read(&mut slow, u64::MAX);
    let counters = tap.counters();
    assert_balance(&counters);
    assert_eq!(counters.packets_sent, got.frames + late.frames);
    assert!(counters.send_errors_total() > 0 && got.frames > alone);
    assert_eq!(got.heard.len() as u64, 2 * counters.mirrored);
    // It saw handshakes too: every message it has is one.
    assert!(
        late.heard
            .iter()
            .all(|message| message.start_line().starts_with("POST /both") || message.head.starts_with("HTTP"))
    );
    assert!(!late.heard.is_empty());
}

#[test]
fn port_passes_from_a_tap_to_the_one_that_replaces_it() {
    let (old_tap, old) = start(Sensor::PcapListen { addr: "127.0.0.1:0".parse().unwrap(), takes_over: false }, 1 << 20);
    let addr = old_tap.listening().unwrap();
    let settings = |takes_over| Settings::new("ids", Sensor::PcapListen { addr, takes_over });
    assert_eq!(Tap::start(settings(false)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let (tap, running) = Tap::start(settings(true)).unwrap();
    assert!(old.stop(SOON));
    until("it listens", || tap.listening() == Some(addr));
    TcpStream::connect(addr).unwrap().read_exact(&mut [0; 24]).unwrap();
    running.stop(SOON);
}

#[test]
fn readers_are_bounded() {
    let (tap, running) = start(Sensor::PcapListen { addr: "127.0.0.1:0".parse().unwrap(), takes_over: false }, 1 << 20);
    let address = tap.listening().unwrap();
    let readers: Vec<_> = (0..9).map(|_| TcpStream::connect(address).unwrap()).collect();
    until("one is turned away", || tap.counters().streams_broken == 1);
    let mut served = 0;
    for mut reader in readers {
        reader.set_read_timeout(Some(SOON)).unwrap();
        served += usize::from(reader.read_exact(&mut [0; 24]).is_ok());
    }
    assert_eq!(served, 8);
    running.stop(SOON);
}

/// Frames of every file, and of all of them the packets the statistics count, the last ones.
fn files(dir: &Path) -> (Vec<usize>, [u64; 3]) {
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut counts = Vec::new();
    let mut last = [0; 3];
    for path in paths {
        assert_eq!(path.extension().unwrap(), "pcapng");
        let bytes = std::fs::read(path).unwrap();
        let (mut at, mut frames, mut receiver, mut ends) = (0, 0, Receiver::new(), false);
        while at < bytes.len() {
            let length = word(&bytes, at + 4);
            ends = false;
            match word(&bytes, at) {
                6 => {
                    frames += 1;
                    let frame = &bytes[at + 28..at + 28 + word(&bytes, at + 20)];
                    receiver.datagram(&[&[8, 0, 0, 0, 0, 0, 1, 0], frame].concat()).unwrap();
                }
                5 => {
                    ends = true;
                    let tail = &bytes[at..at + length - 8];
                    let number = |back: usize| u64::from_le_bytes(tail[tail.len() - back..][..8].try_into().unwrap());
                    last = [number(32), number(20), number(8)];
                }
                _ => {}
            }
            at += length;
        }
        assert!(ends, "a file ends with its statistics");
        counts.push(frames);
    }
    (counts, last)
}

#[test]
fn ring_holds_every_packet_in_files_that_stand_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (tap, running) = start(Sensor::Ring { dir: dir.path().to_owned(), size: 64 * 1024, files: 100 }, 4 << 20);
    for n in 0..40 {
        offer(&tap, || record(n % 3, "/", 5_000));
    }
    assert!(running.stop(SOON));
    let counters = tap.counters();
    assert_balance(&counters);
    let (frames, said) = files(dir.path());
    assert!(frames.len() > 3, "{frames:?}");
    assert_eq!(frames.iter().sum::<usize>() as u64, counters.packets_sent);
    assert_eq!(said, [counters.packets_built, 0, counters.packets_sent]);
}

#[test]
fn disk_that_is_full_is_counted_and_survived() {
    // Every write to it is refused as a full disk refuses it; as a directory there is none.
    let dir = tempfile::tempdir().unwrap();
    let (tap, running) = start(Sensor::Ring { dir: dir.path().to_owned(), size: 64 * 1024, files: 2 }, 4 << 20);
    let limit = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(limit, 1);
    // The directory goes away: the file still open takes what comes, the next one cannot be begun.
    std::fs::remove_dir_all(dir.path()).unwrap();
    until("the tap is down", || tap.admit().map(|admission| tap.offer(admission, record(1, "/", 30_000))).is_none());
    assert!(tap.counters().dropped_for(tap::Reason::TapDown) > 0);
    std::fs::create_dir(dir.path()).unwrap();
    offer(&tap, || record(1, "/back", 10));
    assert!(running.stop(SOON));
    assert_balance(&tap.counters());
    assert_eq!(files(dir.path()).0.len(), 1);
}

#[test]
fn loss_is_told_in_the_stream_by_a_packet_that_is_counted_too() {
    let (listener, tap, running) = dial(4 << 20);
    let (mut stream, _) = listener.accept().unwrap();
    offer(&tap, || record(1, "/", 10));
    until("it is copied", || tap.counters().mirrored == 1 && is_settled(&tap));
    for _ in 0..3 {
        tap.admit().unwrap().refuse(tap::Reason::RateCap);
    }
    // The thread sleeps until there is work.
    offer(&tap, || record(1, "/", 10));
    let (mut bytes, mut buffer) = (Vec::new(), [0; 65_536]);
    stream.set_read_timeout(Some(SOON)).unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).matches("dropped_rate_cap=\"3\"").count();
    while told(&bytes) == 0 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        bytes.extend(&buffer[..count]);
    }
    let reader = thread::spawn(move || {
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    });
    assert!(running.stop(SOON));
    let bytes = reader.join().unwrap();
    let mut got = Got::default();
    got.take(&bytes);
    let counters = tap.counters();
    assert_balance(&counters);
    assert_eq!((got.frames, got.heard.len()), (counters.packets_sent, 4));
    assert_eq!(told(&bytes), 1, "told once");
    assert!(String::from_utf8_lossy(&bytes).contains(" 10.0.0.2 sekisho - loss [tap@32473 name=\"ids\" "));
}
