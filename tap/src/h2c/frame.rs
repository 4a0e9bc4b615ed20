//! Frames of a connection that has one stream (RFC 9113 section 4.1).

/// A block in as many frames as it needs (RFC 9113 sections 6.2 and 6.10).
pub(super) fn headers(frames: &mut Vec<u8>, block: &[u8], ends: bool) {
    let mut kind = (HEADERS, if ends { END_STREAM } else { 0 });
    let mut parts = block.chunks(MOST_PAYLOAD).peekable();
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        frame(frames, kind.0, kind.1 | last, STREAM, part);
        kind = (CONTINUATION, 0);
    }
}

pub(super) fn frame(frames: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    frames.extend_from_slice(&header(payload.len(), kind, flags, stream));
    frames.extend_from_slice(payload);
}

/// RFC 9113 section 4.1. A payload is never longer than [`MOST_PAYLOAD`].
pub(super) fn header(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; FRAME] {
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    [high, middle, low, kind, flags, a, b, c, d]
}

/// Bytes of a frame's header.
pub(super) const FRAME: usize = 9;
/// What every peer takes (RFC 9113 section 4.2).
pub(super) const MOST_PAYLOAD: usize = 16_384;
/// The only stream.
pub(super) const STREAM: u32 = 1;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
