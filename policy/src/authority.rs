//! The canonical authority: a host in lower case without trailing dot, and a port only where it is not the
//! scheme's own (RFC 9110 §4.2.3, §7.2).
//!
//! Refuses user information, empty labels, percent escapes, bytes outside the host-name alphabet, and
//! numbers that only some readers take for an IPv4 address (`127.1`, `0x7f.0.0.1`).

use crate::malformed::Malformed;
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A canonical authority: `text` is `host` or `host:port`, `host_len` bytes of it are the host.
pub(crate) struct Authority<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) host_len: usize,
    pub(crate) port: Option<u16>,
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`. `default_port` is dropped.
pub(crate) fn canonical(raw: &str, default_port: u16) -> Result<Authority<'_>, Malformed> {
    let (host, port) = split(raw)?;
    let port = port.map(parse_port).transpose()?.filter(|p| *p != default_port);
    let host = canonical_host(host)?;
    let host_len = host.len();
    let text = match (host, port) {
        (Cow::Borrowed(host), None) => Cow::Borrowed(host),
        (host, None) => host,
        (host, Some(port)) => {
            // Borrow `host:port` as it came when nothing had to change.
            match raw.strip_prefix(&*host).and_then(|rest| rest.strip_prefix(':')) {
                Some(digits) if !digits.starts_with('0') => Cow::Borrowed(raw),
                _ => Cow::Owned(format!("{host}:{port}")),
            }
        }
    };
    Ok(Authority { text, host_len, port })
}

/// A host alone, as rules and service tables write it. The same reading as that of a request.
pub(crate) fn canonical_host(raw: &str) -> Result<Cow<'_, str>, Malformed> {
    if let Some(inner) = raw.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(Malformed::BadHost)?;
        let address: Ipv6Addr = inner.parse().map_err(|_| Malformed::BadHost)?;
        let text = format!("[{address}]");
        return Ok(if text == raw { Cow::Borrowed(raw) } else { Cow::Owned(text) });
    }
    let name = raw.strip_suffix('.').unwrap_or(raw);
    if check_name(name)? {
        return Ok(Cow::Owned(name.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(name))
}

fn split(raw: &str) -> Result<(&str, Option<&str>), Malformed> {
    if raw.starts_with('[') {
        let end = raw.find(']').ok_or(Malformed::BadHost)?;
        let (host, rest) = raw.split_at_checked(end + 1).ok_or(Malformed::BadHost)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(Malformed::BadHost),
        };
    }
    match raw.split_once(':') {
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((raw, None)),
    }
}

fn parse_port(digits: &str) -> Result<u16, Malformed> {
    // `parse` alone would take a leading plus sign.
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Malformed::BadPort);
    }
    digits.parse().ok().filter(|p| *p != 0).ok_or(Malformed::BadPort)
}

/// RFC 1123 §2.1 with the underscore that service names use in practice; lengths of RFC 1035 §2.3.4.
/// One pass over the bytes. Returns whether there are capitals to lower.
fn check_name(name: &str) -> Result<bool, Malformed> {
    if name.len() > 253 {
        return Err(Malformed::BadHost);
    }
    let mut capitals = false;
    let mut label = 0;
    let mut digits = 0;
    for b in name.bytes() {
        match b {
            b'a'..=b'z' | b'-' | b'_' => {}
            b'0'..=b'9' => digits += 1,
            b'A'..=b'Z' => capitals = true,
            b'.' if label > 0 => {
                label = 0;
                digits = 0;
                continue;
            }
            _ => return Err(Malformed::BadHost),
        }
        label += 1;
        if label > 63 {
            return Err(Malformed::BadHost);
        }
    }
    if label == 0 {
        return Err(Malformed::BadHost);
    }
    // A last label with a digit may be a number to some readers; the rare case is looked at in full.
    if digits > 0 && ends_in_number(name) && name.parse::<Ipv4Addr>().is_err() {
        return Err(Malformed::BadHost);
    }
    Ok(capitals)
}

/// Whether the last label is decimal or hexadecimal digits: such hosts are IPv4 addresses to the URL
/// standard (WHATWG URL, "ends in a number checker"), in more spellings than one.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|b| b.is_ascii_digit()) || hex.is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
}
