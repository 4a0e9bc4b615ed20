//! The one reading of a request: [`canonicalise`] turns raw text into a [`Target`], or says why there is none.
//!
//! Everything that judges, forwards, logs or mirrors a request takes the `Target`, never the raw text, so
//! what was judged is what is sent (CWE-551, CWE-647). A clean request costs one scan and no allocation.

use crate::authority;
use crate::case::PathCase;
use crate::malformed::Malformed;
use crate::path;
use std::borrow::Cow;

/// A request as it came in, before anyone has judged it.
#[derive(Debug, Clone, Copy)]
pub struct RawTarget<'a> {
    /// The method, as written.
    pub method: &'a str,
    /// The origin form: path, and query with its `?` if there is one. Absolute form is taken apart by the caller.
    /// Of CONNECT, the authority form `host:port` as it stands in the request line, or nothing (HTTP/2 has no path there).
    pub path_and_query: &'a str,
    /// `Host` or `:authority`; of an absolute-form target, its authority. Where CONNECT has both, they must say the same.
    pub authority: &'a str,
    /// Whose default port the authority leaves out.
    pub scheme: Scheme,
}

/// The scheme a request came in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Default port 80.
    Http,
    /// Default port 443.
    Https,
}

impl Scheme {
    /// The port that a canonical authority leaves out.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// How paths are read and compared. The default is the strictest reading there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathOptions {
    /// Whether rules tell letters of different case apart. Where they do not, what another reader could fold into an ASCII
    /// letter is refused as well ([`Malformed::Lookalike`]). The reading itself keeps the case as written.
    pub case: PathCase,
}

/// The canonical reading of a request. Only [`canonicalise`] makes one, so holding it proves that the
/// method is a token, the path is absolute and has one reading, and the host is in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    method: Cow<'a, str>,
    /// Invariant: starts with `/`; `path_len` is a char boundary in it, followed by nothing or `?`.
    path_and_query: Cow<'a, str>,
    path_len: usize,
    /// Whether the path has a `%`; without one, comparing bytes is comparing meanings.
    escapes: bool,
    /// Invariant: `host_len` is a char boundary in it, followed by nothing or `:port`.
    authority: Cow<'a, str>,
    host_len: usize,
    port: Option<u16>,
    verbatim: bool,
}

/// Reads a request once, for everyone. See [`Malformed`] for what is refused and why.
///
/// A CONNECT is read as its authority, port included, with the path `/`, which is what rules see of it.
///
/// # Errors
/// The first reason, in reading order method, path, query, authority.
pub fn canonicalise<'a>(options: &PathOptions, raw: &RawTarget<'a>) -> Result<Target<'a>, Malformed> {
    if !is_token(raw.method) {
        return Err(Malformed::BadMethod);
    }
    if raw.method == CONNECT {
        return connect(raw);
    }
    let path = path::canonical(raw.path_and_query, options.case)?;
    let authority = authority::canonical(raw.authority, raw.scheme.default_port())?;
    Ok(Target {
        method: Cow::Borrowed(raw.method),
        verbatim: matches!(path.text, Cow::Borrowed(_)),
        path_and_query: path.text,
        path_len: path.path_len,
        escapes: path.escapes,
        authority: authority.text,
        host_len: authority.host_len,
        port: authority.port,
    })
}

const CONNECT: &str = "CONNECT";

/// RFC 9110 §9.3.6: authority form only, and the port is always there.
fn connect<'a>(raw: &RawTarget<'a>) -> Result<Target<'a>, Malformed> {
    let text = if raw.path_and_query.is_empty() { raw.authority } else { raw.path_and_query };
    if text.bytes().any(|b| b"/?#@".contains(&b)) {
        return Err(Malformed::ConnectTarget);
    }
    // A tunnel has no scheme whose port could be left out; 0 is no port, so nothing is dropped.
    let authority = authority::canonical(text, 0)?;
    if authority.port.is_none() || authority::canonical(raw.authority, 0)?.text != authority.text {
        return Err(Malformed::ConnectTarget);
    }
    Ok(Target {
        method: Cow::Borrowed(raw.method),
        path_and_query: Cow::Borrowed("/"),
        path_len: 1,
        escapes: false,
        verbatim: authority.text == text,
        authority: authority.text,
        host_len: authority.host_len,
        port: authority.port,
    })
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

impl Target<'_> {
    /// The method, case as written: methods are case-sensitive (RFC 9110 §9.1).
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The canonical path, beginning with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path_and_query.get(..self.path_len).unwrap_or_default()
    }

    /// Whether the path still has escapes.
    pub(crate) fn has_escapes(&self) -> bool {
        self.escapes
    }

    /// The query without its `?`, byte for byte as it came; `None` when there is no `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.get(self.path_len..)?.strip_prefix('?')
    }

    /// The host: lower case, no trailing dot, no port; an IPv6 address stands in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.get(..self.host_len).unwrap_or_default()
    }

    /// Whether the method is CONNECT.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method == CONNECT
    }

    /// The port, where one was written that is not the scheme's default. A CONNECT always has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// What is forwarded as `Host` or `:authority`.
    #[must_use]
    pub fn authority(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.authority)
    }

    /// What is forwarded as `:path`. Of a CONNECT it is `/` and is not forwarded.
    #[must_use]
    pub fn path_and_query(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.path_and_query)
    }

    /// What is forwarded as the request target of HTTP/1.1: path and query, of a CONNECT the authority.
    #[must_use]
    pub fn request_target(&self) -> &str {
        if self.is_connect() { &self.authority } else { &self.path_and_query }
    }

    /// Whether [`Target::request_target`] is the text that came in, so that the caller's own copy may be sent.
    #[must_use]
    pub fn is_verbatim(&self) -> bool {
        self.verbatim
    }

    /// The same reading without borrowed parts.
    #[must_use]
    pub fn into_owned(self) -> Target<'static> {
        Target {
            method: Cow::Owned(self.method.into_owned()),
            path_and_query: Cow::Owned(self.path_and_query.into_owned()),
            authority: Cow::Owned(self.authority.into_owned()),
            path_len: self.path_len,
            escapes: self.escapes,
            host_len: self.host_len,
            port: self.port,
            verbatim: self.verbatim,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::malformed::Malformed as M;
    use proptest::prelude::*;

    fn read<'a>(method: &'a str, path: &'a str, authority: &'a str) -> Result<Target<'a>, Malformed> {
        let raw = RawTarget { method, path_and_query: path, authority, scheme: Scheme::Http };
        canonicalise(&PathOptions::default(), &raw)
    }

    fn path(path: &str) -> Result<Target<'_>, Malformed> {
        read("GET", path, "orders.shop.svc")
    }

    #[test]
    fn a_clean_request_is_borrowed_and_verbatim() {
        let target = read("GET", "/v1/orders/42?page=2&q=a;b%00", "orders.shop.svc").unwrap();
        assert_eq!(target.method(), "GET");
        assert_eq!(target.path(), "/v1/orders/42");
        assert_eq!(target.query(), Some("page=2&q=a;b%00"));
        assert_eq!(target.host(), "orders.shop.svc");
        assert_eq!(target.port(), None);
        assert!(target.is_verbatim());
        assert!(matches!(target.path_and_query, Cow::Borrowed(_)));
        assert!(matches!(target.authority, Cow::Borrowed(_)));
        assert_eq!(target.clone().into_owned(), target);
    }

    #[test]
    fn what_may_stand_in_a_path_stands_unchanged() {
        for clean in [
            "/",
            "/a/",
            "/a?",
            "/a?/../b//c;d\\e%zz",
            "/orders:import",
            "/@scope/name",
            "/a!$&'()*+,=b",
            "/...",
            "/.well-known/x",
            "/..a/a../.a",
            "/~user/a_b-c.d",
            "/caf%C3%A9/%E6%97%A5%E6%9C%AC",
            "/100%25",
            "/a%40b%3Ac%22%7B%7D%5B%5D%7C%5E%60%3C%3E",
        ] {
            let target = path(clean).unwrap();
            assert_eq!(target.path_and_query(), clean);
            assert!(target.is_verbatim(), "{clean}");
        }
    }

    #[test]
    fn unreserved_escapes_are_decoded_once_and_the_rest_is_written_in_upper_case() {
        for (raw, canonical) in [
            ("/%61dmin", "/admin"),
            ("/%41%5a%30%2d%2e%5f%7e", "/AZ0-._~"),
            ("/a%2ejson", "/a.json"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%40%3a", "/a%40%3A"),
            ("/%61?x=%2f%61", "/a?x=%2f%61"),
            ("/%2e%2e%2e", "/..."),
        ] {
            let target = path(raw).unwrap();
            assert_eq!(target.path_and_query(), canonical, "{raw}");
            assert!(!target.is_verbatim());
        }
    }

    /// Classes 70 to 79 of the catalogue of faults, and the reason each is refused for.
    #[test]
    fn each_trick_is_refused_for_its_own_reason() {
        let table: &[(M, &[&str])] = &[
            // 70, 71: dot segments, plain and encoded in either case
            (
                M::DotSegment,
                &[
                    "/..",
                    "/.",
                    "/../admin",
                    "/a/../admin",
                    "/a/./b",
                    "/a/..",
                    "/a/.",
                    "/a/../",
                    "/./",
                    "/a/..?x",
                    "/%2e%2e/admin",
                    "/%2E%2E/admin",
                    "/.%2e/admin",
                    "/%2e./admin",
                    "/%2e",
                    "/a/%2e/b",
                    "/a/%2e%2E",
                ],
            ),
            (
                M::EmptySegment,
                &["//", "//admin", "/a//b", "/a//", "///", "//evil.example/admin", "/http://evil.example/"],
            ),
            (
                M::EncodedSlash,
                &["/a%2fb", "/a%2Fb", "/%2f", "/..%2fadmin", "/a/..%2F..%2Fadmin", "/%2e%2e%2fadmin", "/%2F/admin"],
            ),
            (M::EncodedBackslash, &["/a%5cb", "/a%5Cb", "/..%5cadmin", "/a/%5c../admin"]),
            // 72: one more decoding would change the reading, however deep the encoding is
            (
                M::DoubleEncoding,
                &[
                    "/%252e%252e/admin",
                    "/a%252fb",
                    "/a%255cb",
                    "/%2500",
                    "/%25252e",
                    "/a%253bb",
                    "/%25%32%65",
                    "/%25%32e",
                    "/%252%65",
                    "/%25u002e",
                    "/%25U002F",
                    "/%2561dmin",
                    "/%25%36%31",
                ],
            ),
            // 73: parameters in any segment
            (
                M::Parameters,
                &["/a;x=1/b", "/a;", "/;a", "/..;/admin", "/a/..;x/admin", "/a%3bx", "/a%3Bx=1/b", "/admin;.css"],
            ),
            // 74: backslash
            (M::Backslash, &["/a\\b", "/\\admin", "/..\\admin", "/a/\\../admin"]),
            // 75: overlong forms, surrogates, stray bytes, look-alikes, %u
            (
                M::NonUtf8,
                &[
                    "/%c0%ae%c0%ae/admin",
                    "/%c0%af",
                    "/%e0%80%af",
                    "/%f0%80%80%af",
                    "/%c1%9c",
                    "/%ff",
                    "/%80",
                    "/%c3",
                    "/%c3/a",
                    "/%c3a9",
                    "/%ed%a0%80",
                    "/%f4%90%80%80",
                    "/a%e6%97",
                    "/%fe%fe%ff",
                ],
            ),
            (
                M::Lookalike,
                &[
                    "/%ef%bc%8e%ef%bc%8e/admin",
                    "/%ef%bc%8fadmin",
                    "/a%ef%bc%bcb",
                    "/a%ef%bc%9bx",
                    "/%ef%bc%85",
                    "/%e2%80%a4%e2%80%a4/a",
                    "/%e2%80%a5/a",
                    "/%e2%80%a6",
                    "/%e2%88%95admin",
                    "/%e2%81%84",
                    "/a%cd%be",
                    "/%ef%bd%81dmin",
                    "/%e2%84%80",
                    "/a%c2%a5b",
                ],
            ),
            (
                M::BadEscape,
                &[
                    "/%", "/%2", "/a%", "/%zz", "/%u002e", "/%uff0e", "/%2x", "/%x2e", "/a%/b", "/%c3%", "/%c3%zz",
                    "/%+2e",
                ],
            ),
            // 76: NUL, CR, tab, blank in or after a segment
            (M::EncodedNul, &["/a%00", "/admin%00.css", "/%00"]),
            (
                M::Control,
                &[
                    "/a\0",
                    "/a\r",
                    "/a\n",
                    "/a\tb",
                    "/a\u{7f}",
                    "/a%0d%0a",
                    "/a%0A",
                    "/a%09",
                    "/a%1f",
                    "/a%7f",
                    "/a%c2%85",
                    "/a%e2%80%a8",
                    "/a%ef%bb%bf",
                    "/a?x=\ty",
                    "/a?\u{7f}",
                    "/a?x\r\ny",
                ],
            ),
            (
                M::Blank,
                &["/a b", "/a ", "/ ", "/a%20", "/a%20b", "/admin%20/", "/a%c2%a0", "/a%e3%80%80", "/a?x y", "/a? "],
            ),
            // 78: delimiters
            (M::Fragment, &["/a#b", "/#", "/a?x#y", "/a#/../admin"]),
            (M::EncodedDelimiter, &["/a%3fb", "/a%3Fb", "/a%23b", "/admin%3f.css"]),
            // 31, 33, 79: bytes above 0x7f, targets that are not origin-form
            (M::NonAscii, &["/caf\u{e9}", "/a?\u{e9}", "/\u{ff0e}\u{ff0e}/", "/\u{2215}"]),
            (
                M::NotAbsolute,
                &[
                    "",
                    "*",
                    "admin",
                    "?x",
                    "http://orders.shop.svc/admin",
                    "HTTP://a/",
                    "orders.shop.svc:80",
                    "%2fadmin",
                    " /a",
                    "\\admin",
                ],
            ),
            (M::InvalidCharacter, &["/a\"b", "/<a>", "/{id}", "/a|b", "/a^b", "/a`b", "/[a]"]),
        ];
        for (reason, paths) in table {
            for raw in *paths {
                assert_eq!(path(raw), Err(*reason), "{raw:?}");
            }
        }
    }

    #[test]
    fn the_method_is_a_token() {
        for (method, reason) in [
            ("", M::BadMethod),
            ("GE T", M::BadMethod),
            ("GET\r", M::BadMethod),
            ("G\u{e9}T", M::BadMethod),
            ("GET/", M::BadMethod),
        ] {
            assert_eq!(read(method, "/", "a"), Err(reason), "{method:?}");
        }
        assert_eq!(read("OPTIONS", "*", "a"), Err(M::NotAbsolute));
        // Case is part of a method; this is a token of its own, which no rule for GET covers.
        assert_eq!(read("get", "/", "a").unwrap().method(), "get");
    }

    #[test]
    fn a_connect_is_its_authority() {
        for (raw, forwarded, host, port) in [
            ("db.example.org:5432", "db.example.org:5432", "db.example.org", 5432),
            ("DB.Example.org.:443", "db.example.org:443", "db.example.org", 443),
            ("a:80", "a:80", "a", 80),
            ("10.1.2.3:08080", "10.1.2.3:8080", "10.1.2.3", 8080),
            ("[2001:DB8::0:1]:443", "[2001:db8::1]:443", "[2001:db8::1]", 443),
        ] {
            // As HTTP/1.1 writes it, as HTTP/2 does, and as somebody who took the request line apart.
            for target in [read("CONNECT", raw, raw).unwrap(), read("CONNECT", "", raw).unwrap()] {
                assert_eq!((target.path(), target.query(), target.host()), ("/", None, host), "{raw}");
                assert_eq!((target.authority().as_ref(), target.request_target()), (forwarded, forwarded), "{raw}");
                assert_eq!((target.port(), target.is_connect()), (Some(port), true), "{raw}");
                assert_eq!(target.is_verbatim(), raw == forwarded, "{raw}");
            }
        }
        let other_spelling = read("CONNECT", "a.b:443", "A.B.:0443").unwrap();
        assert_eq!(other_spelling.authority(), "a.b:443");
        assert_eq!(read("GET", "/a?b", "a").unwrap().request_target(), "/a?b");
        // Case is part of a method: this one is not CONNECT.
        assert!(!read("Connect", "/", "a").unwrap().is_connect());
    }

    #[test]
    fn a_connect_without_host_and_port_is_refused() {
        for (target, host, reason) in [
            ("", "db.example.org", M::ConnectTarget),
            ("db.example.org", "db.example.org", M::ConnectTarget),
            ("/", "a:80", M::ConnectTarget),
            ("*", "a:80", M::BadHost),
            ("/a", "a:80", M::ConnectTarget),
            ("http://a:80/", "a:80", M::ConnectTarget),
            ("http://a:80", "a:80", M::ConnectTarget),
            ("a:80/", "a:80", M::ConnectTarget),
            ("a:80?x", "a:80", M::ConnectTarget),
            ("a:80#x", "a:80", M::ConnectTarget),
            ("user@a:80", "a:80", M::ConnectTarget),
            ("", "", M::BadHost),
            ("", ":80", M::BadHost),
            ("a:", "a:", M::BadPort),
            ("a:0", "a:0", M::BadPort),
            ("a:65536", "a:65536", M::BadPort),
            ("a:+80", "a:80", M::BadPort),
            ("a b:80", "a:80", M::BadHost),
            ("a%2eb:80", "a.b:80", M::BadHost),
            ("[::1]", "[::1]", M::ConnectTarget),
            // Two names for one tunnel: which one would be judged?
            ("a:80", "a", M::ConnectTarget),
            ("a:80", "b:80", M::ConnectTarget),
            ("a:80", "a:81", M::ConnectTarget),
            ("a:80", "", M::BadHost),
        ] {
            assert_eq!(read("CONNECT", target, host), Err(reason), "{target:?} {host:?}");
        }
    }

    #[test]
    fn one_host_has_one_name() {
        for (raw, forwarded, host, port) in [
            ("Orders.Shop.SVC", "orders.shop.svc", "orders.shop.svc", None),
            ("orders.shop.svc.", "orders.shop.svc", "orders.shop.svc", None),
            ("orders.shop.svc:80", "orders.shop.svc", "orders.shop.svc", None),
            ("ORDERS.shop.svc.:80", "orders.shop.svc", "orders.shop.svc", None),
            ("orders.shop.svc:8080", "orders.shop.svc:8080", "orders.shop.svc", Some(8080)),
            ("orders.shop.svc:08080", "orders.shop.svc:8080", "orders.shop.svc", Some(8080)),
            ("A:443", "a:443", "a", Some(443)),
            ("10.1.2.3:8080", "10.1.2.3:8080", "10.1.2.3", Some(8080)),
            ("[2001:DB8::0:1]:8080", "[2001:db8::1]:8080", "[2001:db8::1]", Some(8080)),
            ("[::1]:80", "[::1]", "[::1]", None),
            ("a_b.c-d", "a_b.c-d", "a_b.c-d", None),
        ] {
            let target = read("GET", "/", raw).unwrap();
            assert_eq!(target.authority(), forwarded, "{raw}");
            assert_eq!((target.host(), target.port()), (host, port), "{raw}");
        }
        let raw = RawTarget { method: "GET", path_and_query: "/", authority: "a:443", scheme: Scheme::Https };
        assert_eq!(canonicalise(&PathOptions::default(), &raw).unwrap().authority(), "a");
    }

    #[test]
    fn what_is_not_a_host_or_a_port_is_refused() {
        for host in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "user@a",
            "a/b",
            "a b",
            "a\t",
            "a,b",
            "a%2eb",
            "caf\u{e9}",
            "a\\b",
            "a?b",
            "a#b",
            "[::1",
            "::1",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[1.2.3.4]",
            "[]",
            "127.1",
            "2130706433",
            "0x7f.0.0.1x.0x7f",
            "0x7f000001",
            "1.2.3.256",
            "a.1",
            "*",
            "http://a",
            "a;b",
        ] {
            assert!(matches!(read("GET", "/", host), Err(M::BadHost | M::BadPort)), "{host:?}");
        }
        for host in ["a:", "a:0", "a:65536", "a:+80", "a:-1", "a:8o", "a:80:80", "a: 80", "a:000080", "[::1]:"] {
            assert_eq!(read("GET", "/", host), Err(M::BadPort), "{host:?}");
        }
        let label = "a".repeat(64);
        assert_eq!(read("GET", "/", &label), Err(M::BadHost));
        let long = ["a".repeat(63).as_str(); 4].join(".");
        assert_eq!(read("GET", "/", &long), Err(M::BadHost));
    }

    /// Bytes that make trouble, far more often than chance would.
    fn nasty() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-zA-Z0-9/._~%;?#@:-]",
            3 => "%[0-9a-fA-F]{2}",
            2 => prop::sample::select(vec![
                "..", "%2e", "%252e", "%25", "%2f", "%5c", "//", ";", "%c3%a9", "%C0%AE", "%ef%bc%8e", "%u002e", "\\", " ", "%00", "\u{e9}",
            ]).prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        #[test]
        fn the_canonical_form_of_a_canonical_form_is_itself(raw in nasty()) {
            if let Ok(once) = path(&raw) {
                let text = once.path_and_query().into_owned();
                let twice = path(&text).unwrap();
                prop_assert_eq!(twice.path_and_query(), text.as_str());
                prop_assert!(twice.is_verbatim());
                prop_assert_eq!(once.is_verbatim(), text == raw);
            }
        }

        /// An origin that decodes once more, or twice, finds no new structure.
        #[test]
        fn one_more_decoding_reveals_nothing(raw in nasty()) {
            if let Ok(target) = path(&raw) {
                let once: Vec<u8> = crate::escape::Decoded::new(target.path().as_bytes()).collect();
                let twice: Vec<u8> = crate::escape::Decoded::new(&once).collect();
                let slashes = |p: &[u8]| p.iter().filter(|b| **b == b'/').count();
                prop_assert_eq!(slashes(&twice), slashes(target.path().as_bytes()));
                prop_assert!(!twice.iter().any(|b| b";\\?#\0 \r\n\t".contains(b)));
                prop_assert!(twice.split(|b| *b == b'/').all(|s| s != b"." && s != b".."));
                prop_assert!(std::str::from_utf8(&twice).is_ok());
            }
        }

        #[test]
        fn the_canonical_authority_of_a_canonical_authority_is_itself(raw in "[a-zA-Z0-9.:_\\[\\]-]{0,16}") {
            if let Ok(once) = read("GET", "/", &raw) {
                let text = once.authority().into_owned();
                let twice = read("GET", "/", &text).unwrap();
                prop_assert_eq!(twice.authority(), text.as_str());
                prop_assert_eq!(twice.host(), once.host());
            }
        }

        /// The one reading does not depend on how unreserved characters were written.
        #[test]
        fn encoding_unreserved_characters_changes_nothing(plain in "(/[a-zA-Z0-9_~-]{1,6}){1,4}", mask in any::<u64>()) {
            let encoded: String = plain.bytes().enumerate().map(|(i, b)| {
                if b != b'/' && mask >> (i % 64) & 1 == 1 { format!("%{b:02x}") } else { char::from(b).to_string() }
            }).collect();
            let target = path(&encoded).unwrap();
            prop_assert_eq!(target.path(), plain.as_str());
        }
    }
}
