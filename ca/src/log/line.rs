//! One JSON object on one line, in the only spelling that counts.
//!
//! A writer and a reader with the same methods. Keys stand in the order in which they are asked for, without
//! white space; numbers are decimal without leading zeros; text is printable ASCII with `\"`, `\\` and `\uxxxx`
//! (lower case, pairs above U+FFFF). The reader refuses everything else, so two different lines never mean the
//! same.

use std::fmt;

use super::hash::{self, Hash};
use super::stamp::Stamp;

/// Writes one line, without a line feed.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    separator: u8,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, separator: b'{' }
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.out.extend(value.to_string().as_bytes());
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(b'"');
        for c in value.chars() {
            match c {
                '"' | '\\' => self.out.extend([b'\\', c as u8]),
                ' '..='~' => self.out.push(c as u8),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.extend(b"\\u");
                        hash::push_hex(&unit.to_be_bytes(), self.out);
                    }
                }
            }
        }
        self.out.push(b'"');
    }

    pub(crate) fn null(&mut self, key: &str) {
        self.key(key);
        self.out.extend(b"null");
    }

    pub(crate) fn hash(&mut self, key: &str, value: &Hash) {
        self.hex(key, value.as_bytes());
    }

    pub(crate) fn hex(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        hash::push_hex(value, self.out);
        self.out.push(b'"');
    }

    pub(crate) fn stamp(&mut self, key: &str, value: Stamp) {
        self.key(key);
        self.out.push(b'"');
        value.push(self.out);
        self.out.push(b'"');
    }

    pub(crate) fn text_or_null(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    pub(crate) fn hash_or_null(&mut self, key: &str, value: Option<&Hash>) {
        match value {
            Some(value) => self.hash(key, value),
            None => self.null(key),
        }
    }

    pub(crate) fn end(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        self.out.push(self.separator);
        self.separator = b',';
        self.out.push(b'"');
        self.out.extend(key.as_bytes());
        self.out.extend(b"\":");
    }
}

/// Reads one line, key by key.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    separator: u8,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Self {
        Self { rest: line, separator: b'{' }
    }

    pub(crate) fn number(&mut self, key: &'static str) -> Result<u64, Misread> {
        self.key(key)?;
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (text, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let leading_zero = digits > 1 && text.first() == Some(&b'0');
        std::str::from_utf8(text).ok().filter(|_| !leading_zero).and_then(|text| text.parse().ok()).ok_or(Misread(key))
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Result<String, Misread> {
        self.key(key)?;
        self.string().ok_or(Misread(key))
    }

    pub(crate) fn hash(&mut self, key: &'static str) -> Result<Hash, Misread> {
        self.hex(key).map(Hash::from_bytes)
    }

    pub(crate) fn hex<const N: usize>(&mut self, key: &'static str) -> Result<[u8; N], Misread> {
        self.key(key)?;
        self.plain(N * 2).and_then(hash::from_hex).ok_or(Misread(key))
    }

    pub(crate) fn stamp(&mut self, key: &'static str) -> Result<Stamp, Misread> {
        self.key(key)?;
        self.plain(24).and_then(|text| Stamp::read(text.try_into().ok()?)).ok_or(Misread(key))
    }

    pub(crate) fn number_or_null(&mut self, key: &'static str) -> Result<Option<u64>, Misread> {
        self.or_null(key, Self::number)
    }

    pub(crate) fn text_or_null(&mut self, key: &'static str) -> Result<Option<String>, Misread> {
        self.or_null(key, Self::text)
    }

    pub(crate) fn hash_or_null(&mut self, key: &'static str) -> Result<Option<Hash>, Misread> {
        self.or_null(key, Self::hash)
    }

    /// The end of the object, and of the line.
    pub(crate) fn end(self) -> Result<(), Misread> {
        if self.rest == b"}" { Ok(()) } else { Err(Misread("the end")) }
    }

    fn or_null<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Result<T, Misread>,
    ) -> Result<Option<T>, Misread> {
        let (rest, separator) = (self.rest, self.separator);
        self.key(key)?;
        if let Some(after) = self.rest.strip_prefix(b"null") {
            self.rest = after;
            return Ok(None);
        }
        (self.rest, self.separator) = (rest, separator);
        read(self, key).map(Some)
    }

    fn key(&mut self, key: &'static str) -> Result<(), Misread> {
        let separator = self.separator;
        self.separator = b',';
        let after = (|| {
            let rest = self.rest.strip_prefix(&[separator, b'"'])?;
            rest.strip_prefix(key.as_bytes())?.strip_prefix(b"\":")
        })();
        self.rest = after.ok_or(Misread(key))?;
        Ok(())
    }

    /// What stands between two quotes, so many bytes of it.
    fn plain(&mut self, length: usize) -> Option<&'a [u8]> {
        let (text, rest) = self.rest.strip_prefix(b"\"")?.split_at_checked(length)?;
        self.rest = rest.strip_prefix(b"\"")?;
        Some(text)
    }

    fn string(&mut self) -> Option<String> {
        let mut rest = self.rest.strip_prefix(b"\"")?;
        let mut text = String::new();
        loop {
            let plain = rest.iter().take_while(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(byte)).count();
            let (now, after) = rest.split_at(plain);
            text.push_str(std::str::from_utf8(now).ok()?);
            rest = match *after {
                [b'"', ref after @ ..] => {
                    self.rest = after;
                    return Some(text);
                }
                [b'\\', escaped @ (b'"' | b'\\'), ref after @ ..] => {
                    text.push(char::from(escaped));
                    after
                }
                [b'\\', b'u', ..] => {
                    let (c, after) = escape(after)?;
                    text.push(c);
                    after
                }
                _ => return None,
            };
        }
    }
}

/// One character from `\uxxxx`, or from a pair of them. Characters that need no escape must not have one.
fn escape(text: &[u8]) -> Option<(char, &[u8])> {
    let unit = |text: &[u8]| -> Option<u16> {
        Some(u16::from_be_bytes(hash::from_hex(text.strip_prefix(b"\\u")?.get(..4)?)?))
    };
    let first = unit(text)?;
    let (units, used): (&[u16], usize) = match first {
        0xd800..0xdc00 => (&[first, unit(text.get(6..)?)?], 12),
        _ => (&[first], 6),
    };
    let c = char::decode_utf16(units.iter().copied()).next()?.ok()?;
    if matches!(c, ' '..='~') { None } else { Some((c, text.get(used..)?)) }
}

/// A line is not as it was written: the name of the first thing that is not there, or not in its spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misread(pub(crate) &'static str);

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not stand where and as it was written", self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn written(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut line = Writer::new(&mut out);
        line.text("a", text);
        line.end();
        out
    }

    fn read(line: &[u8]) -> Result<String, Misread> {
        let mut reader = Reader::new(line);
        let text = reader.text("a")?;
        reader.end()?;
        Ok(text)
    }

    #[test]
    fn text_is_one_line_of_ascii_and_comes_back() {
        for text in ["", "plain", "\"\\\n\r\t\0\u{7f}", "é漢\u{1f600}\u{2028}", "\u{ffff}\u{10ffff}"] {
            let line = written(text);
            assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
            assert_eq!(read(&line).unwrap(), text);
            let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(json["a"], text);
        }
    }

    #[test]
    fn every_other_spelling_of_a_text_is_refused() {
        for wrong in [
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\n"}"#,
            r#"{"a":"\/"}"#,
            r#"{"a":"\u00E9"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud800\u0041"}"#,
            r#"{"a":"\udc00\ud800"}"#,
            r#"{"a":"é"}"#,
            r#"{"a": "x"}"#,
            r#"{ "a":"x"}"#,
            r#"{"a":"x"} "#,
            r#"{"a":"x","b":1}"#,
            r#"{"b":"x"}"#,
            r#"{"a":"x""#,
            r#"{"a":"x}"#,
            r#"{"a":null}"#,
            r#""#,
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        let number = |text: &str| Reader::new(text.as_bytes()).number("n").ok();
        assert_eq!(number(r#"{"n":0}"#), Some(0));
        assert_eq!(number(r#"{"n":18446744073709551615}"#), Some(u64::MAX));
        for wrong in ["00", "01", "-1", "+1", "", "1e3x", "18446744073709551616", "\"1\""] {
            let read = number(&format!("{{\"n\":{wrong}}}"));
            assert!(read.is_none() || wrong == "1e3x", "{wrong}");
        }
        // What follows a number is looked at by whoever reads on.
        let mut reader = Reader::new(br#"{"n":1.0}"#);
        reader.number("n").unwrap();
        assert!(reader.end().is_err());
    }

    #[test]
    fn nothing_and_something_are_told_apart() {
        let mut reader = Reader::new(br#"{"a":null,"b":"x","c":nul}"#);
        assert_eq!(reader.text_or_null("a"), Ok(None));
        assert_eq!(reader.text_or_null("b"), Ok(Some("x".to_owned())));
        assert_eq!(reader.text_or_null("c"), Err(Misread("c")));
    }
}
