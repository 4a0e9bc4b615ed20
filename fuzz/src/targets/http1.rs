//! HTTP/1.1 as our own codec reads it. Strict: what it takes has one reading, and httparse has the same one.

use super::forwarded;
use crate::given::pieces;
use proxy::fuzzing::{
    head,
    http1::{self, Body, Framing, Message, Pair},
};

pub(super) const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"GET ",
    b"POST ",
    b"CONNECT ",
    b"OPTIONS * ",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 101 Switching\r\n",
    b"HTTP/1.1 204 \r\n",
    b"HTTP/1.1 304\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Upgrade: h2c\r\n",
    b"Connection: close, host\r\n",
    b"TE: trailers\r\n",
    b"Expect: 100-continue\r\n",
    b"X-Forwarded-Client-Cert: By=x\r\n",
    b"x_forwarded_client_cert: x\r\n",
    b"X-Envoy-Internal: true\r\n",
    b"X-Request-Id: ",
    b"X-HTTP-Method-Override: ",
    b"Content-Type: application/grpc\r\n",
    b"http://a:80/",
    b"https://a",
    b"/..",
    b"%2e",
    b"%2f",
    b"%25",
    b";",
    b"#",
    b"?",
    b"//",
    b"\\",
    b"\t",
    b"\0",
    b"\x7f",
    b"\x80",
    b"keep-alive",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Reads a request's head and writes it on.
pub(super) fn request(text: &[u8]) {
    let whole = http1::request(text);
    grows_into(text, &whole, http1::request);
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Request::new(&mut headers);
    let status = theirs.parse(text);
    match &whole {
        Ok(Some(message)) => {
            is_sound(message, text);
            let Ok(httparse::Status::Complete(length)) = status else { panic!("httparse refuses: {status:?}") };
            let start = (theirs.method.unwrap().as_bytes().to_vec(), theirs.path.unwrap().as_bytes().to_vec());
            assert_eq!((length, start), (message.length, message.start.clone()));
            assert_eq!(parsed(theirs.headers), message.fields);
        }
        Ok(None) => assert!(!matches!(status, Ok(httparse::Status::Complete(_))), "we wait, httparse has read it"),
        Err(_) => {}
    }
    if let Some(forwarded) = head::http1(text) {
        let message = whole.unwrap().unwrap();
        forwarded::check(&forwarded, Some(message.framing));
    }
}

/// Reads a response's head, to GET and to HEAD, and writes it on.
pub(super) fn response(text: &[u8]) {
    for to_head in [false, true] {
        let whole = http1::response(text, to_head);
        grows_into(text, &whole, |text| http1::response(text, to_head));
        let mut headers = [httparse::EMPTY_HEADER; 256];
        let mut theirs = httparse::Response::new(&mut headers);
        let status = theirs.parse(text);
        match &whole {
            Ok(Some(message)) => {
                is_sound(message, text);
                let Ok(httparse::Status::Complete(length)) = status else { panic!("httparse refuses: {status:?}") };
                assert_eq!(length, message.length);
                assert_eq!(theirs.code.unwrap().to_string().into_bytes(), message.start.0);
                assert_eq!(parsed(theirs.headers), message.fields);
                goes_down(text, to_head, message);
            }
            Ok(None) => assert!(!matches!(status, Ok(httparse::Status::Complete(_))), "we wait, httparse has read it"),
            Err(_) => assert!(http1::answered(text, to_head).is_none()),
        }
    }
}

/// What is written down is read as the same status with the same body.
fn goes_down(text: &[u8], to_head: bool, message: &Message) {
    let out = http1::answered(text, to_head).unwrap();
    let again = http1::response(&out, to_head).unwrap().unwrap();
    assert_eq!(again.length, out.len());
    assert_eq!(again.start, message.start);
    let framing = match message.framing {
        Framing::Close => Framing::Chunked,
        framing => framing,
    };
    // A body of no bytes may be announced as such.
    let is_none = framing == Framing::None && message.start.0 >= b"200".to_vec() && again.framing == Framing::Close;
    assert!(again.framing == framing || is_none, "{framing:?} became {:?}", again.framing);
    for (name, _) in &again.fields {
        for of_one_hop in ["keep-alive", "proxy-connection", "connection", "upgrade"] {
            assert!(!name.eq_ignore_ascii_case(of_one_hop.as_bytes()), "{of_one_hop}");
        }
    }
}

/// Every beginning either asks for more, or says what the whole says.
fn grows_into<E: PartialEq + std::fmt::Debug>(
    text: &[u8],
    whole: &Result<Option<Message>, E>,
    read: impl Fn(&[u8]) -> Result<Option<Message>, E>,
) {
    let mut until = 0;
    for piece in pieces(text) {
        until += piece.len();
        match read(&text[..until]) {
            Ok(None) => {}
            decided => {
                assert_eq!(&decided, whole, "decided after {until} bytes");
                return;
            }
        }
    }
}

/// What any reader could want of a head.
fn is_sound(message: &Message, text: &[u8]) {
    assert!(text[..message.length].ends_with(b"\r\n\r\n"));
    let is_token = |name: &[u8]| {
        !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
    };
    let is_text = |value: &[u8]| value.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t');
    for (name, value) in &message.fields {
        assert!(is_token(name) && is_text(value) && value.trim_ascii() == value.as_slice());
    }
    let all = |name: &str| -> Vec<&[u8]> {
        message
            .fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| v.as_slice())
            .collect()
    };
    // RFC 9112 section 6.3: one length or one coding.
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two framings");
    assert!(codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked")));
    assert!(lengths.iter().all(|length| !length.is_empty() && length.iter().all(u8::is_ascii_digit)));
    if let Framing::Length(length) = message.framing {
        assert_eq!(std::str::from_utf8(lengths[0]).unwrap().parse(), Ok(length));
    }
    assert_eq!(message.framing == Framing::Chunked, message.framing == Framing::Chunked && codings.len() == 1);
}

fn parsed(headers: &[httparse::Header<'_>]) -> Vec<Pair> {
    headers.iter().map(|header| (header.name.as_bytes().to_vec(), header.value.trim_ascii().to_vec())).collect()
}

pub(super) const CHUNKS: &[&[u8]] = &[
    b"\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"1\r\nx\r\n",
    b";a=b",
    b";a=\"b\"",
    b"ffffffffffffffff",
    b"00000000000000",
    b"0x1",
    b"a: b\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: a\r\n",
    b"x-checksum: 1\r\n",
    b"\n",
    b"\r",
    b"\t",
];

/// Follows a chunked body, in one piece and in many, beside a reader that has the whole of it.
pub(super) fn chunked(text: &[u8]) {
    let simple = read_whole(text);
    let whole = follow(std::iter::once(text));
    let in_pieces = follow(pieces(text));
    assert_eq!(whole, simple);
    assert_eq!(in_pieces, simple);
    if let Read::Ended { trailers, .. } = &simple
        && !trailers.is_empty()
        && let Ok(out) = http1::last_chunk(&[trailers.as_slice(), b"\r\n"].concat())
    {
        let Read::Ended { data, used, .. } = read_whole(&out) else { panic!("our own end of a body is refused") };
        assert!(data.is_empty() && used == out.len());
    }
    let size = http1::chunk_size(text.len());
    assert_eq!(size, format!("{:x}\r\n", text.len()).into_bytes());
}

/// What became of a body.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// With the lines of its trailers as they came, and how many bytes it was.
    Ended {
        data: Vec<u8>,
        trailers: Vec<u8>,
        used: usize,
    },
    More {
        data: Vec<u8>,
    },
    Refused,
}

fn follow<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut body = Body::new(Framing::Chunked);
    let (mut data, mut used) = (Vec::new(), 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            let Ok((framing, count, end)) = body.next(piece) else { return Read::Refused };
            assert!(framing + count > 0 || end);
            data.extend_from_slice(&piece[framing..framing + count]);
            used += framing + count;
            piece = &piece[framing + count..];
            if end {
                let trailers = body.trailer_text();
                return Read::Ended {
                    data,
                    trailers: trailers.strip_suffix(b"\r\n").unwrap_or_default().to_vec(),
                    used,
                };
            }
        }
    }
    Read::More { data }
}

/// RFC 9112 section 7.1, with our bounds, on bytes that are all there.
fn read_whole(text: &[u8]) -> Read {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let rest = &text[at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 15 {
            return Read::Refused;
        }
        let Some(after) = rest.get(digits) else { return Read::More { data } };
        if digits == 0 || !b";\r".contains(after) {
            return Read::Refused;
        }
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..digits]).unwrap(), 16).unwrap();
        let mut line = digits;
        if *after == b';' {
            let extension = rest[digits + 1..].iter().take_while(|byte| matches!(byte, b'\t' | b' '..=b'~')).count();
            if extension > 256 {
                return Read::Refused;
            }
            line += 1 + extension;
        }
        match line_end(&rest[line..]) {
            Some(true) => {}
            Some(false) => return Read::Refused,
            None => return Read::More { data },
        }
        at += line + 2;
        if size == 0 {
            break;
        }
        let rest = &text[at..];
        let Some(chunk) = rest.get(..size) else {
            data.extend_from_slice(rest);
            return Read::More { data };
        };
        data.extend_from_slice(chunk);
        match line_end(&rest[size..]) {
            Some(true) => at += size + 2,
            Some(false) => return Read::Refused,
            None => return Read::More { data },
        }
    }
    let start = at;
    loop {
        let rest = &text[at..];
        let line = rest.iter().take_while(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)).count();
        match line_end(&rest[line..]) {
            Some(true) if line == 0 => return Read::Ended { data, trailers: text[start..at].to_vec(), used: at + 2 },
            Some(true) => at += line + 2,
            Some(false) => return Read::Refused,
            None => return Read::More { data },
        }
    }
}

/// Whether the bytes begin with CRLF; `None` while they may.
fn line_end(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [] | [b'\r'] => None,
        [b'\r', b'\n', ..] => Some(true),
        _ => Some(false),
    }
}
