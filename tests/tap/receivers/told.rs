//! What the copy of a message has to be, byte for byte, from what an application got or gave.
//!
//! Written from the tap's documented form, and sharing no code with it: `host` first, the fields of the connection and its
//! framing left out and written anew behind the others, the client's certificate (which is the proxy's own addition) and the
//! names reserved for the tap left out, secrets masked one for one, a body cut at the limit.

use support::message::Message;

/// Header fields that the copy leaves out, or writes at its own place.
const APART: [&str; 6] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "x-forwarded-client-cert",
    "x-envoy-upstream-service-time",
];
/// Header fields whose value the copy masks.
const SECRETS: [&str; 5] = ["authorization", "cookie", "set-cookie", "x-api-key", "proxy-authorization"];

/// The request as an application behind the sidecar got it, as it stands in the copy. `secret` is the value of a query
/// parameter that has to be masked.
pub(crate) fn request(got: &Message, secret: &str, limit: usize) -> Vec<u8> {
    let start = got.start.replace(secret, &"*".repeat(secret.len()));
    let mut text = format!("{start}\r\nhost: {}\r\n", got.header("host").unwrap());
    fields(&mut text, &got.headers);
    let length = got.header("content-length").map(str::to_owned);
    if length.is_none() && !got.chunked {
        return (text + "\r\n").into_bytes();
    }
    framed(text, &got.body, length, &got.trailers, limit)
}

/// A response with these fields, as it stands in the copy; a length that is not told was not known.
pub(crate) fn response(
    status: &str,
    headers: &[(String, String)],
    body: &[u8],
    trailers: Option<&[(String, String)]>,
    limit: usize,
) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    fields(&mut text, headers);
    let length = trailers.is_none().then(|| body.len().to_string());
    framed(text, body, length, trailers.unwrap_or_default(), limit)
}

fn fields(text: &mut String, headers: &[(String, String)]) {
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        if APART.contains(&lower.as_str()) {
            continue;
        }
        let masked = SECRETS.contains(&lower.as_str());
        // The scheme of credentials stays.
        let shown = if value.starts_with("Bearer ") && lower.ends_with("authorization") { 7 } else { 0 };
        let value = if masked { value[..shown].to_owned() + &"*".repeat(value.len() - shown) } else { value.clone() };
        *text += &format!("{name}: {value}\r\n");
    }
}

fn framed(
    mut text: String,
    body: &[u8],
    length: Option<String>,
    trailers: &[(String, String)],
    limit: usize,
) -> Vec<u8> {
    let copied = &body[..body.len().min(limit)];
    if let Some(length) = length {
        text += &format!("content-length: {length}\r\n\r\n");
        return [text.as_bytes(), copied].concat();
    }
    text += "transfer-encoding: chunked\r\n\r\n";
    let mut out = text.into_bytes();
    if !copied.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", copied.len()).as_bytes());
        out.extend_from_slice(copied);
        out.extend_from_slice(b"\r\n");
    }
    if copied.len() == body.len() {
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}
