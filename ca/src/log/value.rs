//! Values of a line with a bound of their own: text, which is cut, and serial numbers, which are refused.

use super::hash::digit;
use super::line::{Misread, Reader};

/// Text of at most [`Text::MOST`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Text(String);

impl Text {
    /// More is cut.
    pub const MOST: usize = 256;

    /// This text; when it is too long its beginning, with `...` behind.
    pub fn bounded(text: &str) -> Self {
        if text.len() <= Self::MOST {
            return Self(text.to_owned());
        }
        let mut end = Self::MOST - CUT.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text.split_at(end).0.to_owned() + CUT)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This text, if it is within the bound.
    pub(super) fn exactly(text: String) -> Option<Self> {
        (text.len() <= Self::MOST).then_some(Self(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::bounded(text)
    }
}

/// A serial number: 1 to 20 octets (RFC 5280 §4.1.2.2) in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Serial(String);

impl Serial {
    /// Reads 2 to 40 hex digits, two for each octet.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (2..=40).contains(&text.len()) && text.len().is_multiple_of(2);
        (fits && text.bytes().all(|byte| digit(byte).is_some())).then(|| Self(text.to_owned()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text as it was bounded when it was written.
pub(super) fn text(line: &mut Reader<'_>, key: &'static str) -> Result<Text, Misread> {
    Text::exactly(line.text(key)?).ok_or(Misread(key))
}

/// A serial number.
pub(super) fn serial(line: &mut Reader<'_>, key: &'static str) -> Result<Serial, Misread> {
    Serial::parse(&line.text(key)?).ok_or(Misread(key))
}

/// Behind text that was cut.
const CUT: &str = "...";
