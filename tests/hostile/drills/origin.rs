//! Class 104: an application that fails, at every step of an exchange and in every way: it refuses, stays silent, closes,
//! resets, or closes one way only. A caller sees an error or a message that is seen to be cut, never a whole one that is not
//! whole; afterwards nothing is left of it, and the next request is served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::catalogue::{Outcome, Table};
use support::message::{self, Kind};
use support::pair::{HOST, Setting};
use support::pki::Cert;
use support::script::{Line, Scripted};
use support::wire::QUIET;
use support::{rest, tls, wait, wire};

/// How the application ends what it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// FIN both ways.
    Close,
    /// RST.
    Reset,
    /// FIN its own way; it goes on reading.
    Half,
    /// Nothing more, and the connection stays open.
    Silence,
}
use End::{Close, Half, Reset, Silence};

/// What the application does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// Whether the request's head is read before.
    reads: bool,
    /// What is sent.
    sends: &'static str,
    end: End,
    /// Whether a caller gets the whole of it all the same.
    pub(crate) whole: bool,
}

const CUT: Fault = Fault { name: "", reads: true, sends: "", end: Close, whole: false };
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
const HALF_BODY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234";
const HALF_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-le";
const HALF_CHUNK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n01234";
const CHUNK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n";
const TRAILERS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\nx-sum: 1\r\n";
const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n01234";
const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\n01234";

/// Every step, every way to fail. The last one is an application that is not there: it has no script.
pub(crate) const FAULTS: &[Fault] = &[
    Fault { name: "accepts and closes", reads: false, ..CUT },
    Fault { name: "accepts and resets", reads: false, end: Reset, ..CUT },
    Fault { name: "accepts, ends its way, reads on", reads: false, end: Half, ..CUT },
    Fault { name: "accepts and says nothing", reads: false, end: Silence, ..CUT },
    Fault { name: "closes after the request's head", ..CUT },
    Fault { name: "resets after the request's head", end: Reset, ..CUT },
    Fault { name: "ends its way after the request's head", end: Half, ..CUT },
    Fault { name: "says nothing after the request's head", end: Silence, ..CUT },
    Fault { name: "closes in its head", sends: HALF_HEAD, ..CUT },
    Fault { name: "resets in its head", sends: HALF_HEAD, end: Reset, ..CUT },
    Fault { name: "ends its way in its head", sends: HALF_HEAD, end: Half, ..CUT },
    Fault { name: "says nothing more in its head", sends: HALF_HEAD, end: Silence, ..CUT },
    Fault { name: "closes after an interim answer", sends: INTERIM, ..CUT },
    Fault { name: "says nothing more after an interim answer", sends: INTERIM, end: Silence, ..CUT },
    Fault { name: "closes after its head", sends: HEAD, ..CUT },
    Fault { name: "resets after its head", sends: HEAD, end: Reset, ..CUT },
    Fault { name: "says nothing more after its head", sends: HEAD, end: Silence, ..CUT },
    Fault { name: "closes in a body with a length", sends: HALF_BODY, ..CUT },
    Fault { name: "resets in a body with a length", sends: HALF_BODY, end: Reset, ..CUT },
    Fault { name: "ends its way in a body with a length", sends: HALF_BODY, end: Half, ..CUT },
    Fault { name: "says nothing more in a body with a length", sends: HALF_BODY, end: Silence, ..CUT },
    Fault { name: "closes in a chunk", sends: HALF_CHUNK, ..CUT },
    Fault { name: "resets in a chunk", sends: HALF_CHUNK, end: Reset, ..CUT },
    Fault { name: "closes between chunks", sends: CHUNK, ..CUT },
    Fault { name: "resets between chunks", sends: CHUNK, end: Reset, ..CUT },
    Fault { name: "ends its way between chunks", sends: CHUNK, end: Half, ..CUT },
    Fault { name: "says nothing more between chunks", sends: CHUNK, end: Silence, ..CUT },
    Fault { name: "closes in its trailers", sends: TRAILERS, ..CUT },
    Fault { name: "resets in its trailers", sends: TRAILERS, end: Reset, ..CUT },
    Fault { name: "resets a body that ends with its connection", sends: UNTIL_CLOSE, end: Reset, ..CUT },
    Fault {
        name: "says nothing more in a body that ends with its connection",
        sends: UNTIL_CLOSE,
        end: Silence,
        ..CUT
    },
    Fault { name: "ends its way after a whole answer", sends: WHOLE, end: Half, whole: true, ..CUT },
    Fault { name: "ends its way after a body that ends with that", sends: UNTIL_CLOSE, end: Half, whole: true, ..CUT },
    Fault { name: "refuses connections", ..CUT },
];

/// Those of them in which the application is stuck, and the connection stays open.
pub(crate) fn stuck() -> impl Iterator<Item = (usize, &'static Fault)> {
    FAULTS.iter().enumerate().filter(|(_, fault)| fault.end == Silence)
}

/// The application: it fails as it was told last, and answers 200 while it was told nothing.
pub(crate) struct Failing {
    told: Arc<AtomicUsize>,
    app: Option<Scripted>,
    at: SocketAddr,
}

impl Failing {
    pub(crate) fn on(at: SocketAddr) -> Self {
        let told = Arc::new(AtomicUsize::new(usize::MAX));
        let reading = Arc::clone(&told);
        let app = Scripted::on(at, move |line| match FAULTS.get(reading.load(Ordering::SeqCst)) {
            Some(fault) => fault.act(line),
            None => {
                // A kept connection would not meet the next fault.
                line.request()?;
                line.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nwell")
            }
        });
        Self { told, app: Some(app), at }
    }

    /// From now on each new connection meets this fault. The last one is that nobody listens.
    pub(crate) fn tell(&mut self, fault: usize) {
        self.told.store(fault, Ordering::SeqCst);
        if fault + 1 == FAULTS.len() {
            self.app = None;
            let gone = || std::net::TcpStream::connect(self.at).is_err().then_some(());
            wait::until("the application to be gone", wait::SOON, gone);
        }
    }

    /// The application is well again; it was started anew if it was gone.
    pub(crate) fn heal(&mut self) {
        if self.app.is_none() {
            *self = Self::on(self.at);
        }
        self.told.store(usize::MAX, Ordering::SeqCst);
    }
}

impl Fault {
    fn act(&self, line: &mut Line<'_>) -> io::Result<()> {
        if self.reads && line.head()?.is_none() {
            return Ok(());
        }
        line.send(self.sends)?;
        match self.end {
            Close => {}
            // What was sent must have been read before the reset throws it away.
            Reset => {
                if !self.sends.is_empty() {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                line.reset();
            }
            Half => {
                line.finish()?;
                line.until_closed();
            }
            Silence => line.until_closed(),
        }
        Ok(())
    }
}

/// The pair before a failing application whose requests may take a second.
pub(crate) fn setting() -> Setting {
    super::setting().server(|text| text.replace("[app]\n", "[app]\ntimeout = \"1s\"\n"))
}

/// What the caller's bytes say, read as HTTP/1.
fn judge(fault: &Fault, received: &[u8], end: wire::End) -> Outcome {
    if end == wire::End::Quiet {
        return Outcome::Passed("held open".into());
    }
    let mut rest = received;
    loop {
        return match message::read(&mut rest, Kind::Response) {
            Ok(Some(answer)) if answer.status() < 200 => continue,
            Ok(Some(answer)) => judged(fault, answer.status(), answer.body.len()),
            Ok(None) | Err(_) if fault.whole => Outcome::Passed("cut, and the application was not".into()),
            Ok(None) | Err(_) => Outcome::Refused("cut".into()),
        };
    }
}

/// What a whole answer makes of a fault.
pub(crate) fn judged(fault: &Fault, status: u16, body: usize) -> Outcome {
    match (status, fault.whole) {
        (200, true) if body == 5 => Outcome::Cleaned("200".into()),
        (500.., false) => Outcome::Refused(status.to_string()),
        _ => Outcome::Passed(format!("{status} with {body} bytes")),
    }
}

#[test]
fn no_failure_of_an_application_looks_like_an_answer_and_none_is_left() {
    let setting = setting();
    let mut app = Failing::on(setting.at.app);
    let (server, client) = (setting.start_server(), setting.start_client());
    let bases = [&server, &client].map(rest::base);
    let mut table = Table::new("origin-faults-http1", 104..=104);
    let doors = [(setting.at.entry, None), (setting.at.inbound, Some(&setting.web))];
    // A body that must wait for the application, and one that need not.
    let requests = [
        format!("GET /open/a HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"),
        format!("POST /open/a HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n")
            + &"b".repeat(200_000),
    ];
    for (number, fault) in FAULTS.iter().enumerate() {
        app.tell(number);
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let asked: Vec<_> = doors
                .iter()
                .flat_map(|door| requests.iter().map(move |request| (door, request)))
                .map(|((to, cert), request)| {
                    scope.spawn(move || {
                        let (received, end) = exchange(*to, *cert, request.as_bytes());
                        judge(fault, &received, end)
                    })
                })
                .collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        table.row(104, fault.name, worst(&outcomes), None);
        app.heal();
        for (to, cert) in doors {
            let (received, _) = exchange(to, cert, requests[0].as_bytes());
            assert!(received.starts_with(b"HTTP/1.1 200"), "{}: {}", fault.name, received.escape_ascii());
        }
    }
    table.judge(&[104]);
    for (sidecar, base) in [&server, &client].into_iter().zip(bases) {
        rest::returned(sidecar, base);
    }
}

/// The words of all outcomes, under the worst of them.
pub(crate) fn worst(outcomes: &[Outcome]) -> Outcome {
    let mut words: Vec<String> = outcomes.iter().map(ToString::to_string).collect();
    words.dedup();
    if outcomes.iter().any(|outcome| !outcome.is_safe()) {
        return Outcome::Passed(words.join("; "));
    }
    match outcomes {
        [Outcome::Cleaned(how), ..] => Outcome::Cleaned(how.clone()),
        _ => Outcome::Refused(words.join(", ").replace("refused: ", "")),
    }
}

/// Everything that comes for these bytes on a connection of their own.
fn exchange(to: SocketAddr, cert: Option<&Cert>, bytes: &[u8]) -> (Vec<u8>, wire::End) {
    use std::io::{Read, Write};
    let Some(cert) = cert else {
        let mut connection = wire::Connection::open(to).unwrap();
        // Whoever refuses a body may close before it has all been sent.
        let _ = connection.send(bytes);
        return connection.rest();
    };
    let mut stream = tls::connect(to, Some(cert), &["http/1.1"]).unwrap();
    stream.sock.set_write_timeout(Some(QUIET)).unwrap();
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    let mut received = Vec::new();
    let end = match stream.read_to_end(&mut received) {
        Ok(_) => wire::End::Closed,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => wire::End::Quiet,
        Err(_) => wire::End::Reset,
    };
    (received, end)
}
