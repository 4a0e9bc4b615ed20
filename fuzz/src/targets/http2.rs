//! HTTP/2: the head of one request as the engine hands it over, and whole connections from their frames.

use super::forwarded;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, uri};
use proxy::fuzzing::{head, http2};

pub(super) const WORDS: &[&[u8]] = &[
    b":method: ",
    b":path: ",
    b":authority: ",
    b":scheme: ",
    b"GET",
    b"POST",
    b"get",
    b"CONNECT",
    b"http",
    b"https",
    b"ftp",
    b"host: a\n",
    b"cookie: a=1\n",
    b"content-length: 5\n",
    b"te: trailers\n",
    b"content-type: application/grpc\n",
    b"x-forwarded-client-cert: By=x\n",
    b"x-envoy-internal: true\n",
    b"connection: close\n",
    b"transfer-encoding: chunked\n",
    b"upgrade: websocket\n",
    b"expect: 100-continue\n",
    b"/..",
    b"%2e",
    b"%2f",
    b"%25",
    b";",
    b"#",
    b"?",
    b"//",
    b"\\",
    b"a:80",
    b"[::1]:443",
];

/// Lines `name: value`, pseudo-header fields among them, as a head: judged and written on, beside the same request in HTTP/1.1.
pub(super) fn head(text: &[u8]) {
    let mut parts = Request::new(()).into_parts().0;
    let (mut to, mut plain) = (uri::Parts::default(), HeaderMap::new());
    let mut path = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let colon = line.iter().skip(1).position(|byte| *byte == b':').map(|at| at + 1);
        let Some((name, value)) = colon.map(|at| (&line[..at], line[at + 1..].trim_ascii())) else { continue };
        let read = match name {
            b":method" => Method::from_bytes(value).map(|method| parts.method = method).is_ok(),
            b":scheme" => value.try_into().map(|scheme| to.scheme = Some(scheme)).is_ok(),
            b":authority" => value.try_into().map(|authority| to.authority = Some(authority)).is_ok(),
            b":path" => {
                path = value.to_vec();
                value.try_into().map(|path| to.path_and_query = Some(path)).is_ok()
            }
            _ => match (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                (Ok(name), Ok(value)) => {
                    plain.append(name, value);
                    true
                }
                _ => false,
            },
        };
        // The engine refuses the whole head.
        if !read {
            return;
        }
    }
    let Ok(uri) = Uri::from_parts(to) else { return };
    (parts.uri, parts.version, parts.headers) = (uri, Version::HTTP_2, plain);
    let as_http1 = in_http1(&parts, &path);
    let over_http2 = head::http2(parts);
    if let Some(forwarded) = &over_http2 {
        forwarded::check(forwarded, None);
    }
    let Some(text) = as_http1 else { return };
    match (over_http2, head::http1(&text)) {
        (Some(two), Some(one)) => {
            let seen = |of: &head::Forwarded| {
                (
                    of.target.method().to_owned(),
                    of.target.path_and_query().into_owned(),
                    of.target.host().to_owned(),
                    of.grpc,
                )
            };
            assert_eq!(seen(&two), seen(&one));
        }
        (None, None) => {}
        (two, one) => {
            panic!("over HTTP/2 {}, over HTTP/1.1 {}: {}", two.is_some(), one.is_some(), text.escape_ascii());
        }
    }
}

/// The same request in HTTP/1.1; `None` for one that cannot be the same there.
fn in_http1(parts: &http::request::Parts, path: &[u8]) -> Option<Vec<u8>> {
    let host = parts.uri.authority()?.as_str();
    let of_one_hop = ["connection", "upgrade", "transfer-encoding", "keep-alive", "proxy-connection", "expect"];
    // A fragment is cut off by the engine before anybody sees it, and a host beside `:authority` has no place.
    let differs = parts.method == Method::CONNECT
        || !path.starts_with(b"/")
        || path.contains(&b'#')
        || parts.headers.contains_key("host")
        || parts.uri.scheme_str() != Some("http")
        || parts.headers.len() > 90
        || of_one_hop.iter().any(|name| parts.headers.contains_key(*name));
    if differs {
        return None;
    }
    let mut text =
        [parts.method.as_str().as_bytes(), b" ", path, b" HTTP/1.1\r\nhost: ", host.as_bytes(), b"\r\n"].concat();
    for (name, value) in &parts.headers {
        text.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    Some(text)
}

pub(super) const FRAMES: &[&[u8]] = &[
    // Whole frames, so that they may be put in a row: SETTINGS, its acknowledgement, PING, WINDOW_UPDATE, RST_STREAM, GOAWAY.
    b"\0\0\0\x04\0\0\0\0\0",
    b"\0\0\0\x04\x01\0\0\0\0",
    b"\0\0\x08\x06\0\0\0\0\0abcdefgh",
    b"\0\0\x04\x08\0\0\0\0\0\0\0\xff\xff",
    b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
    b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
    // HEADERS of GET http://a/ on streams 1, 3 and 5; the same without its end.
    b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a",
    b"\0\0\x06\x01\x05\0\0\0\x03\x82\x86\x84\x41\x01a",
    b"\0\0\x06\x01\x04\0\0\0\x05\x83\x86\x84\x41\x01a",
    b"\0\0\x06\x01\0\0\0\0\x05\x83\x86\x84\x41\x01a",
    // DATA, CONTINUATION, PRIORITY; field representations of HPACK.
    b"\0\0\x05\0\x01\0\0\0\x05hello",
    b"\0\0\x05\0\0\0\0\0\x05hello",
    b"\0\0\x03\x09\x04\0\0\0\x05\x0f\x0d\x00",
    b"\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\x10",
    b"\x44\x02/b",
    b"\x40\x01a\x01b",
    b"\x0f\x0d\x015",
    b"\x3f\xe1\x1f",
    b"\x20",
    b"\xbe",
    b"\x00\x0btransfer-en",
    b"\x7a\x08trailers",
    b"\x60\x03a=1",
    b"\xff\xff\xff\x7f",
];

/// Serves a connection of these frames: it ends, answers in measure, and what goes on is what was judged.
pub(super) fn wire(frames: &[u8]) {
    let served = http2::serve(frames);
    assert!(served.ended, "the connection stands still");
    assert!(served.forwarded.len() <= served.requests);
    assert!(served.received <= frames.len());
    assert!(served.sent <= 4096 + 64 * frames.len(), "{} bytes for {}", served.sent, frames.len());
    for forwarded in &served.forwarded {
        forwarded::check(forwarded, None);
    }
}
