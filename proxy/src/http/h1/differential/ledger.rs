//! The argued differences: what we refuse and hyper takes, what hyper refuses and we take, and what both take but tell otherwise.
//!
//! A difference is never excused by what a message looks like. What is at fault in it is put right, and nothing else: then our
//! reader must make of it exactly what hyper made of the original. So each class is the whole reason, or the test fails.

use crate::limits;

/// An argued difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// A line of a head that ends in LF alone. RFC 9112 §2.2 allows taking it, and that is how two readers come to see two
    /// different heads; we require CRLF.
    BareLf,
    /// More than the one empty line before a request that RFC 9112 §2.2 asks for, or any before a response.
    BlankLines,
    /// A method with lower-case letters. Methods are case-sensitive (RFC 9110 §9.1) and every registered one is upper-case; a
    /// rule for `GET` must not be passed by `get`.
    MethodCase,
    /// HTTP/1.0 requests: 426, because of their framing (RFC 9112 §9.3 and appendix C.2.2).
    OldVersion,
    /// Bytes above 0x7e in the target: RFC 3986 §2 has none.
    TargetBytes,
    /// `Content-Length` beside `Transfer-Encoding`: RFC 9112 §6.3 item 3 "ought to be handled as an error".
    LengthAndCoding,
    /// Transfer codings besides one `chunked`: RFC 9112 §6.1, 501.
    Codings,
    /// A response coded by something else, which hyper reads until the connection closes (RFC 9112 §6.3 item 4).
    CodingUntilClose,
    /// The same length said twice: RFC 9110 §8.6 lets a recipient refuse it.
    RepeatedLength,
    /// A length of more than 18 digits: RFC 9110 §8.6 asks to guard against overflow.
    LongLength,
    /// Bad framing fields on a response that has no body: RFC 9112 §6.3 item 1 does not need them, the next reader may.
    BodilessFraming,
    /// A status of 600 to 999: RFC 9110 §15 "invalid".
    Status,
    /// 101 that was not asked for: RFC 9110 §15.2.2.
    UnaskedSwitch,
    /// More interim responses than the bound.
    TooManyInterim,
    /// A head past the bound.
    HeadTooLong,
    /// Blanks after a chunk size: the grammar of RFC 9112 §7.1 has none before CRLF (only bad ones before an extension).
    ChunkBlank,
    /// A chunk extension with controls or bytes above 0x7e, or past the bound (RFC 9112 §7.1.1).
    ChunkExtension,
    /// A chunk size of more than 15 digits (RFC 9112 §7.1: "anticipate potentially large hexadecimal numerals").
    ChunkDigits,
    /// LF alone in a trailer section.
    TrailerLf,
    /// A trailer section past the bound.
    TrailersTooLong,
    /// hyper overlooks `close` in a `Connection` value that also holds bytes above 0x7e; we close (RFC 9112 §9.6).
    CloseBesideBytes,
    /// hyper refuses a target that is no URI at once; ours is refused with its reason when it is read canonically.
    TargetJudgedLater,
    /// hyper refuses `"`, `<` and `>` in a query, which RFC 3986 §3.4 does not have; we pass every query as it came, because none
    /// is judged, and no framing hangs on it.
    QueryBytes,
    /// hyper cuts the fragment off; ours is refused when it is read canonically (RFC 9112 §3.2: there is none).
    Fragment,
    /// hyper tells the absolute form in its own spelling: scheme in lower case, `/` for an empty path.
    AbsoluteForm,
    /// hyper does not tell a reason with bytes above 0x7e.
    ReasonBytes,
}

/// One message with its faults put right.
pub(super) struct Mended {
    pub(super) text: Vec<u8>,
    pub(super) classes: Vec<Class>,
}

impl Mended {
    fn note(&mut self, class: Class) {
        if !self.classes.contains(&class) {
            self.classes.push(class);
        }
    }
}

/// Puts the request at the start of `text` right; what follows it may be lost.
pub(super) fn request(text: &[u8]) -> Mended {
    let mut mended = Mended { text: Vec::new(), classes: Vec::new() };
    let text = after_blank_lines(text, 1, &mut mended);
    let Some((mut lines, rest)) = head(text, &mut mended) else { return unmended(text) };
    if let Some(first) = lines.first_mut() {
        request_line(first, &mut mended);
    }
    let chunked = framing(&mut lines, &mut mended, false);
    finish(lines, &mut mended);
    if chunked {
        chunks(rest, &mut mended)
    } else {
        mended.text.extend_from_slice(rest)
    }
    mended
}

/// Writes `x` for the bytes that hyper refuses in the query of this target.
pub(super) fn query(text: &[u8], target: &[u8]) -> Vec<u8> {
    let mut mended = text.to_vec();
    let start = text.iter().position(|byte| *byte == b' ').map_or(0, |blank| blank + 1);
    let query = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    for byte in &mut mended[start + query..start + target.len()] {
        if matches!(byte, b'"' | b'<' | b'>') {
            *byte = b'x';
        }
    }
    mended
}

/// Puts a response and the interim ones before it right.
pub(super) fn response(text: &[u8], to_head: bool) -> Mended {
    let mut mended = Mended { text: Vec::new(), classes: Vec::new() };
    let mut rest = text;
    let mut interim = Vec::new();
    loop {
        rest = after_blank_lines(rest, 0, &mut mended);
        let Some((mut lines, after)) = head(rest, &mut mended) else { return unmended(text) };
        rest = after;
        let status = status_line(&mut lines[0], &mut mended);
        if (100..200).contains(&status) && status != 101 {
            finish(lines, &mut mended);
            interim.push(std::mem::take(&mut mended.text));
            continue;
        }
        if interim.len() > limits::INFORMATIONAL {
            mended.note(Class::TooManyInterim);
            interim.truncate(limits::INFORMATIONAL);
        }
        let mut bodiless = to_head || matches!(status, 204 | 304);
        if status == 101 {
            mended.note(Class::UnaskedSwitch);
            lines[0].splice(9..12, *b"204");
            bodiless = true;
        }
        let chunked =
            if bodiless { bodiless_framing(&mut lines, &mut mended) } else { framing(&mut lines, &mut mended, true) };
        mended.text = interim.concat();
        finish(lines, &mut mended);
        if chunked {
            chunks(rest, &mut mended)
        } else {
            mended.text.extend_from_slice(rest)
        }
        return mended;
    }
}

fn unmended(text: &[u8]) -> Mended {
    Mended { text: text.to_vec(), classes: Vec::new() }
}

fn after_blank_lines<'a>(text: &'a [u8], allowed: usize, mended: &mut Mended) -> &'a [u8] {
    let mut rest = text;
    while let Some(after) = rest.strip_prefix(b"\n").or_else(|| rest.strip_prefix(b"\r\n")) {
        rest = after;
    }
    let blank = &text[..text.len() - rest.len()];
    if !blank.is_empty() && (allowed == 0 || blank != b"\r\n") {
        mended.note(Class::BlankLines);
    }
    rest
}

/// The lines of a head without their ends, and what follows it. `None` when it does not end.
fn head<'a>(text: &'a [u8], mended: &mut Mended) -> Option<(Vec<Vec<u8>>, &'a [u8])> {
    let mut lines = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let whole = line.strip_suffix(b"\r");
        if whole.is_none() {
            mended.note(Class::BareLf);
        }
        let line = whole.unwrap_or(line);
        if line.is_empty() {
            return Some((lines, rest));
        }
        lines.push(line.to_vec());
    }
}

fn finish(lines: Vec<Vec<u8>>, mended: &mut Mended) {
    let start = mended.text.len();
    for line in lines {
        mended.text.extend_from_slice(&line);
        mended.text.extend_from_slice(b"\r\n");
    }
    mended.text.extend_from_slice(b"\r\n");
    if mended.text.len() - start > limits::HEAD_BYTES {
        mended.note(Class::HeadTooLong);
    }
}

fn request_line(line: &mut Vec<u8>, mended: &mut Mended) {
    let mut parts: Vec<Vec<u8>> = line.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
    let [method, target, version] = parts.as_mut_slice() else { return };
    if method.iter().any(u8::is_ascii_lowercase) {
        mended.note(Class::MethodCase);
        method.make_ascii_uppercase();
    }
    if target.iter().any(|byte| *byte >= 0x80) {
        mended.note(Class::TargetBytes);
        *target = plain(target);
    }
    if version == b"HTTP/1.0" {
        mended.note(Class::OldVersion);
        *version = b"HTTP/1.1".to_vec();
    }
    *line = parts.join(&b' ');
}

/// Every byte above 0x7f as an `x`.
pub(super) fn plain(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if *byte >= 0x80 { b'x' } else { *byte }).collect()
}

fn status_line(line: &mut [u8], mended: &mut Mended) -> u16 {
    let Some(digits) = line.get_mut(9..12) else { return 0 };
    let status = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    if (600..=999).contains(&status) {
        mended.note(Class::Status);
        digits.copy_from_slice(b"599");
    }
    status
}

/// Leaves one clear framing where hyper finds one; says whether it is chunks.
fn framing(lines: &mut Vec<Vec<u8>>, mended: &mut Mended, response: bool) -> bool {
    let lengths = values(lines, b"content-length");
    let codings = values(lines, b"transfer-encoding");
    if let Some(last) = codings.last() {
        let readable = last.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        let last = last.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        let chunked = readable && last.eq_ignore_ascii_case(b"chunked");
        if !chunked && !response {
            return false; // hyper refuses it too
        }
        if !lengths.is_empty() {
            mended.note(Class::LengthAndCoding);
            remove(lines, b"content-length");
        }
        if !chunked {
            mended.note(Class::CodingUntilClose);
            remove(lines, b"transfer-encoding");
        } else if codings.len() > 1 || !codings[0].eq_ignore_ascii_case(b"chunked") {
            mended.note(Class::Codings);
            remove(lines, b"transfer-encoding");
            lines.push(b"transfer-encoding: chunked".to_vec());
        }
        return chunked;
    }
    // A server takes one number a line, a client lists of them too.
    let mut said: Vec<&[u8]> = lengths.iter().map(Vec::as_slice).collect();
    if response {
        said = said.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).collect();
    }
    let number = |text: &&[u8]| {
        let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(text).ok().filter(|_| digits).and_then(|text| text.parse::<u64>().ok())
    };
    let numbers: Option<Vec<u64>> = said.iter().map(number).collect();
    let Some([first, others @ ..]) = numbers.as_deref() else { return false };
    if others.iter().any(|other| other != first) {
        return false;
    }
    if !others.is_empty() {
        mended.note(Class::RepeatedLength);
    }
    let long = said.iter().any(|text| text.len() > 18);
    if long {
        mended.note(Class::LongLength);
    }
    if others.is_empty() && !long {
        return false;
    }
    remove(lines, b"content-length");
    lines.push(format!("content-length: {}", (*first).min(999_999_999_999_999_999)).into_bytes());
    false
}

/// hyper looks at neither field of such a response. What is clear anyway stays.
fn bodiless_framing(lines: &mut Vec<Vec<u8>>, mended: &mut Mended) -> bool {
    let lengths = values(lines, b"content-length");
    let codings = values(lines, b"transfer-encoding");
    let clear = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => true,
        ([length], []) => (1..=18).contains(&length.len()) && length.iter().all(u8::is_ascii_digit),
        ([], [coding]) => coding.eq_ignore_ascii_case(b"chunked"),
        _ => false,
    };
    if !clear {
        mended.note(Class::BodilessFraming);
        remove(lines, b"content-length");
        remove(lines, b"transfer-encoding");
    }
    false
}

/// The values of a field, without the blanks around them.
fn values(lines: &[Vec<u8>], name: &[u8]) -> Vec<Vec<u8>> {
    let of = |line: &Vec<u8>| is(line, name).then(|| blanks_off(&line[name.len() + 1..]).to_vec());
    lines.iter().filter_map(of).collect()
}

fn blanks_off(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn remove(lines: &mut Vec<Vec<u8>>, name: &[u8]) {
    lines.retain(|line| !is(line, name));
}

fn is(line: &[u8], name: &[u8]) -> bool {
    line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name) && line[name.len()] == b':'
}

/// Bytes of a trailer section, with the line that ends it.
const OUR_TRAILERS: usize = 8 * 1024 + 2;
const HYPERS_TRAILERS: usize = 16 * 1024;

/// Writes a chunked body anew, read by the grammar that hyper takes. What that does not take stays as it is.
fn chunks(text: &[u8], mended: &mut Mended) {
    let mut rest = text;
    while let Some((size, line, after)) = size_line(rest, mended) {
        if size > 0 {
            mended.text.extend_from_slice(format!("{:x}\r\n", size.min(0x0fff_ffff_ffff_ffff)).as_bytes());
            let data = usize::try_from(size).unwrap_or(usize::MAX).min(after.len());
            mended.text.extend_from_slice(&after[..data]);
            rest = &after[data..];
            let Some(next) = rest.strip_prefix(b"\r\n") else { break };
            mended.text.extend_from_slice(b"\r\n");
            rest = next;
            continue;
        }
        let Some(trailers) = trailers(after) else {
            rest = line;
            break;
        };
        mended.text.extend_from_slice(b"0\r\n");
        let long = trailers.len() > OUR_TRAILERS;
        let lone = |at: usize| trailers[at] == b'\n' && (at == 0 || trailers[at - 1] != b'\r');
        let lone = (0..trailers.len()).any(lone);
        // As hyper reads the section once it has cut it out: as many fields as it found lines.
        let lines = trailers.windows(2).filter(|pair| pair == b"\r\n").count() - 1;
        let mut fields = vec![httparse::EMPTY_HEADER; lines];
        if let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(trailers, &mut fields)
            && trailers.len() < HYPERS_TRAILERS
            && lines <= limits::HEADER_FIELDS
            && (long || lone)
        {
            mended.note(if long { Class::TrailersTooLong } else { Class::TrailerLf });
            for field in fields.iter().filter(|_| !long) {
                mended.text.extend_from_slice(&[field.name.as_bytes(), b": ", field.value, b"\r\n"].concat());
            }
            return mended.text.extend_from_slice(b"\r\n");
        }
        return mended.text.extend_from_slice(trailers);
    }
    mended.text.extend_from_slice(rest);
}

/// A chunk's size, its line and all after it, and what follows the line.
fn size_line<'a>(text: &'a [u8], mended: &mut Mended) -> Option<(u64, &'a [u8], &'a [u8])> {
    let digits = text.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    let size = u64::from_str_radix(std::str::from_utf8(&text[..digits]).ok()?, 16).ok()?;
    let rest = &text[digits..];
    let blanks = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    let rest = &rest[blanks..];
    let extension = match rest.first() {
        Some(b';') => rest[1..].iter().position(|byte| matches!(byte, b'\r' | b'\n'))?,
        _ => 0,
    };
    let (extension, rest) = rest.split_at(if rest.first() == Some(&b';') { extension + 1 } else { 0 });
    let after = rest.strip_prefix(b"\r\n")?;
    if digits > 15 {
        mended.note(Class::ChunkDigits);
    }
    if blanks > 0 {
        mended.note(Class::ChunkBlank);
    }
    let extension = extension.get(1..).unwrap_or_default();
    if extension.len() > 256 || extension.iter().any(|byte| !matches!(byte, b'\t' | b' '..=b'~')) {
        mended.note(Class::ChunkExtension);
    }
    Some((size, text, after))
}

/// The trailer section with its last line, as hyper cuts it out: lines end in CRLF, whatever is in them.
fn trailers(text: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        let end = at + text[at..].iter().position(|byte| *byte == b'\r')?;
        if text.get(end + 1) != Some(&b'\n') {
            return None;
        }
        if end == at {
            return Some(&text[..end + 2]);
        }
        at = end + 2;
    }
}
