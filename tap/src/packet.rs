//! One segment as the frame it travels in: Ethernet, IPv4 or IPv6, TCP.
//!
//! In: a direction's addresses, once, then per segment the numbers and the payload. Out: the bytes of the frame,
//! every checksum computed: an IDS verifies the inner ones even where the outer ones are left to hardware.

use std::net::{IpAddr, SocketAddr};

use crate::checksum::Sum;
use crate::record::Side;

/// The two ends of a synthetic connection, always of one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tuple {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

impl Tuple {
    /// Brings both ends to one family: IPv4 where both are IPv4 (mapped counts), else IPv6 with IPv4 mapped.
    pub(crate) fn new(client: SocketAddr, server: SocketAddr) -> Self {
        if client.is_ipv4() && server.is_ipv4() {
            return Self { client, server };
        }
        let plain = |end: SocketAddr| (end.ip().to_canonical(), end.port());
        let (c, s) = (plain(client), plain(server));
        let both = |ip: IpAddr| match ip {
            IpAddr::V4(v4) if c.0.is_ipv6() || s.0.is_ipv6() => IpAddr::V6(v4.to_ipv6_mapped()),
            same => same,
        };
        // Built anew, so that scope and flow label of the socket's address do not make two of one connection.
        Self { client: SocketAddr::new(both(c.0), c.1), server: SocketAddr::new(both(s.0), s.1) }
    }

    pub(crate) fn with_client_port(mut self, port: u16) -> Self {
        self.client.set_port(port);
        self
    }

    pub(crate) fn is_ipv6(&self) -> bool {
        self.client.is_ipv6()
    }

    /// Source and destination of what `side` sends.
    pub(crate) fn from(&self, side: Side) -> (SocketAddr, SocketAddr) {
        match side {
            Side::Client => (self.client, self.server),
            Side::Server => (self.server, self.client),
        }
    }
}

/// What changes from segment to segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    /// IPv4 identification.
    pub(crate) id: u16,
    /// Only in SYN: the segment size this side is sent, and the window scale.
    pub(crate) mss: Option<u16>,
    /// Payload, in order.
    pub(crate) payload: Pieces<'a>,
}

/// Payload of a message or a segment: head, body and tail lie in different buffers.
pub(crate) type Pieces<'a> = [&'a [u8]; 3];

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;

/// Everything constant of the packets one side sends.
#[derive(Debug, Clone)]
pub(crate) struct Direction {
    /// Ethernet header, with room for a tag.
    front: [u8; 14 + TAG as usize],
    /// Whether there is one.
    is_tagged: bool,
    headers: Headers,
    /// What is constant of the TCP checksum: pseudo header without length, ports, window.
    tcp_sum: Sum,
}

/// IP and TCP headers, zero where a segment fills something in: a packet is one copy of them, and few stores.
#[derive(Debug, Clone)]
enum Headers {
    /// With the sum of what is constant of the IP header.
    V4 {
        bytes: [u8; V4_HEADERS],
        sum: Sum,
    },
    V6 {
        bytes: [u8; V6_HEADERS],
    },
}

impl Direction {
    /// `vlan` is the identifier of an 802.1Q tag, 12 bits.
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr, vlan: Option<u16>) -> Self {
        let mut ports = [0; 4];
        concat(&mut ports, &[&source.port().to_be_bytes(), &destination.port().to_be_bytes()]);
        let mut tcp_sum = Sum::default();
        tcp_sum.add_word(u16::from(PROTOCOL_TCP));
        tcp_sum.add_word(WINDOW);
        tcp_sum.add(&ports);
        // Sequence number, acknowledgement, data offset and flags; window; checksum and urgent pointer.
        let tcp = [&ports[..], &[0; 10], &WINDOW.to_be_bytes(), &[0; 4]].concat();
        let (headers, ether_type) = match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let addresses = [from.octets(), to.octets()].concat();
                tcp_sum.add(&addresses);
                let mut sum = Sum::default();
                sum.add(&V4_START);
                sum.add(&V4_MIDDLE);
                sum.add(&addresses);
                let mut bytes = [0; V4_HEADERS];
                // Between them length and identification, behind them the sum.
                concat(&mut bytes, &[&V4_START, &[0; 4], &V4_MIDDLE, &[0; 2], &addresses, &tcp]);
                (Headers::V4 { bytes, sum }, [0x08, 0x00])
            }
            (from, to) => {
                let addresses = [v6(from), v6(to)].concat();
                tcp_sum.add(&addresses);
                let label = fnv(&[&addresses, &ports]) as u32 & 0x000f_ffff;
                let flow = (0x6000_0000 | label).to_be_bytes();
                let mut bytes = [0; V6_HEADERS];
                concat(&mut bytes, &[&flow, &[0; 2], &[PROTOCOL_TCP, HOP_LIMIT], &addresses, &tcp]);
                (Headers::V6 { bytes }, [0x86, 0xdd])
            }
        };
        let mut front = [0; 14 + TAG as usize];
        let (to, from) = (mac(destination.ip()), mac(source.ip()));
        match vlan {
            Some(vlan) => concat(&mut front, &[&to, &from, &TPID, &vlan.to_be_bytes(), &ether_type]),
            None => concat(&mut front, &[&to, &from, &ether_type]),
        }
        Self { front, is_tagged: vlan.is_some(), headers, tcp_sum }
    }

    /// Appends the frame for one segment to `out`. The payload is at most one segment size long.
    pub(crate) fn write(&self, segment: &Segment<'_>, out: &mut Vec<u8>) {
        let options = segment.mss.map(syn_options);
        let options = options.as_ref().map_or(&[][..], |o| &o[..]);
        let payload: usize = segment.payload.iter().map(|piece| piece.len()).sum();
        let tcp_len = (TCP_HEADER + options.len() + payload) as u16;
        let offset_and_flags = [((TCP_HEADER + options.len()) / 4) as u8 * 16, segment.flags];

        let mut sum = self.tcp_sum;
        sum.add_word(tcp_len);
        sum.add_words(segment.seq);
        sum.add_words(segment.ack);
        sum.add_word(u16::from_be_bytes(offset_and_flags));
        sum.add(options);
        segment.payload.iter().for_each(|piece| sum.add(piece));
        let sum = sum.finish().to_be_bytes();

        let [untagged @ .., _, _, _, _] = &self.front;
        out.reserve(self.front.len() + V6_HEADERS + options.len() + payload);
        out.extend_from_slice(if self.is_tagged { &self.front } else { untagged });
        match &self.headers {
            Headers::V4 { bytes, sum: constant } => {
                let total = tcp_len + V4_HEADER;
                let mut ip_sum = *constant;
                ip_sum.add_word(total);
                ip_sum.add_word(segment.id);
                let mut bytes = *bytes;
                bytes[2..4].copy_from_slice(&total.to_be_bytes());
                bytes[4..6].copy_from_slice(&segment.id.to_be_bytes());
                bytes[10..12].copy_from_slice(&ip_sum.finish().to_be_bytes());
                bytes[24..28].copy_from_slice(&segment.seq.to_be_bytes());
                bytes[28..32].copy_from_slice(&segment.ack.to_be_bytes());
                bytes[32..34].copy_from_slice(&offset_and_flags);
                bytes[36..38].copy_from_slice(&sum);
                out.extend_from_slice(&bytes);
            }
            Headers::V6 { bytes } => {
                let mut bytes = *bytes;
                bytes[4..6].copy_from_slice(&tcp_len.to_be_bytes());
                bytes[44..48].copy_from_slice(&segment.seq.to_be_bytes());
                bytes[48..52].copy_from_slice(&segment.ack.to_be_bytes());
                bytes[52..54].copy_from_slice(&offset_and_flags);
                bytes[56..58].copy_from_slice(&sum);
                out.extend_from_slice(&bytes);
            }
        }
        out.extend_from_slice(options);
        segment.payload.iter().filter(|piece| !piece.is_empty()).for_each(|piece| out.extend_from_slice(piece));
    }
}

/// Bytes of an 802.1Q tag.
pub(crate) const TAG: u16 = 4;
const TPID: [u8; 2] = [0x81, 0x00];

/// Appends the frame for one UDP datagram. Both ends are of one family; the payload is at most 1400 bytes long.
pub(crate) fn udp(
    (source, destination): (SocketAddr, SocketAddr),
    vlan: Option<u16>,
    id: u16,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let length = (UDP_HEADER + payload.len()) as u16;
    let mut sum = Sum::default();
    sum.add_word(u16::from(PROTOCOL_UDP));
    sum.add_word(length);
    let mut head = [0; 6];
    concat(&mut head, &[&source.port().to_be_bytes(), &destination.port().to_be_bytes(), &length.to_be_bytes()]);
    sum.add(&head);
    out.extend_from_slice(&mac(destination.ip()));
    out.extend_from_slice(&mac(source.ip()));
    if let Some(vlan) = vlan {
        out.extend_from_slice(&TPID);
        out.extend_from_slice(&vlan.to_be_bytes());
    }
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = [0; 20];
            let total = (V4_HEADER + length).to_be_bytes();
            let middle = [0x40, 0, HOP_LIMIT, PROTOCOL_UDP, 0, 0];
            concat(&mut header, &[&V4_START, &total, &id.to_be_bytes(), &middle, &from.octets(), &to.octets()]);
            let mut of_header = Sum::default();
            of_header.add(&header);
            header.iter_mut().skip(10).zip(of_header.finish().to_be_bytes()).for_each(|(into, byte)| *into = byte);
            sum.add(&from.octets());
            sum.add(&to.octets());
            out.extend_from_slice(&[0x08, 0x00]);
            out.extend_from_slice(&header);
        }
        (from, to) => {
            let mut addresses = [0; 32];
            concat(&mut addresses, &[&v6(from), &v6(to)]);
            sum.add(&addresses);
            out.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&[PROTOCOL_UDP, HOP_LIMIT]);
            out.extend_from_slice(&addresses);
        }
    }
    // Last: what follows an odd byte would be summed a byte further on.
    sum.add(payload);
    out.extend_from_slice(&head);
    // Zero would mean that there is none (RFC 768).
    let sum = match sum.finish() {
        0 => u16::MAX,
        sum => sum,
    };
    out.extend_from_slice(&sum.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Largest payload of a segment, for IP packets of at most `room` bytes: 1460 for IPv4 in 1500.
pub(crate) fn mss(room: u16, v6: bool) -> u16 {
    let ip = if v6 { 40 } else { V4_HEADER };
    room.saturating_sub(ip + TCP_HEADER as u16)
}

/// Locally administered, stable per address, on every host: `02:00` and the IPv4 address, or `06` and a hash.
fn mac(ip: IpAddr) -> [u8; 6] {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0x02, 0x00, a, b, c, d]
        }
        IpAddr::V6(v6) => {
            let [_, _, _, a, b, c, d, e] = fnv(&[&v6.octets()]).to_be_bytes();
            [0x06, a, b, c, d, e]
        }
    }
}

/// Kind 2: maximum segment size; kind 3: window scale (RFC 9293 section 3.2, RFC 7323). No timestamps: they would
/// invite checks against a made-up clock.
fn syn_options(mss: u16) -> [u8; 8] {
    let [high, low] = mss.to_be_bytes();
    [2, 4, high, low, 1, 3, 3, WINDOW_SCALE]
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// FNV-1a, 64 bit: the same on every host and in every process, which a keyed hash would not be.
fn fnv(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .copied()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Fills `into` from the parts, in order.
fn concat(into: &mut [u8], parts: &[&[u8]]) {
    into.iter_mut().zip(parts.iter().copied().flatten()).for_each(|(to, from)| *to = *from);
}

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;
const TCP_HEADER: usize = 20;
const V4_HEADER: u16 = 20;
/// IP and TCP.
const V4_HEADERS: usize = 20 + TCP_HEADER;
const V6_HEADERS: usize = 40 + TCP_HEADER;
/// Version 4, five words, no special service.
const V4_START: [u8; 2] = [0x45, 0];
/// Don't-fragment, offset 0, TTL 64, TCP.
const V4_MIDDLE: [u8; 4] = [0x40, 0, HOP_LIMIT, PROTOCOL_TCP];
const WINDOW: u16 = u16::MAX;
/// 65535 << 8: 16 MiB, far above what is ever unacknowledged.
const WINDOW_SCALE: u8 = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    use proptest::prelude::*;

    use super::*;

    fn build(source: &str, destination: &str, segment: &Segment<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Direction::new(source.parse().unwrap(), destination.parse().unwrap(), None).write(segment, &mut out);
        out
    }

    /// Reads a frame with etherparse and checks both checksums; returns TCP header and payload.
    fn oracle(frame: &[u8]) -> (etherparse::TcpHeader, Vec<u8>) {
        let packet = PacketHeaders::from_ethernet_slice(frame).unwrap();
        let Some(TransportHeader::Tcp(tcp)) = packet.transport else { panic!("not TCP") };
        let payload = packet.payload.slice();
        let expected = match packet.net.unwrap() {
            NetHeaders::Ipv4(ip, _) => {
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                assert!(ip.dont_fragment);
                assert_eq!((ip.time_to_live, ip.fragment_offset.value()), (64, 0));
                tcp.calc_checksum_ipv4(&ip, payload).unwrap()
            }
            NetHeaders::Ipv6(ip, _) => {
                assert_eq!(ip.hop_limit, 64);
                tcp.calc_checksum_ipv6(&ip, payload).unwrap()
            }
            NetHeaders::Arp(_) => panic!("not IP"),
        };
        assert_eq!(tcp.checksum, expected);
        (tcp, payload.to_vec())
    }

    #[test]
    fn a_tag_stands_before_the_ether_type_and_changes_nothing_else() {
        let segment = Segment { seq: 7, ack: 9, flags: ACK, id: 1, mss: None, payload: [b"ab", &[], &[]] };
        for (from, to) in [("10.0.0.1:4000", "10.0.0.2:80"), ("[fd00::1]:4000", "[fd00::2]:80")] {
            let (mut plain, mut tagged) = (Vec::new(), Vec::new());
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            Direction::new(from, to, None).write(&segment, &mut plain);
            Direction::new(from, to, Some(4094)).write(&segment, &mut tagged);
            let packet = PacketHeaders::from_ethernet_slice(&tagged).unwrap();
            assert_eq!(packet.vlan_ids().as_slice(), [etherparse::VlanId::try_new(4094).unwrap()]);
            assert_eq!((&tagged[..12], &tagged[16..]), (&plain[..12], &plain[12..]));
        }
    }

    #[test]
    fn a_datagram_is_sound_in_both_families() {
        for (from, to) in [("10.0.0.1:514", "192.0.2.1:514"), ("[fd00::1]:514", "[2001:db8::1]:514")] {
            for payload in [&b""[..], b"odd", b"even"] {
                let (mut frame, mut tagged) = (Vec::new(), Vec::new());
                let ends = (from.parse().unwrap(), to.parse().unwrap());
                udp(ends, None, 7, payload, &mut frame);
                udp(ends, Some(4094), 7, payload, &mut tagged);
                let ids = PacketHeaders::from_ethernet_slice(&tagged).unwrap().vlan_ids();
                assert_eq!(ids.as_slice(), [etherparse::VlanId::try_new(4094).unwrap()]);
                assert_eq!((&tagged[..12], &tagged[16..]), (&frame[..12], &frame[12..]));
                let packet = PacketHeaders::from_ethernet_slice(&frame).unwrap();
                let Some(TransportHeader::Udp(udp)) = packet.transport else { panic!("not UDP") };
                assert_eq!((udp.source_port, udp.destination_port, packet.payload.slice()), (514, 514, payload));
                let expected = match packet.net.unwrap() {
                    NetHeaders::Ipv4(ip, _) => {
                        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                        udp.calc_checksum_ipv4(&ip, payload).unwrap()
                    }
                    NetHeaders::Ipv6(ip, _) => udp.calc_checksum_ipv6(&ip, payload).unwrap(),
                    NetHeaders::Arp(_) => panic!("not IP"),
                };
                assert_eq!(udp.checksum, expected);
            }
        }
    }

    #[test]
    fn mss_follows_the_mtu_formula() {
        assert_eq!([mss(1500, false), mss(1500, true)], [1460, 1440]);
        assert_eq!([mss(1450, false), mss(1450, true)], [1410, 1390]);
    }

    #[test]
    fn syn_offers_segment_size_and_window_scale_and_nothing_else() {
        let syn = Segment { seq: 7, ack: 0, flags: SYN, id: 1, mss: Some(1410), payload: [&[]; 3] };
        let (tcp, payload) = oracle(&build("10.0.0.1:4000", "10.0.0.2:80", &syn));
        assert!(tcp.syn && !tcp.ack && payload.is_empty());
        assert_eq!((tcp.sequence_number, tcp.window_size), (7, 65535));
        let options: Vec<_> = tcp.options_iterator().map(Result::unwrap).collect();
        use etherparse::TcpOptionElement::{MaximumSegmentSize, Noop, WindowScale};
        assert_eq!(options, [MaximumSegmentSize(1410), Noop, WindowScale(8)]);
    }

    #[test]
    fn mac_addresses_are_local_and_follow_the_direction() {
        let ack = Segment { seq: 0, ack: 0, flags: ACK, id: 0, mss: None, payload: [&[]; 3] };
        let there = build("10.0.0.1:4000", "10.0.0.2:80", &ack);
        assert_eq!(&there[..12], &[2, 0, 10, 0, 0, 2, 2, 0, 10, 0, 0, 1]);
        let there = build("[fd00::1]:4000", "[fd00::2]:80", &ack);
        let back = build("[fd00::2]:80", "[fd00::1]:4000", &ack);
        assert_eq!((there[0], &there[..6]), (6, &back[6..12]));
        assert_ne!(&there[..6], &there[6..12]);
    }

    #[test]
    fn ends_of_two_families_are_brought_to_one() {
        let mapped = Tuple::new("[::ffff:10.0.0.1]:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        assert_eq!(mapped.client, "10.0.0.1:1".parse().unwrap());
        let mixed = Tuple::new("10.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        assert_eq!(mixed.client, "[::ffff:10.0.0.1]:1".parse().unwrap());
        assert!(mixed.is_ipv6());
    }

    proptest! {
        #[test]
        fn checksums_hold_for_any_payload(
            v6: bool, seq: u32, ack: u32, id: u16,
            pieces in [prop::collection::vec(any::<u8>(), 0..500), prop::collection::vec(any::<u8>(), 0..500), prop::collection::vec(any::<u8>(), 0..400)],
        ) {
            let (from, to) = if v6 { ("[fd00::1]:4000", "[fd00:1::2]:8443") } else { ("10.9.8.7:65535", "192.168.255.255:1") };
            let payload = [&pieces[0][..], &pieces[1][..], &pieces[2][..]];
            let (tcp, seen) = oracle(&build(from, to, &Segment { seq, ack, flags: ACK | PSH, id, mss: None, payload }));
            prop_assert_eq!(seen, pieces.concat());
            prop_assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (seq, ack));
        }
    }
}
