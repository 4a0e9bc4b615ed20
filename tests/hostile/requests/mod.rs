//! Requests of the catalogue as bytes: through both doors of a pair, and through a hardened Envoy.
//!
//! Every case goes out on a connection of its own: to the caller's sidecar in plain text, to the callee's port over mutual
//! TLS, and to an Envoy in the callee's place. Each carries a tag of its own, by which what an application received is told
//! apart, so that cases run side by side. The applications ask for a new connection for each request: whatever follows a
//! request on its connection was never asked for.

mod case;
mod framing;
mod host;
mod policy;
mod reach;
mod syntax;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::catalogue::{Outcome, Table};
use support::envoy::Envoy;
use support::message::{self, Kind};
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::pki::{Cert, spiffe};
use support::strict::{self, Reading, Seen};
use support::wire::{self, End};
use support::{ports, tls, wait};

/// What must become of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    /// No application may get a whole request of it.
    Refuse,
    /// An application may get it once, as something that has one reading.
    Clean,
    /// It is legal, and an application gets it once: without such cases a proxy that refuses everything would pass.
    Arrive,
}

/// What is wrong with a request that an application got, if anything.
type Check = fn(&Seen) -> Option<String>;

/// One row: bytes, and what must become of them.
struct Case {
    class: u8,
    name: String,
    bytes: Vec<u8>,
    must: Must,
    /// The sender closes its side once it has written.
    half_close: bool,
    check: Option<Check>,
}

/// A case whose bytes are written out. In them `@R@` is the row's tag, `@H@` the host, and `@S@` a whole second request that
/// nobody may be served.
fn case(class: u8, must: Must, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Case {
    Case { class, name: name.into(), bytes: bytes.as_ref().to_vec(), must, half_close: false, check: None }
}

impl Case {
    fn half_close(mut self) -> Self {
        self.half_close = true;
        self
    }

    fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    fn bytes(&self, tag: &str) -> Vec<u8> {
        let smuggled = format!("GET /open/smuggled/{tag} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let bytes = replaced(&self.bytes, b"@S@", smuggled.as_bytes());
        replaced(&replaced(&bytes, b"@R@", tag.as_bytes()), b"@H@", HOST.as_bytes())
    }
}

/// `GET` of a target, with nothing special about it.
fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: @H@\r\nX-Row: @R@\r\n\r\n")
}

/// A row with this line among its fields, and a chunked body of nothing with a request behind it.
fn chunked_with(line: &[u8]) -> Vec<u8> {
    [&b"POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\n"[..], line, b"\r\n\r\n0\r\n\r\n@S@"].concat()
}

/// A chunked request with this for a body.
fn chunks(body: &[u8]) -> Vec<u8> {
    [&b"POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\nTransfer-Encoding: chunked\r\n\r\n"[..], body].concat()
}

/// A bodiless request with this line among its fields.
fn with_line(line: &[u8]) -> Vec<u8> {
    [&b"GET /open/@R@ HTTP/1.1\r\nHost: @H@\r\n"[..], line, b"\r\n\r\n"].concat()
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        match rest.strip_prefix(from) {
            Some(after) => {
                out.extend_from_slice(to);
                rest = after;
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// Where bytes go in.
struct Door<'a> {
    letter: char,
    to: SocketAddr,
    cert: Option<&'a Cert>,
}

/// A pair and an Envoy, each before an application that writes down every byte.
struct Bench {
    pair: Pair,
    envoy: Envoy,
    behind_envoy: Origin,
}

/// The rules of both: everything below `/open` for the caller, except `/open/admin`, the gRPC method `open/Forbidden` and the
/// host `private.shop.svc`.
const RULES: &str = r#"
[[inbound]]
name = "open"
from = "shop/web"
requests = ["* /open/{rest...}"]

[[inbound]]
name = "sockets"
from = "shop/web"
requests = ["GET /open/socket/{rest...}"]
upgrade = ["websocket"]

[[inbound]]
name = "no-admin"
action = "deny"
from = "anyone"
requests = ["* /open/admin/{rest...}"]

[[inbound]]
name = "no-forbidden-call"
action = "deny"
from = "anyone"
grpc = ["open/Forbidden"]

[[inbound]]
name = "no-private-host"
action = "deny"
from = "anyone"
hosts = ["private.shop.svc"]
"#;

/// The caller may ask for a socket; whether it gets one is for the callee to say.
const SOCKETS_OUT: &str = "\n[[outbound]]\nname = \"sockets\"\nto = \"shop/orders\"\nupgrade = [\"websocket\"]\n";

/// The application reads HTTP/1.1, whatever the request came in.
const APP: &str = "[app]\nprotocol = \"http1\"\n";

/// Deadlines of both: short, so that what waits for more is seen to end.
const DEADLINES: &str = "[proxy]\nhead_timeout = \"1s\"\nidle_timeout = \"2s\"\ndetect_timeout = \"1s\"\ndownstream_idle_timeout = \"2s\"\n";
/// Longer than any of them, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(12);
/// After an answer, how long nothing must come before it counts as the last.
const AFTER_ANSWER: Duration = Duration::from_millis(200);

/// A pair with these rules for the callee, and with [`DEADLINES`].
fn sidecars(rules: &str) -> Pair {
    let deadlines = |text: String| text.replace("[proxy]\n", DEADLINES);
    let setting = Setting::new()
        .client(|text| deadlines(text) + SOCKETS_OUT)
        .server(|text| deadlines(support::pair::without_rules(&text)).replace("[app]\n", APP) + rules);
    let origin = recording(setting.at.app);
    setting.start_with(origin)
}

impl Bench {
    fn start() -> Self {
        let pair = sidecars(RULES);
        let setting = &pair.setting;
        let behind_envoy = recording(ports::local());
        let caller = spiffe("shop", "web");
        let envoy = Envoy::edge(setting.dir.path(), &setting.orders, &caller, behind_envoy.addr());
        Self { pair, envoy, behind_envoy }
    }

    /// Sends every case through every door, and says what became of each: ours, then Envoy's.
    fn run(&self, cases: &[Case]) -> Vec<(Outcome, Outcome)> {
        let setting = &self.pair.setting;
        let doors = [
            Door { letter: 'p', to: setting.at.entry, cert: None },
            Door { letter: 'm', to: setting.at.inbound, cert: Some(&setting.web) },
            Door { letter: 'e', to: self.envoy.addr(), cert: Some(&setting.web) },
        ];
        let answers: Mutex<HashMap<(usize, char), Answer>> = Mutex::default();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        let Some(case) = cases.get(number / doors.len()) else { return };
                        let door = &doors[number % doors.len()];
                        let row = number / doors.len();
                        let answer = door.send(&case.bytes(&tag(row, door.letter)), case.half_close);
                        answers.lock().unwrap().insert((row, door.letter), answer);
                    }
                });
            }
        });
        let answers = answers.into_inner().unwrap();
        let ours = readings(&self.pair.origin);
        let theirs = readings(&self.behind_envoy);
        let none = Vec::new();
        let judged = |row: usize, letter: char| {
            let all = if letter == 'e' { &theirs } else { &ours };
            let got = all.get(&tag(row, letter)).unwrap_or(&none);
            judge(&cases[row], &answers[&(row, letter)], got)
        };
        (0..cases.len()).map(|row| (both(judged(row, 'p'), judged(row, 'm')), judged(row, 'e'))).collect()
    }

    /// Runs the cases into a table; a legal case that we refuse fails at once.
    fn fill(&self, table: &mut Table, cases: &[Case]) {
        let mut refused = Vec::new();
        for (case, (ours, envoy)) in cases.iter().zip(self.run(cases)) {
            if case.must == Must::Arrive && matches!(ours, Outcome::Refused(_)) {
                refused.push(format!("class {}, {}: {ours}", case.class, case.name));
            }
            table.row(case.class, case.name.clone(), ours, Some(envoy));
        }
        if !refused.is_empty() {
            panic!("{table}\nlegal, and refused: {refused:#?}");
        }
    }
}

fn recording(at: SocketAddr) -> Origin {
    Origin::with(at, |_| Reply::text("served").with_header("connection", "close"))
}

fn tag(row: usize, door: char) -> String {
    format!("r{row:04}{door}")
}

/// Every tag in some bytes.
fn tags(bytes: &[u8]) -> Vec<String> {
    let is_tag = |text: &&[u8]| {
        text[0] == b'r' && text[1..5].iter().all(u8::is_ascii_digit) && matches!(text[5], b'p' | b'm' | b'e')
    };
    let mut found: Vec<String> =
        bytes.windows(6).filter(is_tag).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    found.sort();
    found.dedup();
    found
}

/// What an application received on each connection, once nothing more comes.
fn received(origin: &Origin) -> Vec<Vec<u8>> {
    let count = || origin.bytes().iter().map(Vec::len).sum::<usize>();
    let (mut before, mut since) = (count(), Instant::now());
    wait::until("the application to have got everything", wait::SOON, || {
        let now = count();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(500)).then(|| origin.bytes())
    })
}

/// The same, read, by tag.
fn readings(origin: &Origin) -> HashMap<String, Vec<Reading>> {
    let all = received(origin);
    let mut readings: HashMap<String, Vec<Reading>> = HashMap::new();
    for bytes in all.iter().filter(|bytes| !bytes.is_empty()) {
        let reading = strict::read(bytes);
        let tags = tags(bytes);
        assert!(!tags.is_empty(), "nobody asked for {:?}", String::from_utf8_lossy(bytes));
        for tag in tags {
            readings.entry(tag).or_default().push(reading.clone());
        }
    }
    readings
}

/// What the sender saw.
struct Answer {
    statuses: Vec<u16>,
    says_grpc: bool,
    end: End,
}

impl Answer {
    fn read(received: &[u8], end: End) -> Self {
        let mut answer = Self { statuses: Vec::new(), says_grpc: false, end };
        let mut rest = received;
        while let Ok(Some(message)) = message::read(&mut rest, Kind::Response) {
            answer.statuses.push(message.status());
            answer.says_grpc |= message.header("grpc-status").is_some();
        }
        answer
    }

    fn is_final(&self) -> bool {
        self.statuses.iter().any(|status| *status >= 200)
    }

    fn how(&self) -> String {
        let statuses: Vec<String> = self.statuses.iter().map(ToString::to_string).collect();
        match (self.end, statuses.is_empty()) {
            (End::Closed | End::Reset, true) => "closed".into(),
            (End::Refused, _) => "nobody there".into(),
            (End::Quiet, true) => "held open".into(),
            _ => statuses.join(", "),
        }
    }
}

impl Door<'_> {
    /// Sends the bytes over HTTP/1.1 and reads until the other end closes, or has answered and says no more.
    fn send(&self, bytes: &[u8], half_close: bool) -> Answer {
        self.send_as(bytes, &["http/1.1"], half_close)
    }

    /// The same with other protocols offered.
    fn send_as(&self, bytes: &[u8], alpn: &[&str], half_close: bool) -> Answer {
        let Ok(mut line) = Line::open(self, alpn) else { return Answer::read(b"", End::Refused) };
        // The other end may answer and close before it has read everything.
        let _ = line.write_all(bytes).and_then(|()| line.flush());
        if half_close {
            line.finish();
        }
        let started = Instant::now();
        let mut received = Vec::new();
        let mut buffer = vec![0; 65536];
        loop {
            match line.read(&mut buffer) {
                Ok(0) => return Answer::read(&received, End::Closed),
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    let answer = Answer::read(&received, End::Quiet);
                    if answer.is_final() || started.elapsed() > PATIENCE {
                        return answer;
                    }
                }
                // TLS without a farewell.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Answer::read(&received, End::Closed);
                }
                Err(_) => return Answer::read(&received, End::Reset),
            }
        }
    }
}

/// A connection through a door.
enum Line {
    Plain(TcpStream),
    Tls(Box<tls::Stream>),
}

impl Line {
    fn open(door: &Door<'_>, alpn: &[&str]) -> io::Result<Self> {
        let line = match door.cert {
            None => {
                let stream = TcpStream::connect_timeout(&door.to, wire::QUIET)?;
                stream.set_nodelay(true)?;
                Self::Plain(stream)
            }
            Some(cert) => Self::Tls(Box::new(tls::connect(door.to, Some(cert), alpn)?)),
        };
        line.socket().set_read_timeout(Some(AFTER_ANSWER))?;
        line.socket().set_write_timeout(Some(PATIENCE))?;
        Ok(line)
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Says that nothing more will come.
    fn finish(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// What became of a case at one door.
fn judge(case: &Case, answer: &Answer, got: &[Reading]) -> Outcome {
    let how = answer.how();
    if let Some(complaint) = got.iter().find_map(|reading| reading.complaint.as_ref()) {
        return Outcome::Passed(format!("{how}; the application got {complaint}"));
    }
    let whole: Vec<&Seen> = got.iter().flat_map(|reading| &reading.requests).collect();
    if whole.iter().any(|seen| seen.target.contains("/smuggled/")) {
        return Outcome::Passed(format!("{how}; a smuggled request"));
    }
    if let Some(seen) = whole.iter().find(|seen| !reach::stays_open(&seen.target)) {
        return Outcome::Passed(format!("{how}; the application got {}", seen.target));
    }
    match whole[..] {
        // Nobody stands behind this answer.
        // A refused call is answered in gRPC's own words: 200 and a grpc-status.
        [] if answer.statuses == [200] && answer.says_grpc => Outcome::Refused("gRPC status".into()),
        [] if answer.statuses.iter().any(|status| (200..300).contains(status)) => {
            Outcome::Passed(format!("{how}; from nowhere"))
        }
        [] if matches!(answer.end, End::Refused) || how == "held open" => Outcome::Passed(how),
        [] => Outcome::Refused(how),
        [seen] if case.must == Must::Refuse => Outcome::Passed(format!("{how}; {} {}", seen.method, seen.target)),
        [seen] => match case.check.and_then(|check| check(seen)) {
            Some(wrong) => Outcome::Passed(format!("{how}; {wrong}")),
            None => Outcome::Cleaned(how),
        },
        _ => Outcome::Passed(format!("{how}; {} requests", whole.len())),
    }
}

/// One outcome of the two doors: the worse one, with both words where they differ.
fn both(plain: Outcome, mtls: Outcome) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Refused(_) => 0,
        Outcome::Cleaned(_) => 1,
        Outcome::Passed(_) => 2,
    };
    let word = |outcome: &Outcome| match outcome {
        Outcome::Refused(how) | Outcome::Cleaned(how) | Outcome::Passed(how) => how.clone(),
    };
    let (a, b) = (word(&plain), word(&mtls));
    let how = if a == b { a } else { format!("plain {a}, mtls {b}") };
    match rank(&plain).max(rank(&mtls)) {
        0 => Outcome::Refused(how),
        1 => Outcome::Cleaned(how),
        _ => Outcome::Passed(how),
    }
}

/// The values of a field.
fn values<'a>(seen: &'a Seen, name: &str) -> Vec<&'a str> {
    let same = |key: &str| key.eq_ignore_ascii_case(name);
    seen.fields.iter().filter(|(key, _)| same(key)).map(|(_, value)| value.as_str()).collect()
}

/// That the host is the one the tests ask for, whatever its case: names are compared without regard to it.
fn same_host(seen: &Seen) -> Option<String> {
    let hosts = values(seen, "host");
    (!matches!(hosts[..], [host] if host.eq_ignore_ascii_case(HOST))).then(|| format!("host {hosts:?}"))
}

/// That the host is the one the tests ask for, letter by letter.
fn plain_host(seen: &Seen) -> Option<String> {
    (values(seen, "host") != [HOST]).then(|| format!("host {:?}", values(seen, "host")))
}
