//! Reading the head of an HTTP/1.1 message (RFC 9112 §2 to §5), strictly and in one pass.
//!
//! In: bytes from the wire. Out: where each part of the head lies, or "not complete yet", or why it is refused. Leniency is
//! how two programs come to read one message differently, so there is none: lines end in CRLF, one space stands on either
//! side of the target, no line is folded, no name is followed by a space, no control character stands in a value.

use super::refused::Refused;
use crate::{
    http::{field::Name, span::Span},
    limits,
};

use std::cell::RefCell;

/// One header field: where its name and its value lie; the value without the blanks around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) known: Name,
    pub(crate) name: Span,
    pub(crate) value: Span,
}

/// A whole request head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) method: Span,
    pub(crate) target: Span,
    /// Bytes of the head with its empty line.
    pub(crate) length: usize,
}

/// A whole response head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    /// Between 100 and 599.
    pub(crate) status: u16,
    /// HTTP/1.0 instead of HTTP/1.1.
    pub(crate) old: bool,
    pub(crate) reason: Span,
    pub(crate) length: usize,
}

/// Lists of fields of one worker, for whoever reads a head next.
#[derive(Default)]
pub(crate) struct Lists(RefCell<Vec<Vec<Field>>>);

impl Lists {
    pub(super) fn take(&self) -> Vec<Field> {
        self.0.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(USUAL))
    }

    /// Takes a list back; what is in it no longer matters.
    pub(super) fn put(&self, list: Vec<Field>) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT && list.capacity() > 0 {
            kept.push(list);
        }
    }
}

/// Fields of a usual head, and lists kept.
const USUAL: usize = 32;
const KEPT: usize = 16;

/// Reads a request head. `None`: more bytes are needed. `fields` is cleared first.
pub(crate) fn request(text: &[u8], fields: &mut Vec<Field>) -> Result<Option<RequestHead>, Refused> {
    // RFC 9112 §2.2: an empty line before the request line may be ignored; old clients send one after a body.
    let start = match text {
        [b'\r', b'\n', ..] => 2,
        [] | [b'\r'] => return Ok(None),
        _ => 0,
    };
    let too_long = text.len() > limits::HEAD_BYTES;
    let method_end = start + token(text.get(start..).unwrap_or_default());
    match text.get(method_end) {
        None if too_long => return Err(Refused::TooLarge),
        None => return Ok(None),
        Some(b' ') if method_end > start => {}
        Some(_) => return Err(Refused::Syntax),
    }
    let method = text.get(start..method_end).unwrap_or_default();
    if method.iter().any(u8::is_ascii_lowercase) {
        return Err(Refused::Syntax);
    }
    let target_start = method_end + 1;
    let target_end = target_start + visible(text.get(target_start..).unwrap_or_default());
    match text.get(target_end) {
        None if too_long => return Err(Refused::TargetTooLong),
        None => return Ok(None),
        Some(b' ') if target_end > target_start => {}
        Some(_) => return Err(Refused::Syntax),
    }
    let version_start = target_end + 1;
    let Some(version) = text.get(version_start..version_start + 10) else {
        let begun = text.get(version_start..).unwrap_or_default();
        let may_become = [&b"HTTP/1.1\r\n"[..], b"HTTP/1.0\r\n"].iter().any(|whole| whole.starts_with(begun));
        return if may_become { Ok(None) } else { Err(Refused::Syntax) };
    };
    match version {
        b"HTTP/1.1\r\n" => {}
        b"HTTP/1.0\r\n" => return Err(Refused::Version),
        _ => return Err(Refused::Syntax),
    }
    let Some(length) = read_fields(text, version_start + 10, fields)? else { return Ok(None) };
    let (Some(method), Some(target)) = (Span::new(start, method_end), Span::new(target_start, target_end)) else {
        return Err(Refused::TooLarge);
    };
    Ok(Some(RequestHead { method, target, length }))
}

/// Reads a response head. `None`: more bytes are needed. `fields` is cleared first.
pub(crate) fn response(text: &[u8], fields: &mut Vec<Field>) -> Result<Option<ResponseHead>, Refused> {
    let Some(line) = text.get(..13) else {
        // The shortest status line is 14 bytes with its line end; until then only the beginning can be judged.
        let begun = text.get(..text.len().min(7)).unwrap_or_default();
        return if b"HTTP/1.".starts_with(begun) { Ok(None) } else { Err(Refused::Syntax) };
    };
    let (version, rest) = line.split_at(9);
    let old = match version {
        b"HTTP/1.1 " => false,
        b"HTTP/1.0 " => true,
        _ => return Err(Refused::Syntax),
    };
    let [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', after @ (b' ' | b'\r')] = rest else {
        return Err(Refused::Syntax);
    };
    let status = [a, b, c].iter().fold(0, |sum: u16, digit| sum * 10 + u16::from(**digit - b'0'));
    // The space before an empty reason is often forgotten; nothing can be read differently for it.
    let reason_start = if *after == b' ' { 13 } else { 12 };
    let reason_end = reason_start + printable(text.get(reason_start..).unwrap_or_default());
    let fields_start = match (text.get(reason_end), text.get(reason_end + 1)) {
        (Some(b'\r'), Some(b'\n')) => reason_end + 2,
        (None, _) | (Some(b'\r'), None) if text.len() > limits::HEAD_BYTES => return Err(Refused::TooLarge),
        (None, _) | (Some(b'\r'), None) => return Ok(None),
        _ => return Err(Refused::Syntax),
    };
    let Some(length) = read_fields(text, fields_start, fields)? else { return Ok(None) };
    let Some(reason) = Span::new(reason_start, reason_end) else { return Err(Refused::TooLarge) };
    Ok(Some(ResponseHead { status, old, reason, length }))
}

/// Reads a trailer section (RFC 9112 §7.1.2) that is known to be whole.
pub(crate) fn trailers(text: &[u8], fields: &mut Vec<Field>) -> Result<(), Refused> {
    match read_fields(text, 0, fields)? {
        Some(length) if length == text.len() => Ok(()),
        _ => Err(Refused::Chunk),
    }
}

/// Reads field lines from `at` up to and with the empty line; says where that ends.
fn read_fields(text: &[u8], at: usize, fields: &mut Vec<Field>) -> Result<Option<usize>, Refused> {
    fields.clear();
    let mut at = at;
    let incomplete = || if text.len() > limits::HEAD_BYTES { Err(Refused::TooLarge) } else { Ok(None) };
    loop {
        let line = text.get(at..).unwrap_or_default();
        match line {
            [b'\r', b'\n', ..] if at + 2 > limits::HEAD_BYTES => return Err(Refused::TooLarge),
            [b'\r', b'\n', ..] => return Ok(Some(at + 2)),
            [] | [b'\r'] => return incomplete(),
            _ => {}
        }
        let name_end = token(line);
        match line.get(name_end) {
            Some(b':') if name_end > 0 => {}
            None => return incomplete(),
            Some(_) => return Err(Refused::Syntax),
        }
        let name = line.get(..name_end).unwrap_or_default();
        let value_start = name_end + 1;
        let value_end = value_start + printable(line.get(value_start..).unwrap_or_default());
        match (line.get(value_end), line.get(value_end + 1)) {
            (Some(b'\r'), Some(b'\n')) => {}
            (None, _) | (Some(b'\r'), None) => return incomplete(),
            _ => return Err(Refused::Syntax),
        }
        if fields.len() == limits::HEADER_FIELDS {
            return Err(Refused::TooLarge);
        }
        let value = line.get(value_start..value_end).unwrap_or_default();
        let before = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let after = value.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let value_from = at + value_start + before;
        let value_to = (at + value_end).saturating_sub(after).max(value_from);
        let (Some(name_span), Some(value)) = (Span::new(at, at + name_end), Span::new(value_from, value_to)) else {
            return Err(Refused::TooLarge);
        };
        fields.push(Field { known: Name::of(name), name: name_span, value });
        at += value_end + 2;
    }
}

/// Bytes of a token (RFC 9110 §5.6.2) at the start of `text`.
fn token(text: &[u8]) -> usize {
    text.iter().position(|byte| !TOKEN.get(usize::from(*byte)).copied().unwrap_or(false)).unwrap_or(text.len())
}

/// Bytes of a request target at the start of `text`: visible ASCII (RFC 3986 has no other).
fn visible(text: &[u8]) -> usize {
    text.iter().position(|byte| !matches!(byte, 0x21..=0x7e)).unwrap_or(text.len())
}

/// Bytes of a field value or reason at the start of `text`: everything but control characters, the tab excepted
/// (RFC 9110 §5.5). Eight bytes at a time, because most of a head is values.
fn printable(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let (chunks, rest) = text.as_chunks::<8>();
    let mut at = 0;
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let delete = word ^ (ONES * 0x7f);
        let delete = delete.wrapping_sub(ONES) & !delete;
        // One bit for each byte that may be bad: every bad one, the tab, and by a borrow now and then the one after.
        let mut suspects = (below_space | delete) & (ONES * 0x80);
        while suspects != 0 {
            let index = suspects.trailing_zeros() as usize / 8;
            if chunk.get(index).is_some_and(|byte| !is_printable(*byte)) {
                return at + index;
            }
            suspects &= suspects - 1;
        }
        at += 8;
    }
    at + rest.iter().position(|byte| !is_printable(*byte)).unwrap_or(rest.len())
}

fn is_printable(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// Which bytes may stand in a token.
static TOKEN: [bool; 256] = token_table();

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::indexing_slicing, clippy::cast_possible_truncation)]
        {
            table[byte] = matches!(byte as u8,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
                | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
        }
        byte += 1;
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<RequestHead>, Refused> {
        request(text.as_bytes(), &mut Vec::new())
    }

    #[test]
    fn a_request_is_taken_apart() {
        let text = b"GET /a?b HTTP/1.1\r\nHost: x\r\nAccept:\t*/* \r\nEmpty:\r\n\r\nrest";
        let mut fields = Vec::new();
        let head = request(text, &mut fields).unwrap().unwrap();
        assert_eq!((head.method.of(text), head.target.of(text)), (&b"GET"[..], &b"/a?b"[..]));
        assert_eq!(&text[head.length..], b"rest");
        let seen: Vec<_> = fields.iter().map(|f| (f.name.of(text), f.value.of(text))).collect();
        assert_eq!(seen, [(&b"Host"[..], &b"x"[..]), (b"Accept", b"*/*"), (b"Empty", b"")]);
        assert_eq!(fields[0].known, Name::Host);
    }

    #[test]
    fn every_beginning_of_a_good_head_asks_for_more() {
        let text = "\r\nPOST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(read(&text[..end]), Ok(None), "{:?}", &text[..end]);
        }
        assert_eq!(read(text).unwrap().unwrap().length, text.len());
        let text = "HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(response(&text.as_bytes()[..end], &mut Vec::new()), Ok(None), "{:?}", &text[..end]);
        }
        let head = response(text.as_bytes(), &mut Vec::new()).unwrap().unwrap();
        assert_eq!((head.status, head.old, head.reason.of(text.as_bytes())), (404, false, &b"Not Found"[..]));
    }

    #[test]
    fn what_two_programs_could_read_differently_is_refused() {
        for (text, why) in [
            ("GET / HTTP/1.1\nHost: a\n\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Refused::Syntax),
            ("GET  / HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("GET /  HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("GET\t/ HTTP/1.1\r\n\r\n", Refused::Syntax),
            (" GET / HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("get / HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.0\r\n\r\n", Refused::Version),
            ("GET / HTTP/2.0\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1 \r\n\r\n", Refused::Syntax),
            ("GET / http/1.1\r\n\r\n", Refused::Syntax),
            ("GET /\r\n\r\n", Refused::Syntax),
            ("GET /\u{e9} HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("GET /\0 HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\n: b\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nA: b\0\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nA: 0123456789\x7f\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nA: 0123456789\x1b\r\n\r\n", Refused::Syntax),
            ("GET / HTTP/1.1\r\nA\u{e9}: b\r\n\r\n", Refused::Syntax),
        ] {
            assert_eq!(read(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_status_line_is_exact() {
        let read = |text: &str| response(text.as_bytes(), &mut Vec::new()).map(|head| head.map(|head| head.status));
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n"), Ok(Some(200)));
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\n"), Ok(Some(200)));
        assert_eq!(read("HTTP/1.1 200 \r\n\r\n"), Ok(Some(200)));
        assert_eq!(read("HTTP/1.1 200\r\n\r\n"), Ok(Some(200)));
        assert_eq!(read("HTTP/1.1 599 caf\u{e9}\r\n\r\n"), Ok(Some(599)));
        for text in [
            "HTTP/1.1 000 x\r\n\r\n",
            "HTTP/1.1 600 x\r\n\r\n",
            "HTTP/1.1 9999 x\r\n\r\n",
            "HTTP/1.1 2000 x\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "HTTP/1.1 200\tOK\r\n\r\n",
            "junk junk junk junk\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert_eq!(read(text), Err(Refused::Syntax), "{text:?}");
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_fields() {
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(limits::HEAD_BYTES));
        assert_eq!(read(&long), Err(Refused::TooLarge));
        assert_eq!(read(&format!("{long}\r\n\r\n")), Err(Refused::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(limits::HEADER_FIELDS + 1));
        assert_eq!(read(&many), Err(Refused::TooLarge));
        let most = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(limits::HEADER_FIELDS));
        assert!(read(&most).is_ok_and(|head| head.is_some()));
        assert_eq!(read(&format!("GET /{}", "x".repeat(limits::HEAD_BYTES))), Err(Refused::TargetTooLong));
    }

    #[test]
    fn printable_text_is_measured_alike_in_any_place() {
        for length in 0..40 {
            let mut text = vec![b'a'; length];
            assert_eq!(printable(&text), length);
            for at in 0..length {
                for (byte, good) in
                    [(b'\t', true), (0x80, true), (0xff, true), (0x7f, false), (0, false), (0x1f, false)]
                {
                    text[at] = byte;
                    assert_eq!(printable(&text), if good { length } else { at }, "{byte:#x} at {at} of {length}");
                }
                text[at] = b'a';
            }
        }
    }
}
