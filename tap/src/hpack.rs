//! Header fields as HPACK writes them when it keeps no state (RFC 7541).
//!
//! In: a name and a value. Out: a literal without indexing (section 6.2.2), name and value as they are (no Huffman code), so that a
//! block can be read without any other. A value that is masked, or would be had it a secret in it, is never indexed (section
//! 6.2.3), which is what its sender should have asked for.

/// Appends a field. The name has to be in lower case (RFC 9113 section 8.2.1).
pub(crate) fn field(block: &mut Vec<u8>, is_secret: bool, name: &[u8], value: &[u8]) {
    block.push(if is_secret { NEVER_INDEXED } else { WITHOUT_INDEXING });
    for text in [name, value] {
        length(block, text.len());
        block.extend_from_slice(text);
    }
}

/// An integer behind the bit that says "no Huffman code", which is zero (sections 5.1 and 5.2).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < PREFIX {
        block.push(length as u8);
        return;
    }
    block.push(PREFIX as u8);
    let mut rest = length - PREFIX;
    while rest >= 0x80 {
        block.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A literal with a name of its own, index 0.
const WITHOUT_INDEXING: u8 = 0;
const NEVER_INDEXED: u8 = 0x10;
/// The largest number of seven bits.
const PREFIX: usize = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    fn block(is_secret: bool, name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut block = Vec::new();
        field(&mut block, is_secret, name, value);
        block
    }

    #[test]
    fn fields_are_those_of_the_standard() {
        // Appendix C.2.3 has this field, never indexed, name and value as they are.
        assert_eq!(block(true, b"password", b"secret"), b"\x10\x08password\x06secret");
        assert_eq!(block(false, b"a", b""), b"\x00\x01a\x00");
    }

    #[test]
    fn lengths_beyond_the_prefix_go_on_in_groups_of_seven_bits() {
        // Section C.1.2 in a prefix of seven bits instead of five: 1337 - 127 = 9 * 128 + 58.
        for (length, written) in
            [(126, &[126][..]), (127, &[127, 0]), (254, &[127, 127]), (255, &[127, 0x80, 1]), (1337, &[127, 0xba, 9])]
        {
            let value = vec![b'x'; length];
            assert_eq!(block(false, b"a", &value), [b"\x00\x01a", written, &value].concat(), "{length}");
        }
    }
}
