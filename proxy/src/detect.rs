//! Telling HTTP from other protocols by their first bytes.
//!
//! In: a stream whose first bytes are not known yet. Out: what it speaks, with every byte put back. Bytes are gathered until
//! they decide, because a request line or the HTTP/2 preface may come in pieces. A protocol in which the server speaks first
//! never decides: after the deadline it counts as opaque, and should be declared (`protocol = "tcp"`).
//!
//! Calling HTTP opaque is safe: an opaque connection passes only under a rule that allows every byte of its port.

use crate::{
    http::{Http, PREFACE},
    limits,
    stream::Stream,
};
use bytes::BytesMut;
use std::{io, time::Duration};
use tokio::io::AsyncReadExt;

/// What a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    Http(Http),
    Opaque,
}

/// Reads until it is clear, at most `deadline`.
pub(crate) async fn detect(stream: &mut Stream, deadline: Duration) -> io::Result<Detected> {
    let mut seen = BytesMut::with_capacity(1024);
    let reading = async {
        loop {
            if let Some(detected) = decide(&seen) {
                return Ok::<_, io::Error>(detected);
            }
            if stream.read_buf(&mut seen).await? == 0 {
                // The other end said all it had to say.
                return Ok(Detected::Opaque);
            }
        }
    };
    let detected = match tokio::time::timeout(deadline, reading).await {
        Ok(detected) => detected?,
        Err(_elapsed) => Detected::Opaque,
    };
    stream.put_back(seen.freeze());
    Ok(detected)
}

/// `None`: more bytes are needed.
pub(crate) fn decide(seen: &[u8]) -> Option<Detected> {
    if seen.starts_with(PREFACE) {
        return Some(Detected::Http(Http::Two));
    }
    if PREFACE.starts_with(seen) {
        return None;
    }
    // RFC 9112 §2.2: one empty line before a request line may be ignored, and is.
    let seen = match seen {
        [b'\r'] | [b'\r', b'\n'] => return None,
        [b'\r', b'\n', rest @ ..] => rest,
        _ => seen,
    };
    // What lies behind the bound decides nothing either.
    let seen = seen.get(..limits::DETECT_BYTES).unwrap_or(seen);
    match seen.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = seen.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // The same conditions as while the line was not whole: how the bytes were cut must not decide.
            let is_http = may_become_request_line(line) && is_request_line(line);
            Some(if is_http { Detected::Http(Http::One) } else { Detected::Opaque })
        }
        None if !may_become_request_line(seen) => Some(Detected::Opaque),
        // Longer than any request line we would take: HTTP, to be refused as such.
        None if seen.len() >= limits::DETECT_BYTES => Some(Detected::Http(Http::One)),
        None => None,
    }
}

/// Ends in an HTTP version (RFC 9112 §3): the one part of a request line no other line-based protocol has.
fn is_request_line(line: &[u8]) -> bool {
    let Some((_, tail)) = line.split_at_checked(line.len().saturating_sub(9)) else {
        return false;
    };
    matches!(tail, [b' ' | b'\t', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// A token, a space, then anything: so far this may be a request line, if only a bad one.
fn may_become_request_line(seen: &[u8]) -> bool {
    let method = seen.iter().position(|byte| *byte == b' ').unwrap_or(seen.len());
    let (method, _) = seen.split_at(method.min(seen.len()));
    method.len() <= 32
        && (!method.is_empty() || seen.is_empty())
        && method.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_http_leads_to_http() {
        for (text, expected) in [
            (&b"GET /api/orders/42 HTTP/1.1\r\n"[..], Detected::Http(Http::One)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Detected::Http(Http::Two)),
            (b"PRIVATE / HTTP/1.1\r\n", Detected::Http(Http::One)),
            (b"get / HTTP/1.0\n", Detected::Http(Http::One)),
            (b"\r\nGET / HTTP/1.1\r\n", Detected::Http(Http::One)),
        ] {
            for cut in 0..text.len() {
                assert_eq!(decide(&text[..cut]), None, "{:?}", String::from_utf8_lossy(&text[..cut]));
            }
            assert_eq!(decide(text), Some(expected));
        }
    }

    #[test]
    fn other_protocols_are_opaque() {
        for text in [
            &b"*1\r\n$4\r\nPING\r\n"[..],
            b"PING\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"EHLO example.org\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"GET /\r\n",
            b"\r\nPING\r\n",
            b"\r\n\r\nGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(decide(text), Some(Detected::Opaque), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn how_the_bytes_were_cut_does_not_decide() {
        let long = format!("{} / HTTP/1.1\r\n", "M".repeat(33));
        for text in
            ["GET /\0\x01 HTTP/1.1\r\n", "GE(T / HTTP/1.1\r\n", " GET / HTTP/1.1\r\n", "GET\t/ HTTP/1.1\r\n", &long]
        {
            let whole = decide(text.as_bytes());
            let first = (1..text.len()).find_map(|cut| decide(&text.as_bytes()[..cut]));
            assert!(
                whole.is_some() && first.is_none_or(|first| Some(first) == whole),
                "{text:?}: {first:?}, then {whole:?}"
            );
        }
        // To be refused as HTTP, with an answer.
        assert_eq!(decide(b"GET /\0\x01 HTTP/1.1\r\n"), Some(Detected::Http(Http::One)));
    }

    #[test]
    fn a_line_without_end_is_http_when_it_looks_like_it() {
        let mut long = b"GET /".to_vec();
        long.resize(limits::DETECT_BYTES, b'a');
        assert_eq!(decide(&long), Some(Detected::Http(Http::One)));
    }
}
