//! Base64 (RFC 4648), both alphabets, one spelling.
//!
//! In come bytes or text; out come text or bytes. The reader takes the standard alphabet with padding (§4) and
//! nothing else: no line ends, no missing padding, no bits set that encode nothing (§3.5). So what was read is
//! what would be written, and two texts are never the same certificate.

/// The standard alphabet, padded (RFC 4648 §4).
pub(crate) fn standard(bytes: &[u8]) -> String {
    let mut text = encode(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// The alphabet for URLs, without padding (RFC 4648 §5), as JWKs have it.
pub(crate) fn url(bytes: &[u8]) -> String {
    encode(bytes, URL)
}

/// Reads the standard alphabet; `None` for every other spelling.
pub(crate) fn read_standard(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = STANDARD.iter().position(|candidate| *candidate == digit)?;
        held = (held << 6 | u32::try_from(value).ok()?) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    // Also finds wrong padding: what was written has one spelling.
    (standard(&bytes) == text).then_some(bytes)
}

fn encode(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    let digit = |value: u32| alphabet.get((value & 0x3f) as usize).map_or('A', |digit| char::from(*digit));
    for chunk in bytes.chunks(3) {
        let value = chunk.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(digit(value >> (18 - 6 * place)));
        }
    }
    text
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_the_standard() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (bytes, text) in vectors {
            assert_eq!(standard(bytes.as_bytes()), text);
            assert_eq!(read_standard(text).unwrap(), bytes.as_bytes());
            assert_eq!(url(bytes.as_bytes()), text.trim_end_matches('='));
        }
        assert_eq!((standard(&[0xfb, 0xff]).as_str(), url(&[0xfb, 0xff]).as_str()), ("+/8=", "-_8"));
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for text in ["Zg", "Zg=", "Zg===", "=", "====", "Zh==", "Zm9=", "Zm9v\n", " Zm9v", "Zm9v====", "-_8=", "Z=g="] {
            assert_eq!(read_standard(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(read_standard(&standard(&bytes)), Some(bytes));
        }
    }
}
