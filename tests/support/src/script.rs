//! An application that follows a script on each connection: it reads what the script asks for and sends exact bytes, good or
//! bad. It writes down every request head and how each connection ended.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::message::{self, Kind, Message};
use crate::{wait, wire};

/// A scripted application. Its port is closed when it is dropped.
pub struct Scripted {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    connections: AtomicUsize,
    ended: AtomicUsize,
    heads: Mutex<Vec<String>>,
}

/// One connection, as the script sees it.
pub struct Line<'a> {
    /// How many connections came before this one.
    pub number: usize,
    reader: BufReader<TcpStream>,
    shared: &'a Shared,
}

impl Scripted {
    /// Runs `script` on every connection, each in a thread of its own. The connection closes when it returns.
    #[must_use]
    pub fn on(addr: SocketAddr, script: impl Fn(&mut Line<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(addr).unwrap_or_else(|error| panic!("origin on {addr}: {error}"));
        let shared = Arc::<Shared>::default();
        let accepting = Arc::clone(&shared);
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, script) = (Arc::clone(&accepting), Arc::clone(&script));
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    let _ = script(&mut Line {
                        number,
                        reader: BufReader::with_capacity(1 << 17, stream),
                        shared: &shared,
                    });
                    shared.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { addr, shared }
    }

    /// How many connections were opened to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many scripts came to their end.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::SeqCst)
    }

    /// Every request head so far, as its bytes came.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr); // wakes the accepting thread, which then lets go of the port
    }
}

impl Line<'_> {
    /// Reads a request head, byte for byte; `None` when the connection ends before its first.
    pub fn head(&mut self) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            if self.reader.read_until(b'\n', &mut bytes)? == 0 {
                return if bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
        let head: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        self.shared.heads.lock().unwrap().push(head.clone());
        Ok(Some(head))
    }

    /// Reads a whole request.
    pub fn request(&mut self) -> io::Result<Option<Message>> {
        let Some(head) = self.head()? else { return Ok(None) };
        message::read(&mut head.as_bytes().chain(&mut self.reader), Kind::Request)
    }

    /// Reads exactly so many bytes.
    pub fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends back a request body as it comes, framing and all; `None` is a chunked one.
    ///
    /// Reading does not wait for writing: where both directions of a connection are full, a kernel may drop what carries the news
    /// of room, and an end that reads only after it has written then waits for ever.
    pub fn echo(&mut self, length: Option<usize>) -> io::Result<()> {
        let mut out = self.reader.get_ref().try_clone()?;
        let (say, hear) = mpsc::channel::<Vec<u8>>();
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || hear.into_iter().try_for_each(|bytes| out.write_all(&bytes)));
            let read = self.body_as_it_comes(length, &say);
            drop(say);
            read.and(writing.join().unwrap())
        })
    }

    fn body_as_it_comes(&mut self, length: Option<usize>, to: &mpsc::Sender<Vec<u8>>) -> io::Result<()> {
        let say = |bytes| to.send(bytes).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
        let Some(length) = length else {
            loop {
                let mut line = Vec::new();
                self.reader.read_until(b'\n', &mut line)?;
                let size = std::str::from_utf8(&line).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
                let size = size.ok_or(io::ErrorKind::InvalidData)?;
                say(line)?;
                self.some_until(size + 2, say)?;
                if size == 0 {
                    return Ok(());
                }
            }
        };
        self.some_until(length, say)
    }

    /// So many bytes, in pieces as they come.
    fn some_until(&mut self, mut left: usize, mut to: impl FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        while left > 0 {
            let bytes = self.some(left)?;
            left -= bytes.len();
            to(bytes)?;
        }
        Ok(())
    }

    /// Some bytes, at most so many.
    fn some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let here = self.reader.fill_buf()?;
        if here.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = here[..here.len().min(most)].to_vec();
        self.reader.consume(bytes.len());
        Ok(bytes)
    }

    /// Sends bytes at once.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Ends this side's sending; the other side may still send.
    pub fn finish(&mut self) -> io::Result<()> {
        self.reader.get_ref().shutdown(Shutdown::Write)
    }

    /// Makes the close that follows a reset: what is still on its way, either way, is thrown away.
    pub fn reset(&mut self) {
        wire::reset_when_closed(self.reader.get_ref());
    }

    /// Waits until the other side closes or resets, and drops what it still sends.
    pub fn until_closed(&mut self) {
        let mut waste = [0; 65536];
        while self.reader.read(&mut waste).is_ok_and(|count| count > 0) {}
    }

    /// Waits for the other side's close without reading what it sends.
    pub fn hold(&mut self) {
        let socket = socket2::SockRef::from(self.reader.get_ref());
        let end = Instant::now() + wait::SOON;
        // The error of a reset comes without a read; a close in order shows as the end of what can be peeked at.
        while Instant::now() < end && socket.take_error().is_ok_and(|error| error.is_none()) {
            match self.reader.get_ref().peek(&mut [0]) {
                Ok(0) | Err(_) => return,
                Ok(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// 200 with this text.
    pub fn answer(&mut self, text: &str) -> io::Result<()> {
        self.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()))
    }
}
