//! Percent escapes of a canonical path, read for comparison.
//!
//! A canonical path keeps the escapes it cannot safely undo, `%40` or `%C3%A9` among them. An origin reads
//! them as the characters they stand for, so rules must as well: otherwise a deny rule for `/a@b` would be
//! dodged by writing `/a%40b`. Comparison therefore always sees the decoded bytes.

use std::borrow::Cow;

/// The value of a hexadecimal digit.
pub(crate) const fn hex_value(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The bytes a segment stands for. A `%` that does not begin an escape is itself; a canonical path has none.
pub(crate) struct Decoded<'a>(std::slice::Iter<'a, u8>);

impl<'a> Decoded<'a> {
    pub(crate) fn new(segment: &'a [u8]) -> Self {
        Self(segment.iter())
    }
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let b = *self.0.next()?;
        if b != b'%' {
            return Some(b);
        }
        match self.0.as_slice() {
            [hi, lo, ..] => match (hex_value(*hi), hex_value(*lo)) {
                (Some(hi), Some(lo)) => {
                    self.0.nth(1);
                    Some(hi << 4 | lo)
                }
                _ => Some(b),
            },
            _ => Some(b),
        }
    }
}

/// Whether a segment of a canonical path stands for exactly these bytes. No allocation.
pub(crate) fn decoded_eq(segment: &[u8], literal: &[u8]) -> bool {
    segment == literal || (segment.contains(&b'%') && Decoded::new(segment).eq(literal.iter().copied()))
}

/// The bytes a segment stands for; borrowed when it has no escape.
pub(crate) fn decoded(segment: &[u8]) -> Cow<'_, [u8]> {
    if segment.contains(&b'%') { Cow::Owned(Decoded::new(segment).collect()) } else { Cow::Borrowed(segment) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_compared_by_what_it_stands_for() {
        assert!(decoded_eq(b"a@b", b"a@b"));
        assert!(decoded_eq(b"a%40b", b"a@b"));
        assert!(decoded_eq("caf%C3%A9".as_bytes(), "café".as_bytes()));
        assert!(!decoded_eq(b"a%40", b"a@b"));
        assert!(!decoded_eq(b"a%40bc", b"a@b"));
        assert!(decoded_eq(b"100%25", b"100%"));
    }
}
