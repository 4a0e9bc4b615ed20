//! How long a message's body is (RFC 9112 §6.3), decided once from its head; what can be read in two ways is refused.

use super::{
    chunked::{Chunked, Piece},
    head::{Field, ResponseHead},
    refused::Refused,
};
use crate::http::field::{self, Name};

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Until the connection closes: only in responses.
    Close,
}

/// The framing of a request's body.
pub(crate) fn request(fields: &[Field], text: &[u8]) -> Result<Framing, Refused> {
    Ok(match declared(fields, text)? {
        (None | Some(0), false) => Framing::None,
        (Some(length), _) => Framing::Length(length),
        (None, true) => Framing::Chunked,
    })
}

/// The framing of a final response to a request of this method.
pub(crate) fn response(
    head: &ResponseHead,
    fields: &[Field],
    text: &[u8],
    to_head: bool,
    to_connect: bool,
) -> Result<Framing, Refused> {
    let declared = declared(fields, text)?;
    if to_head || head.status < 200 || matches!(head.status, 204 | 304) || (to_connect && head.status < 300) {
        return Ok(Framing::None);
    }
    match declared {
        // HTTP/1.0 has no chunks: two readers would not agree (RFC 9112 §6.1).
        (None, true) if head.old => Err(Refused::Coding),
        (None, true) => Ok(Framing::Chunked),
        (Some(0), _) => Ok(Framing::None),
        (Some(length), _) => Ok(Framing::Length(length)),
        (None, false) => Ok(Framing::Close),
    }
}

/// The length that is declared, and whether `chunked` is; never both.
fn declared(fields: &[Field], text: &[u8]) -> Result<(Option<u64>, bool), Refused> {
    let mut length = None;
    let mut chunked = false;
    for field in fields {
        match field.known {
            Name::ContentLength => {
                if length.is_some() {
                    return Err(Refused::Syntax);
                }
                length = Some(field::number(field.value.of(text)).ok_or(Refused::Syntax)?);
            }
            Name::TransferEncoding => {
                if chunked || !field.value.of(text).eq_ignore_ascii_case(b"chunked") {
                    return Err(Refused::Coding);
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if length.is_some() && chunked { Err(Refused::Length) } else { Ok((length, chunked)) }
}

/// Follows a body by its framing.
#[derive(Debug)]
pub(crate) enum Decoder {
    Done,
    Length(u64),
    Chunked(Chunked),
    Close,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::Close => Self::Close,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// What the next bytes are. A piece of nothing that is not the end asks for more bytes.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Refused> {
        match self {
            Self::Done => Ok(Piece { framing: 0, data: 0, end: true }),
            Self::Close => Ok(Piece { framing: 0, data: bytes.len(), end: false }),
            Self::Length(left) => {
                let data = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= u64::try_from(data).unwrap_or(0);
                let end = *left == 0;
                if end {
                    *self = Self::Done;
                }
                Ok(Piece { framing: 0, data, end })
            }
            // The decoder stays what it is at the end: it still holds the trailers.
            Self::Chunked(chunked) => chunked.next(bytes),
        }
    }

    /// The trailer section of a chunked body that has ended; the decoder is done.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        match std::mem::replace(self, Self::Done) {
            Self::Chunked(mut chunked) => chunked.take_trailers(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::head, *};

    fn of_request(lines: &str) -> Result<Framing, Refused> {
        let text = format!("POST / HTTP/1.1\r\n{lines}\r\n");
        let mut fields = Vec::new();
        head::request(text.as_bytes(), &mut fields).unwrap().unwrap();
        request(&fields, text.as_bytes())
    }

    #[test]
    fn a_request_has_one_length_or_is_refused() {
        for (lines, framing) in [
            ("", Ok(Framing::None)),
            ("Content-Length: 0\r\n", Ok(Framing::None)),
            ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
            ("Content-Length: 4294967296\r\n", Ok(Framing::Length(1 << 32))),
            ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(Refused::Syntax)),
            ("Content-Length: 5, 5\r\n", Err(Refused::Syntax)),
            ("Content-Length: +5\r\n", Err(Refused::Syntax)),
            ("Content-Length: 0x5\r\n", Err(Refused::Syntax)),
            ("Content-Length: \r\n", Err(Refused::Syntax)),
            ("Content-Length: 5 5\r\n", Err(Refused::Syntax)),
            ("Content-Length: 9999999999999999999999\r\n", Err(Refused::Syntax)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(Refused::Length)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Refused::Length)),
            ("Transfer-Encoding: gzip\r\n", Err(Refused::Coding)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(Refused::Coding)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(Refused::Coding)),
            ("Transfer-Encoding: \r\n", Err(Refused::Coding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Refused::Coding)),
        ] {
            assert_eq!(of_request(lines), framing, "{lines:?}");
        }
    }

    #[test]
    fn a_response_has_a_body_only_where_one_may_be() {
        let of = |start: &str, lines: &str, to_head: bool| {
            let text = format!("{start}\r\n{lines}\r\n");
            let mut fields = Vec::new();
            let head = head::response(text.as_bytes(), &mut fields).unwrap().unwrap();
            response(&head, &fields, text.as_bytes(), to_head, false)
        };
        let (ok, old) = ("HTTP/1.1 200 OK", "HTTP/1.0 200 OK");
        assert_eq!(of(ok, "Content-Length: 5\r\n", false), Ok(Framing::Length(5)));
        assert_eq!(of(ok, "Content-Length: 5\r\n", true), Ok(Framing::None));
        assert_eq!(of(ok, "Transfer-Encoding: chunked\r\n", false), Ok(Framing::Chunked));
        assert_eq!(of(ok, "", false), Ok(Framing::Close));
        assert_eq!(of("HTTP/1.1 204 No Content", "Content-Length: 5\r\n", false), Ok(Framing::None));
        assert_eq!(of("HTTP/1.1 304 Not Modified", "Content-Length: 5\r\n", false), Ok(Framing::None));
        assert_eq!(of(old, "", false), Ok(Framing::Close));
        assert_eq!(of(old, "Transfer-Encoding: chunked\r\n", false), Err(Refused::Coding));
        assert_eq!(of(ok, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", true), Err(Refused::Length));
    }
}
