//! Credentials that are recognised by their shape, wherever in a URL or a header value they stand.
//!
//! In: a text. Out: the same bytes with each credential replaced by `*`, one for one, and which kinds there were. Nearly all
//! texts hold none: [`is_suspect`] says so after one look at each byte. What it suspects is read a second time.

use crate::wide;

/// Kinds of credentials that were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u8);

impl Kinds {
    /// The password of `scheme://user:password@host` (RFC 3986 section 3.2.1).
    pub const USER_INFO: Self = Self(1);
    /// A JSON Web Token (RFC 7519): three parts of base64url, of which the first begins as `{"` does; or five, if it is
    /// encrypted, of which the second is empty where the key is agreed on (RFC 7516 section 7.1, RFC 7518 section 4.5).
    pub const JWT: Self = Self(1 << 1);
    /// An access key of AWS: `AKIA` or `ASIA` and sixteen characters.
    pub const AWS_KEY: Self = Self(1 << 2);
    /// A token of GitHub: `ghp_` and its relatives, `github_pat_`.
    pub const GITHUB_TOKEN: Self = Self(1 << 3);
    /// A token of Slack: `xoxb-` and its relatives.
    pub const SLACK_TOKEN: Self = Self(1 << 4);
    /// A private key in PEM (RFC 7468).
    pub const PRIVATE_KEY: Self = Self(1 << 5);
    /// `Bearer` or `Basic` credentials (RFC 6750, RFC 7617) at the beginning of a header that does not carry them by rule.
    pub const AUTHORIZATION: Self = Self(1 << 6);

    /// Each kind with its name in records and metrics.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::USER_INFO, "user_info"),
        (Self::JWT, "jwt"),
        (Self::AWS_KEY, "aws_access_key"),
        (Self::GITHUB_TOKEN, "github_token"),
        (Self::SLACK_TOKEN, "slack_token"),
        (Self::PRIVATE_KEY, "private_key"),
        (Self::AUTHORIZATION, "authorization"),
    ];

    /// No kind at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `kinds` are among them.
    #[must_use]
    pub fn has(self, kinds: Self) -> bool {
        self.0 & kinds.0 == kinds.0
    }

    /// The names of those that are there.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().filter(move |(kind, _)| self.has(*kind)).map(|(_, name)| name)
    }

    pub(crate) fn add(&mut self, kinds: Self) {
        self.0 |= kinds.0;
    }
}

/// Whether one of the kinds may be in the text: looks for two letters of each that seldom stand together.
pub(crate) fn is_suspect(text: &[u8]) -> bool {
    text.len() >= SHORTEST && wide::any(text, b' ', has_marks)
}

/// `a://b:c@d` is the shortest of all.
const SHORTEST: usize = 9;

/// The same for a header value of any length, or whether a byte in it is not above the carriage return, as hardly any is.
pub(crate) fn is_suspect_or_low(value: &[u8]) -> bool {
    if value.len() < SHORTEST {
        return wide::any_byte(value, b' ', has_low);
    }
    wide::any(value, b' ', |one, other| has_marks(one, other) | has_low(one))
}

#[inline(always)] // As below.
fn has_low(bytes: &[u8; 16]) -> bool {
    bytes.iter().fold(0, |found, byte| found | u8::from(*byte <= b'\r')) != 0
}

/// `other` is `one` moved by a byte.
#[inline(always)] // Into the loop, to stay in registers.
fn has_marks(one: &[u8; 16], other: &[u8; 16]) -> bool {
    let mut found = 0;
    for (a, b) in one.iter().zip(other) {
        let is = |first: u8, second: u8| u8::from(*a == first) & u8::from(*b == second);
        found |= u8::from(*a == b'@')
            | is(b'y', b'J')
            | is(b'I', b'A')
            | is(b'x', b'o')
            | is(b'-', b'-')
            | is(b'g', b'h')
            | is(b't', b'_')
            | is(b'%', b'4');
    }
    found != 0
}

/// Whether these bytes may be of a URL that needs a second look: for a query, a fragment, or a credential, of which each kind
/// has at least one of these signs: `@` or an escape, a capital (JWT, AWS, PEM), `_` (GitHub), `x` (Slack). Or for an escape in
/// JSON: a quotation mark, a backslash, what is no printable ASCII.
#[inline(always)] // Into the loop, to stay in registers.
pub(crate) fn is_notable(bytes: &[u8; 16]) -> bool {
    let mut found = 0;
    for byte in bytes {
        let within = |first: u8, last: u8| u8::from(byte.wrapping_sub(first) <= last - first);
        found |= within(b'?', b'_') | within(b'"', b'%') | u8::from(*byte == b'x') | (within(b' ', b'~') ^ 1);
    }
    found != 0
}

/// Masks every credential in the text, in time proportional to its length.
pub(crate) fn mask(text: &mut [u8]) -> Kinds {
    let mut kinds = Kinds::default();
    let (mut at, mut no_jwt_before) = (0, 0);
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let before = at.checked_sub(1).and_then(|before| text.get(before)).copied();
        let found = if rest.starts_with(b"eyJ") && at >= no_jwt_before {
            jwt(rest).map(|length| (Kinds::JWT, 0, length)).inspect_err(|run| no_jwt_before = at + run).ok()
        } else {
            credential(rest, before)
        };
        let Some((kind, skip, length)) = found else {
            at += 1;
            continue;
        };
        kinds.add(kind);
        text.iter_mut().skip(at + skip).take(length).for_each(|byte| *byte = super::MASK);
        at += (skip + length).max(1);
    }
    kinds
}

/// The credential that begins here: its kind, how much of its beginning may stay, and how much of it may not.
fn credential(text: &[u8], before: Option<u8>) -> Option<(Kinds, usize, usize)> {
    match text.first()? {
        b':' | b'%' => user_info(text),
        b'A' if text.starts_with(b"AKIA") || text.starts_with(b"ASIA") => {
            if before.is_some_and(|byte| byte.is_ascii_alphanumeric()) {
                return None;
            }
            let word = run(text, |byte| byte.is_ascii_alphanumeric());
            let key = run(text, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            (word == 20 && key == 20).then_some((Kinds::AWS_KEY, 0, word))
        }
        b'g' => github(text).map(|length| (Kinds::GITHUB_TOKEN, 0, length)),
        b'x' if text.starts_with(b"xox") && matches!(text.get(4), Some(b'-' | b'.')) => {
            let length = run(text, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
            (length >= 15).then_some((Kinds::SLACK_TOKEN, 0, length))
        }
        b'-' if text.starts_with(PEM) => private_key(text).map(|(skip, length)| (Kinds::PRIVATE_KEY, skip, length)),
        _ => None,
    }
}

/// Behind `://`, or that in escapes, as in a URL that is the parameter of another; some escape only the colon, or only the
/// slashes.
fn user_info(text: &[u8]) -> Option<(Kinds, usize, usize)> {
    let start = [&b"://"[..], b"%3a%2f%2f", b"%3a//", b":%2f%2f"].into_iter().find(|start| begins(text, start))?.len();
    let authority = text.get(start..)?;
    let ends = |(at, byte): (usize, &u8)| match byte {
        b'/' | b'?' | b'#' | b'\\' | b'"' | b'<' | b'>' | b'&' | b' ' => true,
        b'%' => authority.get(at..).is_some_and(|rest| begins(rest, b"%2f")),
        _ => false,
    };
    let end = authority.iter().enumerate().position(ends).unwrap_or(authority.len());
    let authority = authority.get(..end)?;
    let first = |signs: [&[u8]; 2]| {
        signs.into_iter().filter_map(|sign| Some((find(authority, sign)?, sign.len()))).min_by_key(|(at, _)| *at)
    };
    let (colon, width) = first([b":", b"%3a"])?;
    let password = colon + width;
    let at = (0..authority.len())
        .rfind(|at| authority.get(*at..).is_some_and(|rest| rest.starts_with(b"@") || begins(rest, b"%40")))?;
    let length = at.checked_sub(password).filter(|length| *length > 0)?;
    Some((Kinds::USER_INFO, start + password, length))
}

/// The length of the token; or the length of its first part, in which then no other token begins either.
fn jwt(text: &[u8]) -> Result<usize, usize> {
    let part = |from: usize| text.get(from..).map_or(0, |text| run(text, is_base64url));
    let header = part(0);
    if header < 10 || text.get(header) != Some(&b'.') {
        return Err(header);
    }
    let payload = part(header + 1);
    let is_encrypted = payload == 0 && part(header + 2) >= 2;
    if payload < 2 && !is_encrypted || text.get(header + 1 + payload) != Some(&b'.') {
        return Err(header);
    }
    Ok(run(text, |byte| is_base64url(byte) || byte == b'.' || byte == b'='))
}

fn github(text: &[u8]) -> Option<usize> {
    let is_classic = matches!(text.get(..4)?, [b'g', b'h', b'p' | b'o' | b'u' | b's' | b'r', b'_']);
    let prefix = if is_classic { 4 } else { text.starts_with(b"github_pat_").then_some(11)? };
    let length = run(text, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (length >= prefix + 16).then_some(length)
}

/// What lies between the two lines of the label (RFC 7468 section 2), in which a blank may be written in other ways. A key
/// whose end is missing lasts to the end.
fn private_key(text: &[u8]) -> Option<(usize, usize)> {
    let label = text.get(PEM.len()..)?;
    let label = label.get(..label.len().min(48))?;
    let named = find(label, b"PRIVATE")?;
    let skip = PEM.len() + named + find(label.get(named..)?, b"-----").map_or(0, |dashes| dashes + 5);
    let body = text.get(skip..)?;
    Some((skip, find(body, b"-----END").unwrap_or(body.len())))
}

/// How much of the credentials of a header value that begins like `authorization` may stay.
pub(crate) fn authorization(value: &[u8]) -> Option<usize> {
    // The first letter tells nearly all values apart.
    if !matches!(value.first(), Some(b'B' | b'b')) {
        return None;
    }
    let scheme = [&b"bearer "[..], b"basic "].into_iter().find(|scheme| begins(value, scheme))?.len();
    (value.len() >= scheme + 8).then_some(scheme)
}

/// How much of the value of `authorization` or `proxy-authorization` is the name of a scheme and the space behind it (RFC 9110
/// section 11.4); nothing where that is not one that everybody knows, for it may be the secret itself.
pub(crate) fn scheme(value: &[u8]) -> usize {
    let is_it = |scheme: &&&str| begins(value, scheme.as_bytes()) && value.get(scheme.len()) == Some(&b' ');
    SCHEMES.iter().find(is_it).map(|scheme| scheme.len() + 1).filter(|shown| *shown < value.len()).unwrap_or(0)
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn begins(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
}

fn find(text: &[u8], sought: &[u8]) -> Option<usize> {
    text.windows(sought.len()).position(|window| window.eq_ignore_ascii_case(sought))
}

fn run(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !belongs(*byte)).unwrap_or(text.len())
}

/// Of IANA's registry of HTTP authentication schemes, and two more that are common.
const SCHEMES: [&str; 16] = [
    "Bearer",
    "Basic",
    "Digest",
    "Negotiate",
    "NTLM",
    "DPoP",
    "GNAP",
    "AWS4-HMAC-SHA256",
    "OAuth",
    "PrivateToken",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "HOBA",
    "Mutual",
    "vapid",
    "Concealed",
];

const PEM: &[u8] = b"-----BEGIN";

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(text: &str) -> (String, Kinds) {
        let mut bytes = text.as_bytes().to_vec();
        let kinds = mask(&mut bytes);
        assert!(kinds.is_empty() || is_suspect(text.as_bytes()), "found, but not suspected: {text}");
        let is_notable = wide::any_byte(text.as_bytes(), b' ', is_notable);
        assert!(kinds.is_empty() || is_notable, "found, but not noted: {text}");
        (String::from_utf8(bytes).unwrap(), kinds)
    }

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";

    #[test]
    fn each_kind_is_found_and_hidden() {
        let github = format!("ghp_{}", "a1B2".repeat(9));
        let pat = format!("github_pat_{}", "a1_B2".repeat(9));
        for (secret, kind) in [
            (JWT, Kinds::JWT),
            (
                "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4",
                Kinds::JWT,
            ),
            ("AKIAIOSFODNN7EXAMPLE", Kinds::AWS_KEY),
            ("ASIAIOSFODNN7EXAMPLE", Kinds::AWS_KEY),
            (github.as_str(), Kinds::GITHUB_TOKEN),
            (pat.as_str(), Kinds::GITHUB_TOKEN),
            ("xoxb-123456789012-abcdefABCDEF", Kinds::SLACK_TOKEN),
        ] {
            for (before, after) in [("", ""), ("/a?x=", "&y=2"), ("\"", "\""), ("id ", ", more")] {
                let (text, kinds) = seen(&format!("{before}{secret}{after}"));
                assert_eq!(text, format!("{before}{}{after}", "*".repeat(secret.len())));
                assert_eq!(kinds, kind);
            }
        }
    }

    #[test]
    fn the_password_of_a_url_is_hidden() {
        for (text, masked) in [
            ("http://user:pass@host/a", "http://user:****@host/a"),
            ("/a?next=https://u:p@ss@host/a?b=c@d", "/a?next=https://u:****@host/a?b=c@d"),
            ("/a?next=https%3A%2F%2Fuser%3Apass%40host%2Fa", "/a?next=https%3A%2F%2Fuser%3A****%40host%2Fa"),
            ("/a?next=https%3A//user%3Apass%40host/", "/a?next=https%3A//user%3A****%40host/"),
            ("/a?next=https:%2F%2Fuser:pass@host%2F", "/a?next=https:%2F%2Fuser:****@host%2F"),
            ("redis://:secret@cache:6379/0", "redis://:******@cache:6379/0"),
        ] {
            assert_eq!(seen(text), (masked.to_owned(), Kinds::USER_INFO));
        }
    }

    #[test]
    fn a_private_key_is_hidden_up_to_its_end() {
        let (text, kinds) = seen("-----BEGIN EC PRIVATE KEY----- MHcCAQEE -----END EC PRIVATE KEY-----");
        assert_eq!(text, "-----BEGIN EC PRIVATE KEY-----**********-----END EC PRIVATE KEY-----");
        assert_eq!(kinds, Kinds::PRIVATE_KEY);
        let (text, _) = seen("/a?k=-----BEGIN%20PRIVATE%20KEY-----%0AMHcC");
        assert_eq!(text, "/a?k=-----BEGIN%20PRIVATE%20KEY-----*******");
    }

    #[test]
    fn what_only_resembles_one_stays() {
        for text in [
            "http://host:8080/a@b",
            "mailto:user@host",
            "http://user@host/",
            "http://user@host:80/",
            "eyJ.a.b",
            "eyJhbGciOiJIUzI1NiJ9",
            "AKIA",
            "XAKIAIOSFODNN7EXAMPLE",
            "AKIAIOSFODNN7EXAMPLEX",
            "ghp_short",
            "----WebKitFormBoundary7MA4YWxk",
            "-----BEGIN CERTIFICATE-----MIIB",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 through the night",
        ] {
            assert_eq!(seen(text), (text.to_owned(), Kinds::default()));
        }
    }

    #[test]
    fn credentials_of_a_scheme_are_found_at_the_beginning() {
        assert_eq!(authorization(b"Bearer abcdefgh"), Some(7));
        assert_eq!(authorization(b"basic dXNlcjpw"), Some(6));
        assert_eq!([authorization(b"bearer x"), authorization(b"basically"), authorization(b"")], [None; 3]);
    }

    #[test]
    fn the_name_of_a_scheme_is_told_from_a_secret() {
        for (value, kept) in [
            (&b"Bearer x"[..], 7),
            (b"bAsIc x", 6),
            (b"Digest username=\"u\", realm=\"r\"", 7),
            (b"SCRAM-SHA-256 data", 14),
            (b"SCRAM-SHA-1 data", 12),
            (b"AWS4-HMAC-SHA256 Credential=AKIA", 17),
            (b"Bearer  x", 7),
        ] {
            assert_eq!(scheme(value), kept, "{}", String::from_utf8_lossy(value));
        }
        for secret in
            ["", "Bearer", "Bearer ", "Bearer\tx", "Bearers3cret", "s3cret Bearer x", "apikey x", " Basic x", "B"]
        {
            assert_eq!(scheme(secret.as_bytes()), 0, "{secret:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_found_that_was_not_suspected(text in "[ -~]{0,60}") {
            seen(&text);
        }

        #[test]
        fn no_token_survives_in_any_surroundings(before in "[ -~]{0,40}", after in "([^A-Za-z0-9_.=-][ -~]{0,40})?") {
            for (secret, plain) in [(JWT, "eyJzdWIiOiIxIn0"), ("xoxb-123456789012-abcdef", "123456789012")] {
                let (text, _) = seen(&format!("{before}{secret}{after}"));
                prop_assert!(!text.contains(plain), "{text}");
                prop_assert_eq!(text.len(), before.len() + secret.len() + after.len());
            }
        }
    }
}
