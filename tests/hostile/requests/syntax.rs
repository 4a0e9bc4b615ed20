//! Classes 24 to 40: heads that are not what the grammar says, or larger than anybody needs, and bytes that are no part of a
//! request.

use support::catalogue::Table;
use support::strict::Seen;

use super::Must::{Arrive, Clean, Refuse};
use super::{Bench, Case, case, get, plain_host, values, with_line};

#[test]
fn a_head_is_read_in_one_way_or_not_at_all() {
    let mut table = Table::new("http1-syntax", 24..=40);
    let cases: Vec<Case> = [fields(), sizes(), request_lines(), other_protocols(), switches(), named_in_connection()]
        .into_iter()
        .flatten()
        .collect();
    Bench::start().fill(&mut table, &cases);
    table.judge(&(24..=40).collect::<Vec<u8>>());
}

/// Classes 24 to 26.
fn fields() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, byte) in [
        ("NUL", 0_u8),
        ("SOH", 1),
        ("BS", 8),
        ("LF", b'\n'),
        ("VT", 0x0b),
        ("FF", 0x0c),
        ("CR", b'\r'),
        ("ESC", 0x1b),
        ("US", 0x1f),
        ("DEL", 0x7f),
    ] {
        let line = [&b"X-A: a"[..], &[byte], b"b"].concat();
        // A CR alone may become a space, a LF alone an end of line (RFC 9112 §2.2).
        cases.push(case(
            24,
            if b"\r\n".contains(&byte) { Clean } else { Refuse },
            format!("{name} in a value"),
            with_line(&line),
        ));
        let line = [&b"X-A: "[..], &[byte]].concat();
        cases.push(case(
            24,
            if b"\r\n".contains(&byte) { Clean } else { Refuse },
            format!("{name} for a value"),
            with_line(&line),
        ));
    }
    cases.push(case(24, Arrive, "8-bit text in a value", with_line(b"X-A: caf\xc3\xa9 \xff")));
    let names: [(&str, &[u8]); 25] = [
        ("an empty name", b": a"),
        ("an empty name and nothing", b":"),
        ("no colon", b"X-A"),
        ("a space before the colon", b"X-A : a"),
        ("a tab before the colon", b"X-A\t: a"),
        ("a space in the name", b"X A: a"),
        ("a blank before the first name", b" X-A: a"),
        ("NUL in the name", b"X\0A: a"),
        ("CR in the name", b"X\rA: a"),
        ("DEL in the name", b"X\x7fA: a"),
        ("8-bit in the name", b"X\xe9A: a"),
        ("UTF-8 in the name", b"X\xc3\xa9A: a"),
        ("( in the name", b"X(A: a"),
        (") in the name", b"X)A: a"),
        ("< in the name", b"X<A: a"),
        ("@ in the name", b"X@A: a"),
        (", in the name", b"X,A: a"),
        ("; in the name", b"X;A: a"),
        ("\\ in the name", b"X\\A: a"),
        ("\" in the name", b"X\"A: a"),
        ("/ in the name", b"X/A: a"),
        ("[ in the name", b"X[A: a"),
        ("= in the name", b"X=A: a"),
        ("{ in the name", b"X{A: a"),
        ("? in the name", b"X?A: a"),
    ];
    cases.extend(names.map(|(name, line)| case(25, Refuse, name, with_line(line))));
    cases.push(case(25, Arrive, "every odd character a name may have", with_line(b"X!#$%&'*+-.^`|~9: a")));
    let folds: [(&str, &[u8]); 5] = [
        ("by a space", b"X-A: a\r\n b"),
        ("by a tab", b"X-A: a\r\n\tb"),
        ("before the value", b"X-A:\r\n a"),
        ("of blanks alone", b"X-A: a\r\n  "),
        ("with a host in it", b"X-A: a\r\n Host: private.shop.svc"),
    ];
    cases
        .extend(folds.map(|(name, line)| case(26, Clean, format!("a fold {name}"), with_line(line)).check(plain_host)));
    cases
}

/// Classes 27 and 28.
fn sizes() -> Vec<Case> {
    let long = |count: usize| vec![b'a'; count];
    let mut cases = vec![
        case(27, Refuse, "10,000 fields", with_line(b"X-A: a\r\n".repeat(10_000).trim_ascii_end())),
        case(27, Refuse, "101 fields", with_line(b"X-A: a\r\n".repeat(100).trim_ascii_end())),
        case(27, Refuse, "a value of 200 KB", with_line(&[b"X-A: ".to_vec(), long(200_000)].concat())),
        case(27, Refuse, "a name of 100 KB", with_line(&[long(100_000), b": a".to_vec()].concat())),
        case(27, Refuse, "a name without an end", [b"GET /open/@R@ HTTP/1.1\r\n".to_vec(), long(100_000)].concat()),
        case(27, Refuse, "a value without an end", [b"GET /open/@R@ HTTP/1.1\r\nX: ".to_vec(), long(100_000)].concat()),
        case(
            27,
            Refuse,
            "1 MB of fields",
            with_line([b"X-A: ".to_vec(), long(11_000), b"\r\n".to_vec()].concat().repeat(95).trim_ascii_end()),
        ),
    ];
    for (name, target) in [("a path of 100 KB", "/open/@R@/"), ("a query of 100 KB", "/open/@R@?")] {
        cases.push(case(28, Refuse, name, get(&format!("{target}{}", "a".repeat(100_000)))));
    }
    let endless = format!("GET /open/@R@/{}", "a".repeat(100_000));
    cases.push(case(28, Refuse, "a path without an end", endless));
    cases.push(case(
        28,
        Refuse,
        "a method of 100 KB",
        format!("{} /open/@R@ HTTP/1.1\r\nHost: @H@\r\n\r\n", "A".repeat(100_000)),
    ));
    cases
}

/// Classes 29 to 33.
fn request_lines() -> Vec<Case> {
    let lines: [(u8, &str, &[u8]); 49] = [
        (29, "two spaces before the target", b"GET  /open/@R@ HTTP/1.1"),
        (29, "two spaces after the target", b"GET /open/@R@  HTTP/1.1"),
        (29, "a tab before the target", b"GET\t/open/@R@ HTTP/1.1"),
        (29, "a tab after the target", b"GET /open/@R@\tHTTP/1.1"),
        (29, "a space before the method", b" GET /open/@R@ HTTP/1.1"),
        (29, "a space after the version", b"GET /open/@R@ HTTP/1.1 "),
        (29, "a space in the target", b"GET /open/@R@ /x HTTP/1.1"),
        (29, "a version in the target", b"GET /open/@R@ HTTP/1.1 HTTP/1.1"),
        (29, "VT for the space", b"GET\x0b/open/@R@ HTTP/1.1"),
        (29, "FF for the space", b"GET /open/@R@\x0cHTTP/1.1"),
        (29, "CR for the space", b"GET\r/open/@R@ HTTP/1.1"),
        (29, "an 8-bit blank for the space", b"GET\xa0/open/@R@ HTTP/1.1"),
        (30, "no version", b"GET /open/@R@"),
        (30, "HTTP/0.9", b"GET /open/@R@ HTTP/0.9"),
        (30, "HTTP/1.2", b"GET /open/@R@ HTTP/1.2"),
        (30, "HTTP/2.0", b"GET /open/@R@ HTTP/2.0"),
        (30, "HTTP/9.9", b"GET /open/@R@ HTTP/9.9"),
        (30, "HTTP/1", b"GET /open/@R@ HTTP/1"),
        (30, "HTTP/1.", b"GET /open/@R@ HTTP/1."),
        (30, "HTTP/1.10", b"GET /open/@R@ HTTP/1.10"),
        (30, "HTTP/01.1", b"GET /open/@R@ HTTP/01.1"),
        (30, "HTTP/1,1", b"GET /open/@R@ HTTP/1,1"),
        (30, "HTTP/+1.1", b"GET /open/@R@ HTTP/+1.1"),
        (30, "http/1.1", b"GET /open/@R@ http/1.1"),
        (30, "HTTPS/1.1", b"GET /open/@R@ HTTPS/1.1"),
        (30, "ICY/1.1", b"GET /open/@R@ ICY/1.1"),
        (30, "HTTP /1.1", b"GET /open/@R@ HTTP /1.1"),
        (30, "a method in small letters", b"get /open/@R@ HTTP/1.1"),
        (30, "no method", b"/open/@R@ HTTP/1.1"),
        (30, "a method that is no token", b"G(T /open/@R@ HTTP/1.1"),
        (31, "NUL in the path", b"GET /open/@R@/\0 HTTP/1.1"),
        (31, "SOH in the path", b"GET /open/@R@/\x01 HTTP/1.1"),
        (31, "ESC in the path", b"GET /open/@R@/\x1b HTTP/1.1"),
        (31, "DEL in the path", b"GET /open/@R@/\x7f HTTP/1.1"),
        (31, "0x80 in the path", b"GET /open/@R@/\x80 HTTP/1.1"),
        (31, "0xa0 in the path", b"GET /open/@R@/\xa0 HTTP/1.1"),
        (31, "0xff in the path", b"GET /open/@R@/\xff HTTP/1.1"),
        (31, "UTF-8 in the path", b"GET /open/@R@/\xc3\xa9 HTTP/1.1"),
        (31, "NUL in the query", b"GET /open/@R@?\0 HTTP/1.1"),
        (31, "0xff in the query", b"GET /open/@R@?\xff HTTP/1.1"),
        (31, "LF in the path", b"GET /open/@R@\n/x HTTP/1.1"),
        (33, "* with GET", b"GET * HTTP/1.1"),
        (33, "* with OPTIONS", b"OPTIONS * HTTP/1.1"),
        (33, "no slash", b"GET open/@R@ HTTP/1.1"),
        (33, "a query alone", b"GET ?@R@ HTTP/1.1"),
        (33, "a host and a path", b"GET orders.shop.svc/open/@R@ HTTP/1.1"),
        (33, "a host and a port with GET", b"GET orders.shop.svc:80 HTTP/1.1"),
        (33, "an empty target", b"GET  HTTP/1.1"),
        (33, "another scheme", b"GET ftp://orders.shop.svc/open/@R@ HTTP/1.1"),
    ];
    let mut cases: Vec<Case> = lines
        .map(|(class, name, line)| {
            let bytes = [line, b"\r\nHost: @H@\r\nX-Row: @R@\r\n\r\n"].concat();
            // Blanks may be taken off, as long as what goes on has one reading.
            let must = if class == 29 || class == 33 { Clean } else { Refuse };
            case(class, must, name, bytes)
        })
        .into();
    for (name, target) in [
        ("in the path", "/open/@R@#x"),
        ("in the query", "/open/@R@?a#x"),
        ("before another path", "/open/@R@#/../admin"),
        ("in an absolute target", "http://@H@/open/@R@#x"),
        ("in the authority", "http://@H@#@private.shop.svc/open/@R@"),
    ] {
        cases.push(case(32, Clean, format!("a fragment {name}"), get(target)).check(plain_host));
    }
    let ended_by_lf = "GET /open/@R@ HTTP/1.1\nHost: @H@\r\n\r\n";
    cases.push(case(29, Clean, "the line ends in LF", ended_by_lf).check(plain_host));
    let http10 = "GET /open/@R@ HTTP/1.0\r\nHost: @H@\r\n\r\n";
    cases.push(case(30, Clean, "HTTP/1.0", http10).check(plain_host));
    cases
}

/// Classes 34 to 36.
fn other_protocols() -> Vec<Case> {
    let request = get("/open/@R@");
    let mut cases = vec![
        case(34, Refuse, "CONNECT", "CONNECT @H@:443 HTTP/1.1\r\nHost: @H@:443\r\nX-Row: @R@\r\n\r\n@S@"),
        case(34, Refuse, "CONNECT of a path", "CONNECT /open/@R@ HTTP/1.1\r\nHost: @H@\r\n\r\n@S@"),
        case(
            34,
            Refuse,
            "CONNECT of another host",
            "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: @H@\r\nX-Row: @R@\r\n\r\n@S@",
        ),
        case(
            34,
            Refuse,
            "CONNECT with a body",
            "CONNECT @H@:443 HTTP/1.1\r\nHost: @H@:443\r\nContent-Length: 5\r\nX-Row: @R@\r\n\r\nhello@S@",
        ),
        case(35, Clean, "an empty line before the request", format!("\r\n{request}")).check(plain_host),
        case(35, Clean, "three empty lines before the request", format!("\r\n\r\n\r\n{request}")).check(plain_host),
        case(35, Clean, "an empty line of LF before the request", format!("\n{request}")).check(plain_host),
        case(35, Clean, "400 KB of empty lines", format!("{}{request}", "\r\n".repeat(200_000))).check(plain_host),
        case(35, Clean, "400 KB of LF", format!("{}{request}", "\n".repeat(400_000))).check(plain_host),
        case(35, Clean, "400 KB of CR", format!("{}{request}", "\r".repeat(400_000))).check(plain_host),
        case(36, Refuse, "a TLS hello", TLS_HELLO),
        case(36, Refuse, "zeros", [0; 4096]),
        case(36, Refuse, "an SSH greeting", "SSH-2.0-OpenSSH_9.2\r\n@R@\r\n"),
        case(36, Refuse, "an SMTP greeting", "EHLO @R@\r\nMAIL FROM:<a@b>\r\n\r\n@S@"),
        case(
            36,
            Refuse,
            "a PROXY header",
            "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /open/@R@ HTTP/1.1\r\nHost: @H@\r\n\r\n",
        ),
        case(36, Refuse, "an HTTP/2 preface cut short", "PRI * HTTP/2.0\r\n\r\nSM\r\n"),
        case(36, Refuse, "an HTTP/2 preface, then HTTP/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n@S@"),
        case(36, Refuse, "a response", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Row: @R@\r\n\r\n@S@"),
        case(36, Refuse, "one byte", "G"),
    ];
    let noise: Vec<u8> = (0..8192_u32).map(|i| u8::try_from(i.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    cases.push(case(36, Refuse, "noise", noise));
    cases
}

/// The beginning of a ClientHello of TLS 1.2.
const TLS_HELLO: [u8; 48] = [
    22, 3, 1, 0, 43, 1, 0, 0, 39, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
    23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 0, 1, 0,
];

/// That the application is not asked to speak another protocol.
fn no_switch(seen: &Seen) -> Option<String> {
    ["upgrade", "http2-settings", "connection"]
        .into_iter()
        .find(|name| !values(seen, name).is_empty())
        .map(|name| format!("the field {name}: {:?}", values(seen, name)))
}

/// Classes 37, 38 and 40.
fn switches() -> Vec<Case> {
    let h2c = "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let socket = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                  Sec-WebSocket-Version: 13\r\n\r\n";
    let head = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: @H@\r\nX-Row: @R@\r\n{fields}");
    vec![
        case(
            37,
            Clean,
            "h2c as it is offered",
            head("/open/x", &format!("Connection: Upgrade, HTTP2-Settings\r\n{h2c}")),
        )
        .check(no_switch),
        case(
            37,
            Clean,
            "h2c without its settings in Connection",
            head("/open/x", &format!("Connection: Upgrade\r\n{h2c}")),
        )
        .check(no_settings),
        case(37, Clean, "h2c without Connection", head("/open/x", h2c)).check(no_settings),
        case(
            37,
            Clean,
            "h2c in capitals",
            head("/open/x", &format!("Connection: Upgrade\r\n{}", h2c.replace("h2c", "H2C"))),
        )
        .check(no_settings),
        case(
            37,
            Clean,
            "h2c among others",
            head("/open/x", &format!("Connection: Upgrade\r\n{}", h2c.replace("h2c", "websocket, h2c"))),
        )
        .check(no_settings),
        case(37, Clean, "h2c twice", head("/open/x", &format!("Connection: Upgrade\r\nUpgrade: foo\r\n{h2c}")))
            .check(no_settings),
        case(
            37,
            Clean,
            "h2c, then its preface at once",
            format!("{}{preface}", head("/open/x", &format!("Connection: Upgrade, HTTP2-Settings\r\n{h2c}"))),
        )
        .check(no_switch),
        case(
            38,
            Refuse,
            "a socket no rule names, then a frame",
            format!("{}\u{1}\u{5}hello@S@", head("/open/x", socket)),
        ),
        case(38, Refuse, "a socket no rule names, then a request", format!("{}@S@", head("/open/x", socket))),
        // The application answers 200: it has not switched, and no frame may reach it.
        case(
            38,
            Clean,
            "a socket, then a frame, and no 101",
            format!("{}\u{1}\u{5}hello@S@", head("/open/socket/x", socket)),
        ),
        case(
            38,
            Clean,
            "a socket with a body, and no 101",
            head("/open/socket/x", &socket.replace("Upgrade: w", "Content-Length: 5\r\nUpgrade: w")) + "hello\u{1}@S@",
        ),
        case(40, Clean, "a request after Connection: close", head("/open/x", "Connection: close\r\n\r\n@S@"))
            .check(plain_host),
        case(40, Clean, "a request after close among others", head("/open/x", "Connection: x-a, Close\r\n\r\n@S@"))
            .check(plain_host),
        case(
            40,
            Clean,
            "a request after close in a second line",
            head("/open/x", "Connection: keep-alive\r\nConnection: close\r\n\r\n@S@"),
        )
        .check(plain_host),
        case(
            40,
            Clean,
            "a request after close and a body",
            "POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello@S@",
        ),
        case(40, Clean, "noise after Connection: close", head("/open/x", "Connection: close\r\n\r\n\0\0\0"))
            .check(plain_host),
    ]
}

/// That the application is not offered HTTP/2.
fn no_settings(seen: &Seen) -> Option<String> {
    values(seen, "upgrade")
        .iter()
        .any(|value| value.to_ascii_lowercase().contains("h2c"))
        .then(|| format!("upgrade {:?}", values(seen, "upgrade")))
}

/// Class 39: what `Connection` may not have removed.
fn named_in_connection() -> Vec<Case> {
    fn kept(seen: &Seen) -> Option<String> {
        let cert = values(seen, "x-forwarded-client-cert");
        if !matches!(cert[..], [one] if one.contains("URI=spiffe://example.org/ns/shop/sa/web")) {
            return Some(format!("client certificate {cert:?}"));
        }
        for (name, value) in [("content-length", "5"), ("content-type", "text/x"), ("authorization", "mine")] {
            if values(seen, name) != [value] {
                return Some(format!("{name} {:?}", values(seen, name)));
            }
        }
        plain_host(seen)
    }
    [
        "host",
        "content-length",
        "x-forwarded-client-cert",
        "content-type",
        "authorization",
        "close, Host, Content-Length",
        "HOST,,X-Forwarded-Client-Cert",
    ]
    .map(|names| {
        let bytes = format!(
            "POST /open/@R@ HTTP/1.1\r\nConnection: {names}\r\nHost: @H@\r\nContent-Type: text/x\r\n\
                 Authorization: mine\r\nX-Forwarded-Client-Cert: By=forged\r\nContent-Length: 5\r\n\r\nhello"
        );
        case(39, Clean, format!("Connection: {names}"), bytes).check(kept)
    })
    .into()
}
