//! One message as HTTP/1.1 text (RFC 9112), whatever version it travelled in.
//!
//! In: a [`Message`] as the data path saw it. Out: head, body and tail bytes, secrets masked, framing its own: what the copy
//! says of the length is what was seen.

use http::header::HeaderMap;
use http::{Method, StatusCode};

use crate::counters::Reason;
use crate::head::{self, Declared, Head, Line};
use crate::record::Message;
use crate::redact::{Masked, Redaction};

/// A message ready to be cut into segments.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) tail: Vec<u8>,
    /// The message ends with the connection: cut at `max_body`, or its end was never seen.
    pub(crate) open_ended: bool,
    /// Cut at `max_body`.
    pub(crate) cut: bool,
    /// A declared length contradicted the bytes seen and was replaced.
    pub(crate) length_conflict: bool,
    /// What stands in none of the three.
    pub(crate) masked: Masked,
}

impl Wire {
    /// A head and nothing else.
    pub(crate) fn bare(head: Vec<u8>, masked: Masked) -> Self {
        Self { head, body: Vec::new(), tail: Vec::new(), open_ended: false, cut: false, length_conflict: false, masked }
    }

    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len() + self.tail.len()
    }
}

/// Writes a request.
pub(crate) fn request(message: Message, max_body: usize) -> Result<Wire, Reason> {
    let Message { head, redaction, body, body_len, trailers, complete } = message;
    if let Some(reason) = head.fault {
        return Err(reason);
    }
    match head.line {
        Line::Request(_) => {}
        // What framing it has is its own, and nobody knows where it ends.
        Line::Unread => return Ok(Wire { open_ended: true, ..Wire::bare(head.text, head.masked) }),
        Line::Response(_) => return Err(Reason::RedactError),
    }
    let body = Body::new(body, body_len, trailers, complete, max_body);
    let bare = body.seen == 0 && complete && !head.is_chunked;
    body.write(head, &redaction, if bare { Undeclared::Nothing } else { Undeclared::Chunked })
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
    if is_bodiless(status, to) {
        let mut text = Text(head.text, head.masked);
        if let Some(length) = length_without_body(status, to, head.declared) {
            text.length(length);
        }
        return Ok(text.end(Body::new(Vec::new(), 0, None, complete, 0)));
    }
    let body = Body::new(body, body_len, trailers, complete, max_body);
    let bare = body.seen == 0 && complete && !head.is_chunked;
    body.write(head, &redaction, if bare { Undeclared::Zero } else { Undeclared::Chunked })
}

/// After this response the connection no longer carries HTTP messages of its own.
pub(crate) fn ends_http(status: StatusCode, to: &Method) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*to == Method::CONNECT && status.is_success())
}

/// RFC 9112 section 6.3, points 1 and 2.
pub(crate) fn is_bodiless(status: StatusCode, to: &Method) -> bool {
    *to == Method::HEAD || status.is_informational() || status == 204 || status == 304 || ends_http(status, to)
}

/// A HEAD or 304 response may tell the length that a GET would have (RFC 9110 section 8.6); the others have none.
pub(crate) fn length_without_body(status: StatusCode, to: &Method, declared: Declared) -> Option<u64> {
    match declared {
        Declared::Length(length) if *to == Method::HEAD || status == 304 => Some(length),
        _ => None,
    }
}

/// The head as its end is written.
struct Text(Vec<u8>, Masked);

impl Text {
    fn length(&mut self, n: u64) {
        self.0.extend_from_slice(b"content-length: ");
        head::number(&mut self.0, n, 10);
        self.0.extend_from_slice(b"\r\n");
    }

    fn end(mut self, body: Body) -> Wire {
        self.0.extend_from_slice(b"\r\n");
        Wire {
            head: self.0,
            open_ended: body.is_open_ended(),
            cut: body.is_cut(),
            body: body.bytes,
            tail: Vec::new(),
            length_conflict: false,
            masked: self.1,
        }
    }
}

/// A body and its end.
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    seen: u64,
    pub(crate) trailers: Option<HeaderMap>,
    complete: bool,
}

impl Body {
    pub(crate) fn new(
        mut bytes: Vec<u8>,
        seen: u64,
        trailers: Option<HeaderMap>,
        complete: bool,
        max_body: usize,
    ) -> Self {
        let seen = seen.max(bytes.len() as u64);
        bytes.truncate(max_body);
        Self { bytes, seen, trailers: trailers.filter(|t| !t.is_empty()), complete }
    }

    /// More came than is copied.
    pub(crate) fn is_cut(&self) -> bool {
        self.seen > self.bytes.len() as u64
    }

    /// Its end is not copied, or was never seen.
    pub(crate) fn is_open_ended(&self) -> bool {
        self.is_cut() || !self.complete
    }

    /// Masks what is secret in it.
    pub(crate) fn mask(&mut self, head: &Head, redaction: &Redaction, masked: &mut Masked) -> Result<(), Reason> {
        let is_open_ended = self.is_open_ended();
        redaction.body(head.media, head.is_coded, &mut self.bytes, is_open_ended, masked)
    }

    /// The length to be told, if any, and whether what was declared contradicts what was seen. A length is kept where it is
    /// what was seen, or where more was announced than came.
    pub(crate) fn length(&self, declared: Declared) -> (Option<u64>, bool) {
        match declared {
            Declared::Nothing => (None, false),
            Declared::Length(n) if n == self.seen || (!self.complete && n > self.seen) => (Some(n), false),
            _ => (self.complete.then_some(self.seen), true),
        }
    }

    /// Chooses the framing and puts the message together.
    fn write(mut self, mut head: Head, redaction: &Redaction, undeclared: Undeclared) -> Result<Wire, Reason> {
        let mut masked = std::mem::take(&mut head.masked);
        self.mask(&head, redaction, &mut masked)?;
        let declared = head.declared;
        let mut text = Text(head.text, masked);
        let (length, conflict) = self.length(declared);
        let chunked = match length {
            _ if self.trailers.is_some() => true,
            Some(n) => {
                text.length(n);
                false
            }
            None => conflict || undeclared == Undeclared::Chunked,
        };
        if !chunked && declared == Declared::Nothing && undeclared == Undeclared::Zero {
            text.length(0);
        }
        let mut wire = if chunked { self.write_chunked(text, redaction)? } else { text.end(self) };
        wire.length_conflict = conflict;
        Ok(wire)
    }

    /// RFC 9112 section 7.1: what was taken is one chunk; a body whose end is not copied has no last chunk.
    fn write_chunked(mut self, mut text: Text, redaction: &Redaction) -> Result<Wire, Reason> {
        head::field(&mut text.0, b"transfer-encoding", b"chunked");
        let trailers = self.trailers.take();
        let whole = self.complete && !self.is_cut();
        let mut wire = text.end(self);
        if !wire.body.is_empty() {
            head::number(&mut wire.head, wire.body.len() as u64, 16);
            wire.head.extend_from_slice(b"\r\n");
            wire.tail.extend_from_slice(b"\r\n");
        }
        if whole {
            wire.tail.extend_from_slice(b"0\r\n");
            if let Some(trailers) = &trailers {
                wire.tail = head::trailers(redaction, wire.tail, trailers, &mut wire.masked)?;
            }
            wire.tail.extend_from_slice(b"\r\n");
        }
        Ok(wire)
    }
}

/// What stands for a body of which no length was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undeclared {
    /// A request without body: no framing field.
    Nothing,
    /// A response without body: `content-length: 0`, or it would last until the connection closes.
    Zero,
    Chunked,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::head::Fields;

    const MAX: usize = 1000;

    fn fields(list: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in list.iter().map(field) {
            map.append(name, value);
        }
        map
    }

    fn call(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Message {
        call_to(None, method, target, &fields(headers), body)
    }

    fn call_to(authority: Option<&str>, method: &str, target: &str, headers: &impl Fields, body: &[u8]) -> Message {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut m = Message::request(&Arc::default(), method, target, authority, headers);
        (m.body, m.body_len, m.complete) = (body.to_vec(), body.len() as u64, true);
        m
    }

    fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Message {
        let status = StatusCode::from_u16(status).unwrap();
        let mut m = Message::response(&Arc::default(), status, &fields(headers));
        (m.body, m.body_len, m.complete) = (body.to_vec(), body.len() as u64, true);
        m
    }

    fn text(wire: &Wire) -> String {
        String::from_utf8([&wire.head[..], &wire.body, &wire.tail].concat()).unwrap()
    }

    fn asked(message: Message) -> String {
        text(&request(message, MAX).unwrap())
    }

    fn answered(message: Message) -> String {
        text(&response(message, &Method::GET, MAX).unwrap())
    }

    #[test]
    fn http2_request_becomes_request_line_and_host() {
        let headers = fields(&[("accept", "*/*"), ("te", "trailers")]);
        let m = call_to(Some("orders.shop.svc"), "GET", "/a?b=c", &headers, b"");
        assert_eq!(asked(m), "GET /a?b=c HTTP/1.1\r\nhost: orders.shop.svc\r\naccept: */*\r\nte: trailers\r\n\r\n");
    }

    #[test]
    fn authority_replaces_a_host_header() {
        let m = call_to(Some("true"), "GET", "/", &fields(&[("host", "forged")]), b"");
        assert_eq!(asked(m), "GET / HTTP/1.1\r\nhost: true\r\n\r\n");
    }

    #[test]
    fn fields_of_the_real_connection_are_left_out() {
        let seen = asked(call(
            "GET",
            "/",
            &[("x-a", "1"), ("host", "h"), ("connection", "keep-alive, X-Hop"), ("keep-alive", "5"), ("x-hop", "1")],
            b"",
        ));
        assert_eq!(seen, "GET / HTTP/1.1\r\nhost: h\r\nx-a: 1\r\n\r\n");
    }

    #[test]
    fn upgrade_attempt_stays_visible() {
        let seen = asked(call(
            "GET",
            "/",
            &[("upgrade", "h2c"), ("connection", "upgrade, http2-settings"), ("http2-settings", "A")],
            b"",
        ));
        assert_eq!(seen, "GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n");
    }

    #[test]
    fn cookie_crumbs_are_joined_and_masked() {
        let seen = asked(call("GET", "/", &[("cookie", "a=1"), ("cookie", "b=22")], b""));
        assert_eq!(seen, "GET / HTTP/1.1\r\ncookie: *********\r\n\r\n");
    }

    #[test]
    fn secrets_are_masked_in_lines_headers_and_trailers() {
        let seen = asked(call(
            "GET",
            "/?token=s3cret",
            &[("authorization", "Bearer s3cret"), ("referer", "http://a/?code=s3cret"), ("x-mesh-src", "forged")],
            b"",
        ));
        assert_eq!(
            seen,
            "GET /?token=****** HTTP/1.1\r\nauthorization: Bearer ******\r\nreferer: http://a/?code=******\r\n\r\n"
        );
        let mut m = reply(200, &[("set-cookie", "s3cret")], b"");
        m.trailers = Some(fields(&[("authorization", "s3cret")]));
        assert!(!answered(m).contains("s3cret"));
    }

    /// Fields as they stand on the wire.
    struct Raw<'a>(&'a [(&'a [u8], &'a [u8])]);

    impl Fields for Raw<'_> {
        fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            self.0.iter().copied()
        }
    }

    #[test]
    fn names_mean_the_same_in_any_case_and_keep_it() {
        let raw = Raw(&[
            (b"HOST", b"h"),
            (b"X-Hop", b"1"),
            (b"Cookie", b"a=1"),
            (b"X-A", b"1"),
            (b"Connection", b"x-hop, Keep-Alive"),
            (b"AUTHORIZATION", b"Bearer s3cret"),
            (b"Referer", b"/?Code=s3cret"),
            (b"COOKIE", b"b=22"),
            (b"X-Mesh-Src", b"forged"),
            (b"Upgrade", b"a"),
            (b"UPGRADE", b"b"),
            (b"Content-Length", b"2"),
        ]);
        assert_eq!(
            asked(call_to(None, "POST", "/", &raw, b"hi")),
            "POST / HTTP/1.1\r\nHOST: h\r\nCookie: *********\r\nX-A: 1\r\nAUTHORIZATION: Bearer ******\r\n\
             Referer: /?Code=******\r\nconnection: upgrade\r\nUpgrade: a\r\nUPGRADE: b\r\ncontent-length: 2\r\n\r\nhi"
        );
    }

    #[test]
    fn undeclared_body_is_chunked_and_declared_one_is_not() {
        let seen = asked(call("POST", "/", &[], b"hello"));
        assert_eq!(seen, "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let seen = asked(call("POST", "/", &[("content-length", "5")], b"hello"));
        assert_eq!(seen, "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(answered(reply(200, &[], b"")), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let seen = answered(reply(200, &[("transfer-encoding", "chunked")], b""));
        assert_eq!(seen, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    }

    #[test]
    fn grpc_status_travels_as_chunked_trailer() {
        let mut m = reply(200, &[("content-type", "application/grpc"), ("content-length", "3")], b"abc");
        m.trailers = Some(fields(&[("grpc-status", "0")]));
        let wire = response(m, &Method::POST, MAX).unwrap();
        assert!(!wire.length_conflict && !wire.open_ended);
        assert_eq!(
            text(&wire),
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\ngrpc-status: 0\r\n\r\n"
        );
    }

    #[test]
    fn contradicting_length_is_replaced_by_what_was_seen() {
        for lengths in [
            &[("content-length", "4")][..],
            &[("content-length", "5"), ("content-length", "6")],
            &[("content-length", "+5")],
        ] {
            let wire = request(call("POST", "/", lengths, b"hello"), MAX).unwrap();
            assert!(wire.length_conflict);
            assert_eq!(text(&wire), "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello");
        }
        let same =
            request(call("POST", "/", &[("content-length", "5, 5"), ("content-length", "5")], b"hello"), MAX).unwrap();
        assert!(!same.length_conflict);
    }

    #[test]
    fn long_body_is_cut_and_its_true_length_still_told() {
        let wire = request(call("POST", "/", &[("content-length", "1500")], &[b'x'; 1500]), MAX).unwrap();
        assert!(wire.cut && wire.open_ended && text(&wire).contains("content-length: 1500\r\n"));
        assert_eq!((wire.body.len(), wire.tail.len()), (MAX, 0));
        let wire = request(call("POST", "/", &[], &[b'x'; 1500]), MAX).unwrap();
        assert!(wire.cut && wire.head.ends_with(b"\r\n\r\n3e8\r\n"));
        assert_eq!(wire.tail, b"\r\n");
    }

    #[test]
    fn message_that_was_never_finished_has_no_end_in_the_copy() {
        let mut m = call("POST", "/", &[], b"abc");
        m.complete = false;
        let wire = request(m, MAX).unwrap();
        assert!(wire.open_ended && !wire.cut && text(&wire).ends_with("3\r\nabc\r\n"));
        let mut m = call("POST", "/", &[("content-length", "9")], b"abc");
        m.complete = false;
        let wire = request(m, MAX).unwrap();
        assert!(!wire.length_conflict && text(&wire).contains("content-length: 9\r\n"));
    }

    #[test]
    fn responses_without_body_have_none() {
        let head = text(&response(reply(200, &[("content-length", "77")], b""), &Method::HEAD, MAX).unwrap());
        assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n");
        assert_eq!(answered(reply(204, &[("content-length", "7")], b"")), "HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(
            answered(reply(304, &[("content-length", "7")], b"")),
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n"
        );
        assert_eq!(
            answered(reply(101, &[("upgrade", "websocket")], b"")),
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
        let tunnel = text(&response(reply(200, &[], b""), &Method::CONNECT, MAX).unwrap());
        assert_eq!(tunnel, "HTTP/1.1 200 OK\r\n\r\n");
    }

    #[test]
    fn text_that_would_forge_a_message_is_refused() {
        for target in ["/a\r\nx: y", "/a b", "/a\0", "", "/\t", "/a HTTP/1.1\r\n\r\nGET /b"] {
            assert_eq!(request(call("GET", target, &[], b""), MAX).unwrap_err(), Reason::UnsafeHeader, "{target:?}");
        }
        for host in ["a\r\nb: c", "a b", ""] {
            let m = call_to(Some(host), "GET", "/", &fields(&[]), b"");
            assert_eq!(request(m, MAX).unwrap_err(), Reason::UnsafeHeader);
        }
        for value in [&b"a\rb"[..], b"a\nb", b"a\0b"] {
            // `HeaderValue` and our own head reader refuse these bytes themselves; the check stands behind them.
            for name in [&b"cookie"[..], b"x-a", b"Upgrade", b"host"] {
                let m = call_to(None, "GET", "/", &Raw(&[(name, value)]), b"");
                assert_eq!(request(m, MAX).unwrap_err(), Reason::UnsafeHeader);
            }
        }
        for name in [&b"x\r\ny"[..], b"x y", b"x:", b"x\0", b"x\xff"] {
            let m = call_to(None, "GET", "/", &Raw(&[(name, b"1")]), b"");
            assert_eq!(request(m, MAX).unwrap_err(), Reason::UnsafeHeader);
        }
        assert_eq!(request(reply(200, &[], b""), MAX).unwrap_err(), Reason::RedactError);
        assert_eq!(response(call("GET", "/", &[], b""), &Method::GET, MAX).unwrap_err(), Reason::RedactError);
    }

    proptest! {
        #[test]
        fn independent_reader_finds_exactly_what_was_said(
            target in "/[!-~&&[^?#]]{0,30}",
            headers in prop::collection::vec(("x-[a-z]{1,8}", "[!-~\u{a0}-\u{ff}]([ -~\t]{0,20}[!-~])?"), 0..12),
            body in prop::collection::vec(any::<u8>(), 0..300),
            declare: bool,
        ) {
            let length = body.len().to_string();
            let mut list: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            if declare { list.push(("content-length", &length)); }
            let raw = |(n, v): &(&str, &str)| (HeaderName::from_bytes(n.as_bytes()).unwrap(), HeaderValue::from_bytes(v.as_bytes()).unwrap());
            let mut map = HeaderMap::new();
            for (name, value) in list.iter().map(raw) { map.append(name, value); }
            let m = call_to(None, "POST", &target, &map, &body);
            let wire = request(m, MAX).unwrap();

            let mut seen = [httparse::EMPTY_HEADER; 32];
            let mut parsed = httparse::Request::new(&mut seen);
            let all = [&wire.head[..], &wire.body, &wire.tail].concat();
            let httparse::Status::Complete(head) = parsed.parse(&all).unwrap() else { panic!("no end of head") };
            prop_assert_eq!((parsed.method, parsed.path, parsed.version), (Some("POST"), Some(target.as_str()), Some(1)));
            for name in map.keys() {
                let said: Vec<&[u8]> = map.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                let read: Vec<&[u8]> = parsed.headers.iter().filter(|h| h.name == name.as_str()).map(|h| h.value).collect();
                prop_assert_eq!(said, read);
            }
            let mut rest = &all[head..];
            let mut read = Vec::new();
            if parsed.headers.iter().any(|h| h.name == "transfer-encoding") {
                while let httparse::Status::Complete((start, size)) = httparse::parse_chunk_size(rest).unwrap() {
                    let end = start + size as usize;
                    read.extend_from_slice(&rest[start..end]);
                    prop_assert_eq!(&rest[end..end + 2], b"\r\n");
                    rest = &rest[end + 2..];
                    if size == 0 { break; }
                }
                prop_assert!(rest.is_empty());
            } else {
                read = rest.to_vec();
            }
            prop_assert_eq!(read, body);
        }
    }
}
