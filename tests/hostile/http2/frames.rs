//! Frames (RFC 9113 §4.1), written and read without any library: nothing here keeps a rule of the protocol unless the test
//! does. Header blocks are literals without Huffman coding and without the table (RFC 7541 §6.2.2).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::tls;
use support::wire::QUIET;

use super::Door;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const WITH_PRIORITY: u8 = 0x20;
/// A request without a body.
pub(super) const WHOLE: u8 = END_STREAM | END_HEADERS;

/// A field: name and value, any bytes.
pub(super) type Field<'a> = (&'a [u8], &'a [u8]);

/// A frame whose length is that of its payload.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    sized(payload.len(), kind, flags, stream, payload)
}

/// A frame that says it is `length` long, whatever it is.
pub(super) fn sized(length: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals.
pub(super) fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(name, &mut bytes);
        string(value, &mut bytes);
    }
    bytes
}

/// A string literal (RFC 7541 §5.2).
pub(super) fn string(text: &[u8], out: &mut Vec<u8>) {
    integer(text.len(), 7, 0, out);
    out.extend_from_slice(text);
}

/// An integer with a prefix of `bits` under `pattern` (RFC 7541 §5.1).
pub(super) fn integer(mut value: usize, bits: u32, pattern: u8, out: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        out.push(pattern | u8::try_from(value).unwrap());
        return;
    }
    out.push(pattern | u8::try_from(most).unwrap());
    value -= most;
    while value >= 128 {
        out.push(u8::try_from(value % 128).unwrap() | 0x80);
        value /= 128;
    }
    out.push(u8::try_from(value).unwrap());
}

/// HEADERS with all its fields.
pub(super) fn headers(stream: u32, flags: u8, fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(fields))
}

/// DATA.
pub(super) fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

/// SETTINGS with these identifiers and values.
pub(super) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// WINDOW_UPDATE.
pub(super) fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// RST_STREAM with CANCEL.
pub(super) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// One frame as it came.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a response's head: the first field, which no response names by the dynamic table when it is the first
    /// one of its connection.
    pub(super) fn status(&self) -> u16 {
        let mut block = &self.payload[..];
        while block[0] & 0xe0 == 0x20 {
            block = &block[1..]; // a change of the table's size
        }
        let known = [(0x88, 200), (0x89, 204), (0x8a, 206), (0x8b, 304), (0x8c, 400), (0x8d, 404), (0x8e, 500)];
        if let Some((_, status)) = known.iter().find(|(byte, _)| *byte == block[0]) {
            return *status;
        }
        assert!(matches!(block[0], 0x48..=0x4e | 0x08..=0x0e), "no status: {block:02x?}");
        let (length, text) = (usize::from(block[1] & 0x7f), &block[2..]);
        let text = &text[..length];
        if block[1] & 0x80 == 0 { std::str::from_utf8(text).unwrap().parse().unwrap() } else { digits(text) }
    }
}

/// Digits in Huffman code (RFC 7541 appendix B): five bits for 0 to 2, six for the others.
fn digits(coded: &[u8]) -> u16 {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let number = |length: usize| bits[at..at + length].iter().fold(0_u16, |sum, bit| sum * 2 + u16::from(*bit));
        let (digit, length) = if number(5) < 3 { (number(5), 5) } else { (number(6) - 0b01_1001 + 3, 6) };
        value = value * 10 + digit;
        at += length;
    }
    value
}

/// How reading went.
#[derive(Debug)]
pub(super) enum Next {
    Frame(Frame),
    /// The peer has closed or reset the connection.
    Closed,
    /// Nothing came in the time given.
    Quiet,
}

/// A connection of frames.
pub(super) struct Client {
    io: Io,
    inbox: Vec<u8>,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<tls::Stream>),
}

impl Client {
    /// Connects and sends nothing.
    pub(super) fn silent(door: Door<'_>) -> Self {
        let io = match door {
            Door::Plain(to) => {
                let stream = TcpStream::connect_timeout(&to, QUIET).unwrap();
                stream.set_nodelay(true).unwrap();
                Io::Plain(stream)
            }
            Door::Mtls(to, cert) => {
                let stream = tls::connect(to, Some(cert), &["h2"]).unwrap();
                assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
                Io::Tls(Box::new(stream))
            }
        };
        let client = Self { io, inbox: Vec::new() };
        client.socket().set_write_timeout(Some(QUIET)).unwrap();
        client
    }

    /// Connects, sends preface and these settings, and waits until they were taken.
    pub(super) fn with(door: Door<'_>, values: &[(u16, u32)]) -> Self {
        let mut client = Self::silent(door);
        client.send(&[PREFACE, &settings(values), &frame(SETTINGS, ACK, 0, &[])].concat()).unwrap();
        loop {
            match client.next(QUIET) {
                Next::Frame(frame) if frame.kind == SETTINGS && frame.flags == ACK => return client,
                Next::Frame(_) => {}
                other => panic!("no settings: {other:?}"),
            }
        }
    }

    /// The same with no settings of its own.
    pub(super) fn open(door: Door<'_>) -> Self {
        Self::with(door, &[])
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(stream) => stream,
            Io::Tls(stream) => stream.get_ref(),
        }
    }

    /// Sends bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.io {
            Io::Plain(stream) => stream.write_all(bytes),
            Io::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Sends what is taken of these bytes, and says how many those are.
    pub(super) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.io {
            Io::Plain(stream) => stream.write(bytes),
            Io::Tls(stream) => {
                // What was sealed before must go first, or it would gather here without end.
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut stream.sock)?;
                }
                let count = stream.conn.writer().write(&bytes[..bytes.len().min(65536)])?;
                while stream.conn.wants_write() {
                    match stream.conn.write_tls(&mut stream.sock) {
                        Ok(_) => {}
                        Err(error) if is_timeout(&error) => break,
                        Err(error) => return Err(error),
                    }
                }
                Ok(count)
            }
        }
    }

    /// What has come by now: a frame, or `Some(None)` for the end. `None` when there is nothing.
    pub(super) fn look(&mut self) -> Option<Option<Frame>> {
        if let Some(frame) = self.take() {
            return Some(Some(frame));
        }
        self.socket().set_nonblocking(true).unwrap();
        let filled = self.fill(Duration::from_millis(1));
        self.socket().set_nonblocking(false).unwrap();
        match filled {
            Ok(0) => Some(None),
            Ok(_) => self.take().map(Some),
            Err(error) if is_timeout(&error) => None,
            Err(_) => Some(None),
        }
    }

    /// The next frame, waiting up to `limit` for it.
    pub(super) fn next(&mut self, limit: Duration) -> Next {
        let end = Instant::now() + limit;
        loop {
            if let Some(frame) = self.take() {
                return Next::Frame(frame);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Quiet;
            }
            match self.fill(left) {
                Ok(0) => return Next::Closed,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Next::Quiet,
                Err(_) => return Next::Closed,
            }
        }
    }

    /// Reads what has come by now.
    pub(super) fn fill(&mut self, limit: Duration) -> io::Result<usize> {
        self.socket().set_read_timeout(Some(limit.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 16384];
        let count = match &mut self.io {
            Io::Plain(stream) => stream.read(&mut buffer),
            Io::Tls(stream) => stream.read(&mut buffer),
        }?;
        self.inbox.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn take(&mut self) -> Option<Frame> {
        let [a, b, c, kind, flags, stream @ ..] = self.inbox.get(..9)? else { return None };
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        let (kind, flags) = (*kind, *flags);
        let stream = u32::from_be_bytes(stream.try_into().unwrap());
        let payload = self.inbox.get(9..9 + length)?.to_vec();
        self.inbox.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[test]
fn integers_and_digits_are_coded_as_in_the_examples_of_rfc_7541() {
    let coded = |value, bits| {
        let mut out = Vec::new();
        integer(value, bits, 0, &mut out);
        out
    };
    // Appendix C.1
    assert_eq!((coded(10, 5), coded(1337, 5)), (vec![10], vec![31, 154, 10]));
    // Appendix C.6: 302 and 307
    assert_eq!((digits(&[0x64, 0x02]), digits(&[0x64, 0x0e, 0xff])), (302, 307));
}
