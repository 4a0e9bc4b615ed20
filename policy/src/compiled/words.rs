//! Texts as numbers: every literal segment of a direction's templates, so that a path is compared by numbers.

use super::table::Ends;
use std::collections::BTreeSet;

/// Distinct texts with a number each.
pub(super) struct Words {
    /// Open addressing, a power of two, at most three quarters full.
    places: Box<[Place]>,
    bytes: Box<[u8]>,
    /// Whether there is none.
    none: bool,
}

#[derive(Clone, Copy)]
struct Place {
    ends: Ends,
    /// Where in `bytes` the word stands.
    start: u32,
    /// [`UNKNOWN`] where there is no word.
    number: u32,
}

/// The number of what is not among the words.
pub(super) const UNKNOWN: u32 = u32::MAX;

impl Words {
    pub(super) fn new(words: &BTreeSet<&[u8]>) -> Self {
        let mut bytes = Vec::with_capacity(words.iter().map(|w| w.len()).sum());
        let size = (words.len() * 4).div_ceil(3).next_power_of_two();
        let empty = Place { ends: Ends::of(&[]), start: 0, number: UNKNOWN };
        let mut places = vec![empty; size].into_boxed_slice();
        for (number, word) in (0..UNKNOWN).zip(words) {
            let start = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let ends = Ends::of(word);
            let mut at = ends.hash(word) as usize & (size - 1);
            while let Some(place) = places.get_mut(at) {
                if place.number == UNKNOWN {
                    *place = Place { ends, start, number };
                    break;
                }
                at = (at + 1) & (size - 1);
            }
            bytes.extend_from_slice(word);
        }
        Self { places, bytes: bytes.into(), none: words.is_empty() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.none
    }

    /// The number of a text, or [`UNKNOWN`].
    #[inline]
    pub(super) fn number(&self, text: &[u8]) -> u32 {
        let ends = Ends::of(text);
        let mask = self.places.len().wrapping_sub(1);
        let mut at = ends.hash(text) as usize & mask;
        while let Some(place) = self.places.get(at) {
            // A place without a word looks like the empty text, and its number says that there is none.
            if place.ends == ends && (ends.are_all() || self.stands_at(place.start as usize, text)) {
                return place.number;
            }
            if place.number == UNKNOWN {
                break;
            }
            at = at.wrapping_add(1) & mask;
        }
        UNKNOWN
    }

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

    #[test]
    fn long_words_with_the_same_ends_are_told_apart() {
        let text = |i: u32| format!("segment-{i:08}-segment");
        let texts: Vec<String> = (0..500).map(text).collect();
        let words = Words::new(&texts.iter().map(|t| t.as_bytes()).collect());
        assert!(texts.iter().map(|t| words.number(t.as_bytes())).eq(0..500));
        assert!((500..1000).all(|i| words.number(text(i).as_bytes()) == UNKNOWN));
    }
}
