//! Cookies by name (RFC 6265 sections 4.1.1 and 5.4).
//!
//! In: the value of `cookie` or `set-cookie`. Out: the same bytes with the values of secret cookies masked. A value in quotes
//! may hold what would otherwise end it.

use std::ops::Range;

/// Masks in place; says how many. Of `set-cookie` only the cookie is looked at, not its attributes.
pub(super) fn mask(value: &mut [u8], is_set: bool, is_secret: impl Fn(&[u8]) -> bool) -> u32 {
    let mut secrets: Vec<Range<usize>> = Vec::new();
    let (mut at, mut quoted) = (0, false);
    for part in value.split(|byte| *byte == b';') {
        let begin = at;
        at += part.len() + 1;
        let whole = begin..begin + part.len();
        if quoted {
            quoted = !part.contains(&b'"');
            secrets.push(whole);
            continue;
        }
        // Older servers take a comma for the end of a cookie as well: a name may stand behind one.
        let mut name_at = 0;
        for pair in part.split(|byte| *byte == b',') {
            let (name, from) = match pair.iter().position(|byte| *byte == b'=') {
                Some(equals) => (pair.get(..equals).unwrap_or_default(), name_at + equals + 1),
                None => (&b""[..], name_at),
            };
            name_at += pair.len() + 1;
            if is_secret(name.trim_ascii()) {
                let written = part.get(from..).unwrap_or_default();
                quoted = written.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
                secrets.push(begin + from..whole.end);
                break;
            }
        }
        if is_set && !quoted {
            break;
        }
    }
    let found = super::count(secrets.len());
    secrets.into_iter().for_each(|secret| super::fill(value, secret));
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn masked(text: &str, is_set: bool, is_secret: impl Fn(&[u8]) -> bool) -> String {
        let mut bytes = text.as_bytes().to_vec();
        mask(&mut bytes, is_set, is_secret);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn named_cookies_are_masked() {
        let sid = |name: &[u8]| name.eq_ignore_ascii_case(b"sid");
        assert_eq!(masked("a=1; sid=abc; b=2", false, sid), "a=1; sid=***; b=2");
        assert_eq!(masked("a=1,sid=abc; b=2", false, sid), "a=1,sid=***; b=2");
        assert_eq!(masked("sid=\"a;b\"; b=2", false, sid), "sid=******; b=2".replace("******", "**;**"));
        assert_eq!(masked("sid=a=b", false, sid), "sid=***");
        assert_eq!(masked("sid=abc; Domain=x; sid=no", true, sid), "sid=***; Domain=x; sid=no");
    }

    #[test]
    fn all_but_the_named_ones_are_masked() {
        let all_but = |name: &[u8]| name != b"theme";
        assert_eq!(masked("theme=dark; sid=abc; nameless", false, all_but), "theme=dark; sid=***;*********");
        assert_eq!(masked("theme=dark; Path=/", true, all_but), "theme=dark; Path=/");
    }
}
