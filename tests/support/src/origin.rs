//! The application behind a sidecar, as a thread that writes down everything it is sent.
//!
//! It speaks HTTP/1.1 with kept connections, reads chunked bodies with trailers, and answers as the test says. It keeps
//! the number of connections, their raw bytes, and every request as read.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::message::{self, Kind, Message};
use crate::{ports, wait};

type Answer = dyn Fn(&Message) -> Reply + Send + Sync;

/// A recording application. Its port is closed when it is dropped.
pub struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Box<Answer>,
    /// Whether it writes down what it is sent.
    records: bool,
    stopped: AtomicBool,
    connections: AtomicUsize,
    requests: Mutex<Vec<Message>>,
    /// What came on each connection.
    bytes: Mutex<Vec<Vec<u8>>>,
}

/// What the application answers.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Further header fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// When set, the body goes out chunked and these trailers follow it.
    pub trailers: Option<Vec<(String, String)>>,
    /// Bytes of a chunk, when it is chunked.
    pub chunk: usize,
    /// How long to think before the answer.
    pub delay: Duration,
}

impl Reply {
    /// 200 with a text.
    pub fn text(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), trailers: None, chunk: 4096, delay: Duration::ZERO }
    }

    /// The same, chunked, with one trailer field.
    #[must_use]
    pub fn with_trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.get_or_insert_default().push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, in chunks of so many bytes.
    #[must_use]
    pub fn in_chunks(mut self, bytes: usize) -> Self {
        self.trailers.get_or_insert_default();
        self.chunk = bytes;
        self
    }

    /// The same, with one more header field.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, after a pause.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn write(&self, head: bool, to: &mut impl Write) -> io::Result<()> {
        let mut out = format!("HTTP/1.1 {} Said\r\nserver: recording-origin\r\n", self.status).into_bytes();
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            out.extend_from_slice(b"content-type: text/plain\r\n");
        }
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        match &self.trailers {
            None => {
                out.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
                if !head {
                    out.extend_from_slice(&self.body);
                }
            }
            Some(trailers) => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                for (name, _) in trailers {
                    out.extend_from_slice(format!("trailer: {name}\r\n").as_bytes());
                }
                out.extend_from_slice(b"\r\n");
                if !head {
                    for piece in self.body.chunks(self.chunk) {
                        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                        out.extend_from_slice(piece);
                        out.extend_from_slice(b"\r\n");
                    }
                    out.extend_from_slice(b"0\r\n");
                    for (name, value) in trailers {
                        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                    }
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        to.write_all(&out)
    }
}

impl Origin {
    /// On a free port; answers 200 with the method, the target and the length of the body. A chunked request is
    /// answered chunked, with a trailer `x-origin-length`.
    #[must_use]
    pub fn start() -> Self {
        Self::on(ports::local())
    }

    /// The same at a given address.
    #[must_use]
    pub fn on(addr: SocketAddr) -> Self {
        Self::with(addr, default_answer)
    }

    /// At a given address, with the test's own answers.
    #[must_use]
    pub fn with(addr: SocketAddr, answer: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        Self::new(addr, Box::new(answer), true)
    }

    /// The same, but it writes nothing down: for loads that go on for minutes.
    #[must_use]
    pub fn forgetful(addr: SocketAddr, answer: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        Self::new(addr, Box::new(answer), false)
    }

    fn new(addr: SocketAddr, answer: Box<Answer>, records: bool) -> Self {
        let listener = TcpListener::bind(addr).unwrap_or_else(|error| panic!("origin on {addr}: {error}"));
        let shared = Arc::new(Shared {
            answer,
            records,
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: Mutex::new(Vec::new()),
            bytes: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { addr, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every request so far, in the order in which they were read to their end.
    #[must_use]
    pub fn requests(&self) -> Vec<Message> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The requests for one target.
    #[must_use]
    pub fn requests_for(&self, target: &str) -> Vec<Message> {
        self.requests().into_iter().filter(|request| request.target() == target).collect()
    }

    /// The last request for one target; panics when there was none.
    pub fn last(&self, target: &str) -> Message {
        wait::until(&format!("a request for {target} at the application"), wait::SOON, || {
            self.requests_for(target).pop()
        })
    }

    /// How many connections were opened to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Whether these bytes ever arrived, on any connection.
    #[must_use]
    pub fn saw(&self, bytes: &[u8]) -> bool {
        let all = self.shared.bytes.lock().unwrap();
        all.iter().any(|one| one.windows(bytes.len()).any(|window| window == bytes))
    }

    /// Every byte of every connection so far, connection by connection: for [`crate::strict`].
    #[must_use]
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        self.shared.bytes.lock().unwrap().clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr); // wakes the accepting thread, which then lets go of the port
    }
}

fn default_answer(request: &Message) -> Reply {
    let reply = Reply::text(format!("{} {} {}", request.method(), request.target(), request.body.len()));
    if request.chunked { reply.with_trailer("x-origin-length", &request.body.len().to_string()) } else { reply }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let number = {
            let mut all = shared.bytes.lock().unwrap();
            if shared.records || all.is_empty() {
                all.push(Vec::new());
            }
            all.len() - 1
        };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let _ = serve(&stream, &shared, number);
        });
    }
}

fn serve(stream: &TcpStream, shared: &Shared, number: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(Recorder { stream, shared, number });
    while let Some(request) = message::read(&mut reader, Kind::Request)? {
        if shared.records {
            shared.requests.lock().unwrap().push(request.clone());
        }
        let reply = (shared.answer)(&request);
        std::thread::sleep(reply.delay);
        reply.write(request.method() == "HEAD", &mut &*stream)?;
        if request.closes() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads from the stream and keeps a copy of every byte.
struct Recorder<'a> {
    stream: &'a TcpStream,
    shared: &'a Shared,
    number: usize,
}

impl Read for Recorder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut &*self.stream).read(buffer)?;
        if self.shared.records {
            self.shared.bytes.lock().unwrap()[self.number].extend_from_slice(&buffer[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn origin_keeps_what_it_was_sent_and_answers_in_kind() {
        let origin = Origin::start();
        let bytes =
            b"POST /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 9\r\n\r\n";
        let reply = wire::request(origin.addr(), bytes).unwrap();
        assert_eq!((reply.text().as_str(), reply.trailer("x-origin-length")), ("POST /t 5", Some("5")));
        assert_eq!(origin.last("/t").trailer("x-sum"), Some("9"));
        assert!(origin.saw(b"x-sum: 9"));
        assert_eq!(origin.connections(), 1);
    }
}
