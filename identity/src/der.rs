//! A reader for the few DER values whose exact bytes matter to us.
//!
//! In comes the content of one extension or key; out come tag and content of each element. Refused: long-form
//! tags, indefinite lengths, lengths not in their shortest form (X.690 §10.1), elements that run past the end.
//! General certificate structure is read by `webpki` and `x509-parser`; this reader exists because both are
//! more forgiving than the SPIFFE profile in a few places, such as an explicit `cA FALSE`.

/// Reads elements one after the other.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element as (tag, content); `None` at the end or where the bytes are not DER.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        // Tag numbers above 30 take more octets; nothing we read has them.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 { (usize::from(first), rest) } else { long_length(first, rest)? };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The next element with its tag and length, which must carry `tag`.
    pub(crate) fn whole_element(&mut self, tag: u8) -> Option<&'a [u8]> {
        let before = self.0;
        self.expect(tag)?;
        before.get(..before.len() - self.0.len())
    }

    /// The content of the next element, which must carry `tag`.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }
}

/// The content of `bytes` when they are one element of `tag` and nothing after it.
pub(crate) fn whole(tag: u8, bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    let content = reader.expect(tag)?;
    reader.is_empty().then_some(content)
}

/// The first 16 bits of a BIT STRING's content, bit 0 of the ASN.1 definition at the top.
///
/// `None` when the count of unused bits is wrong or an unused bit is set (X.690 §11.2.1).
pub(crate) fn bit_string_16(content: &[u8]) -> Option<u16> {
    let (&unused, bits) = content.split_first()?;
    if unused > 7 || (bits.is_empty() && unused != 0) {
        return None;
    }
    if let Some(last) = bits.last()
        && last.trailing_zeros() < u32::from(unused)
        && *last != 0
    {
        return None;
    }
    match bits {
        [] => Some(0),
        [high] => Some(u16::from_be_bytes([*high, 0])),
        [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
    }
}

fn long_length(first: u8, rest: &[u8]) -> Option<(usize, &[u8])> {
    let count = usize::from(first & 0x7f);
    // 0 is the indefinite form of BER; more than three octets is larger than anything we accept.
    if count == 0 || count > 3 {
        return None;
    }
    let (octets, rest) = rest.split_at_checked(count)?;
    let length = octets.iter().fold(0usize, |sum, octet| (sum << 8) | usize::from(*octet));
    let shortest = octets.first() != Some(&0) && length >= 0x80;
    shortest.then_some((length, rest))
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_are_not_shortest_are_refused() {
        assert_eq!(whole(SEQUENCE, &[0x30, 0x00]), Some(&[][..]));
        for bytes in [
            &[0x30, 0x81, 0x00][..],
            &[0x30, 0x81, 0x01, 0x00],
            &[0x30, 0x82, 0x00, 0x80],
            &[0x30, 0x80, 0x00, 0x00],
            &[0x30, 0x84, 0, 0, 0, 1, 0],
            &[0x30, 0x02, 0x00],
            &[0x30],
            &[0x3f, 0x20, 0x00],
            &[],
        ] {
            assert_eq!(whole(SEQUENCE, bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn bytes_after_the_element_are_refused() {
        assert_eq!(whole(SEQUENCE, &[0x30, 0x00, 0x00]), None);
    }

    #[test]
    fn long_form_is_read_where_it_is_needed() {
        let mut bytes = vec![0x04, 0x81, 0x80];
        bytes.extend([7; 0x80]);
        assert_eq!(whole(0x04, &bytes).unwrap().len(), 0x80);
    }

    #[test]
    fn unused_bits_must_be_zero() {
        assert_eq!(bit_string_16(&[7, 0x80]), Some(0x8000));
        assert_eq!(bit_string_16(&[1, 0x06]), Some(0x0600));
        assert_eq!(bit_string_16(&[7, 0x80, 0x80]), Some(0x8080));
        assert_eq!(bit_string_16(&[0]), Some(0));
        for bytes in [&[][..], &[8, 0x80], &[1], &[7, 0xc0]] {
            assert_eq!(bit_string_16(bytes), None, "{bytes:?}");
        }
    }
}
