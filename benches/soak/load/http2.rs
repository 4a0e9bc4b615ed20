//! HTTP/2 with prior knowledge to the caller's sidecar: several streams at once of different kinds, some taken back, and
//! connections that end in order or with streams open.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::h2_frames::{self as frames, Frame};
use support::pair::HOST;
use support::wire;

use super::{Caller, number};
use crate::app;

/// Streams of one connection's life, and at one time.
const LIFE: u32 = 600;
const AT_ONCE: usize = 8;
const PACE: Duration = Duration::from_millis(25);
/// No answer takes longer, the sidecar's own 504 included.
const PATIENCE: Duration = Duration::from_secs(10);
const UPLOAD: usize = 20_000;

/// One connection after the other.
pub(crate) fn streams(caller: &Caller) {
    let mut lives = 0_u32;
    while caller.goes_on() {
        lives += 1;
        if let Err(error) = live(caller, lives.is_multiple_of(3)) {
            caller.ledger.wrong("http2", error);
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

struct Client {
    stream: TcpStream,
    next: u32,
    open: Vec<Stream>,
    bytes: Vec<u8>,
    out: Vec<u8>,
    /// What may still be sent on the connection.
    window: i64,
}

struct Stream {
    id: u32,
    begun: Instant,
    due: Due,
    is_200: Option<bool>,
    body: Vec<u8>,
}

enum Due {
    /// 200 with this body.
    Whole(Vec<u8>),
    /// Anything but 200.
    Refused,
    /// To be taken back after a moment.
    Cancelled,
}

fn live(caller: &Caller, leaves_in_the_middle: bool) -> io::Result<()> {
    let mut client = Client::connect(caller)?;
    let mut next = Instant::now();
    for turn in 1..=LIFE {
        if !caller.goes_on() {
            break;
        }
        if client.open.len() < AT_ONCE {
            client.begin(turn);
        }
        next = (next + PACE).max(Instant::now());
        while Instant::now() < next {
            client.turn(caller)?;
        }
    }
    if leaves_in_the_middle {
        wire::reset_when_closed(&client.stream);
        caller.ledger.as_due("left");
        return Ok(());
    }
    while !client.open.is_empty() {
        client.turn(caller)?;
    }
    frames::write(&mut client.out, frames::GOAWAY, 0, 0, &[0; 8]);
    client.stream.write_all(&client.out)
}

impl Client {
    fn connect(caller: &Caller) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&caller.stage.entry(), wire::QUIET)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(10)))?;
        stream.set_write_timeout(Some(wire::QUIET))?;
        let mut out = frames::PREFACE.to_vec();
        frames::write(&mut out, frames::SETTINGS, 0, 0, &[]);
        frames::write(&mut out, frames::WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        Ok(Self { stream, next: 1, open: Vec::new(), bytes: Vec::new(), out, window: 65_535 })
    }

    fn begin(&mut self, turn: u32) {
        let order = format!("/api/orders/{}", number());
        let body = app::pattern(UPLOAD);
        match turn % 13 {
            3 | 8 if self.window >= UPLOAD as i64 => {
                let receipt = app::receipt(&body).into_bytes();
                self.request("/soak/upload", Some(&body), Due::Whole(receipt));
            }
            5 => self.request("/admin", None, Due::Refused),
            7 => self.request("/soak/fault/stall", None, Due::Cancelled),
            9 => self.request("/soak/fault/late", None, Due::Whole(b"late".to_vec())),
            10 => self.request("/soak/fault/reset", None, Due::Refused),
            11 => self.request("/soak/download/40000", None, Due::Whole(app::pattern(40_000))),
            _ => self.request(&order, None, Due::Whole(app::order(&order))),
        }
    }

    fn request(&mut self, path: &str, body: Option<&[u8]>, due: Due) {
        // RFC 7541 appendix A: 2 and 3 are the methods GET and POST, 6 is http, 1 the authority, 4 the path.
        let mut block = Vec::new();
        frames::known_field(&mut block, if body.is_some() { 3 } else { 2 });
        frames::known_field(&mut block, 6);
        for (name, value) in [(1, HOST), (4, path)] {
            block.push(name);
            block.push(u8::try_from(value.len()).unwrap());
            block.extend_from_slice(value.as_bytes());
        }
        let end = if body.is_none() { frames::END_STREAM } else { 0 };
        frames::write(&mut self.out, frames::HEADERS, frames::END_HEADERS | end, self.next, &block);
        let mut rest = body.unwrap_or_default();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(16_384));
            rest = after;
            let end = if rest.is_empty() { frames::END_STREAM } else { 0 };
            frames::write(&mut self.out, frames::DATA, end, self.next, piece);
            self.window -= piece.len() as i64;
        }
        self.open.push(Stream { id: self.next, begun: Instant::now(), due, is_200: None, body: Vec::new() });
        self.next += 2;
    }

    /// Sends what waits, reads what there is, and ends what has to end.
    fn turn(&mut self, caller: &Caller) -> io::Result<()> {
        let now = Instant::now();
        for stream in &self.open {
            let age = now - stream.begun;
            if matches!(stream.due, Due::Cancelled) && age > Duration::from_millis(150) {
                const CANCEL: u32 = 8;
                frames::write(&mut self.out, frames::RST_STREAM, 0, stream.id, &CANCEL.to_be_bytes());
                caller.ledger.as_due("http2 taken back");
            } else if age > PATIENCE {
                return Err(io::Error::other(format!("no answer on stream {}", stream.id)));
            }
        }
        self.open.retain(|stream| {
            !(matches!(stream.due, Due::Cancelled) && now - stream.begun > Duration::from_millis(150))
        });
        self.stream.write_all(&self.out)?;
        self.out.clear();
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("closed")),
            Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(()),
            Err(error) => return Err(error),
        }
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = bytes.as_slice();
        while let Some((frame, after)) = Frame::first(rest) {
            rest = after;
            if !frames::answer(&mut self.out, &frame) {
                self.frame(&frame, caller)?;
            }
        }
        self.bytes = rest.to_vec();
        Ok(())
    }

    fn frame(&mut self, frame: &Frame<'_>, caller: &Caller) -> io::Result<()> {
        if frame.kind == frames::GOAWAY {
            return Err(io::Error::other(format!("the sidecar gave up: {:?}", frame.payload)));
        }
        if frame.kind == frames::WINDOW_UPDATE && frame.stream == 0 {
            self.window += frame.increment();
        }
        // Frames of a stream that was taken back may still be under way.
        let Some(at) = self.open.iter().position(|stream| stream.id == frame.stream) else { return Ok(()) };
        let stream = &mut self.open[at];
        match frame.kind {
            frames::HEADERS if stream.is_200.is_none() => stream.is_200 = Some(frame.is_200()),
            frames::DATA => stream.body.extend_from_slice(frame.content()),
            frames::RST_STREAM => {
                let stream = self.open.swap_remove(at);
                caller.ledger.wrong("http2", format!("stream {} was reset: {:?}", stream.id, frame.payload));
                return Ok(());
            }
            _ => {}
        }
        if matches!(frame.kind, frames::HEADERS | frames::DATA) && frame.has(frames::END_STREAM) {
            self.open.swap_remove(at).ended(caller);
        }
        Ok(())
    }
}

impl Stream {
    fn ended(self, caller: &Caller) {
        let is_200 = self.is_200 == Some(true);
        match self.due {
            Due::Whole(body) if is_200 && body == self.body => caller.ledger.good("http2"),
            Due::Refused if !is_200 => caller.ledger.as_due("http2 refused"),
            _ => {
                let text: String = String::from_utf8_lossy(&self.body).chars().take(60).collect();
                caller.ledger.wrong("http2", format!("stream {}: 200 is {is_200}, {text:?}", self.id));
            }
        }
    }
}
