//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng): one section, one interface, frames, and what was lost.
//!
//! Little-endian, nanoseconds. The interface statistics block is the only standard place of a capture for counting losses.

/// What an interface statistics block says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Nanoseconds since 1970 when counting began.
    pub since: u64,
    /// Nanoseconds since 1970 up to which was counted.
    pub until: u64,
    /// Packets built (`isb_ifrecv`).
    pub received: u64,
    /// Packets that were not written (`isb_ifdrop`).
    pub dropped: u64,
    /// Packets written (`isb_usrdeliv`).
    pub delivered: u64,
    /// What no packet was built of, in words (`opt_comment`).
    pub comment: String,
}

/// What a file begins with: a section of an interface of this name.
pub(crate) fn start(interface: &str, into: &mut Vec<u8>) {
    block(SECTION, into, |block| {
        block.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        block.extend_from_slice(&[1, 0, 0, 0]); // version 1.0
        block.extend_from_slice(&u64::MAX.to_le_bytes()); // of unknown length
        option(4, b"sekisho", block);
        option(0, b"", block);
    });
    block(INTERFACE, into, |block| {
        block.extend_from_slice(&[1, 0, 0, 0]); // Ethernet
        block.extend_from_slice(&crate::pcap::SNAPLEN.to_le_bytes());
        option(2, interface.as_bytes(), block);
        option(9, &[9], block); // nanoseconds
        option(0, b"", block);
    });
}

/// One frame.
pub(crate) fn packet(nanos: u64, frame: &[u8], into: &mut Vec<u8>) {
    let length = (frame.len() as u32).to_le_bytes();
    block(PACKET, into, |block| {
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&time(nanos));
        block.extend_from_slice(&length);
        block.extend_from_slice(&length);
        block.extend_from_slice(frame);
        pad(block);
    });
}

/// What was counted.
pub(crate) fn statistics(of: &Statistics, into: &mut Vec<u8>) {
    block(STATISTICS, into, |block| {
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&time(of.until));
        if !of.comment.is_empty() {
            option(1, of.comment.as_bytes(), block);
        }
        option(2, &time(of.since), block);
        option(3, &time(of.until), block);
        option(4, &of.received.to_le_bytes(), block);
        option(5, &of.dropped.to_le_bytes(), block);
        option(8, &of.delivered.to_le_bytes(), block);
        option(0, b"", block);
    });
}

/// Type, length, body, length.
fn block(kind: u32, into: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend_from_slice(&kind.to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    body(into);
    let length = ((into.len() - start + 4) as u32).to_le_bytes();
    into.extend_from_slice(&length);
    into.iter_mut().skip(start + 4).zip(length).for_each(|(to, from)| *to = from);
}

/// Code, length, value; every one begins at a multiple of four, as every block does.
fn option(code: u16, value: &[u8], into: &mut Vec<u8>) {
    let value = value.get(..value.len().min(usize::from(u16::MAX))).unwrap_or_default();
    into.extend_from_slice(&code.to_le_bytes());
    into.extend_from_slice(&(value.len() as u16).to_le_bytes());
    into.extend_from_slice(value);
    pad(into);
}

fn pad(into: &mut Vec<u8>) {
    into.resize(into.len().next_multiple_of(4), 0);
}

/// The upper half first, each half little-endian.
fn time(nanos: u64) -> [u8; 8] {
    nanos.rotate_left(32).to_le_bytes()
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Type and body of every block; both lengths must agree.
    pub(crate) fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut blocks = Vec::new();
        while !bytes.is_empty() {
            let length = word(bytes, 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(bytes, length - 4) as usize, length);
            blocks.push((word(bytes, 0), bytes[8..length - 4].to_vec()));
            bytes = &bytes[length..];
        }
        blocks
    }

    /// Code and value of every option.
    pub(crate) fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut options = Vec::new();
        loop {
            let (code, length) = (word(bytes, 0) as u16, (word(bytes, 0) >> 16) as usize);
            if code == 0 {
                assert_eq!(bytes.len(), 4);
                return options;
            }
            options.push((code, bytes[4..4 + length].to_vec()));
            bytes = &bytes[4 + length.next_multiple_of(4)..];
        }
    }

    #[test]
    fn a_file_begins_with_a_section_and_the_named_interface() {
        let mut file = Vec::new();
        start("spiffe://example.org/ns/shop/sa/web", &mut file);
        let blocks = blocks(&file);
        assert_eq!([blocks[0].0, blocks[1].0], [SECTION, INTERFACE]);
        assert_eq!(word(&blocks[0].1, 0), 0x1a2b_3c4d);
        let options = options(&blocks[1].1[8..]);
        assert_eq!(options, [(2, b"spiffe://example.org/ns/shop/sa/web".to_vec()), (9, vec![9])]);
    }

    #[test]
    fn statistics_say_what_was_lost() {
        let mut file = Vec::new();
        let said = Statistics {
            since: 1,
            until: (7 << 32) + 5,
            received: 10,
            dropped: 3,
            delivered: 7,
            comment: "lost".into(),
        };
        statistics(&said, &mut file);
        let blocks = blocks(&file);
        assert_eq!((blocks[0].0, word(&blocks[0].1, 4), word(&blocks[0].1, 8)), (STATISTICS, 7, 5));
        let options = options(&blocks[0].1[12..]);
        let numbers: Vec<_> =
            options[3..].iter().map(|(code, n)| (*code, u64::from_le_bytes(n[..].try_into().unwrap()))).collect();
        assert_eq!((options[0].clone(), numbers), ((1, b"lost".to_vec()), vec![(4, 10), (5, 3), (8, 7)]));
    }

    proptest! {
        #[test]
        fn any_frame_stands_in_a_block_of_its_own(
            frames in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..200)), 0..5),
        ) {
            let mut file = Vec::new();
            frames.iter().for_each(|(nanos, frame)| packet(*nanos, frame, &mut file));
            let blocks = blocks(&file);
            prop_assert_eq!(blocks.len(), frames.len());
            for ((kind, body), (nanos, frame)) in blocks.iter().zip(&frames) {
                prop_assert_eq!(*kind, PACKET);
                prop_assert_eq!((u64::from(word(body, 4)) << 32) + u64::from(word(body, 8)), *nanos);
                prop_assert_eq!((word(body, 12) as usize, word(body, 16) as usize), (frame.len(), frame.len()));
                prop_assert_eq!(&body[20..20 + frame.len()], &frame[..]);
            }
        }
    }
}
