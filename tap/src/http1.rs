//! One message as HTTP/1.1 text (RFC 9112), whatever version it travelled in.
//!
//! In: a [`Message`] as the data path saw it. Out: head, body and tail bytes, secrets masked, framing its own.
//! Refuses what would forge messages to the IDS: CR, LF or NUL in a value, a blank or control character in a target
//! or authority. HTTP/2 allows bytes in its fields that HTTP/1.1 text cannot carry (RFC 9113 section 10.3).

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};

use crate::counters::Reason;
use crate::record::{Head, Message};
use crate::redact::{self, Treatment};

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
}

impl Wire {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len() + self.tail.len()
    }
}

/// Writes a request.
pub(crate) fn request(message: Message, max_body: usize) -> Result<Wire, Reason> {
    let Message { head, body, body_len, trailers, complete, .. } = message;
    let Head::Request { method, target, authority, headers } = head else {
        return Err(Reason::RedactError);
    };
    let mut text = Text::with_room(&headers);
    text.request_line(&method, &target, authority.as_deref())?;
    text.headers(&headers, authority.is_some())?;
    let body = Body::new(body, body_len, trailers, complete, max_body);
    let bare = body.seen == 0 && complete && !is_chunked(&headers);
    body.write(text, &headers, if bare { Undeclared::Nothing } else { Undeclared::Chunked })
}

/// Writes the response to a request of this method.
pub(crate) fn response(message: Message, to: &Method, max_body: usize) -> Result<Wire, Reason> {
    let Message { head, body, body_len, trailers, complete, .. } = message;
    let Head::Response { status, headers } = head else {
        return Err(Reason::RedactError);
    };
    let mut text = Text::with_room(&headers);
    text.status_line(status);
    text.headers(&headers, false)?;
    if is_bodiless(status, to) {
        // A HEAD or 304 response may tell the length that a GET would have (RFC 9110 section 8.6); the others have none.
        if let (true, Declared::Length(n)) = (*to == Method::HEAD || status == 304, declared(&headers)) {
            text.length(n);
        }
        return Ok(text.end(Body::new(Vec::new(), 0, None, complete, 0)));
    }
    let body = Body::new(body, body_len, trailers, complete, max_body);
    let bare = body.seen == 0 && complete && !is_chunked(&headers);
    body.write(text, &headers, if bare { Undeclared::Zero } else { Undeclared::Chunked })
}

/// After this response the connection no longer carries HTTP messages of its own.
pub(crate) fn ends_http(status: StatusCode, to: &Method) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*to == Method::CONNECT && status.is_success())
}

/// RFC 9112 section 6.3, points 1 and 2.
fn is_bodiless(status: StatusCode, to: &Method) -> bool {
    *to == Method::HEAD || status.is_informational() || status == 204 || status == 304 || ends_http(status, to)
}

/// The head as it is written.
struct Text(Vec<u8>);

impl Text {
    fn with_room(headers: &HeaderMap) -> Self {
        let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        Self(Vec::with_capacity(fields + 256))
    }

    fn request_line(&mut self, method: &Method, target: &str, authority: Option<&str>) -> Result<(), Reason> {
        // CONNECT names a host and port instead of a path (RFC 9112 section 3.2.3).
        let target = match authority {
            Some(authority) if *method == Method::CONNECT => authority,
            _ => target,
        };
        for word in [Some(target), authority].into_iter().flatten() {
            if word.is_empty() || word.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
                return Err(Reason::UnsafeHeader);
            }
        }
        self.put(&[method.as_str().as_bytes(), b" ", &redact::url(target.as_bytes()), b" HTTP/1.1\r\n"]);
        if let Some(authority) = authority {
            self.field(&header::HOST, authority.as_bytes());
        }
        Ok(())
    }

    fn status_line(&mut self, status: StatusCode) {
        let reason = status.canonical_reason().unwrap_or_default();
        self.put(&[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes(), b"\r\n"]);
    }

    /// Every header but those that speak of the real connection and its framing.
    fn headers(&mut self, headers: &HeaderMap, has_authority: bool) -> Result<(), Reason> {
        if !has_authority {
            self.all_of(&header::HOST, headers)?;
        }
        let named_by_connection = |name: &HeaderName| {
            let options = headers.get_all(header::CONNECTION).into_iter();
            options
                .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
        };
        for name in headers.keys() {
            if *name == header::UPGRADE {
                // An attempt to change the protocol is what an IDS wants to see; in HTTP/1.1 it needs both fields.
                self.field(&header::CONNECTION, b"upgrade");
                self.all_of(name, headers)?;
            } else if *name == header::COOKIE {
                self.cookies(headers)?;
            } else if !CONNECTION_SPECIFIC.contains(name) && !named_by_connection(name) {
                self.all_of(name, headers)?;
            }
        }
        Ok(())
    }

    /// HTTP/2 may split the cookie into crumbs; in HTTP/1.1 they are one field (RFC 9113 section 8.2.3).
    fn cookies(&mut self, headers: &HeaderMap) -> Result<(), Reason> {
        let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes()).collect();
        self.redacted(&header::COOKIE, &crumbs.join(&b"; "[..]))
    }

    fn all_of(&mut self, name: &HeaderName, headers: &HeaderMap) -> Result<(), Reason> {
        headers.get_all(name).iter().try_for_each(|value| self.redacted(name, value.as_bytes()))
    }

    fn redacted(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Reason> {
        // Checked before anything is masked: the offence is the same, whoever sees the value.
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(Reason::UnsafeHeader);
        }
        match redact::header(name.as_str()) {
            Treatment::Pass => self.field(name, value),
            Treatment::Mask => self.field(name, &redact::mask(value)),
            Treatment::Url => self.field(name, &redact::url(value)),
            Treatment::Strip => {}
        }
        Ok(())
    }

    fn field(&mut self, name: &HeaderName, value: &[u8]) {
        self.put(&[name.as_str().as_bytes(), b": ", value, b"\r\n"]);
    }

    fn length(&mut self, n: u64) {
        self.field(&header::CONTENT_LENGTH, n.to_string().as_bytes());
    }

    fn put(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
    }

    fn end(mut self, body: Body) -> Wire {
        self.put(&[b"\r\n"]);
        Wire {
            head: self.0,
            open_ended: body.is_cut() || !body.complete,
            cut: body.is_cut(),
            body: body.bytes,
            tail: Vec::new(),
            length_conflict: false,
        }
    }
}

/// A body and its end.
struct Body {
    bytes: Vec<u8>,
    seen: u64,
    trailers: Option<HeaderMap>,
    complete: bool,
}

impl Body {
    fn new(mut bytes: Vec<u8>, seen: u64, trailers: Option<HeaderMap>, complete: bool, max_body: usize) -> Self {
        let seen = seen.max(bytes.len() as u64);
        bytes.truncate(max_body);
        Self { bytes, seen, trailers: trailers.filter(|t| !t.is_empty()), complete }
    }

    fn is_cut(&self) -> bool {
        self.seen > self.bytes.len() as u64
    }

    /// Chooses the framing and puts the message together.
    fn write(self, mut text: Text, headers: &HeaderMap, undeclared: Undeclared) -> Result<Wire, Reason> {
        // A length is kept where it is what was seen, or where more was announced than came.
        let declared = declared(headers);
        let kept = match declared {
            Declared::Length(n) if n == self.seen || (!self.complete && n > self.seen) => Some(n),
            _ => None,
        };
        let conflict = declared != Declared::Nothing && kept.is_none();
        let has_trailers = self.trailers.is_some();
        let chunked = match (kept, conflict) {
            _ if has_trailers => true,
            (Some(n), _) => {
                text.length(n);
                false
            }
            (None, true) if self.complete => {
                text.length(self.seen);
                false
            }
            (None, true) => true,
            (None, false) => undeclared == Undeclared::Chunked,
        };
        if !chunked && declared == Declared::Nothing && undeclared == Undeclared::Zero {
            text.length(0);
        }
        let mut wire = if chunked { self.write_chunked(text)? } else { text.end(self) };
        wire.length_conflict = conflict;
        Ok(wire)
    }

    /// RFC 9112 section 7.1: what was taken is one chunk; a body whose end is not copied has no last chunk.
    fn write_chunked(self, mut text: Text) -> Result<Wire, Reason> {
        text.field(&header::TRANSFER_ENCODING, b"chunked");
        let trailers = self.trailers.clone();
        let whole = self.complete && !self.is_cut();
        let mut wire = text.end(self);
        let mut tail = Text(Vec::new());
        if !wire.body.is_empty() {
            wire.head.extend_from_slice(format!("{:x}\r\n", wire.body.len()).as_bytes());
            tail.put(&[b"\r\n"]);
        }
        if whole {
            tail.put(&[b"0\r\n"]);
            for (name, value) in trailers.iter().flatten() {
                tail.redacted(name, value.as_bytes())?;
            }
            tail.put(&[b"\r\n"]);
        }
        wire.tail = tail.0;
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

/// What the sender said of the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Declared {
    Nothing,
    Length(u64),
    /// Several different ones, or not a number.
    Nonsense,
}

/// Equal repetitions count once (RFC 9110 section 8.6).
fn declared(headers: &HeaderMap) -> Declared {
    let mut found = Declared::Nothing;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let part = part.trim_ascii();
            let digits = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let number = str::from_utf8(part).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            found = match (number, found) {
                (Some(n), Declared::Nothing) => Declared::Length(n),
                (Some(n), Declared::Length(before)) if n == before => found,
                _ => return Declared::Nonsense,
            };
        }
    }
    found
}

fn is_chunked(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
}

/// Fields that speak of one connection (RFC 9113 section 8.2.2), host and framing, which are written apart.
const CONNECTION_SPECIFIC: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::HOST,
];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::time::SystemTime;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

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
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut m = Message::request(method, target.to_owned(), None, fields(headers), SystemTime::UNIX_EPOCH);
        (m.body, m.body_len, m.complete) = (body.to_vec(), body.len() as u64, true);
        m
    }

    fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Message {
        let status = StatusCode::from_u16(status).unwrap();
        let mut m = Message::response(status, fields(headers), SystemTime::UNIX_EPOCH);
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
        let mut m = call("GET", "/a?b=c", &[("accept", "*/*"), ("te", "trailers")], b"");
        if let Head::Request { authority, .. } = &mut m.head {
            *authority = Some("orders.shop.svc".to_owned());
        }
        assert_eq!(asked(m), "GET /a?b=c HTTP/1.1\r\nhost: orders.shop.svc\r\naccept: */*\r\nte: trailers\r\n\r\n");
    }

    #[test]
    fn authority_replaces_a_host_header() {
        let mut m = call("GET", "/", &[("host", "forged")], b"");
        if let Head::Request { authority, .. } = &mut m.head {
            *authority = Some("true".to_owned());
        }
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
            "GET /?token=****** HTTP/1.1\r\nauthorization: *************\r\nreferer: http://a/?code=******\r\n\r\n"
        );
        let mut m = reply(200, &[("set-cookie", "s3cret")], b"");
        m.trailers = Some(fields(&[("authorization", "s3cret")]));
        assert!(!answered(m).contains("s3cret"));
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
            let mut m = call("GET", "/", &[], b"");
            if let Head::Request { authority, .. } = &mut m.head {
                *authority = Some(host.to_owned());
            }
            assert_eq!(request(m, MAX).unwrap_err(), Reason::UnsafeHeader);
        }
        for value in [&b"a\rb"[..], b"a\nb", b"a\0b"] {
            // `HeaderValue` refuses these bytes itself; the check stands behind it.
            let mut text = Text(Vec::new());
            assert_eq!(text.redacted(&header::COOKIE, value), Err(Reason::UnsafeHeader));
            assert!(text.0.is_empty());
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
            let mut m = call("POST", &target, &[], &body);
            *m.headers_mut() = map.clone();
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
