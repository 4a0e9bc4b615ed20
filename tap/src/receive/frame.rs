//! One VXLAN datagram, read from the bytes: VXLAN (RFC 7348), Ethernet II, IPv4 or IPv6, TCP.
//!
//! Out: the facts of the TCP segment. Refuses everything a strict IDS would drop or misread.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) vni: u32,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) seq: u32,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) has_ack: bool,
    pub(super) payload: &'a [u8],
}

/// Why a datagram cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It ends inside a header.
    TooShort,
    /// The VXLAN I flag is missing or a reserved bit is set.
    NotVxlan,
    /// The inner frame is neither IPv4 nor IPv6, or an IP fragment, or has IPv6 extension headers.
    NotPlainIp,
    /// A length contradicts the bytes.
    Length,
    /// The inner packet is not TCP.
    NotTcp,
    /// The IPv4 header checksum is wrong.
    IpChecksum,
    /// The TCP checksum is wrong.
    TcpChecksum,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "the datagram ends inside a header",
            Self::NotVxlan => "not a VXLAN header with the I flag set and reserved bits zero (RFC 7348 section 5)",
            Self::NotPlainIp => "the inner frame is not an unfragmented IPv4 or IPv6 packet",
            Self::Length => "a length field contradicts the bytes that came",
            Self::NotTcp => "the inner packet is not TCP",
            Self::IpChecksum => "wrong IPv4 header checksum",
            Self::TcpChecksum => "wrong TCP checksum",
        })
    }
}

impl std::error::Error for Unreadable {}

impl<'a> Frame<'a> {
    /// Reads one datagram.
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, Unreadable> {
        let (vxlan, ethernet) = datagram.split_first_chunk::<8>().ok_or(Unreadable::TooShort)?;
        let [0x08, 0, 0, 0, v0, v1, v2, 0] = *vxlan else {
            return Err(Unreadable::NotVxlan);
        };
        let (ethernet, packet) = ethernet.split_first_chunk::<14>().ok_or(Unreadable::TooShort)?;
        let [.., t0, t1] = *ethernet;
        let (source, destination, tcp) = match u16::from_be_bytes([t0, t1]) {
            0x0800 => ipv4(packet)?,
            0x86dd => ipv6(packet)?,
            _ => return Err(Unreadable::NotPlainIp),
        };
        if tcp_sum(source, destination, tcp) != 0xffff {
            return Err(Unreadable::TcpChecksum);
        }
        let vni = u32::from_be_bytes([0, v0, v1, v2]);
        segment(tcp, vni, source, destination)
    }
}

fn ipv4(packet: &[u8]) -> Result<(IpAddr, IpAddr, &[u8]), Unreadable> {
    let (fixed, _) = packet.split_first_chunk::<20>().ok_or(Unreadable::TooShort)?;
    let [version, _, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *fixed;
    let header_len = usize::from(version & 0x0f) * 4;
    if version >> 4 != 4 || header_len < 20 || u16::from_be_bytes([f0, f1]) & 0x3fff != 0 {
        return Err(Unreadable::NotPlainIp);
    }
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    if total != packet.len() {
        return Err(Unreadable::Length);
    }
    let (header, rest) = packet.split_at_checked(header_len).ok_or(Unreadable::Length)?;
    if sum(0, header) != 0xffff {
        return Err(Unreadable::IpChecksum);
    }
    if protocol != 6 {
        return Err(Unreadable::NotTcp);
    }
    Ok((Ipv4Addr::new(s0, s1, s2, s3).into(), Ipv4Addr::new(d0, d1, d2, d3).into(), rest))
}

fn ipv6(packet: &[u8]) -> Result<(IpAddr, IpAddr, &[u8]), Unreadable> {
    let (fixed, rest) = packet.split_first_chunk::<8>().ok_or(Unreadable::TooShort)?;
    let [version, _, _, _, l0, l1, next_header, _] = *fixed;
    let (source, rest) = rest.split_first_chunk::<16>().ok_or(Unreadable::TooShort)?;
    let (destination, rest) = rest.split_first_chunk::<16>().ok_or(Unreadable::TooShort)?;
    if version >> 4 != 6 {
        return Err(Unreadable::NotPlainIp);
    }
    if usize::from(u16::from_be_bytes([l0, l1])) != rest.len() {
        return Err(Unreadable::Length);
    }
    if next_header != 6 {
        return Err(Unreadable::NotTcp);
    }
    Ok((Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), rest))
}

fn segment(tcp: &[u8], vni: u32, source: IpAddr, destination: IpAddr) -> Result<Frame<'_>, Unreadable> {
    let (fixed, _) = tcp.split_first_chunk::<20>().ok_or(Unreadable::TooShort)?;
    let [p0, p1, q0, q1, s0, s1, s2, s3, _, _, _, _, offset, flags, ..] = *fixed;
    let header_len = usize::from(offset >> 4) * 4;
    if header_len < 20 {
        return Err(Unreadable::Length);
    }
    let (_, payload) = tcp.split_at_checked(header_len).ok_or(Unreadable::Length)?;
    Ok(Frame {
        vni,
        source: SocketAddr::new(source, u16::from_be_bytes([p0, p1])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([q0, q1])),
        seq: u32::from_be_bytes([s0, s1, s2, s3]),
        fin: flags & 0x01 != 0,
        syn: flags & 0x02 != 0,
        rst: flags & 0x04 != 0,
        has_ack: flags & 0x10 != 0,
        payload,
    })
}

/// Sum over pseudo header and segment; 0xffff where the checksum in it is right.
fn tcp_sum(source: IpAddr, destination: IpAddr, tcp: &[u8]) -> u32 {
    let address = |start, ip: IpAddr| match ip {
        IpAddr::V4(v4) => sum(start, &v4.octets()),
        IpAddr::V6(v6) => sum(start, &v6.octets()),
    };
    let pseudo = address(address(6, source), destination);
    sum(sum(pseudo, &(tcp.len() as u32).to_be_bytes()), tcp)
}

/// One's-complement sum of 16-bit words (RFC 1071), folded.
fn sum(start: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(start, |total, pair| {
        let word = match pair {
            [high, low] => u32::from(*high) << 8 | u32::from(*low),
            [high] => u32::from(*high) << 8,
            _ => 0,
        };
        let total = total + word;
        (total & 0xffff) + (total >> 16)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    /// Built by etherparse, so that reader and writer of this house do not only agree with each other.
    fn outside(v6: bool, payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = if v6 { ethernet.ipv6([1; 16], [2; 16], 60) } else { ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 60) };
        let tcp = ip.tcp(4000, 80, 77, 1000).psh().ack(99);
        let mut datagram = vec![8, 0, 0, 0, 0, 0, 42, 0];
        tcp.write(&mut datagram, payload).unwrap();
        datagram
    }

    #[test]
    fn frames_of_an_independent_builder_are_read() {
        for (v6, payload) in [(false, &b"even"[..]), (false, b"odd"), (true, b""), (true, b"x")] {
            let datagram = outside(v6, payload);
            let frame = Frame::parse(&datagram).unwrap();
            assert_eq!((frame.vni, frame.seq, frame.payload), (42, 77, payload));
            assert_eq!((frame.source.port(), frame.destination.port()), (4000, 80));
            assert!(frame.has_ack && !frame.syn && !frame.fin && !frame.rst);
        }
    }

    #[test]
    fn one_wrong_byte_is_refused_wherever_it_counts() {
        for v6 in [false, true] {
            let good = outside(v6, b"payload");
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                let ethernet_address = (8..20).contains(&at);
                let vni = (4..7).contains(&at);
                // Traffic class and flow label are covered by no checksum, nor is the hop limit.
                let ipv6_free = v6 && ((at == 22) || (23..26).contains(&at) || at == 29);
                if !ethernet_address && !vni && !ipv6_free {
                    assert!(Frame::parse(&bad).is_err(), "byte {at}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_datagram_makes_the_reader_panic(datagram in prop::collection::vec(any::<u8>(), 0..120), front: bool, v6: bool) {
            let mut bytes = if front { outside(v6, b"")[..22].to_vec() } else { Vec::new() };
            bytes.extend(datagram);
            let _ = Frame::parse(&bytes);
        }

        #[test]
        fn no_cut_or_flipped_frame_makes_the_reader_panic(v6: bool, keep in 0usize..90, at in 0usize..90, with: u8) {
            let mut bytes = outside(v6, b"payload");
            bytes.truncate(keep);
            if let Some(byte) = bytes.get_mut(at) { *byte ^= with; }
            let _ = Frame::parse(&bytes);
        }
    }
}
