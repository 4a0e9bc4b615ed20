//! Classes 53 to 60, 68 and 69: one malformed or odd message per row, on a connection of its own, at both doors.
//!
//! A bad one must end in a stream error, a connection error or 4xx, and the application must never hold a whole request of
//! it; an odd one that may pass must reach the application in one reading, once.

use std::time::Duration;

use support::catalogue::{Outcome, Table};
use support::origin::Origin;
use support::pair::{HOST, Pair, Setting};
use support::strict::{self, Reading};

use super::frames::{
    ACK, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, Field, GOAWAY, HEADERS, Next, PADDED, PING, PREFACE,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WHOLE, WITH_PRIORITY, block, data, frame, headers, integer, settings,
    sized, window,
};
use super::{Door, envoy, open};

/// What may become of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    /// An error, and no whole request at the application.
    Fail,
    /// That, or the request as it stands in [`Case::path`], once.
    Pass,
    /// It must pass: the protocol allows it.
    Must,
}
use May::{Fail, Must, Pass};

/// Class, name, what may become of it, and its bytes for a path of its own.
type Case = (u8, &'static str, May, fn(&str) -> Vec<u8>);

const HOST_BYTES: &[u8] = HOST.as_bytes();

/// The four pseudo-header fields of an ordinary request.
fn plain<'a>(method: &'a str, path: &'a str) -> Vec<Field<'a>> {
    vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", HOST_BYTES),
        (b":path", path.as_bytes()),
    ]
}

/// A whole GET with these fields after the usual ones.
fn get(path: &str, more: &[Field<'_>]) -> Vec<u8> {
    headers(1, WHOLE, &[&plain("GET", path), more].concat())
}

/// A whole GET in which one pseudo-header field is another, or missing.
fn instead(path: &str, name: &str, value: Option<&[u8]>) -> Vec<u8> {
    let fields = plain("GET", path).into_iter().filter_map(|(key, old)| match value {
        _ if key != name.as_bytes() => Some((key, old)),
        Some(new) => Some((key, new)),
        None => None,
    });
    headers(1, WHOLE, &fields.collect::<Vec<_>>())
}

/// A whole GET whose path ends in these bytes.
fn path(path: &str, end: &[u8]) -> Vec<u8> {
    instead(path, ":path", Some(&[path.as_bytes(), end].concat()))
}

/// The head of a POST whose body is still to come.
fn post(path: &str, more: &[Field<'_>]) -> Vec<u8> {
    headers(1, END_HEADERS, &[&plain("POST", path), more].concat())
}

/// An open POST, then this.
fn then(path: &str, rest: &[u8]) -> Vec<u8> {
    [&post(path, &[]), rest].concat()
}

/// The header block of a GET, and these bytes after it.
fn packed(path: &str, rest: &[u8]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &[&block(&plain("GET", path)), rest].concat())
}

fn size_update(size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    integer(size, 5, 0x20, &mut bytes);
    bytes
}

const CASES: &[Case] = &[
    // Pseudo-header fields (RFC 9113 §8.3)
    (53, "no :method", Fail, |p| instead(p, ":method", None)),
    (53, "no :scheme", Fail, |p| instead(p, ":scheme", None)),
    (53, "no :path", Fail, |p| instead(p, ":path", None)),
    (53, "no :authority and no host", Fail, |p| instead(p, ":authority", None)),
    (53, "empty :method", Fail, |p| instead(p, ":method", Some(b""))),
    (53, "empty :path", Fail, |p| instead(p, ":path", Some(b""))),
    (53, "empty :authority", Fail, |p| instead(p, ":authority", Some(b""))),
    (53, ":method twice", Fail, |p| get(p, &[(b":method", b"GET")])),
    (53, ":path twice", Fail, |p| headers(1, WHOLE, &[&plain("GET", p)[..], &[(b":path", b"/open/second")]].concat())),
    (53, ":authority twice", Fail, |p| {
        headers(1, WHOLE, &[&plain("GET", p)[..], &[(b":authority", HOST_BYTES)]].concat())
    }),
    (53, "an unknown pseudo-header", Fail, |p| get(p, &[(b":secret", b"1")])),
    (53, ":status in a request", Fail, |p| get(p, &[(b":status", b"200")])),
    (53, ":protocol that nobody offered", Fail, |p| get(p, &[(b":protocol", b"websocket")])),
    (53, "a pseudo-header after a field", Fail, |p| {
        headers(1, WHOLE, &[&[(&b"x-first"[..], &b"1"[..])], &plain("GET", p)[..]].concat())
    }),
    // The library drops it unseen: it has no effect, and no error either.
    (53, "a pseudo-header in trailers", Pass, |p| {
        then(p, &[data(1, 0, b"abc"), headers(1, WHOLE, &[(b":path", b"/open/trailer")])].concat())
    }),
    (53, "an upper-case name", Fail, |p| get(p, &[(b"X-Upper", b"1")])),
    (53, "an upper-case letter in a pseudo-header", Fail, |p| {
        headers(
            1,
            WHOLE,
            &[(b":Method", b"GET"), (b":scheme", b"http"), (b":authority", HOST_BYTES), (b":path", p.as_bytes())],
        )
    }),
    (53, "trailers that do not end the stream", Fail, |p| {
        then(p, &[data(1, 0, b"abc"), headers(1, END_HEADERS, &[(b"x-sum", b"1")])].concat())
    }),
    // Bytes that would be another line in HTTP/1.1 (RFC 9113 §8.2.1)
    (54, "CR LF in a value", Fail, |p| get(p, &[(b"x-a", b"1\r\nx-b: 2")])),
    (54, "LF in a value", Fail, |p| get(p, &[(b"x-a", b"1\nx-b: 2")])),
    (54, "CR in a value", Fail, |p| get(p, &[(b"x-a", b"1\r2")])),
    (54, "NUL in a value", Fail, |p| get(p, &[(b"x-a", b"1\x002")])),
    (54, "a whole request in a value", Fail, |p| {
        get(p, &[(b"x-a", b"1\r\n\r\nGET /open/second HTTP/1.1\r\nHost: a\r\n\r\n")])
    }),
    (54, "CR LF in a trailer", Fail, |p| {
        then(p, &[data(1, 0, b"abc"), headers(1, WHOLE, &[(b"x-sum", b"1\r\nx-b: 2")])].concat())
    }),
    (54, "blanks around a value", Pass, |p| get(p, &[(b"x-a", b" 1\t")])),
    (54, "DEL in a value", Fail, |p| get(p, &[(b"x-a", b"1\x7f2")])),
    (54, "0x01 in a value", Fail, |p| get(p, &[(b"x-a", b"1\x012")])),
    (54, "CR LF in :path", Fail, |p| path(p, b" HTTP/1.1\r\nx-b: 2\r\n\r\n")),
    (54, "LF in :path", Fail, |p| path(p, b"\nx")),
    (54, "NUL in :path", Fail, |p| path(p, b"\0x")),
    (54, "space in :path", Fail, |p| path(p, b" HTTP/1.1")),
    (54, "tab in :path", Fail, |p| path(p, b"\tx")),
    (54, "0xff in :path", Fail, |p| path(p, b"\xff")),
    (54, "DEL in :path", Fail, |p| path(p, b"\x7f")),
    (54, "CR LF in :method", Fail, |p| instead(p, ":method", Some(b"GET / HTTP/1.1\r\nx-b: "))),
    (54, "space in :method", Fail, |p| instead(p, ":method", Some(b"GET /second"))),
    (54, "NUL in :method", Fail, |p| instead(p, ":method", Some(b"GET\0"))),
    (54, "CR LF in :authority", Fail, |p| instead(p, ":authority", Some(b"orders.shop.svc\r\nx-b: 2"))),
    (54, "space in :authority", Fail, |p| instead(p, ":authority", Some(b"orders.shop.svc x"))),
    (54, "NUL in :authority", Fail, |p| instead(p, ":authority", Some(b"orders.shop.svc\0"))),
    (54, "an empty name", Fail, |p| get(p, &[(b"", b"1")])),
    (54, "space in a name", Fail, |p| get(p, &[(b"x a", b"1")])),
    (54, "CR LF in a name", Fail, |p| get(p, &[(b"x-a: 1\r\nx-b", b"2")])),
    (54, "NUL in a name", Fail, |p| get(p, &[(b"x\0a", b"1")])),
    (54, "colon in a name", Fail, |p| get(p, &[(b"x-a: 1", b"1")])),
    (54, "0x80 in a name", Fail, |p| get(p, &[(b"x-\x80", b"1")])),
    // Connection-specific fields (RFC 9113 §8.2.2)
    (55, "connection: close", Fail, |p| get(p, &[(b"connection", b"close")])),
    (55, "connection: x-a", Fail, |p| get(p, &[(b"connection", b"x-a"), (b"x-a", b"1")])),
    (55, "keep-alive", Fail, |p| get(p, &[(b"keep-alive", b"timeout=5")])),
    (55, "proxy-connection", Fail, |p| get(p, &[(b"proxy-connection", b"keep-alive")])),
    (55, "transfer-encoding: chunked", Fail, |p| {
        [
            post(p, &[(b"transfer-encoding", b"chunked")]),
            data(1, END_STREAM, b"0\r\n\r\nGET /open/second HTTP/1.1\r\n\r\n"),
        ]
        .concat()
    }),
    (55, "transfer-encoding: identity", Fail, |p| get(p, &[(b"transfer-encoding", b"identity")])),
    (55, "upgrade: h2c", Fail, |p| get(p, &[(b"upgrade", b"h2c")])),
    (55, "te: gzip", Fail, |p| get(p, &[(b"te", b"gzip")])),
    (55, "te: trailers, gzip", Fail, |p| get(p, &[(b"te", b"trailers, gzip")])),
    (55, "te: trailers", Must, |p| get(p, &[(b"te", b"trailers")])),
    // Length and data (RFC 9113 §8.1.1)
    (56, "five said, three sent", Fail, |p| {
        [post(p, &[(b"content-length", b"5")]), data(1, END_STREAM, b"abc")].concat()
    }),
    (56, "five said, none sent", Fail, |p| get(p, &[(b"content-length", b"5")])),
    (56, "five said, an empty DATA sent", Fail, |p| {
        [post(p, &[(b"content-length", b"5")]), data(1, END_STREAM, b"")].concat()
    }),
    (56, "five said, three and trailers sent", Fail, |p| {
        [post(p, &[(b"content-length", b"5")]), data(1, 0, b"abc"), headers(1, WHOLE, &[(b"x-sum", b"1")])].concat()
    }),
    (56, "five said, eight sent", Fail, |p| {
        [post(p, &[(b"content-length", b"5")]), data(1, END_STREAM, b"abcdefgh")].concat()
    }),
    (56, "five said, five and a request sent", Fail, |p| {
        let more = b"helloGET /open/second HTTP/1.1\r\nHost: a\r\n\r\n";
        [post(p, &[(b"content-length", b"5")]), data(1, END_STREAM, more)].concat()
    }),
    (56, "five said, four and four sent", Fail, |p| {
        [post(p, &[(b"content-length", b"5")]), data(1, 0, b"abcd"), data(1, END_STREAM, b"efgh")].concat()
    }),
    (56, "none said, three sent", Fail, |p| {
        [post(p, &[(b"content-length", b"0")]), data(1, END_STREAM, b"abc")].concat()
    }),
    (56, "two lengths that differ", Fail, |p| {
        [post(p, &[(b"content-length", b"3"), (b"content-length", b"5")]), data(1, END_STREAM, b"abc")].concat()
    }),
    (56, "two lengths in a list", Fail, |p| {
        [post(p, &[(b"content-length", b"3, 3")]), data(1, END_STREAM, b"abc")].concat()
    }),
    (56, "length +3", Fail, |p| [post(p, &[(b"content-length", b"+3")]), data(1, END_STREAM, b"abc")].concat()),
    (56, "length 0x3", Fail, |p| [post(p, &[(b"content-length", b"0x3")]), data(1, END_STREAM, b"abc")].concat()),
    (56, "length -1", Fail, |p| [post(p, &[(b"content-length", b"-1")]), data(1, END_STREAM, b"abc")].concat()),
    (56, "empty length", Fail, |p| [post(p, &[(b"content-length", b"")]), data(1, END_STREAM, b"abc")].concat()),
    (56, "length of 2^64 and 3", Fail, |p| {
        [post(p, &[(b"content-length", b"18446744073709551619")]), data(1, END_STREAM, b"abc")].concat()
    }),
    (56, "three said, three sent", Must, |p| {
        [post(p, &[(b"content-length", b"3")]), data(1, END_STREAM, b"abc")].concat()
    }),
    // The host (RFC 9113 §8.3.1)
    (57, "authority against host", Fail, |p| get(p, &[(b"host", b"other.shop.svc")])),
    (57, "two host fields", Fail, |p| get(p, &[(b"host", HOST_BYTES), (b"host", HOST_BYTES)])),
    (57, "authority and the same host", Pass, |p| get(p, &[(b"host", HOST_BYTES)])),
    (57, "host alone", Pass, |p| {
        headers(
            1,
            WHOLE,
            &[(b":method", b"GET"), (b":scheme", b"http"), (b":path", p.as_bytes()), (b"host", HOST_BYTES)],
        )
    }),
    (57, "user part in :authority", Fail, |p| instead(p, ":authority", Some(b"user@orders.shop.svc"))),
    (57, "slash in :authority", Fail, |p| instead(p, ":authority", Some(b"orders.shop.svc/open/second"))),
    (57, "port that is no number", Fail, |p| instead(p, ":authority", Some(b"orders.shop.svc:http"))),
    (57, "two authorities in one", Fail, |p| instead(p, ":authority", Some(b"orders.shop.svc,other.shop.svc"))),
    // URLs where none belongs
    (58, "a URL as :scheme", Fail, |p| instead(p, ":scheme", Some(b"http://other.shop.svc/second?"))),
    (58, "a request line as :scheme", Fail, |p| instead(p, ":scheme", Some(b"http HTTP/1.1\r\nx-b: 2"))),
    (58, "an unknown :scheme", Fail, |p| instead(p, ":scheme", Some(b"gopher"))),
    (58, "empty :scheme", Fail, |p| instead(p, ":scheme", Some(b""))),
    (58, "a URL as :path", Fail, |p| instead(p, ":path", Some(format!("http://other.shop.svc{p}").as_bytes()))),
    (58, "an authority before :path", Fail, |p| instead(p, ":path", Some(format!("//other.shop.svc{p}").as_bytes()))),
    (58, ":path without its slash", Fail, |p| instead(p, ":path", Some(&p.as_bytes()[1..]))),
    (58, "GET of *", Fail, |p| instead(p, ":path", Some(b"*"))),
    (58, "CONNECT", Fail, |_| headers(1, END_HEADERS, &[(b":method", b"CONNECT"), (b":authority", HOST_BYTES)])),
    (58, "CONNECT with :path", Fail, |p| instead(p, ":method", Some(b"CONNECT"))),
    // The http crate cuts it before anybody can look; what is judged is what is sent.
    (58, "a fragment in :path", Pass, |p| path(p, b"#/../second")),
    // Frames (RFC 9113 §4, §5, §6)
    (59, "DATA on stream 0", Fail, |p| then(p, &data(0, END_STREAM, b"abc"))),
    (59, "DATA on an idle stream", Fail, |p| then(p, &data(7, END_STREAM, b"abc"))),
    (59, "HEADERS on stream 0", Fail, |p| headers(0, WHOLE, &plain("GET", p))),
    (59, "HEADERS on an even stream", Fail, |p| headers(2, WHOLE, &plain("GET", p))),
    (59, "a stream number that goes down", Fail, |p| {
        [headers(5, END_HEADERS, &plain("POST", p)), headers(3, WHOLE, &plain("GET", p))].concat()
    }),
    (59, "SETTINGS on a stream", Fail, |p| then(p, &frame(SETTINGS, 0, 1, &[]))),
    (59, "SETTINGS of 5 bytes", Fail, |p| then(p, &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0]))),
    (59, "SETTINGS that acknowledges and sets", Fail, |p| then(p, &frame(SETTINGS, ACK, 0, &[0, 1, 0, 0, 0, 0]))),
    (59, "SETTINGS with push 2", Fail, |p| then(p, &settings(&[(2, 2)]))),
    (59, "SETTINGS with frames of 100", Fail, |p| then(p, &settings(&[(5, 100)]))),
    (59, "PING of 7 bytes", Fail, |p| then(p, &frame(PING, 0, 0, &[0; 7]))),
    (59, "PING on a stream", Fail, |p| then(p, &frame(PING, 0, 1, &[0; 8]))),
    (59, "RST_STREAM of 3 bytes", Fail, |p| then(p, &frame(RST_STREAM, 0, 1, &[0; 3]))),
    (59, "RST_STREAM on stream 0", Fail, |p| then(p, &frame(RST_STREAM, 0, 0, &[0; 4]))),
    (59, "RST_STREAM on an idle stream", Fail, |p| then(p, &frame(RST_STREAM, 0, 9, &[0; 4]))),
    (59, "WINDOW_UPDATE of 3 bytes", Fail, |p| then(p, &frame(super::frames::WINDOW_UPDATE, 0, 0, &[0; 3]))),
    (59, "WINDOW_UPDATE on an idle stream", Fail, |p| then(p, &window(9, 1))),
    (59, "PRIORITY of 4 bytes", Fail, |p| then(p, &frame(PRIORITY, 0, 1, &[0; 4]))),
    (59, "PRIORITY on stream 0", Fail, |p| then(p, &frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 1]))),
    (59, "PRIORITY on itself", Fail, |p| then(p, &frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1]))),
    (59, "HEADERS that depend on themselves", Fail, |p| {
        frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 1], &block(&plain("GET", p))[..]].concat())
    }),
    (59, "GOAWAY on a stream", Fail, |p| then(p, &frame(GOAWAY, 0, 1, &[0; 8]))),
    (59, "PUSH_PROMISE from a client", Fail, |p| {
        then(p, &frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &block(&plain("GET", p))[..]].concat()))
    }),
    (59, "CONTINUATION after nothing", Fail, |p| {
        then(p, &frame(CONTINUATION, END_HEADERS, 1, &block(&[(b"x-a", b"1")])))
    }),
    (59, "CONTINUATION on another stream", Fail, |p| {
        [
            frame(HEADERS, END_STREAM, 1, &block(&plain("GET", p))),
            frame(CONTINUATION, END_HEADERS, 3, &block(&[(b"x-a", b"1")])),
        ]
        .concat()
    }),
    (59, "DATA inside a header block", Fail, |p| {
        [frame(HEADERS, 0, 1, &block(&plain("POST", p))), data(1, END_STREAM, b"abc")].concat()
    }),
    (59, "PING inside a header block", Fail, |p| {
        [
            frame(HEADERS, 0, 1, &block(&plain("POST", p))),
            frame(PING, 0, 0, &[0; 8]),
            frame(CONTINUATION, END_HEADERS, 1, &[]),
        ]
        .concat()
    }),
    (59, "padding longer than its HEADERS", Fail, |p| {
        frame(HEADERS, WHOLE | PADDED, 1, &[&[255], &block(&plain("GET", p))[..20]].concat())
    }),
    (59, "padding longer than its DATA", Fail, |p| then(p, &data(1, END_STREAM | PADDED, &[4, b'a', b'b', b'c']))),
    (59, "padded DATA of no bytes at all", Fail, |p| then(p, &data(1, END_STREAM | PADDED, &[]))),
    (59, "a frame of 16,385 bytes", Fail, |p| then(p, &data(1, END_STREAM, &[b'a'; 16385]))),
    (59, "a frame that says 16 MiB", Fail, |p| then(p, &sized(0xff_ffff, DATA, END_STREAM, 1, b"abc"))),
    (59, "HPACK: index 0", Fail, |p| packed(p, &[0x80])),
    (59, "HPACK: index past the table", Fail, |p| packed(p, &[0xff, 0x80, 0x01])),
    (59, "HPACK: a string cut short", Fail, |p| packed(p, &[0, 3, b'x'])),
    (59, "HPACK: bad Huffman padding", Fail, |p| packed(p, &[0, 1, b'x', 0x81, 0x00])),
    (59, "HPACK: EOS in Huffman", Fail, |p| packed(p, &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff])),
    (59, "HPACK: an integer without end", Fail, |p| {
        packed(p, &[0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
    }),
    (59, "HPACK: a table of 1 MiB", Fail, |p| {
        frame(HEADERS, WHOLE, 1, &[size_update(1 << 20), block(&plain("GET", p))].concat())
    }),
    (59, "HPACK: a size change after a field", Fail, |p| packed(p, &size_update(0))),
    (59, "padded HEADERS and DATA", Must, |p| {
        let head = [&[3], &block(&plain("POST", p))[..], &[0; 3]].concat();
        [frame(HEADERS, END_HEADERS | PADDED, 1, &head), data(1, END_STREAM | PADDED, &[2, b'a', b'b', b'c', 0, 0])]
            .concat()
    }),
    (59, "a head in three frames", Must, |p| {
        let block = block(&plain("GET", p));
        [
            frame(HEADERS, END_STREAM, 1, &block[..7]),
            frame(CONTINUATION, 0, 1, &block[7..30]),
            frame(CONTINUATION, END_HEADERS, 1, &block[30..]),
        ]
        .concat()
    }),
    // Windows (RFC 9113 §6.9)
    (60, "WINDOW_UPDATE by 0, connection", Fail, |p| then(p, &window(0, 0))),
    (60, "WINDOW_UPDATE by 0, stream", Fail, |p| then(p, &window(1, 0))),
    (60, "connection window past 2^31", Fail, |p| then(p, &window(0, 0x7fff_ffff))),
    (60, "stream window past 2^31", Fail, |p| then(p, &window(1, 0x7fff_ffff))),
    (60, "first window of 2^31", Fail, |p| then(p, &settings(&[(4, 0x8000_0000)]))),
    (60, "first window that overflows a stream's", Fail, |p| {
        then(p, &[window(1, 0x7fff_0000), settings(&[(4, 0x7fff_ffff)])].concat())
    }),
    // Unknown things are ignored (RFC 9113 §5.5)
    (68, "a frame of an unknown type", Must, |p| [frame(0xbe, 0xff, 0, b"what"), get(p, &[])].concat()),
    (68, "unknown frames of 16 KiB on the stream", Must, |p| {
        [post(p, &[]), frame(0xbe, 0xff, 1, &[0; 16384]).repeat(4), data(1, END_STREAM, b"abc")].concat()
    }),
    (68, "an unknown setting", Must, |p| [settings(&[(0xbeef, 7)]), get(p, &[])].concat()),
    (68, "unknown flags", Must, |p| headers(1, WHOLE | 0xc2, &plain("GET", p))),
    (68, "the reserved bit of a stream number", Must, |p| headers(0x8000_0001, WHOLE, &plain("GET", p))),
    (68, "an unknown frame inside a header block", Fail, |p| {
        let block = block(&plain("GET", p));
        [
            frame(HEADERS, END_STREAM, 1, &block[..7]),
            frame(0xbe, 0, 1, b"x"),
            frame(CONTINUATION, END_HEADERS, 1, &block[7..]),
        ]
        .concat()
    }),
];

/// The same, without a preface and settings before them (RFC 9113 §3.4).
const BARE: &[Case] = &[
    (69, "HEADERS before SETTINGS", Fail, |p| [PREFACE, &get(p, &[])].concat()),
    (69, "a preface with another end", Fail, |p| {
        [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &settings(&[])[..], &get(p, &[])].concat()
    }),
    (69, "a preface of HTTP/2.1", Fail, |p| {
        [b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", &settings(&[])[..], &get(p, &[])].concat()
    }),
    (69, "a preface cut short, then frames", Fail, |p| [&PREFACE[..16], &settings(&[]), &get(p, &[])].concat()),
    (69, "two prefaces", Fail, |p| [PREFACE, PREFACE, &settings(&[]), &get(p, &[])].concat()),
    (69, "garbage", Fail, |p| [&[0xde; 64], p.as_bytes()].concat()),
    (69, "frames without a preface", Fail, |p| [settings(&[]), get(p, &[])].concat()),
];

/// Connections at a time.
const THREADS: usize = 12;

/// What the sender saw.
enum Seen {
    Error(String),
    Status(u16),
    Silence,
}

/// Sends one case and waits for its end.
fn run(door: Door<'_>, bare: bool, bytes: &[u8]) -> Seen {
    let mut client = if bare { Client::silent(door) } else { Client::open(door) };
    if client.send(bytes).is_err() {
        return Seen::Error("closed".into());
    }
    loop {
        match client.next(Duration::from_secs(4)) {
            Next::Closed => return Seen::Error("closed".into()),
            Next::Quiet => return Seen::Silence,
            Next::Frame(frame) => match frame.kind {
                GOAWAY => return Seen::Error(format!("GOAWAY {}", frame.code())),
                RST_STREAM => return Seen::Error(format!("RST_STREAM {}", frame.code())),
                HEADERS if frame.stream & 1 == 1 => match frame.status() {
                    status @ 400..500 => return Seen::Error(status.to_string()),
                    status => return Seen::Status(status),
                },
                _ => {}
            },
        }
    }
}

/// One door with the application behind it, and everything said there.
struct Site<'a> {
    door: Door<'a>,
    name: &'static str,
    origin: &'a Origin,
}

impl Site<'_> {
    fn path(&self, index: usize) -> String {
        format!("/open/{}/{index}/", self.name)
    }

    fn say(&self, (bare, case): (bool, &Case), index: usize) -> Seen {
        run(self.door, bare, &case.3(&self.path(index)))
    }

    /// The judgement, once everything has been said and this is what the application got.
    fn judge(&self, got: &[Reading], case: &Case, index: usize, seen: Seen) -> Outcome {
        let path = self.path(index);
        let whole = got.iter().flat_map(|reading| &reading.requests);
        let whole: Vec<_> = whole.filter(|request| request.target.contains(&path)).collect();
        match (seen, whole.as_slice(), case.2) {
            (Seen::Error(how), [], Fail | Pass) => Outcome::Refused(how),
            (Seen::Status(200), [request], Pass | Must) if request.target == path => Outcome::Cleaned("200".into()),
            (Seen::Error(how), _, _) => Outcome::Passed(format!("{how}, {} at the application", whole.len())),
            (Seen::Status(status), _, _) => Outcome::Passed(format!("{status}, {} at the application", whole.len())),
            (Seen::Silence, _, _) => Outcome::Passed(format!("silence, {} at the application", whole.len())),
        }
    }

    /// Everything the application got. What two readers could read differently, and what stood inside another request and
    /// became one, fails at once: it cannot be told whose it was.
    fn got(&self) -> Vec<Reading> {
        let readings: Vec<_> = self.origin.bytes().iter().map(|bytes| strict::read(bytes)).collect();
        for reading in &readings {
            assert_eq!(reading.complaint, None, "{}: {:?}", self.name, reading.requests.last());
            for request in &reading.requests {
                assert!(!request.target.contains("second"), "{}: {request:?}", self.name);
            }
        }
        readings
    }
}

#[test]
fn malformed_messages_end_in_errors_and_reach_no_application() {
    let pair = open(Setting::new()).start();
    let envoy = envoy::Callee::start(&pair.setting);
    let inbound = Site { door: Door::inbound(&pair), name: "inbound", origin: &pair.origin };
    let outbound = Site { door: Door::outbound(&pair), name: "outbound", origin: &pair.origin };
    let other = Site { door: envoy.door(&pair.setting.web), name: "envoy", origin: &envoy.origin };
    let cases: Vec<(bool, &Case)> =
        CASES.iter().map(|case| (false, case)).chain(BARE.iter().map(|case| (true, case))).collect();
    // At the plain door what begins otherwise is no HTTP/2, and belongs to other classes.
    let everything = |site: &Site<'_>| -> Vec<Option<Seen>> {
        // Envoy waits a second before it closes, so several cases are said at a time.
        let parts: Vec<Vec<usize>> =
            (0..THREADS).map(|first| (first..cases.len()).step_by(THREADS).collect()).collect();
        let say = |index: usize| (site.name != "outbound" || !cases[index].0).then(|| site.say(cases[index], index));
        let mut seen: Vec<(usize, Option<Seen>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = parts
                .into_iter()
                .map(|part| scope.spawn(move || part.into_iter().map(|at| (at, say(at))).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        seen.sort_by_key(|(index, _)| *index);
        seen.into_iter().map(|(_, seen)| seen).collect()
    };
    let (ours, plain, theirs) = (everything(&inbound), everything(&outbound), everything(&other));
    assert_still_serving(&pair);
    let got = inbound.got();
    // Envoy's application may have been sent anything.
    let theirs_got: Vec<Reading> = envoy.origin.bytes().iter().map(|bytes| strict::read(bytes)).collect();
    let mut table = Table::new("http2-malformed", 53..=69);
    let seen = ours.into_iter().zip(plain).zip(theirs);
    for (index, ((_, case), ((ours, plain), theirs))) in cases.iter().zip(seen).enumerate() {
        let theirs = theirs.map(|seen| other.judge(&theirs_got, case, index, seen));
        if let Some(seen) = ours {
            table.row(case.0, format!("{}, mTLS in", case.1), inbound.judge(&got, case, index, seen), theirs);
        }
        if let Some(seen) = plain {
            table.row(case.0, format!("{}, plain out", case.1), outbound.judge(&got, case, index, seen), None);
        }
    }
    table.judge(&[53, 54, 55, 56, 57, 58, 59, 60, 68, 69]);
}

fn assert_still_serving(pair: &Pair) {
    let reply = support::wire::get(pair.entry(), HOST, "/api/orders/1");
    let stderr = || pair.client.child.stderr.text() + &pair.server.child.stderr.text();
    assert!(reply.as_ref().is_ok_and(|reply| reply.status() == 200), "{reply:?}: {}", stderr());
}
