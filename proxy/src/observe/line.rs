//! Building a log line: text that cannot end its field, numbers and times, without an allocation for each.

use crate::decimal::Decimal;
use std::time::{SystemTime, UNIX_EPOCH};

/// Appends text for a quoted field of Envoy's format. Quotes, backslashes and everything that is not printable ASCII become
/// escapes, so that no value can end its field or its line, nor move a terminal's cursor.
pub(super) fn quoted(line: &mut Vec<u8>, text: &str) {
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

/// Appends text for a JSON string (RFC 8259 §7), without its quotes.
pub(super) fn json(line: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    pieces(
        line,
        text,
        |byte| byte < b' ' || matches!(byte, b'"' | b'\\' | 0x7f),
        |line, byte| match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            _ => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                line.extend_from_slice(b"\\u00");
                line.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
        },
    );
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
    pub(super) fn text(&mut self, name: &'static str, value: Option<&str>) {
        self.0.extend_from_slice(name.as_bytes());
        match value {
            None => self.0.extend_from_slice(b"null"),
            Some(text) => {
                self.0.push(b'"');
                json(self.0, text);
                self.0.push(b'"');
            }
        }
    }

    pub(super) fn number(&mut self, name: &'static str, value: Option<u64>) {
        self.0.extend_from_slice(name.as_bytes());
        match value {
            None => self.0.extend_from_slice(b"null"),
            Some(value) => self.0.extend_from_slice(&Decimal::of(value)),
        }
    }

    pub(super) fn truth(&mut self, name: &'static str, value: bool) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(super) fn time(&mut self, name: &'static str, time: SystemTime) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'"');
        super::clock::write(self.0, time);
        self.0.push(b'"');
    }
}

/// The time `since` before now.
pub(super) fn before_now(since: std::time::Duration) -> SystemTime {
    SystemTime::now().checked_sub(since).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_end_its_line() {
        let mut line = Vec::new();
        quoted(&mut line, "a\r\nb\"c\x1b[2J\u{e9}");
        assert_eq!(line, br#"a\x0d\x0ab\"c\x1b[2J\xc3\xa9"#);
    }

    #[test]
    fn any_text_comes_back_out_of_json() {
        for text in ["", "plain", "a\"b\\c", "\0\u{1f}\u{7f}\r\n\t", "caf\u{e9} \u{1f512}"] {
            let mut line = b"\"".to_vec();
            json(&mut line, text);
            line.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&line).unwrap(), text);
            assert!(!line.contains(&b'\n'));
        }
    }
}
