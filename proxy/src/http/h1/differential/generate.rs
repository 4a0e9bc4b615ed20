//! Streams of HTTP/1.1 messages: most of them good, the rest with the tricks by which two readers have been made to disagree.
//!
//! A stream is built from parts, each of which is now and then replaced by a bad or odd one, and then sometimes loses, gains or
//! changes single bytes. The classes are those of request smuggling literature: lengths and codings against each other, line
//! ends, folds, blanks, controls, versions, targets, methods, chunk framing, trailers, sizes past every bound.

use super::random::Random;

/// One to five requests.
pub(super) fn requests(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..1 + random.below(5) {
        let odd = if random.once_in(2) { Odd::new(random) } else { Odd(None) };
        request(random, &odd, &mut text);
    }
    damage(random, &mut text);
    text
}

/// Some interim responses and a final one, and now and then bytes behind it; and whether it answers HEAD.
pub(super) fn response(random: &mut Random) -> (Vec<u8>, bool) {
    let odd = if random.once_in(2) { Odd::new(random) } else { Odd(None) };
    let to_head = random.once_in(8);
    let mut text = Vec::new();
    let most = *random.of(&[3, 3, 3, 20]);
    let interim = if random.once_in(6) { 1 + random.below(most) } else { 0 };
    for _ in 0..interim {
        let hints: [&[u8]; 2] = [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"];
        text.extend_from_slice(random.text(&hints));
    }
    final_response(random, &odd, &mut text);
    if random.once_in(6) {
        let surplus: [&[u8]; 3] = [b"surplus", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad", b"\r\n"];
        text.extend_from_slice(random.text(&surplus));
    }
    damage(random, &mut text);
    (text, to_head)
}

/// Which part of a message is odd, if any: one at a time, so that its reason can be told; `damage` mixes them.
struct Odd(Option<Part>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Method,
    Target,
    Version,
    Start,
    LineEnd,
    Blank,
    Field,
    Value,
    Many,
    Long,
    Length,
    Coding,
    Both,
    Chunk,
    Trailer,
    Connection,
}

const PARTS: [Part; 16] = [
    Part::Method,
    Part::Target,
    Part::Version,
    Part::Start,
    Part::LineEnd,
    Part::Blank,
    Part::Field,
    Part::Value,
    Part::Many,
    Part::Long,
    Part::Length,
    Part::Coding,
    Part::Both,
    Part::Chunk,
    Part::Trailer,
    Part::Connection,
];

impl Odd {
    fn new(random: &mut Random) -> Self {
        let part = *random.of(&PARTS);
        // Long ones cost as much as a hundred others.
        Self((part != Part::Long || random.once_in(40)).then_some(part))
    }

    fn is(&self, part: Part) -> bool {
        self.0 == Some(part)
    }
}

/// A head under construction: lines, and how they end.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    ends: bool,
}

impl Lines<'_> {
    fn line(&mut self, random: &mut Random, parts: &[&[u8]]) {
        for part in parts {
            self.out.extend_from_slice(part);
        }
        let end: &[u8] = if self.ends && random.once_in(3) {
            random.text(&[b"\n", b"\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r", b" \r\n", b"\0\r\n"])
        } else {
            b"\r\n"
        };
        self.out.extend_from_slice(end);
    }
}

fn request(random: &mut Random, odd: &Odd, out: &mut Vec<u8>) {
    if odd.is(Part::Blank) {
        let blank = random.text(&[b"\r\n", b"\r\n\r\n", b"\n", b"\n\n\n", b"\r", b" \r\n", b"\r\n\n"]);
        out.extend_from_slice(blank);
    }
    let mut lines = Lines { out, ends: odd.is(Part::LineEnd) };
    let method = method(random, odd);
    let target = target(random, odd);
    let version = version(random, odd);
    let blank = |random: &mut Random| -> &'static [u8] {
        if odd.is(Part::Start) && random.once_in(2) { random.text(&[b"  ", b"\t", b"", b"\x0b", b" \t"]) } else { b" " }
    };
    let (first, second) = (blank(random), blank(random));
    lines.line(random, &[&method, first, &target, second, &version]);
    lines.line(random, &[b"Host: orders.shop.svc"]);
    let body = rest_of_head(random, odd, &mut lines, Kind::Request);
    append_body(random, odd, body, out);
}

fn final_response(random: &mut Random, odd: &Odd, out: &mut Vec<u8>) {
    if odd.is(Part::Blank) {
        out.extend_from_slice(random.text(&[b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\r"]));
    }
    let mut lines = Lines { out, ends: odd.is(Part::LineEnd) };
    let version = version(random, odd);
    let status: Vec<u8> = match odd.0 {
        Some(Part::Method) => random
            .text(&[b"101", b"000", b"099", b"600", b"999", b"9999", b"2x0", b"20", b"", b"+20", b" 200", b"100"])
            .to_vec(),
        _ => random.text(&[b"200", b"200", b"200", b"201", b"204", b"304", b"404", b"500", b"599", b"301"]).to_vec(),
    };
    let reason: Vec<u8> = match odd.0 {
        Some(Part::Target) => (0..random.below(12)).map(|_| random.byte()).collect(),
        _ => random.text(&[b" OK", b" OK", b" Said So", b" ", b"", b" caf\xe9", b" \tx", b"  OK "]).to_vec(),
    };
    let blank: &[u8] = if odd.is(Part::Start) { random.text(&[b"  ", b"\t", b"", b"\r\n"]) } else { b" " };
    lines.line(random, &[&version, blank, &status, &reason]);
    let body = rest_of_head(random, odd, &mut lines, Kind::Response);
    append_body(random, odd, body, out);
}

fn method(random: &mut Random, odd: &Odd) -> Vec<u8> {
    if !odd.is(Part::Method) {
        return random.text(&[b"GET", b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH"]).to_vec();
    }
    match random.below(4) {
        0 => vec![b'A', random.byte(), b'B'],
        1 => b"X".repeat(1 + random.below(60)),
        _ => random
            .text(&[
                b"get",
                b"Get",
                b"CONNECT",
                b"TRACE",
                b"M-SEARCH",
                b"!#$%&'*+-.^_`|~",
                b"",
                b"G T",
                b"PRI",
                b"POST\t",
            ])
            .to_vec(),
    }
}

fn target(random: &mut Random, odd: &Odd) -> Vec<u8> {
    if !odd.is(Part::Target) {
        return random
            .text(&[
                b"/",
                b"/api/orders/42",
                b"/a/b?c=d&e=%2f",
                b"/a;b=c/d",
                b"/~x/_-.!$&'()*+,=:@",
                b"/?",
                b"/a//b/../c",
            ])
            .to_vec();
    }
    match random.below(6) {
        0 => vec![b'/', random.byte(), b'x'],
        1 => vec![b'/', b'?', random.byte()],
        2 => {
            let mut text = b"/caf".to_vec();
            text.extend_from_slice("\u{e9}\u{20ac}".as_bytes());
            text
        }
        3 => (0..1 + random.below(6)).map(|_| random.byte()).collect(),
        _ => random
            .text(&[
                b"http://orders.shop.svc/a?b",
                b"HTTP://Orders:80",
                b"https://orders?x",
                b"http://user@orders/",
                b"http:///a",
                b"*",
                b"orders:443",
                b"//orders/a",
                b"a/b",
                b"/a#b",
                b"/a?b#c",
                b"?a",
                b"ftp://orders/a",
                b"h2c://x/",
                b"/\\a",
                b"/{a}\"<>|^`",
                b"http://[::1]:80/",
                b"http://a:b:c/",
                b"",
            ])
            .to_vec(),
    }
}

fn version(random: &mut Random, odd: &Odd) -> Vec<u8> {
    if !odd.is(Part::Version) {
        return b"HTTP/1.1".to_vec();
    }
    random
        .text(&[
            b"HTTP/1.0",
            b"HTTP/1.0",
            b"HTTP/1.0",
            b"HTTP/0.9",
            b"HTTP/1.2",
            b"HTTP/2.0",
            b"HTTP/2",
            b"HTTP/9.9",
            b"HTTP/01.1",
            b"HTTP/1.10",
            b"http/1.1",
            b"HTTP /1.1",
            b"HTTP/1.1x",
            b"ICY",
            b"HTTP/1,1",
            b"",
        ])
        .to_vec()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Response,
}

/// How the body is to be written.
enum Way {
    None,
    Bytes(Vec<u8>),
    Chunks(Vec<u8>),
}

/// Fields and the empty line.
fn rest_of_head(random: &mut Random, odd: &Odd, lines: &mut Lines<'_>, kind: Kind) -> Way {
    for _ in 0..random.below(4) {
        field(random, odd, lines);
    }
    if odd.is(Part::Many) {
        for number in 0..*random.of(&[20, 90, 97, 98, 99, 100, 101, 130]) {
            lines.line(random, &[b"x-", number.to_string().as_bytes(), b": y"]);
        }
    }
    if odd.is(Part::Long) {
        let long = b"z".repeat(*random.of(&[3000, 30_000, 61_000, 61_400, 61_440, 65_000, 70_000]));
        lines.line(random, &[b"long: ", &long]);
    }
    if odd.is(Part::Connection) {
        let connection = random.text(&[
            b"close",
            b"keep-alive",
            b"Close , x",
            b"x, \tCLOSE",
            b"close\xff",
            b"close, \xe9",
            b"\xff,close",
            b"closed",
            b"upgrade",
            b"",
        ]);
        lines.line(random, &[b"Connection: ", connection]);
        if random.once_in(3) {
            lines.line(random, &[b"connection: keep-alive"]);
        }
        if random.once_in(4) {
            lines.line(random, &[b"Upgrade: websocket"]);
        }
        if random.once_in(4) {
            lines.line(random, &[b"Expect: 100-continue"]);
        }
    }
    let most = if random.once_in(20) { 3000 } else { 40 };
    let body: Vec<u8> = (0..random.below(most)).map(|_| random.byte()).collect();
    let mut way = match random.below(3) {
        _ if odd.is(Part::Chunk) || odd.is(Part::Trailer) || odd.is(Part::Coding) => Way::Chunks(body),
        _ if odd.is(Part::Length) => Way::Bytes(body),
        0 if kind == Kind::Request => Way::None,
        0 | 1 => Way::Bytes(body),
        _ => Way::Chunks(body),
    };
    if odd.is(Part::Both) {
        let length = match &way {
            Way::Chunks(body) | Way::Bytes(body) => body.len(),
            Way::None => 0,
        };
        let length = (length + random.below(2) * 3).to_string();
        let bad = random.once_in(6);
        let mut both: [[&[u8]; 2]; 2] =
            [[b"Content-Length: ", if bad { b"x" } else { length.as_bytes() }], [b"Transfer-Encoding: ", b"chunked"]];
        if random.once_in(2) {
            both.reverse();
        }
        for line in &both {
            lines.line(random, line);
        }
        if let Way::Bytes(body) | Way::Chunks(body) = way {
            way = if random.once_in(3) { Way::Bytes(body) } else { Way::Chunks(body) };
        }
    } else {
        match &way {
            Way::None => {}
            Way::Bytes(body) => length(random, odd, lines, body.len(), kind),
            Way::Chunks(_) => coding(random, odd, lines),
        }
    }
    field(random, odd, lines);
    lines.line(random, &[]);
    way
}

fn length(random: &mut Random, odd: &Odd, lines: &mut Lines<'_>, length: usize, kind: Kind) {
    let text = length.to_string();
    if kind == Kind::Response && random.once_in(6) {
        return; // until the connection closes
    }
    if !odd.is(Part::Length) {
        let name = random_case(random, b"Content-Length");
        return lines.line(random, &[&name, b": ", text.as_bytes()]);
    }
    let text = text.as_str();
    match random.below(10) {
        0 => {
            lines.line(random, &[b"Content-Length: ", text.as_bytes()]);
            let second = if random.once_in(2) { text.to_owned() } else { (length + 1).to_string() };
            lines.line(random, &[b"content-length:", second.as_bytes()]);
        }
        1 => lines.line(random, &[b"Content-Length: ", format!("{text}, {text}").as_bytes()]),
        2 => lines.line(random, &[b"Content-Length: ", format!("{length:025}").as_bytes()]),
        3 => lines.line(random, &[b"Content-Length: ", format!("{length:018}").as_bytes()]),
        4 => {
            let huge =
                *random.of(&["18446744073709551615", "18446744073709551616", "4294967296", "1000000000000000000"]);
            lines.line(random, &[b"Content-Length: ", huge.as_bytes()]);
        }
        5 => {
            // Shorter or longer than the body is.
            let wrong = (length + random.below(9)).saturating_sub(4);
            lines.line(random, &[b"Content-Length: ", wrong.to_string().as_bytes()]);
        }
        6 => {
            let byte = [random.byte()];
            let (before, after): (&[u8], &[u8]) = if random.once_in(2) { (&byte, b"") } else { (b"", &byte) };
            lines.line(random, &[b"Content-Length: ", before, text.as_bytes(), after]);
        }
        7 => lines.line(random, &[b"Content-Length\t: ", text.as_bytes()]),
        8 => lines.line(random, &[b"Content_Length: ", text.as_bytes()]),
        _ => {
            let odd = *random
                .of(&["", "+5", "-5", "0x5", "5.0", "5 5", "\"5\"", "5;", "five", "1_0", "5,", "5, 6", "\u{665}"]);
            lines.line(random, &[b"Content-Length: ", odd.as_bytes()]);
        }
    }
}

fn coding(random: &mut Random, odd: &Odd, lines: &mut Lines<'_>) {
    if !odd.is(Part::Coding) {
        let name = random_case(random, b"Transfer-Encoding");
        return lines.line(random, &[&name, b":\tChunked "]);
    }
    let codings: &[&[u8]] = &[
        b"chunked",
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked, chunked",
        b"identity",
        b"gzip",
        b"xchunked",
        b"chunkedx",
        b"chunked;q=1",
        b"\"chunked\"",
        b"chunked=",
        b",chunked",
        b"chunked,",
        b"chun\x00ked",
        b"\x0bchunked",
        b"chunked\x0b",
        b"chunked\xa0",
        b"\xffchunked",
        b"",
        b"gzip,\tchunked",
    ];
    let names: &[&[u8]] = &[
        b"Transfer-Encoding: ",
        b"Transfer-Encoding:",
        b"transfer-encoding: ",
        b"TRANSFER-ENCODING:\t",
        b"Transfer-Encoding : ",
        b"Transfer-Encoding\t: ",
        b" Transfer-Encoding: ",
        b"X: y\nTransfer-Encoding: ",
        b"X: y\r\n Transfer-Encoding: ",
        b"X: y\rTransfer-Encoding: ",
        b"Transfer_Encoding: ",
        b"Transfer-Encoding:\r\n ",
        b"Transfer-Encoding\x00: ",
        b"Transfer-Encoding\xff: ",
    ];
    for _ in 0..1 + random.below(2) {
        let (name, coding) = (random.text(names), random.text(codings));
        lines.line(random, &[name, coding]);
        if random.once_in(2) {
            return;
        }
        lines.line(random, &[b"Transfer-Encoding: chunked"]);
    }
}

fn field(random: &mut Random, odd: &Odd, lines: &mut Lines<'_>) {
    if odd.is(Part::Field) && random.once_in(3) {
        let bad: &[&[u8]] = &[
            b": empty name",
            b"no colon",
            b"Space : x",
            b"Tab\t: x",
            b" Lead: x",
            b"\tLead: x",
            b"Folded: x\r\n y",
            b"Folded: x\r\n\ty",
            b"Folded:\r\n y",
            b"A(b): x",
            b"A b: x",
            b"A\x80: x",
            b"A\x00: x",
            b"A\x7f: x",
            b"\"A\": x",
            b"A@b: x",
            b"A/b: x",
            b"A:b: x",
            b"A::x",
            b"!#$%&'*+-.^_`|~09: x",
            b":",
            b" ",
        ];
        let line = random.text(bad);
        return lines.line(random, &[line]);
    }
    if odd.is(Part::Field) && random.once_in(3) {
        let byte = [random.byte()];
        return lines.line(random, &[b"A", &byte, b"b: x"]);
    }
    let name = random.text(&[
        b"Accept",
        b"X-One",
        b"x-one",
        b"X-Two",
        b"User-Agent",
        b"cookie",
        b"TE",
        b"X_Under",
        b"a",
        b"Via",
    ]);
    let value: Vec<u8> = match random.below(8) {
        _ if odd.is(Part::Value) => (0..random.below(14)).map(|_| random.byte()).collect(),
        0 => Vec::new(),
        1 => b"\xe2\x82\xac \xff\x80".to_vec(),
        2 => b"a\t b".to_vec(),
        3 => (0..random.below(30)).map(|_| 0x21 + random.byte() % 0x5e).collect(),
        _ => random.text(&[b"*/*", b"1", b"trailers", b"a, b;c=\"d\"", b"  "]).to_vec(),
    };
    let blank = random.text(&[b" ", b" ", b" ", b"", b"\t", b"  \t "]);
    let after = random.text(&[b"", b"", b"", b" ", b"\t "]);
    lines.line(random, &[name, b":", blank, &value, after]);
}

fn random_case(random: &mut Random, name: &[u8]) -> Vec<u8> {
    match random.below(4) {
        0 => name.to_ascii_lowercase(),
        1 => name.to_ascii_uppercase(),
        _ => name.to_vec(),
    }
}

fn append_body(random: &mut Random, odd: &Odd, way: Way, out: &mut Vec<u8>) {
    match way {
        Way::None => {}
        Way::Bytes(body) => out.extend_from_slice(&body),
        Way::Chunks(body) => chunks(random, odd, &body, out),
    }
}

fn chunks(random: &mut Random, odd: &Odd, body: &[u8], out: &mut Vec<u8>) {
    let mut rest = body;
    while !rest.is_empty() {
        let size = (1 + random.below(20 + rest.len() / 3)).min(rest.len());
        let (data, after) = rest.split_at(size);
        rest = after;
        let strange = odd.is(Part::Chunk) && random.once_in(3);
        size_line(random, strange, size, out);
        out.extend_from_slice(data);
        let end = if odd.is(Part::Chunk) && random.once_in(12) {
            random.text(&[b"\n", b"\r", b"", b"x\r\n", b"\r\n\r\n", b"\r\r\n"])
        } else {
            b"\r\n"
        };
        out.extend_from_slice(end);
    }
    let strange = odd.is(Part::Chunk) && random.once_in(4);
    size_line(random, strange, 0, out);
    if odd.is(Part::Trailer) || random.once_in(8) {
        for _ in 0..random.below(4) {
            let strange = odd.is(Part::Trailer) && random.once_in(2);
            trailer(random, strange, out);
        }
    }
    if odd.is(Part::Trailer) && random.once_in(60) {
        let (lines, long) = *random.of(&[(99, 5), (100, 5), (101, 5), (1, 8170), (1, 8200), (3, 6000)]);
        for _ in 0..lines {
            out.extend_from_slice(b"t: ");
            out.extend_from_slice(&b"u".repeat(long));
            out.extend_from_slice(b"\r\n");
        }
    }
    let end = if (odd.is(Part::Trailer) || odd.is(Part::Chunk)) && random.once_in(8) {
        random.text(&[b"\n", b"\r", b"", b"\r\r\n", b" \r\n"])
    } else {
        b"\r\n"
    };
    out.extend_from_slice(end);
}

fn size_line(random: &mut Random, strange: bool, size: usize, out: &mut Vec<u8>) {
    if !strange {
        let text = match random.below(6) {
            0 => format!("{size:X}\r\n"),
            1 => format!("{size:06x}\r\n"),
            2 => format!("{size:x};name=value\r\n"),
            3 => format!("{size:x};a;b=\"c d\"\r\n"),
            _ => format!("{size:x}\r\n"),
        };
        return out.extend_from_slice(text.as_bytes());
    }
    let byte = random.byte();
    let text: Vec<u8> = match random.below(14) {
        0 => format!("{size:x} \r\n").into_bytes(),
        1 => format!("{size:x}\t ;x\r\n").into_bytes(),
        2 => format!(" {size:x}\r\n").into_bytes(),
        3 => format!("{size:x}\n").into_bytes(),
        4 => format!("{size:015x}\r\n").into_bytes(),
        5 => format!("{size:0width$x}\r\n", width = 16 + random.below(30)).into_bytes(),
        6 => format!("{:x}\r\n", size + 1).into_bytes(),
        7 => format!("{:x}\r\n", size.saturating_sub(1)).into_bytes(),
        8 => [format!("{size:x};a").as_bytes(), &[byte], b"b\r\n"].concat(),
        9 => [format!("{size:x}").as_bytes(), &[byte], b"\r\n"].concat(),
        10 => [&[byte], format!("{size:x}\r\n").as_bytes()].concat(),
        11 => format!("{size:x};{}\r\n", "e".repeat(*random.of(&[250, 255, 256, 257, 300, 5000]))).into_bytes(),
        12 => random
            .text(&[b"ffffffffffffffff\r\n", b"10000000000000000\r\n", b"fffffffffffffff\r\n", b"7fffffffffffffff\r\n"])
            .to_vec(),
        _ => random
            .text(&[b"\r\n", b";x\r\n", b"0x5\r\n", b"-1\r\n", b"+5\r\n", b"5_0\r\n", b"5;\nx\r\n", b"g\r\n"])
            .to_vec(),
    };
    out.extend_from_slice(&text);
}

fn trailer(random: &mut Random, strange: bool, out: &mut Vec<u8>) {
    let byte = random.byte();
    let line: Vec<u8> = match random.below(6) {
        _ if !strange => random.text(&[b"x-sum: 1\r\n", b"X-Sum:2 \r\n", b"Grpc-Status: 0\r\n", b"e:\r\n"]).to_vec(),
        0 => [b"x-a: b", &[byte][..], b"c\r\n"].concat(),
        1 => [b"x-a", &[byte][..], b": c\r\n"].concat(),
        2 => random.text(&[b"x: y\n", b"\nx: y\r\n", b"x: y\nz: w\r\n", b"x: y\r\r\n", b"\n"]).to_vec(),
        3 => random.text(&[b"x: y\r\n z\r\n", b" x: y\r\n", b"x : y\r\n", b": y\r\n", b"no colon\r\n"]).to_vec(),
        _ => random
            .text(&[
                b"Content-Length: 5\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Host: evil\r\n",
                b"Trailer: x\r\n",
                b"x-t: \xff\r\n",
            ])
            .to_vec(),
    };
    out.extend_from_slice(&line);
}

/// Now and then loses, gains or changes bytes anywhere.
fn damage(random: &mut Random, text: &mut Vec<u8>) {
    if text.is_empty() || !random.once_in(4) {
        return;
    }
    for _ in 0..1 + random.below(3) {
        let at = random.below(text.len());
        match random.below(6) {
            0 => text[at] = random.byte(),
            1 => {
                text.remove(at);
            }
            2 => text.insert(at, random.byte()),
            3 => text.insert(at, *random.of(b"\r\n \t:;,0\0\x7f\x80")),
            4 => {
                let until = (at + random.below(40)).min(text.len());
                let again = text[at..until].to_vec();
                text.splice(at..at, again);
            }
            _ if random.once_in(3) => text.truncate(at),
            _ => {}
        }
        if text.is_empty() {
            return;
        }
    }
}
