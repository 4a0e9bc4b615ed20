//! The running tap over real sockets on the loopback interface, read by the receiver; every counter must balance.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tap::receive::{self, Heard, Receiver};
use tap::{Counters, Message, Reason, Record, Running, Sensor, Settings, Side, Tap, Verdict};

fn record(connection: u64, target: &str, body: usize) -> Record {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer s3cret"));
    let mut request = Message::request(&Arc::default(), Method::POST, target, Some("orders"), &headers);
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

fn sensor(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = receive::listen(address.parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The tap's thread gives way to everybody else, so that on a busy machine it is late.
const SOON: Duration = Duration::from_secs(60);

/// A sensor that listens until it is told that nothing more is sent: a silence says nothing on a busy machine.
struct Listening {
    socket: UdpSocket,
    so_far: Arc<AtomicUsize>,
    thread: JoinHandle<(usize, Vec<Heard>)>,
}

impl Listening {
    fn start(socket: &UdpSocket) -> Self {
        let so_far = Arc::new(AtomicUsize::new(0));
        let (own, tell) = (socket.try_clone().unwrap(), Arc::clone(&so_far));
        let thread = thread::spawn(move || {
            let (mut receiver, mut heard) = (Receiver::new(), Vec::new());
            let mut buffer = [0; 65_536];
            loop {
                let length = own.recv(&mut buffer).unwrap();
                if buffer[..length] == END {
                    return (tell.load(Relaxed), heard);
                }
                heard.extend(receiver.datagram(&buffer[..length]).unwrap());
                tell.fetch_add(1, Relaxed);
            }
        });
        Self { socket: socket.try_clone().unwrap(), so_far, thread }
    }

    /// Waits until it has all that was sent, so that a burst never meets a full socket.
    fn catch_up(&self, tap: &Tap, mirrored: u64) {
        until("the sensor has caught up", || {
            let counters = tap.counters();
            counters.mirrored == mirrored && counters.packets_sent == self.so_far.load(Relaxed) as u64
        });
    }

    /// Datagrams and messages, when nothing more is sent: over loopback whatever was sent is in the socket by then.
    fn end(self) -> (usize, Vec<Heard>) {
        let sender = UdpSocket::bind((self.socket.local_addr().unwrap().ip(), 0)).unwrap();
        // A socket that is full loses this one too.
        while !self.thread.is_finished() {
            sender.send_to(&END, self.socket.local_addr().unwrap()).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
        self.thread.join().unwrap()
    }
}

/// No datagram of a tap.
const END: [u8; 3] = *b"end";

/// So many datagrams, and what they say.
fn take(socket: &UdpSocket, datagrams: usize) -> Vec<Heard> {
    socket.set_read_timeout(Some(SOON)).unwrap();
    let mut receiver = Receiver::new();
    let mut buffer = [0; 65_536];
    (0..datagrams)
        .flat_map(|_| {
            let length = socket.recv(&mut buffer).unwrap();
            receiver.datagram(&buffer[..length]).unwrap()
        })
        .collect()
}

/// Nothing more is in the socket.
fn assert_empty(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    assert_eq!(socket.recv(&mut [0; 2048]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    socket.set_nonblocking(false).unwrap();
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn start(sensor: Option<SocketAddr>) -> (Tap, Running) {
    Tap::start(Settings::new("ids", Sensor::vxlan(sensor, 42))).unwrap()
}

/// The three equations of the counters.
fn assert_balance(c: &Counters) {
    assert_eq!(c.matched, c.mirrored + c.dropped_total(), "{c:?}");
    assert_eq!(c.body_seen, c.body_mirrored + c.body_truncated + c.body_dropped, "{c:?}");
    assert_eq!(c.packets_built, c.packets_sent + c.send_errors_total(), "{c:?}");
    assert_eq!(c.queue_bytes, 0, "{c:?}");
}

fn copied_over(address: &str) {
    let (socket, address) = sensor(address);
    let (tap, running) = start(Some(address));
    let listener = Listening::start(&socket);
    for n in 0..50 {
        let admission = tap.admit().unwrap();
        tap.offer(admission, record(n % 5, &format!("/{n}?token=s3cret"), 2_000));
        if n % 10 == 9 {
            listener.catch_up(&tap, n + 1);
        }
    }
    assert!(running.stop(SOON));
    let (datagrams, heard) = listener.end();
    let counters = tap.counters();
    assert_balance(&counters);
    assert_eq!((counters.mirrored, counters.packets_sent), (50, datagrams as u64));
    assert_eq!((heard.len(), heard[0].vni), (100, 42));
    assert_eq!(heard[0].start_line(), "POST /0?token=****** HTTP/1.1");
    assert_eq!(heard[0].header("Authorization"), Some("Bearer ******"));
    assert!(heard.iter().all(|m| m.complete && !m.to_string().contains("s3cret")));
}

#[test]
fn exchanges_arrive_whole_and_without_secrets_over_ipv4() {
    copied_over("127.0.0.1:0");
}

#[test]
fn exchanges_arrive_whole_and_without_secrets_over_ipv6() {
    copied_over("[::1]:0");
}

#[test]
fn port_where_nobody_listens_loses_nothing_on_our_side() {
    let (socket, address) = sensor("127.0.0.1:0");
    drop(socket);
    let (tap, running) = start(Some(address));
    for n in 0..200 {
        let admission = tap.admit().unwrap();
        tap.offer(admission, record(n, "/", 3_000));
    }
    assert!(running.stop(SOON));
    let counters = tap.counters();
    assert_balance(&counters);
    assert_eq!((counters.mirrored, counters.send_errors_total()), (200, 0));
    assert!(counters.unreachable > 0);
}

#[test]
fn refused_datagrams_are_counted_by_errno() {
    // Broadcast without SO_BROADCAST is refused by every kernel.
    let (tap, running) = start(Some("255.255.255.255:4789".parse().unwrap()));
    for n in 0..20 {
        tap.offer(tap.admit().unwrap(), record(n % 2, "/", 3_000));
    }
    assert!(running.stop(SOON));
    let counters = tap.counters();
    assert_balance(&counters);
    assert_eq!(counters.send_errors, [("EACCES", counters.packets_built)]);
    assert_eq!((counters.mirrored, counters.packets_sent), (20, 0));
}

#[test]
fn full_queue_drops_whole_exchanges_and_counts_them() {
    let (socket, address) = sensor("127.0.0.1:0");
    let mut settings = Settings::new("ids", Sensor::vxlan(Some(address), 42));
    settings.queue_bytes = 100_000;
    // A slow tap: one batch in 20 ms.
    settings.batch_gap = Duration::from_millis(20);
    let (tap, running) = Tap::start(settings).unwrap();
    let listener = Listening::start(&socket);
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            let tap = tap.clone();
            thread::spawn(move || {
                for n in 0..1_000u64 {
                    if let Some(mut admission) = tap.admit() {
                        if n % 3 == 0 {
                            admission.reserve(5_000);
                        }
                        tap.offer(admission, record(worker * 1_000 + n, "/", 5_000));
                    }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert!(running.stop(SOON));
    let (datagrams, heard) = listener.end();
    let counters = tap.counters();
    assert_balance(&counters);
    assert_eq!(counters.matched, 2_000);
    assert!(counters.dropped_for(Reason::QueueFull) > 0 && counters.mirrored > 0);
    assert_eq!((counters.packets_sent, counters.mirrored * 2), (datagrams as u64, heard.len() as u64));
    assert!(heard.iter().all(|m| m.complete));
}

#[test]
fn offering_never_waits_for_a_slow_tap() {
    let (_socket, address) = sensor("127.0.0.1:0");
    let mut settings = Settings::new("ids", Sensor::vxlan(Some(address), 42));
    settings.batch_gap = Duration::from_secs(600);
    let (tap, running) = Tap::start(settings).unwrap();
    let begin = Instant::now();
    for n in 0..10_000 {
        if let Some(admission) = tap.admit() {
            tap.offer(admission, record(n, "/", 100));
        }
    }
    // One wait would be as long as that.
    assert!(begin.elapsed() < Duration::from_secs(300));
    assert!(tap.counters().dropped_for(Reason::QueueFull) > 0);
    running.stop(Duration::ZERO);
}

#[test]
fn reasons_are_counted_where_they_arise() {
    let (tap, running) = start(None);
    assert!(tap.admit().is_none());
    let (socket, address) = sensor("127.0.0.1:0");
    tap.set_sensor(Some(address));
    let listener = Listening::start(&socket);
    drop(tap.admit().unwrap());
    tap.admit().unwrap().refuse(Reason::RateCap);
    tap.offer(tap.admit().unwrap(), record(1, "/a\r\nx: y", 7));
    let mut not_an_exchange = record(1, "/", 7);
    not_an_exchange.response = Some(not_an_exchange.request.clone());
    tap.offer(tap.admit().unwrap(), not_an_exchange);
    let mut greedy = tap.admit().unwrap();
    assert!(!greedy.reserve(usize::MAX / 2) && !greedy.reserve(1));
    tap.offer(greedy, record(1, "/", 7));
    tap.offer(tap.admit().unwrap(), record(1, "/good", 7));
    let late = tap.admit().unwrap();
    assert!(running.stop(SOON));
    tap.offer(late, record(1, "/late", 7));
    assert!(tap.admit().is_none());
    let counters = tap.counters();
    assert_balance(&counters);
    for (reason, count) in [
        (Reason::TapDown, 1),
        (Reason::Abandoned, 1),
        (Reason::RateCap, 1),
        (Reason::UnsafeHeader, 1),
        (Reason::RedactError, 1),
        (Reason::QueueFull, 1),
        (Reason::Shutdown, 2),
    ] {
        assert_eq!(counters.dropped_for(reason), count, "{reason:?}");
    }
    let (_, heard) = listener.end();
    assert_eq!((counters.mirrored, heard[0].start_line()), (1, "POST /good HTTP/1.1"));
}

#[test]
fn sensor_may_move_and_every_connection_ends_at_the_old_one() {
    let (old, old_address) = sensor("127.0.0.1:0");
    let (new, new_address) = sensor("[::1]:0");
    let (tap, running) = start(Some(old_address));
    tap.offer(tap.admit().unwrap(), record(1, "/old", 5_000));
    // Handshake, four segments of the request, response, acknowledgement.
    assert_eq!(take(&old, 3 + 4 + 1 + 1).len(), 2);
    assert_empty(&old);
    tap.set_sensor(Some(new_address));
    let ends = take(&old, 3);
    assert!(ends.is_empty(), "FIN, FIN, ACK");
    tap.offer(tap.admit().unwrap(), record(1, "/new", 5_000));
    let heard = take(&new, 3 + 4 + 1 + 1);
    assert_eq!(heard[0].start_line(), "POST /new HTTP/1.1");
    assert!(running.stop(SOON));
    assert_empty(&old);
    assert_balance(&tap.counters());
}

#[test]
fn aborted_exchange_and_closed_connection_are_told_apart() {
    let (socket, address) = sensor("127.0.0.1:0");
    let (tap, running) = start(Some(address));
    let mut broken = record(1, "/broken", 10);
    broken.response = None;
    broken.aborted = Some(Side::Client);
    tap.offer(tap.admit().unwrap(), broken);
    tap.offer(tap.admit().unwrap(), record(2, "/closed", 10));
    tap.closed(2);
    let mut flags = Vec::new();
    let mut buffer = [0; 2048];
    let count = |flags: &[u8], flag| flags.iter().filter(|f| **f & flag != 0).count();
    let mut hear = |flags: &mut Vec<u8>| {
        let length = socket.recv(&mut buffer)?;
        assert!(length > 8 + 14 + 20 + 14);
        flags.push(buffer[8 + 14 + 20 + 13]);
        io::Result::Ok(())
    };
    socket.set_read_timeout(Some(SOON)).unwrap();
    // Both end now, not when the tap does.
    while count(&flags, FIN) < 2 || count(&flags, RST) < 1 {
        hear(&mut flags).unwrap();
    }
    assert!(running.stop(SOON));
    socket.set_nonblocking(true).unwrap();
    while hear(&mut flags).is_ok() {}
    assert_eq!((count(&flags, RST), count(&flags, FIN)), (1, 2));
}

const FIN: u8 = 1;
const RST: u8 = 4;

#[test]
fn settings_no_packet_can_be_built_with_are_refused() {
    assert!(Tap::start(Settings::new("ids", Sensor::vxlan(None, 1 << 24))).is_err());
    let mut small = Settings::new("ids", Sensor::vxlan(None, 1));
    small.mtu = 500;
    assert!(Tap::start(small).is_err());
}
