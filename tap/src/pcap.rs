//! The classic capture format, with nanoseconds: what goes before a stream, and what goes before each frame.
//!
//! Written little-endian; read in either order, with micro- or nanoseconds (draft-ietf-opsawg-pcap). The reader refuses what
//! no tap writes: other link types than Ethernet, frames over 65535 bytes, and frames that were cut, which Arkime skips and
//! Suricata calls truncated.

use std::fmt;

/// Before the first frame: nanoseconds, version 2.4, snaplen 65535, Ethernet.
pub const HEADER: [u8; 24] = [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];

/// Before every frame of that length.
pub fn record(nanos: u64, length: usize) -> [u8; 16] {
    let seconds = (nanos / 1_000_000_000) as u32; // wraps in 2106, as the format does
    let rest = (nanos % 1_000_000_000) as u32;
    let length = length as u32;
    let mut record = [0; 16];
    let fields = [seconds, rest, length, length].into_iter().flat_map(u32::to_le_bytes);
    record.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    record
}

/// Reads a stream that comes in pieces of any size.
#[derive(Debug, Default)]
pub struct Reader {
    /// Not yet read; never more than one frame and one piece.
    held: Vec<u8>,
    /// Where in `held` the next unread byte is.
    at: usize,
    form: Option<Form>,
}

/// What the header said.
#[derive(Debug, Clone, Copy)]
struct Form {
    big_endian: bool,
    /// Nanoseconds in one unit of a record's fraction.
    unit: u32,
}

/// Why a stream is no capture of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// The first four bytes are no magic number.
    Magic(u32),
    /// Another version than 2.4.
    Version(u16, u16),
    /// Another link type than Ethernet.
    LinkType(u32),
    /// A frame longer than 65535 bytes.
    TooLong(u32),
    /// A frame of which only a part was captured.
    Cut {
        /// Bytes there.
        captured: u32,
        /// Bytes it had.
        original: u32,
    },
    /// The fraction of a second is a second or more.
    Fraction(u32),
}

impl Reader {
    /// A reader at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.at);
        self.at = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame and its time, in nanoseconds since 1970; `None` until more bytes came.
    ///
    /// # Errors
    /// What makes the stream unreadable. Nothing can be read after it.
    pub fn next_frame(&mut self) -> Result<Option<(u64, &[u8])>, Malformed> {
        let form = match self.form {
            Some(form) => form,
            None => match self.header()? {
                Some(form) => *self.form.insert(form),
                None => return Ok(None),
            },
        };
        let Some(fields) = self.words::<4>(0, form) else {
            return Ok(None);
        };
        let [seconds, fraction, captured, original] = fields;
        if captured > SNAPLEN {
            return Err(Malformed::TooLong(captured));
        }
        if captured != original {
            return Err(Malformed::Cut { captured, original });
        }
        let nanos = u64::from(fraction) * u64::from(form.unit);
        if nanos >= 1_000_000_000 {
            return Err(Malformed::Fraction(fraction));
        }
        let start = self.at + RECORD;
        let end = start + captured as usize;
        if end > self.held.len() {
            return Ok(None);
        }
        self.at = end;
        let frame = self.held.get(start..end).unwrap_or_default();
        Ok(Some((u64::from(seconds) * 1_000_000_000 + nanos, frame)))
    }

    /// Whether the stream may end here: between two frames, or before anything.
    pub fn is_between_frames(&self) -> bool {
        self.at == self.held.len()
    }

    fn header(&mut self) -> Result<Option<Form>, Malformed> {
        let little = Form { big_endian: false, unit: 1 };
        // The magic number first: what is no capture may be shorter than a header.
        let Some([magic]) = self.words::<1>(0, little) else {
            return Ok(None);
        };
        let form = match magic {
            0xa1b2_3c4d => little,
            0xa1b2_c3d4 => Form { big_endian: false, unit: 1000 },
            0x4d3c_b2a1 => Form { big_endian: true, unit: 1 },
            0xd4c3_b2a1 => Form { big_endian: true, unit: 1000 },
            other => return Err(Malformed::Magic(other)),
        };
        let Some([_, versions, _, _, _, link]) = self.words::<6>(0, form) else {
            return Ok(None);
        };
        let (low, high) = (versions as u16, (versions >> 16) as u16);
        let (major, minor) = if form.big_endian { (high, low) } else { (low, high) };
        if (major, minor) != (2, 4) {
            return Err(Malformed::Version(major, minor));
        }
        if link != 1 {
            return Err(Malformed::LinkType(link));
        }
        self.at += HEADER.len();
        Ok(Some(form))
    }

    /// So many words from here on, if they are there.
    fn words<const N: usize>(&self, skip: usize, form: Form) -> Option<[u32; N]> {
        let start = self.at + skip;
        let bytes = self.held.get(start..start + 4 * N)?;
        let mut words = [0; N];
        for (word, four) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            let four: [u8; 4] = four.try_into().ok()?;
            *word = if form.big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) };
        }
        Some(words)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(magic) => write!(f, "{magic:#010x} is no magic number of a capture"),
            Self::Version(major, minor) => write!(f, "version {major}.{minor}, not 2.4"),
            Self::LinkType(link) => write!(f, "link type {link}, not Ethernet (1)"),
            Self::TooLong(length) => write!(f, "a frame of {length} bytes, more than 65535"),
            Self::Cut { captured, original } => write!(f, "a frame cut to {captured} of {original} bytes"),
            Self::Fraction(fraction) => write!(f, "a time with a fraction of {fraction}, a second or more"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Longest frame.
pub const SNAPLEN: u32 = 65_535;
const RECORD: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        for (nanos, frame) in frames {
            bytes.extend(record(*nanos, frame.len()));
            bytes.extend(frame);
        }
        bytes
    }

    fn all(reader: &mut Reader) -> Result<Vec<(u64, Vec<u8>)>, Malformed> {
        let mut frames = Vec::new();
        while let Some((nanos, frame)) = reader.next_frame()? {
            frames.push((nanos, frame.to_vec()));
        }
        Ok(frames)
    }

    /// The header as another host writes it.
    fn header(magic: u32, version: [u16; 2], link: u32, swap: bool) -> Vec<u8> {
        let word = |value: u32| if swap { value.to_be_bytes() } else { value.to_le_bytes() };
        let half = |value: u16| if swap { value.to_be_bytes() } else { value.to_le_bytes() };
        [&word(magic)[..], &half(version[0]), &half(version[1]), &[0; 8], &word(65_535), &word(link)].concat()
    }

    #[test]
    fn header_is_the_one_of_the_format() {
        assert_eq!(HEADER.to_vec(), header(0xa1b2_3c4d, [2, 4], 1, false));
        assert_eq!(record(1_000_000_002, 3), [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0]);
    }

    #[test]
    fn both_byte_orders_and_both_units_are_read() {
        for (magic, swap, unit) in
            [(0xa1b2_3c4d, false, 1), (0xa1b2_c3d4, false, 1000), (0xa1b2_3c4d, true, 1), (0xa1b2_c3d4_u32, true, 1000)]
        {
            let mut bytes = header(magic, [2, 4], 1, swap);
            for value in [5_u32, 7, 2, 2] {
                bytes.extend(if swap { value.to_be_bytes() } else { value.to_le_bytes() });
            }
            bytes.extend(b"ab");
            let mut reader = Reader::new();
            reader.push(&bytes);
            assert_eq!(all(&mut reader).unwrap(), [(5_000_000_000 + 7 * unit, b"ab".to_vec())]);
        }
    }

    #[test]
    fn what_no_tap_writes_is_refused() {
        let refused = |bytes: Vec<u8>| {
            let mut reader = Reader::new();
            reader.push(&bytes);
            all(&mut reader).unwrap_err()
        };
        assert_eq!(refused(b"GET / HTTP/1.1".to_vec()), Malformed::Magic(0x2054_4547));
        assert_eq!(refused(header(0xa1b2_c3d4, [2, 3], 1, false)), Malformed::Version(2, 3));
        assert_eq!(refused(header(0xa1b2_c3d4, [2, 4], 113, true)), Malformed::LinkType(113));
        let with = |fields: [u32; 4]| [HEADER.to_vec(), fields.map(u32::to_le_bytes).concat()].concat();
        assert_eq!(refused(with([0, 0, 65_536, 65_536])), Malformed::TooLong(65_536));
        assert_eq!(refused(with([0, 0, 10, 20])), Malformed::Cut { captured: 10, original: 20 });
        assert_eq!(refused(with([0, 1_000_000_000, 1, 1])), Malformed::Fraction(1_000_000_000));
    }

    proptest! {
        #[test]
        fn any_cut_of_a_stream_reads_the_same(
            frames in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8),
            piece in 1usize..90,
        ) {
            let frames: Vec<_> = frames.into_iter().map(|(nanos, frame)| (u64::from(nanos) * 3, frame)).collect();
            let bytes = written(&frames);
            let (mut reader, mut seen) = (Reader::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                reader.push(piece);
                seen.extend(all(&mut reader).unwrap());
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(reader.is_between_frames());
        }

        #[test]
        fn noise_is_refused_or_waited_for_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = Reader::new();
            reader.push(&bytes);
            let _ = all(&mut reader);
            let mut reader = Reader::new();
            reader.push(&[&HEADER[..], &bytes].concat());
            let _ = all(&mut reader);
        }
    }
}
