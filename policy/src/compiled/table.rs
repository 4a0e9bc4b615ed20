//! Groups of values found by a hash, laid out flat: one slot table and one array of values, nothing else.
//!
//! The hash only finds a group; whoever looks compares what stands in it. So two keys with one hash cost time and never
//! a wrong answer, and the hash needs no secret: what is in a table comes from the operator's file, not from a peer.

use std::cmp::Ordering;

/// Values grouped by hash.
pub(super) struct Groups<T> {
    /// Open addressing, a power of two of slots, at most three quarters of them taken. Of each slot 0, or a byte of its tag
    /// that is not: most look-ups find nothing, and end in this small array.
    bytes: Box<[u8]>,
    slots: Box<[Slot]>,
    values: Box<[T]>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    tag: u32,
    start: u32,
    end: u32,
}

impl<T> Groups<T> {
    /// Groups values; inside a group they stand in the given order.
    pub(super) fn new(mut values: Vec<(u64, T)>, order: impl Fn(&T, &T) -> Ordering) -> Self {
        values.sort_by(|(a, x), (b, y)| tag(*a).cmp(&tag(*b)).then_with(|| order(x, y)));
        let groups = || values.chunk_by(|(a, _), (b, _)| tag(*a) == tag(*b));
        let size = (groups().count() * 4).div_ceil(3).next_power_of_two();
        let mut table =
            Self { bytes: vec![0; size].into(), slots: vec![Slot::default(); size].into(), values: Box::default() };
        let mut start = 0;
        for group in groups() {
            // A set of rules whose patterns do not fit 32 bits does not fit into memory either.
            let end = start + u32::try_from(group.len()).unwrap_or(u32::MAX);
            table.insert(Slot { tag: group.first().map_or(0, |(hash, _)| tag(*hash)), start, end });
            start = end;
        }
        Self { values: values.into_iter().map(|(_, value)| value).collect(), ..table }
    }

    fn insert(&mut self, new: Slot) {
        let mask = self.bytes.len().wrapping_sub(1);
        let mut at = new.tag as usize & mask;
        while let (Some(taken), Some(slot)) = (self.bytes.get_mut(at), self.slots.get_mut(at)) {
            if *taken == 0 {
                *taken = byte(new.tag);
                *slot = new;
                return;
            }
            at = at.wrapping_add(1) & mask;
        }
    }

    /// Every value with this hash, and perhaps others.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> &[T] {
        let tag = tag(hash);
        let mask = self.bytes.len().wrapping_sub(1);
        let mut at = tag as usize & mask;
        while let Some(taken) = self.bytes.get(at)
            && *taken != 0
        {
            if *taken == byte(tag)
                && let Some(slot) = self.slots.get(at)
                && slot.tag == tag
            {
                return self.values.get(slot.start as usize..slot.end as usize).unwrap_or_default();
            }
            at = at.wrapping_add(1) & mask;
        }
        &[]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// The half of a product that depends on every bit of both factors.
fn tag(hash: u64) -> u32 {
    #[cfg(test)]
    if WEAK.get() {
        return (hash >> 32) as u32 & 3;
    }
    (hash >> 32) as u32
}

#[cfg(test)]
thread_local! {
    static WEAK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Makes tables in which nearly everything has the hash of something else.
#[cfg(test)]
pub(super) fn with_weak_hashes<T>(make_and_ask: impl FnOnce() -> T) -> T {
    WEAK.set(true);
    let result = make_and_ask();
    WEAK.set(false);
    result
}

/// Other bits than those that say where to look, and never 0.
fn byte(tag: u32) -> u8 {
    (tag >> 24) as u8 | 1
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

/// Two numbers into one: both halves of their 128-bit product.
#[inline]
pub(super) const fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ SEED) as u128 * (b ^ FACTOR) as u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// Some bytes by their ends: the first eight, the last eight, and how many there are. Two texts of at most sixteen bytes
/// are the same when their ends are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    first: u64,
    last: u64,
    len: usize,
}

impl Ends {
    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Self {
        let len = bytes.len();
        if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            return Self { first: u64::from_le_bytes(*first), last: u64::from_le_bytes(*last), len };
        }
        if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            return Self { first: first.into(), last: last.into(), len };
        }
        let first = match *bytes {
            [] => 0,
            [a] => u64::from(a),
            [a, b] => u64::from(a) | u64::from(b) << 8,
            [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
        };
        Self { first, last: 0, len }
    }

    /// Whether the ends are the whole.
    #[inline]
    pub(super) const fn are_all(self) -> bool {
        self.len <= 16
    }

    /// The hash of bytes with these ends.
    #[inline]
    pub(super) fn hash(self, bytes: &[u8]) -> u64 {
        let mut h = mix(self.first, self.last ^ (self.len as u64).wrapping_mul(SEED));
        if !self.are_all() {
            for eight in bytes.as_chunks::<8>().0.iter().skip(1) {
                h = mix(h, u64::from_le_bytes(*eight));
            }
        }
        h
    }
}

/// The hash of some bytes.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    Ends::of(bytes).hash(bytes)
}

/// Calls `found` with the place of each slash, in order, until it says to stop.
#[inline]
pub(super) fn slashes(bytes: &[u8], mut found: impl FnMut(usize) -> bool) {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const SLASHES: u64 = 0x2f2f_2f2f_2f2f_2f2f;
    let (chunks, rest) = bytes.as_chunks::<8>();
    // The high bit of each byte that is a slash.
    let marks = |eight: &[u8; 8]| {
        // A byte that is a slash becomes 0, and only a byte of 0 keeps its high bit clear in the sum.
        let x = u64::from_le_bytes(*eight) ^ SLASHES;
        !(((x & LOW) + LOW) | x | LOW)
    };
    let mut each = |mut marks: u64, start: usize| {
        while marks != 0 {
            if !found(start + marks.trailing_zeros() as usize / 8) {
                return false;
            }
            marks &= marks - 1;
        }
        true
    };
    for (i, eight) in chunks.iter().enumerate() {
        if !each(marks(eight), i * 8) {
            return;
        }
    }
    // What is left, together with some before it that have been looked at.
    if let Some(last) = bytes.last_chunk::<8>() {
        let seen = 8 - rest.len();
        let new = u64::MAX.checked_shl(seen as u32 * 8).unwrap_or_default();
        each(marks(last) & new, bytes.len() - 8);
        return;
    }
    for (i, _) in rest.iter().enumerate().filter(|(_, b)| **b == b'/') {
        if !found(i) {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_under_its_hash_and_in_order() {
        for count in [0, 1, 2, 3, 100, 5000] {
            let values: Vec<_> = (0..count).map(|i: u32| (hash(&(i / 3).to_le_bytes()), i)).collect();
            let groups = Groups::new(values, |a, b| b.cmp(a));
            for i in 0..count {
                let found: Vec<_> =
                    groups.get(hash(&(i / 3).to_le_bytes())).iter().copied().filter(|v| v / 3 == i / 3).collect();
                let mut expected: Vec<_> = (0..count).filter(|v| v / 3 == i / 3).collect();
                expected.reverse();
                assert_eq!(found, expected);
            }
            assert!(groups.get(hash(b"absent")).is_empty());
            assert_eq!(groups.is_empty(), count == 0);
        }
    }

    #[test]
    fn one_hash_for_two_keys_shows_both() {
        let groups = Groups::new(vec![(7 << 32, 'a'), (7 << 32 | 1, 'b'), (8 << 32, 'c')], |a, b| a.cmp(b));
        assert_eq!(groups.get(7 << 32), ['a', 'b']);
        assert_eq!(groups.get(8 << 32), ['c']);
    }

    #[test]
    fn lengths_and_places_of_bytes_change_the_hash() {
        let mut seen = std::collections::HashSet::new();
        for len in 0..40 {
            assert!(seen.insert(hash(&vec![0; len])), "{len}");
            for at in 0..len {
                let mut bytes = vec![0; len];
                bytes[at] = 1;
                assert!(seen.insert(hash(&bytes)), "{len} {at}");
            }
        }
    }

    #[test]
    fn ends_of_short_texts_are_the_whole() {
        let texts: Vec<Vec<u8>> = (0..17)
            .flat_map(|len| {
                (0..len.max(1)).map(move |at| {
                    let mut text = vec![b'x'; len];
                    text.get_mut(at).into_iter().for_each(|b| *b = b'y');
                    text
                })
            })
            .collect();
        for a in &texts {
            for b in &texts {
                assert_eq!(Ends::of(a) == Ends::of(b), a == b);
            }
        }
    }

    #[test]
    fn slashes_are_found_wherever_they_stand() {
        for len in 0..40 {
            for mask in [0u64, 1, 0x5555_5555_5555_5555, u64::MAX, 0x8040_2010_0804_0201, 0x0101_8000_ff00_00ff] {
                let bytes: Vec<u8> =
                    (0..len).map(|i| if mask >> i & 1 == 1 { b'/' } else { b'.' + (i as u8 & 0x83) }).collect();
                let expected: Vec<usize> = (0..len).filter(|i| bytes[*i] == b'/').collect();
                let mut found = Vec::new();
                slashes(&bytes, |at| {
                    found.push(at);
                    true
                });
                assert_eq!(found, expected, "{bytes:?}");
                let mut first = Vec::new();
                slashes(&bytes, |at| {
                    first.push(at);
                    false
                });
                assert_eq!(first, expected.iter().copied().take(1).collect::<Vec<_>>());
            }
        }
    }
}
