//! What never leaves: credentials in headers and in query parameters.
//!
//! In: a header name, a header value or a request target. Out: how to treat it, or the same bytes with secrets
//! replaced by `*`, one for one, so that framing and offsets stay true. Works before the queue, so that neither the
//! queue nor a core dump of it holds a secret. Where a text can be read in two ways, both are masked.

use std::borrow::Cow;

/// What happens to a header in the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Copied.
    Pass,
    /// Every byte of the value masked.
    Mask,
    /// The value is or holds a URL: its query parameters are looked through.
    Url,
    /// Left out: a name reserved for what the tap itself adds, which a client could forge.
    Strip,
}

/// How to treat the header of this name, in any case.
pub(crate) fn header(name: &[u8]) -> Treatment {
    if name.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED)) {
        return Treatment::Strip;
    }
    let known = special(name.len()).iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
    known.map_or(Treatment::Pass, |(_, treatment)| *treatment)
}

/// A value of this length with every byte masked.
pub(crate) fn mask(length: usize) -> impl Iterator<Item = u8> {
    std::iter::repeat_n(MASK, length)
}

/// `url` with the values of secret parameters masked, in the query and in a fragment.
pub(crate) fn url(url: &[u8]) -> Cow<'_, [u8]> {
    let mut masked: Option<Vec<u8>> = None;
    let mut at = match url.iter().position(|byte| START.contains(byte)) {
        Some(start) => start + 1,
        None => return Cow::Borrowed(url),
    };
    for part in url.get(at..).unwrap_or_default().split(|byte| *byte == b'&' || START.contains(byte)) {
        if let Some(value) = secret_value(part) {
            let copy = masked.get_or_insert_with(|| url.to_vec());
            copy.iter_mut().skip(at + value).take(part.len() - value).for_each(|byte| *byte = MASK);
        }
        at += part.len() + 1;
    }
    masked.map_or(Cow::Borrowed(url), Cow::Owned)
}

/// Where the secret of one `name=value` part begins.
///
/// Some servers also split at `;`. A secret may begin behind such a split, and it may itself contain one: so the
/// names are looked for behind every `;`, and the mask runs to the end of the part.
fn secret_value(part: &[u8]) -> Option<usize> {
    let mut at = 0;
    for pair in part.split(|byte| *byte == b';') {
        if let Some(equals) = pair.iter().position(|byte| *byte == b'=')
            && secret_name(pair.get(..equals).unwrap_or_default())
        {
            return Some(at + equals + 1);
        }
        at += pair.len() + 1;
    }
    None
}

/// Decoded as a server would: escapes, case, and the `user[password]` form.
fn secret_name(name: &[u8]) -> bool {
    let decoded = percent_decode(name);
    let secret = |word: &[u8]| PARAMETERS.iter().any(|known| word.trim_ascii().eq_ignore_ascii_case(known.as_bytes()));
    decoded.split(|byte| b"[].".contains(byte)).any(secret)
}

/// A malformed escape stays as it stands, as servers that tolerate one read it.
fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escape = (*first == b'%').then(|| after.split_first_chunk::<2>()).flatten();
        let value = escape.and_then(|([high, low], tail)| Some((hex(*high)? << 4 | hex(*low)?, tail)));
        match value {
            Some((byte, tail)) => {
                decoded.push(byte);
                rest = tail;
            }
            None => {
                decoded.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Names a client may not smuggle into the copy: the tap's own labels begin like this.
const RESERVED: &[u8] = b"x-mesh-";

/// Headers of this length of name that are not simply copied; the length tells most names apart.
///
/// Masked is a value that is a credential, or names a certificate in full: forwarded client certificates as Envoy, RFC 9440,
/// nginx, Traefik, HAProxy and Azure write them. URLs are repeated or handed on: an OAuth code travels in `location` and
/// comes back in `referer`.
fn special(length: usize) -> &'static [(&'static str, Treatment)] {
    use Treatment::{Mask, Url};
    match length {
        4 => &[("link", Url)],
        6 => &[("cookie", Mask)],
        7 => &[("referer", Url), ("refresh", Url)],
        8 => &[("location", Url)],
        9 => &[("x-api-key", Mask)],
        10 => &[("set-cookie", Mask), ("x-ssl-cert", Mask)],
        11 => &[("client-cert", Mask)],
        13 => &[("authorization", Mask), ("x-client-cert", Mask)],
        14 => &[("x-original-uri", Url), ("x-original-url", Url)],
        15 => &[("ssl-client-cert", Mask), ("x-forwarded-uri", Url)],
        16 => &[("content-location", Url), ("x-ssl-client-der", Mask), ("x-arr-clientcert", Mask)],
        17 => &[("client-cert-chain", Mask), ("x-ssl-client-cert", Mask)],
        19 => &[("proxy-authorization", Mask)],
        21 => &[("x-envoy-original-path", Url)],
        23 => &[("x-forwarded-client-cert", Mask)],
        27 => &[("x-forwarded-tls-client-cert", Mask)],
        _ => &[],
    }
}

/// Stands for each byte of a secret.
const MASK: u8 = b'*';

const PARAMETERS: [&str; 5] = ["token", "access_token", "code", "password", "sig"];
const START: &[u8] = b"?#";

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(text: &str) -> String {
        String::from_utf8(url(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn secret_parameters_are_masked_and_nothing_else_moves() {
        assert_eq!(masked("/a?x=1&token=abc&y=2"), "/a?x=1&token=***&y=2");
        assert_eq!(masked("/a?access_token=abc"), "/a?access_token=***");
        assert_eq!(masked("/a?code=&sig=z&password=p%26w"), "/a?code=&sig=*&password=*****");
        assert_eq!(masked("/token=abc/code?id=7"), "/token=abc/code?id=7");
        assert_eq!(masked("/a?tokens=abc&mycode=1"), "/a?tokens=abc&mycode=1");
        assert_eq!(masked("/plain"), "/plain");
    }

    #[test]
    fn disguised_parameter_names_are_masked_as_well() {
        assert_eq!(masked("/a?%74oken=abc&TOKEN=abc"), "/a?%74oken=***&TOKEN=***");
        assert_eq!(
            masked("/a?user[password]=abc&user%5Bpassword%5D=abc"),
            "/a?user[password]=***&user%5Bpassword%5D=***"
        );
        assert_eq!(masked("/a?x=1;token=abc;def&y=2"), "/a?x=1;token=*******&y=2");
        assert_eq!(masked("https://app/cb#access_token=abc"), "https://app/cb#access_token=***");
        assert_eq!(masked("/a?next=/b?token=abc"), "/a?next=/b?token=***");
        assert_eq!(masked("/a?%zz=1&token=a=b"), "/a?%zz=1&token=***");
        assert_eq!(masked("/a?+token=abc"), "/a?+token=***");
    }

    #[test]
    fn credentials_are_masked_and_reserved_names_stripped() {
        for name in
            ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-forwarded-client-cert"]
        {
            assert_eq!(header(name.as_bytes()), Treatment::Mask);
            assert_eq!(header(name.to_uppercase().as_bytes()), Treatment::Mask);
        }
        assert_eq!([header(b"location"), header(b"Referer")], [Treatment::Url; 2]);
        assert_eq!(
            [header(b"x-mesh-src"), header(b"X-Mesh-"), header(b"x-mesh")],
            [Treatment::Strip, Treatment::Strip, Treatment::Pass]
        );
        assert_eq!([header(b"content-length"), header(b"host")], [Treatment::Pass; 2]);
        assert!(mask(10).eq(*b"**********"));
    }

    #[test]
    fn every_special_name_stands_under_its_length() {
        for length in 0..64 {
            assert!(special(length).iter().all(|(name, _)| name.len() == length), "{length}");
        }
        assert_eq!((0..64).map(|length| special(length).len()).sum::<usize>(), 15 + 9);
    }

    proptest! {
        #[test]
        fn masking_keeps_the_length_and_hides_the_secret(before in "[a-z=&;?%/]{0,20}", secret in "[A-Z0-9]{8,20}", after in "(&[a-z=&]{0,9})?") {
            let text = format!("/p?{before}&token={secret}{after}");
            let seen = masked(&text);
            prop_assert_eq!(seen.len(), text.len());
            prop_assert!(!seen.contains(&secret));
            prop_assert!(seen.ends_with(&after) || after.contains("token") || after.contains("code") || after.contains("sig") || after.contains("password"));
        }
    }
}
