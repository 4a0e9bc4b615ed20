//! The tap: whatever is exchanged, the copy is sound packets, and what is read out of them is what was exchanged.
//!
//! Two readers of the packets: etherparse, and our own reader, which shares no code with the writer.

use crate::given::Given;
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};
use tap::{Fields, Message, Record, Sensor, Settings, Side, Verdict, receive::Receiver};

pub(super) const WORDS: &[&[u8]] = &[
    b"\n\n",
    b"\n>\n",
    b"\n<\n",
    b"GET /a\n",
    b"POST /a?token=x\n",
    b"HEAD /\n",
    b"CONNECT a:1\n",
    b"200\n",
    b"204\n",
    b"304\n",
    b"101\n",
    b"100\n",
    b"host: a\n",
    b"content-length: 5\n",
    b"content-length: 0\n",
    b"transfer-encoding: chunked\n",
    b"connection: close\n",
    b"cookie: a=b\n",
    b"upgrade: websocket\n",
    b"authorization: Basic x\n",
    b"x-mesh-src: x\n",
    b"set-cookie: a=b\n",
    b"location: /a?code=x\n",
    b"\r",
    b"\0",
    b"\xff",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
];

/// Settings and addresses in a few bytes, then exchanges: a length, flags, and text `METHOD TARGET`, fields, an empty line,
/// body, and behind `\n<\n` the same of the response.
pub(super) fn run(input: &[u8]) {
    let mut given = Given::new(input);
    let vni = u32::from(given.byte());
    let mut settings = Settings::new("fuzz", Sensor::vxlan(None, vni));
    settings.mtu = [576, 1280, 1500, 9000][usize::from(given.byte() % 4)];
    settings.max_body = usize::from(given.two());
    settings.rollover = [600, 2000, 70_000, 512 * 1024][usize::from(given.byte() % 4)];
    let outer_v6 = given.flag();
    let (client, server) = (address(&mut given), address(&mut given));
    let mut asked = Vec::new();
    while let Some(exchange) = given.piece() {
        asked.extend(record(exchange, client, server));
    }
    let started: Vec<(Method, String)> =
        asked.iter().map(|(_, method, target)| (method.clone(), target.clone())).collect();
    let (datagrams, fates) = tap::fuzzing::datagrams(&settings, outer_v6, asked.into_iter().map(|(record, ..)| record));
    let overhead = if outer_v6 { 48 } else { 28 };
    let mut receiver = Receiver::new();
    let mut heard = Vec::new();
    for datagram in &datagrams {
        is_sound(datagram, vni);
        assert!(datagram.len() + overhead <= usize::from(settings.mtu), "{} bytes", datagram.len());
        heard.extend(receiver.datagram(datagram).expect("our own reader takes it"));
    }
    let copied: Vec<&(Method, String)> =
        started.iter().zip(&fates).filter(|(_, fate)| fate.is_ok()).map(|(started, _)| started).collect();
    let requests: Vec<_> = heard.iter().filter(|message| message.side == Side::Client).collect();
    // Nothing in an exchange makes one more of it.
    assert!(requests.len() <= copied.len(), "{} requests, {} heard: {requests:?}", copied.len(), requests.len());
    let mut left = copied.iter();
    for request in &requests {
        let line = request.start_line();
        let is_this = |(method, _): &&&(Method, String)| line.starts_with(&format!("{method} "));
        assert!(left.any(|one| is_this(&one)), "{line} was never asked");
    }
}

/// Every length and checksum, by etherparse.
fn is_sound(datagram: &[u8], vni: u32) {
    let [_, v0, v1, v2] = vni.to_be_bytes();
    assert_eq!(datagram[..8], [8, 0, 0, 0, v0, v1, v2, 0]);
    let packet = PacketHeaders::from_ethernet_slice(&datagram[8..]).expect("Ethernet, IP, TCP");
    let Some(TransportHeader::Tcp(tcp)) = &packet.transport else { panic!("not TCP") };
    let payload = packet.payload.slice();
    match packet.net.as_ref().unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
            assert_eq!(tcp.calc_checksum_ipv4(ip, payload), Ok(tcp.checksum));
            assert_eq!(usize::from(ip.total_len) + 14 + 8, datagram.len());
        }
        NetHeaders::Ipv6(ip, _) => {
            assert_eq!(tcp.calc_checksum_ipv6(ip, payload), Ok(tcp.checksum));
            assert_eq!(usize::from(ip.payload_length) + 40 + 14 + 8, datagram.len());
        }
        other => panic!("{other:?}"),
    }
}

fn address(given: &mut Given<'_>) -> SocketAddr {
    let (kind, last) = (given.byte(), given.byte());
    let ip = match kind % 3 {
        0 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        1 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into())),
        _ => IpAddr::V6(Ipv4Addr::new(10, 0, 1, last).to_ipv6_mapped()),
    };
    SocketAddr::new(ip, given.two())
}

fn record(exchange: &[u8], client: SocketAddr, server: SocketAddr) -> Option<(Record, Method, String)> {
    let mut given = Given::new(exchange);
    let (flags, connection) = (given.byte(), given.byte() % 3);
    let text = given.rest();
    let (request, response) = match text.windows(3).position(|three| three == b"\n<\n") {
        Some(at) => (&text[..at], Some(&text[at + 3..])),
        None => (text, None),
    };
    let (line, request_fields, body) = parts(request)?;
    let line = std::str::from_utf8(line).ok()?;
    let (method, target) = line.split_once(' ')?;
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let authority = (flags & 1 == 1).then_some("orders.shop.svc");
    let mut asked = Message::request(&Arc::default(), method.clone(), target, authority, &request_fields);
    with_body(&mut asked, body, flags >> 1);
    let mut response = response.and_then(|response| {
        let (status, fields, body) = parts(response)?;
        let status = StatusCode::from_bytes(status).ok()?;
        let mut response = Message::response(&Arc::default(), status, &fields);
        with_body(&mut response, body, flags >> 3);
        Some(response)
    });
    if flags & 0x80 != 0
        && let Some(response) = &mut response
    {
        let mut trailers = HeaderMap::new();
        for (name, value) in &request_fields.0 {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                trailers.append(name, value);
            }
        }
        response.trailers = Some(trailers);
    }
    let record = Record {
        connection: connection.into(),
        client,
        server,
        http2: false,
        request: asked,
        response,
        started: Instant::now(),
        answered: None,
        ended: Instant::now(),
        aborted: [None, None, Some(Side::Client), Some(Side::Server)][usize::from(flags >> 5 & 3)],
        verdict: Verdict::Allowed,
        rule: None,
        last: connection == 2,
    };
    Some((record, method, target.to_owned()))
}

/// First line, fields, body.
fn parts(text: &[u8]) -> Option<(&[u8], Lines<'_>, &[u8])> {
    let (head, body) = match text.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&text[..at], &text[at + 2..]),
        None => (text, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let field = |line: &'_ [u8]| -> Option<(usize, usize)> { Some((line.iter().position(|byte| *byte == b':')?, 0)) };
    let fields = lines
        .filter_map(|line| field(line).map(|(colon, _)| (&line[..colon], line[colon + 1..].trim_ascii())))
        .collect();
    Some((first, Lines(fields), body))
}

/// Bit 0: its end was seen; bit 1: more came than was taken.
fn with_body(message: &mut Message, body: &[u8], flags: u8) {
    message.body = body.to_vec();
    message.body_len = body.len() as u64 + u64::from(flags >> 1 & 1) * 7;
    message.complete = flags & 1 == 0;
}

struct Lines<'a>(Vec<(&'a [u8], &'a [u8])>);

impl Fields for Lines<'_> {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().copied()
    }
}

/// Datagrams into the reader, each behind its length; it stays usable and within its bounds.
pub(super) fn receive(input: &[u8]) {
    let mut given = Given::new(input);
    let mut receiver = Receiver::new();
    while let Some(piece) = given.piece() {
        let mut datagram = piece.to_vec();
        for message in receiver.datagram(piece).unwrap_or_default() {
            let _ = message.to_string();
        }
        // The same with the checksums put right, so that there is more to read.
        if mend(&mut datagram).is_some() {
            for message in receiver.datagram(&datagram).unwrap_or_default() {
                let _ = (message.to_string(), message.start_line().len(), message.header("host"));
            }
        }
    }
}

pub(super) const PCAP: &[&[u8]] = &[
    &tap::pcap::HEADER,
    &[0xa1, 0xb2, 0x3c, 0x4d, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1],
    &[0xd4, 0xc3, 0xb2, 0xa1],
    &[2, 0, 0, 0, 2, 0, 0, 0],
    &[0, 0, 0, 0, 0, 0, 0, 0],
];

/// A stream reads the same whole and in pieces, and what was read, written anew, reads the same again.
pub(super) fn pcap(input: &[u8]) {
    let (size, stream) = input.split_first().map_or((1, input), |(size, stream)| (usize::from(*size).max(1), stream));
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(whole, frames(stream, size));
    let mut again = tap::pcap::HEADER.to_vec();
    for (nanos, frame) in &whole.0 {
        assert!(frame.len() <= tap::pcap::SNAPLEN as usize);
        again.extend(tap::pcap::record(*nanos, frame.len()));
        again.extend(frame);
    }
    assert_eq!(frames(&again, size), (whole.0, None));
}

type Frames = Vec<(u64, Vec<u8>)>;

fn frames(stream: &[u8], size: usize) -> (Frames, Option<tap::pcap::Malformed>) {
    let (mut reader, mut frames) = (tap::pcap::Reader::new(), Vec::new());
    for piece in stream.chunks(size) {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some((nanos, frame))) => frames.push((nanos, frame.to_vec())),
                Ok(None) => break,
                Err(malformed) => return (frames, Some(malformed)),
            }
        }
    }
    (frames, None)
}

/// Writes lengths and checksums that are right.
fn mend(datagram: &mut [u8]) -> Option<()> {
    let frame = datagram.get_mut(8..)?;
    let (ethernet, packet) = frame.split_at_mut_checked(14)?;
    let pseudo = match ethernet[12..] {
        [0x08, 0x00] => {
            packet.get(20)?;
            packet[0] = 0x45;
            (packet[6], packet[7], packet[9]) = (packet[6] & 0x40, 0, 6);
            let length = u16::try_from(packet.len()).ok()?;
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet[10..12].fill(0);
            let sum = checksum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            [&packet[12..20], &[0, 6], &(length - 20).to_be_bytes()].concat()
        }
        [0x86, 0xdd] => {
            packet.get(40)?;
            (packet[0], packet[6]) = (0x60, 6);
            let length = u16::try_from(packet.len() - 40).ok()?;
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            [&packet[8..40], &u32::from(length).to_be_bytes(), &[0, 0, 0, 6]].concat()
        }
        _ => return None,
    };
    let start = if ethernet[12] == 8 { 20 } else { 40 };
    let tcp = packet.get_mut(start..)?;
    tcp.get(19)?;
    tcp[12] = 0x50;
    tcp[16..18].fill(0);
    let sum = checksum(&[&pseudo, &*tcp].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// RFC 1071, word by word.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}
