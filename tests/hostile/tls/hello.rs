//! Classes 94 to 96: handshakes of old versions, without a name, with early data; what is no handshake at all; hellos that are
//! cut up, huge, or never end. A stalled one is ended by `handshake_timeout`, and no number of them keeps others out.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::catalogue::{Outcome, Table};
use support::envoy::Envoy;
use support::origin::Origin;
use support::pair::{HOST, Pair, Setting};
use support::sidecar::Sidecar;
use support::{pki, ports, tls, tools, wait};

const GET: &[u8] = b"GET /api/orders/42 HTTP/1.1\r\nHost: orders.shop.svc\r\nConnection: close\r\n\r\n";

#[test]
fn what_is_no_good_handshake_gets_no_answer() {
    let setting = Setting::new().server(|text| text.replace("[proxy]\n", "[proxy]\nhandshake_timeout = \"2s\"\n"));
    let _server = setting.start_server();
    let origin = Origin::on(setting.at.app);
    let app = Origin::start();
    let web = pki::spiffe("shop", "web");
    let domain = "spiffe://example.org/";
    let envoy = Envoy::strict_callee(setting.dir.path(), ports::local(), &setting.orders, &web, domain, app.addr());
    let mut table = Table::new("tls-hello", 94..=96);
    // All at once: some are ended by a timer.
    let (inbound, other) = (setting.at.inbound, envoy.addr());
    let said: Vec<_> = first_bytes()
        .into_iter()
        .map(|(class, case, bytes)| {
            let said = std::thread::spawn(move || (say(inbound, &bytes), say(other, &bytes)));
            (class, case, said)
        })
        .collect();
    let early = [inbound, other].map(|to| std::thread::spawn(move || early_data_unasked(to)));
    for (class, case, said) in said {
        let (ours, theirs) = said.join().unwrap();
        table.row(class, case, ours, Some(theirs));
    }
    let [ours, theirs] = early.map(|thread| thread.join().unwrap());
    table.row(94, "early data behind the client's first hello", ours, Some(theirs));
    assert_eq!(origin.connections(), 0, "{table}");
    // Good handshakes that want too much.
    for (case, act) in [
        ("renegotiation by the client, TLS 1.2", renegotiate as fn(&Setting, SocketAddr) -> Outcome),
        ("early data with a session's ticket", early_data),
    ] {
        let before = origin.connections();
        let ours = act(&setting, setting.at.inbound);
        assert!(origin.connections() <= before + 1, "{case}");
        table.row(94, case, ours, Some(act(&setting, envoy.addr())));
    }
    for (case, alpn) in [("no known protocol among those offered", &["spdy/3", "http/0.9"][..]), ("h3", &["h3"])] {
        table.row(94, case, alpn_of(&setting, setting.at.inbound, alpn), Some(alpn_of(&setting, envoy.addr(), alpn)));
    }
    table.judge(&[94, 95, 96]);
    // A hello without a server name is how sidecars call; one that comes in small records is still one.
    assert_eq!(fragmented(&setting, 1), 200);
    assert_eq!(fragmented(&setting, 100), 200);
}

/// Everything that begins wrong, and is answered at most by an alert and a close.
fn first_bytes() -> Vec<(u8, &'static str, Vec<u8>)> {
    let good = Hello::default();
    let h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    vec![
        (94, "SSL 2.0 hello", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80".repeat(4)),
        (94, "SSL 3.0", Hello { version: 0x0300, offered: vec![], ..good.clone() }.record()),
        (94, "TLS 1.0", Hello { version: 0x0301, offered: vec![], ..good.clone() }.record()),
        (94, "TLS 1.1", Hello { version: 0x0302, offered: vec![], ..good.clone() }.record()),
        (94, "TLS 1.0 and 1.1 among the versions", Hello { offered: vec![0x0302, 0x0301], ..good.clone() }.record()),
        (94, "TLS 1.4 alone", Hello { offered: vec![0x0305], ..good.clone() }.record()),
        (94, "a draft of TLS 1.3 alone", Hello { offered: vec![0x7f1c], ..good.clone() }.record()),
        (
            94,
            "TLS 1.2 with compression alone",
            Hello { offered: vec![], compression: vec![1], ..good.clone() }.record(),
        ),
        (94, "RC4, 3DES, export and null suites", {
            Hello { offered: vec![], suites: vec![0x0005, 0x000a, 0x0003, 0x0000, 0x0001], ..good.clone() }.record()
        }),
        (94, "static RSA and CBC suites", {
            Hello { offered: vec![], suites: vec![0x002f, 0x0035, 0x003c, 0x009c, 0xc013], ..good.clone() }.record()
        }),
        (94, "no suite", Hello { offered: vec![], suites: vec![], ..good.clone() }.record()),
        (94, "unknown suites", Hello { suites: vec![0x5a5a, 0xfafa], ..good.clone() }.record()),
        (94, "server name with a NUL", Hello { more: name(b"a\0b"), ..good.clone() }.record()),
        (
            94,
            "the same extension twice",
            Hello { more: [name(b"a.test"), name(b"b.test")].concat(), ..good.clone() }.record(),
        ),
        (
            94,
            "an extension that is longer than the hello",
            Hello { more: vec![0, 0, 0xff, 0xff], ..good.clone() }.record(),
        ),
        (95, "HTTP/1.1 without TLS", GET.to_vec()),
        (95, "HTTP/1.0 without TLS", b"GET / HTTP/1.0\r\n\r\n".to_vec()),
        (95, "HTTP/2 without TLS", h2.to_vec()),
        (95, "PROXY protocol, version 1", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec()),
        (
            95,
            "PROXY protocol, version 2",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x0a\0\0\x01\x0a\0\0\x02\0\x01\0\x02".to_vec(),
        ),
        (95, "SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        (95, "zeros", vec![0; 4096]),
        (95, "0xff", vec![0xff; 4096]),
        (95, "noise", (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        (95, "an alert", vec![21, 3, 1, 0, 2, 2, 40]),
        (95, "a warning, again and again", [21, 3, 1, 0, 2, 1, 0].repeat(5000)),
        (95, "data", [&[23, 3, 3, 0, 78], GET].concat()),
        (95, "change cipher spec, again and again", [20, 3, 3, 0, 1, 1].repeat(5000)),
        (95, "a heartbeat", vec![24, 3, 2, 0, 3, 1, 0x40, 0]),
        (95, "a Finished", record(&[20, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])),
        (95, "a certificate", record(&[11, 0, 0, 4, 0, 0, 0, 0])),
        (95, "empty handshake records", [22, 3, 1, 0, 0].repeat(5000)),
        (96, "hello of 16 MiB said, 100 KB sent", {
            let message = [&[1, 0xff, 0xff, 0xff][..], &vec![0; 100_000]].concat();
            message.chunks(16_000).flat_map(record).collect()
        }),
        (96, "a session id of 255 bytes", Hello { session: vec![7; 255], ..good.clone() }.record()),
        (96, "a record of 64 KiB", [&[22, 3, 1, 0xff, 0xff][..], &vec![0; 65535]].concat()),
        (96, "a record of another version", [&[22, 9, 9][..], &good.record()[3..]].concat()),
    ]
}

/// Says exactly this and waits for the end. An alert is no answer.
fn say(to: SocketAddr, bytes: &[u8]) -> Outcome {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream.set_nodelay(true).unwrap();
    let begin = Instant::now();
    let _ = stream.write_all(bytes);
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    let timer = if begin.elapsed() > Duration::from_millis(1900) { ", by its timer" } else { "" };
    match end {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Outcome::Passed("held for more than 15 s".into())
        }
        _ => match received[..] {
            [] => Outcome::Refused(format!("closed{timer}")),
            [21, _, _, 0, 2, _, alert] => Outcome::Refused(format!("alert {alert}{timer}")),
            _ => Outcome::Passed(String::from_utf8_lossy(&received).into_owned()),
        },
    }
}

/// A ClientHello (RFC 8446 §4.1.2), as good as one can be without a key share.
#[derive(Clone)]
struct Hello {
    version: u16,
    session: Vec<u8>,
    suites: Vec<u16>,
    compression: Vec<u8>,
    /// `supported_versions`; none leaves the extension out.
    offered: Vec<u16>,
    /// Further extensions, written out.
    more: Vec<u8>,
}

impl Default for Hello {
    fn default() -> Self {
        let suites = vec![0x1301, 0x1302, 0xc02b, 0xc02f, 0xc013, 0x002f];
        Self {
            version: 0x0303,
            session: Vec::new(),
            suites,
            compression: vec![0],
            offered: vec![0x0304, 0x0303],
            more: Vec::new(),
        }
    }
}

impl Hello {
    fn record(&self) -> Vec<u8> {
        let words = |words: &[u16]| -> Vec<u8> { words.iter().flat_map(|word| word.to_be_bytes()).collect() };
        let mut extensions = [
            extension(10, &two(&words(&[29, 23]))),                 // groups: x25519, P-256
            extension(11, &[1, 0]),                                 // points: uncompressed
            extension(13, &two(&words(&[0x0403, 0x0804, 0x0401]))), // signatures
        ]
        .concat();
        if !self.offered.is_empty() {
            let offered = words(&self.offered);
            extensions.extend(extension(43, &[&[offered.len() as u8], &offered[..]].concat()));
            extensions.extend(extension(51, &two(&[&[0, 29, 0, 32][..], &[9; 32]].concat())));
        }
        extensions.extend(&self.more);
        let body = [
            &self.version.to_be_bytes()[..],
            &[5; 32],
            &[self.session.len() as u8],
            &self.session,
            &two(&words(&self.suites)),
            &[self.compression.len() as u8],
            &self.compression,
            &two(&extensions),
        ]
        .concat();
        let length = (body.len() as u32).to_be_bytes();
        record(&[&[1], &length[1..], &body].concat())
    }
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &two(body)].concat()
}

fn name(host: &[u8]) -> Vec<u8> {
    extension(0, &two(&[&[0], &two(host)[..]].concat()))
}

/// With its length in two bytes before it.
fn two(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes()[..], body].concat()
}

fn record(message: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &two(message)].concat()
}

/// openssl asks for new keys in the middle of a TLS 1.2 connection; what it says afterwards must not arrive.
fn renegotiate(setting: &Setting, to: SocketAddr) -> Outcome {
    let mut openssl = tools::system("openssl", "openssl");
    openssl.args(["s_client", "-tls1_2", "-connect", &to.to_string(), "-cert"]).arg(&setting.web.chain);
    // openssl takes one certificate of a file, and those above it from another.
    let chain = std::fs::read_to_string(&setting.web.chain).unwrap();
    let end = "-----END CERTIFICATE-----\n";
    let above = setting.dir.write("above.pem", chain.split_once(end).unwrap().1);
    openssl.arg("-cert_chain").arg(above).arg("-key").arg(&setting.web.key).args(["-alpn", "http/1.1"]);
    let mut child = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A line that begins with R is the command.
    stdin.write_all(b"R\n").unwrap();
    let ended = wait::within(wait::SOON, || child.try_wait().unwrap());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("RENEGOTIATING") && said.contains("Protocol  : TLSv1.2"), "{said}");
    let refused =
        ["no renegotiation", "unexpected message", "alert", "unexpected eof", "errno=104", "handshake failure"];
    match refused.iter().find(|word| said.contains(**word)) {
        Some(word) if ended.is_some() => Outcome::Refused((*word).to_owned()),
        _ => Outcome::Passed(said.chars().rev().take(300).collect::<String>().chars().rev().collect()),
    }
}

/// A client that was given a session and would send early data with it, if it were allowed any.
fn early_data(setting: &Setting, to: SocketAddr) -> Outcome {
    let mut config = tls::config(Some(tls::certified(&setting.web)), &["http/1.1"]).unwrap();
    config.enable_early_data = true;
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    let mut first = tls::shake_hands(Arc::clone(&config), to).unwrap();
    first.write_all(GET).unwrap();
    // The ticket comes with the answer.
    let _ = first.read_to_end(&mut Vec::new());
    let mut second = tls::start(Arc::clone(&config), to).unwrap();
    let allowed = second.conn.early_data().is_some();
    while second.conn.is_handshaking() {
        second.conn.complete_io(&mut second.sock).unwrap();
    }
    if allowed { Outcome::Passed("early data allowed".into()) } else { Outcome::Refused("none allowed".into()) }
}

/// Early data announced without a session, and data at once.
fn early_data_unasked(to: SocketAddr) -> Outcome {
    let hello = Hello { more: extension(42, &[]), ..Hello::default() }.record();
    let data = [&[23, 3, 3][..], &two(GET)].concat();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let _ = stream.write_all(&[hello, data].concat());
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    match end {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Outcome::Passed("held for more than 15 s".into())
        }
        _ if received.windows(5).any(|part| part == b"HTTP/") => Outcome::Passed("answered".into()),
        _ => Outcome::Refused("closed".into()),
    }
}

/// A good handshake with these protocols. A caller whose protocols nobody knows must be refused, or be read as plain bytes
/// that turn out to be HTTP/1.1 and are judged.
fn alpn_of(setting: &Setting, to: SocketAddr, alpn: &[&str]) -> Outcome {
    let mut stream = match tls::connect(to, Some(&setting.web), alpn) {
        Ok(stream) => stream,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let chosen = stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    if let Some(chosen) = chosen {
        return Outcome::Passed(format!("{chosen} was never offered"));
    }
    let mut first = [0; 12];
    match stream.write_all(GET).and_then(|()| stream.read(&mut first)) {
        Ok(count) if first[..count].starts_with(b"HTTP/1.1 ") => {
            Outcome::Cleaned("none chosen, read as HTTP/1.1".into())
        }
        Ok(_) => Outcome::Refused("closed".into()),
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

/// A good request over a handshake whose client cuts its messages into records of `size` bytes.
fn fragmented(setting: &Setting, size: usize) -> u16 {
    let mut config = tls::config(Some(tls::certified(&setting.web)), &["http/1.1"]).unwrap();
    // The size that rustls takes includes the record's header.
    config.max_fragment_size = Some(size.max(27) + 5);
    let mut stream = tls::shake_hands(config, setting.at.inbound).unwrap();
    stream.write_all(GET).unwrap();
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    let text = String::from_utf8_lossy(&received);
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[test]
fn a_hello_that_does_not_end_is_ended_by_its_timer_and_others_are_kept() {
    let pair = Setting::new().server(|text| text.replace("[proxy]\n", "[proxy]\nhandshake_timeout = \"2s\"\n")).start();
    let to = pair.setting.at.inbound;
    let hello = Hello::default().record();
    type Step = fn(&mut TcpStream, &[u8], usize) -> std::io::Result<()>;
    let silent: Step = |_, _, _| Ok(());
    let half: Step = |stream, hello, turn| if turn == 0 { stream.write_all(&hello[..hello.len() / 2]) } else { Ok(()) };
    let bytewise: Step = |stream, hello, turn| hello.get(turn..=turn).map_or(Ok(()), |byte| stream.write_all(byte));
    let whole: Step = |stream, hello, turn| if turn == 0 { stream.write_all(hello) } else { Ok(()) };
    let stalled: Vec<_> =
        [("silent", silent), ("half a hello", half), ("byte by byte", bytewise), ("nothing after the hello", whole)]
            .into_iter()
            .map(|(case, step)| {
                let hello = hello.clone();
                (case, std::thread::spawn(move || stall(to, &hello, step)))
            })
            .collect();
    let mut asked = 0;
    while !stalled.iter().all(|(_, thread)| thread.is_finished()) {
        assert_eq!(support::wire::get(pair.entry(), HOST, "/api/orders/42").unwrap().status(), 200);
        asked += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(asked > 5);
    for (case, thread) in stalled {
        let lasted = thread.join().unwrap();
        println!("{case}: ended after {lasted:?}");
        assert!(lasted >= Duration::from_millis(1900), "{case}: ended before its time, after {lasted:?}");
        assert!(lasted < Duration::from_secs(12), "{case}: {lasted:?}");
    }
    wait::until("all four to be counted", wait::SOON, || {
        (refusals(&pair.server, "tls_handshake_timeout") == 4.0).then_some(())
    });
}

/// Holds a handshake up, a step every 20 ms, and says when the other side had enough.
fn stall(to: SocketAddr, hello: &[u8], step: impl Fn(&mut TcpStream, &[u8], usize) -> std::io::Result<()>) -> Duration {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 16384];
    for turn in 0..1000 {
        if step(&mut stream, hello, turn).is_err() {
            break;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    begin.elapsed()
}

#[test]
fn however_many_handshakes_stall_a_caller_gets_in() {
    const SEATS: usize = 256;
    const STALLED: usize = 1200;
    // One worker, and a timer that does not help. The floods come from an address of their own, as a hostile pod's would.
    let one = "capture = \"none\"\nworkers = 1\nhandshake_timeout = \"60s\"\nmax_connections = 1000";
    let pair = Setting::new().server(|text| text.replace("capture = \"none\"", one)).start();
    let to = pair.setting.at.inbound;
    let before = resident(&pair);
    let hello = Hello::default().record();
    let flood: Vec<TcpStream> = (0..STALLED)
        .map(|number| {
            let mut stream = from([127, 0, 0, 66], to);
            // Some say nothing, some begin, some stop after their hello, which costs the other side most.
            let _ = stream.write_all(&hello[..[0, 40, hello.len()][number % 3]]);
            stream
        })
        .collect();
    let active = || pair.server.metrics().sum("sekisho_tls_handshakes_active", &[]);
    wait::until("the seats to be taken", wait::SOON, || (active() == SEATS as f64).then_some(()));
    wait::until("all others to be closed", wait::SOON, || {
        (refusals(&pair.server, "tls_handshakes") == (STALLED - SEATS) as f64).then_some(())
    });
    let grown = resident(&pair).saturating_sub(before);
    println!("{STALLED} stalled handshakes: {grown} KiB more");
    assert!(grown < 16 * 1024, "{grown} KiB more");
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let begin = Instant::now();
        let mut caller = tls::connect(to, Some(&pair.setting.web), &["http/1.1"]).unwrap();
        caller.write_all(GET).unwrap();
        let mut first = [0; 12];
        let count = caller.read(&mut first).unwrap();
        assert_eq!(&first[..count], b"HTTP/1.1 200");
        slowest = slowest.max(begin.elapsed());
    }
    println!("50 callers with new connections meanwhile: the slowest answer took {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert_eq!(pair.server.metrics().sum("envoy_listener_downstream_cx_overflow", &[]), 0.0);
    drop(flood);
    wait::until("the seats to be free", wait::SOON, || (active() == 0.0).then_some(()));
}

/// A connection from another address of this machine.
fn from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = support::wire::bound(SocketAddr::from((source, 0)));
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn refusals(sidecar: &Sidecar, reason: &str) -> f64 {
    sidecar.metrics().sum("sekisho_refused_total", &[("direction", "inbound"), ("reason", reason)])
}

/// Resident memory of the callee's sidecar, in KiB.
fn resident(pair: &Pair) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pair.server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
