//! No secret that is named for redaction, or known by its shape, is in any transport: searched for in the bytes as they left,
//! and in every connection put together again, since a segment may end within a secret. The same search finds each of them
//! when nothing is named.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Setting};
use support::peers::{H2Origin, h2_requests};
use support::scratch::Scratch;
use support::sidecar::Sidecar;
use support::{ports, wait, wire};

use crate::receive::Receiver;
use crate::sensor::Copy;

const RULE: &str = "[[inbound]]\nname = \"open\"\nfrom = \"shop/web\"\nrequests = [\"* /open/{rest...}\"]\n";
const PASS: &str = "pass = [\"cookie\", \"set-cookie\"]\n";
const REDACT: &str = "redact = [\"x-internal\", \"cookie:sid\", \"query:session\", \"json:pin\"]\n";

/// What every named secret here begins with.
const NAMED: &str = "S3CR3T";
/// Known by their shape: the middle of a JWT, and a password in a URL.
const SHAPED: [&str; 2] = ["eyJzdWIiOiJTM0NSM1QifQ", "hunter2hunter2"];
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJTM0NSM1QifQ.c2lnbmF0dXJl";
/// There so often in one body that some segment ends within it.
const LONG: &str = "S3CR3T-long-0123456789abcdefghijklmnopqrstuvwxyz0123456789";
const TIMES: usize = 300;
const CHUNKS: [usize; 4] = [1, 3, 7, 64];

#[test]
fn no_secret_of_http1_is_in_any_transport() {
    let seen = http1(REDACT);
    assert_eq!(seen.len(), TAPS.len());
    for one in &seen {
        one.assert_silent();
        assert!(one.shows(if one.holds_bodies() { "theme=dark" } else { "\"path\":\"/open/" }), "{}", one.tap);
    }
}

#[test]
fn the_same_search_finds_every_secret_of_http1_that_is_not_named() {
    for one in &http1("") {
        assert!(one.shows("S3CR3T-query"), "{}", one.tap);
        if !one.holds_bodies() {
            continue;
        }
        for secret in ["S3CR3T-header", "S3CR3T-cookie", "S3CR3T-form"] {
            assert!(one.shows(secret), "{} has no {secret}", one.tap);
        }
        for size in CHUNKS {
            assert!(one.shows(&format!("S3CR3T-in-chunks-of-{size}.")), "{}: {size}", one.tap);
        }
        one.assert_finds_what_segments_cut();
    }
}

#[test]
fn no_secret_of_http2_is_in_any_transport() {
    for one in &http2(REDACT) {
        one.assert_silent();
        assert!(one.shows(if one.holds_bodies() { "\"filler\"" } else { "\"path\":\"/open/" }), "{}", one.tap);
    }
}

#[test]
fn the_same_search_finds_every_secret_of_http2_that_is_not_named() {
    for one in &http2("") {
        assert!(one.shows("S3CR3T-query"), "{}", one.tap);
        if one.holds_bodies() {
            // Across the end of a DATA frame, and in a header.
            assert!(one.shows("S3CR3T-header") && one.shows("S3CR3T-across-frames"), "{}", one.tap);
            one.assert_finds_what_segments_cut();
        }
    }
}

/// Requests with secrets wherever a request has room for them, their bodies cut in many ways; what every transport held then.
fn http1(redact: &str) -> Vec<Seen> {
    let setting = Setting::new();
    let app = Origin::with(setting.at.app, |_| {
        let reply = Reply::text(br#"{"pin":"S3CR3T-answer","x":1}"#.to_vec());
        let reply = reply.with_header("content-type", "application/json").in_chunks(5);
        reply.with_header("set-cookie", "sid=S3CR3T-set; Path=/").with_header("location", "/a?session=S3CR3T-location")
    });
    let scene = Scene::start(setting, redact);
    let entry = scene.setting.at.entry;
    let head = |kind: &str, rest: &str| {
        format!(
            "POST /open/a?session=S3CR3T-query&u=https://ann:{}@host/ HTTP/1.1\r\nHost: {HOST}\r\nX-Internal: S3CR3T-header\r\n\
             Cookie: theme=dark; sid=S3CR3T-cookie\r\nAuthorization: Bearer S3CR3T-bearer\r\nX-Debug: {JWT}\r\n\
             Content-Type: {kind}\r\n{rest}Connection: close\r\n\r\n",
            SHAPED[1]
        )
    };
    for size in CHUNKS {
        let json = format!(
            r#"{{"user":"ann","p\u0069n":"S3CR3T-escaped","deep":[{{"PIN":["S3CR3T-in-chunks-of-{size}."]}}]}}"#
        );
        let chunks = json.as_bytes().chunks(size);
        let body = chunks.flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        let head = head("application/json", "Transfer-Encoding: chunked\r\n");
        say(entry, &[head.as_bytes(), &body.collect::<Vec<_>>(), b"0\r\n\r\n"].concat(), size * 5);
    }
    let whole = |kind: &str, body: &str| {
        format!("{}{body}", head(kind, &format!("Content-Length: {}\r\n", body.len()))).into_bytes()
    };
    say(entry, &whole("application/x-www-form-urlencoded", "user=ann&session=S3CR3T-form&x=1"), 11);
    say(entry, &whole("application/json", &long()), 1000);
    let seen = scene.seen(CHUNKS.len() as u64 + 2);
    drop(app);
    seen
}

/// The same over HTTP/2, where a DATA frame ends within a secret.
fn http2(redact: &str) -> Vec<Seen> {
    let setting = Setting::new();
    let origin = H2Origin::start(setting.dir.path());
    let (old, new) = (setting.at.app.to_string(), origin.addr().to_string());
    let scene = Scene::start(setting.server(|text| text.replace(&old, &new)), redact);
    let bodies = [format!(r#"{{"filler":"{}","pin":"S3CR3T-across-frames"}}"#, "x".repeat(16_384 - 27)), long()];
    let requests = bodies.map(|body| {
        json!({"method": "POST", "path": "/open/2?session=S3CR3T-query", "authority": HOST, "body": body,
               "headers": [["content-type", "application/json"], ["x-internal", "S3CR3T-header"], ["x-debug", JWT]]})
    });
    for reply in h2_requests(scene.setting.at.entry, &requests) {
        assert_eq!(reply["status"], 200, "{reply}");
    }
    scene.seen(2)
}

fn long() -> String {
    serde_json::to_string(&vec![json!({"pin": LONG}); TIMES]).unwrap()
}

/// Sends in pieces, each a write of its own, and reads the answer.
fn say(to: SocketAddr, bytes: &[u8], piece: usize) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    bytes.chunks(piece).for_each(|part| stream.write_all(part).unwrap());
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// What one transport held.
struct Seen {
    tap: &'static str,
    /// As it left, in one.
    raw: Vec<u8>,
    /// Each direction of each synthetic connection, or each body.
    whole: Vec<Vec<u8>>,
}

impl Seen {
    fn holds_bodies(&self) -> bool {
        !RECORDS.contains(&self.tap)
    }

    fn shows(&self, text: &str) -> bool {
        times(&self.raw, text) + self.in_whole(text) > 0
    }

    fn in_whole(&self, text: &str) -> usize {
        self.whole.iter().map(|one| times(one, text)).sum()
    }

    fn assert_silent(&self) {
        assert!(!self.raw.is_empty(), "{} has nothing", self.tap);
        for secret in [NAMED, SHAPED[0], SHAPED[1]] {
            assert!(!self.shows(secret), "{secret} is in {}", self.tap);
        }
    }

    /// In segments some of a body's secrets are cut, and only what is put together again has all.
    fn assert_finds_what_segments_cut(&self) {
        assert_eq!(self.in_whole(LONG), TIMES, "{}", self.tap);
        if self.tap != "shadow" {
            assert!(times(&self.raw, LONG) < TIMES, "{}: no segment ends within a secret", self.tap);
        }
    }
}

fn times(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
}

const TAPS: [&str; 9] = ["datagrams", "dialled", "served", "secured", "files", "stdout", "lines", "syslog", "shadow"];
const RECORDS: [&str; 3] = ["stdout", "lines", "syslog"];

/// A pair with a tap of every kind, and a receiver for each.
struct Scene {
    setting: Setting,
    server: Sidecar,
    _client: Sidecar,
    datagrams: Heard,
    dialled: Heard,
    served: Heard,
    syslog: Heard,
    receiver: Receiver,
    received: Scratch,
    files: Scratch,
    shadow: Origin,
    /// Copied by each tap before the requests that count.
    before: BTreeMap<&'static str, u64>,
}

impl Scene {
    fn start(setting: Setting, redact: &str) -> Self {
        let (received, files) = (Scratch::new(), Scratch::new());
        let shadow = Origin::on(ports::local());
        let (datagrams, syslog) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (dialled, served, secured) = (TcpListener::bind("127.0.0.1:0").unwrap(), ports::local(), ports::local());
        let cert = setting.ca.issue("ids", "ids", "sensor");
        let sensors = [
            format!("vxlan://{}?vni=42", datagrams.local_addr().unwrap()),
            format!("pcap://{}", dialled.local_addr().unwrap()),
            format!("pcap-listen://{served}"),
            format!("pcap+mtls://{secured}?id=ids/sensor"),
            format!("pcapng://{}", files.path().display()),
            "json:stdout".to_owned(),
            format!("json://{}", setting.dir.join("records.json").display()),
            format!("syslog+udp://{}", syslog.local_addr().unwrap()),
            format!("shadow://{}", shadow.addr()),
        ];
        let taps = TAPS.iter().zip(sensors);
        let tables =
            taps.map(|(name, url)| format!("[[tap]]\nname = \"{name}\"\nto_sensor = \"{url}\"\n{PASS}{redact}\n"));
        let tables = tables.collect::<String>();
        let setting = setting.server(|text| format!("{}{RULE}\n{tables}", text.split("[[tap]]").next().unwrap()));
        let dir = setting.dir.path().to_owned();
        let ring = format!("ring:{}?size=64MiB&files=5", received.path().display());
        let receiver = Receiver::secured(&dir, secured, &cert, "shop/*", &[ring]);
        let (server, client) = (setting.start_server(), setting.start_client());
        let mut scene = Self {
            dialled: Heard::stream(dialled.accept().unwrap().0),
            served: Heard::stream(TcpStream::connect(served).unwrap()),
            datagrams: Heard::datagrams(datagrams),
            syslog: Heard::datagrams(syslog),
            before: BTreeMap::new(),
            server,
            _client: client,
            setting,
            receiver,
            received,
            files,
            shadow,
        };
        wait::until("every tap to be up", Duration::from_secs(60), || {
            wire::get(scene.setting.at.entry, HOST, "/refused").unwrap();
            TAPS.iter().all(|tap| *tap == "shadow" || scene.sum("mirrored", tap) > 0).then_some(())
        });
        scene.before = TAPS.map(|tap| (tap, scene.mirrored(tap, 0))).into();
        scene
    }

    fn sum(&self, name: &str, tap: &str) -> u64 {
        self.server.metrics().sum(&format!("sekisho_tap_{name}_total"), &[("tap", tap)]) as u64
    }

    /// Waits until this tap is at rest with at least so many exchanges copied.
    fn mirrored(&self, tap: &str, at_least: u64) -> u64 {
        wait::until(tap, Duration::from_secs(30), || {
            let [matched, mirrored, dropped, built, sent, errors] =
                ["matched", "mirrored", "dropped", "packets_built", "packets_sent", "send_errors"]
                    .map(|name| self.sum(name, tap));
            (mirrored >= at_least && matched == mirrored + dropped && built == sent + errors).then_some(mirrored)
        })
    }

    /// What every transport held once each has so many more exchanges.
    fn seen(mut self, exchanges: u64) -> Vec<Seen> {
        for tap in TAPS {
            assert_eq!(self.mirrored(tap, self.before[tap] + exchanges), self.before[tap] + exchanges, "{tap}");
        }
        self.server.terminate();
        self.server.ended(wait::SOON);
        self.receiver.end();
        let dir = self.setting.dir.path().to_owned();
        let stdout = self.server.child.stdout.lines();
        // The access log on the same stream masks by the default names alone.
        let stdout: Vec<_> = stdout.into_iter().filter(|line| line.contains("\"sekisho.tap/")).collect();
        let lines = std::fs::read(dir.join("records.json")).unwrap();
        let frames = |tap, raw: Vec<u8>, file: Vec<u8>| {
            let path = dir.join(format!("{tap}.pcap"));
            std::fs::write(&path, file).unwrap();
            Seen { tap, raw, whole: Copy::of_file(path, &dir).flows() }
        };
        let records = |tap, raw: Vec<u8>| Seen { tap, raw, whole: Vec::new() };
        let streams = [("dialled", self.dialled.all()), ("served", self.served.all())];
        let files = [("secured", only(&self.received)), ("files", only(&self.files))];
        let frames = streams.into_iter().chain(files).map(|(tap, raw)| frames(tap, raw.clone(), raw));
        let datagrams = {
            let all = self.datagrams.each();
            let now = std::time::SystemTime::now();
            let path = dir.join("datagrams.pcap");
            std::fs::write(&path, crate::sensor::pcap(all.iter().map(|one| (now, &one[8..])))).unwrap();
            Seen { tap: "datagrams", raw: all.concat(), whole: Copy::of_file(path, &dir).flows() }
        };
        let shadow = Seen {
            tap: "shadow",
            raw: self.shadow.bytes().concat(),
            whole: self.shadow.requests().into_iter().map(|request| request.body).collect(),
        };
        frames
            .chain([
                datagrams,
                records("stdout", stdout.concat().into_bytes()),
                records("lines", lines),
                records("syslog", self.syslog.all()),
                shadow,
            ])
            .collect()
    }
}

/// The one file of a folder.
fn only(dir: &Scratch) -> Vec<u8> {
    let files: Vec<_> = std::fs::read_dir(Path::new(dir.path())).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::read(&files[0]).unwrap()
}

/// What was said to a receiver, read by read.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Vec<u8>>>>);

impl Heard {
    fn stream(mut stream: TcpStream) -> Self {
        Self::by(move |buffer| stream.read(buffer))
    }

    fn datagrams(socket: UdpSocket) -> Self {
        Self::by(move |buffer| socket.recv(buffer))
    }

    fn by(mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize> + Send + 'static) -> Self {
        let heard = Self::default();
        let keeping = heard.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(count @ 1..) = read(&mut buffer) {
                keeping.0.lock().unwrap().push(buffer[..count].to_vec());
            }
        });
        heard
    }

    fn each(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    fn all(&self) -> Vec<u8> {
        self.each().concat()
    }
}
