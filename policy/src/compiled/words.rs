//! Texts as numbers: every literal segment of a direction's templates, so that a path is compared by numbers.

use super::table::{Ends, Groups};
use std::collections::BTreeSet;

/// Distinct texts with a number each.
pub(super) struct Words {
    /// Where in `bytes` a word stands, and its number.
    places: Groups<Place>,
    bytes: Box<[u8]>,
}

struct Place {
    ends: Ends,
    start: u32,
    number: u32,
}

/// The number of what is not among the words.
pub(super) const UNKNOWN: u32 = u32::MAX;

impl Words {
    pub(super) fn new(words: &BTreeSet<&[u8]>) -> Self {
        let mut bytes = Vec::with_capacity(words.iter().map(|w| w.len()).sum());
        let mut places = Vec::with_capacity(words.len());
        for (number, word) in (0..UNKNOWN).zip(words) {
            let start = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let ends = Ends::of(word);
            places.push((ends.hash(word), Place { ends, start, number }));
            bytes.extend_from_slice(word);
        }
        Self { places: Groups::new(places, |a, b| a.number.cmp(&b.number)), bytes: bytes.into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The number of a text, or [`UNKNOWN`].
    #[inline]
    pub(super) fn number(&self, text: &[u8]) -> u32 {
        let ends = Ends::of(text);
        for place in self.places.get(ends.hash(text)) {
            if place.ends == ends && (ends.are_all() || self.stands_at(place.start as usize, text)) {
                return place.number;
            }
        }
        UNKNOWN
    }

    #[cold]
    fn stands_at(&self, start: usize, text: &[u8]) -> bool {
        self.bytes.get(start..start + text.len()) == Some(text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_known_as_a_whole_only() {
        let texts = ["", "v1", "orders", "orders2", "a-rather-long-segment-of-a-path"];
        let words = Words::new(&texts.iter().map(|t| t.as_bytes()).collect());
        let numbers: BTreeSet<u32> = texts.iter().map(|t| words.number(t.as_bytes())).collect();
        assert_eq!(numbers, (0..5).collect());
        for other in ["v", "order", "orders3", "a-rather-long-segment-of-a-patH"] {
            assert_eq!(words.number(other.as_bytes()), UNKNOWN, "{other}");
        }
        assert_eq!(Words::new(&BTreeSet::new()).number(b""), UNKNOWN);
    }
}
