//! Class 114: what a caller chose must not end a log line, begin another one, or speak to the terminal of whoever reads it: line
//! ends, escape sequences in seven and in eight bits, quotes, backslashes, direction marks. In both formats and on stderr each
//! request is one line, of printable ASCII alone.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;

use serde_json::Value;
use support::pair::{HOST, Setting};
use support::sidecar::Sidecar;
use support::{rest, wait};

/// What is written into each field.
const VALUES: [&[u8]; 12] = [
    b"a\" 200 - 0 0 \"forged",
    b"a\\\" b",
    b"{\"event\":\"forged\"}",
    b"\\u000a\\n\\r\\x1b[2J",
    b"%0d%0a[2026-01-01T00:00:00.000Z] \"GET /forged HTTP/1.1\" 200",
    b"%1b[31m%1b]0;title%07",
    // CSI and OSC in eight bits, as ISO 8859-1 and as UTF-8.
    b"\x9b31mred\x9d0;title\x9c",
    b"\xc2\x9b31mred\xc2\x9d0;title\xc2\x9c",
    // Line separators, right-to-left override, a byte order mark.
    b"\xe2\x80\xa8forged\xe2\x80\xa9\xe2\x80\xaegnp\xef\xbb\xbf",
    b"\xf0\x9f\x94\x92 \xc3\xa9 \xff\xfe\xc0\x80 \xed\xa0\x80",
    b"tab\there",
    b"$(touch forged) `forged` ${jndi:ldap://forged/a} <script>forged</script>",
];

/// What HTTP/1.1 does not let through at all; the request is refused and is a line all the same.
const REFUSED: [&[u8]; 4] = [b"a\x1b[2Jb", b"a\x00b", b"a\rb", b"a\x7fb"];

/// The fields that are logged.
const FIELDS: [&str; 5] = ["user-agent", "x-request-id", "x-forwarded-for", "referer", "x-forwarded-client-cert"];

/// A request with a value in one field.
fn in_field(field: &str, value: &[u8]) -> Vec<u8> {
    let head = format!("GET /api/orders/1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{field}: ");
    [head.as_bytes(), value, b"\r\n\r\n"].concat()
}

/// The same in the path, in the query, and in the host.
fn in_target(value: &[u8]) -> [Vec<u8>; 3] {
    let host = format!(" HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").into_bytes();
    [
        [b"GET /api/orders/", value, &host].concat(),
        [b"GET /api/orders/1?", value, &host].concat(),
        [b"GET /api/orders/1 HTTP/1.1\r\nConnection: close\r\nHost: ", value, b"\r\n\r\n"].concat(),
    ]
}

fn requests() -> Vec<Vec<u8>> {
    let values = || VALUES.iter().chain(&REFUSED);
    let fields = FIELDS.iter().flat_map(|field| values().map(move |value| in_field(field, value)));
    fields.chain(values().flat_map(|value| in_target(value))).collect()
}

/// Sends everything and reads to the end each time.
fn send(setting: &Setting) -> usize {
    let requests = requests();
    for request in &requests {
        let mut stream = TcpStream::connect(setting.at.entry).unwrap();
        stream.write_all(request).unwrap();
        stream.set_read_timeout(Some(wait::SOON)).unwrap();
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 "), "{}", request.escape_ascii());
    }
    requests.len()
}

/// The bytes of a file as lines; every byte must be printable ASCII.
fn lines(path: &std::path::Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let text: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    for line in &text {
        assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~')), "{}", line.escape_ascii());
    }
    text.iter().filter(|line| !line.is_empty()).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
}

/// One line for each request, and no more of them after a while of quiet.
fn settled(sidecar: &Sidecar, count: usize) -> Vec<String> {
    wait::until("a line for each request", wait::SOON, || (sidecar.access_log().len() >= count).then_some(()));
    let _ = rest::base(sidecar);
    lines(&sidecar.child.stdout.path)
}

fn assert_events(sidecar: &Sidecar) {
    for line in lines(&sidecar.child.stderr.path) {
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["event"].is_string() && value["event"] != "forged", "{line}");
    }
}

#[test]
fn json_lines_hold_what_was_sent_and_nothing_more() {
    let setting = rest::soon(Setting::new()).client(support::pair::json_log);
    let pair = setting.start();
    let count = send(&pair.setting);
    let found = settled(&pair.client, count);
    assert_eq!(found.len(), count);
    let mut agents = BTreeSet::new();
    for line in &found {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(value["schema"], 1, "{line}");
        agents.extend(value["user_agent"].as_str().map(str::to_owned));
    }
    // Nothing was lost by the escapes: what came in as UTF-8 comes out of JSON as it came in.
    for value in VALUES.iter().filter_map(|value| std::str::from_utf8(value).ok()) {
        assert!(agents.contains(value), "{value:?} is not among {agents:#?}");
    }
    for sidecar in [&pair.client, &pair.server] {
        assert_events(sidecar);
    }
}

#[test]
fn envoys_lines_have_their_fields_and_nothing_more() {
    let pair = rest::soon(Setting::new()).start();
    let count = send(&pair.setting);
    let found = settled(&pair.client, count);
    assert_eq!(found.len(), count);
    for line in &found {
        // Six quoted fields: request line, x-forwarded-for, user agent, request id, authority, upstream; quotes inside are
        // escaped.
        let mut quotes = 0;
        let mut escaped = false;
        for byte in line.bytes() {
            match byte {
                b'\\' if !escaped => escaped = true,
                b'"' if !escaped => quotes += 1,
                _ => escaped = false,
            }
        }
        assert_eq!(quotes, 12, "{line}");
        assert!(line.starts_with('[') && line.get(25..28) == Some("] \""), "{line}");
    }
    for sidecar in [&pair.client, &pair.server] {
        assert_events(sidecar);
    }
}
