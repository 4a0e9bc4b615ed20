//! What an application was sent, read without mercy: the judge of "never ambiguous, never an extra request".
//!
//! The bytes of one connection must be whole HTTP/1.1 requests in which every reader finds the same thing: CRLF ends every
//! line, one host, one length, no control byte, no field name that another spelling would make a claim of. A complaint is a
//! sentence; bytes that end in the middle of a request are no complaint, for a cut request is known to be cut.

/// The requests of one connection, as far as they are whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Every whole request, in order.
    pub requests: Vec<Seen>,
    /// The start line of a request that was begun and not ended, when there is one.
    pub cut: Option<String>,
    /// The first thing that two readers could read differently.
    pub complaint: Option<String>,
}

/// One whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The target, as sent.
    pub target: String,
    /// Fields in order: name as sent, value without the blanks around it.
    pub fields: Vec<(String, String)>,
    /// The body, chunking taken off.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Vec<(String, String)>,
}

/// Reads what came on one connection.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match one(rest) {
            Ok(Some((seen, after))) => {
                reading.requests.push(seen);
                rest = after;
            }
            Ok(None) => {
                let line = rest.split(|byte| *byte == b'\r').next().unwrap_or(rest);
                reading.cut = Some(String::from_utf8_lossy(line).into_owned());
                break;
            }
            Err(complaint) => {
                reading.complaint = Some(complaint);
                break;
            }
        }
    }
    reading
}

/// One request and what follows it; None when it is not whole yet.
fn one(bytes: &[u8]) -> Result<Option<(Seen, &[u8])>, String> {
    let Some((start, mut rest)) = line(bytes)? else { return Ok(None) };
    let parts: Vec<&str> = start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return Err(format!("request line {start:?}")) };
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte)) {
        return Err(format!("method {method:?}"));
    }
    of_target(target)?;
    let Some((fields, after)) = of_fields(rest)? else { return Ok(None) };
    rest = after;
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    };
    if values("host").len() != 1 {
        return Err(format!("{} host fields", values("host").len()));
    }
    let (body, trailers) = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => Default::default(),
        ([length], []) => {
            let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length: usize = match length.parse() {
                Ok(length) if plain => length,
                _ => return Err(format!("content-length {length:?}")),
            };
            if rest.len() < length {
                return Ok(None);
            }
            let (body, after) = rest.split_at(length);
            rest = after;
            (body.to_vec(), Fields::new())
        }
        ([], ["chunked"]) => match chunks(rest)? {
            Some((body, trailers, after)) => {
                rest = after;
                (body, trailers)
            }
            None => return Ok(None),
        },
        (lengths, codings) => return Err(format!("content-length {lengths:?} with transfer-encoding {codings:?}")),
    };
    Ok(Some((Seen { method: method.to_owned(), target: target.to_owned(), fields, body, trailers }, rest)))
}

/// A target in origin-form, or `*`, of printable ASCII without what readers treat differently.
fn of_target(target: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("target {target:?}: {why}"));
    if target != "*" && !target.starts_with('/') {
        return wrong("not in origin-form");
    }
    if let Some(byte) = target.bytes().find(|byte| !(0x21..=0x7e).contains(byte) || b"#\\".contains(byte)) {
        return wrong(&format!("byte {byte:#04x}"));
    }
    let mut path = target.split('?').next().unwrap_or(target).as_bytes().to_vec();
    if path.starts_with(b"//") {
        return wrong("begins with two slashes");
    }
    // Readers that decode once, twice or three times must all stay in the same place.
    for _ in 0..3 {
        let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        for segment in &segments {
            let name = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
            if matches!(name, b"." | b"..") {
                return wrong("a dot segment");
            }
        }
        if path.iter().any(|byte| *byte < 0x20 || *byte == 0x7f || *byte == b'\\') {
            return wrong("a control byte or a backslash");
        }
        let decoded = decode(&path);
        if decoded.iter().filter(|byte| **byte == b'/').count() != path.iter().filter(|byte| **byte == b'/').count() {
            return wrong("an encoded slash");
        }
        path = decoded;
    }
    Ok(())
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(value) if *byte == b'%' => {
                out.push(value);
                rest = &after[2..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

type Fields = Vec<(String, String)>;
/// A body, its trailers and what follows.
type Body<'a> = (Vec<u8>, Fields, &'a [u8]);

/// Fields up to and with the empty line.
fn of_fields(bytes: &[u8]) -> Result<Option<(Fields, &[u8])>, String> {
    let mut fields = Fields::new();
    let mut rest = bytes;
    loop {
        let Some((text, after)) = line(rest)? else { return Ok(None) };
        rest = after;
        if text.is_empty() {
            return Ok(Some((fields, rest)));
        }
        let Some((name, value)) = text.split_once(':') else { return Err(format!("field line {text:?}")) };
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("field name {name:?}"));
        }
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// Chunks, the last one, and trailers that are no framing or routing fields.
fn chunks(bytes: &[u8]) -> Result<Option<Body<'_>>, String> {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((size, after)) = line(rest)? else { return Ok(None) };
        let plain = (1..=16).contains(&size.len()) && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = match usize::from_str_radix(&size, 16) {
            Ok(size) if plain => size,
            _ => return Err(format!("chunk size {size:?}")),
        };
        if size == 0 {
            let Some((trailers, after)) = of_fields(after)? else { return Ok(None) };
            let bad = ["content-length", "transfer-encoding", "host", "authorization", "x-forwarded-client-cert"];
            if let Some((name, _)) = trailers.iter().find(|(name, _)| bad.contains(&name.to_ascii_lowercase().as_str()))
            {
                return Err(format!("trailer {name:?}"));
            }
            return Ok(Some((body, trailers, after)));
        }
        if after.len() < size.saturating_add(2) {
            return Ok(None);
        }
        let (data, after) = after.split_at(size);
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n").ok_or("chunk data without CRLF after it")?;
    }
}

/// A line without its CRLF. A CR or LF alone, and any other control byte but tab, is a complaint.
fn line(bytes: &[u8]) -> Result<Option<(String, &[u8])>, String> {
    let end = bytes.iter().position(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f);
    match end.map(|end| bytes.split_at(end)) {
        None => Ok(None),
        Some((_, b"\r")) => Ok(None),
        Some((text, [b'\r', b'\n', rest @ ..])) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Some((text.to_owned(), rest))),
            // obs-text in a value is legal (RFC 9110 §5.5); as Latin-1 it stays visible.
            Err(_) => Ok(Some((text.iter().map(|byte| char::from(*byte)).collect(), rest))),
        },
        Some((text, rest)) => {
            Err(format!("byte {:#04x} after {:?}", rest.first().copied().unwrap_or(0), String::from_utf8_lossy(text)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_requests_are_read_and_a_cut_one_is_named() {
        let bytes =
            b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                      3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\nPUT /c HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc";
        let reading = read(bytes);
        let targets: Vec<&str> = reading.requests.iter().map(|seen| seen.target.as_str()).collect();
        assert_eq!((targets, reading.requests[1].body.as_slice()), (vec!["/a", "/b"], &b"abc"[..]));
        assert_eq!(reading.requests[1].trailers, [("x-sum".to_owned(), "1".to_owned())]);
        assert_eq!((reading.cut.as_deref(), reading.complaint), (Some("PUT /c HTTP/1.1"), None));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_a_complaint() {
        for bytes in [
            &b"GET /a HTTP/1.1\nHost: h\n\n"[..],
            b"GET  /a HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /a/..;x/b HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /a/%252e%252e/b HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /a%2fb HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /a HTTP/1.1\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost : h\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na",
            b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: x\r\n\r\n",
        ] {
            assert!(read(bytes).complaint.is_some(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
