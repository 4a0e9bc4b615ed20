//! Writing a head as it goes on: the fields as they came, in their order and their case, without what belongs to one hop or
//! may not be claimed, and with what the proxy adds.
//!
//! Lines that stay are copied as they lie in the head, neighbours together. The length of the body is always written anew
//! from the framing that was decided, so that what is said is what is done.

use super::{
    framing::Framing,
    head::{Field, ResponseHead},
};
use crate::{
    decimal::Decimal,
    http::field::{self, Name},
};
use http::{HeaderMap, StatusCode};

/// A request line and the host, in their canonical reading.
pub(crate) struct Line<'a> {
    pub(crate) method: &'a [u8],
    /// The request target to be written.
    pub(crate) target: &'a [u8],
    pub(crate) authority: &'a [u8],
}

/// What the proxy adds to a request.
pub(crate) struct Additions<'a> {
    pub(crate) client_cert: Option<&'a [u8]>,
    /// Absent when the request brought its own.
    pub(crate) forwarded_proto: Option<&'static str>,
    pub(crate) timeout_ms: Option<u64>,
    /// Absent when the request brought its own.
    pub(crate) request_id: Option<&'a [u8]>,
    /// The protocol the connection may change to.
    pub(crate) upgrade: Option<&'a str>,
}

/// Writes a request head.
pub(crate) fn request(
    out: &mut Vec<u8>,
    text: &[u8],
    fields: &[Field],
    line: &Line<'_>,
    framing: Framing,
    add: &Additions<'_>,
) {
    out.reserve(text.len() + 512);
    put(out, &[line.method, b" ", line.target, b" HTTP/1.1\r\n"]);
    let named = Named::of(fields, text);
    let mut copy = Copy::new(text);
    let (mut has_length, mut has_host, mut te_trailers) = (false, false, false);
    for field in fields {
        let stays = match field.known {
            Name::Host => {
                let same = field.value.of(text) == line.authority;
                has_host |= same;
                same
            }
            Name::Te => {
                te_trailers |= field::list(field.value.of(text)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
                false
            }
            Name::ContentLength => {
                has_length = true;
                false
            }
            Name::Connection | Name::Hop | Name::TransferEncoding | Name::Upgrade | Name::Claim | Name::ClientCert => {
                false
            }
            // The caller may have sent an empty one.
            Name::RequestId => add.request_id.is_none(),
            _ => true,
        };
        if stays && !named.removes(field, text) {
            copy.keep(out, field);
        } else {
            copy.flush(out);
        }
    }
    copy.flush(out);
    if !has_host {
        put(out, &[b"host: ", line.authority, b"\r\n"]);
    }
    match framing {
        Framing::Length(length) => length_field(out, length),
        Framing::None if has_length => length_field(out, 0),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None | Framing::Close => {}
    }
    if te_trailers {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    if let Some(element) = add.client_cert {
        put(out, &[b"x-forwarded-client-cert: ", element, b"\r\n"]);
    }
    if let Some(proto) = add.forwarded_proto {
        put(out, &[b"x-forwarded-proto: ", proto.as_bytes(), b"\r\n"]);
    }
    if let Some(ms) = add.timeout_ms {
        put(out, &[b"x-envoy-expected-rq-timeout-ms: ", &Decimal::of(ms), b"\r\n"]);
    }
    if let Some(id) = add.request_id {
        put(out, &[b"x-request-id: ", id, b"\r\n"]);
    }
    if let Some(protocol) = add.upgrade {
        put(out, &[b"connection: upgrade\r\nupgrade: ", protocol.as_bytes(), b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
}

/// How a response's head is written.
pub(crate) struct Answer {
    /// As the body will be framed on its way down. [`Framing::Close`] is not for downstreams.
    pub(crate) framing: Framing,
    /// The head of an answer to HEAD, or a 304: the length stands for a body that is not sent (RFC 9110 §8.6).
    pub(crate) announces: bool,
    pub(crate) service_time_ms: Option<u128>,
    pub(crate) close: bool,
    /// The connection changes its protocol with this response.
    pub(crate) switches: bool,
}

/// Writes a response head.
pub(crate) fn response(out: &mut Vec<u8>, text: &[u8], head: &ResponseHead, fields: &[Field], answer: &Answer) {
    out.reserve(head.length + 128);
    let status = [head.status / 100, head.status / 10 % 10, head.status % 10].map(|digit| b'0' + (digit % 10) as u8);
    put(out, &[b"HTTP/1.1 ", &status, b" ", head.reason.of(text), b"\r\n"]);
    let named = Named::of(fields, text);
    let mut copy = Copy::new(text);
    let mut declared = None;
    for field in fields {
        let stays = match field.known {
            Name::ContentLength => {
                declared = field::number(field.value.of(text));
                false
            }
            Name::Connection | Name::Hop | Name::TransferEncoding => false,
            Name::Upgrade => answer.switches,
            Name::Claim => !field.name.of(text).eq_ignore_ascii_case(b"x-envoy-upstream-service-time"),
            _ => true,
        };
        if stays && (answer.switches || !named.removes(field, text)) {
            copy.keep(out, field);
        } else {
            copy.flush(out);
        }
    }
    copy.flush(out);
    match answer.framing {
        Framing::Length(length) => length_field(out, length),
        Framing::Chunked | Framing::Close => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None if head.status >= 200 && head.status != 204 && !answer.switches => {
            if let Some(length) = declared.filter(|length| answer.announces || *length == 0) {
                length_field(out, length);
            }
        }
        Framing::None => {}
    }
    if let Some(ms) = answer.service_time_ms {
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        put(out, &[b"x-envoy-upstream-service-time: ", &Decimal::of(ms), b"\r\n"]);
    }
    if answer.switches {
        out.extend_from_slice(b"connection: upgrade\r\n");
    } else if answer.close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a head that is not a received one: a local reply, or what came over HTTP/2.
pub(crate) fn response_from_map(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    let reason = status.canonical_reason().unwrap_or_default();
    put(out, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes(), b"\r\n"]);
    map(out, headers);
}

/// Writes a request head that came over HTTP/2.
pub(crate) fn request_from_map(out: &mut Vec<u8>, method: &[u8], target: &[u8], headers: &HeaderMap) {
    put(out, &[method, b" ", target, b" HTTP/1.1\r\n"]);
    map(out, headers);
}

fn map(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body with the trailer fields that may pass (RFC 9110 §6.5.1): none that changes how the
/// message is read, and none that only a head may have.
pub(crate) fn last_chunk(out: &mut Vec<u8>, text: &[u8], fields: &[Field]) {
    out.extend_from_slice(b"0\r\n");
    for field in fields.iter().filter(|field| field.known.passes_as_trailer()) {
        put(out, &[field.name.of(text), b": ", field.value.of(text), b"\r\n"]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The same, with trailers that were filtered already.
pub(crate) fn last_chunk_from_map(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    map(out, trailers);
}

/// Writes the line before a chunk's data.
pub(crate) fn chunk_size(out: &mut Vec<u8>, size: usize) {
    let mut digits = [0; 16];
    let mut left = size;
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef".get(left & 15).copied().unwrap_or(b'0');
        left >>= 4;
        start -= 1;
        if left == 0 {
            break;
        }
    }
    put(out, &[digits.get(start..).unwrap_or_default(), b"\r\n"]);
}

fn length_field(out: &mut Vec<u8>, length: u64) {
    put(out, &[b"content-length: ", &Decimal::of(length), b"\r\n"]);
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Copies runs of lines that stay.
struct Copy<'a> {
    text: &'a [u8],
    run: Option<(usize, usize)>,
}

impl<'a> Copy<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, run: None }
    }

    /// The field's line stays: it goes with the one before if nothing lies between them but the line end.
    fn keep(&mut self, out: &mut Vec<u8>, field: &Field) {
        let (start, end) = (field.name.start(), field.value.end());
        match &mut self.run {
            Some((_, until)) if *until + 2 == start => *until = end,
            _ => {
                self.flush(out);
                self.run = Some((start, end));
            }
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if let Some((start, end)) = self.run.take() {
            put(out, &[self.text.get(start..end).unwrap_or_default(), b"\r\n"]);
        }
    }
}

/// The field names a `Connection` field lists (RFC 9110 §7.6.1).
struct Named<'a> {
    fields: &'a [Field],
    text: &'a [u8],
    any: bool,
}

impl<'a> Named<'a> {
    fn of(fields: &'a [Field], text: &'a [u8]) -> Self {
        // Nearly every `Connection` field is one of these two words, which name no field.
        let usual = |value: &[u8]| value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close");
        let any = fields.iter().any(|field| field.known == Name::Connection && !usual(field.value.of(text)));
        Self { fields, text, any }
    }

    fn removes(&self, field: &Field, text: &[u8]) -> bool {
        self.any
            && field.known.may_be_hop_by_hop()
            && self.fields.iter().filter(|field| field.known == Name::Connection).any(|connection| {
                field::list(connection.value.of(self.text))
                    .any(|option| option.eq_ignore_ascii_case(field.name.of(text)))
            })
    }
}

/// Whether a `Connection` field lists an option.
pub(crate) fn connection_lists(fields: &[Field], text: &[u8], option: &[u8]) -> bool {
    fields
        .iter()
        .filter(|field| field.known == Name::Connection)
        .any(|field| field::list(field.value.of(text)).any(|listed| listed.eq_ignore_ascii_case(option)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::head, *};

    fn forwarded(lines: &str, framing: Framing) -> String {
        let text = format!("GET /a HTTP/1.1\r\n{lines}\r\n");
        let mut fields = Vec::new();
        head::request(text.as_bytes(), &mut fields).unwrap().unwrap();
        let line = Line { method: b"GET", target: b"/a", authority: b"orders" };
        let add =
            Additions { client_cert: None, forwarded_proto: None, timeout_ms: None, request_id: None, upgrade: None };
        let mut out = Vec::new();
        request(&mut out, text.as_bytes(), &fields, &line, framing, &add);
        String::from_utf8(out).unwrap().strip_prefix("GET /a HTTP/1.1\r\n").unwrap().to_owned()
    }

    #[test]
    fn order_and_case_stay_as_they_came() {
        let lines = "X-One: 1\r\nHost: orders\r\naccept: */*\r\nX-Two:2\r\n";
        assert_eq!(forwarded(lines, Framing::None), format!("{lines}\r\n"));
    }

    #[test]
    fn what_belongs_to_one_hop_or_may_not_be_claimed_is_gone() {
        let lines = "Host: orders\r\nConnection: close, X-Foo, host, content-type\r\nX-Foo: 1\r\nContent-Type: a\r\n\
                     Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip, trailers\r\nX-Envoy-Internal: true\r\n\
                     X_Forwarded_Client_Cert: By=x\r\nX-Forwarded-Client-Cert: By=x\r\nX-HTTP-Method-Override: PUT\r\n\
                     Transfer-Encoding: chunked\r\nZ: z\r\n";
        let expected = "Host: orders\r\nContent-Type: a\r\nZ: z\r\ntransfer-encoding: chunked\r\nte: trailers\r\n\r\n";
        assert_eq!(forwarded(lines, Framing::Chunked), expected);
    }

    #[test]
    fn the_host_is_the_judged_one_and_the_length_is_the_decided_one() {
        assert_eq!(forwarded("Host: ORDERS:80\r\nA: b\r\n", Framing::None), "A: b\r\nhost: orders\r\n\r\n");
        assert_eq!(
            forwarded("Host: orders\r\nContent-Length: 007 \r\n", Framing::Length(7)),
            "Host: orders\r\ncontent-length: 7\r\n\r\n"
        );
        assert_eq!(
            forwarded("Content-Length: 0\r\nHost: orders\r\n", Framing::None),
            "Host: orders\r\ncontent-length: 0\r\n\r\n"
        );
    }

    fn answered(text: &str, answer: &Answer) -> String {
        let mut fields = Vec::new();
        let head = head::response(text.as_bytes(), &mut fields).unwrap().unwrap();
        let mut out = Vec::new();
        response(&mut out, text.as_bytes(), &head, &fields, answer);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_keeps_its_fields_and_gets_the_service_time() {
        let answer = Answer {
            framing: Framing::Length(3),
            announces: false,
            service_time_ms: Some(12),
            close: true,
            switches: false,
        };
        let text = "HTTP/1.0 404 Nothing Here\r\nServer: x\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\
                    x-envoy-upstream-service-time: 9\r\nX-Envoy-Custom: y\r\n\r\n";
        assert_eq!(
            answered(text, &answer),
            "HTTP/1.1 404 Nothing Here\r\nServer: x\r\nX-Envoy-Custom: y\r\ncontent-length: 3\r\n\
             x-envoy-upstream-service-time: 12\r\nconnection: close\r\n\r\n"
        );
    }

    #[test]
    fn only_a_head_that_announces_keeps_a_length_without_body() {
        let answer = |announces| Answer {
            framing: Framing::None,
            announces,
            service_time_ms: None,
            close: false,
            switches: false,
        };
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(answered(text, &answer(true)), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
        let text = "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(answered(text, &answer(false)), "HTTP/1.1 204 No Content\r\n\r\n");
    }

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for (size, text) in [(1, "1\r\n"), (16, "10\r\n"), (0xabc, "abc\r\n"), (65_536, "10000\r\n")] {
            let mut out = Vec::new();
            chunk_size(&mut out, size);
            assert_eq!(out, text.as_bytes());
        }
    }
}
