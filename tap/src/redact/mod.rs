//! What never leaves: credentials in headers, cookies, queries, forms and JSON, by name and by shape.
//!
//! In: what an operator adds to the defaults or takes out of them, compiled once into a [`Redaction`]; then, message by
//! message, names, values, targets and bodies. Out: how to treat a header, or the same bytes with secrets replaced by `*`, one
//! for one, so that framing and offsets stay true, and a [`Masked`] that says what was done. Works before the queue, so that
//! neither the queue nor a core dump of it holds a secret. Where a text can be read in two ways, both are masked; a body that
//! cannot be read is refused.

mod body;
mod cookie;
mod json;
mod parameter;
mod shape;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use crate::head::Hop;
use crate::wide;

pub(crate) use body::Media;
pub use shape::Kinds;
pub(crate) use shape::{is_suspect, is_suspect_or_low};

/// What a tap masks. Taps with an equal one can share a copy.
#[derive(Debug, PartialEq, Eq)]
pub struct Redaction {
    headers: Headers,
    /// Of queries and forms.
    parameters: Names,
    /// Masked although the header they are in is not.
    cookies: Names,
    /// Not masked although the header they are in is.
    passing_cookies: Names,
    /// Of JSON.
    members: Names,
    /// The name of the host asked for is among the secrets.
    pub(crate) hides_host: bool,
}

/// Something that is masked, or is not, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret<'a> {
    /// A header.
    Header(&'a str),
    /// One cookie, in `cookie` and `set-cookie`.
    Cookie(&'a str),
    /// A parameter of a query or of a form.
    Query(&'a str),
    /// A member of a JSON body, at any depth.
    Json(&'a str),
}

/// What was masked in a message or an exchange: how many values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Masked {
    /// Whole header values, by name.
    pub headers: u32,
    /// Cookies, by name.
    pub cookies: u32,
    /// Parameters of queries and forms, by name.
    pub parameters: u32,
    /// Members of JSON, by name.
    pub members: u32,
    /// Headers left out because their names are the tap's own.
    pub stripped: u32,
    /// Credentials recognised by their shape.
    pub credentials: Kinds,
}

impl Masked {
    pub(crate) fn add(&mut self, other: &Self) {
        self.headers += other.headers;
        self.cookies += other.cookies;
        self.parameters += other.parameters;
        self.members += other.members;
        self.stripped += other.stripped;
        self.credentials.add(other.credentials);
    }
}

/// What a name says of its header. It is looked up once for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    /// It does not stand in the copy as it came.
    pub(crate) hop: Option<Hop>,
    pub(crate) treatment: Treatment,
}

impl Class {
    /// Of most names.
    pub(crate) const PASS: Self = Self { hop: None, treatment: Treatment::Pass };
}

/// What happens to a header in the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Copied, but for credentials in it.
    Pass,
    /// Copied as it is: an operator wants to see it.
    Show,
    /// Every byte of the value masked, but for [`shown_of_masked`].
    Mask,
    /// The value is or holds a URL: its query parameters are looked through.
    Url,
    /// Some of its cookies are masked.
    Cookies {
        /// It is `set-cookie`, which holds one and its attributes.
        is_set: bool,
        /// All are masked but those that pass; otherwise only those that are named.
        all_but: bool,
    },
    /// Says how to read the body.
    ContentType,
    /// Says that the body cannot be read.
    ContentEncoding,
    /// Left out: a name reserved for what the tap itself adds, which a client could forge.
    Strip,
}

impl Redaction {
    /// The defaults, with `redact` and without `pass`. Names are compared without regard to case.
    #[must_use]
    pub fn new<'a>(
        redact: impl IntoIterator<Item = Secret<'a>>,
        pass: impl IntoIterator<Item = Secret<'a>>,
    ) -> Arc<Self> {
        Arc::new(Self::compiled(redact, pass))
    }

    fn compiled<'a>(redact: impl IntoIterator<Item = Secret<'a>>, pass: impl IntoIterator<Item = Secret<'a>>) -> Self {
        let mut headers: Vec<(Vec<u8>, Treatment)> =
            HEADERS.iter().map(|(name, treatment)| (name.as_bytes().to_vec(), *treatment)).collect();
        let mut set = |name: &str, treatment| {
            let name = name.to_ascii_lowercase().into_bytes();
            headers.retain(|(known, _)| *known != name);
            headers.push((name, treatment));
        };
        let mut parameters: Vec<&str> = PARAMETERS.to_vec();
        let (mut cookies, mut passing_cookies, mut members) = (Vec::new(), Vec::new(), Vec::new());
        let mut hides_host = false;
        for secret in redact {
            match secret {
                Secret::Header(name) => {
                    hides_host |= name.eq_ignore_ascii_case("host");
                    set(name, Treatment::Mask);
                }
                Secret::Cookie(name) => cookies.push(name),
                Secret::Query(name) => parameters.push(name),
                Secret::Json(name) => members.push(name),
            }
        }
        for secret in pass {
            match secret {
                // They pass as it is, and what they say of the body has to be known.
                Secret::Header(name) if is_of_the_body(name.as_bytes()) => {}
                Secret::Header(name) => set(name, Treatment::Show),
                Secret::Cookie(name) => passing_cookies.push(name),
                Secret::Query(name) => parameters.retain(|known| !known.eq_ignore_ascii_case(name)),
                Secret::Json(_) => {}
            }
        }
        for (name, treatment) in &mut headers {
            let is_set = match name.as_slice() {
                b"cookie" => false,
                b"set-cookie" => true,
                _ => continue,
            };
            match treatment {
                Treatment::Mask if !passing_cookies.is_empty() => {
                    *treatment = Treatment::Cookies { is_set, all_but: true }
                }
                Treatment::Show if !cookies.is_empty() => *treatment = Treatment::Cookies { is_set, all_but: false },
                _ => {}
            }
        }
        for name in Hop::NAMES {
            if !headers.iter().any(|(known, _)| known == name) {
                headers.push((name.to_vec(), Treatment::Pass));
            }
        }
        Self {
            headers: Headers::of(headers),
            parameters: Names::of(&parameters),
            cookies: Names::of(&cookies),
            passing_cookies: Names::of(&passing_cookies),
            members: Names::of(&members),
            hides_host,
        }
    }

    /// How to treat the header of this name, in any case.
    pub(crate) fn header(&self, name: &[u8]) -> Treatment {
        self.class(name).treatment
    }

    /// All that the name of a header says, in any case.
    pub(crate) fn class(&self, name: &[u8]) -> Class {
        if matches!(name.get(2), Some(b'm' | b'M'))
            && name.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
        {
            return Class { hop: None, treatment: Treatment::Strip };
        }
        self.headers.get(name).unwrap_or(Class::PASS)
    }

    /// Whether the value of this header is hidden, or must not be known to be there.
    pub(crate) fn masks(&self, name: &[u8]) -> bool {
        !matches!(self.header(name), Treatment::Pass | Treatment::Show | Treatment::ContentType)
    }

    /// `url` with the values of secret parameters masked, in the query and in a fragment; if `careful`, credentials by
    /// their shape as well.
    pub(crate) fn url<'a>(&self, url: &'a [u8], careful: bool, masked: &mut Masked) -> Cow<'a, [u8]> {
        let start = url.iter().position(|byte| b"?#".contains(byte));
        if start.is_none() && !careful {
            return Cow::Borrowed(url);
        }
        let secrets: Vec<_> =
            start.map_or_else(Vec::new, |start| parameter::secrets(self, url, start + 1, b"&#").collect());
        if secrets.is_empty() && !careful {
            return Cow::Borrowed(url);
        }
        let mut copy = url.to_vec();
        if careful {
            masked.credentials.add(shape::mask(&mut copy));
        }
        masked.parameters += count(secrets.len());
        secrets.into_iter().for_each(|secret| fill(&mut copy, secret));
        Cow::Owned(copy)
    }

    /// A header value without the credentials in it.
    pub(crate) fn value(value: &[u8], masked: &mut Masked) -> Vec<u8> {
        let mut copy = value.to_vec();
        if let Some(kept) = shape::authorization(&copy) {
            masked.credentials.add(Kinds::AUTHORIZATION);
            // A token may be of a kind by itself: both are worth to be known.
            masked.credentials.add(shape::mask(&mut copy));
            fill(&mut copy, kept..value.len());
        } else {
            masked.credentials.add(shape::mask(&mut copy));
        }
        copy
    }

    /// Whether a header value begins as credentials do in `authorization`.
    pub(crate) fn is_authorization(value: &[u8]) -> bool {
        shape::authorization(value).is_some()
    }

    /// A header with cookies, of which some are masked.
    pub(crate) fn cookies(&self, value: &[u8], is_set: bool, all_but: bool, masked: &mut Masked) -> Vec<u8> {
        let mut copy = value.to_vec();
        let is_secret = |name: &[u8]| if all_but { !self.passing_cookies.has(name) } else { self.cookies.has(name) };
        masked.cookies += cookie::mask(&mut copy, is_set, is_secret);
        copy
    }
}

impl Default for Redaction {
    fn default() -> Self {
        Self::compiled([], [])
    }
}

/// A path or a URL for a log: the values of secret parameters masked, and credentials that are recognised by their shape. Nearly
/// all are given back as they are, after one look at each byte.
#[must_use]
#[inline]
pub fn without_secrets(url: &[u8]) -> Cow<'_, [u8]> {
    if is_plain(url) { Cow::Borrowed(url) } else { looked_at(url) }
}

/// Whether one look at each byte of a path or a URL shows that nothing in it is masked for a log, nor escaped in JSON. Nearly all
/// paths without a query are so.
#[must_use]
#[inline]
pub fn is_plain(url: &[u8]) -> bool {
    !wide::any_byte(url, b' ', shape::is_notable)
}

/// The same of the value of a field.
#[must_use]
#[inline]
pub fn is_plain_field(value: &[u8]) -> bool {
    is_plain(value) && shape::authorization(value).is_none()
}

/// The value of a field for a log: credentials that are recognised by their shape masked. Nearly all are given back as they are,
/// after one look at each byte.
#[must_use]
#[inline]
pub fn field_without_credentials(value: &[u8]) -> Cow<'_, [u8]> {
    if is_suspect(value) || shape::authorization(value).is_some() {
        Cow::Owned(Redaction::value(value, &mut Masked::default()))
    } else {
        Cow::Borrowed(value)
    }
}

#[inline(never)] // Of the few that need it.
fn looked_at(url: &[u8]) -> Cow<'_, [u8]> {
    static DEFAULT: LazyLock<Redaction> = LazyLock::new(Redaction::default);
    DEFAULT.url(url, is_suspect(url), &mut Masked::default())
}

/// Names, compared without regard to case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(Vec<Box<[u8]>>);

impl Names {
    fn of(names: &[&str]) -> Self {
        let mut names: Vec<Box<[u8]>> =
            names.iter().map(|name| name.to_ascii_lowercase().into_bytes().into()).collect();
        names.sort();
        names.dedup();
        Self(names)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Headers that are not simply copied, or not at all. The length of a name tells most names apart.
#[derive(Debug, PartialEq, Eq)]
struct Headers {
    /// By length of the name; with its last byte, by which most of a length differ.
    names: Vec<(u8, Box<[u8]>, Class)>,
    /// Where those of a length begin; the last is for all that are longer.
    starts: [u16; LONGEST + 2],
    /// For each length the last bytes that names of it have, one bit for each: most names are of no concern.
    lasts: [u32; LONGEST + 1],
}

impl Headers {
    fn of(mut headers: Vec<(Vec<u8>, Treatment)>) -> Self {
        let place = |name: &[u8]| name.len().min(LONGEST);
        headers.sort_by(|(a, _), (b, _)| (place(a), a).cmp(&(place(b), b)));
        let mut starts = [0; LONGEST + 2];
        for (length, start) in starts.iter_mut().enumerate() {
            *start = u16::try_from(headers.partition_point(|(name, _)| place(name) < length)).unwrap_or(u16::MAX);
        }
        let mut lasts = [0; LONGEST + 1];
        for (name, _) in &headers {
            if let (Some(bits), Some(last)) = (lasts.get_mut(place(name)), name.last()) {
                *bits |= bit(*last);
            }
        }
        let kept = |(name, treatment): (Vec<u8>, _)| {
            let class = Class { hop: Hop::of(&name), treatment };
            (name.last().copied().unwrap_or(0), name.into(), class)
        };
        Self { names: headers.into_iter().map(kept).collect(), starts, lasts }
    }

    fn get(&self, name: &[u8]) -> Option<Class> {
        let length = name.len().min(LONGEST);
        if self.lasts.get(length)? & bit(*name.last()?) == 0 {
            return None;
        }
        let (start, end) = (*self.starts.get(length)?, *self.starts.get(length + 1)?);
        let candidates = self.names.get(usize::from(start)..usize::from(end))?;
        let last = name.last()?.to_ascii_lowercase();
        // Nearly all names come in lower case, and comparing whole takes less than comparing letters.
        let is_it = |(end, known, _): &&(u8, Box<[u8]>, Class)| {
            *end == last && (**known == *name || known.eq_ignore_ascii_case(name))
        };
        candidates.iter().find(is_it).map(|(_, _, class)| *class)
    }
}

/// The same for a letter in both cases.
fn bit(byte: u8) -> u32 {
    1 << (byte & 31)
}

fn fill(text: &mut [u8], range: std::ops::Range<usize>) {
    text.iter_mut().take(range.end).skip(range.start).for_each(|byte| *byte = MASK);
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Names a client may not smuggle into the copy: the tap's own labels begin like this.
const RESERVED: &[u8] = b"x-mesh-";

/// Headers that are not simply copied.
///
/// Masked is a value that is a credential, or names a certificate in full: forwarded client certificates as Envoy, RFC 9440,
/// nginx, Traefik, HAProxy and Azure write them. URLs are repeated or handed on: an OAuth code travels in `location` and
/// comes back in `referer`.
const HEADERS: [(&str, Treatment); 26] = [
    ("link", Treatment::Url),
    ("cookie", Treatment::Mask),
    ("referer", Treatment::Url),
    ("refresh", Treatment::Url),
    ("location", Treatment::Url),
    ("x-api-key", Treatment::Mask),
    ("set-cookie", Treatment::Mask),
    ("x-ssl-cert", Treatment::Mask),
    ("client-cert", Treatment::Mask),
    ("content-type", Treatment::ContentType),
    ("authorization", Treatment::Mask),
    ("x-client-cert", Treatment::Mask),
    ("x-original-uri", Treatment::Url),
    ("x-original-url", Treatment::Url),
    ("ssl-client-cert", Treatment::Mask),
    ("x-forwarded-uri", Treatment::Url),
    ("content-location", Treatment::Url),
    ("x-ssl-client-der", Treatment::Mask),
    ("x-arr-clientcert", Treatment::Mask),
    ("content-encoding", Treatment::ContentEncoding),
    ("client-cert-chain", Treatment::Mask),
    ("x-ssl-client-cert", Treatment::Mask),
    ("proxy-authorization", Treatment::Mask),
    ("x-envoy-original-path", Treatment::Url),
    ("x-forwarded-client-cert", Treatment::Mask),
    ("x-forwarded-tls-client-cert", Treatment::Mask),
];

/// Parameters of queries and forms that are secrets.
const PARAMETERS: [&str; 5] = ["token", "access_token", "code", "password", "sig"];

/// Whether a field says how to read the body.
pub(crate) fn is_of_the_body(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"content-encoding")
}

/// How many bytes at the beginning of a masked field are no secret: the name of the scheme in credentials. A receiver that finds
/// none there takes the message for a broken one.
pub(crate) fn shown_of_masked(name: &[u8], value: &[u8]) -> usize {
    let is_credentials =
        [&b"authorization"[..], b"proxy-authorization"].iter().any(|known| name.eq_ignore_ascii_case(known));
    if is_credentials { shape::scheme(value) } else { 0 }
}

/// Names longer than this share a place.
const LONGEST: usize = 40;

/// Stands for each byte of a secret.
pub(crate) const MASK: u8 = b'*';

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_field_in_a_log_shows_no_credential() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
        let shown = |value: &str| String::from_utf8(field_without_credentials(value.as_bytes()).into_owned()).unwrap();
        assert_eq!(shown(&format!("curl/8 {jwt}")), format!("curl/8 {}", "*".repeat(jwt.len())));
        assert_eq!(shown("Bearer abcdefgh"), "Bearer ********");
        assert!(matches!(field_without_credentials(b"curl/7.88.1"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_plain_needs_neither_a_mask_nor_an_escape() {
        for (url, plain) in
            [("/api/orders/42", true), ("/a-b/1f3c~.,;=:!'()*+&$", false), ("/a-b/1f3c~.,;=:!'()*+&", true), ("", true)]
        {
            assert_eq!(is_plain(url.as_bytes()), plain, "{url}");
        }
        for byte in 0..=u8::MAX {
            let url = [b"/aaaaaaaaaaaaaaaaaaaa/"[..].to_vec(), vec![byte], b"/bbbb"[..].to_vec()].concat();
            let needs = matches!(byte, 0..=0x1f | b'"' | b'\\' | 0x7f.. | b'?' | b'#' | b'@' | b'%');
            assert!(!(needs && is_plain(&url)), "{byte}");
        }
    }

    #[test]
    fn credentials_are_masked_and_reserved_names_stripped() {
        let default = Redaction::default();
        for name in
            ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-forwarded-client-cert"]
        {
            assert_eq!(default.header(name.as_bytes()), Treatment::Mask);
            assert_eq!(default.header(name.to_uppercase().as_bytes()), Treatment::Mask);
        }
        assert_eq!([default.header(b"location"), default.header(b"Referer")], [Treatment::Url; 2]);
        assert_eq!(
            [default.header(b"x-mesh-src"), default.header(b"X-Mesh-"), default.header(b"x-mesh")],
            [Treatment::Strip, Treatment::Strip, Treatment::Pass]
        );
        assert_eq!([default.header(b"content-length"), default.header(b"host")], [Treatment::Pass; 2]);
    }

    #[test]
    fn every_name_is_found_and_no_other() {
        let long = "x".repeat(70);
        let redaction = Redaction::new([Secret::Header("X-Mine"), Secret::Header(&long)], []);
        for (name, treatment) in HEADERS {
            assert_eq!(redaction.header(name.as_bytes()), treatment, "{name}");
        }
        assert_eq!(redaction.header(b"x-mine"), Treatment::Mask);
        assert_eq!(redaction.header(long.as_bytes()), Treatment::Mask);
        assert_eq!(redaction.header("x".repeat(71).as_bytes()), Treatment::Pass);
        assert_eq!(redaction.header(b""), Treatment::Pass);
    }

    #[test]
    fn an_operator_adds_and_takes_out() {
        let redaction = Redaction::new(
            [Secret::Header("x-mine"), Secret::Query("Session")],
            [Secret::Header("authorization"), Secret::Query("code")],
        );
        assert_eq!(redaction.header(b"Authorization"), Treatment::Show);
        let mut masked = Masked::default();
        let seen = redaction.url(b"/a?code=1&session=2&token=3", false, &mut masked);
        assert_eq!(seen, b"/a?code=1&session=*&token=*".as_slice());
        assert_eq!(masked.parameters, 2);
        assert!(Redaction::new([], [Secret::Header("host")]) != Redaction::new([], []));
        assert!(Redaction::new([], []) == Redaction::new([], []));
    }

    #[test]
    fn cookies_are_masked_by_name_where_the_header_is_shown_and_shown_by_name_where_it_is_not() {
        let some = Redaction::new([Secret::Cookie("sid")], [Secret::Header("cookie"), Secret::Header("set-cookie")]);
        let others = Redaction::new([], [Secret::Cookie("theme")]);
        for (redaction, all_but) in [(&some, false), (&others, true)] {
            assert_eq!(redaction.header(b"cookie"), Treatment::Cookies { is_set: false, all_but });
            assert_eq!(redaction.header(b"Set-Cookie"), Treatment::Cookies { is_set: true, all_but });
            let mut masked = Masked::default();
            assert_eq!(redaction.cookies(b"theme=dark; SID=abc", false, all_but, &mut masked), b"theme=dark; SID=***");
            assert_eq!(redaction.cookies(b"sid=abc; Path=/", true, all_but, &mut masked), b"sid=***; Path=/");
            assert_eq!(masked.cookies, 2);
        }
        // Where the whole header is masked, a name adds nothing.
        let whole = Redaction::new([Secret::Cookie("sid")], []);
        assert_eq!([whole.header(b"cookie"), whole.header(b"set-cookie")], [Treatment::Mask; 2]);
    }

    #[test]
    fn a_logged_path_shows_no_secret() {
        assert_eq!(without_secrets(b"/api/orders/42"), b"/api/orders/42".as_slice());
        assert_eq!(without_secrets(b"/a?x=1&token=abc"), b"/a?x=1&token=***".as_slice());
        assert_eq!(without_secrets(b"/a?k=AKIAIOSFODNN7EXAMPLE"), b"/a?k=********************".as_slice());
        assert_eq!(without_secrets(b"/go/http://u:pw@h/"), b"/go/http://u:**@h/".as_slice());
    }

    #[test]
    fn credentials_in_a_header_are_masked_and_told() {
        let mut masked = Masked::default();
        assert_eq!(Redaction::value(b"Bearer abcdefgh", &mut masked), b"Bearer ********");
        assert!(masked.credentials.has(Kinds::AUTHORIZATION));
        let mut masked = Masked::default();
        assert_eq!(Redaction::value(b"key=AKIAIOSFODNN7EXAMPLE;", &mut masked), b"key=********************;");
        assert_eq!(masked.credentials.names().collect::<Vec<_>>(), ["aws_access_key"]);
    }
}
