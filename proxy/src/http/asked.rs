//! What a request's head says, as far as the proxy acts on it, whichever version of HTTP it came in.
//!
//! Made once from the head, kept for the life of the exchange: the judgement, the log line and the refusal line all read it
//! here. One piece of text holds everything; the parts are places in it.

use super::{
    Failure,
    field::{self, Name},
    h1::{Field, RequestHead},
    span::Span,
};
use http::{HeaderMap, Version, header, request::Parts};
use policy::{RawTarget, RequestView, Scheme, Target};
use std::borrow::Cow;

/// A request's head, as far as it matters here.
pub(crate) struct Asked {
    text: Vec<u8>,
    method: Span,
    path: Span,
    authority: Authority,
    scheme: Scheme,
    user_agent: Option<Span>,
    forwarded_for: Option<Span>,
    request_id: Option<Span>,
    pub(crate) version: Version,
    /// POST with a gRPC content type.
    pub(crate) grpc: bool,
    /// The body may wait for "100 Continue" (RFC 9110 §10.1.1).
    pub(crate) expects: bool,
    pub(crate) wants: Wants,
    has_forwarded_proto: bool,
}

/// The host the request names.
#[derive(Clone, Copy)]
enum Authority {
    Missing,
    Conflicting,
    Is(Span),
}

/// Whether the request asks for the connection to become something else than HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    Nothing,
    /// CONNECT (RFC 9110 §9.3.6).
    Connect,
    /// `Upgrade` to this one protocol, with the `Connection` option that makes it one (RFC 9110 §7.8).
    Upgrade(Span),
    /// `Upgrade` to one of several: which one is not ours to guess.
    Several,
}

impl Asked {
    /// From an HTTP/1.1 head, whose bytes `text` begins with. `fields` are places in it.
    pub(crate) fn http1(text: &[u8], head: &RequestHead, fields: &[Field]) -> Self {
        let mut text = text.get(..head.length).unwrap_or_default().to_vec();
        let method = head.method.of(&text);
        let is_post = method == b"POST";
        let is_connect = method == b"CONNECT";
        let mut hosts = Hosts::default();
        let mut found = Found::default();
        let mut upgrade = None;
        let mut may_upgrade = false;
        for field in fields {
            match field.known {
                Name::Host => hosts.add(field.value),
                Name::UserAgent => found.user_agent = found.user_agent.or(Some(field.value)),
                Name::ForwardedFor => found.forwarded_for = found.forwarded_for.or(Some(field.value)),
                Name::RequestId => found.request_id = found.request_id.or(Some(field.value)),
                Name::ForwardedProto => found.forwarded_proto = true,
                Name::Expect => found.expects = true,
                Name::ContentType => found.grpc |= is_post && field::is_grpc(field.value.of(&text)),
                Name::Upgrade => {
                    let one = upgrade.is_none() && is_protocol(field.value.of(&text));
                    upgrade = Some(if one { Wants::Upgrade(field.value) } else { Wants::Several });
                }
                Name::Connection => {
                    may_upgrade |=
                        field::list(field.value.of(&text)).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
                }
                _ => {}
            }
        }
        let wants = match upgrade {
            _ if is_connect => Wants::Connect,
            // Clients that would like HTTP/2 offer it with ordinary requests, and take an ordinary answer as well as not.
            // Inside it no request could be judged (RFC 9113 §3.1 has given it up).
            Some(Wants::Upgrade(to)) if to.of(&text).eq_ignore_ascii_case(b"h2c") => Wants::Nothing,
            Some(upgrade) if may_upgrade => upgrade,
            // Without the `Connection` option it is an ordinary hop-by-hop field, and removed like one.
            _ => Wants::Nothing,
        };
        // The canonical reading of CONNECT takes the authority form as it stands (RFC 9112 §3.2.3).
        let target = if is_connect { Form::Origin } else { Form::of(head.target.of(&text)) };
        let (path, authority, scheme) = match target {
            Form::Origin => (head.target, hosts.authority(&text), Scheme::Http),
            // The target wins over `Host` (RFC 9112 §3.2.2); several `Host` are refused even so.
            Form::Absolute { scheme, authority, rest } => {
                let start = head.target.start() + authority.0;
                let from = head.target.start() + rest;
                let named = Span::new(start, head.target.start() + authority.1);
                let named = named.map_or(Authority::Missing, |span| hosts.replaced_by(span));
                let path = if text.get(from) == Some(&b'/') && from < head.target.end() {
                    Span::new(from, head.target.end())
                } else {
                    // An empty path is `/` (RFC 9110 §4.2.3).
                    let start = text.len();
                    text.push(b'/');
                    text.extend_from_within(from..head.target.end().max(from));
                    Span::new(start, text.len())
                };
                (path.unwrap_or_default(), named, scheme)
            }
        };
        Self::from_found(text, found, (head.method, path, authority, scheme), Version::HTTP_11, wants)
    }

    /// From an HTTP/2 head. `:authority` and `host` must say the same (RFC 9113 §8.3.1).
    pub(crate) fn http2(parts: &Parts) -> Self {
        let mut text = Vec::with_capacity(256);
        let mut push = |bytes: &[u8]| {
            let start = text.len();
            text.extend_from_slice(bytes);
            Span::new(start, text.len()).unwrap_or_default()
        };
        let headers = &parts.headers;
        let method = push(parts.method.as_str().as_bytes());
        let path = push(parts.uri.path_and_query().map_or(parts.uri.path(), |path| path.as_str()).as_bytes());
        let mut hosts = headers.get_all(header::HOST).iter();
        let authority = match (parts.uri.authority(), hosts.next(), hosts.next()) {
            (_, _, Some(_)) => Authority::Conflicting,
            (Some(authority), Some(host), None)
                if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
            {
                Authority::Conflicting
            }
            (Some(authority), _, None) => Authority::Is(push(authority.as_str().as_bytes())),
            (None, Some(host), None) if !host.is_empty() => Authority::Is(push(host.as_bytes())),
            (None, _, None) => Authority::Missing,
        };
        let mut first = |name: &str| headers.get(name).map(|value| push(value.as_bytes()));
        let found = Found {
            user_agent: first("user-agent"),
            forwarded_for: first("x-forwarded-for"),
            request_id: first("x-request-id"),
            forwarded_proto: headers.contains_key("x-forwarded-proto"),
            expects: headers.contains_key(header::EXPECT),
            grpc: parts.method == http::Method::POST
                && headers.get_all(header::CONTENT_TYPE).iter().any(|value| field::is_grpc(value.as_bytes())),
        };
        let scheme = if parts.uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
        let wants = if parts.method == http::Method::CONNECT { Wants::Connect } else { Wants::Nothing };
        Self::from_found(text, found, (method, path, authority, scheme), Version::HTTP_2, wants)
    }

    fn from_found(
        text: Vec<u8>,
        found: Found,
        (method, path, authority, scheme): (Span, Span, Authority, Scheme),
        version: Version,
        wants: Wants,
    ) -> Self {
        Self {
            text,
            method,
            path,
            authority,
            scheme,
            user_agent: found.user_agent,
            forwarded_for: found.forwarded_for,
            request_id: found.request_id.filter(|id| id.start() < id.end()),
            version,
            grpc: found.grpc,
            expects: found.expects,
            wants,
            has_forwarded_proto: found.forwarded_proto,
        }
    }

    /// The text in which an HTTP/1.1 head's fields lie.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(crate) fn method(&self) -> &str {
        self.str(self.method)
    }

    /// The origin form: path and query, as they came.
    pub(crate) fn path(&self) -> &str {
        self.str(self.path)
    }

    /// The host, for people.
    pub(crate) fn authority(&self) -> Option<Cow<'_, str>> {
        self.host().map(String::from_utf8_lossy)
    }

    /// [`Asked::path`] without its proof of being text, which takes longer than to see that it is ASCII.
    pub(crate) fn path_text(&self) -> &[u8] {
        let path = self.path_bytes();
        if path.is_ascii() { path } else { self.path().as_bytes() }
    }

    /// [`Asked::authority`], likewise.
    pub(crate) fn authority_text(&self) -> Option<Cow<'_, [u8]>> {
        self.host().map(|host| match host.is_ascii() {
            true => Cow::Borrowed(host),
            false => Cow::Owned(String::from_utf8_lossy(host).into_owned().into_bytes()),
        })
    }

    /// The host as it was sent, if there is one to trust.
    pub(crate) fn host(&self) -> Option<&[u8]> {
        match self.authority {
            Authority::Is(span) => Some(span.of(&self.text)),
            Authority::Missing | Authority::Conflicting => None,
        }
    }

    pub(crate) fn method_bytes(&self) -> &[u8] {
        self.method.of(&self.text)
    }

    /// Whether the response may have no body.
    pub(crate) fn is_head(&self) -> bool {
        self.method_bytes() == b"HEAD"
    }

    pub(crate) fn path_bytes(&self) -> &[u8] {
        self.path.of(&self.text)
    }

    /// The host as it was sent; empty when there is none to trust.
    pub(crate) fn authority_bytes(&self) -> &[u8] {
        self.host().unwrap_or_default()
    }

    pub(crate) fn user_agent(&self) -> Option<&[u8]> {
        self.user_agent.map(|span| span.of(&self.text))
    }

    pub(crate) fn forwarded_for(&self) -> Option<&[u8]> {
        self.forwarded_for.map(|span| span.of(&self.text))
    }

    /// `x-request-id`, if it came and is not empty.
    pub(crate) fn request_id(&self) -> Option<&[u8]> {
        self.request_id.map(|span| span.of(&self.text))
    }

    pub(crate) fn has_request_id(&self) -> bool {
        self.request_id.is_some()
    }

    pub(crate) fn has_forwarded_proto(&self) -> bool {
        self.has_forwarded_proto
    }

    /// The protocol that [`Wants::Upgrade`] names.
    pub(crate) fn protocol(&self) -> Option<&str> {
        match self.wants {
            Wants::Upgrade(span) => Some(self.str(span)),
            _ => None,
        }
    }

    /// The target as it was sent, for its one canonical reading.
    pub(crate) fn raw(&self) -> Result<RawTarget<'_>, Failure> {
        let authority = match self.authority {
            Authority::Missing => return Err(Failure::MissingHost),
            Authority::Conflicting => return Err(Failure::ConflictingHost),
            Authority::Is(span) => std::str::from_utf8(span.of(&self.text)).map_err(|_| Failure::ConflictingHost)?,
        };
        Ok(RawTarget { method: self.method(), path_and_query: self.path(), authority, scheme: self.scheme })
    }

    /// The request as rules see it.
    pub(crate) fn view<'a>(&'a self, target: &'a Target<'a>) -> RequestView<'a> {
        RequestView { target, grpc: self.grpc, upgrade: self.protocol() }
    }

    /// Refuses a switch of protocols that cannot be put to the rules: to one of several, or CONNECT over HTTP/2.
    pub(crate) fn refuse_unclear(&self) -> Result<(), Failure> {
        match self.wants {
            Wants::Several => Err(Failure::Upgrade),
            Wants::Connect if self.version == Version::HTTP_2 => Err(Failure::NoRoute),
            Wants::Nothing | Wants::Connect | Wants::Upgrade(_) => Ok(()),
        }
    }

    /// Methods and targets are ASCII, or the head was refused.
    fn str(&self, span: Span) -> &str {
        std::str::from_utf8(span.of(&self.text)).unwrap_or_default()
    }
}

#[derive(Default)]
struct Found {
    user_agent: Option<Span>,
    forwarded_for: Option<Span>,
    request_id: Option<Span>,
    forwarded_proto: bool,
    expects: bool,
    grpc: bool,
}

/// The `Host` lines of a head: there must be exactly one (RFC 9112 §3.2).
#[derive(Default)]
struct Hosts {
    first: Option<Span>,
    more: bool,
}

impl Hosts {
    fn add(&mut self, value: Span) {
        self.more |= self.first.is_some();
        self.first = self.first.or(Some(value));
    }

    fn authority(&self, text: &[u8]) -> Authority {
        match self.first {
            _ if self.more => Authority::Conflicting,
            Some(span) if !span.of(text).is_empty() => Authority::Is(span),
            _ => Authority::Missing,
        }
    }

    fn replaced_by(&self, named: Span) -> Authority {
        if self.more { Authority::Conflicting } else { Authority::Is(named) }
    }
}

/// One protocol, with or without a version (RFC 9110 §7.8), and nothing else.
fn is_protocol(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte))
}

/// The forms of a request target (RFC 9112 §3.2).
enum Form {
    /// Also whatever is none of the others: its canonical reading refuses it.
    Origin,
    Absolute {
        scheme: Scheme,
        authority: (usize, usize),
        rest: usize,
    },
}

impl Form {
    fn of(target: &[u8]) -> Self {
        if target.first() == Some(&b'/') {
            return Self::Origin;
        }
        let is = |prefix: &str| {
            target.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let (scheme, start) = if is("http://") {
            (Scheme::Http, 7)
        } else if is("https://") {
            (Scheme::Https, 8)
        } else {
            return Self::Origin;
        };
        let after = target.get(start..).unwrap_or_default();
        let length = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after.len());
        Self::Absolute { scheme, authority: (start, start + length), rest: start + length }
    }
}

/// Several `Content-Length` that HTTP/2 must not bring in (RFC 9113 §8.1.1); HTTP/1.1 heads are checked as they are read.
pub(crate) fn has_clear_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match lengths.next() {
        None => true,
        Some(length) => lengths.next().is_none() && field::number(length.as_bytes()).is_some(),
    }
}

/// A scheme that is neither of HTTP's (RFC 9113 §8.3.1): HTTP/1.1 refuses it in a target, and so does this. CONNECT has none.
pub(crate) fn has_clear_scheme(parts: &Parts) -> bool {
    // Without `:authority` the library keeps no scheme either.
    parts.uri.authority().is_none()
        || parts.method == http::Method::CONNECT
        || parts
            .uri
            .scheme_str()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
}

/// A method without lower-case letters. Methods are case-sensitive (RFC 9110 §9.1), every registered one is upper-case, and
/// HTTP/1.1 refuses the others: a request has one verdict over either version, and the next hop may speak the other.
pub(crate) fn has_clear_method(parts: &Parts) -> bool {
    !parts.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::h1::head, *};

    #[test]
    fn a_method_in_lower_case_is_refused_as_over_http1() {
        let clear =
            |method: &str| has_clear_method(&http::Request::builder().method(method).body(()).unwrap().into_parts().0);
        assert!(clear("GET") && clear("M-SEARCH"));
        assert!(!clear("get") && !clear("GeT"));
    }

    #[test]
    fn a_scheme_is_one_of_http() {
        let clear = |uri: &str| has_clear_scheme(&http::Request::get(uri).body(()).unwrap().into_parts().0);
        assert!(clear("http://h/") && clear("HTTPS://h/") && clear("/"));
        assert!(!clear("gopher://h/") && !clear("ftp://h/"));
    }

    fn asked(text: &str) -> Asked {
        let mut fields = Vec::new();
        let head = head::request(text.as_bytes(), &mut fields).unwrap().unwrap();
        Asked::http1(text.as_bytes(), &head, &fields)
    }

    fn raw(text: &str) -> (String, String) {
        let asked = asked(text);
        let raw = asked.raw().unwrap();
        (raw.authority.to_owned(), raw.path_and_query.to_owned())
    }

    #[test]
    fn the_target_is_found_in_every_form() {
        let of = |target: &str| raw(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(of("/a?b"), ("h".into(), "/a?b".into()));
        assert_eq!(of("http://x:80/a?b"), ("x:80".into(), "/a?b".into()));
        assert_eq!(of("HTTP://x"), ("x".into(), "/".into()));
        assert_eq!(of("http://x?q"), ("x".into(), "/?q".into()));
        assert_eq!(of("http://x#f"), ("x".into(), "/#f".into()));
        assert_eq!(of("//x/a"), ("h".into(), "//x/a".into()));
        assert_eq!(of("*"), ("h".into(), "*".into()));
        assert_eq!(of("ftp://x/"), ("h".into(), "ftp://x/".into()));
    }

    #[test]
    fn exactly_one_host_is_named() {
        let refused = |lines: &str| asked(&format!("GET / HTTP/1.1\r\n{lines}\r\n")).raw().err();
        assert!(matches!(refused(""), Some(Failure::MissingHost)));
        assert!(matches!(refused("Host:\r\n"), Some(Failure::MissingHost)));
        assert!(matches!(refused("Host: a\r\nHost: a\r\n"), Some(Failure::ConflictingHost)));
        let absolute = asked("GET http://x/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
        assert!(matches!(absolute.raw().err(), Some(Failure::ConflictingHost)));
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_one_protocol() {
        let wants = |lines: &str| {
            let asked = asked(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
            (asked.protocol().map(str::to_owned), asked.wants == Wants::Several)
        };
        assert_eq!(
            wants("Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"),
            (Some("websocket".into()), false)
        );
        assert_eq!(wants("Upgrade: websocket\r\n"), (None, false));
        assert_eq!(wants("Connection: upgrade\r\n"), (None, false));
        assert_eq!(wants("Upgrade: websocket, h2c\r\nConnection: upgrade\r\n"), (None, true));
        // Judged and written on as text, so it is text.
        for odd in ["\u{e9}", "", "a b", "websocket,", "a;b"] {
            assert_eq!(wants(&format!("Upgrade: {odd}\r\nConnection: upgrade\r\n")), (None, true), "{odd}");
        }
        assert_eq!(wants("Upgrade: h2c\r\nConnection: upgrade, http2-settings\r\n"), (None, false));
        assert_eq!(wants("Upgrade: a\r\nUpgrade: b\r\nConnection: upgrade\r\n"), (None, true));
    }
}
