//! Looking at all bytes of a text at once, sixteen at a time.
//!
//! In: a text, and what is looked for in sixteen neighbours. Out: whether it is there. Written so that a compiler makes wide
//! comparisons of it, also for the short texts that nearly all names and values are: a loop that ends byte by byte would take
//! longer over its end than over the rest.

/// Whether `found` says so of any sixteen bytes, given with the same moved by one. All neighbours are shown, some of them
/// twice; besides the text's own bytes only `pad`, and for texts of less than sixteen pairs that are none.
#[inline(always)] // With what it looks for, to stay in registers.
pub(crate) fn any(text: &[u8], pad: u8, found: impl Fn(&[u8; 16], &[u8; 16]) -> bool) -> bool {
    let ends = ends(text, pad);
    let moved = (u128::from_le_bytes(ends) >> 8 | u128::from(pad) << 120).to_le_bytes();
    let (ones, _) = text.as_chunks::<16>();
    let (others, _) = text.get(1..).unwrap_or_default().as_chunks::<16>();
    ones.iter().zip(others).fold(found(&ends, &moved), |seen, (one, other)| seen | found(one, other))
}

/// The same for what a byte says by itself.
#[inline(always)]
pub(crate) fn any_byte(text: &[u8], pad: u8, found: impl Fn(&[u8; 16]) -> bool) -> bool {
    found(&ends(text, pad)) || text.len() > 16 && text.as_chunks::<16>().0.iter().any(found)
}

/// The last sixteen bytes; of a shorter text all, some of them twice, or `pad`.
#[inline(always)]
fn ends(text: &[u8], pad: u8) -> [u8; 16] {
    let mut ends = [pad; 16];
    if let Some(last) = text.last_chunk::<16>() {
        ends = *last;
    } else if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        ends = (u128::from(u64::from_le_bytes(*first)) | u128::from(u64::from_le_bytes(*last)) << 64).to_le_bytes();
    } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        let both = u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
        ends = (u128::from(both) | u128::from(u64::from_ne_bytes([pad; 8])) << 64).to_le_bytes();
    } else {
        ends.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    }
    ends
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    /// Every pair of neighbours in texts of every length around the steps.
    #[test]
    fn every_byte_and_every_pair_is_shown() {
        let pair = |one: &[u8; 16], other: &[u8; 16]| one.iter().zip(other).any(|pair| pair == (&b'x', &b'y'));
        let single = |one: &[u8; 16], _: &[u8; 16]| one.contains(&b'x');
        for length in 0..70 {
            let text = vec![b'a'; length];
            assert!(!any(&text, b' ', pair) && !any(&text, b' ', single));
            assert!(!any_byte(&text, b' ', |one| one.contains(&b'x')));
            for at in 0..length {
                let mut text = text.clone();
                text[at] = b'x';
                assert!(any(&text, b' ', single), "{at} of {length}");
                assert!(any_byte(&text, b' ', |one| one.contains(&b'x')), "{at} of {length}");
                if at + 1 < length {
                    text[at + 1] = b'y';
                    assert!(any(&text, b' ', pair), "{at} of {length}");
                }
            }
        }
    }
}
