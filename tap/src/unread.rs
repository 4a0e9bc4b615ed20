//! A head that could not be read, as it came: what an attack on framing or parsing looks like to whoever watches.
//!
//! In: the bytes of the head as received. Out: the same bytes, of which only what is known to be no secret is shown: the first
//! line, names, and the values that say how a message is framed. What cannot be read cannot be searched for secrets, so every
//! other value is masked, byte for byte, and so is a line that is no field at all.

use crate::redact::{self, Masked, Redaction};

/// Bytes of a head that are looked at.
const MOST: usize = 8 * 1024;

/// Fields whose values are shown: those by which a message is cut out of the stream, and who it is for.
const SHOWN: [&[u8]; 11] = [
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"proxy-connection",
    b"keep-alive",
    b"upgrade",
    b"expect",
    b"te",
    b"trailer",
    b"content-type",
];

/// The head at the front of `raw`, up to its empty line if there is one.
pub(crate) fn text(redaction: &Redaction, raw: &[u8], masked: &mut Masked) -> Vec<u8> {
    let head = raw.get(..MOST.min(raw.len())).unwrap_or(raw);
    let mut text = Vec::with_capacity(head.len());
    for (number, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let end = line.get(content.len()..).unwrap_or_default();
        if content.is_empty() && number > 0 {
            text.extend_from_slice(end);
            return text;
        }
        if number == 0 {
            // Word by word: the version behind a target is no part of its last parameter.
            for (number, word) in content.split(|byte| *byte == b' ').enumerate() {
                text.extend(if number > 0 { &b" "[..] } else { &[] });
                text.extend_from_slice(&redaction.url(word, true, masked));
            }
        } else {
            field(redaction, content, &mut text, masked);
        }
        text.extend_from_slice(end);
    }
    text
}

/// One line that should be a field.
fn field(redaction: &Redaction, line: &[u8], text: &mut Vec<u8>, masked: &mut Masked) {
    let colon = line.iter().position(|byte| *byte == b':');
    // A line that begins with a blank goes on with the value before it.
    let shown = match colon {
        Some(colon) if !line.first().is_some_and(u8::is_ascii_whitespace) => colon + 1,
        _ => 0,
    };
    let (name, value) = line.split_at_checked(shown).unwrap_or((&[], line));
    let bare = name.strip_suffix(b":").unwrap_or(name).trim_ascii();
    text.extend_from_slice(name);
    let is_shown = SHOWN.iter().any(|known| known.eq_ignore_ascii_case(bare));
    if is_shown && !redaction.masks(bare) {
        text.extend_from_slice(&Redaction::value(value, masked));
    } else {
        masked.headers += u32::from(!value.is_empty());
        text.extend(value.iter().map(|byte| if byte.is_ascii_whitespace() { *byte } else { redact::MASK }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn seen(raw: &str) -> String {
        String::from_utf8(text(&Redaction::default(), raw.as_bytes(), &mut Masked::default())).unwrap()
    }

    #[test]
    fn framing_is_shown_and_every_other_value_is_masked() {
        let raw = "GET /a?token=s HTTP/1.1\r\nContent-Length : 5\r\nTransfer-Encoding: chunked\r\nX: s3cr3t\r\n more\r\nno field\r\n\r\nbody";
        let expected = "GET /a?token=* HTTP/1.1\r\nContent-Length : 5\r\nTransfer-Encoding: chunked\r\nX: ******\r\n ****\r\n** *****\r\n\r\n";
        assert_eq!(seen(raw), expected);
    }

    #[test]
    fn bytes_that_are_no_text_are_taken_too() {
        assert_eq!(seen("\u{1}\u{3}\nAuthorization:Bearer x"), "\u{1}\u{3}\nAuthorization:****** *");
        assert_eq!(seen(""), "");
        assert_eq!(seen("\r\n\r\nrest"), "\r\n\r\n");
    }

    #[test]
    fn a_host_that_is_to_be_hidden_is_hidden_here_too() {
        let redaction = Redaction::new([crate::Secret::Header("host")], []);
        let text = text(&redaction, b"GET\r\nHost: orders\r\n", &mut Masked::default());
        assert_eq!(text, b"GET\r\nHost: ******\r\n");
    }
}
