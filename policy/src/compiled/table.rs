//! Groups of values found by a hash, laid out flat: one slot table and one array of values, nothing else.
//!
//! The hash only finds a group; whoever looks compares what stands in it. So two keys with one hash cost time and never
//! a wrong answer, and the hash needs no secret: what is in a table comes from the operator's file, not from a peer.

use std::cmp::Ordering;

/// Values grouped by hash.
pub(super) struct Groups<T> {
    /// Open addressing, a power of two, at most half full; `end` is 0 in an empty slot.
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
        let groups = values.chunk_by(|(a, _), (b, _)| tag(*a) == tag(*b)).count();
        let mut slots = vec![Slot::default(); (groups * 2).next_power_of_two()].into_boxed_slice();
        let mut start = 0;
        for group in values.chunk_by(|(a, _), (b, _)| tag(*a) == tag(*b)) {
            // A set of rules whose patterns do not fit 32 bits does not fit into memory either.
            let end = start + u32::try_from(group.len()).unwrap_or(u32::MAX);
            let tag = group.first().map_or(0, |(hash, _)| tag(*hash));
            let mut at = tag as usize;
            while let Some(slot) = slots.get_mut(at & (groups * 2).next_power_of_two().wrapping_sub(1)) {
                if slot.end == 0 {
                    *slot = Slot { tag, start, end };
                    break;
                }
                at = at.wrapping_add(1);
            }
            start = end;
        }
        Self { slots, values: values.into_iter().map(|(_, value)| value).collect() }
    }

    /// Every value with this hash, and perhaps others.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> &[T] {
        let tag = tag(hash);
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = tag as usize;
        while let Some(slot) = self.slots.get(at & mask) {
            if slot.end == 0 {
                break;
            }
            if slot.tag == tag {
                return self.values.get(slot.start as usize..slot.end as usize).unwrap_or_default();
            }
            at = at.wrapping_add(1);
        }
        &[]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// The half of a product that depends on every bit of both factors.
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

/// Two numbers into one: both halves of their 128-bit product.
#[inline]
pub(super) const fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ SEED) as u128 * (b ^ FACTOR) as u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// The hash of some bytes.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut h = bytes.len() as u64;
    let mut rest = bytes;
    while let Some((eight, tail)) = rest.split_first_chunk::<8>().filter(|(_, tail)| !tail.is_empty()) {
        h = mix(h, u64::from_le_bytes(*eight));
        rest = tail;
    }
    // The last one to eight bytes; the length is in already.
    mix(h, last_word(rest))
}

#[inline]
fn last_word(rest: &[u8]) -> u64 {
    if let (Some(low), Some(high)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32;
    }
    rest.iter().fold(0, |word, b| word << 8 | u64::from(*b))
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
}
