//! W3, HTTP/2 with prior knowledge: 8 connections with 8 requests in flight each, in a closed loop.
//!
//! Frames are written by hand, so that the generator costs little beside what it measures. A response counts when it was
//! 200 and had the origin's whole body; anything else ends the run.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::h2_frames::{self as frames, Frame};

use super::Load;
use super::origin::BODY;
use crate::cost::Window;
use crate::setup::HOST;

pub(crate) const CONNECTIONS: usize = 8;
pub(crate) const STREAMS: usize = 8;

/// Runs the load and prints what came of it.
pub(crate) fn run(load: &Load) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let shared = Rc::new(Shared::default());
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(load.to).await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::task::spawn_local(connection(stream, Rc::clone(&shared)));
        }
        tokio::time::sleep(load.warm_up).await;
        shared.measuring.set(true);
        let window = Window::open(load.pids);
        tokio::time::sleep(load.window).await;
        let costs = window.close();
        shared.measuring.set(false);
        let stuck = shared.last.get().is_none_or(|last| last.elapsed() > Duration::from_secs(1));
        assert!(!stuck, "no response for a second");
        println!("{}", costs.report(&mut shared.latencies.borrow_mut()));
    });
}

/// One request over a connection of its own; `Err` says what came instead of a right answer.
pub(crate) fn asks_once(to: SocketAddr) -> Result<(), String> {
    let mut stream = std::net::TcpStream::connect(to).map_err(|error| error.to_string())?;
    let timeout = Some(Duration::from_secs(5));
    stream.set_read_timeout(timeout).map_err(|error| error.to_string())?;
    let (mut client, mut out) = Client::begin(1);
    let mut bytes = Vec::new();
    loop {
        stream.write_all(&out).map_err(|error| error.to_string())?;
        out.clear();
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("closed".into());
        }
        bytes.extend_from_slice(&buffer[..count]);
        if client.take(&mut bytes, &mut out)? > 0 {
            return Ok(());
        }
    }
}

#[derive(Default)]
struct Shared {
    measuring: Cell<bool>,
    /// Nanoseconds, one per response that came within the window.
    latencies: RefCell<Vec<u64>>,
    last: Cell<Option<Instant>>,
}

async fn connection(mut stream: TcpStream, shared: Rc<Shared>) {
    let (mut client, mut out) = Client::begin(STREAMS);
    let mut bytes = Vec::with_capacity(64 << 10);
    loop {
        stream.write_all(&out).await.unwrap();
        out.clear();
        let count = stream.read_buf(&mut bytes).await.unwrap();
        assert!(count > 0, "the sidecar closed a connection");
        client.take(&mut bytes, &mut out).unwrap_or_else(|error| panic!("{error}"));
        let now = Instant::now();
        for sent in client.done.drain(..) {
            shared.last.set(Some(now));
            if shared.measuring.get() {
                shared.latencies.borrow_mut().push(u64::try_from((now - sent).as_nanos()).unwrap());
            }
        }
        for _ in client.open.len()..STREAMS {
            client.request(&mut out);
        }
    }
}

/// The state of one connection.
struct Client {
    next: u32,
    open: Vec<Stream>,
    /// When the requests were sent whose responses are whole.
    done: Vec<Instant>,
    /// Bytes received since the connection's window was last widened.
    received: usize,
}

struct Stream {
    id: u32,
    sent: Instant,
    is_200: bool,
    body: usize,
}

impl Client {
    /// A new connection, and what it says first: preface, settings, a wide window, and `count` requests.
    fn begin(count: usize) -> (Self, Vec<u8>) {
        let mut out = frames::PREFACE.to_vec();
        let mut settings = frames::INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend_from_slice(&(1u32 << 20).to_be_bytes());
        frames::write(&mut out, frames::SETTINGS, 0, 0, &settings);
        frames::write(&mut out, frames::WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes());
        let mut client = Self { next: 1, open: Vec::new(), done: Vec::new(), received: 0 };
        (0..count).for_each(|_| client.request(&mut out));
        (client, out)
    }

    fn request(&mut self, out: &mut Vec<u8>) {
        const GET: u8 = 2;
        const HTTP: u8 = 6;
        let mut block = vec![];
        frames::known_field(&mut block, GET);
        frames::known_field(&mut block, HTTP);
        if self.next == 1 {
            for (name, value) in [(1, HOST), (4, "/api/orders/42"), (58, "compare"), (19, "*/*")] {
                frames::indexed_field(&mut block, name, value);
            }
        } else {
            // The same four, which now are the newest in the table.
            (62..=65).rev().for_each(|index| frames::known_field(&mut block, index));
        }
        frames::write(out, frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, self.next, &block);
        self.open.push(Stream { id: self.next, sent: Instant::now(), is_200: false, body: 0 });
        self.next += 2;
    }

    /// Takes whole frames out of `bytes`, appends what has to be answered, and gives how many responses are complete.
    fn take(&mut self, bytes: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<usize, String> {
        let mut rest = bytes.as_slice();
        while let Some((frame, after)) = Frame::first(rest) {
            rest = after;
            if frame.kind == frames::SETTINGS
                && frame.setting(frames::HEADER_TABLE_SIZE).is_some_and(|size| size < 4096)
            {
                return Err("the sidecar keeps no table of header fields".into());
            }
            if !frames::answer(out, &frame) {
                self.frame(&frame)?;
            }
        }
        let used = bytes.len() - rest.len();
        bytes.drain(..used);
        if self.received > 1 << 28 {
            let increment = u32::try_from(self.received).unwrap();
            frames::write(out, frames::WINDOW_UPDATE, 0, 0, &increment.to_be_bytes());
            self.received = 0;
        }
        Ok(self.done.len())
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        if matches!(frame.kind, frames::RST_STREAM | frames::GOAWAY) {
            return Err(format!("the sidecar gave up: {frame:?}"));
        }
        if !matches!(frame.kind, frames::HEADERS | frames::DATA) {
            return Ok(());
        }
        let at = self.open.iter().position(|stream| stream.id == frame.stream);
        let at = at.ok_or_else(|| format!("a frame of no open stream: {frame:?}"))?;
        let stream = &mut self.open[at];
        if frame.kind == frames::DATA {
            self.received += frame.payload.len();
            let content = frame.content();
            stream.body += content.len();
            if content.iter().any(|byte| *byte != b'x') {
                return Err("another body than the origin's".into());
            }
        } else if !stream.is_200 {
            stream.is_200 = frame.is_200();
            if !stream.is_200 {
                return Err(format!("not a 200: {frame:?}"));
            }
        }
        if frame.has(frames::END_STREAM) {
            if stream.body != BODY {
                return Err(format!("{} bytes of body instead of {BODY}", stream.body));
            }
            self.done.push(self.open.swap_remove(at).sent);
        }
        Ok(())
    }
}
