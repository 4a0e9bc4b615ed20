//! HTTP/1.1 messages out of ordered bytes (RFC 9112 section 6.3).
//!
//! In: what one side has said so far. Out: the first whole message, or that more is needed. Refuses what is not
//! HTTP/1.1; a message that the connection's end cut short is given as far as it came.

/// One message and what it means for the next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    pub(super) trailers: String,
    pub(super) complete: bool,
    /// After a request: what its response will be like. After a response: whether another one follows.
    pub(super) then: Expect,
}

/// What is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Request,
    /// The response to most requests.
    Response,
    /// The response to HEAD.
    Bare,
    /// The response to CONNECT.
    Tunnel,
    /// An interim response was read: the same response is still awaited.
    AnotherResponse,
    /// The protocol changed.
    NoMoreHttp,
}

/// What came of looking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    NotHttp,
    Message { used: usize, message: Message },
}

/// Looks for the first message in `bytes`; `ended` says that none follow.
pub(super) fn next(bytes: &[u8], ended: bool, expect: Expect) -> Step {
    if bytes.is_empty() {
        return Step::More;
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if ended {
            cut_head(bytes)
        } else if bytes.len() > MAX_HEAD {
            Step::NotHttp
        } else {
            Step::More
        };
    };
    let (head, rest) = bytes.split_at(end + 4);
    let head = lines(head);
    let Some((framing, then)) = understand(&head, expect) else {
        return Step::NotHttp;
    };
    let taken = match framing {
        Framing::Nothing => Taken { used: 0, body: Vec::new(), trailers: String::new(), complete: true },
        Framing::Length(n) => match rest.split_at_checked(n) {
            Some((body, _)) => Taken { used: n, body: body.to_vec(), trailers: String::new(), complete: true },
            None if ended => Taken { used: rest.len(), body: rest.to_vec(), trailers: String::new(), complete: false },
            None => return Step::More,
        },
        Framing::UntilClose if ended => {
            Taken { used: rest.len(), body: rest.to_vec(), trailers: String::new(), complete: true }
        }
        Framing::UntilClose => return Step::More,
        Framing::Chunked => match chunked(rest) {
            Chunks::Whole(taken) => taken,
            Chunks::Part(body) if ended => Taken { used: rest.len(), body, trailers: String::new(), complete: false },
            Chunks::Part(_) => return Step::More,
            Chunks::Nonsense => return Step::NotHttp,
        },
    };
    let Taken { used, body, trailers, complete } = taken;
    Step::Message { used: end + 4 + used, message: Message { head, body, trailers, complete, then } }
}

struct Taken {
    used: usize,
    body: Vec<u8>,
    trailers: String,
    complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Nothing,
    Length(usize),
    Chunked,
    UntilClose,
}

/// The connection ended inside the head.
fn cut_head(bytes: &[u8]) -> Step {
    let message = Message {
        head: lines(bytes),
        body: Vec::new(),
        trailers: String::new(),
        complete: false,
        then: Expect::NoMoreHttp,
    };
    Step::Message { used: bytes.len(), message }
}

/// Body framing and what follows, or `None` where it is not HTTP/1.1.
fn understand(head: &str, expect: Expect) -> Option<(Framing, Expect)> {
    let mut lines = head.lines();
    let mut first = lines.next()?.splitn(3, ' ');
    let (one, two, three) = (first.next()?, first.next()?, first.next());
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    };
    let lengths = all("content-length");
    let declared = match lengths.as_slice() {
        [] => None,
        [one] => Some(Framing::Length(number(one, 10)?)),
        // Two lengths are two messages to two readers.
        _ => return None,
    };
    let framing = match all("transfer-encoding").as_slice() {
        [] => declared,
        [coding] if coding.eq_ignore_ascii_case("chunked") && declared.is_none() => Some(Framing::Chunked),
        _ => return None,
    };
    if expect == Expect::Request {
        if three? != "HTTP/1.1" || two.is_empty() || one.is_empty() {
            return None;
        }
        let then = match one {
            "HEAD" => Expect::Bare,
            "CONNECT" => Expect::Tunnel,
            _ => Expect::Response,
        };
        return Some((framing.unwrap_or(Framing::Nothing), then));
    }
    if one != "HTTP/1.1" || two.len() != 3 {
        return None;
    }
    let status: u16 = two.parse().ok()?;
    let bare = expect == Expect::Bare || matches!(status, 100..=199 | 204 | 304);
    Some(match (status, expect) {
        (101, _) => (Framing::Nothing, Expect::NoMoreHttp),
        (200..=299, Expect::Tunnel) => (Framing::Nothing, Expect::NoMoreHttp),
        (100..=199, _) => (Framing::Nothing, Expect::AnotherResponse),
        _ if bare => (Framing::Nothing, Expect::Response),
        _ => (framing.unwrap_or(Framing::UntilClose), Expect::Response),
    })
}

enum Chunks {
    Whole(Taken),
    Part(Vec<u8>),
    Nonsense,
}

/// RFC 9112 section 7.1.
fn chunked(bytes: &[u8]) -> Chunks {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((line, after)) = split_line(rest) else {
            return Chunks::Part(body);
        };
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = str::from_utf8(digits).ok().and_then(|text| number(text.trim(), 16));
        let Some(size) = size else {
            return Chunks::Nonsense;
        };
        if size == 0 {
            return trailers(bytes, after, body);
        }
        let Some((chunk, after)) = after.split_at_checked(size) else {
            body.extend_from_slice(after);
            return Chunks::Part(body);
        };
        body.extend_from_slice(chunk);
        rest = match after {
            [b'\r', b'\n', after @ ..] => after,
            [] | [b'\r'] => return Chunks::Part(body),
            _ => return Chunks::Nonsense,
        };
    }
}

fn trailers(all: &[u8], after_last: &[u8], body: Vec<u8>) -> Chunks {
    let mut text = String::new();
    let mut rest = after_last;
    loop {
        let Some((line, after)) = split_line(rest) else {
            return Chunks::Part(body);
        };
        rest = after;
        if line.is_empty() {
            let used = all.len() - rest.len();
            return Chunks::Whole(Taken { used, body, trailers: text, complete: true });
        }
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
}

/// Digits only: the library would also take a sign.
fn number(text: &str, radix: u32) -> Option<usize> {
    let digits = text.chars().all(|c| c.is_digit(radix));
    usize::from_str_radix(text, radix).ok().filter(|_| digits)
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((bytes.get(..end)?, bytes.get(end + 2..)?))
}

/// Text with `\n` line ends, without the empty line at the end.
fn lines(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head).replace("\r\n", "\n");
    let mut text = text.trim_end_matches('\n').to_owned();
    text.push('\n');
    text
}

/// Longest head that is waited for.
const MAX_HEAD: usize = 256 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(bytes: &[u8], ended: bool, expect: Expect) -> (usize, Message) {
        match next(bytes, ended, expect) {
            Step::Message { used, message } => (used, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn body_ends_where_its_framing_says() {
        let (used, m) = message(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET", false, Expect::Request);
        assert_eq!((used, &m.body[..], m.complete, m.then), (41, &b"abc"[..], true, Expect::Response));
        let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\na;x=1\r\n0123456789\r\n0\r\ngrpc-status: 0\r\n\r\nrest";
        let (used, m) = message(chunks, false, Expect::Response);
        assert_eq!(
            (used, &m.body[..], m.trailers.as_str()),
            (chunks.len() - 4, &b"abc0123456789"[..], "grpc-status: 0\n")
        );
        let (_, m) = message(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", false, Expect::Bare);
        assert!(m.complete && m.body.is_empty());
    }

    #[test]
    fn message_cut_short_is_given_as_far_as_it_came() {
        let (_, m) = message(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", true, Expect::Request);
        assert_eq!((&m.body[..], m.complete), (&b"abc"[..], false));
        let (_, m) =
            message(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true, Expect::Response);
        assert_eq!((&m.body[..], m.complete), (&b"abc"[..], false));
        let (_, m) = message(b"GET / HT", true, Expect::Request);
        assert!(!m.complete);
    }

    #[test]
    fn two_readings_of_one_message_are_refused() {
        let both = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc";
        assert_eq!(next(both, false, Expect::Request), Step::NotHttp);
        let twice = b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd";
        assert_eq!(next(twice, false, Expect::Request), Step::NotHttp);
        assert_eq!(next(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false, Expect::Request), Step::NotHttp);
    }

    #[test]
    fn protocol_change_ends_the_reading() {
        let (_, m) = message(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello", false, Expect::Response);
        assert_eq!(m.then, Expect::NoMoreHttp);
        let (_, m) = message(b"HTTP/1.1 100 Continue\r\n\r\n", false, Expect::Response);
        assert_eq!(m.then, Expect::AnotherResponse);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            head in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]),
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\r\n0123456789abcdef: ".to_vec())], 0..200),
            ended: bool,
        ) {
            let all = [head.as_bytes(), &bytes].concat();
            for expect in [Expect::Request, Expect::Response, Expect::Bare, Expect::Tunnel] {
                if let Step::Message { used, .. } = next(&all, ended, expect) {
                    prop_assert!(used <= all.len() && used > 0);
                }
            }
        }
    }
}
