//! Building a log line: text that cannot end its field, numbers and times, without an allocation for each.

use super::clock::Clock;
use crate::decimal;
use std::time::Duration;

/// Appends text for a quoted field of Envoy's format. Quotes, backslashes and everything that is not printable ASCII become
/// escapes, so that no value can end its field or its line, nor move a terminal's cursor. What is not UTF-8 is U+FFFD.
pub(super) fn quoted(line: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        line.extend_from_slice(text);
    } else {
        quote(line, &String::from_utf8_lossy(text));
    }
}

/// Appends text for a JSON string (RFC 8259 §7), without its quotes. What is not printable ASCII becomes an escape, for the same
/// reason: a terminal takes U+009B for the beginning of a command, and U+2028 ends a line for some readers. What is not UTF-8
/// is U+FFFD.
pub(super) fn json(line: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        line.extend_from_slice(text);
    } else {
        escape(line, &String::from_utf8_lossy(text));
    }
}

/// Whether text is the same in both forms: printable ASCII without quotes and backslashes, as nearly all values are. Looks at
/// sixteen bytes at a time, of a short text at eight; which of them is not plain, nobody asks.
#[inline(always)] // Into the two that ask.
fn is_plain(text: &[u8]) -> bool {
    if let Some(last) = text.last_chunk::<16>() {
        return !text.as_chunks::<16>().0.iter().fold(is_marked(last), |found, bytes| found | is_marked(bytes));
    }
    let word = |bytes: &[u8; 8]| marks(u64::from_ne_bytes(*bytes));
    let found = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => word(first) | word(last),
        _ => match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                marks(u64::from(u32::from_ne_bytes(*first)) << 32 | u64::from(u32::from_ne_bytes(*last)))
            }
            _ => marks(text.iter().fold(ONES * u64::from(b' '), |word, byte| word << 8 | u64::from(*byte))),
        },
    };
    found & HIGH == 0
}

/// Whether one of these is not plain. Written so that a compiler makes a few wide comparisons of it.
#[inline(always)] // Into the loop, to stay in registers.
fn is_marked(bytes: &[u8; 16]) -> bool {
    let mut found = 0;
    for byte in bytes {
        let is_printable = byte.wrapping_sub(b' ') <= b'~' - b' ';
        found |= u8::from(!is_printable) | u8::from(*byte == b'"') | u8::from(*byte == b'\\');
    }
    found != 0
}

/// One in each byte, and the highest bit of each.
const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES * 0x80;

/// Has one of the highest bits set if one of the eight bytes is not plain. Among bytes below 0x80 none of these sums carries
/// over into the next byte, and others are a mark by themselves.
fn marks(word: u64) -> u64 {
    let is_not = |byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_add(ONES * 0x7f);
    let from_space_on = word.wrapping_add(ONES * 0x60);
    let delete_or_more = word.wrapping_add(ONES);
    word | delete_or_more | !(from_space_on & is_not(b'"') & is_not(b'\\'))
}

#[cold]
fn quote(line: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    pieces(
        line,
        text,
        |byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\'),
        |line, byte| match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            _ => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                line.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
            }
        },
    );
}

#[cold]
fn escape(line: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            line.push(b'\\');
        }
        ascii(line, character);
    }
}

/// Appends a document in JSON (RFC 8259) with everything that is not printable ASCII as an escape. Outside of strings there is
/// nothing of the kind.
pub(super) fn document(line: &mut Vec<u8>, text: &str) {
    text.chars().for_each(|character| ascii(line, character));
}

/// Appends a character as itself, or as the escape of a JSON string: one UTF-16 unit, or two (RFC 8259 §7).
fn ascii(line: &mut Vec<u8>, character: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if let (' '..='~', Ok(byte)) = (character, u8::try_from(character)) {
        line.push(byte);
        return;
    }
    for unit in character.encode_utf16(&mut [0; 2]) {
        let digit = |shift: u32| HEX.get(usize::from(*unit >> shift & 15)).copied().unwrap_or(b'0');
        line.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
    }
}

/// Appends runs of good bytes as they are, and each other one as `escape` writes it.
fn pieces(line: &mut Vec<u8>, text: &str, is_bad: impl Fn(u8) -> bool, escape: impl Fn(&mut Vec<u8>, u8)) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| is_bad(*byte)) {
        let (good, after) = rest.split_at(at);
        line.extend_from_slice(good);
        let Some((bad, after)) = after.split_first() else { return };
        escape(line, *bad);
        rest = after;
    }
    line.extend_from_slice(rest);
}

/// The fields of a JSON object, one after the other. A name is given as it is written, with what comes before and after it:
/// `,"method":`.
pub(super) struct Fields<'a>(pub(super) &'a mut Vec<u8>);

impl Fields<'_> {
    /// A value that others chose.
    #[inline(always)] // A name that is known here is a few stores; one that is not is a call to copy it.
    pub(super) fn text(&mut self, name: &'static str, value: Option<&[u8]>) {
        self.0.extend_from_slice(name.as_bytes());
        self.value(value);
    }

    #[inline(never)]
    fn value(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.0.extend_from_slice(b"null"),
            Some(text) => {
                self.0.push(b'"');
                json(self.0, text);
                self.0.push(b'"');
            }
        }
    }

    /// A text of which is known that nothing in it needs an escape.
    #[inline(always)] // As above.
    pub(super) fn plain(&mut self, name: &'static str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'"');
        self.0.extend_from_slice(value);
        self.0.push(b'"');
    }

    /// One of our own words, none of which needs an escape.
    #[inline(always)] // As above.
    pub(super) fn word(&mut self, name: &'static str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    #[inline(always)] // As above.
    pub(super) fn number(&mut self, name: &'static str, value: Option<u64>) {
        self.0.extend_from_slice(name.as_bytes());
        match value {
            None => self.0.extend_from_slice(b"null"),
            Some(value) => decimal::write(self.0, value),
        }
    }

    pub(super) fn truth(&mut self, name: &'static str, value: bool) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(super) fn time(&mut self, name: &'static str, clock: &Clock, since_1970: Duration) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'"');
        clock.write(self.0, since_1970);
        self.0.push(b'"');
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_end_its_line() {
        let mut line = Vec::new();
        quoted(&mut line, b"a\r\nb\"c\x1b[2J\xc3\xa9\xff");
        assert_eq!(line, br#"a\x0d\x0ab\"c\x1b[2J\xc3\xa9\xef\xbf\xbd"#);
    }

    #[test]
    fn any_text_comes_back_out_of_json() {
        for text in [
            "",
            "plain",
            "a\"b\\c",
            "\0\u{1f}\u{7f}\r\n\t",
            "caf\u{e9} \u{1f512}",
            "\u{80}\u{9b}31m\u{2028}\u{202e}\u{ffff}",
        ] {
            let mut line = b"\"".to_vec();
            json(&mut line, text.as_bytes());
            line.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&line).unwrap(), text);
            assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~')));
        }
    }

    #[test]
    fn a_document_comes_back_out_of_ascii() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{7f}\u{1f512}", "\"\\\n", 1, null] });
        let mut line = Vec::new();
        document(&mut line, &value.to_string());
        assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~')));
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap(), value);
    }

    /// Every byte in every place of texts of every length around the steps of the search, alone and beside a second one.
    #[test]
    fn the_quick_look_and_the_slow_one_agree() {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        for length in 0..=34 {
            for filling in [b' ', b'a', b'~'] {
                let mut text = vec![filling; length];
                assert!(is_plain(&text));
                for at in 0..length {
                    for byte in 0..=255 {
                        text[at] = byte;
                        assert_eq!(is_plain(&text), plain(byte), "{byte:#x} at {at} of {length}");
                        let lossy = String::from_utf8_lossy(&text);
                        for (quick, slow) in [(quoted as fn(&mut _, &[u8]), quote as fn(&mut _, &str)), (json, escape)]
                        {
                            let (mut one, mut other) = (Vec::new(), Vec::new());
                            quick(&mut one, &text);
                            slow(&mut other, &lossy);
                            assert_eq!(one, other);
                        }
                    }
                    text[at] = filling;
                }
            }
        }
        for (one, other) in (0..=255).flat_map(|one| (0..=255).map(move |other| (one, other))) {
            for text in [[one, other].as_slice(), &[one, b'a', b'a', b'a', b'a', other, b'a', b'a', b'a']] {
                assert_eq!(is_plain(text), plain(one) && plain(other), "{text:x?}");
            }
        }
    }
}
