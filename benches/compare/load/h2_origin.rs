//! The origin's HTTP/2 half: every request is answered with 200 and the same kibibyte, within the caller's windows.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use support::h2_frames::{self as frames, Frame};

use super::origin::BODY;

/// Serves one connection whose first bytes have been read already.
pub(crate) async fn connection(mut stream: TcpStream, mut bytes: Vec<u8>) {
    while bytes.len() < frames::PREFACE.len() {
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
    bytes.drain(..frames::PREFACE.len());
    let mut server = Server { window: 65_535, waiting: Vec::new(), known: false };
    let mut out = Vec::with_capacity(64 << 10);
    frames::write(&mut out, frames::SETTINGS, 0, 0, &[]);
    loop {
        server.take(&mut bytes, &mut out);
        if stream.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}

struct Server {
    /// What the caller still takes on this connection. A stream always takes a whole body.
    window: i64,
    /// Streams with a whole request and no answer yet.
    waiting: Vec<u32>,
    /// Whether the fields of the answer are in the table by now.
    known: bool,
}

impl Server {
    fn take(&mut self, bytes: &mut Vec<u8>, out: &mut Vec<u8>) {
        let mut rest = bytes.as_slice();
        while let Some((frame, after)) = Frame::first(rest) {
            rest = after;
            if frame.kind == frames::SETTINGS {
                let stream_window = frame.setting(frames::INITIAL_WINDOW_SIZE);
                assert!(stream_window.is_none_or(|size| size as usize >= BODY), "a stream takes no whole body");
                let table = frame.setting(frames::HEADER_TABLE_SIZE);
                assert!(table.is_none_or(|size| size >= 4096), "the sidecar keeps no table of header fields");
            }
            if frames::answer(out, &frame) {
                continue;
            }
            match frame.kind {
                frames::HEADERS | frames::DATA if frame.has(frames::END_STREAM) => self.waiting.push(frame.stream),
                frames::WINDOW_UPDATE if frame.stream == 0 => self.window += frame.increment(),
                _ => {}
            }
        }
        let used = bytes.len() - rest.len();
        bytes.drain(..used);
        while !self.waiting.is_empty() && self.window >= BODY as i64 {
            self.window -= BODY as i64;
            let stream = self.waiting.remove(0);
            self.reply(stream, out);
        }
    }

    fn reply(&mut self, stream: u32, out: &mut Vec<u8>) {
        const OK: u8 = 8;
        let mut block = vec![];
        frames::known_field(&mut block, OK);
        if self.known {
            (62..=63).rev().for_each(|index| frames::known_field(&mut block, index));
        } else {
            frames::indexed_field(&mut block, 31, "application/octet-stream");
            frames::indexed_field(&mut block, 28, &BODY.to_string());
            self.known = true;
        }
        frames::write(out, frames::HEADERS, frames::END_HEADERS, stream, &block);
        frames::write(out, frames::DATA, frames::END_STREAM, stream, &[b'x'; BODY]);
    }
}
