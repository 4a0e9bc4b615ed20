//! Classes 45 to 52: applications that answer what is no answer. Each answer stands here with its bytes; what the client gets
//! is an error, a message that is seen to be cut, or one message with one reading, and the next client gets its own answer.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::catalogue::{Outcome, Table};
use support::envoy::Envoy;
use support::message::{self, Kind};
use support::pair::{HOST, Setting};
use support::pki::{Cert, spiffe};
use support::script::Scripted;
use support::{ports, tls};

/// Longer than the sidecars wait for an application, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(4);

/// What must become of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    /// The client never gets it as a whole message below 500.
    Refuse,
    /// The client may get one message, of which this is the body.
    Clean(&'static str),
}
use Must::{Clean, Refuse};

struct Case {
    class: u8,
    name: &'static str,
    bytes: Vec<u8>,
    must: Must,
}

#[test]
fn a_client_gets_one_answer_or_sees_that_it_has_none() {
    let cases: Arc<Vec<Case>> = Arc::new(cases());
    let deadlines = |text: String| text.replace("[proxy]\n", "[proxy]\nidle_timeout = \"2s\"\n");
    let rule = "\n[[inbound]]\nname = \"open\"\nfrom = \"shop/web\"\nrequests = [\"* /open/{rest...}\"]\n";
    let setting = Setting::new().client(deadlines).server(|text| deadlines(text) + rule);
    let (_app, behind_envoy) = (answering(setting.at.app, &cases), ports::local());
    let _other = answering(behind_envoy, &cases);
    let (_server, _client) = (setting.start_server(), setting.start_client());
    let envoy = Envoy::edge(setting.dir.path(), &setting.orders, &spiffe("shop", "web"), behind_envoy);
    let doors =
        [(setting.at.entry, None), (setting.at.inbound, Some(&setting.web)), (envoy.addr(), Some(&setting.web))];
    // At one door one after the other: a later client must not get what was left of an earlier one's answer.
    let [plain, mtls, envoy] = std::thread::scope(|scope| {
        let cases = &cases;
        doors
            .map(|(to, cert)| {
                scope.spawn(move || -> Vec<Outcome> {
                    cases.iter().enumerate().map(|(row, case)| judge(case, row, to, cert)).collect()
                })
            })
            .map(|thread| thread.join().unwrap())
    });
    let mut table = Table::new("http1-answers", 45..=52);
    for (((case, plain), mtls), envoy) in cases.iter().zip(plain).zip(mtls).zip(envoy) {
        let ours = if plain == mtls {
            plain
        } else {
            let how = format!("plain {plain}, mtls {mtls}");
            match (plain.is_safe() && mtls.is_safe(), case.must) {
                (false, _) => Outcome::Passed(how),
                (true, Refuse) => Outcome::Refused(how),
                (true, Clean(_)) => Outcome::Cleaned(how),
            }
        };
        table.row(case.class, case.name, ours, Some(envoy));
    }
    table.judge(&(45..=52).collect::<Vec<u8>>());
}

/// An application that answers `/open/row/N` with the bytes of that row and closes, and everything else with its target.
fn answering(at: SocketAddr, cases: &Arc<Vec<Case>>) -> Scripted {
    let cases = Arc::clone(cases);
    Scripted::on(at, move |line| {
        while let Some(head) = line.head()? {
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            match target.strip_prefix("/open/row/").and_then(|row| row.parse::<usize>().ok()) {
                Some(row) => {
                    line.send(&cases[row].bytes)?;
                    // What is cut ends here; after a whole answer the connection could be used again.
                    if cases[row].class == 52 {
                        return Ok(());
                    }
                }
                None => line.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}", target.len()))?,
            }
        }
        Ok(())
    })
}

fn judge(case: &Case, row: usize, to: SocketAddr, cert: Option<&Cert>) -> Outcome {
    let (received, closed) = ask(to, cert, &format!("/open/row/{row}"));
    let (after, _) = ask(to, cert, &format!("/open/after/{row}"));
    let mut rest = &received[..];
    let mut whole = Vec::new();
    while let Ok(Some(message)) = message::read(&mut rest, Kind::Response) {
        whole.push(message);
    }
    let finals: Vec<_> = whole.iter().filter(|message| message.status() >= 200).collect();
    let own = message::read(&mut &after[..], Kind::Response).ok().flatten();
    if own.as_ref().is_none_or(|own| own.text() != format!("/open/after/{row}") && own.status() < 500) {
        return Outcome::Passed(format!("the next client got {:?}", own.map(|own| own.start)));
    }
    let head = received.windows(4).position(|end| end == b"\r\n\r\n").map_or(&received[..], |end| &received[..end]);
    let lines = String::from_utf8_lossy(head).replace("\r\n", "");
    if let Some(odd) = lines.chars().find(|c| c.is_control() && *c != '\t') {
        return Outcome::Passed(format!("the client got {odd:?}"));
    }
    match (&finals[..], case.must) {
        ([], _) if closed => Outcome::Refused("cut".into()),
        ([], _) => Outcome::Passed("held open".into()),
        ([one], _) if one.status() >= 500 => Outcome::Refused(one.status().to_string()),
        ([one], Clean(body)) if one.text() == body => Outcome::Cleaned(one.status().to_string()),
        ([one], _) => Outcome::Passed(format!("{} with {} bytes", one.status(), one.body.len())),
        (more, _) => Outcome::Passed(format!("{} answers", more.len())),
    }
}

/// Everything that comes for one request on a connection of its own, and whether it was closed.
fn ask(to: SocketAddr, cert: Option<&Cert>, target: &str) -> (Vec<u8>, bool) {
    let head = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    match cert {
        None => {
            let stream = std::net::TcpStream::connect(to).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            read(stream, &head)
        }
        Some(cert) => {
            let stream = tls::connect(to, Some(cert), &["http/1.1"]).unwrap();
            stream.sock.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            read(stream, &head)
        }
    }
}

fn read(mut stream: impl Read + Write, head: &str) -> (Vec<u8>, bool) {
    let started = Instant::now();
    stream.write_all(head.as_bytes()).and_then(|()| stream.flush()).unwrap();
    let mut received = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (received, true),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let mut rest = &received[..];
                let mut answered = false;
                while let Ok(Some(message)) = message::read(&mut rest, Kind::Response) {
                    answered |= message.status() >= 200;
                }
                if answered || started.elapsed() > PATIENCE {
                    return (received, false);
                }
            }
            Err(_) => return (received, true),
        }
    }
}

fn cases() -> Vec<Case> {
    const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let answers: [(u8, &'static str, Must, &str); 49] = [
        (
            45,
            "a length and chunks",
            Refuse,
            "200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            45,
            "chunks and a length",
            Refuse,
            "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (45, "two lengths", Refuse, "200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        (45, "the same length twice", Clean("hello"), "200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        (45, "a list of lengths", Refuse, "200 OK\r\nContent-Length: 5, 6\r\n\r\nhello"),
        (45, "+5", Refuse, "200 OK\r\nContent-Length: +5\r\n\r\nhello"),
        (45, "0x5", Refuse, "200 OK\r\nContent-Length: 0x5\r\n\r\nhello"),
        (45, "no length in the field", Refuse, "200 OK\r\nContent-Length:\r\n\r\nhello"),
        (45, "2^64 + 5", Refuse, "200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
        (45, "gzip for a coding", Refuse, "200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
        (45, "chunked twice", Refuse, "200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (
            45,
            "chunked in HTTP/1.0",
            Refuse,
            "!HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (45, "a chunk of 0x5", Refuse, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"),
        (45, "a chunk of -5", Refuse, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"),
        (
            45,
            "a chunk of 2^64 + 5",
            Refuse,
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        (45, "LF after a chunk size", Refuse, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
        (45, "LF after a chunk", Refuse, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"),
        (
            45,
            "a chunk longer than said",
            Refuse,
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        ),
        (46, "NUL in a value", Refuse, "200 OK\r\nX-A: a\0b\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "CR in a value", Refuse, "200 OK\r\nX-A: a\rb\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "ESC in a value", Refuse, "200 OK\r\nX-A: a\u{1b}b\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "NUL in the reason", Refuse, "200 O\0K\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "an empty name", Refuse, "200 OK\r\n: a\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "a space before the colon", Refuse, "200 OK\r\nX-A : a\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "status 000", Refuse, "000 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "status 099", Refuse, "099 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "status 600", Refuse, "600 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "status 9999", Refuse, "9999 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "status 2x0", Refuse, "2x0 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "status -200", Refuse, "-200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (46, "no version", Refuse, "!hello, who is there?\r\n\r\n"),
        (46, "HTTP/2.0", Refuse, "!HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (47, "an answer behind a body with a length", Clean("hello"), "200 OK\r\nContent-Length: 5\r\n\r\nhello@P@"),
        (
            47,
            "an answer behind chunks",
            Clean("hello"),
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n@P@",
        ),
        (47, "an answer behind one without a body", Clean(""), "200 OK\r\nContent-Length: 0\r\n\r\n@P@"),
        (47, "noise behind a body", Clean("hello"), "200 OK\r\nContent-Length: 5\r\n\r\nhello\0\0\0\0"),
        (47, "half an answer behind a body", Clean("hello"), "200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 O"),
        (49, "101, not asked for", Refuse, "101 Switching Protocols\r\n\r\n"),
        (
            49,
            "101 to a socket, not asked for",
            Refuse,
            "101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n@P@",
        ),
        (50, "204 with a length and a body", Clean(""), "204 No Content\r\nContent-Length: 51\r\n\r\n@P@"),
        (
            50,
            "204 with chunks",
            Clean(""),
            "204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (50, "304 with a length and a body", Clean(""), "304 Not Modified\r\nContent-Length: 51\r\n\r\n@P@"),
        (50, "304 with an answer behind it", Clean(""), "304 Not Modified\r\n\r\n@P@"),
        (52, "in a body with a length", Refuse, "200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        (52, "in a chunk", Refuse, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello"),
        (52, "before the last chunk", Refuse, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        (52, "before the last line", Refuse, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
        (52, "in the head", Refuse, "200 OK\r\nContent-Le"),
        (52, "in the trailers", Refuse, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b"),
    ];
    let mut cases: Vec<Case> = answers
        .into_iter()
        .map(|(class, name, must, text)| {
            let text = text.replace("@P@", POISON);
            let whole = text.strip_prefix('!').map_or_else(|| format!("HTTP/1.1 {text}"), str::to_owned);
            Case { class, name, bytes: whole.into_bytes(), must }
        })
        .collect();
    let large = |class, name, begin: &str, more: String| {
        let bytes = format!("HTTP/1.1 {begin}{more}Content-Length: 5\r\n\r\nhello").into_bytes();
        // Hints may be passed on as they come; fields have to be gathered.
        Case { class, name, bytes, must: if class == 48 { Clean("hello") } else { Refuse } }
    };
    let hints = "103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 ".repeat(20_000) + "200 OK\r\n";
    cases.push(large(48, "20,000 early hints", "", hints));
    let kilobyte = format!("X-A: {}\r\n", "a".repeat(1000));
    cases.push(large(51, "2 MB of fields", "200 OK\r\n", kilobyte.repeat(2000)));
    cases.push(large(51, "a field of 2 MB", "200 OK\r\n", format!("X-A: {}\r\n", "a".repeat(2_000_000))));
    cases.push(large(51, "20,000 fields", "200 OK\r\n", "X-A: a\r\n".repeat(20_000)));
    cases
}
