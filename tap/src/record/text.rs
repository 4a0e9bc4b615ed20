//! Pieces of a line of JSON (RFC 8259) and of times (RFC 3339).
//!
//! Everything that is not printable ASCII becomes an escape: no value can end its line, nor move a terminal's cursor. What is
//! not UTF-8 is U+FFFD.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use crate::calendar::{self, Fraction};

/// One object in the making, members in the order they are added.
pub(crate) struct Object {
    text: String,
    /// Members that may be left out when there is no room, with the comma before each.
    optional: Vec<(&'static str, Range<usize>)>,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self { text: String::with_capacity(1536), optional: Vec::new() }
    }

    pub(crate) fn name(&mut self, name: &str) {
        self.text.push_str(if self.text.is_empty() { "{\"" } else { ",\"" });
        self.text.push_str(name);
        self.text.push_str("\":");
    }

    pub(crate) fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        quote(&mut self.text, value);
    }

    /// A value that others chose, or that may be left out for another reason; null if there is none.
    pub(crate) fn optional(&mut self, name: &'static str, value: Option<&[u8]>) {
        let start = self.text.len();
        self.name(name);
        match value {
            Some(value) => quote(&mut self.text, &String::from_utf8_lossy(value)),
            None => self.text.push_str("null"),
        }
        self.optional.push((name, start..self.text.len()));
    }

    pub(crate) fn number(&mut self, name: &str, value: Option<u64>) {
        self.name(name);
        let _ = match value {
            Some(value) => write!(self.text, "{value}"),
            None => write!(self.text, "null"),
        };
    }

    pub(crate) fn truth(&mut self, name: &str, value: bool) {
        self.name(name);
        self.text.push_str(if value { "true" } else { "false" });
    }

    pub(crate) fn display(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        let _ = write!(self.text, "\"{value}\"");
    }

    pub(crate) fn time(&mut self, name: &str, since_1970: Duration) {
        self.name(name);
        self.text.push('"');
        rfc3339(&mut self.text, since_1970);
        self.text.push('"');
    }

    pub(crate) fn words<'a>(&mut self, name: &str, words: impl Iterator<Item = &'a str>) {
        self.name(name);
        self.text.push('[');
        for (place, word) in words.enumerate() {
            if place > 0 {
                self.text.push(',');
            }
            quote(&mut self.text, word);
        }
        self.text.push(']');
    }

    pub(crate) fn numbers<'a>(&mut self, name: &str, numbers: impl Iterator<Item = (&'a str, u64)>) {
        self.name(name);
        self.text.push('{');
        for (place, (name, number)) in numbers.enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let _ = write!(self.text, "{comma}\"{name}\":{number}");
        }
        self.text.push('}');
    }

    /// The object, if need be without its longest optional members, of which `omitted` then tells.
    pub(crate) fn end(mut self, most: usize) -> String {
        let mut omitted: Vec<(&'static str, Range<usize>)> = Vec::new();
        let mut length = self.text.len() + 1;
        self.optional.sort_by_key(|(_, range)| std::cmp::Reverse(range.len()));
        for (name, range) in self.optional {
            if length <= most {
                break;
            }
            // Its name in the list, once for the list itself.
            length = length + name.len() + 3 + if omitted.is_empty() { OMITTED } else { 0 } - range.len();
            omitted.push((name, range));
        }
        let names: Vec<&str> = omitted.iter().map(|(name, _)| *name).collect();
        omitted.sort_by_key(|(_, range)| std::cmp::Reverse(range.start));
        omitted.iter().for_each(|(_, range)| self.text.replace_range(range.clone(), ""));
        self.optional = Vec::new();
        if !names.is_empty() {
            self.words("omitted", names.into_iter());
        }
        self.text.push('}');
        self.text
    }
}

fn quote(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(text, "\\u{unit:04x}");
            }),
        }
    }
    text.push('"');
}

/// RFC 3339 section 5.6, in UTC, to the nanosecond.
pub(crate) fn rfc3339(text: &mut String, since_1970: Duration) {
    calendar::rfc3339(text, since_1970, Fraction::Nanos);
}

/// `,"omitted":[]`
const OMITTED: usize = 13;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (1_795_316_274, 82_000_000, "2026-11-22T02:57:54.082000000Z"),
            (4_102_444_800, 0, "2100-01-01T00:00:00.000000000Z"),
        ] {
            let mut found = String::new();
            rfc3339(&mut found, Duration::new(seconds, nanos));
            assert_eq!(found, text);
        }
    }

    proptest! {
        #[test]
        fn any_value_comes_back_and_stays_in_its_line(value in "\\PC*|[\\x00-\\x20\"\\\\]{0,9}") {
            let mut object = Object::new();
            object.optional("a", Some(value.as_bytes()));
            let line = object.end(usize::MAX);
            prop_assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&line).unwrap()["a"], &serde_json::json!(value));
        }

        #[test]
        fn what_is_too_long_loses_its_longest_members_and_says_so(lengths in proptest::collection::vec(0_usize..200, 1..6), most in 150_usize..600) {
            const NAMES: [&str; 6] = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"];
            let mut object = Object::new();
            object.string("kept", "always");
            for (name, length) in NAMES.into_iter().zip(&lengths) {
                object.optional(name, Some("x".repeat(*length).as_bytes()));
            }
            object.number("last", Some(1));
            let line = object.end(most);
            prop_assert!(line.len() <= most, "{}", line);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            let told: Vec<&str> = value["omitted"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
            for (name, _) in NAMES.into_iter().zip(&lengths) {
                prop_assert_eq!(value.get(name).is_none(), told.contains(&name));
            }
            prop_assert_eq!(&value["last"], &serde_json::json!(1));
        }
    }
}
