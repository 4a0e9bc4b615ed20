//! The name of a unix socket, made one that our HTTP/2 takes.
//!
//! gRPC's C library, and with it Python, C++, Ruby and PHP, calls a unix socket by its path with escapes (`:authority:
//! run%2Fagent.sock`), and older ones of Go by the path as it is. The first is a host by RFC 3986 §3.2.2, yet the `http` crate knows no
//! escapes in one, and h2 resets a stream whose authority it cannot read. Nobody here asks by which name a socket was reached. So
//! each `%` and `/` in it becomes `-` as the bytes come, in its place: frames, lengths and HPACK's table stay as they were.
//!
//! In: what a client sends. Out: the same but for those octets. Whatever cannot be followed is left as it is, for h2 to judge; so is a
//! name in Huffman's code, which none of these clients uses.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection over a unix socket, whose client may call it as it likes.
pub(crate) struct Renamed<IO> {
    io: IO,
    /// `None` once it cannot be followed any more.
    frame: Option<Frame>,
    field: Field,
}

impl<IO> Renamed<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self { io, frame: Some(Frame::Preface(PREFACE)), field: Field::Start }
    }

    /// The next octets, changed where they lie.
    fn follow(&mut self, octets: &mut [u8]) {
        for octet in octets {
            let Some(frame) = self.frame.take() else { return };
            self.frame = frame.next(octet, &mut self.field);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Renamed<IO> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, into))?;
        self.follow(into.filled_mut().get_mut(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Renamed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Where in the frames the next octet stands (RFC 9113 §4.1).
enum Frame {
    /// So many octets of the connection preface are left.
    Preface(usize),
    Head([u8; HEAD], usize),
    Payload(Payload),
}

/// What is left of a payload.
struct Payload {
    /// The first octet says how much padding there is.
    padded: bool,
    /// Before the field block: the priority of a HEADERS frame, or all that is no field block.
    lead: u32,
    block: u32,
    padding: u32,
}

impl Frame {
    fn next(self, octet: &mut u8, field: &mut Field) -> Option<Self> {
        match self {
            Self::Preface(left) if left > 1 => Some(Self::Preface(left - 1)),
            Self::Preface(_) => Some(Self::Head([0; HEAD], 0)),
            Self::Head(mut head, have) => {
                *head.get_mut(have)? = *octet;
                match have + 1 {
                    HEAD => Payload::of(head, field)?.or_next(),
                    have => Some(Self::Head(head, have)),
                }
            }
            Self::Payload(payload) => payload.next(octet, field)?.or_next(),
        }
    }
}

impl Payload {
    fn of([high, middle, low, kind, flags, ..]: [u8; HEAD], field: &mut Field) -> Option<Self> {
        let length = u32::from_be_bytes([0, high, middle, low]);
        let whole = Self { padded: false, lead: 0, block: 0, padding: 0 };
        match kind {
            HEADERS => {
                *field = Field::Start;
                let padded = flags & PADDED != 0;
                let lead = if flags & PRIORITY != 0 { 5 } else { 0 };
                let block = length.checked_sub(lead)?.checked_sub(u32::from(padded))?;
                Some(Self { padded, lead, block, ..whole })
            }
            CONTINUATION => Some(Self { block: length, ..whole }),
            _ => Some(Self { lead: length, ..whole }),
        }
    }

    fn next(mut self, octet: &mut u8, field: &mut Field) -> Option<Self> {
        if self.padded {
            self.padded = false;
            self.padding = u32::from(*octet);
            self.block = self.block.checked_sub(self.padding)?;
        } else if self.lead > 0 {
            self.lead -= 1;
        } else if self.block > 0 {
            self.block -= 1;
            *field = field.next(octet)?;
        } else {
            self.padding = self.padding.checked_sub(1)?;
        }
        Some(self)
    }

    fn or_next(self) -> Option<Frame> {
        let over = !self.padded && self.lead == 0 && self.block == 0 && self.padding == 0;
        Some(if over { Frame::Head([0; HEAD], 0) } else { Frame::Payload(self) })
    }
}

/// Where in a field block the next octet stands (RFC 7541 §6).
#[derive(Clone, Copy)]
enum Field {
    Start,
    /// In a number that goes on (§5.1).
    Number {
        value: u32,
        shift: u32,
        then: Then,
    },
    /// Before the length of a string (§5.2).
    Length(Text),
    /// In a string with so many octets left.
    Octets {
        left: u32,
        plain: bool,
        text: Text,
    },
}

/// What a number says.
#[derive(Clone, Copy)]
enum Then {
    /// A whole field, or the size of the table.
    Nothing,
    /// The name of a field whose value follows; 0: its name does too.
    Name,
    Length {
        plain: bool,
        text: Text,
    },
}

/// What a string is.
#[derive(Clone, Copy)]
enum Text {
    /// A name, of which so much is that of the authority.
    Name(Option<usize>),
    Value {
        of_authority: bool,
    },
}

impl Field {
    fn next(self, octet: &mut u8) -> Option<Self> {
        Some(match self {
            Self::Start => match *octet {
                0x80.. => Self::number(*octet, 7, Then::Nothing),
                0x40.. => Self::number(*octet, 6, Then::Name),
                0x20.. => Self::number(*octet, 5, Then::Nothing),
                _ => Self::number(*octet, 4, Then::Name),
            },
            Self::Number { value, shift, then } => {
                let value = value.checked_add(u32::from(*octet & 0x7f) << shift)?;
                match (*octet & 0x80 != 0, shift) {
                    (false, _) => then.after(value),
                    (true, ..=14) => Self::Number { value, shift: shift + 7, then },
                    // No number here is so great.
                    (true, _) => return None,
                }
            }
            Self::Length(text) => Self::number(*octet, 7, Then::Length { plain: *octet & 0x80 == 0, text }),
            Self::Octets { left, plain, text } => {
                let text = text.next(octet, plain);
                if left > 1 { Self::Octets { left: left - 1, plain, text } } else { text.end(plain) }
            }
        })
    }

    /// A number in the last `bits` bits of an octet, or that begins there.
    fn number(octet: u8, bits: u32, then: Then) -> Self {
        let most = (1 << bits) - 1;
        let value = u32::from(octet) & most;
        if value == most { Self::Number { value, shift: 0, then } } else { then.after(value) }
    }
}

impl Then {
    fn after(self, value: u32) -> Field {
        match self {
            Self::Nothing => Field::Start,
            Self::Name if value == 0 => Field::Length(Text::Name(Some(0))),
            Self::Name => Field::Length(Text::Value { of_authority: value == AUTHORITY_INDEX }),
            Self::Length { plain, text } if value == 0 => text.end(plain),
            Self::Length { plain, text } => Field::Octets { left: value, plain, text },
        }
    }
}

impl Text {
    fn next(self, octet: &mut u8, plain: bool) -> Self {
        match self {
            Self::Name(same) => Self::Name(same.filter(|at| AUTHORITY.get(*at) == Some(octet)).map(|at| at + 1)),
            Self::Value { of_authority } => {
                if of_authority && plain && b"%/".contains(octet) {
                    *octet = b'-';
                }
                self
            }
        }
    }

    fn end(self, plain: bool) -> Field {
        match self {
            Self::Name(same) => Field::Length(Self::Value { of_authority: plain && same == Some(AUTHORITY.len()) }),
            Self::Value { .. } => Field::Start,
        }
    }
}

/// Octets of the connection preface (RFC 9113 §3.4) and of a frame's head (§4.1).
const PREFACE: usize = 24;
const HEAD: usize = 9;
/// Types and flags of frames (RFC 9113 §6.2, §6.10).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const AUTHORITY: &[u8] = b":authority";
/// Its place in the static table (RFC 7541 appendix A).
const AUTHORITY_INDEX: u32 = 1;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const PRI: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn followed(sent: &[u8], piece: usize) -> Vec<u8> {
        let mut renamed = Renamed::new(());
        let mut octets = sent.to_vec();
        octets.chunks_mut(piece).for_each(|piece| renamed.follow(piece));
        octets
    }

    fn text(octets: &[u8]) -> String {
        octets.iter().map(|octet| char::from(*octet)).collect()
    }

    /// The beginning of a call by gRPC's C library.
    fn call(authority: &str) -> Vec<u8> {
        let length = |text: &str| char::from(u8::try_from(text.len()).unwrap());
        let path = "/SpiffeWorkloadAPI/FetchX509SVID";
        let block = format!(
            "@\u{5}:path{}{path}@\n:authority{}{authority}\x03\x04POST@\x02te\x08trailers",
            length(path),
            length(authority)
        );
        block.into_bytes()
    }

    #[test]
    fn the_path_of_a_socket_becomes_a_name() {
        let settings = frame(4, 0, &[0, 4, 0, 64, 0, 0]);
        let calls = |name| [PRI, &settings, &frame(1, 4, &call(name)), &frame(0, 1, b"\0\0\0\0\0")].concat();
        let expected = calls("run-2Fspire-2Fagent.sock");
        for piece in 1..expected.len() {
            assert_eq!(text(&followed(&calls("run%2Fspire%2Fagent.sock"), piece)), text(&expected));
        }
        assert_eq!(text(&followed(&calls("run/spire/agent.sock"), 7)), text(&calls("run-spire-agent.sock")));
        // Every way to write the field: with the name's number, with a long value, in a frame that goes on, padded, with a priority.
        let long = "%41".repeat(100);
        for first in [0x41, 0x01, 0x11] {
            let block = [&[first, 0x7f, 0xad, 0x01], long.as_bytes(), &[0x82, 0x3f, 0xe1, 0x1f]].concat();
            let (front, back) = block.split_at(37);
            let padded = [&[3, 0, 0, 0, 0, 9], &block[..], b"%%%"].concat();
            for frames in [
                frame(1, 4, &block),
                [frame(1, 0, front), frame(9, 4, back)].concat(),
                frame(1, 4 | PADDED | PRIORITY, &padded),
            ] {
                let sent = [PRI, &frames, &frame(1, 4, &block)].concat();
                let seen = text(&followed(&sent, 1000));
                assert_eq!(seen.matches("-41").count(), 200, "{first}");
                assert_eq!(seen.replace("-41", "%41"), text(&sent));
            }
        }
    }

    #[test]
    fn nothing_else_is_touched() {
        let other = call("localhost")
            .into_iter()
            .chain(*b"@\x05:auth\x04a%/b@\x0b:authority2\x03a%b@\x01x\x03a/b")
            .collect::<Vec<_>>();
        let coded = [&[0x41, 0x80 | 3][..], b"%/%"].concat();
        for sent in [
            [PRI, &frame(1, 4, &other)].concat(),
            [PRI, &frame(1, 4, &coded)].concat(),
            [PRI, &frame(0, 1, &[&[0x41, 3][..], b"%/%"].concat()), &frame(7, 0, b"A\x03%%%")].concat(),
            // What cannot be followed: padding beyond the frame, a number beyond all bounds.
            [PRI, &frame(1, 4 | PADDED, b"\x09A\x03%%%"), &frame(1, 4, b"A\x03%%%")].concat(),
            [PRI, &frame(1, 4, b"A\x7f\xff\xff\xff\xff\x0f%%%"), &frame(1, 4, b"A\x03%%%")].concat(),
        ] {
            assert_eq!(text(&followed(&sent, 5)), text(&sent));
        }
    }

    #[test]
    fn any_octets_stay_as_many_and_as_they_are_but_for_the_signs() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let octets: Vec<u8> = (0..64)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let octet = random.to_le_bytes()[0];
                    // Frames that are short, blocks that name the authority.
                    [octet & 0x0f, 0x41, b'%', octet][usize::from(octet >> 6)]
                })
                .collect();
            let sent = [PRI, &[0, 0, octets[0] & 31, 1, octets[1] & 0x28, 0, 0, 0, 1], &octets[..]].concat();
            let seen = followed(&sent, usize::from(octets[2]) + 1);
            let changed = sent.iter().zip(&seen).filter(|(sent, seen)| sent != seen);
            assert!(changed.clone().all(|(sent, seen)| b"%/".contains(sent) && *seen == b'-'));
        }
    }
}
