//! Where the frames of a connection begin, and of what kind each is (RFC 9113 §4.1): read before the library reads them.
//!
//! Nothing is judged here. What is no frame at all, or too long a one, the library refuses.

use super::preface::{FRAME_HEADER, PREFACE};

const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// What a frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// DATA that carries something, or ends a stream.
    Content,
    /// RST_STREAM.
    Reset,
    Other,
}

/// How far the bytes of a connection have been read.
#[derive(Debug)]
pub(super) struct Walk {
    /// Bytes until the next header begins.
    rest: usize,
    /// A header of which a part has come, and how much.
    header: [u8; FRAME_HEADER],
    filled: usize,
}

impl Walk {
    /// From the first byte of the preface.
    pub(super) fn new() -> Self {
        Self { rest: PREFACE.len(), header: [0; FRAME_HEADER], filled: 0 }
    }

    /// Takes from `bytes` what belongs to the frame under way. Says whether a place between two frames is reached.
    pub(super) fn finish(&mut self, bytes: &mut &[u8]) -> bool {
        let (of_this, after) = bytes.split_at(self.rest.min(bytes.len()));
        self.rest -= of_this.len();
        *bytes = after;
        self.rest == 0 && self.filled == 0
    }

    /// Takes the next frame's header from `bytes`; `None` when the rest of it has not come. After [`Walk::finish`].
    pub(super) fn begin(&mut self, bytes: &mut &[u8]) -> Option<Kind> {
        if self.rest > 0 {
            return None;
        }
        let header = match bytes.split_first_chunk() {
            Some((whole, after)) if self.filled == 0 => {
                *bytes = after;
                *whole
            }
            _ => self.gather(bytes)?,
        };
        let [a, b, c, kind, flags, ..] = header;
        self.rest = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(match kind {
            DATA if self.rest > 0 || flags & END_STREAM != 0 => Kind::Content,
            RST_STREAM => Kind::Reset,
            _ => Kind::Other,
        })
    }

    /// A header that comes in parts.
    fn gather(&mut self, bytes: &mut &[u8]) -> Option<[u8; FRAME_HEADER]> {
        let missing = self.header.get_mut(self.filled..)?;
        let (part, after) = bytes.split_at(missing.len().min(bytes.len()));
        missing.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        *bytes = after;
        self.filled += part.len();
        if self.filled < FRAME_HEADER {
            return None;
        }
        self.filled = 0;
        Some(self.header)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn frame(length: usize, kind: u8, flags: u8) -> Vec<u8> {
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        bytes.resize(FRAME_HEADER + length, 0xff);
        bytes
    }

    /// The frames in these bytes, when they come so many at a time, and how often a place between two was seen.
    fn walk(bytes: &[u8], at_a_time: usize) -> (Vec<Kind>, usize) {
        let (mut walk, mut kinds, mut between) = (Walk::new(), Vec::new(), 0);
        for mut part in bytes.chunks(at_a_time) {
            loop {
                between += usize::from(walk.finish(&mut part));
                match walk.begin(&mut part) {
                    Some(kind) => kinds.push(kind),
                    None => break,
                }
            }
            assert!(part.is_empty());
        }
        (kinds, between)
    }

    #[test]
    fn every_frame_is_seen_once_however_its_bytes_come() {
        let frames = [
            frame(6, 4, 0),
            frame(300, 1, 4),
            frame(0, 0, 0),
            frame(0, 0, END_STREAM),
            frame(70_000, 0, 0),
            frame(4, 3, 0),
            frame(0, 0xbe, 0xff),
            frame(8, 6, 0),
        ];
        let bytes = [PREFACE, &frames.concat()].concat();
        let kinds = {
            use Kind::{Content, Other, Reset};
            vec![Other, Other, Other, Content, Content, Reset, Other, Other]
        };
        assert_eq!(walk(&bytes, usize::MAX), (kinds.clone(), kinds.len() + 1));
        for at_a_time in [1, 2, 8, 9, 10, 23, 24, 25, 33, 1000, 65536] {
            assert_eq!(walk(&bytes, at_a_time).0, kinds, "{at_a_time}");
        }
    }
}
