//! The Internet checksum (RFC 1071), computed over any number of slices.
//!
//! In: bytes, in order, in pieces of any length. Out: the 16-bit value that goes into an IPv4 or TCP header.

/// A running one's-complement sum.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    /// Sum of big-endian 16-bit words, not folded. A frame adds less than 2^32 per piece, so it cannot overflow.
    total: u64,
    /// An odd number of bytes was added: the next byte is the low half of a word.
    odd: bool,
}

impl Sum {
    /// Adds bytes as if they stood right behind the ones added before.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // In the machine's own byte order, which leaves the swapping to the end (RFC 1071 section 2 B), and four words at a
        // time, which folding adds up later (section 2 C). Of a block a compiler makes one addition with carry each.
        let (blocks, rest) = bytes.as_chunks::<64>();
        let (words, rest) = rest.as_chunks::<8>();
        let mut sum = 0;
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            let mut carry = false;
            for word in words {
                (sum, carry) = u64::from_ne_bytes(*word).carrying_add(sum, carry);
            }
            sum = plus(sum, u64::from(carry));
        }
        sum = words.iter().fold(sum, |sum, word| plus(sum, u64::from_ne_bytes(*word)));
        let (halves, rest) = rest.as_chunks::<4>();
        let (pairs, last) = rest.as_chunks::<2>();
        sum = halves.iter().fold(sum, |sum, half| plus(sum, u64::from(u32::from_ne_bytes(*half))));
        sum = pairs.iter().fold(sum, |sum, pair| plus(sum, u64::from(u16::from_ne_bytes(*pair))));
        sum = last.iter().fold(sum, |sum, byte| plus(sum, u64::from(u16::from_ne_bytes([*byte, 0]))));
        let folded = u16::from_be(fold((sum >> 32) + (sum & 0xffff_ffff)));
        // Shifted by one byte, every word of this piece has its halves swapped (RFC 1071 section 2 B).
        self.total += u64::from(if self.odd { folded.swap_bytes() } else { folded });
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds one 16-bit word at an even place.
    pub(crate) fn add_word(&mut self, word: u16) {
        self.total += u64::from(word);
    }

    /// Adds two 16-bit words at an even place.
    pub(crate) fn add_words(&mut self, words: u32) {
        self.total += u64::from(words >> 16) + u64::from(words & 0xffff);
    }

    /// The checksum of everything added.
    pub(crate) fn finish(self) -> u16 {
        !fold(self.total)
    }
}

/// The sum in one's complement: what is carried out at the top comes in at the bottom.
fn plus(sum: u64, more: u64) -> u64 {
    let (sum, carry) = sum.overflowing_add(more);
    sum + u64::from(carry)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn example_of_rfc_1071_sums_up() {
        let mut sum = Sum::default();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), !0xddf2);
    }

    /// The definition, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }

    #[test]
    fn what_is_carried_out_comes_in_again() {
        for length in 0..200 {
            let bytes = vec![u8::MAX; length];
            let mut sum = Sum::default();
            sum.add(&bytes);
            assert_eq!(sum.finish(), plain(&bytes), "{length}");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_sum_like_the_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6)) {
            let mut sum = Sum::default();
            pieces.iter().for_each(|piece| sum.add(piece));
            prop_assert_eq!(sum.finish(), plain(&pieces.concat()));
        }
    }
}
