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

/// How to treat the header of this (lower-case) name.
pub(crate) fn header(name: &str) -> Treatment {
    if name.starts_with(RESERVED) {
        Treatment::Strip
    } else if MASKED.contains(&name) {
        Treatment::Mask
    } else if URLS.contains(&name) {
        Treatment::Url
    } else {
        Treatment::Pass
    }
}

/// `value` with every byte masked.
pub(crate) fn mask(value: &[u8]) -> Vec<u8> {
    vec![b'*'; value.len()]
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
            copy.iter_mut().skip(at + value).take(part.len() - value).for_each(|byte| *byte = b'*');
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
const RESERVED: &str = "x-mesh-";

/// Headers whose value is a credential, or names a certificate in full.
const MASKED: [&str; 15] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    // Forwarded client certificates: Envoy's, RFC 9440's, and those of nginx, Traefik, HAProxy and Azure.
    "x-forwarded-client-cert",
    "client-cert",
    "client-cert-chain",
    "ssl-client-cert",
    "x-ssl-client-cert",
    "x-client-cert",
    "x-ssl-cert",
    "x-forwarded-tls-client-cert",
    "x-ssl-client-der",
    "x-arr-clientcert",
];

/// Headers that repeat or hand on a URL: an OAuth code travels in `location` and comes back in `referer`.
const URLS: [&str; 9] = [
    "location",
    "content-location",
    "referer",
    "refresh",
    "link",
    "x-envoy-original-path",
    "x-original-uri",
    "x-original-url",
    "x-forwarded-uri",
];

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
            assert_eq!(header(name), Treatment::Mask);
        }
        assert_eq!([header("location"), header("referer")], [Treatment::Url; 2]);
        assert_eq!(header("x-mesh-src"), Treatment::Strip);
        assert_eq!([header("content-length"), header("host")], [Treatment::Pass; 2]);
        assert_eq!(mask(b"Bearer abc"), b"**********");
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
