//! One exchange as an HTTP/2 connection of its own, in the clear with prior knowledge (RFC 9113 section 3.3).
//!
//! In: messages that were HTTP/2 on the wire, and how their exchange ended. Out: the bytes of both sides: preface and settings,
//! each message on stream 1 as HEADERS, DATA and trailers, then RST_STREAM where a message has no end, and GOAWAY. What a head
//! says is read from the text that [`crate::head`] has written, so that nothing leaves here that is masked there. Each side
//! announces the largest windows there are at once, so that no length of a body needs another WINDOW_UPDATE.
//!
//! | what happened | RST_STREAM of | code |
//! | --- | --- | --- |
//! | the client broke off | client | CANCEL |
//! | the server broke off, or has no answer, or one without an end | server | INTERNAL_ERROR |
//! | a body is longer than what is copied | who sent it, behind both messages | NO_ERROR |
//! | the answer came before the request's end | server (RFC 9113 section 8.1) | NO_ERROR |

mod block;
mod frame;

use http::Method;

use self::block::{content_length, fields, request_fields, split};
use self::frame::{DATA, END_STREAM, FRAME, GOAWAY, MOST_PAYLOAD, RST_STREAM, STREAM, frame, header, headers};
use crate::counters::Reason;
use crate::exchange::{End, Exchange};
use crate::flow::{Flow, Out};
use crate::head::{self, Head, Line};
use crate::hpack;
use crate::http1::{self, Body, Wire};
use crate::record::{Message, Side};
use crate::redact::Redaction;

/// Writes a request, behind the acknowledgement of the server's settings.
pub(crate) fn request(message: Message, max_body: usize) -> Result<Wire, Reason> {
    let Message { head, redaction, body, body_len, trailers, complete } = message;
    if let Some(reason) = head.fault {
        return Err(reason);
    }
    let Line::Request(method) = &head.line else {
        return Err(Reason::RedactError);
    };
    let mut block = Vec::with_capacity(head.text.len() + CONSTANT);
    request_fields(&mut block, method, &head.text, &redaction).ok_or(Reason::UnsafeHeader)?;
    let body = Body::new(body, body_len, trailers, complete, max_body);
    written(SETTINGS_ACK.to_vec(), block, head, body, &redaction)
}

/// Writes the response to a request of this method.
pub(crate) fn response(message: Message, to: &Method, max_body: usize) -> Result<Wire, Reason> {
    let Message { head, redaction, body, body_len, trailers, complete } = message;
    if let Some(reason) = head.fault {
        return Err(reason);
    }
    let Line::Response(status) = head.line else {
        return Err(Reason::RedactError);
    };
    let mut block = Vec::with_capacity(head.text.len() + CONSTANT);
    hpack::field(&mut block, false, b":status", status.as_str().as_bytes());
    let (_, lines) = split(&head.text);
    fields(&mut block, lines, &redaction).ok_or(Reason::UnsafeHeader)?;
    if !http1::is_bodiless(status, to) {
        let body = Body::new(body, body_len, trailers, complete, max_body);
        return written(Vec::new(), block, head, body, &redaction);
    }
    if let Some(length) = http1::length_without_body(status, to, head.declared) {
        content_length(&mut block, length);
    }
    // An interim answer, behind which none came: it is not the end of its stream (RFC 9113 section 8.1).
    let open_ended = !complete || status.is_informational();
    let mut frames = Vec::with_capacity(block.len() + 2 * FRAME);
    headers(&mut frames, &block, !open_ended);
    Ok(Wire { open_ended, ..Wire::bare(frames, head.masked) })
}

/// Speaks a whole exchange on a connection that was just opened, up to but without its end.
pub(crate) fn speak(flow: &mut Flow, exchange: &Exchange, closes: Side, out: &mut dyn Out) {
    flow.advance(exchange.started);
    flow.send(Side::Client, [PREFACE, CLIENT_SETTINGS, WINDOW], out);
    flow.send(Side::Server, [SERVER_SETTINGS, WINDOW, SETTINGS_ACK], out);
    say(flow, Side::Client, &exchange.request, out);
    if let Some(response) = &exchange.response {
        flow.advance(exchange.answered.unwrap_or(exchange.ended));
        say(flow, Side::Server, response, out);
    }
    flow.advance(exchange.ended);
    let mut farewell = Vec::new();
    if let Some((side, code)) = broken(exchange) {
        frame(&mut farewell, RST_STREAM, 0, STREAM, &code.to_be_bytes());
        if side != closes {
            flow.send(side, [&farewell, &[], &[]], out);
            farewell.clear();
        }
    }
    if !matches!(exchange.end, End::Reset(_)) {
        // The last stream of the other side that was looked at (RFC 9113 section 6.8); a server opens none.
        let last = if closes == Side::Server { STREAM } else { 0 };
        frame(&mut farewell, GOAWAY, 0, 0, &[last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat());
    }
    flow.send(closes, [&farewell, &[], &[]], out);
}

/// One message, its body cut into frames.
fn say(flow: &mut Flow, side: Side, wire: &Wire, out: &mut dyn Out) {
    let mut parts = wire.body.chunks(MOST_PAYLOAD).peekable();
    let first = parts.next().unwrap_or_default();
    let tail = |is_last: bool| if is_last { &wire.tail[..] } else { &[] };
    flow.send(side, [&wire.head, first, tail(parts.peek().is_none())], out);
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let header = header(part.len(), DATA, if is_last { ending(wire) } else { 0 }, STREAM);
        flow.send(side, [&header, part, tail(is_last)], out);
    }
}

/// The flag of the last DATA frame: where nothing follows, it ends the stream.
fn ending(wire: &Wire) -> u8 {
    if wire.open_ended || !wire.tail.is_empty() { 0 } else { END_STREAM }
}

/// Who says that the stream has no proper end, and why; nobody if it has.
fn broken(exchange: &Exchange) -> Option<(Side, u32)> {
    let answer = exchange.response.as_ref().filter(|wire| !wire.open_ended);
    if answer.is_some() && !exchange.request.open_ended {
        return None;
    }
    Some(match (exchange.end, &exchange.response) {
        (End::Reset(Side::Client), _) => (Side::Client, CANCEL),
        (End::Reset(Side::Server), _) => (Side::Server, INTERNAL_ERROR),
        (_, Some(response)) if response.cut => (Side::Server, NO_ERROR),
        _ if answer.is_none() => (Side::Server, INTERNAL_ERROR),
        _ if exchange.request.cut => (Side::Client, NO_ERROR),
        _ => (Side::Server, NO_ERROR),
    })
}

/// Puts a message together: its head with the length, its body, its trailers.
fn written(
    mut frames: Vec<u8>,
    mut block: Vec<u8>,
    mut head: Head,
    mut body: Body,
    redaction: &Redaction,
) -> Result<Wire, Reason> {
    let mut masked = std::mem::take(&mut head.masked);
    body.mask(&head, redaction, &mut masked)?;
    let (length, length_conflict) = body.length(head.declared);
    if let Some(length) = length {
        content_length(&mut block, length);
    }
    let trailers = body.trailers.take().filter(|_| !body.is_open_ended());
    let mut tail = Vec::new();
    if let Some(trailers) = trailers {
        let text = head::trailers(redaction, Vec::new(), &trailers, &mut masked)?;
        let mut block = Vec::with_capacity(text.len() + CONSTANT);
        fields(&mut block, &text, redaction).ok_or(Reason::UnsafeHeader)?;
        headers(&mut tail, &block, true);
    }
    let mut wire = Wire {
        open_ended: body.is_open_ended(),
        cut: body.is_cut(),
        body: body.bytes,
        tail,
        length_conflict,
        ..Wire::bare(Vec::new(), masked)
    };
    frames.reserve(block.len() + 4 * FRAME);
    headers(&mut frames, &block, wire.body.is_empty() && ending(&wire) == END_STREAM);
    if !wire.body.is_empty() {
        let first = wire.body.len().min(MOST_PAYLOAD);
        let flags = if first == wire.body.len() { ending(&wire) } else { 0 };
        frames.extend_from_slice(&header(first, DATA, flags, STREAM));
    }
    wire.head = frames;
    Ok(wire)
}

// RFC 9113 section 7.
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// No push; 2^31-1 bytes may be sent on each stream (RFC 9113 section 6.5.2).
const CLIENT_SETTINGS: &[u8] = b"\0\0\x0c\x04\0\0\0\0\0\0\x02\0\0\0\0\0\x04\x7f\xff\xff\xff";
/// The same window.
const SERVER_SETTINGS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff";
const SETTINGS_ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
/// WINDOW_UPDATE of the connection, from 65,535 to 2^31-1 (RFC 9113 section 6.9.2).
const WINDOW: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0";
/// What pseudo-header fields and the length take beyond the text they are made of.
const CONSTANT: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    use proptest::prelude::*;

    use super::frame::{CONTINUATION, END_HEADERS, HEADERS};
    use super::*;
    use crate::flow::tests::Kept;
    use crate::head::Fields;
    use crate::pool::tests::{MAX_BODY, body, count, opened, pool, record, write};
    use crate::record::Record;

    /// Fields as they stand on the wire.
    struct Raw<'a>(&'a [(&'a [u8], &'a [u8])]);

    impl Fields for Raw<'_> {
        fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            self.0.iter().copied()
        }
    }

    fn over_http2(sent: usize, answered: usize) -> Record {
        Record { http2: true, ..record(1, sent, answered) }
    }

    /// What both sides of the connection that carries this said.
    fn spoken(record: Record) -> (Vec<u8>, Vec<u8>, Kept) {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        write(&mut pool, record, now, &mut out);
        assert_eq!(opened(&out), [40000], "a connection of its own");
        let (mut client, mut server) = (Vec::new(), Vec::new());
        for (tcp, payload) in out.segments() {
            if tcp.source_port == 8080 { server.extend(payload) } else { client.extend(payload) }
        }
        (client, server, out)
    }

    #[derive(Debug)]
    struct Frame<'a> {
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &'a [u8],
    }

    /// The frames of a side, behind the preface if it is the client's.
    fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
        bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
            assert!(length <= MOST_PAYLOAD);
            let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
            frames.push(Frame { kind: bytes[3], flags: bytes[4], stream, payload: &bytes[9..9 + length] });
            bytes = &bytes[9 + length..];
        }
        frames
    }

    /// One word for each frame, with its length where that matters, and a dot for the end of the stream.
    fn story(bytes: &[u8]) -> String {
        let word = |frame: &Frame<'_>| {
            let code = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
            let end = if frame.kind < 2 && frame.flags & END_STREAM != 0 { "." } else { "" };
            assert_eq!(frame.stream, if [4, 7, 8].contains(&frame.kind) { 0 } else { 1 });
            match frame.kind {
                DATA => format!("data {}{end}", frame.payload.len()),
                HEADERS => format!("head{end}"),
                RST_STREAM => format!("reset {}", code(0)),
                4 if frame.flags == 1 => "ack".to_owned(),
                4 => "settings".to_owned(),
                GOAWAY => format!("goaway {} {}", code(0), code(4)),
                8 => format!("window {}", code(0)),
                CONTINUATION => "more".to_owned(),
                kind => panic!("frame {kind}"),
            }
        };
        frames(bytes).iter().map(word).collect::<Vec<_>>().join(", ")
    }

    /// The header block that begins with the given frame.
    fn fields_of(frames: &[Frame<'_>], at: usize) -> Vec<(bool, String, String)> {
        let mut block = Vec::new();
        for (number, frame) in frames[at..].iter().enumerate() {
            assert_eq!(frame.kind, if number == 0 { HEADERS } else { CONTINUATION });
            block.extend_from_slice(frame.payload);
            if frame.flags & END_HEADERS != 0 {
                break;
            }
        }
        let mut rest = &block[..];
        let text = |rest: &mut &[u8]| {
            let (mut length, mut shift) = (usize::from(rest[0]), 0);
            *rest = &rest[1..];
            if length == 127 {
                loop {
                    let byte = rest[0];
                    *rest = &rest[1..];
                    length += usize::from(byte & 127) << shift;
                    shift += 7;
                    if byte & 128 == 0 {
                        break;
                    }
                }
            }
            let (text, behind) = rest.split_at(length);
            *rest = behind;
            String::from_utf8_lossy(text).into_owned()
        };
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let never_indexed = rest[0] == 0x10;
            assert!(never_indexed || rest[0] == 0);
            rest = &rest[1..];
            fields.push((never_indexed, text(&mut rest), text(&mut rest)));
        }
        fields
    }

    /// The head of one side, `name: value` each, `!` before what is never indexed.
    fn head_of(bytes: &[u8]) -> Vec<String> {
        let frames = frames(bytes);
        let at = frames.iter().position(|frame| frame.kind == HEADERS).unwrap();
        let line =
            |(never, name, value): &(bool, String, String)| format!("{}{name}: {value}", if *never { "!" } else { "" });
        fields_of(&frames, at).iter().map(line).collect()
    }

    const CLIENT: &str = "settings, window 2147418112, ack, ";
    const SERVER: &str = "settings, window 2147418112, ack, ";

    #[test]
    fn an_exchange_is_a_connection_with_settings_one_stream_and_a_farewell() {
        let (client, server, out) = spoken(over_http2(10, 20));
        assert!(client.starts_with(PREFACE));
        assert_eq!(story(&client), format!("{CLIENT}head, data 10., goaway 0 0"));
        assert_eq!(story(&server), format!("{SERVER}head, data 20."));
        // Handshake, preface and settings of both, request, response, farewell, the end.
        assert_eq!(out.0.len(), 3 + 2 + 2 + 1 + 3);
        let (client, server, _) = spoken(over_http2(0, 0));
        assert_eq!(story(&client), format!("{CLIENT}head., goaway 0 0"));
        assert_eq!(story(&server), format!("{SERVER}head."));
    }

    #[test]
    fn bodies_are_cut_into_frames_that_every_peer_takes() {
        for (length, expected) in [
            (1, "data 1."),
            (16_384, "data 16384."),
            (16_385, "data 16384, data 1."),
            (40_000, "data 16384, data 16384, data 7232."),
        ] {
            let (client, server, _) = spoken(over_http2(length, length));
            for (side, end) in [(&client, ", goaway 0 0"), (&server, "")] {
                assert_eq!(story(side), format!("{CLIENT}head, {expected}{end}"));
                let data = frames(side).iter().filter(|frame| frame.kind == DATA).flat_map(|f| f.payload).count();
                assert_eq!(data, length);
            }
        }
    }

    #[test]
    fn heads_have_pseudo_fields_and_nothing_of_a_connection() {
        let raw = Raw(&[
            (b"TE", b"trailers"),
            (b"X-Mixed", b" a \t"),
            (b"connection", b"keep-alive, x-hop"),
            (b"x-hop", b"1"),
            (b"upgrade", b"h2c"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=22"),
            (b"authorization", b"Bearer s3cret"),
            (b"content-length", b"10"),
        ]);
        let mut asked = over_http2(10, 0);
        let request = Message::request(&Arc::default(), Method::PUT, "/a?token=s3cret&b", Some("orders:1"), &raw);
        asked.request = Message { body: body(10), body_len: 10, complete: true, ..request };
        let (client, server, _) = spoken(asked);
        let expected = [
            ":method: PUT",
            ":scheme: http",
            ":path: /a?token=******&b",
            ":authority: orders:1",
            "te: trailers",
            "x-mixed: a",
            "!cookie: *********",
            "!authorization: Bearer ******",
            "content-length: 10",
        ];
        assert_eq!(head_of(&client), expected);
        assert_eq!(head_of(&server), [":status: 200"]);
    }

    #[test]
    fn a_host_that_is_hidden_is_so_and_connect_has_no_path() {
        let redaction = Arc::new(Redaction::new([crate::Secret::Header("host")], []));
        let mut asked = over_http2(0, 0);
        asked.request = Message::request(&redaction, Method::CONNECT, "/", Some("orders:1"), &HeaderMap::new());
        asked.request.complete = true;
        asked.response = Some(Message::response(&redaction, StatusCode::FORBIDDEN, &HeaderMap::new()));
        assert_eq!(head_of(&spoken(asked).0), [":method: CONNECT", "!:authority: ********"]);
    }

    #[test]
    fn trailers_end_the_stream() {
        let mut call = over_http2(5, 7);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("authorization", HeaderValue::from_static("s3cret"));
        call.response.as_mut().unwrap().trailers = Some(trailers);
        let (_, server, _) = spoken(call);
        assert_eq!(story(&server), format!("{SERVER}head, data 7, head."));
        let all = frames(&server);
        let fields = fields_of(&all, all.len() - 1);
        let of = |never, name: &str, value: &str| (never, name.to_owned(), value.to_owned());
        assert_eq!(fields, [of(false, "grpc-status", "0"), of(true, "authorization", "******")]);
    }

    #[test]
    fn a_long_head_goes_on_in_further_frames() {
        let mut asked = over_http2(0, 0);
        let mut headers = HeaderMap::new();
        for number in 0..4 {
            let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from_bytes(&body(10_000)).unwrap());
        }
        asked.request = Message::request(&Arc::default(), Method::GET, "/", Some("orders"), &headers);
        asked.request.complete = true;
        let (client, ..) = spoken(asked);
        assert_eq!(story(&client), format!("{CLIENT}head., more, more, goaway 0 0"));
        assert_eq!(head_of(&client).len(), 4 + 4);
    }

    #[test]
    fn what_has_no_end_is_reset_by_who_ended_it() {
        type Change = fn(&mut Record);
        let cases: [(&str, Change, &str, &str); 7] = [
            ("client broke off", |r| r.aborted = Some(Side::Client), "head, data 10, reset 8", "head, data 20"),
            ("server broke off", |r| r.aborted = Some(Side::Server), "head, data 10", "head, data 20, reset 2"),
            ("no answer", |r| r.response = None, "head, data 10.", "reset 2, goaway 1 0"),
            (
                "long answer",
                |r| r.response.as_mut().unwrap().body_len = 21,
                "head, data 10.",
                "head, data 20, reset 0, goaway 1 0",
            ),
            ("long request", |r| r.request.body_len = 11, "head, data 10, reset 0", "head, data 20., goaway 1 0"),
            ("early answer", |r| r.request.complete = false, "head, data 10", "head, data 20., reset 0, goaway 1 0"),
            (
                "both long",
                |r| (r.request.body_len, r.response.as_mut().unwrap().body_len) = (11, 21),
                "head, data 10",
                "head, data 20, reset 0, goaway 1 0",
            ),
        ];
        for (what, change, asked, answered) in cases {
            let mut broken = over_http2(10, 20);
            change(&mut broken);
            if broken.aborted.is_some() {
                broken.request.complete = false;
                broken.response.as_mut().unwrap().complete = false;
            }
            let aborted = broken.aborted;
            let (client, server, out) = spoken(broken);
            assert_eq!(story(&client), format!("{CLIENT}{asked}"), "{what}");
            assert_eq!(story(&server), format!("{SERVER}{answered}"), "{what}");
            let ends = (count(&out, |tcp| tcp.fin), count(&out, |tcp| tcp.rst));
            assert_eq!(ends, if aborted.is_some() { (0, 1) } else { (2, 0) }, "{what}");
        }
    }

    #[test]
    fn an_interim_answer_is_not_the_end() {
        let mut asked = over_http2(0, 0);
        asked.response = Some(Message::response(&Arc::default(), StatusCode::EARLY_HINTS, &HeaderMap::new()));
        asked.response.as_mut().unwrap().complete = true;
        assert_eq!(story(&spoken(asked).1), format!("{SERVER}head, reset 2, goaway 1 0"));
    }

    #[test]
    fn answers_without_body_have_none() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("77"));
        for (method, status, length) in [(Method::HEAD, 200, true), (Method::GET, 304, true), (Method::GET, 204, false)]
        {
            let mut asked = over_http2(0, 0);
            asked.request = Message::request(&Arc::default(), method, "/", Some("orders"), &HeaderMap::new());
            asked.request.complete = true;
            let status = StatusCode::from_u16(status).unwrap();
            let response = Message::response(&Arc::default(), status, &headers);
            asked.response = Some(Message { complete: true, ..response });
            let (_, server, _) = spoken(asked);
            assert_eq!(story(&server), format!("{SERVER}head."));
            assert_eq!(head_of(&server).iter().any(|line| line == "content-length: 77"), length);
        }
    }

    #[test]
    fn what_was_http1_or_turns_into_a_stream_stays_text() {
        let mut plain = over_http2(10, 20);
        plain.http2 = false;
        assert!(spoken(plain).0.starts_with(b"POST /1 HTTP/1.1\r\n"));
        let mut tunnel = over_http2(0, 0);
        tunnel.request = Message::request(&Arc::default(), Method::CONNECT, "/", Some("orders:1"), &HeaderMap::new());
        assert!(spoken(tunnel).0.starts_with(b"CONNECT orders:1 HTTP/1.1\r\n"));
        let mut unread = over_http2(0, 0);
        unread.request = Message::unread(&Arc::default(), b"GET / HTTP/1.1\r\nx\r\n");
        assert!(spoken(unread).0.starts_with(b"GET / HTTP/1.1\r\n"));
    }

    #[test]
    fn frames_pass_when_their_messages_did() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        let mut timed = over_http2(10, 10);
        let at = |millis| now + Duration::from_millis(millis);
        (timed.started, timed.answered, timed.ended) = (now, Some(at(20)), at(30));
        write(&mut pool, timed, at(31), &mut out);
        let millis: Vec<_> = out.1.iter().map(|at| at.duration_since(now).as_millis()).collect();
        assert_eq!(millis, [0, 0, 0, 0, 0, 0, 20, 30, 30, 30, 30]);
    }

    #[test]
    fn exchanges_of_one_connection_have_the_real_port_once_and_then_others() {
        let (mut pool, mut out, now) = (pool(), Kept::default(), Instant::now());
        for _ in 0..3 {
            write(&mut pool, over_http2(10, 20), now, &mut out);
        }
        assert_eq!(opened(&out), [40000, 61000, 61001]);
        assert_eq!((count(&out, |tcp| tcp.fin), pool.next_expiry()), (6, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_exchange_reads_back_as_it_was(
            sent in 0usize..MAX_BODY,
            answered in 0usize..MAX_BODY,
            path in "/[!-~&&[^?#]]{0,300}",
            value in "[!-~]{0,300}",
        ) {
            let mut asked = over_http2(sent, answered);
            let request = Message::request(
                &Arc::default(), Method::POST, &path, Some("orders"), &Raw(&[(b"x-value", value.as_bytes())]),
            );
            asked.request = Message { body: body(sent), body_len: sent as u64, complete: true, ..request };
            let (client, server, _) = spoken(asked);
            let head = head_of(&client);
            prop_assert_eq!(&head[2], &format!(":path: {path}"));
            prop_assert_eq!(&head[4], &format!("x-value: {value}"));
            for (side, length) in [(&client, sent), (&server, answered)] {
                let all = frames(side);
                let data: Vec<u8> = all.iter().filter(|f| f.kind == DATA).flat_map(|f| f.payload.to_vec()).collect();
                prop_assert_eq!(data, body(length));
                let ends = all.iter().filter(|f| f.kind < 2 && f.flags & END_STREAM != 0).count();
                prop_assert_eq!(ends, 1);
            }
        }
    }
}
