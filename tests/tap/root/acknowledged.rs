//! What a receiver's host has acknowledged of each stream, as it is on the wire at the sender's end.
//!
//! In: captured Ethernet frames of one TCP port. Out: for every connection the bytes up to the highest acknowledgement. This
//! is put together here and not by a tool, because the question is how far, not what.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::reader::whole_packets;

/// One connection, seen from who sends the stream.
#[derive(Debug, Default)]
struct Stream {
    /// The sequence number of the first byte.
    first: u32,
    bytes: Vec<u8>,
    /// Behind a segment that the link has dropped and that will be sent again.
    early: BTreeMap<usize, Vec<u8>>,
    acknowledged: usize,
}

/// The acknowledged bytes of each connection, by the port of the end that is not `port`. The stream comes from `sender`.
pub(crate) fn by_port(frames: &[Vec<u8>], sender: Ipv4Addr, port: u16) -> BTreeMap<u16, Vec<u8>> {
    let mut streams: BTreeMap<u16, Stream> = BTreeMap::new();
    for frame in frames {
        let Some(segment) = Segment::of(frame) else { continue };
        let other = if segment.from.1 == port { segment.to.1 } else { segment.from.1 };
        if segment.from.0 == sender {
            let stream = streams.entry(other).or_default();
            if segment.has(SYN) {
                assert!(stream.bytes.is_empty(), "port {other} was used twice");
                stream.first = segment.seq.wrapping_add(1);
            } else if !segment.payload.is_empty() {
                stream.put(segment.seq, segment.payload);
            }
        } else if let Some(stream) = streams.get_mut(&other)
            && segment.has(ACK)
            && !segment.has(RST)
        {
            // A reset is not read further by who gets it (RFC 9293 section 3.10.7.4). FIN takes a number of its own.
            let far = segment.ack.wrapping_sub(stream.first) as usize;
            assert!(far <= stream.bytes.len() + 1, "the capture has a hole");
            stream.acknowledged = stream.acknowledged.max(far.min(stream.bytes.len()));
        }
    }
    streams
        .into_iter()
        .map(|(port, mut stream)| {
            stream.bytes.truncate(stream.acknowledged);
            (port, stream.bytes)
        })
        .collect()
}

/// Frames that were acknowledged to their last byte, over all connections.
pub(crate) fn packets(streams: &BTreeMap<u16, Vec<u8>>) -> u64 {
    streams.values().map(|bytes| whole_packets(bytes).len() as u64).sum()
}

impl Stream {
    fn put(&mut self, seq: u32, payload: &[u8]) {
        // A keepalive probe stands before the first byte.
        let Ok(start) = usize::try_from(seq.wrapping_sub(self.first) as i32) else { return };
        self.early.insert(start, payload.to_vec());
        while let Some(first) = self.early.first_entry().filter(|first| *first.key() <= self.bytes.len()) {
            let known = self.bytes.len() - first.key();
            self.bytes.extend_from_slice(first.remove().get(known..).unwrap_or_default());
        }
    }
}

struct Segment<'a> {
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    seq: u32,
    ack: u32,
    flags: u8,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// TCP in IPv4, no more than that.
    fn of(frame: &'a [u8]) -> Option<Self> {
        let ip = frame.get(14..)?;
        if frame[12..14] != [8, 0] || ip[9] != 6 {
            return None;
        }
        let ip = &ip[..usize::from(u16::from_be_bytes([ip[2], ip[3]]))];
        let tcp = &ip[usize::from(ip[0] & 15) * 4..];
        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap());
        let short = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
        Some(Self {
            from: (address(12), short(0)),
            to: (address(16), short(2)),
            seq: word(4),
            ack: word(8),
            flags: tcp[13],
            payload: &tcp[usize::from(tcp[12] >> 4) * 4..],
        })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
