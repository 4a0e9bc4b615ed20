//! The canonical reading: twice is once, and nothing is left in it that one more reader could take otherwise.

use crate::given::text;
use policy::{PathCase, PathOptions, RawTarget, Scheme, Target, canonicalise};

pub(super) const WORDS: &[&[u8]] = &[
    b"GET\n",
    b"POST\n",
    b"CONNECT\n",
    b"OPTIONS\n",
    b"/",
    b"/.",
    b"/..",
    b"//",
    b"%2e",
    b"%2E",
    b"%2f",
    b"%5c",
    b"%25",
    b"%252e",
    b"%00",
    b"%3b",
    b"%3f",
    b"%23",
    b"%c3%a9",
    b"%c4%b1",
    b"%c5%bf",
    b"A",
    b"%c0%ae",
    b"%ef%bc%8f",
    b"%ed%a0%80",
    b"%61",
    b"%7e",
    b";",
    b"?",
    b"#",
    b"\\",
    b"*",
    b"a.example.org",
    b":80",
    b":443",
    b":8080",
    b":0",
    b":00080",
    b"[::1]",
    b"[::ffff:1.2.3.4]",
    b"1.2.3.4",
    b"127.1",
    b"0x7f.1",
    b".",
    b"user@",
    b"xn--",
    b"_",
    b"http://",
    b"\xc3\xa9",
];

/// Method, target and authority, a line each.
pub(super) fn run(input: &[u8]) {
    let mut lines = text(input).splitn(3, '\n');
    let (method, path_and_query) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let authority = lines.next().unwrap_or_default();
    for scheme in [Scheme::Http, Scheme::Https] {
        let raw = RawTarget { method, path_and_query, authority, scheme };
        let Ok(target) = canonicalise(&PathOptions::default(), &raw) else { continue };
        // What goes on: the request target as it is written, and the authority.
        let path = target.request_target().to_owned();
        let host = target.authority().into_owned();
        let again = RawTarget { method: target.method(), path_and_query: &path, authority: &host, scheme };
        let twice = canonicalise(&PathOptions::default(), &again).expect("a canonical request is canonical");
        assert!(twice.is_verbatim());
        // Where case does not count, more is refused and nothing is read otherwise.
        let either = PathOptions { case: PathCase::Insensitive };
        if let Ok(read) = canonicalise(&either, &raw) {
            assert_eq!(read, target);
            assert_eq!(canonicalise(&either, &again).as_ref(), Ok(&twice));
        }
        assert_eq!(seen(&twice), seen(&target));
        assert_eq!(target.clone().into_owned(), target);
        assert_eq!(
            target.is_verbatim(),
            target.request_target()
                == if method == "CONNECT" && path_and_query.is_empty() { authority } else { path_and_query }
        );
        if !target.is_connect() {
            is_plain(target.path());
            let raw_query = path_and_query.split_once('?').map(|(_, query)| query);
            assert_eq!(target.query(), raw_query);
        }
        is_host(&target);
    }
}

fn seen<'a>(target: &'a Target<'_>) -> (&'a str, &'a str, Option<&'a str>, &'a str, Option<u16>) {
    (target.method(), target.path(), target.query(), target.host(), target.port())
}

/// No reader that decodes once more, or splits at other places, finds anything else in the path.
fn is_plain(path: &str) {
    assert!(path.starts_with('/') && path.bytes().all(|byte| matches!(byte, 0x21..=0x7e)), "{path}");
    let decoded = decode(path.as_bytes());
    let segments: Vec<&[u8]> = decoded[1..].split(|byte| *byte == b'/').collect();
    assert_eq!(segments.len(), path[1..].split('/').count(), "an escape hides a slash: {path}");
    for (index, segment) in segments.iter().enumerate() {
        assert!(!segment.is_empty() || index + 1 == segments.len(), "an empty segment: {path}");
        assert!(*segment != b"." && *segment != b"..", "a dot segment: {path}");
        assert!(!segment.iter().any(|byte| b"\\;?#\0".contains(byte) || *byte < b' ' || *byte == 0x7f), "{path}");
    }
    assert!(std::str::from_utf8(&decoded).is_ok(), "not UTF-8: {path}");
    assert_eq!(decode(&decoded), decoded, "encoded twice: {path}");
}

/// As lenient servers do: what is no escape stays.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|digits| *first == b'%' && digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            Some(digits) => {
                out.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn is_host(target: &Target<'_>) {
    let host = target.host();
    assert!(!host.is_empty() && !host.ends_with('.') && !host.bytes().any(|byte| byte.is_ascii_uppercase()), "{host}");
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => assert!(address.parse::<std::net::Ipv6Addr>().is_ok(), "{host}"),
        None => assert!(host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{host}"),
    }
    let port = target.port().map_or(String::new(), |port| format!(":{port}"));
    assert_eq!(target.authority(), format!("{host}{port}"));
}
