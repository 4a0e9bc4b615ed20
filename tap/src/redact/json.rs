//! Members of JSON texts (RFC 8259) whose values never leave, by name, at any depth.
//!
//! In: a text, perhaps cut at its end, perhaps several one after the other. Out: the same bytes with the values of these members
//! masked in place: letters of strings become `*`, numbers a 0 behind blanks, true and false null, so that it still reads as
//! JSON and nothing moves. A name is what a reader makes of it: escapes are resolved, case does not matter, and of a name that
//! is there twice both values are masked. Refuses whatever is not strictly JSON: what two readers may read in two ways cannot
//! be masked for both.

/// Why a text was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Masks in place; says how many values. With `cut` the text may end anywhere.
pub(crate) fn mask(text: &mut [u8], names: &[Box<[u8]>], cut: bool) -> Result<u32, Unreadable> {
    if !is_utf8(text, cut) {
        return Err(Unreadable);
    }
    let mut scanner = Scanner { text, at: 0, names, masked: 0 };
    match scanner.texts() {
        Ok(()) => Ok(scanner.masked),
        Err(Stop::End) if cut => Ok(scanner.masked),
        Err(_) => Err(Unreadable),
    }
}

/// RFC 8259 section 8.1. A cut may have gone through a character.
fn is_utf8(text: &[u8], cut: bool) -> bool {
    match str::from_utf8(text) {
        Ok(_) => true,
        Err(error) => cut && error.error_len().is_none(),
    }
}

struct Scanner<'a> {
    text: &'a mut [u8],
    at: usize,
    names: &'a [Box<[u8]>],
    masked: u32,
}

/// Why the scanner went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The text ends before the value does.
    End,
    /// It is not JSON.
    Bad,
}

impl Scanner<'_> {
    /// One value after the other: JSON text sequences (RFC 7464) and lines of JSON are among what is sent.
    fn texts(&mut self) -> Result<(), Stop> {
        if self.text.starts_with(BOM) {
            self.at = BOM.len();
        }
        loop {
            while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n' | &RECORD)) {
                self.at += 1;
            }
            if self.at == self.text.len() {
                return Ok(());
            }
            let start = self.at;
            self.value(false, 0)?;
            // Two numbers or words need something between them.
            let is_open = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
            if self.at == start || is_open(self.text.get(self.at)) && is_open(self.text.get(self.at - 1)) {
                return Err(Stop::Bad);
            }
        }
    }

    fn value(&mut self, secret: bool, depth: u16) -> Result<(), Stop> {
        match self.peek()? {
            b'{' if depth < DEPTH => self.object(secret, depth),
            b'[' if depth < DEPTH => self.array(secret, depth),
            b'"' => self.string(secret).map(|_| ()),
            b't' => self.word(b"true", secret),
            b'f' => self.word(b"false", secret),
            b'n' => self.word(b"null", secret),
            b'-' | b'0'..=b'9' => self.number(secret),
            _ => Err(Stop::Bad),
        }
    }

    fn object(&mut self, secret: bool, depth: u16) -> Result<(), Stop> {
        self.at += 1;
        if self.next()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.next()? != b'"' {
                return Err(Stop::Bad);
            }
            let name = self.string(secret)?;
            let is_secret = secret || self.is_named(name);
            if self.next()? != b':' {
                return Err(Stop::Bad);
            }
            self.at += 1;
            self.next()?;
            if is_secret && !secret {
                self.masked += 1;
            }
            self.value(is_secret, depth + 1)?;
            if self.is_last(b'}')? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, secret: bool, depth: u16) -> Result<(), Stop> {
        self.at += 1;
        if self.next()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.next()?;
            self.value(secret, depth + 1)?;
            if self.is_last(b']')? {
                return Ok(());
            }
        }
    }

    /// Behind an element: a comma, or the end.
    fn is_last(&mut self, end: u8) -> Result<bool, Stop> {
        let found = self.next()?;
        self.at += 1;
        match found {
            b',' => Ok(false),
            _ if found == end => Ok(true),
            _ => Err(Stop::Bad),
        }
    }

    /// A string; gives where its content begins and ends. What is behind the end of the text is masked as well.
    fn string(&mut self, secret: bool) -> Result<(usize, usize), Stop> {
        let start = self.at + 1;
        let end = self.string_end(start);
        if secret {
            let end = *end.as_ref().unwrap_or(&self.text.len());
            self.text.iter_mut().take(end).skip(start).for_each(|byte| *byte = super::MASK);
        }
        let end = end?;
        self.at = end + 1;
        Ok((start, end))
    }

    fn string_end(&self, start: usize) -> Result<usize, Stop> {
        let mut at = start;
        loop {
            match self.text.get(at).ok_or(Stop::End)? {
                b'"' => return Ok(at),
                b'\\' => {
                    at += 1;
                    match self.text.get(at).ok_or(Stop::End)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 1,
                        b'u' => {
                            for digit in at + 1..at + 5 {
                                if !self.text.get(digit).ok_or(Stop::End)?.is_ascii_hexdigit() {
                                    return Err(Stop::Bad);
                                }
                            }
                            at += 5;
                        }
                        _ => return Err(Stop::Bad),
                    }
                }
                0..0x20 => return Err(Stop::Bad),
                _ => at += 1,
            }
        }
    }

    fn word(&mut self, word: &[u8], secret: bool) -> Result<(), Stop> {
        let rest = self.text.get_mut(self.at..).unwrap_or_default();
        if rest.len() < word.len() {
            return Err(if word.starts_with(rest) { Stop::End } else { Stop::Bad });
        }
        if !rest.starts_with(word) {
            return Err(Stop::Bad);
        }
        if secret {
            // "null ", or "null".
            rest.iter_mut().zip(b"null ").take(word.len()).for_each(|(to, from)| *to = *from);
        }
        self.at += word.len();
        Ok(())
    }

    /// RFC 8259 section 6.
    fn number(&mut self, secret: bool) -> Result<(), Stop> {
        let start = self.at;
        let end = self.number_end();
        if secret {
            let end = *end.as_ref().unwrap_or(&self.text.len());
            let digits = self.text.get_mut(start..end).unwrap_or_default();
            digits.fill(b' ');
            if let Some(last) = digits.last_mut() {
                *last = b'0';
            }
        }
        self.at = end?;
        Ok(())
    }

    fn number_end(&self) -> Result<usize, Stop> {
        let digits = |from: usize| {
            let rest = self.text.get(from..).unwrap_or_default();
            from + rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())
        };
        let some = |from: usize| match digits(from) {
            end if end > from => Ok(end),
            end if end == self.text.len() => Err(Stop::End),
            _ => Err(Stop::Bad),
        };
        let start = self.at + usize::from(self.text.get(self.at) == Some(&b'-'));
        let mut end = if self.text.get(start) == Some(&b'0') { start + 1 } else { some(start)? };
        if self.text.get(end) == Some(&b'.') {
            end = some(end + 1)?;
        }
        if matches!(self.text.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.text.get(end + 1), Some(b'+' | b'-')));
            end = some(end + 1 + sign)?;
        }
        // "01" is no number, and not two either.
        if self.text.get(end).is_some_and(u8::is_ascii_digit) { Err(Stop::Bad) } else { Ok(end) }
    }

    /// The next byte that is not blank.
    fn next(&mut self) -> Result<u8, Stop> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.peek()
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.text.get(self.at).copied().ok_or(Stop::End)
    }

    fn is_named(&self, (start, end): (usize, usize)) -> bool {
        let Some(written) = self.text.get(start..end) else { return false };
        let is_one = |name: &[u8]| self.names.iter().any(|one| one.eq_ignore_ascii_case(name.trim_ascii()));
        if written.contains(&b'\\') { is_one(&unescaped(written)) } else { is_one(written) }
    }
}

/// What an escaped name says. A half of a surrogate pair says nothing anybody agrees on.
fn unescaped(written: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(written.len());
    let mut units: Vec<u16> = Vec::new();
    let mut rest = written;
    while let Some((first, after)) = rest.split_first() {
        if let (b'\\', [b'u', a, b, c, d, tail @ ..]) = (first, after) {
            let digit = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or(0) as u16;
            units.push(digit(a) << 12 | digit(b) << 8 | digit(c) << 4 | digit(d));
            rest = tail;
            continue;
        }
        flush(&mut name, &mut units);
        match (first, after) {
            (b'\\', [escape, tail @ ..]) => {
                name.push(match escape {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    same => *same,
                });
                rest = tail;
            }
            _ => {
                name.push(*first);
                rest = after;
            }
        }
    }
    flush(&mut name, &mut units);
    name
}

fn flush(name: &mut Vec<u8>, units: &mut Vec<u16>) {
    name.extend_from_slice(String::from_utf16_lossy(units).as_bytes());
    units.clear();
}

/// Objects and arrays in each other, at most. Readers of others stop between 64 and some thousands.
const DEPTH: u16 = 128;
/// Some writers begin with it, though RFC 8259 section 8.1 forbids it, and most readers skip it.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Stands before each text of a sequence (RFC 7464 section 2.2).
const RECORD: u8 = 0x1e;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Vec<Box<[u8]>> {
        ["password", "pin", "caf\u{e9}"].iter().map(|name| name.as_bytes().into()).collect()
    }

    fn masked_as(text: &str, cut: bool) -> Result<String, Unreadable> {
        let mut bytes = text.as_bytes().to_vec();
        mask(&mut bytes, &names(), cut)?;
        assert_eq!(bytes.len(), text.len());
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn masked(text: &str) -> String {
        masked_as(text, false).unwrap()
    }

    #[test]
    fn named_members_are_masked_at_any_depth_and_nothing_moves() {
        assert_eq!(masked(r#"{"user":"ann","password":"s3c\"ret"}"#), r#"{"user":"ann","password":"********"}"#);
        assert_eq!(
            masked(r#"[{"a":[{"pin" : 12345}]},{"pin":-0.5e+7}]"#),
            r#"[{"a":[{"pin" :     0}]},{"pin":      0}]"#
        );
        assert_eq!(masked(r#"{"pin":true,"a":false,"password":null}"#), r#"{"pin":null,"a":false,"password":null}"#);
        assert_eq!(masked(r#"{"pin":false}"#), r#"{"pin":null }"#);
        assert_eq!(masked(r#"{"password":"a","password":"b"}"#), r#"{"password":"*","password":"*"}"#);
        assert_eq!(masked(r#"{"passwords":"a","my password":"b"}"#), r#"{"passwords":"a","my password":"b"}"#);
    }

    #[test]
    fn everything_within_a_named_member_is_masked() {
        assert_eq!(
            masked(r#"{"password":{"old":["a",1,{"hunter":true}]},"x":1}"#),
            r#"{"password":{"***":["*",0,{"******":null}]},"x":1}"#
        );
    }

    #[test]
    fn a_name_is_what_a_reader_makes_of_it() {
        assert_eq!(masked(r#"{"pass\u0077ord":"abc"}"#), r#"{"pass\u0077ord":"***"}"#);
        assert_eq!(masked(r#"{"\u0070\u0069\u006E":1}"#), r#"{"\u0070\u0069\u006E":0}"#);
        assert_eq!(masked(r#"{"PassWord":"abc"," pin ":"12"}"#), r#"{"PassWord":"***"," pin ":"**"}"#);
        assert_eq!(masked(r#"{"caf\u00e9":"x","café":"x"}"#), r#"{"caf\u00e9":"*","café":"*"}"#);
        assert_eq!(masked(r#"{"pass\\u0077ord":"abc"}"#), r#"{"pass\\u0077ord":"abc"}"#);
    }

    #[test]
    fn several_texts_follow_each_other() {
        assert_eq!(masked("{\"pin\":1}\n{\"pin\":2}\n"), "{\"pin\":0}\n{\"pin\":0}\n");
        assert_eq!(masked("\u{1e}{\"pin\":1}\n\u{1e}[]"), "\u{1e}{\"pin\":0}\n\u{1e}[]");
        assert_eq!(masked("\u{feff}{\"pin\":1}"), "\u{feff}{\"pin\":0}");
        assert_eq!(masked(""), "");
    }

    #[test]
    fn what_is_not_strictly_json_is_refused() {
        for text in [
            "{'password':'x'}",
            "{password:\"x\"}",
            "{\"password\":\"x\",}",
            "{\"password\" \"x\"}",
            "{\"password\":x}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":NaN}",
            "{\"a\":\"\\x41\"}",
            "{\"a\":\"\\u00g0\"}",
            "{\"a\":\"tab\there\"}",
            "{\"a\":1}x",
            "/**/{\"a\":1}",
            "12true",
            "{\"password\":\"x\"",
            "[1,2",
            "\"open",
            ")]}',\n{}",
        ] {
            assert_eq!(masked_as(text, false), Err(Unreadable), "{text}");
        }
        assert_eq!(mask(&mut b"{\"a\":\"\xff\"}".to_vec(), &names(), true), Err(Unreadable));
        assert_eq!(masked_as(&"[".repeat(200), true), Err(Unreadable), "too deep");
        assert!(masked_as(&"[".repeat(100), true).is_ok());
    }

    #[test]
    fn a_text_may_be_cut_anywhere_and_shows_no_secret() {
        let text = r#"[{"a":"é","pass\u0077ord":"SECRET1","b":{"pin":[12345678,{"k":"SECRET2"}]}}]"#;
        for end in 0..text.len() {
            let mut bytes = text.as_bytes()[..end].to_vec();
            mask(&mut bytes, &names(), true).unwrap();
            let seen = String::from_utf8_lossy(&bytes).into_owned();
            for secret in ["SE", "EC", "12", "34"] {
                assert!(!seen.contains(secret), "{seen}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(text in proptest::collection::vec(any::<u8>(), 0..80), cut: bool) {
            let mut bytes = text.clone();
            let _ = mask(&mut bytes, &names(), cut);
            prop_assert_eq!(bytes.len(), text.len());
        }

        #[test]
        fn whatever_resembles_json_is_masked_or_refused(words in proptest::collection::vec(0_usize..14, 0..40), cut: bool) {
            const WORDS: [&str; 14] = ["{", "}", "[", "]", ",", ":", "\"pin\"", "\"p\\u0069n\"", "\"SECRET\"", "7777", "true", " ", "\"a\"", "\"SECR"];
            let text: String = words.iter().map(|word| WORDS[*word]).collect();
            let ours = masked_as(&text, cut);
            // Another reader agrees on what is JSON, and that it still is.
            let theirs: Result<Vec<serde_json::Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
            if let (Ok(theirs), false) = (theirs, cut) {
                prop_assert!(ours.is_ok(), "{}", text);
                let ours: Vec<serde_json::Value> = serde_json::Deserializer::from_str(&ours.unwrap()).into_iter().collect::<Result<_, _>>().unwrap();
                prop_assert_eq!(ours.len(), theirs.len());
                prop_assert!(!ours.iter().any(shows), "{:?}", ours);
            }
        }
    }

    /// Whether a member named `pin` still holds anything.
    fn shows(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::Array(list) => list.iter().any(shows),
            serde_json::Value::Object(map) => map.iter().any(|(name, value)| {
                let text = value.to_string();
                shows(value)
                    || name == "pin" && (text.contains("SECRET") || text.contains('7') || text.contains("true"))
            }),
            _ => false,
        }
    }
}
