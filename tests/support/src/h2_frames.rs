//! HTTP/2 frames and just enough of HPACK for load generators and an origin that cost next to nothing.
//!
//! RFC 9113 for frames, RFC 7541 for header blocks. Both ends always say the same, so blocks are written down here and
//! only the status of a response is ever read.

/// What a client says first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 §6).
pub const DATA: u8 = 0;
/// A type of frames.
pub const HEADERS: u8 = 1;
/// A type of frames.
pub const RST_STREAM: u8 = 3;
/// A type of frames.
pub const SETTINGS: u8 = 4;
/// A type of frames.
pub const PING: u8 = 6;
/// A type of frames.
pub const GOAWAY: u8 = 7;
/// A type of frames.
pub const WINDOW_UPDATE: u8 = 8;

/// END_STREAM of DATA and HEADERS; ACK of SETTINGS and PING.
pub const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Of HEADERS.
pub const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// A setting (RFC 9113 §6.5.2).
pub const HEADER_TABLE_SIZE: u16 = 1;
/// A setting.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame in a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// One of the types above.
    pub kind: u8,
    /// As they came.
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
    /// Without the nine bytes before it.
    pub payload: &'a [u8],
}

const HEAD: usize = 9;

impl<'a> Frame<'a> {
    /// The first frame of `bytes` and what follows it; None until it is whole.
    pub fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let head = bytes.get(..HEAD)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = bytes.get(HEAD..HEAD + length)?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some((Self { kind: head[3], flags: head[4], stream, payload }, &bytes[HEAD + length..]))
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The content of DATA or HEADERS, without padding and priority.
    pub fn content(&self) -> &'a [u8] {
        let mut content = self.payload;
        if self.has(PADDED) {
            let padding = usize::from(content[0]);
            content = &content[1..content.len() - padding];
        }
        if self.kind == HEADERS && self.has(PRIORITY) {
            content = &content[5..];
        }
        content
    }

    /// The value of a setting, where the frame has it.
    pub fn setting(&self, name: u16) -> Option<u32> {
        let mut settings = self.payload.chunks_exact(6);
        let found = settings.find(|setting| setting[..2] == name.to_be_bytes())?;
        Some(u32::from_be_bytes([found[2], found[3], found[4], found[5]]))
    }

    /// The increment of a WINDOW_UPDATE.
    pub fn increment(&self) -> i64 {
        i64::from(u32::from_be_bytes([self.payload[0] & 0x7f, self.payload[1], self.payload[2], self.payload[3]]))
    }

    /// Whether a header block begins with `:status: 200`, the static entry 8, after what may be said about the table.
    pub fn is_200(&self) -> bool {
        let mut block = self.content();
        while let [first @ 0x20..0x40, rest @ ..] = block {
            block = rest;
            if *first == 0x3f {
                let end = block.iter().position(|byte| byte & 0x80 == 0).unwrap_or(0);
                block = &block[end + 1..];
            }
        }
        block.first() == Some(&0x88)
    }
}

/// Appends a frame.
pub fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Answers what every connection has to answer. Gives whether the frame was of that kind.
pub fn answer(out: &mut Vec<u8>, frame: &Frame<'_>) -> bool {
    match frame.kind {
        SETTINGS if !frame.has(ACK) => write(out, SETTINGS, ACK, 0, &[]),
        PING if !frame.has(ACK) => write(out, PING, ACK, 0, frame.payload),
        SETTINGS | PING => {}
        _ => return false,
    }
    true
}

/// A field with an indexed name, added to the table.
pub fn indexed_field(out: &mut Vec<u8>, name: u8, value: &str) {
    assert!(name < 63 && value.len() < 127);
    out.extend_from_slice(&[0x40 | name, u8::try_from(value.len()).unwrap()]);
    out.extend_from_slice(value.as_bytes());
}

/// A field as it stands in the table.
pub fn known_field(out: &mut Vec<u8>, index: u8) {
    out.push(0x80 | index);
}
