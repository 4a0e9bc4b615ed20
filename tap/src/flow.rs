//! One synthetic TCP connection: handshake, segments, acknowledgements, the end.
//!
//! In: what each side says, in order, and when. Out: frames. Every segment carries what the other side has sent so far as
//! its acknowledgement; a long message is acknowledged after 8 segments or 12 KiB, because Zeek gives up on a flight
//! of 16384 bytes without one and Suricata parses only what was acknowledged. Sequence numbers wrap (RFC 9293 3.4).

use std::time::Instant;

use crate::packet::{ACK, Direction, FIN, PSH, Pieces, RST, SYN, Segment, Tuple};
use crate::record::Side;

/// Takes frames as they are built.
pub(crate) trait Out {
    /// A buffer to append the next frame of this real connection to, which passed at that time. It counts as built
    /// once it is asked for; [`Out::end`] follows.
    fn begin(&mut self, connection: u64, at: Instant) -> &mut Vec<u8>;

    /// The frame begun last is whole.
    fn end(&mut self);
}

/// An open synthetic connection.
#[derive(Debug)]
pub(crate) struct Flow {
    connection: u64,
    client: Half,
    server: Half,
    mss: u16,
    /// When the latest frame passed; no later frame passes earlier.
    at: Instant,
}

/// What the frames of a connection have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Largest payload of a segment, in bytes.
    pub(crate) mss: u16,
    /// Identifier of an 802.1Q tag.
    pub(crate) vlan: Option<u16>,
}

impl From<u16> for Link {
    fn from(mss: u16) -> Self {
        Self { mss, vlan: None }
    }
}

/// What one side sends.
#[derive(Debug)]
struct Half {
    direction: Direction,
    /// Sequence number of the next byte.
    next: u32,
    /// IPv4 identification of the next packet.
    id: u16,
    /// Payload bytes sent so far.
    sent: u64,
    /// Segments and bytes the other side has not acknowledged; both zero or both positive.
    owed_segments: u32,
    owed_bytes: usize,
    finished: bool,
}

impl Flow {
    /// Shakes hands. `isn` holds the first sequence number of client and server.
    pub(crate) fn open(
        connection: u64,
        tuple: &Tuple,
        link: impl Into<Link>,
        isn: (u32, u32),
        at: Instant,
        out: &mut dyn Out,
    ) -> Self {
        let Link { mss, vlan } = link.into();
        let half = |side, isn: u32| {
            let (from, to) = tuple.from(side);
            // The identification starts anywhere; the low half of the sequence number is as good as any.
            Half::new(Direction::new(from, to, vlan), isn, isn as u16)
        };
        let client = half(Side::Client, isn.0);
        let server = half(Side::Server, isn.1);
        let mut flow = Self { connection, client, server, mss, at };
        flow.emit(Side::Client, SYN, [&[]; 3], out);
        flow.emit(Side::Server, SYN | ACK, [&[]; 3], out);
        flow.emit(Side::Client, ACK, [&[]; 3], out);
        flow
    }

    /// Sends one message, or one part of it, cut into segments.
    pub(crate) fn send(&mut self, side: Side, message: Pieces<'_>, out: &mut dyn Out) {
        let mut rest = message;
        loop {
            let mss = usize::from(self.mss);
            let payload = cut(&mut rest, mss);
            if length(&payload) == 0 {
                return;
            }
            // Before the segment, not after the one before it: the part before this one may have ended at the bound.
            if self.half(side).owes(mss) {
                self.emit(side.other(), ACK, [&[]; 3], out);
            }
            let flags = if length(&rest) == 0 { PSH | ACK } else { ACK };
            self.emit(side, flags, payload, out);
        }
    }

    /// Acknowledges what is not yet: at the end of an exchange.
    pub(crate) fn settle(&mut self, out: &mut dyn Out) {
        for side in [Side::Client, Side::Server] {
            if self.half(side).owed_segments > 0 {
                self.emit(side.other(), ACK, [&[]; 3], out);
            }
        }
    }

    /// One side says that it sends nothing more.
    pub(crate) fn finish(&mut self, side: Side, out: &mut dyn Out) {
        if !self.half(side).finished {
            self.emit(side, FIN | ACK, [&[]; 3], out);
        }
    }

    /// Ends the connection; `first` closes first unless the other side already did.
    pub(crate) fn close(mut self, first: Side, out: &mut dyn Out) {
        let first = if self.half(first.other()).finished { first.other() } else { first };
        self.finish(first, out);
        self.finish(first.other(), out);
        self.emit(first, ACK, [&[]; 3], out);
    }

    /// Ends the connection as one side broke it off.
    pub(crate) fn reset(mut self, side: Side, out: &mut dyn Out) {
        // First the acknowledgements: Suricata parses only what the other side has acknowledged.
        self.settle(out);
        self.emit(side, RST | ACK, [&[]; 3], out);
    }

    /// What follows passes at `at`, or when the latest frame did if that is later.
    pub(crate) fn advance(&mut self, at: Instant) {
        self.at = self.at.max(at);
    }

    /// Number of the real connection it stands for.
    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    /// Payload bytes that `side` has sent.
    pub(crate) fn sent(&self, side: Side) -> u64 {
        match side {
            Side::Client => self.client.sent,
            Side::Server => self.server.sent,
        }
    }

    /// Whether `side` has said that it sends nothing more.
    pub(crate) fn has_finished(&self, side: Side) -> bool {
        match side {
            Side::Client => self.client.finished,
            Side::Server => self.server.finished,
        }
    }

    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn emit(&mut self, side: Side, flags: u8, payload: Pieces<'_>, out: &mut dyn Out) {
        let (half, other) = match side {
            Side::Client => (&mut self.client, &mut self.server),
            Side::Server => (&mut self.server, &mut self.client),
        };
        // Only the very first segment acknowledges nothing.
        let ack = if flags & ACK == 0 { 0 } else { other.next };
        let mss = (flags & SYN != 0).then_some(self.mss);
        let segment = Segment { seq: half.next, ack, flags, id: half.id, mss, payload };
        half.direction.write(&segment, out.begin(self.connection, self.at));
        out.end();

        let bytes = length(&payload);
        let phantom = u32::from(flags & (SYN | FIN) != 0);
        half.next = half.next.wrapping_add(bytes as u32).wrapping_add(phantom);
        half.id = half.id.wrapping_add(1);
        half.sent += bytes as u64;
        half.finished |= flags & FIN != 0;
        if bytes > 0 {
            half.owed_segments += 1;
            half.owed_bytes += bytes;
        }
        if flags & ACK != 0 {
            other.owed_segments = 0;
            other.owed_bytes = 0;
        }
    }
}

impl Half {
    fn new(direction: Direction, isn: u32, id: u16) -> Self {
        Self { direction, next: isn, id, sent: 0, owed_segments: 0, owed_bytes: 0, finished: false }
    }

    /// One more segment would pass a limit.
    fn owes(&self, mss: usize) -> bool {
        self.owed_segments >= ACK_SEGMENTS || self.owed_bytes + mss > ACK_BYTES
    }
}

/// Takes the first `limit` bytes off the pieces.
fn cut<'a>(rest: &mut Pieces<'a>, limit: usize) -> Pieces<'a> {
    let mut room = limit;
    let mut taken: Pieces<'a> = [&[]; 3];
    for (piece, part) in rest.iter_mut().zip(&mut taken) {
        let (now, later) = piece.split_at_checked(room).unwrap_or((piece, &[]));
        room -= now.len();
        *part = now;
        *piece = later;
    }
    taken
}

fn length(pieces: &Pieces<'_>) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

const ACK_SEGMENTS: u32 = 8;
const ACK_BYTES: usize = 12 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
pub(crate) mod tests {
    use etherparse::{PacketHeaders, TcpHeader, TransportHeader};
    use proptest::prelude::*;

    use super::*;
    use crate::transport::vxlan;

    /// Keeps every frame as the datagram of VXLAN that it would travel in, and its time.
    #[derive(Debug, Default)]
    pub(crate) struct Kept(pub(crate) Vec<Vec<u8>>, pub(crate) Vec<Instant>);

    impl Out for Kept {
        fn begin(&mut self, _: u64, at: Instant) -> &mut Vec<u8> {
            self.1.push(at);
            self.0.push(vxlan::header(42).to_vec());
            self.0.last_mut().unwrap()
        }

        fn end(&mut self) {}
    }

    impl Kept {
        pub(crate) fn segments(&self) -> Vec<(TcpHeader, Vec<u8>)> {
            let read = |datagram: &Vec<u8>| {
                let packet = PacketHeaders::from_ethernet_slice(&datagram[8..]).unwrap();
                let Some(TransportHeader::Tcp(tcp)) = packet.transport else { panic!("not TCP") };
                (tcp, packet.payload.slice().to_vec())
            };
            self.0.iter().map(read).collect()
        }
    }

    fn flags(tcp: &TcpHeader) -> String {
        [(tcp.syn, 'S'), (tcp.fin, 'F'), (tcp.rst, 'R'), (tcp.psh, 'P'), (tcp.ack, 'A')]
            .into_iter()
            .filter_map(|(set, letter)| set.then_some(letter))
            .collect()
    }

    fn tuple() -> Tuple {
        Tuple::new("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:80".parse().unwrap())
    }

    /// Direction, flags and payload length of everything sent.
    fn story(out: &Kept) -> Vec<String> {
        out.segments()
            .iter()
            .map(|(tcp, payload)| {
                let side = if tcp.source_port == 80 { "<" } else { ">" };
                format!("{side}{} {}", flags(tcp), payload.len())
            })
            .collect()
    }

    #[test]
    fn short_exchange_costs_no_pure_acknowledgement_between_request_and_response() {
        let mut out = Kept::default();
        let mut flow = Flow::open(1, &tuple(), 1410, (5, 6), Instant::now(), &mut out);
        flow.send(Side::Client, [b"request", b"", b""], &mut out);
        flow.send(Side::Server, [b"resp", b"onse", b""], &mut out);
        flow.settle(&mut out);
        flow.close(Side::Client, &mut out);
        let expected = [">S 0", "<SA 0", ">A 0", ">PA 7", "<PA 8", ">A 0", ">FA 0", "<FA 0", ">A 0"];
        assert_eq!(story(&out), expected);
    }

    #[test]
    fn half_closed_client_still_hears_the_answer() {
        let mut out = Kept::default();
        let mut flow = Flow::open(1, &tuple(), 1410, (5, 6), Instant::now(), &mut out);
        flow.send(Side::Client, [b"request", b"", b""], &mut out);
        flow.finish(Side::Client, &mut out);
        flow.send(Side::Server, [b"late", b"", b""], &mut out);
        flow.close(Side::Server, &mut out);
        assert_eq!(story(&out)[3..], [">PA 7", ">FA 0", "<PA 4", "<FA 0", ">A 0"]);
    }

    #[test]
    fn reset_comes_after_the_acknowledgement_and_from_the_side_that_broke_off() {
        for (side, expected) in [(Side::Client, ">RA 0"), (Side::Server, "<RA 0")] {
            let mut out = Kept::default();
            let mut flow = Flow::open(1, &tuple(), 1410, (5, 6), Instant::now(), &mut out);
            flow.send(Side::Client, [b"request", b"", b""], &mut out);
            flow.reset(side, &mut out);
            assert_eq!(story(&out)[3..], [">PA 7", "<A 0", expected]);
        }
    }

    /// Both directions put together by sequence number; every segment must continue where the last one ended, and
    /// acknowledge exactly what the other side has sent.
    fn replay(out: &Kept) -> (Vec<u8>, Vec<u8>) {
        let mut next = [None::<u32>; 2];
        let mut text = [Vec::new(), Vec::new()];
        let mut unacknowledged = [0usize; 2];
        for (tcp, payload) in out.segments() {
            let me = usize::from(tcp.source_port == 80);
            let seq = *next[me].get_or_insert(tcp.sequence_number);
            assert_eq!(tcp.sequence_number, seq);
            assert_eq!(tcp.acknowledgment_number, next[1 - me].filter(|_| tcp.ack).unwrap_or(0));
            next[me] = Some(seq.wrapping_add(payload.len() as u32).wrapping_add(u32::from(tcp.syn || tcp.fin)));
            text[me].extend_from_slice(&payload);
            unacknowledged[me] += payload.len();
            if tcp.ack {
                unacknowledged[1 - me] = 0;
            }
            assert!(unacknowledged[me] <= 12 * 1024, "Zeek and Suricata wait for an acknowledgement");
        }
        let [client, server] = text;
        (client, server)
    }

    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn bodies_around_the_segment_size_are_cut_exactly() {
        for n in [0, 1, 1409, 1410, 1411, 2820, 1_000_000] {
            let mut out = Kept::default();
            let mut flow = Flow::open(1, &tuple(), 1410, (5, 6), Instant::now(), &mut out);
            let body = bytes(n);
            flow.send(Side::Client, [&body, b"", b""], &mut out);
            flow.settle(&mut out);
            assert_eq!(flow.sent(Side::Client), n as u64);
            let data: Vec<_> = out.segments().into_iter().filter(|(_, payload)| !payload.is_empty()).collect();
            assert_eq!(data.len(), n.div_ceil(1410));
            let pushed: Vec<_> = data.iter().map(|(tcp, _)| tcp.psh).collect();
            assert!(pushed.iter().rev().skip(1).all(|psh| !psh) && pushed.last() != Some(&false));
            assert_eq!(replay(&out), (body, Vec::new()));
        }
    }

    #[test]
    fn at_most_eight_small_segments_stay_unacknowledged() {
        let mut out = Kept::default();
        let mut flow = Flow::open(1, &tuple(), 100, (5, 6), Instant::now(), &mut out);
        flow.send(Side::Client, [&bytes(2000), b"", b""], &mut out);
        let story = story(&out);
        assert_eq!(story.iter().skip(3).position(|line| line == "<A 0"), Some(8));
        assert_eq!(story.iter().filter(|line| *line == "<A 0").count(), 2);
    }

    proptest! {
        #[test]
        fn any_talk_reads_back_whole_even_across_the_wrap_of_the_sequence_space(
            isn_client in prop_oneof![any::<u32>(), u32::MAX - 3000..=u32::MAX],
            isn_server in prop_oneof![any::<u32>(), u32::MAX - 3000..=u32::MAX],
            mss in 1u16..1500,
            talk in prop::collection::vec((any::<bool>(), 0usize..3000, 0usize..3000, 0usize..9), 0..6),
        ) {
            let mut out = Kept::default();
            let mut flow = Flow::open(1, &tuple(), mss, (isn_client, isn_server), Instant::now(), &mut out);
            let mut said = (Vec::new(), Vec::new());
            for (from_client, a, b, c) in talk {
                let (a, b, c) = (bytes(a), bytes(b), bytes(c));
                let (side, to) = if from_client { (Side::Client, &mut said.0) } else { (Side::Server, &mut said.1) };
                to.extend([&a[..], &b, &c].concat());
                flow.send(side, [&a, &b, &c], &mut out);
            }
            flow.settle(&mut out);
            flow.close(Side::Server, &mut out);
            prop_assert_eq!(replay(&out), said);
        }
    }
}
