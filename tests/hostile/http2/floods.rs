//! Classes 61 to 68: frames without end, against a sidecar with one worker: over mutual TLS into the callee's, and some of them
//! plain into the caller's.
//!
//! Each flood goes on for a second (`SEKISHO_LONG`: for five) or until it is cut. Meanwhile another client, served by the same worker, asks on a
//! connection of its own: its slowest answer is part of the row, and so is what the sidecar's memory has grown by at its
//! highest. Envoy keeps one process for all rows, so what an earlier flood has made it take is not counted again.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::catalogue::{Outcome, Table};
use support::message::{self, Kind, Message};
use support::origin::{Origin, Reply};
use support::pair::{HOST, Setting};
use support::pki::Cert;
use support::sidecar::Sidecar;
use support::wire::QUIET;
use support::{ports, tls};

use super::frames::{
    ACK, CONTINUATION, Client, END_HEADERS, END_STREAM, Field, GOAWAY, HEADERS, PING, PRIORITY, SETTINGS, WHOLE, block,
    data, frame, headers, integer, is_timeout, reset, settings, string, window,
};
use super::{Door, envoy, open};

/// How long a flood may go on.
fn duration() -> Duration {
    Duration::from_secs(if std::env::var_os("SEKISHO_LONG").is_some() { 5 } else { 1 })
}

/// What it may make a sidecar take, in KiB.
const GROWTH: u64 = 16 * 1024;

/// How long another client may wait. In the debug build, and beside other tests, only that it is kept at all is judged.
fn patience() -> Duration {
    Duration::from_millis(if std::env::var_os("SEKISHO_BIN").is_some() { 250 } else { 5000 })
}

/// What is sent, piece by piece: the bytes of round 0, 1, 2 and so on; nothing when all has been said.
type Pieces = fn(u32) -> Vec<u8>;

/// A kind of flood.
struct Flood {
    class: u8,
    name: &'static str,
    /// Settings of the flooding client.
    settings: &'static [(u16, u32)],
    /// Whether it reads what it is sent.
    reads: bool,
    pieces: Pieces,
}

const fn flood(class: u8, name: &'static str, pieces: Pieces) -> Flood {
    Flood { class, name, settings: &[], reads: true, pieces }
}

const fn unread(class: u8, name: &'static str, pieces: Pieces) -> Flood {
    Flood { class, name, settings: &[], reads: false, pieces }
}

fn request<'a>(method: &'a str, path: &'a str) -> Vec<Field<'a>> {
    vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"https"),
        (b":authority", HOST.as_bytes()),
        (b":path", path.as_bytes()),
    ]
}

/// `count` times what `make` says, for the stream numbers of this round.
fn streams(round: u32, count: u32, make: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|one| make((round * count + one) * 2 + 1)).collect()
}

/// A field of `name` and 4,000 bytes put into the table (RFC 7541 §6.2.1), and then `count` times that entry.
fn bomb(name: &[u8], length: usize, count: usize) -> Vec<u8> {
    let mut out = block(&request("POST", "/open/bomb"));
    integer(0, 6, 0x40, &mut out);
    string(name, &mut out);
    string(&vec![b'a'; length], &mut out);
    for _ in 0..count {
        integer(62, 7, 0x80, &mut out);
    }
    out
}

/// HEADERS and as many CONTINUATION as the block needs.
fn long(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let pieces: Vec<&[u8]> = block.chunks(16384).collect();
    let last = pieces.len() - 1;
    let of = |(at, piece): (usize, &&[u8])| {
        let end = if at == last { END_HEADERS } else { 0 };
        frame(if at == 0 { HEADERS } else { CONTINUATION }, if at == 0 { end | flags } else { end }, stream, piece)
    };
    pieces.iter().enumerate().flat_map(of).collect()
}

const FLOODS: &[Flood] = &[
    flood(61, "rapid reset", |round| {
        streams(round, 100, |id| [headers(id, WHOLE, &request("GET", "/open/reset")), reset(id)].concat())
    }),
    unread(61, "rapid reset, answers unread", |round| {
        streams(round, 100, |id| [headers(id, WHOLE, &request("GET", "/open/reset")), reset(id)].concat())
    }),
    flood(61, "rapid reset of requests that are refused", |round| {
        streams(round, 100, |id| [headers(id, WHOLE, &request("GET", "/refused")), reset(id)].concat())
    }),
    flood(61, "rapid reset of uploads", |round| {
        streams(round, 50, |id| {
            [headers(id, END_HEADERS, &request("POST", "/open/up")), data(id, 0, b"abc"), reset(id)].concat()
        })
    }),
    flood(62, "MadeYouReset by windows of 0", |round| {
        streams(round, 100, |id| [headers(id, WHOLE, &request("GET", "/open/made")), window(id, 0)].concat())
    }),
    flood(62, "MadeYouReset by windows past 2^31", |round| {
        streams(round, 100, |id| [headers(id, WHOLE, &request("GET", "/open/made")), window(id, 0x7fff_ffff)].concat())
    }),
    flood(62, "MadeYouReset by PRIORITY on itself", |round| {
        streams(round, 100, |id| {
            let itself = [&id.to_be_bytes()[..], &[16]].concat();
            [headers(id, WHOLE, &request("GET", "/open/made")), frame(PRIORITY, 0, id, &itself)].concat()
        })
    }),
    flood(62, "MadeYouReset by DATA after the end", |round| {
        streams(round, 100, |id| {
            [headers(id, WHOLE, &request("GET", "/open/made")), data(id, END_STREAM, b"abc")].concat()
        })
    }),
    flood(62, "malformed heads", |round| {
        streams(round, 100, |id| headers(id, WHOLE, &[(b":method", b"GET"), (b"connection", b"close")]))
    }),
    flood(63, "CONTINUATION, full", |round| {
        let first =
            if round == 0 { frame(HEADERS, END_STREAM, 1, &block(&request("GET", "/open/c"))) } else { Vec::new() };
        [first, frame(CONTINUATION, 0, 1, &block(&[(b"x-long", &[b'a'; 16000])]))].concat()
    }),
    flood(63, "CONTINUATION, empty", |round| {
        let first =
            if round == 0 { frame(HEADERS, END_STREAM, 1, &block(&request("GET", "/open/c"))) } else { Vec::new() };
        [first, frame(CONTINUATION, 0, 1, &[]).repeat(1000)].concat()
    }),
    flood(63, "CONTINUATION, one byte each", |round| {
        let first = if round == 0 { frame(HEADERS, END_STREAM, 1, &[]) } else { Vec::new() };
        [first, frame(CONTINUATION, 0, 1, &[0x82]).repeat(1000)].concat()
    }),
    flood(64, "HPACK bomb: 4,000 bytes, 16,000 times", |round| {
        streams(round, 1, |id| long(id, 0, &bomb(b"x-bomb", 4000, 16000)))
    }),
    flood(64, "HPACK bomb within the limit, open streams", |round| {
        streams(round, 10, |id| long(id, 0, &bomb(b"x-bomb", 3900, 14)))
    }),
    flood(64, "crumbs of cookies, 50,000 a head", |round| {
        streams(round, 1, |id| long(id, 0, &bomb(b"cookie", 1, 50_000)))
    }),
    flood(64, "crumbs of cookies within the limit, open streams", |round| {
        streams(round, 10, |id| long(id, 0, &bomb(b"cookie", 1, 1400)))
    }),
    flood(64, "small fields within the limit, open streams", |round| {
        streams(round, 10, |id| long(id, 0, &bomb(b"x", 0, 1500)))
    }),
    flood(65, "PING", |_| frame(PING, 0, 0, &[7; 8]).repeat(3000)),
    unread(65, "PING, answers unread", |_| frame(PING, 0, 0, &[7; 8]).repeat(3000)),
    flood(65, "PING acknowledgements", |_| frame(PING, ACK, 0, &[7; 8]).repeat(3000)),
    flood(65, "SETTINGS", |_| settings(&[(4, 65535)]).repeat(3000)),
    unread(65, "SETTINGS, answers unread", |_| settings(&[(4, 65535)]).repeat(3000)),
    flood(65, "SETTINGS, empty", |_| frame(SETTINGS, 0, 0, &[]).repeat(3000)),
    flood(65, "PRIORITY of idle streams", |round| {
        streams(round, 3000, |id| frame(PRIORITY, 0, id & 0x7fff_ffff, &[0, 0, 0, 0, 16]))
    }),
    flood(65, "empty DATA", |round| {
        let first = if round == 0 { headers(1, END_HEADERS, &request("POST", "/open/empty")) } else { Vec::new() };
        [first, data(1, 0, b"").repeat(3000)].concat()
    }),
    flood(65, "DATA of one byte", |round| {
        let first = if round == 0 { headers(1, END_HEADERS, &request("POST", "/open/one")) } else { Vec::new() };
        [first, data(1, 0, b"a").repeat(3000)].concat()
    }),
    flood(65, "WINDOW_UPDATE by 1", |_| window(0, 1).repeat(3000)),
    flood(65, "WINDOW_UPDATE by 0", |_| window(0, 0).repeat(3000)),
    flood(66, "5,000 half-open streams", |round| match round {
        0..50 => streams(round, 100, |id| headers(id, END_HEADERS, &request("POST", "/open/half"))),
        _ => Vec::new(),
    }),
    flood(66, "5,000 half-open header blocks", |round| match round {
        0..50 => streams(round, 100, |id| frame(HEADERS, 0, id, &block(&request("POST", "/open/half")))),
        _ => Vec::new(),
    }),
    Flood {
        class: 67,
        name: "no window, 1,000 answers of 1 MiB",
        settings: &[(4, 0)],
        reads: true,
        pieces: |round| match round {
            0..10 => streams(round, 100, |id| headers(id, WHOLE, &request("GET", "/open/big"))),
            _ => Vec::new(),
        },
    },
    Flood {
        class: 67,
        name: "no window, 100 answers of 1 MiB",
        settings: &[(4, 0)],
        reads: true,
        pieces: |round| match round {
            0 => streams(round, 100, |id| headers(id, WHOLE, &request("GET", "/open/big"))),
            _ => Vec::new(),
        },
    },
    Flood {
        class: 67,
        name: "windows of 2 GiB, 100 answers of 1 MiB unread",
        settings: &[(4, 0x7fff_ffff)],
        reads: false,
        pieces: |round| match round {
            0 => window(0, 0x7fff_0000 - 65535),
            1 => streams(0, 100, |id| headers(id, WHOLE, &request("GET", "/open/big"))),
            _ => Vec::new(),
        },
    },
    Flood {
        class: 67,
        name: "windows of 2 GiB, 1,000 answers of 1 MiB unread",
        settings: &[(4, 0x7fff_ffff)],
        reads: false,
        pieces: |round| match round {
            0 => window(0, 0x7fff_0000 - 65535),
            1..11 => streams(round - 1, 100, |id| headers(id, WHOLE, &request("GET", "/open/big"))),
            _ => Vec::new(),
        },
    },
    Flood {
        class: 67,
        name: "100 answers of 1 MiB, unread after 160 KiB",
        settings: &[(4, 160 * 1024)],
        reads: true,
        pieces: |round| match round {
            0 => window(0, 0x7fff_0000 - 65535),
            1 => streams(0, 100, |id| headers(id, WHOLE, &request("GET", "/open/big"))),
            _ => Vec::new(),
        },
    },
    Flood {
        class: 67,
        name: "100 answers in crumbs, unread",
        settings: &[(4, 0x7fff_ffff)],
        reads: false,
        pieces: |round| match round {
            0 => window(0, 0x7fff_0000 - 65535),
            1 => streams(0, 100, |id| headers(id, WHOLE, &request("GET", "/open/crumbs"))),
            _ => Vec::new(),
        },
    },
    flood(68, "unknown frames, empty", |_| frame(0xbe, 0, 0, &[]).repeat(3000)),
    flood(68, "unknown frames of 16 KiB", |_| frame(0xbe, 0, 1, &[0; 16384]).repeat(4)),
];

/// Which of them also come from the caller's own application: one of each class, and what nobody reads.
const PLAIN: &[&str] = &[
    "rapid reset",
    "MadeYouReset by windows of 0",
    "CONTINUATION, empty",
    "small fields within the limit, open streams",
    "PING",
    "SETTINGS, answers unread",
    "5,000 half-open streams",
    "no window, 100 answers of 1 MiB",
    "windows of 2 GiB, 100 answers of 1 MiB unread",
    "100 answers of 1 MiB, unread after 160 KiB",
    "100 answers in crumbs, unread",
    "unknown frames, empty",
];

/// How a flood went.
struct Went {
    /// When and how it was cut.
    cut: Option<(Duration, String)>,
    /// Bytes that were taken.
    sent: usize,
}

/// Sends a flood until it is cut or its time is over.
fn run(door: Door<'_>, flood: &Flood) -> Went {
    let mut client = Client::with(door, flood.settings);
    client.socket().set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let (started, duration) = (Instant::now(), duration());
    let mut went = Went { cut: None, sent: 0 };
    let (mut round, mut rest) = (0, Vec::new());
    while went.cut.is_none() && started.elapsed() < duration {
        if rest.is_empty() {
            rest = (flood.pieces)(round);
            round += 1;
        }
        let cut = |how: &str| Some((started.elapsed(), how.to_owned()));
        if rest.is_empty() {
            std::thread::sleep(Duration::from_millis(10));
            if !flood.reads {
                rest = frame(PING, 0, 0, &[7; 8]); // who does not read learns of the end only by writing
            }
        }
        match client.write_some(&rest) {
            Ok(count) => {
                went.sent += count;
                rest.drain(..count);
            }
            // Held back: what is not read any more is not taken any more.
            Err(error) if is_timeout(&error) => {}
            Err(_) => went.cut = cut("closed"),
        }
        if flood.reads || went.cut.is_some() {
            while let Some(end) = client.look() {
                match end {
                    Some(frame) if frame.kind == GOAWAY => went.cut = cut(&format!("GOAWAY {}", frame.code())),
                    Some(_) => {}
                    None => {
                        went.cut = went.cut.or_else(|| cut("closed"));
                        break;
                    }
                }
            }
        }
    }
    went
}

trait Io: Read + Write {}
impl<T: Read + Write> Io for T {}

/// Another client's connection.
fn beside(door: Door<'_>) -> io::Result<Box<dyn Io>> {
    Ok(match door {
        Door::Plain(to) => {
            let stream = TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(QUIET))?;
            Box::new(stream)
        }
        Door::Mtls(to, cert) => Box::new(tls::connect(to, Some(cert), &["http/1.1"])?),
    })
}

/// Another client: a request every 10 ms on a kept connection of its own. Gives the slowest answer and how many there were.
fn keep_asking(door: Door<'_>, stop: &AtomicBool) -> Result<(Duration, usize), String> {
    let mut stream = BufReader::new(beside(door).map_err(|error| error.to_string())?);
    let request = format!("GET /api/orders/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let (mut slowest, mut count) = (Duration::ZERO, 0);
    while !stop.load(Ordering::SeqCst) {
        let asked = Instant::now();
        stream.get_mut().write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let answer = message::read(&mut stream, Kind::Response).map_err(|error| error.to_string())?;
        let status = answer.as_ref().map(Message::status);
        if status != Some(200) {
            return Err(format!("{status:?}"));
        }
        slowest = slowest.max(asked.elapsed());
        count += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((slowest, count))
}

/// Resident memory of a process at its highest (`VmHWM`) or now (`VmRSS`), in KiB.
fn memory(process: u32, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap_or("x 0");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One flood against one process, beside another client.
fn measure(process: u32, door: Door<'_>, flood: &Flood) -> Outcome {
    let stop = AtomicBool::new(false);
    let (went, kept, grown) = std::thread::scope(|scope| {
        let other = scope.spawn(|| keep_asking(door, &stop));
        std::thread::sleep(Duration::from_millis(100)); // what a connection and its first requests take is not the flood's
        let _ = std::fs::write(format!("/proc/{process}/clear_refs"), "5"); // the highest begins anew
        let before = memory(process, "VmRSS:");
        let went = run(door, flood);
        std::thread::sleep(Duration::from_millis(100));
        let grown = memory(process, "VmHWM:").saturating_sub(before);
        stop.store(true, Ordering::SeqCst);
        (went, other.join().unwrap(), grown)
    });
    let (slowest, count) = match kept {
        Ok(kept) => kept,
        Err(error) => return Outcome::Passed(format!("the other client was lost: {error}")),
    };
    let mib = |kib: u64| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
    let aside = format!("+{}, other {} ms of {count}", mib(grown), slowest.as_millis());
    let within = grown <= GROWTH && slowest <= patience() && count > 0;
    match went.cut {
        _ if !within => Outcome::Passed(format!("{aside}, {} KiB sent", went.sent / 1024)),
        Some((after, how)) => Outcome::Refused(format!("{how} after {} ms, {aside}", after.as_millis())),
        None => Outcome::Cleaned(format!("held, {} KiB sent, {aside}", went.sent / 1024)),
    }
}

/// An application whose `/open/big` is 1 MiB, and whose `/open/crumbs` comes a byte at a time.
fn big(origin: std::net::SocketAddr) -> Origin {
    Origin::with(origin, |request| match request.target() {
        "/open/big" => Reply::text(vec![b'x'; 1 << 20]),
        "/open/crumbs" => Reply::text(vec![b'x'; 1 << 13]).in_chunks(1),
        _ => Reply::text(b"small".to_vec()),
    })
}

/// The same against a sidecar of its own: memory that an earlier flood made it take would hide what this one takes. Twice if
/// need be: the machine may stand still for a moment, and a fault of the sidecar comes again.
fn measure_fresh(start: impl Fn() -> Sidecar, door: Door<'_>, flood: &Flood) -> Outcome {
    let once = || measure(start().child.id(), door, flood);
    let outcome = once();
    if outcome.is_safe() { outcome } else { once() }
}

#[test]
fn floods_are_cut_or_bounded_and_other_clients_kept() {
    let one_worker = |text: String| text.replace("[proxy]\n", "[proxy]\nworkers = 1\n");
    let setting = open(Setting::new()).server(one_worker).client(one_worker);
    let _origin = big(setting.at.app);
    let cert: &Cert = &setting.web;
    let hardened = envoy::Callee::before(&setting, big(ports::local()), Duration::from_secs(300));
    let mut table = Table::new("http2-floods", 61..=68);
    for flood in FLOODS {
        let ours = measure_fresh(|| setting.start_server(), Door::Mtls(setting.at.inbound, cert), flood);
        let envoy = measure(hardened.envoy.id(), hardened.door(cert), flood);
        table.row(flood.class, flood.name, ours, Some(envoy));
    }
    let _server = setting.start_server();
    for name in PLAIN {
        let flood = FLOODS.iter().find(|flood| flood.name == *name).unwrap();
        let ours = measure_fresh(|| setting.start_client(), Door::Plain(setting.at.entry), flood);
        table.row(flood.class, format!("{name}, plain out"), ours, None);
    }
    table.judge(&[61, 62, 63, 64, 65, 66, 67, 68]);
}
