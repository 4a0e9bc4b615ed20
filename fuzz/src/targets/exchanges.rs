//! Exchanges of any heads, bodies, order and ends, over any path: what a strict reader of the packets makes of them.
//!
//! Beside the target `tap`, which lets other readers tell what they heard, this one knows what must be heard. It judges
//! each frame by etherparse's strict slicing, each connection by its sequence numbers, and each message by its body.

use super::h2c::Spoken;
use crate::{given::Given, random::Random};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::sync::Arc;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};
use tap::{Fields, Mapping, Message, Reason, Record, Sensor, Settings, Side, Verdict};

pub(super) const WORDS: &[&[u8]] = &[b"\0\0\0", b"\x07\xff\xff", b"\x06", b"\x80", b"\xff"];

/// How much was tried.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tried {
    /// Exchanges offered.
    pub(crate) exchanges: u64,
    /// Of those, the ones that became packets; the others have a head that would forge messages.
    pub(crate) copied: u64,
    pub(crate) packets: u64,
    pub(crate) connections: u64,
}

impl Tried {
    pub(crate) fn add(&mut self, more: Self) {
        self.exchanges += more.exchanges;
        self.copied += more.copied;
        self.packets += more.packets;
        self.connections += more.connections;
    }
}

/// The target.
pub(super) fn run(input: &[u8]) {
    attempt(input);
}

/// Settings in eleven bytes, then an exchange for every few bytes; what is not given is drawn from what is.
pub(crate) fn attempt(input: &[u8]) -> Tried {
    let mut given = Given::new(input);
    let vni = u32::from(given.two()) << 8 | u32::from(given.byte());
    let mut settings = Settings::new("fuzz", Sensor::vxlan(None, vni));
    settings.mtu = *[given.two().max(576), 576, 1280, 1500, 9000, 65_535].get(usize::from(given.byte() % 6)).unwrap();
    settings.max_body = [usize::from(given.two()), 128 * 1024][usize::from(given.byte() & 1)];
    let choice = given.byte();
    settings.rollover = [600, 2000, 70_000, 512 * 1024][usize::from(choice % 4)];
    settings.http = if choice & 4 == 4 { Mapping::H2c } else { Mapping::Http1 };
    let outer_v6 = given.flag();
    let mut plans = Vec::new();
    let mut records = Vec::new();
    while let Some(piece) = given.piece_of_byte().filter(|_| plans.len() < MOST_EXCHANGES) {
        let (plan, record) = exchange(piece, settings.mtu, settings.max_body);
        plans.push(plan);
        records.push(record);
    }
    let (datagrams, fates) = tap::fuzzing::datagrams(&settings, outer_v6, records.into_iter());
    assert_eq!(fates.len(), plans.len());
    let mut reader = Reader { settings: &settings, outer: if outer_v6 { 48 } else { 28 }, ..Reader::new(&settings) };
    let mut tried = Tried { exchanges: plans.len() as u64, packets: datagrams.len() as u64, ..Tried::default() };
    let mut read = 0;
    for (plan, fate) in plans.iter().zip(&fates) {
        match fate {
            Ok(end) => {
                tried.copied += 1;
                let heard = reader.take(&datagrams[read..*end]);
                read = *end;
                plan.assert_is(&heard, &settings);
            }
            Err(reason) => assert!(plan.is_hostile && *reason == Reason::UnsafeHeader, "{reason:?} of {plan:?}"),
        }
    }
    assert_eq!(reader.take(&datagrams[read..]), Heard::default(), "payload after the last exchange");
    reader.open.values().for_each(|one| assert!(one.over, "a connection has no end"));
    tried.connections = reader.connections;
    tried
}

const MOST_EXCHANGES: usize = 48;

/// What one exchange was, as far as its copy has to show it.
#[derive(Debug)]
struct Plan {
    method: String,
    /// It was HTTP/2, and its connection does not turn into a stream.
    is_http2: bool,
    aborted: Option<Side>,
    /// Of the response.
    status: u16,
    /// A head with bytes that must not leave.
    is_hostile: bool,
    request: Body,
    /// `None` where no response came.
    response: Option<Body>,
}

#[derive(Debug)]
struct Body {
    /// What was collected of it.
    bytes: Vec<u8>,
    /// This message has no body on the wire, whatever was seen (RFC 9112 section 6.3).
    is_none: bool,
    trailers: usize,
    /// All of it was collected.
    is_whole: bool,
}

fn exchange(piece: &[u8], mtu: u16, max_body: usize) -> (Plan, Record) {
    let redaction = Arc::default();
    let mut given = Given::new(piece);
    let (flags, choice) = (given.byte(), given.byte());
    // The rest of its choices: its own bytes are too few for them.
    let seed = piece.iter().fold(u64::from(mtu), |sum, byte| sum.wrapping_mul(257).wrapping_add(u64::from(*byte)));
    let mut random = Random::new(seed);
    let connection = u64::from(choice % 5);
    let method = random.of(&["GET", "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "x-Any"]);
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let (hostile_target, hostile_fields) = (flags & 15 == 15, flags & 15 == 14);
    let target = *random.of(if hostile_target { HOSTILE_TARGETS } else { TARGETS });
    let authority = (choice & 1 == 1).then_some("orders.shop.svc");
    let request_fields = fields(&mut random, hostile_fields);
    let mut request = Message::request(&redaction, method.clone(), target, authority, &request_fields);
    let request_body = body(&mut random, &mut request, mtu, max_body);
    let has_response = flags & 15 != 13;
    let (mut response_body, mut got) = (None, 0);
    let mut turns = false;
    let response = has_response.then(|| {
        let status = *random.of(&[200, 200, 200, 201, 204, 304, 101, 103, 302, 404, 503, 999]);
        let response_fields = fields(&mut random, false);
        let mut response = Message::response(&redaction, StatusCode::from_u16(status).unwrap(), &response_fields);
        let mut seen = body(&mut random, &mut response, mtu, max_body);
        turns = status == 101 || method == Method::CONNECT && (200..300).contains(&status);
        seen.is_none = method == Method::HEAD || [204, 304, 103].contains(&status) || turns;
        if seen.is_none {
            // What was collected beyond it does not count; an interim answer is no end.
            seen.is_whole = response.complete && status != 103;
        }
        got = status;
        response_body = Some(seen);
        response
    });
    let (client, server) = addresses(&mut Random::new(connection), connection, choice & 2 == 2);
    let aborted = [Side::Client, Side::Server].get(usize::from(flags >> 4)).copied();
    let is_http2 = choice & 4 == 4;
    let record = Record {
        connection,
        client,
        server,
        http2: is_http2,
        request,
        response,
        started: Instant::now(),
        answered: None,
        ended: Instant::now(),
        aborted,
        verdict: Verdict::Allowed,
        rule: None,
        last: choice >> 4 == 15,
    };
    let is_hostile = hostile_target || hostile_fields;
    let plan = Plan {
        method: method.to_string(),
        is_http2: is_http2 && !turns,
        aborted,
        status: got,
        is_hostile,
        request: request_body,
        response: response_body,
    };
    (plan, record)
}

/// A body of a length that matters, its end, and more than was collected of it.
fn body(random: &mut Random, message: &mut Message, mtu: u16, max_body: usize) -> Body {
    let mtu = usize::from(mtu);
    let length = match random.below(32) {
        0..14 => 0,
        14..16 => 1,
        // Around a segment, with and without the head.
        16..20 => (mtu - 90 + random.below(4)).min(9000),
        20 => mtu.min(9000) * (1 + random.below(9)),
        21 => random.below(70_000),
        22 => (max_body + random.below(3)).min(140_000),
        _ => random.below(600),
    };
    let first = random.next();
    message.body = (0..length).map(|at| (first.wrapping_mul(at as u64 + 1) >> 24) as u8).collect();
    if random.below(4) == 0 {
        let forged = *random.of(&[&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"\r\n0\r\n\r\n", b"GET /forged HTTP/1.1\r\n\r\n"]);
        message.body.iter_mut().zip(forged).for_each(|(to, from)| *to = *from);
    }
    message.body_len = length as u64 + if random.below(12) == 0 { 7 } else { 0 };
    message.complete = random.below(12) != 0;
    let count = [0, 0, 0, 1, 3][random.below(5)];
    if count > 0 {
        let mut trailers = HeaderMap::new();
        for number in 0..count {
            trailers.append("x-trailer", HeaderValue::from(number));
        }
        message.trailers = Some(trailers);
    }
    let is_whole = message.complete && message.body_len <= length.min(max_body) as u64;
    Body { bytes: message.body.clone(), is_none: false, trailers: count, is_whole }
}

struct List(Vec<(&'static [u8], &'static [u8])>);

impl Fields for List {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().copied()
    }
}

fn fields(random: &mut Random, hostile: bool) -> List {
    let mut list: Vec<_> = (0..random.below(7)).map(|_| *random.of(FIELDS)).collect();
    if hostile {
        list.insert(random.below(list.len() + 1), *random.of(HOSTILE_FIELDS));
    }
    List(list)
}

/// Both families, mapped, mixed, and the same pair of ends for two connections.
fn addresses(random: &mut Random, connection: u64, shared: bool) -> (SocketAddr, SocketAddr) {
    let mut ip = |last: u8| match random.below(4) {
        0 | 1 => IpAddr::V4(Ipv4Addr::new(10, 255, 0, last)),
        2 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0xffff, 0, 0, 0, 0, 0xffff, last.into())),
        _ => IpAddr::V6(Ipv4Addr::new(10, 0, 1, last).to_ipv6_mapped()),
    };
    let (client, server) = (ip(1), ip(2));
    let port = if shared { 40_000 } else { 40_000 + connection as u16 };
    (SocketAddr::new(client, port), SocketAddr::new(server, 8080))
}

const TARGETS: &[&str] = &["/", "/api/orders/42", "/a?token=secret&b=%41", "*", "/%00%0d%0a", "/\u{fc}", "http://a/b"];
const HOSTILE_TARGETS: &[&str] = &["", "/a b", "/a\r\nx: y", "/a HTTP/1.1\r\n\r\nGET /b", "/\0", "/\t", "/\u{7f}"];
const FIELDS: &[(&[u8], &[u8])] = &[
    (b"accept", b"*/*"),
    (b"X-Mixed", b"a, b"),
    (b"host", b"forged"),
    (b"content-length", b"5"),
    (b"Content-Length", b"0"),
    (b"content-length", b"5, 6"),
    (b"content-length", b"-1"),
    (b"transfer-encoding", b"chunked"),
    (b"Transfer-Encoding", b"gzip, chunked"),
    (b"connection", b"close"),
    (b"connection", b"keep-alive, x-mixed"),
    (b"upgrade", b"websocket"),
    (b"cookie", b"a=b; session=c"),
    (b"set-cookie", b"a=b; Path=/"),
    (b"authorization", b"Bearer a.b.c"),
    (b"location", b"/a?code=x#token=y"),
    (b"x-mesh-src", b"forged"),
    (b"trailer", b"x-trailer"),
    (b"empty", b""),
    (b"obs-text", b"\xff\xfe\x80"),
    (b"tab", b"a\tb"),
    (b"content-encoding", b"gzip"),
];
const HOSTILE_FIELDS: &[(&[u8], &[u8])] = &[
    (b"x-a", b"b\r\nx-forged: 1"),
    (b"x-a", b"b\nc"),
    (b"x-a", b"b\rc"),
    (b"x-a", b"\0"),
    (b"x a", b"b"),
    (b"x-a:", b"b"),
    (b"", b"b"),
    (b"x-a\r\n\r\nGET / HTTP/1.1", b"b"),
];

/// Payload that one exchange put on the wire.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    client: Vec<u8>,
    server: Vec<u8>,
}

impl Plan {
    fn assert_is(&self, heard: &Heard, settings: &Settings) {
        if self.is_http2 && settings.http == Mapping::H2c {
            return self.assert_is_http2(heard, settings.max_body);
        }
        let head = is_message(&heard.client, &self.request, settings.max_body);
        assert!(head.starts_with(format!("{} ", self.method).as_bytes()), "{self:?}");
        match &self.response {
            None => assert_eq!(heard.server, b"", "an answer that never came"),
            Some(body) => assert!(is_message(&heard.server, body, settings.max_body).starts_with(b"HTTP/1.1 ")),
        }
    }

    fn assert_is_http2(&self, heard: &Heard, max_body: usize) {
        let (client, server) = (Spoken::read(&heard.client, true), Spoken::read(&heard.server, false));
        assert_eq!(client.field(":method"), [self.method.as_bytes()]);
        assert_eq!(client.field(":path").len(), usize::from(self.method != "CONNECT"));
        is_spoken(&client, &self.request, &server, max_body);
        match &self.response {
            None => assert!(server.fields.is_empty() && server.body.is_empty(), "an answer that never came"),
            Some(body) => {
                assert_eq!(server.field(":status"), [self.status.to_string().as_bytes()]);
                is_spoken(&server, body, &client, max_body);
            }
        }
        let is_whole = self.request.is_whole && self.response.as_ref().is_some_and(|body| body.is_whole);
        let resets = usize::from(client.reset.is_some()) + usize::from(server.reset.is_some());
        assert_eq!(resets, usize::from(!is_whole), "{self:?}");
        let farewells = usize::from(client.goaway.is_some()) + usize::from(server.goaway.is_some());
        assert_eq!(farewells, usize::from(self.aborted.is_none()), "{self:?}");
    }
}

/// Checks a message of HTTP/2, and that the other side had room for it.
fn is_spoken(spoken: &Spoken, body: &Body, other: &Spoken, max_body: usize) {
    let copied = if body.is_none { &[][..] } else { &body.bytes[..body.bytes.len().min(max_body)] };
    assert_eq!(spoken.body, copied);
    assert_eq!(spoken.ended, body.is_whole, "{body:?}");
    let length = spoken.body.len() as u64;
    assert!(length <= other.windows.0 && length <= other.windows.1, "beyond a window (section 6.9)");
    let trailers = if body.is_whole && !body.is_none { body.trailers } else { 0 };
    assert_eq!(spoken.trailers.as_ref().map_or(0, Vec::len), trailers);
    let told: Vec<u64> = spoken
        .field("content-length")
        .iter()
        .map(|value| std::str::from_utf8(value).unwrap().parse().expect("a length"))
        .collect();
    assert!(told.len() <= 1);
    for told in told.iter().filter(|_| !body.is_none) {
        assert!(if spoken.ended { *told == length } else { *told >= length }, "section 8.1.1");
    }
}

/// Checks a message as it stands on the wire: lines of a head, one body, nothing behind. Gives the head back.
fn is_message<'a>(wire: &'a [u8], body: &Body, max_body: usize) -> &'a [u8] {
    let end = wire.windows(4).position(|four| four == b"\r\n\r\n").expect("a head has an end");
    let (head, mut rest) = (&wire[..end], &wire[end + 4..]);
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.iter().any(|byte| [b'\r', 0].contains(byte)) && !line.is_empty(), "{line:?}");
    }
    let lines = head.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\r")).count();
    assert_eq!(lines, head.iter().filter(|byte| **byte == b'\n').count(), "a line without CR");
    let copied = &body.bytes[..body.bytes.len().min(max_body)];
    if body.is_none {
        assert_eq!(rest, b"");
        return head;
    }
    let codings = head.split(|byte| *byte == b'\n').filter(|line| starts(line, b"transfer-encoding:")).count();
    let lengths = head.split(|byte| *byte == b'\n').filter(|line| starts(line, b"content-length:")).count();
    assert!(codings + lengths <= 1, "two framings: {}", head.escape_ascii());
    if codings == 0 {
        assert_eq!(rest, copied);
        return head;
    }
    if !copied.is_empty() {
        rest = rest.strip_prefix(format!("{:x}\r\n", copied.len()).as_bytes()).expect("the length of a chunk");
        rest = rest.strip_prefix(copied).expect("the chunk").strip_prefix(b"\r\n").expect("the end of a chunk");
    }
    if let Some(mut tail) = rest.strip_prefix(b"0\r\n") {
        for number in 0..body.trailers {
            tail = tail.strip_prefix(format!("x-trailer: {number}\r\n").as_bytes()).expect("a trailer");
        }
        rest = tail.strip_prefix(b"\r\n").expect("the end of a chunked body");
    }
    assert_eq!(rest, b"");
    head
}

fn starts(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// Puts connections together, and takes nothing that is not exactly next.
struct Reader<'a> {
    settings: &'a Settings,
    /// IP and UDP around a datagram.
    outer: usize,
    /// By client and server.
    open: HashMap<(SocketAddr, SocketAddr), Connection>,
    connections: u64,
}

#[derive(Default)]
struct Connection {
    /// Next sequence number of client and server.
    next: [Option<u32>; 2],
    finished: [bool; 2],
    over: bool,
    sent: [u64; 2],
    /// Segments and bytes the other side has not acknowledged.
    owed: [(u32, usize); 2],
    /// Exchanges it carried.
    exchanges: u32,
}

impl<'a> Reader<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self { settings, outer: 0, open: HashMap::new(), connections: 0 }
    }

    /// The payload of these datagrams, which belong to one exchange.
    fn take(&mut self, datagrams: &[Vec<u8>]) -> Heard {
        let mut heard = Heard::default();
        let mut carrier = None;
        for datagram in datagrams {
            if let Some((key, me, payload)) = self.datagram(datagram).filter(|(.., payload)| !payload.is_empty()) {
                assert!(carrier.is_none_or(|known| known == key), "one exchange on two connections");
                carrier = Some(key);
                [&mut heard.client, &mut heard.server][me].extend_from_slice(payload);
            }
        }
        if let Some(one) = carrier.and_then(|key| self.open.get_mut(&key)) {
            one.exchanges += 1;
            let longest = one.sent.into_iter().max().unwrap_or(0);
            assert!(longest <= self.settings.rollover || one.exchanges == 1, "{longest} bytes past the rollover");
        }
        heard
    }

    fn datagram<'b>(&mut self, datagram: &'b [u8]) -> Option<((SocketAddr, SocketAddr), usize, &'b [u8])> {
        let Sensor::Vxlan { vni, .. } = self.settings.sensor else { panic!("not VXLAN") };
        let [_, v0, v1, v2] = vni.to_be_bytes();
        assert_eq!(datagram[..8], [8, 0, 0, 0, v0, v1, v2, 0]);
        assert!(datagram.len() + self.outer <= usize::from(self.settings.mtu), "{} bytes", datagram.len());
        let packet = SlicedPacket::from_ethernet(&datagram[8..]).expect("a strict parser takes it");
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("not TCP") };
        let (from, to) = match packet.net.as_ref().expect("an IP packet") {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
                assert_eq!(usize::from(header.total_len()) + 14 + 8, datagram.len());
                assert_eq!(tcp.calc_checksum_ipv4(header.source(), header.destination()), Ok(tcp.checksum()));
                (IpAddr::V4(header.source_addr()), IpAddr::V4(header.destination_addr()))
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                assert_eq!(usize::from(header.payload_length()) + 40 + 14 + 8, datagram.len());
                assert_eq!(tcp.calc_checksum_ipv6(header.source(), header.destination()), Ok(tcp.checksum()));
                (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()))
            }
            other => panic!("{other:?}"),
        };
        tcp.options_iterator().for_each(|option| assert!(option.is_ok(), "{option:?}"));
        let (from, to) = (SocketAddr::new(from, tcp.source_port()), SocketAddr::new(to, tcp.destination_port()));
        let (key, me) = if tcp.destination_port() == 8080 { ((from, to), 0) } else { ((to, from), 1) };
        if tcp.syn() && me == 0 {
            let before = self.open.insert(key, Connection::default());
            assert!(before.is_none_or(|one| one.over), "{key:?} is in use");
            self.connections += 1;
        }
        let one = self.open.get_mut(&key).expect("SYN comes first");
        assert!(!one.over, "a packet after the end");
        let payload = tcp.payload();
        let seq = *one.next[me].get_or_insert(tcp.sequence_number());
        assert_eq!(tcp.sequence_number(), seq, "a hole, or bytes twice");
        let heard_of_other = if tcp.ack() { one.next[1 - me].expect("acknowledged before it spoke") } else { 0 };
        assert_eq!(tcp.acknowledgment_number(), heard_of_other);
        assert!(payload.is_empty() || !one.finished[me], "payload after FIN");
        if tcp.ack() {
            one.owed[1 - me] = (0, 0);
        }
        if !payload.is_empty() {
            one.owed[me] = (one.owed[me].0 + 1, one.owed[me].1 + payload.len());
            let (segments, bytes) = one.owed[me];
            // tap.md: at least every 8 segments or 12 KiB, but one segment of a large MTU may be more than that.
            assert!(segments <= 8 && (bytes <= 12 * 1024 || segments == 1), "{segments} segments, {bytes} bytes owed");
        }
        one.sent[me] += payload.len() as u64;
        one.finished[me] |= tcp.fin();
        one.next[me] = Some(seq.wrapping_add(payload.len() as u32).wrapping_add(u32::from(tcp.syn() || tcp.fin())));
        let acknowledged = one.owed == [(0, 0); 2];
        one.over = tcp.rst() || one.finished == [true; 2] && !tcp.fin() && acknowledged;
        Some((key, me, payload))
    }
}
