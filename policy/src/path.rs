//! The canonical path and the check of the query.
//!
//! Unreserved characters that were percent-encoded are decoded once, the remaining escapes are written in
//! upper case (RFC 3986 §6.2.2.1-2), and nothing else is repaired: what a lenient reader would resolve,
//! merge, cut or fold is refused. The result is stable: its own canonical form is itself, and one more
//! decoding by an origin reveals no slash, dot segment, parameter, delimiter or control character.

use crate::case::{self, PathCase};
use crate::escape::hex_value;
use crate::malformed::Malformed;
use std::borrow::Cow;

/// A canonical path with its query.
pub(crate) struct Canonical<'a> {
    /// Borrowed when these are the bytes that came in.
    pub(crate) text: Cow<'a, str>,
    /// The length of the path in `text`; what follows is empty or begins with `?`.
    pub(crate) path_len: usize,
    /// Whether the path has escapes left.
    pub(crate) escapes: bool,
}

/// Reads an origin-form target, for rules that compare paths in this way.
pub(crate) fn canonical(raw: &str, case: PathCase) -> Result<Canonical<'_>, Malformed> {
    let (path_len, escapes) = scan_path(raw.as_bytes())?;
    let (path, rest) = raw.split_at_checked(path_len).ok_or(Malformed::NonAscii)?;
    scan_query(rest.as_bytes())?;
    if !escapes {
        return Ok(Canonical { text: Cow::Borrowed(raw), path_len, escapes });
    }
    let decoded = decode(path, case)?;
    let escapes = decoded.contains('%');
    if decoded == path {
        return Ok(Canonical { text: Cow::Borrowed(raw), path_len, escapes });
    }
    let path_len = decoded.len();
    Ok(Canonical { text: Cow::Owned(decoded + rest), path_len, escapes })
}

/// What a segment has been so far; `.` and `..` may not be a whole one.
#[derive(Clone, Copy, PartialEq)]
enum Segment {
    Empty,
    Dot,
    DotDot,
    Other,
}

/// Walks the path up to the query. Returns its length and whether it has escapes.
fn scan_path(raw: &[u8]) -> Result<(usize, bool), Malformed> {
    let Some((b'/', mut rest)) = raw.split_first() else {
        return Err(Malformed::NotAbsolute);
    };
    let mut segment = Segment::Empty;
    let mut escapes = false;
    while let Some((&b, tail)) = rest.split_first() {
        match class(b) {
            PLAIN => segment = Segment::Other,
            SLASH => {
                segment = match segment {
                    Segment::Empty => return Err(Malformed::EmptySegment),
                    Segment::Dot | Segment::DotDot => return Err(Malformed::DotSegment),
                    Segment::Other => Segment::Empty,
                }
            }
            DOT => {
                segment = match segment {
                    Segment::Empty => Segment::Dot,
                    Segment::Dot => Segment::DotDot,
                    Segment::DotDot | Segment::Other => Segment::Other,
                }
            }
            PERCENT => {
                escapes = true;
                segment = Segment::Other;
            }
            QUESTION => break,
            _ => return Err(refusal(b)),
        }
        rest = tail;
    }
    match segment {
        Segment::Dot | Segment::DotDot => Err(Malformed::DotSegment),
        // An empty last segment is a trailing slash, and part of the path.
        Segment::Empty | Segment::Other => Ok((raw.len() - rest.len(), escapes)),
    }
}

/// The query goes on byte for byte, but not with what would end it or the request line early.
fn scan_query(rest: &[u8]) -> Result<(), Malformed> {
    match rest.iter().find(|b| !matches!(b, 0x21..=0x7e) || **b == b'#') {
        None => Ok(()),
        Some(&b) => Err(refusal(b)),
    }
}

/// Decodes what may be decoded, refuses what may not be there, keeps the rest as upper-case escapes.
fn decode(path: &str, case: PathCase) -> Result<String, Malformed> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    let mut run = Vec::new();
    while let Some((&b, tail)) = rest.split_first() {
        if b != b'%' {
            out.push(char::from(b));
            rest = tail;
            continue;
        }
        let (value, after) = escape(tail)?;
        match value {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(value)),
            0 => return Err(Malformed::EncodedNul),
            b'/' => return Err(Malformed::EncodedSlash),
            b'\\' => return Err(Malformed::EncodedBackslash),
            b'?' | b'#' => return Err(Malformed::EncodedDelimiter),
            0x01..=0x20 | 0x7f | b';' => return Err(refusal(value)),
            0x21..=0x7e => push_escape(&mut out, value),
            0x80.. => {
                // The whole run of high escapes must be UTF-8 by itself: a character half encoded and
                // half written plainly is no character.
                run.clear();
                run.push(value);
                let mut next = after;
                while let Some((b'%', tail)) = next.split_first() {
                    let (value, after) = escape(tail)?;
                    if value < 0x80 {
                        break;
                    }
                    run.push(value);
                    next = after;
                }
                // Overlong forms, surrogates and code points past U+10FFFF all fail here (RFC 3629 §3).
                let text = std::str::from_utf8(&run).map_err(|_| Malformed::NonUtf8)?;
                if let Some(refused) = text.chars().find_map(folds) {
                    return Err(refused);
                }
                if case == PathCase::Insensitive && text.chars().any(case::meets_ascii) {
                    return Err(Malformed::Lookalike);
                }
                run.iter().for_each(|b| push_escape(&mut out, *b));
                rest = next;
                continue;
            }
        }
        rest = after;
    }
    if decodes_again(out.as_bytes()) {
        return Err(Malformed::DoubleEncoding);
    }
    // Decoding may have made a dot segment out of %2e; nothing else can be new.
    scan_path(out.as_bytes()).map(|_| out)
}

/// The value of the escape whose digits come first, and what follows them.
fn escape(digits: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    match digits {
        [hi, lo, after @ ..] => match (hex_value(*hi), hex_value(*lo)) {
            (Some(hi), Some(lo)) => Ok((hi << 4 | lo, after)),
            _ => Err(Malformed::BadEscape),
        },
        _ => Err(Malformed::BadEscape),
    }
}

fn push_escape(out: &mut String, value: u8) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.push('%');
    out.extend(DIGITS.get(usize::from(value >> 4)));
    out.extend(DIGITS.get(usize::from(value & 15)));
}

/// Whether one more decoding would find an escape: `%25` before two hexadecimal digits, or before `u` and
/// four of them, the form some origins of the Windows family read.
fn decodes_again(path: &[u8]) -> bool {
    let hex = |b: &u8| b.is_ascii_hexdigit();
    path.windows(5).enumerate().any(|(i, w)| match w {
        [b'%', b'2', b'5', hi, lo] if hex(hi) && hex(lo) => true,
        [b'%', b'2', b'5', b'u' | b'U', _] => path.get(i + 4..i + 8).is_some_and(|digits| digits.iter().all(hex)),
        _ => false,
    })
}

/// Characters that another reader drops, folds or splits on. NFKC and the "best fit" tables of Windows
/// turn the ones below into a delimiter or an ASCII letter; a rule would have judged something else.
fn folds(c: char) -> Option<Malformed> {
    match c {
        // C1 controls, and the line and paragraph separators.
        '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => Some(Malformed::Control),
        c if c.is_whitespace() => Some(Malformed::Blank),
        // Full-width and half-width forms of ASCII, and of the blank-like U+FFA0.
        '\u{ff01}'..='\u{ff5e}' | '\u{ffa0}' => Some(Malformed::Lookalike),
        // Dots: one, two, three dot leaders, small full stop, vertical ellipsis, digits and letters with dots.
        '\u{2024}'..='\u{2026}' | '\u{fe52}' | '\u{fe19}' | '\u{fe30}' => Some(Malformed::Lookalike),
        '\u{2488}'..='\u{249b}' | '\u{1f100}' | '\u{33c2}' | '\u{33c7}' | '\u{33d8}' => Some(Malformed::Lookalike),
        // Slashes and backslashes: fraction, division, big, set minus, reverse; a/c, a/s, c/o, c/u; yen and won.
        '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{29f9}' | '\u{fe68}' => {
            Some(Malformed::Lookalike)
        }
        '\u{2100}' | '\u{2101}' | '\u{2105}' | '\u{2106}' | '\u{a5}' | '\u{20a9}' => Some(Malformed::Lookalike),
        // Semicolons (Greek question mark among them), question marks, number and percent signs.
        '\u{37e}' | '\u{fe54}' | '\u{fe14}' | '\u{2047}'..='\u{2049}' | '\u{fe56}' | '\u{fe16}' => {
            Some(Malformed::Lookalike)
        }
        '\u{fe5f}' | '\u{fe6a}' => Some(Malformed::Lookalike),
        _ => None,
    }
}

/// Why a byte that stands plainly in a path or query, or encoded as a control, is refused.
const fn refusal(b: u8) -> Malformed {
    match b {
        b' ' => Malformed::Blank,
        0x00..=0x1f | 0x7f => Malformed::Control,
        0x80.. => Malformed::NonAscii,
        b'\\' => Malformed::Backslash,
        b';' => Malformed::Parameters,
        b'#' => Malformed::Fragment,
        _ => Malformed::InvalidCharacter,
    }
}

const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const DOT: u8 = 2;
const PERCENT: u8 = 3;
const QUESTION: u8 = 4;
const REFUSED: u8 = 5;

/// pchar of RFC 3986 §3.3 without `;`, one table look-up per byte.
const CLASSES: [u8; 256] = {
    let mut table = [REFUSED; 256];
    let mut b = 0u8;
    loop {
        let class = match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => PLAIN,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => PLAIN,
            b'/' => SLASH,
            b'.' => DOT,
            b'%' => PERCENT,
            b'?' => QUESTION,
            _ => REFUSED,
        };
        #[allow(clippy::indexing_slicing)] // evaluated at compile time; a u8 is always inside 256
        {
            table[b as usize] = class;
        }
        if b == 255 {
            break;
        }
        b += 1;
    }
    table
};

#[allow(clippy::indexing_slicing)] // a u8 is always inside 256
const fn class(b: u8) -> u8 {
    CLASSES[b as usize]
}
