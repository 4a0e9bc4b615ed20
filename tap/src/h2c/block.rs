//! Header blocks, from the text that [`crate::head`] has written.
//!
//! In: a first line, lines of fields, and what is masked. Out: pseudo-header fields and fields, names in lower case, nothing of a
//! connection. Refuses a field without a name.

use http::Method;

use crate::hpack;
use crate::redact::{Redaction, Treatment};

/// The block of a head of a request, from its text. `None`: it has a field without a name.
pub(super) fn request_fields(block: &mut Vec<u8>, method: &Method, text: &[u8], redaction: &Redaction) -> Option<()> {
    let (line, lines) = split(text);
    let target = line.get(method.as_str().len() + 1..)?;
    let target = target.strip_suffix(b" HTTP/1.1").unwrap_or(target);
    hpack::field(block, false, b":method", method.as_str().as_bytes());
    // CONNECT has neither scheme nor path (RFC 9113 section 8.5).
    if *method != Method::CONNECT {
        hpack::field(block, false, b":scheme", b"http");
        hpack::field(block, false, b":path", target);
    }
    // The text has it first, wherever it came from (RFC 9113 section 8.3.1).
    let (first, rest) = split(lines);
    match pair(first) {
        Some((name, host)) if name.eq_ignore_ascii_case(b"host") => {
            hpack::field(block, is_secret(redaction, b"host"), b":authority", host);
            fields(block, rest, redaction)
        }
        _ => {
            if *method == Method::CONNECT {
                hpack::field(block, is_secret(redaction, b"host"), b":authority", target);
            }
            fields(block, lines, redaction)
        }
    }
}

/// Fields of a block, from lines of text. `None`: one has no name.
pub(super) fn fields(block: &mut Vec<u8>, lines: &[u8], redaction: &Redaction) -> Option<()> {
    let mut rest = lines;
    while !rest.is_empty() {
        let (line, behind) = split(rest);
        rest = behind;
        let (name, value) = pair(line)?;
        let name = name.to_ascii_lowercase();
        if name.is_empty() {
            return None;
        }
        if !is_of_connection(&name, value) {
            hpack::field(block, is_secret(redaction, &name), &name, value);
        }
    }
    Some(())
}

/// Whether values of this name are masked, as a whole or in parts.
fn is_secret(redaction: &Redaction, name: &[u8]) -> bool {
    matches!(redaction.header(name), Treatment::Mask | Treatment::Cookies { .. })
}

/// Fields that HTTP/2 does not have (RFC 9113 section 8.2.2).
fn is_of_connection(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"connection" | b"http2-settings" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            true
        }
        b"te" => !value.eq_ignore_ascii_case(b"trailers"),
        _ => false,
    }
}

/// The first line, and what is behind its end.
pub(super) fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.windows(2).position(|two| two == b"\r\n").unwrap_or(text.len());
    let (line, behind) = text.split_at_checked(end).unwrap_or((text, &[]));
    (line, behind.get(2..).unwrap_or_default())
}

/// Name and value of a line, without the blanks around a value (RFC 9113 section 8.2.1).
fn pair(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let mut value = value.get(1..)?;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    Some((name, value))
}

pub(super) fn content_length(block: &mut Vec<u8>, length: u64) {
    hpack::field(block, false, b"content-length", length.to_string().as_bytes());
}
