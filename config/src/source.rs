//! Places in the text: lines and columns of bytes, and bytes inside a quoted string.

use std::ops::Range;

/// Where the lines of a text begin, so that places are found without reading it again.
#[derive(Debug, Clone)]
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(source: &str) -> Self {
        let ends = source.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        Self(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    /// Line and column of a byte, both counted from 1, the column in characters.
    pub(crate) fn place(&self, source: &str, at: usize) -> (usize, usize) {
        let at = floor(source, at);
        let line = self.0.partition_point(|start| *start <= at);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, source.get(start..at).unwrap_or_default().chars().count() + 1)
    }
}

/// The whole lines around a span, at most `max` of them, and where they start.
pub(crate) fn lines_around(source: &str, span: &Range<usize>, max: usize) -> Range<usize> {
    let start = source.get(..floor(source, span.start)).unwrap_or_default().rfind('\n').map_or(0, |i| i + 1);
    let mut end = start;
    for _ in 0..max {
        let rest = source.get(end..).unwrap_or_default();
        end += rest.find('\n').map_or(rest.len(), |i| i + 1);
        if end > span.end.max(span.start + 1) {
            break;
        }
    }
    start..end.max(start)
}

/// Where bytes `offset..offset + len` of a string's value stand in the source, given the span of its literal.
/// For literals whose spelling differs too much from their value it is the whole literal.
pub(crate) fn inside(source: &str, literal: &Range<usize>, offset: usize, len: usize) -> Range<usize> {
    let raw = source.get(literal.clone()).unwrap_or_default();
    let whole = literal.clone();
    let triple = raw.starts_with("\"\"\"") || raw.starts_with("'''");
    if triple || raw.len() < 2 {
        return whole;
    }
    let body = raw.get(1..raw.len() - 1).unwrap_or_default();
    let first = literal.start + 1;
    if raw.starts_with('\'') || !body.contains('\\') {
        return first + offset..first + (offset + len).min(body.len());
    }
    match (raw_offset(body, offset), raw_offset(body, offset + len)) {
        (Some(start), Some(end)) => first + start..first + end,
        _ => whole,
    }
}

/// The place in a basic string's body at which its value has `decoded` bytes (TOML 1.1, strings).
fn raw_offset(body: &str, decoded: usize) -> Option<usize> {
    let mut value = 0;
    let mut chars = body.char_indices();
    while value < decoded {
        let (at, c) = chars.next()?;
        if c != '\\' {
            value += c.len_utf8();
            continue;
        }
        let digits = match chars.next()?.1 {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        value += match digits {
            0 => 1,
            n => {
                let code = u32::from_str_radix(body.get(at + 2..at + 2 + n)?, 16).ok()?;
                chars.nth(n - 1)?;
                char::from_u32(code)?.len_utf8()
            }
        };
    }
    Some(chars.next().map_or(body.len(), |(at, _)| at))
}

fn floor(source: &str, at: usize) -> usize {
    source.floor_char_boundary(at.min(source.len()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "a = 1\né = \"x\"\n";
        let lines = Lines::of(text);
        assert_eq!(lines.place(text, 0), (1, 1));
        assert_eq!(lines.place(text, text.find('"').unwrap()), (2, 5));
        assert_eq!(lines.place(text, 999), (3, 1));
        assert_eq!(Lines::of("").place("", 0), (1, 1));
    }

    #[test]
    fn a_place_inside_a_string_is_found_behind_escapes() {
        for (literal, value, part) in [
            ("\"GET /a\"", "GET /a", "/a"),
            ("'GET /a'", "GET /a", "/a"),
            ("\"G\\u0045T /a\"", "GET /a", "/a"),
            ("\"\\t\\x41/a\"", "\tA/a", "/a"),
            ("\"\\U000000e9/a\"", "é/a", "/a"),
        ] {
            let source = format!("x = {literal}");
            let found = inside(&source, &(4..source.len()), value.find(part).unwrap(), part.len());
            assert_eq!(&source[found], part, "{literal}");
        }
        let multi = "x = \"\"\"GET /a\"\"\"";
        assert_eq!(inside(multi, &(4..multi.len()), 4, 2), 4..multi.len());
    }
}
