//! Where a target leads, under every reading some application might give it.
//!
//! An application decodes once, twice or three times, cuts parameters off, takes a backslash for a slash, merges slashes,
//! resolves dots. A target stays open only if all of that leaves it below `/open` and out of `/open/admin`.

use std::collections::BTreeSet;

/// Whether every reading of a target stays where the rules allow it.
pub(super) fn stays_open(target: &str) -> bool {
    readings(target).iter().all(|path| {
        let admin = path.strip_prefix("/open/admin");
        let in_admin = admin.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (path == "/open" || path.starts_with("/open/")) && !in_admin
    })
}

/// Every path some reader may see.
fn readings(target: &str) -> BTreeSet<String> {
    let path = target.split('?').next().unwrap_or(target);
    let mut all = BTreeSet::from([path.to_owned()]);
    // Each reading may be read once more: three rounds of decoding, in any order with the rest.
    for _ in 0..3 {
        let before: Vec<String> = all.iter().cloned().collect();
        for path in before {
            all.extend([decoded(&path), folded(&path), path.replace('\\', "/"), without_parameters(&path)]);
        }
    }
    all.iter().flat_map(|path| [resolved(path, false), resolved(path, true)]).collect()
}

fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digits = path.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            // A program in C ends here.
            Some(0) => break,
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    // `%u002e`, and overlong forms of two bytes, as old decoders read them.
    let mut text: String = overlong(&out).chars().collect();
    for (form, plain) in [("%u002e", "."), ("%u002f", "/"), ("%u005c", "\\")] {
        text = text.replace(form, plain).replace(&form.to_uppercase().replace("%U", "%u"), plain);
    }
    // What follows an encoded `?` or `#` is no path to who decodes before taking apart.
    text.split(['?', '#', '\n', '\r']).next().unwrap_or("").to_owned()
}

fn overlong(bytes: &[u8]) -> String {
    let mut plain = Vec::new();
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        match (first, after) {
            (0xc0 | 0xc1, [second, after @ ..]) => {
                plain.push((first & 1) << 6 | second & 0x3f);
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Full-width forms as the characters they look like.
fn folded(path: &str) -> String {
    let narrow = |c: char| match u32::from(c) {
        wide @ 0xff01..=0xff5e => char::from_u32(wide - 0xfee0).unwrap_or(c),
        0x2024 => '.',
        _ => c,
    };
    path.chars().map(narrow).collect()
}

fn without_parameters(path: &str) -> String {
    let cut: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap_or("")).collect();
    cut.join("/")
}

/// Dots resolved; empty segments kept or merged; blanks and dots at the end of a segment dropped, as some file systems do.
fn resolved(path: &str, merge: bool) -> String {
    let mut out: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            "" if merge => {}
            ".." => {
                out.pop();
            }
            _ => out.push(if merge { segment.trim_end_matches([' ', '\t']) } else { segment }),
        }
    }
    format!("/{}", out.join("/"))
}

#[cfg(test)]
mod tests {
    use super::stays_open;

    #[test]
    fn a_way_round_is_seen_under_every_reading() {
        for target in
            ["/open/x", "/open", "/open/administrator", "/open/ADMIN", "/open/x?/../open/admin", "/open/a%20b/c"]
        {
            assert!(stays_open(target), "{target}");
        }
        for target in [
            "/closed",
            "/open/admin",
            "/open/admin/x",
            "/open/%61dmin/x",
            "/open/%2561dmin/x",
            "/open/x/../admin/x",
            "/open/x/%2e%2e/admin",
            "/open/x/%252e%252e/admin",
            "/open/x/..;a=b/admin",
            "/open/admin;a=b/x",
            "/open/x/..%3b/admin",
            "/open//admin",
            "/open\\admin",
            "/open/x%5c..%5cadmin",
            "/open/admin%3fx",
            "/open/admin%20/x",
            "/open/admin%00x",
            "/open/x/%c0%ae%c0%ae/admin",
            "/open/x/%ef%bc%8e%ef%bc%8e/admin",
            "/open/x/%u002e%u002e/admin",
            "/open/../closed",
        ] {
            assert!(!stays_open(target), "{target}");
        }
    }
}
