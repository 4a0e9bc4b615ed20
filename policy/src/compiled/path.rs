//! A path as rules compare it: segments by what they stand for, each with the number of its word.

use super::entry::Shape;
use super::table::slashes;
use super::words::{UNKNOWN, Words};
use crate::escape::Decoded;

/// The longest template that the tables take.
pub(super) const DEPTH: usize = 16;

/// How much of a path some templates compare.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    /// The length of the longest of them.
    pub(super) depth: u8,
    /// Bit `i`: segment `i` of one of them is literal. Where none is, the path's segment need not be known as a word.
    pub(super) literals: u16,
}

/// The first segments of a path.
pub(super) struct Path<'a> {
    /// Without escapes, beginning with the slash.
    bytes: &'a [u8],
    /// How many segments there are; whatever is past the longest template counts as one more.
    pub(super) count: usize,
    /// Where segment `i` ends in `bytes`; it begins after the slash at the end of the one before.
    ends: [u32; DEPTH],
    /// [`UNKNOWN`] also where no template has a literal.
    words: [u32; DEPTH],
    /// Bit `i`: segment `i` is a word.
    pub(super) known: u16,
}

impl Reading {
    /// Of one more template.
    pub(super) fn widen(&mut self, shape: Shape) {
        self.depth = self.depth.max(shape.len);
        self.literals |= shape.literals;
    }

    #[inline]
    fn is_literal(self, i: usize) -> bool {
        u64::from(self.literals) >> i & 1 == 1
    }
}

impl<'a> Path<'a> {
    /// Nothing has been read yet. `None` when the path does not begin with a slash, or is longer than 4 GiB.
    #[inline]
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        u32::try_from(bytes.len()).ok()?;
        (bytes.first() == Some(&b'/')).then_some(Path {
            bytes,
            count: 0,
            ends: [0; DEPTH],
            words: [UNKNOWN; DEPTH],
            known: 0,
        })
    }

    /// Reads what the templates in question compare.
    #[inline]
    pub(super) fn read(&mut self, reading: Reading, words: &Words) {
        let depth = usize::from(reading.depth);
        let bytes = self.bytes;
        // The first slash begins the path.
        let (mut count, mut start) = (0, 1);
        slashes(bytes.get(1..).unwrap_or_default(), |slash| {
            self.end(count, start, slash + 1, reading, words);
            start = slash + 2;
            count += 1;
            count <= depth
        });
        self.end(count, start, bytes.len(), reading, words);
        self.count = (count + 1).min(depth + 1);
    }

    /// Segment `i` stands here.
    #[inline]
    fn end(&mut self, i: usize, start: usize, end: usize, reading: Reading, words: &Words) {
        if let Some(place) = self.ends.get_mut(i) {
            *place = end as u32;
        }
        if reading.is_literal(i)
            && let Some(word) = self.words.get_mut(i)
        {
            *word = words.number(self.bytes.get(start..end).unwrap_or_default());
            self.known |= u16::from(*word != UNKNOWN) << i;
        }
    }

    /// The bytes a segment stands for.
    #[inline]
    pub(super) fn segment(&self, i: usize) -> &'a [u8] {
        let start = if i == 0 { Some(0) } else { self.ends.get(i - 1).copied() };
        match (start, self.ends.get(i)) {
            (Some(start), Some(end)) => self.bytes.get(start as usize + 1..*end as usize).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The segments whose words are among some, as bits.
    #[inline]
    pub(super) fn words_among(&self, has: impl Fn(u32) -> bool) -> u16 {
        let mut known = self.known;
        let mut among = 0;
        while known != 0 {
            let bit = known & known.wrapping_neg();
            if has(self.word(bit.trailing_zeros() as usize)) {
                among |= bit;
            }
            known ^= bit;
        }
        among
    }

    /// The word a segment is, or [`UNKNOWN`].
    #[inline]
    pub(super) fn word(&self, i: usize) -> u32 {
        self.words.get(i).copied().unwrap_or(UNKNOWN)
    }
}

/// Undoes the escapes of a canonical path. No escape there stands for a slash, so segments stay what they are. Only a
/// path of more than a kilobyte allocates.
pub(super) fn with_decoded<T>(path: &str, use_it: impl FnOnce(&[u8]) -> T) -> T {
    let mut room = [0; 1024];
    let mut len = 0;
    for (place, byte) in room.iter_mut().zip(Decoded::new(path.as_bytes())) {
        *place = byte;
        len += 1;
    }
    match room.get(..len) {
        Some(all) if len < room.len() => use_it(all),
        _ => use_it(&Decoded::new(path.as_bytes()).collect::<Vec<u8>>()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn segments_are_those_between_slashes_up_to_the_longest_template() {
        let words = Words::new(&BTreeSet::from([&b""[..], b"a", b"b"]));
        for text in ["/", "/a", "/a/", "/a/x/b", "/x/y/z/a/b/a/b"] {
            let expected: Vec<&[u8]> = text.as_bytes()[1..].split(|b| *b == b'/').collect();
            for (depth, literals) in (0..=DEPTH).flat_map(|depth| [(depth, u16::MAX), (depth, 0b0110)]) {
                let literals = literals & ((1u32 << depth) - 1) as u16;
                let mut path = Path::of(text.as_bytes()).unwrap();
                path.read(Reading { depth: depth as u8, literals }, &words);
                assert_eq!(path.count, expected.len().min(depth + 1), "{text} {depth}");
                for (i, segment) in expected.iter().enumerate().take(depth) {
                    assert_eq!(path.segment(i), *segment, "{text} {i}");
                    let word = if literals >> i & 1 == 1 { words.number(segment) } else { UNKNOWN };
                    assert_eq!(path.word(i), word, "{text} {i}");
                    assert_eq!(path.known >> i & 1 == 1, word != UNKNOWN, "{text} {i}");
                }
            }
        }
        assert!(Path::of(b"").is_none() && Path::of(b"a/b").is_none());
    }

    #[test]
    fn escapes_are_undone_in_paths_of_any_length() {
        for count in [0, 1, 340, 341, 342, 400, 2000] {
            let path = format!("/x%40{}", "%C3%A9a".repeat(count));
            with_decoded(&path, |bytes| assert_eq!(bytes, format!("/x@{}", "éa".repeat(count)).as_bytes()));
        }
    }
}
