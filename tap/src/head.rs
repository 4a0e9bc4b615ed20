//! The head of a message as HTTP/1.1 text (RFC 9112), all but its framing, which depends on the body.
//!
//! In: the first line's parts, and the fields as they lie in the data path's own memory. Out: text without secrets, written
//! at once: one pass, one buffer, nothing kept that would have to be masked later. Refuses what would forge messages to
//! the IDS: CR, LF or NUL in a value, a blank or control character in a name, a target or an authority. HTTP/2 allows
//! bytes in its fields that HTTP/1.1 text cannot carry (RFC 9113 section 10.3).

use http::header::HeaderMap;
use http::{Method, StatusCode};

use crate::counters::Reason;
use crate::redact::{self, Class, Masked, Media, Redaction, Treatment};
use crate::unread;
use crate::wide;

/// Header fields in the order they came.
pub trait Fields {
    /// Name, in any case, and value of each.
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])>;
}

impl Fields for HeaderMap {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }
}

/// First line and headers of a message, ready for the copy.
#[derive(Debug, Clone)]
pub struct Head {
    pub(crate) line: Line,
    /// The first line and every field but those of the framing.
    pub(crate) text: Vec<u8>,
    pub(crate) declared: Declared,
    /// It has a transfer coding.
    pub(crate) is_chunked: bool,
    /// Its sender announced that it closes (RFC 9112 section 9.6).
    pub(crate) closes: bool,
    /// What the body is.
    pub(crate) media: Media,
    /// The body has a content coding.
    pub(crate) is_coded: bool,
    /// What does not stand in the text.
    pub(crate) masked: Masked,
    /// Why it may not leave.
    pub(crate) fault: Option<Reason>,
}

/// What of the first line is needed beyond its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Request(Method),
    Response(StatusCode),
    /// Of a request that could not be read.
    Unread,
}

/// What the sender said of the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declared {
    Nothing,
    Length(u64),
    /// Several different ones, or not a number.
    Nonsense,
}

impl Head {
    pub(crate) fn request(
        redaction: &Redaction,
        method: Method,
        target: &[u8],
        authority: Option<&[u8]>,
        fields: &impl Fields,
    ) -> Self {
        let seen = Seen::of(redaction, fields);
        let variable = method.as_str().len() + target.len() + authority.map_or(0, <[u8]>::len);
        let capacity = variable + seen.size + CONSTANT;
        Self::written(redaction, capacity, Line::Request(method.clone()), &seen, |writer| {
            writer.request_line(&method, target, authority)?;
            writer.fields(fields, &seen, authority.is_some())
        })
    }

    /// A head that could not be read, of which the framing is shown.
    pub(crate) fn unread(redaction: &Redaction, raw: &[u8]) -> Self {
        let mut masked = Masked::default();
        let text = unread::text(redaction, raw, &mut masked);
        Self {
            line: Line::Unread,
            text,
            declared: Declared::Nothing,
            is_chunked: false,
            closes: true,
            media: Media::default(),
            is_coded: false,
            masked,
            fault: None,
        }
    }

    pub(crate) fn response(redaction: &Redaction, status: StatusCode, fields: &impl Fields) -> Self {
        let seen = Seen::of(redaction, fields);
        let reason = status.canonical_reason().unwrap_or_default();
        Self::written(redaction, reason.len() + seen.size + CONSTANT, Line::Response(status), &seen, |writer| {
            put(&mut writer.text, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason.as_bytes(), b"\r\n"]);
            writer.fields(fields, &seen, false)
        })
    }

    /// Writes the text once, and once more with care if something in it may be a credential, which is rare.
    fn written(
        redaction: &Redaction,
        capacity: usize,
        line: Line,
        seen: &Seen,
        write: impl Fn(&mut Writer<'_>) -> Result<(), Reason>,
    ) -> Self {
        let mut writer = Writer::new(redaction, Vec::with_capacity(capacity), false);
        let mut fault = write(&mut writer).err();
        if writer.is_suspect {
            writer.text.clear();
            writer = Writer::new(redaction, writer.text, true);
            fault = write(&mut writer).err();
        }
        let Writer { text, declared, is_chunked, media, is_coded, masked, .. } = writer;
        Self { line, text, declared, is_chunked, closes: seen.closes, media, is_coded, masked, fault }
    }
}

/// The fields of a trailer section, as much of them as may leave.
pub(crate) fn trailers(
    redaction: &Redaction,
    text: Vec<u8>,
    fields: &impl Fields,
    masked: &mut Masked,
) -> Result<Vec<u8>, Reason> {
    let mut writer = Writer::new(redaction, text, true);
    fields.fields().try_for_each(|(name, value)| writer.field(name, value, redaction.header(name)))?;
    masked.add(&writer.masked);
    Ok(writer.text)
}

/// The text of a head, and what is learnt while it is written.
struct Writer<'a> {
    redaction: &'a Redaction,
    text: Vec<u8>,
    /// Looks into every value for credentials.
    careful: bool,
    /// It should be written again, with care.
    is_suspect: bool,
    declared: Declared,
    is_chunked: bool,
    media: Media,
    is_coded: bool,
    masked: Masked,
}

impl<'a> Writer<'a> {
    fn new(redaction: &'a Redaction, text: Vec<u8>, careful: bool) -> Self {
        Self {
            redaction,
            text,
            careful,
            is_suspect: false,
            declared: Declared::Nothing,
            is_chunked: false,
            media: Media::default(),
            is_coded: false,
            masked: Masked::default(),
        }
    }

    fn request_line(&mut self, method: &Method, target: &[u8], authority: Option<&[u8]>) -> Result<(), Reason> {
        // CONNECT names a host and port instead of a path (RFC 9112 section 3.2.3).
        let names_host = *method == Method::CONNECT;
        let target = match authority {
            Some(authority) if names_host => authority,
            _ => target,
        };
        for word in [Some(target), authority].into_iter().flatten() {
            if word.is_empty() || any(word, |byte| byte <= b' ' || byte == 0x7f) {
                return Err(Reason::UnsafeHeader);
            }
        }
        put(&mut self.text, &[method.as_str().as_bytes(), b" "]);
        let redaction = self.redaction;
        if names_host && redaction.hides_host {
            self.stars(target.len());
        } else {
            self.is_suspect |= redact::is_suspect(target);
            let target = redaction.url(target, self.careful, &mut self.masked);
            self.text.extend_from_slice(&target);
        }
        self.text.extend_from_slice(b" HTTP/1.1\r\n");
        match authority {
            Some(authority) if redaction.hides_host => self.field(b"host", authority, redaction.header(b"host")),
            Some(authority) => {
                field(&mut self.text, b"host", authority);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Every header but those that speak of the real connection and its framing.
    fn fields(&mut self, all: &impl Fields, seen: &Seen, has_authority: bool) -> Result<(), Reason> {
        let redaction = self.redaction;
        if seen.hosts && !has_authority {
            let mut hosts = all.fields().filter(|(name, _)| redaction.class(name).hop == Some(Hop::Host));
            hosts.try_for_each(|(name, value)| self.field(name, value, redaction.header(name)))?;
        }
        let (mut cookies, mut upgrades) = (false, false);
        for (place, (name, value)) in all.fields().enumerate() {
            let Class { hop, treatment } = seen.class(redaction, place, name);
            match hop {
                Some(Hop::Length) => self.declared = self.declared.and(value),
                Some(Hop::Coding) => self.is_chunked = true,
                Some(Hop::Connection | Hop::Host | Hop::Other) => {}
                Some(Hop::Upgrade) => {
                    // An attempt to change the protocol is what an IDS wants to see; in HTTP/1.1 it needs both fields.
                    if !std::mem::replace(&mut upgrades, true) {
                        field(&mut self.text, b"connection", b"upgrade");
                    }
                    self.field(name, value, treatment)?;
                }
                Some(Hop::Cookie) => {
                    if !std::mem::replace(&mut cookies, true) {
                        self.cookies(name, treatment, all)?;
                    }
                }
                None if seen.names_others && is_named(all, name) => {}
                None => self.field(name, value, treatment)?,
            }
        }
        Ok(())
    }

    /// HTTP/2 may split the cookie into crumbs; in HTTP/1.1 they are one field (RFC 9113 section 8.2.3).
    fn cookies(&mut self, name: &[u8], treatment: Treatment, all: &impl Fields) -> Result<(), Reason> {
        let crumbs = all.fields().filter(|(name, _)| Hop::of(name) == Some(Hop::Cookie)).map(|(_, value)| value);
        self.field(name, &crumbs.collect::<Vec<_>>().join(&b"; "[..]), treatment)
    }

    /// Appends a field, as much of it as may leave.
    fn field(&mut self, name: &[u8], value: &[u8], treatment: Treatment) -> Result<(), Reason> {
        // Checked before anything is masked: the offence is the same, whoever sees the value. One look at each byte says of
        // nearly all values that nothing is to be looked for in them.
        let is_notable = redact::is_suspect_or_low(value);
        if is_notable && any(value, |byte| matches!(byte, b'\r' | b'\n' | 0))
            || any(name, |byte| !byte.is_ascii_graphic() || byte == b':')
        {
            return Err(Reason::UnsafeHeader);
        }
        let redaction = self.redaction;
        match treatment {
            Treatment::Pass => self.passed(name, value, is_notable),
            Treatment::Show => field(&mut self.text, name, value),
            Treatment::Url => {
                self.is_suspect |= is_notable && redact::is_suspect(value);
                let url = redaction.url(value, self.careful, &mut self.masked);
                field(&mut self.text, name, &url);
            }
            Treatment::Mask => {
                if redact::is_of_the_body(name) {
                    self.learn(name, value);
                }
                self.masked.headers += 1;
                let (shown, secret) =
                    value.split_at_checked(redact::shown_of_masked(name, value)).unwrap_or((b"", value));
                put(&mut self.text, &[name, b": ", shown]);
                self.stars(secret.len());
                put(&mut self.text, &[b"\r\n"]);
            }
            Treatment::Cookies { is_set, all_but } => {
                let cookies = redaction.cookies(value, is_set, all_but, &mut self.masked);
                self.passed(name, &cookies, is_notable);
            }
            Treatment::ContentType => {
                self.media = self.media.and(value);
                field(&mut self.text, name, value);
            }
            Treatment::ContentEncoding => {
                self.is_coded |= is_coding(value);
                field(&mut self.text, name, value);
            }
            Treatment::Strip => self.masked.stripped += 1,
        }
        Ok(())
    }

    /// How to read the body, from a field that is masked itself.
    fn learn(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"content-type") {
            self.media = self.media.and(value);
        } else {
            self.is_coded |= is_coding(value);
        }
    }

    /// A value that is no secret by its name. `is_notable`: it may hold the marks of a credential.
    fn passed(&mut self, name: &[u8], value: &[u8], is_notable: bool) {
        if self.careful {
            field(&mut self.text, name, &Redaction::value(value, &mut self.masked));
        } else {
            self.is_suspect |= is_notable && redact::is_suspect(value) || Redaction::is_authorization(value);
            field(&mut self.text, name, value);
        }
    }

    fn stars(&mut self, number: usize) {
        self.text.resize(self.text.len() + number, redact::MASK);
    }
}

/// Whether a `content-encoding` hides what the body says.
fn is_coding(value: &[u8]) -> bool {
    !value.trim_ascii().eq_ignore_ascii_case(b"identity")
}

/// What has to be known of all fields before the first is written.
#[derive(Debug)]
struct Seen {
    /// Bytes that all fields take.
    size: usize,
    /// There is a `host`.
    hosts: bool,
    /// `connection` says `close`.
    closes: bool,
    /// `connection` names other fields.
    names_others: bool,
    /// What the names of the first fields say: most heads have no more.
    classes: [Class; KEPT],
}

impl Seen {
    #[inline(always)] // Where it is used, so that it need not be moved.
    fn of(redaction: &Redaction, all: &impl Fields) -> Self {
        let mut seen = Self { size: 0, hosts: false, closes: false, names_others: false, classes: [Class::PASS; KEPT] };
        for (place, (name, value)) in all.fields().enumerate() {
            seen.size += name.len() + value.len() + 4;
            let class = redaction.class(name);
            if let Some(kept) = seen.classes.get_mut(place) {
                *kept = class;
            }
            match class.hop {
                Some(Hop::Connection) => {
                    for option in options(value) {
                        let closes = option.eq_ignore_ascii_case(b"close");
                        seen.closes |= closes;
                        seen.names_others |= !closes && !option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                Some(Hop::Host) => seen.hosts = true,
                _ => {}
            }
        }
        seen
    }

    /// What the name of the field at this place says.
    fn class(&self, redaction: &Redaction, place: usize, name: &[u8]) -> Class {
        self.classes.get(place).copied().unwrap_or_else(|| redaction.class(name))
    }
}

/// Fields whose names are looked up once.
const KEPT: usize = 16;

impl Declared {
    /// With one more field of the name; equal repetitions count once (RFC 9110 section 8.6).
    fn and(self, value: &[u8]) -> Self {
        // What nearly all of them are: digits that cannot overflow.
        if self == Self::Nothing && (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit) {
            return Self::Length(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
        }
        value.split(|byte| *byte == b',').fold(self, |found, part| {
            let part = part.trim_ascii();
            let digits = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let number = str::from_utf8(part).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            match (number, found) {
                (Some(n), Self::Nothing) => Self::Length(n),
                (Some(n), Self::Length(before)) if n == before => found,
                _ => Self::Nonsense,
            }
        })
    }
}

/// Fields that are not copied as they stand: those that speak of one connection (RFC 9113 section 8.2.2) or of the framing,
/// and those that are written apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    Connection,
    Cookie,
    Coding,
    Host,
    Length,
    Upgrade,
    Other,
}

impl Hop {
    /// The names of all of them.
    pub(crate) const NAMES: [&[u8]; 8] = [
        b"host",
        b"cookie",
        b"upgrade",
        b"connection",
        b"keep-alive",
        b"content-length",
        b"proxy-connection",
        b"transfer-encoding",
    ];

    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => Some(Self::Host),
            6 if is(b"cookie") => Some(Self::Cookie),
            7 if is(b"upgrade") => Some(Self::Upgrade),
            10 if is(b"connection") => Some(Self::Connection),
            10 if is(b"keep-alive") => Some(Self::Other),
            14 if is(b"content-length") => Some(Self::Length),
            16 if is(b"proxy-connection") => Some(Self::Other),
            17 if is(b"transfer-encoding") => Some(Self::Coding),
            _ => None,
        }
    }
}

/// Whether a `connection` field names this field.
fn is_named(all: &impl Fields, name: &[u8]) -> bool {
    all.fields()
        .filter(|(name, _)| Hop::of(name) == Some(Hop::Connection))
        .flat_map(|(_, value)| options(value))
        .any(|option| option.eq_ignore_ascii_case(name))
}

fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

pub(crate) fn field(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put(text, &[name, b": ", value, b"\r\n"]);
}

pub(crate) fn put(text: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| text.extend_from_slice(part));
}

/// Appends a number in digits of this base, which is 16 at most.
pub(crate) fn number(text: &mut Vec<u8>, value: u64, base: u8) {
    let mut digits = [0; 20];
    let mut left = value;
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = HEX.get((left % u64::from(base)) as usize).copied().unwrap_or(b'0');
        left /= u64::from(base);
        start -= 1;
        if left == 0 {
            break;
        }
    }
    text.extend_from_slice(digits.get(start..).unwrap_or_default());
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whether any byte is bad; a blank is not asked about where there is none.
#[inline(always)] // With what it looks for, to stay in registers.
fn any(bytes: &[u8], bad: impl Fn(u8) -> bool) -> bool {
    wide::any_byte(bytes, b'a', |bytes| bytes.iter().fold(false, |found, byte| found | bad(*byte)))
}

/// The first line's constant parts, `host: `, a field for the framing, the empty line and the size of a chunk.
const CONSTANT: usize = 96;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_formatter() {
        for value in (0..300).chain([1024, 65_535, u64::MAX]) {
            let mut text = Vec::new();
            number(&mut text, value, 10);
            text.push(b' ');
            number(&mut text, value, 16);
            assert_eq!(text, format!("{value} {value:x}").as_bytes());
        }
    }

    struct Many(usize);

    impl Fields for Many {
        fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            let first: [(&[u8], &[u8]); 1] = [(b"x-a", b"1")];
            let last: [(&[u8], &[u8]); 3] = [(b"Host", b"h"), (b"keep-alive", b"5"), (b"Authorization", b"secret")];
            first.into_iter().cycle().take(self.0).chain(last)
        }
    }

    /// Behind as many fields as are remembered, and one more or less.
    #[test]
    fn names_mean_the_same_behind_many_others() {
        for number in 0..2 * KEPT {
            let head = Head::request(&Redaction::default(), Method::GET, b"/", None, &Many(number));
            let others = "x-a: 1\r\n".repeat(number);
            let expected = format!("GET / HTTP/1.1\r\nHost: h\r\n{others}Authorization: ******\r\n");
            assert_eq!(String::from_utf8(head.text).unwrap(), expected);
        }
    }

    /// What they say of the body has to be known, whatever is shown of them.
    #[test]
    fn the_kind_of_a_body_is_learnt_from_fields_that_are_masked_or_pass() {
        use crate::redact::Secret;
        let names = || ["Content-Type", "content-encoding"].map(Secret::Header);
        let mut fields = HeaderMap::new();
        fields.insert("content-type", http::HeaderValue::from_static("application/json"));
        fields.insert("content-encoding", http::HeaderValue::from_static("gzip"));
        for (redaction, shown) in [(Redaction::new(names(), []), false), (Redaction::new([], names()), true)] {
            let head = Head::response(&redaction, StatusCode::OK, &fields);
            assert!(head.is_coded && head.media == Media::Json);
            assert_eq!(String::from_utf8(head.text).unwrap().contains("json"), shown);
        }
    }
}
