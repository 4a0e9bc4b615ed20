//! How a client begins (RFC 9113 §3.4): 24 bytes that never differ, then SETTINGS. Whatever begins otherwise is not HTTP/2.
//!
//! The library takes any frame for the first one, and waits for it without end.

use crate::stream::Stream;
use bytes::BytesMut;
use std::time::Duration;
use tokio::io::AsyncReadExt;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The header of a frame (RFC 9113 §4.1).
pub(super) const FRAME_HEADER: usize = 9;

/// Why a connection does not begin.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// It begins as no HTTP/2 connection may.
    Wrong,
    /// Nothing more came in time.
    Late,
    /// The other end left.
    Gone,
}

/// Reads the beginning, at most for `patience`, and puts it back.
pub(super) async fn expect(stream: &mut Stream, patience: Duration) -> Result<(), NotBegun> {
    let mut seen = BytesMut::with_capacity(256);
    let reading = async {
        loop {
            match judge(&seen) {
                Some(true) => return Ok(()),
                Some(false) => return Err(NotBegun::Wrong),
                None => {}
            }
            match stream.read_buf(&mut seen).await {
                Ok(0) | Err(_) => return Err(NotBegun::Gone),
                Ok(_) => {}
            }
        }
    };
    match tokio::time::timeout(patience, reading).await {
        Ok(begun) => begun?,
        Err(_elapsed) => return Err(NotBegun::Late),
    }
    stream.put_back(seen.freeze());
    Ok(())
}

/// Whether this is how HTTP/2 begins; `None` when more bytes are needed.
pub(super) fn judge(seen: &[u8]) -> Option<bool> {
    let (begin, rest) = seen.split_at(seen.len().min(PREFACE.len()));
    if !PREFACE.starts_with(begin) {
        return Some(false);
    }
    match rest.get(..FRAME_HEADER)? {
        // SETTINGS, no acknowledgement, of the connection. Its length is the library's to judge.
        [_, _, _, 4, flags, stream @ ..] => Some(flags & 1 == 0 && matches!(stream, [0 | 0x80, 0, 0, 0])),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_begins_with_the_preface_and_settings() {
        let after = |frame: &[u8]| judge(&[PREFACE, frame].concat());
        assert_eq!(after(&[0, 0, 6, 4, 0, 0, 0, 0, 0]), Some(true));
        assert_eq!(after(&[0, 0, 0, 4, 0xfe, 0x80, 0, 0, 0]), Some(true), "unknown flags and the reserved bit");
        assert_eq!(after(&[0, 0, 0, 4, 1, 0, 0, 0, 0]), Some(false), "an acknowledgement");
        assert_eq!(after(&[0, 0, 0, 4, 0, 0, 0, 0, 1]), Some(false), "on a stream");
        assert_eq!(after(&[0, 0, 3, 1, 5, 0, 0, 0, 1]), Some(false), "HEADERS");
        assert_eq!(judge(b"PRI * HTTP/2.1"), Some(false));
        let whole = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0]].concat();
        for cut in 0..=whole.len() {
            assert_eq!(judge(whole.get(..cut).unwrap_or_default()), None, "{cut}");
        }
    }
}
