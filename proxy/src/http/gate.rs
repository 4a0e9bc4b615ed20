//! What of HTTP/1.1 is let in at all: one framing, read strictly, before the engine sees a byte of it.
//!
//! The engine's parser is lenient where the text of RFC 9112 allows it (bare LF, several spaces, a fragment in the target).
//! Leniency is how two programs come to read one message differently, so a downstream's bytes pass here first: whole heads
//! are checked, bodies are followed by their length or their chunks, and what is not exactly right ends the connection.
//! Bytes that pass are not changed.

use crate::limits;
use std::{error::Error, fmt};

/// Why a message is refused. Each says the status and Envoy's detail for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not the grammar of RFC 9112 §2.1: line ends, spaces, names, controls.
    Syntax,
    /// HTTP/1.0 or below: no `Host`, no chunks, no way to tell the end of a message safely.
    Version,
    /// More bytes or more fields than the bound.
    TooLarge,
    /// `Content-Length` together with `Transfer-Encoding` (RFC 9112 §6.1), or several `Content-Length`.
    Length,
    /// A transfer coding other than exactly `chunked` (RFC 9112 §6.1).
    Coding,
    /// The head did not come to its end in its time.
    Timeout,
    /// Chunk framing that is not exactly RFC 9112 §7.1.
    Chunk,
}

impl Refused {
    pub(crate) fn status(self) -> (u16, &'static str) {
        match self {
            Self::Syntax | Self::Length | Self::Chunk => (400, "Bad Request"),
            Self::Timeout => (408, "Request Timeout"),
            Self::Version => (426, "Upgrade Required"),
            Self::TooLarge => (431, "Request Header Fields Too Large"),
            Self::Coding => (501, "Not Implemented"),
        }
    }

    /// Envoy's response flag.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Timeout => "SI",
            _ => "DPE",
        }
    }

    pub(crate) fn details(self) -> &'static str {
        match self {
            Self::Syntax | Self::Chunk => "http1.codec_error",
            Self::Timeout => "stream_idle_timeout",
            Self::Version => "low_version",
            Self::TooLarge => "http1.headers_too_large",
            Self::Length => "http1.content_length_and_chunked_not_allowed",
            Self::Coding => "http1.invalid_transfer_encoding",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.details())
    }
}

impl Error for Refused {}

/// Follows the messages of one connection.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Length(u64),
    Chunked(Chunked),
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// So many bytes may go through.
    Bytes(usize),
    /// More must be read before anything is clear.
    More,
}

impl Gate {
    /// Whether the next byte is the first of a request head.
    pub(crate) fn is_at_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// Looks at the bytes that wait. For a head, `head` is called with its target once it is complete and good.
    pub(crate) fn look(&mut self, waiting: &[u8], head: impl FnOnce(&[u8])) -> Result<Pass, Refused> {
        match &mut self.state {
            State::Head => {
                let Some((length, body)) = read_head(waiting, head)? else { return Ok(Pass::More) };
                self.state = match body {
                    Body::None => State::Head,
                    Body::Length(length) => State::Length(length),
                    Body::Chunked => State::Chunked(Chunked::default()),
                };
                Ok(Pass::Bytes(length))
            }
            State::Length(left) => {
                let take = waiting.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= u64::try_from(take).unwrap_or(0);
                if *left == 0 {
                    self.state = State::Head;
                }
                Ok(if take == 0 { Pass::More } else { Pass::Bytes(take) })
            }
            State::Chunked(chunked) => {
                let (take, ended) = chunked.follow(waiting)?;
                if ended {
                    self.state = State::Head;
                }
                Ok(if take == 0 { Pass::More } else { Pass::Bytes(take) })
            }
        }
    }
}

enum Body {
    None,
    Length(u64),
    Chunked,
}

/// A whole head at the start of `waiting`: its length and how its body is framed. `None` while it is incomplete.
fn read_head(waiting: &[u8], seen: impl FnOnce(&[u8])) -> Result<Option<(usize, Body)>, Refused> {
    // RFC 9112 §2.2 allows a few empty lines before a request line; one CRLF is what old clients send.
    let skipped = if waiting.starts_with(b"\r\n") { 2 } else { 0 };
    let text = waiting.get(skipped..).unwrap_or_default();
    let Some(end) = find_end(text)? else {
        return if text.len() > limits::HEAD_BYTES { Err(Refused::TooLarge) } else { Ok(None) };
    };
    if end > limits::HEAD_BYTES {
        return Err(Refused::TooLarge);
    }
    let head = text.get(..end).unwrap_or_default();
    let mut fields = [httparse::EMPTY_HEADER; limits::HEADER_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == end => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::TooLarge),
        Err(httparse::Error::Version) | Ok(_) | Err(_) => return Err(Refused::Syntax),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else { return Err(Refused::Syntax) };
    // Exactly one space on either side of the target (RFC 9112 §3): the lengths leave no room for another.
    let line = method.len() + 1 + target.len() + 1 + b"HTTP/1.1\r\n".len();
    let first = head.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if first != line || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Refused::Syntax);
    }
    if request.version != Some(1) {
        return Err(Refused::Version);
    }
    let body = framing(request.headers)?;
    seen(target.as_bytes());
    Ok(Some((skipped + end, body)))
}

/// Length of the head with its empty line. A line that ends in LF alone, or a CR that ends no line, is refused at once.
fn find_end(text: &[u8]) -> Result<Option<usize>, Refused> {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))) {
        let at = from + at;
        match (text.get(at), text.get(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => {
                if at == from && from != 0 {
                    return Ok(Some(at + 2));
                }
                if at == 0 {
                    return Err(Refused::Syntax);
                }
                from = at + 2;
            }
            (Some(b'\r'), None) => return Ok(None),
            _ => return Err(Refused::Syntax),
        }
    }
    Ok(None)
}

fn framing(fields: &[httparse::Header<'_>]) -> Result<Body, Refused> {
    let mut length = None;
    let mut chunked = false;
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            let digits = field.value;
            // Digits only (RFC 9110 §8.6): no sign, no list, no space; 18 digits cannot overflow.
            if length.is_some() || digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
                return Err(Refused::Syntax);
            }
            let value = digits.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
            length = Some(value);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refused::Coding);
            }
            chunked = true;
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(Refused::Length),
        (None, true) => Ok(Body::Chunked),
        (Some(0) | None, false) => Ok(Body::None),
        (Some(length), false) => Ok(Body::Length(length)),
    }
}

/// Follows a chunked body (RFC 9112 §7.1) byte by byte.
#[derive(Debug)]
struct Chunked {
    at: At,
    size: u64,
    /// Digits of the size, then bytes of the line, then bytes of the trailer section: each bounded.
    count: usize,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { at: At::Size, size: 0, count: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the start of a line of the trailer section.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

/// Bytes of one chunk's extensions, and of all trailers.
const CHUNK_LINE: usize = 256;
const TRAILERS: usize = 8 * 1024;

impl Chunked {
    /// How many of the waiting bytes belong to the body and are right; whether the last of them ends it.
    fn follow(&mut self, waiting: &[u8]) -> Result<(usize, bool), Refused> {
        let mut taken = 0;
        while let Some(byte) = waiting.get(taken).copied() {
            if self.at == At::Data {
                let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                let data = left.min(waiting.len() - taken);
                self.size -= u64::try_from(data).unwrap_or(0);
                taken += data;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            taken += 1;
            self.at = match (self.at, byte) {
                (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    self.count += 1;
                    // 15 hexadecimal digits cannot overflow.
                    if self.count > 15 {
                        return Err(Refused::Chunk);
                    }
                    let digit = char::from(byte).to_digit(16).ok_or(Refused::Chunk)?;
                    self.size = self.size * 16 + u64::from(digit);
                    At::Size
                }
                (At::Size, b';') if self.count > 0 => {
                    self.count = 0;
                    At::Extension
                }
                (At::Size, b'\r') if self.count > 0 => At::SizeLf,
                (At::Extension, b'\r') => At::SizeLf,
                (At::Extension, b'\t' | b' '..=b'~') if self.count < CHUNK_LINE => {
                    self.count += 1;
                    At::Extension
                }
                (At::SizeLf, b'\n') => {
                    self.count = 0;
                    if self.size == 0 { At::TrailerStart } else { At::Data }
                }
                (At::DataCr, b'\r') => At::DataLf,
                (At::DataLf, b'\n') => At::Size,
                (At::TrailerStart, b'\r') => At::EndLf,
                (At::EndLf, b'\n') => return Ok((taken, true)),
                (At::Trailer, b'\r') => At::TrailerLf,
                (At::TrailerLf, b'\n') => At::TrailerStart,
                (At::TrailerStart | At::Trailer, b'\t' | b' '..=0xff) if byte != 0x7f && self.count < TRAILERS => {
                    self.count += 1;
                    At::Trailer
                }
                _ => return Err(Refused::Chunk),
            };
        }
        Ok((taken, false))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    /// Runs bytes through in pieces of `step`: what passed, or the refusal.
    fn through(bytes: &[u8], step: usize) -> Result<usize, Refused> {
        let mut gate = Gate::default();
        let (mut passed, mut waiting) = (0, Vec::new());
        for piece in bytes.chunks(step) {
            waiting.extend_from_slice(piece);
            while !waiting.is_empty() {
                match gate.look(&waiting, |_| {})? {
                    Pass::Bytes(count) => {
                        passed += count;
                        waiting.drain(..count);
                    }
                    Pass::More => break,
                }
            }
        }
        Ok(passed)
    }

    #[test]
    fn good_messages_pass_whole_in_any_pieces() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nt: v\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(through(text.as_bytes(), step), Ok(text.len()), "{text:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn what_two_programs_could_read_differently_is_refused() {
        for (text, expected) in [
            ("GET / HTTP/1.1\nHost: a\n\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Refused::Syntax),
            ("GET  / HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("GET /  HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("GET\t/ HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("get / HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.0\r\n\r\n", Refused::Version),
            ("GET / HTTP/2.0\r\n\r\n", Refused::Syntax),
            ("GET /\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\n: b\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nA: b\0\r\n\r\n", Refused::Syntax),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Refused::Syntax),
            ("POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n", Refused::Syntax),
            ("POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", Refused::Syntax),
            ("POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n", Refused::Syntax),
            ("POST / HTTP/1.1\r\nContent-Length: \r\n\r\n", Refused::Syntax),
            ("POST / HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n", Refused::Syntax),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Refused::Length),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", Refused::Coding),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Refused::Coding),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Refused::Coding),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", Refused::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n", Refused::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n", Refused::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", Refused::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", Refused::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", Refused::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", Refused::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", Refused::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n", Refused::Chunk),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n", Refused::Chunk),
        ] {
            for step in [1, 3, 1000] {
                assert_eq!(through(text.as_bytes(), step), Err(expected), "{text:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_fields() {
        let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(limits::HEAD_BYTES));
        assert_eq!(through(long.as_bytes(), 4096), Err(Refused::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(limits::HEADER_FIELDS + 1));
        assert_eq!(through(many.as_bytes(), 4096), Err(Refused::TooLarge));
    }

    #[test]
    fn the_target_is_shown_as_it_was_sent() {
        let mut seen = Vec::new();
        Gate::default().look(b"GET /a#b HTTP/1.1\r\n\r\n", |target| seen.extend_from_slice(target)).unwrap();
        assert_eq!(seen, b"/a#b");
    }
}
