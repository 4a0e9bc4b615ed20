//! Path templates: `/v1/orders/{id:uint}`, `/export/{day:date}.csv`, `/files/{rest...}`.
//!
//! In: the text of one template. Out: a matcher over canonical paths, and how specific it is.
//! Refuses a template that no canonical path can match (a `..`, a `//`, a query), and the wildcards of
//! other languages (`*`, `:id`), which would otherwise silently mean the literal characters.
//!
//! A parameter is one non-empty segment or the part of one between a literal prefix and suffix.
//! `{rest...}` stands for zero or more segments, so `/files/{rest...}` matches `/files`, `/files/` and
//! `/files/a/b`. Elsewhere a trailing slash is part of the path: `/a` is not `/a/`.

use crate::case::{PathCase, folded};
use crate::escape::{Decoded, decoded, decoded_eq};
use crate::malformed::Malformed;
use crate::path;
use crate::pattern_error::PatternError;
use crate::segment::{KINDS, Kind};
use std::fmt;

/// A compiled path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    text: Box<str>,
    segments: Box<[Segment]>,
    /// Whether `{rest...}` follows the segments.
    tail: bool,
    /// What every path without escapes begins with that is one of this template's.
    stem: Box<[u8]>,
    /// How many literal segments the stem begins with, and how many bytes of it they are with their slashes.
    literals: (usize, usize),
    specificity: Specificity,
}

/// How narrow a template is, segment by segment: literal above typed above `any` above tail. Of two
/// templates that match the same path the greater one is the more specific.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Specificity(Box<[u8]>);

impl Specificity {
    /// One number per segment, the greater the narrower; compared from the left.
    pub(crate) fn ranks(&self) -> &[u8] {
        &self.0
    }
}

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// Exactly these decoded bytes; empty only as the last segment (a trailing slash).
    Literal(Box<[u8]>),
    Parameter {
        prefix: Box<[u8]>,
        kind: Kind,
        suffix: Box<[u8]>,
    },
}

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// With the place in `text` and, where known, what to write instead.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::parse_for(text, PathCase::Sensitive)
    }

    /// The same for rules that compare paths in this way: what can stand in a path depends on it.
    pub(crate) fn parse_for(text: &str, case: PathCase) -> Result<Self, PatternError> {
        if let Some(at) = text.find("${") {
            return Err(PatternError::new(at, 2, "variables (`${…}`) are not yet supported"));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(PatternError::new(0, text.len(), "a path begins with `/`"));
        };
        if let Some(at) = text.find('?') {
            return Err(PatternError::new(at, text.len() - at, "a query is never part of a path template")
                .help("remove it: a rule with this path matches whatever the query is"));
        }
        let mut segments = Vec::new();
        let mut names = Vec::new();
        let mut tail = false;
        let mut offset = 1;
        let count = rest.split('/').count();
        for (i, part) in rest.split('/').enumerate() {
            let last = i + 1 == count;
            match parse_segment(part, last, case, &mut names).map_err(|e| e.shifted(offset))? {
                Some(segment) => segments.push(segment),
                None => tail = true,
            }
            offset += part.len() + 1;
        }
        Ok(Self::of(text.into(), segments.into(), tail))
    }

    fn of(text: Box<str>, segments: Box<[Segment]>, tail: bool) -> Self {
        let specificity = Specificity(segments.iter().map(Segment::rank).chain(tail.then_some(RANK_TAIL)).collect());
        let (stem, literals) = stem(&segments);
        Self { text, stem, literals, segments, tail, specificity }
    }

    /// The same for paths in lower case; its text stays as it was written.
    pub(crate) fn folded(self) -> Self {
        let segments = self.segments.iter().map(Segment::folded).collect();
        Self::of(self.text, segments, self.tail)
    }

    /// Whether a canonical path, as [`crate::Target::path`] gives it, is one of this template's.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut parts = path.as_bytes().split(|b| *b == b'/');
        for segment in &self.segments {
            match parts.next() {
                Some(part) if segment.matches(part) => {}
                _ => return false,
            }
        }
        self.tail || parts.next().is_none()
    }

    /// The same for a path that is known to have no escapes: most templates of a set are ruled out by one
    /// comparison of bytes, and what it has compared is not looked at again.
    pub(crate) fn matches_unescaped(&self, path: &str) -> bool {
        let path = path.as_bytes();
        let (count, len) = self.literals;
        if !path.starts_with(&self.stem) {
            return false;
        }
        let (Some(rest), Some(segments)) = (path.get(len..), self.segments.get(count..)) else {
            return false;
        };
        match rest {
            [] => segments.is_empty() && count > 0,
            [b'/', ..] if segments.is_empty() => self.tail,
            [b'/', rest @ ..] => {
                let mut parts = rest.split(|b| *b == b'/');
                segments.iter().all(|segment| parts.next().is_some_and(|part| segment.accepts(part)))
                    && (self.tail || parts.next().is_none())
            }
            _ => false,
        }
    }

    /// The segments before `{rest...}`, or all of them.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether `{rest...}` follows.
    pub(crate) fn has_tail(&self) -> bool {
        self.tail
    }

    /// How narrow this template is.
    #[must_use]
    pub fn specificity(&self) -> &Specificity {
        &self.specificity
    }

    /// The template as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(crate) const RANK_LITERAL: u8 = 4;
const RANK_TYPED: u8 = 3;
pub(crate) const RANK_ANY: u8 = 2;
const RANK_TAIL: u8 = 1;

impl Segment {
    fn folded(&self) -> Self {
        match self {
            Self::Literal(literal) => Self::Literal(folded(literal)),
            Self::Parameter { prefix, kind, suffix } => {
                Self::Parameter { prefix: folded(prefix), kind: kind.folded(), suffix: folded(suffix) }
            }
        }
    }

    fn matches(&self, part: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => decoded_eq(part, literal),
            Self::Parameter { prefix, kind: Kind::Any, suffix } if prefix.is_empty() && suffix.is_empty() => {
                !part.is_empty()
            }
            // Without affixes there is nothing to strip: comparing empty slices is not free, because their
            // pointers may be to no page and a masked vector load there is very slow.
            Self::Parameter { prefix, kind, suffix } if prefix.is_empty() && suffix.is_empty() => {
                kind.accepts(&decoded(part))
            }
            _ => self.accepts(&decoded(part)),
        }
    }

    /// Whether this segment covers these decoded bytes.
    pub(crate) fn accepts(&self, part: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => **literal == *part,
            Self::Parameter { prefix, kind, suffix } if prefix.is_empty() && suffix.is_empty() => kind.accepts(part),
            Self::Parameter { prefix, kind, suffix } => part
                .strip_prefix(&**prefix)
                .and_then(|value| value.strip_suffix(&**suffix))
                .is_some_and(|value| kind.accepts(value)),
        }
    }

    /// A prefix or suffix narrows as much as a type does.
    fn rank(&self) -> u8 {
        match self {
            Self::Literal(_) => RANK_LITERAL,
            Self::Parameter { prefix, kind: Kind::Any, suffix } if prefix.is_empty() && suffix.is_empty() => RANK_ANY,
            Self::Parameter { .. } => RANK_TYPED,
        }
    }
}

/// The leading literal segments, and the literal that the first parameter begins with; how many those segments are, and
/// how many bytes. The slash after the last one is left out: `{rest...}` matches without it.
fn stem(segments: &[Segment]) -> (Box<[u8]>, (usize, usize)) {
    let mut stem = Vec::new();
    let mut literals = (0, 0);
    for (before, segment) in segments.iter().enumerate() {
        stem.push(b'/');
        match segment {
            Segment::Literal(literal) => {
                stem.extend_from_slice(literal);
                literals = (before + 1, stem.len());
            }
            Segment::Parameter { prefix, .. } => {
                stem.extend_from_slice(prefix);
                break;
            }
        }
    }
    (stem.into(), literals)
}

/// One segment; `None` for `{rest...}`. Offsets of errors count from the start of the segment.
fn parse_segment<'t>(
    part: &'t str,
    last: bool,
    case: PathCase,
    names: &mut Vec<&'t str>,
) -> Result<Option<Segment>, PatternError> {
    let Some(open) = part.find('{') else {
        return literal_segment(part, last, case).map(Some);
    };
    let (prefix, rest) = part.split_at(open);
    let Some(close) = rest.find('}') else {
        return Err(PatternError::new(open, rest.len(), "this `{` is never closed"));
    };
    let inner = rest.get(1..close).unwrap_or_default();
    let suffix = rest.get(close + 1..).unwrap_or_default();
    if let Some(second) = suffix.find('{') {
        return Err(PatternError::new(open + close + 1 + second, 1, "a segment holds at most one parameter"));
    }
    let (name, kind) = match inner.split_once(':') {
        Some((name, kind)) => (name, Some(kind)),
        None => (inner, None),
    };
    let (name, is_tail) = match name.strip_suffix("...") {
        Some(name) => (name, true),
        None => (name, false),
    };
    check_name(name, open + 1, names)?;
    if is_tail {
        return tail_segment(part, open, inner.len() + 2, kind, last).map(|()| None);
    }
    let kind = match kind {
        None => Kind::Any,
        Some(kind) => parse_kind(kind, case).map_err(|e| e.shifted(open + 1 + name.len() + 1))?,
    };
    // The text around the parameter must be able to stand in a canonical path.
    check_literal(prefix, 0, case)?;
    check_literal(suffix, open + close + 1, case)?;
    Ok(Some(Segment::Parameter { prefix: unescape(prefix), kind, suffix: unescape(suffix) }))
}

fn literal_segment(part: &str, last: bool, case: PathCase) -> Result<Segment, PatternError> {
    if part.is_empty() && !last {
        return Err(never(Malformed::EmptySegment, 0, 1));
    }
    if let Some(name) = part.strip_prefix(':') {
        return Err(PatternError::new(0, part.len(), "a segment that begins with `:` is not a parameter here")
            .help(format!("write `{{{name}}}`")));
    }
    if let Some(at) = part.find('}') {
        return Err(PatternError::new(at, 1, "this `}` was never opened"));
    }
    if part == "." || part == ".." {
        return Err(never(Malformed::DotSegment, 0, part.len()));
    }
    check_literal(part, 0, case)?;
    Ok(Segment::Literal(unescape(part)))
}

fn tail_segment(part: &str, open: usize, len: usize, kind: Option<&str>, last: bool) -> Result<(), PatternError> {
    if kind.is_some() {
        return Err(PatternError::new(open, len, "`{…...}` takes no type"));
    }
    if part.len() != len {
        return Err(PatternError::new(open, len, "`{…...}` is a whole segment, without prefix or suffix"));
    }
    if !last {
        return Err(PatternError::new(open, len, "`{…...}` stands only at the end of a path"));
    }
    Ok(())
}

fn check_name<'t>(name: &'t str, offset: usize, names: &mut Vec<&'t str>) -> Result<(), PatternError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return Err(PatternError::new(
            offset,
            name.len(),
            "a parameter's name is a letter, then letters, digits, `_` or `-`",
        ));
    }
    if names.contains(&name) {
        return Err(PatternError::new(offset, name.len(), format!("the parameter `{name}` is there twice")));
    }
    names.push(name);
    Ok(())
}

fn parse_kind(text: &str, case: PathCase) -> Result<Kind, PatternError> {
    if let Some(kind) = Kind::named(text) {
        return Ok(kind);
    }
    if !text.contains('|') {
        return Err(PatternError::new(0, text.len(), format!("unknown parameter type `{text}`"))
            .help(format!("the types are {}; a choice is written `a|b`", KINDS.join(", "))));
    }
    let mut words = Vec::new();
    let mut offset = 0;
    for word in text.split('|') {
        if word.is_empty() {
            return Err(PatternError::new(offset, 0, "a choice has an empty word"));
        }
        check_literal(word, offset, case)?;
        words.push(unescape(word));
        offset += word.len() + 1;
    }
    Ok(Kind::Choice(words.into()))
}

/// Whether a literal part can stand in a canonical path. Raw UTF-8 is welcome in a template: it is what the
/// escapes of a path stand for.
fn check_literal(part: &str, offset: usize, case: PathCase) -> Result<(), PatternError> {
    if let Some(at) = part.find('*') {
        return Err(PatternError::new(offset + at, 1, "`*` is not a wildcard in a path")
            .help("write `{name}` for one segment, `{rest...}` for all that follow, `%2A` for the character"));
    }
    // Judge it as a request's path would be judged: beside a letter, so that dots alone are not a segment.
    let escaped: String = part.chars().map(|c| if c.is_ascii() { c.to_string() } else { escape_char(c) }).collect();
    match path::canonical(&format!("/x{escaped}"), case) {
        Ok(_) => Ok(()),
        Err(why) => Err(never(why, offset, part.len())),
    }
}

fn never(why: Malformed, offset: usize, len: usize) -> PatternError {
    PatternError::new(offset, len, "no request can match this")
        .help(format!("a request is refused before any rule is read when {why}"))
}

fn escape_char(c: char) -> String {
    let mut buffer = [0; 4];
    c.encode_utf8(&mut buffer).bytes().map(|b| format!("%{b:02X}")).collect()
}

fn unescape(part: &str) -> Box<[u8]> {
    Decoded::new(part.as_bytes()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::PathTemplate;

    #[test]
    fn each_form_matches_what_it_says_and_nothing_near() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("/", &["/"], &["/a", ""]),
            ("/v1/orders", &["/v1/orders"], &["/v1/orders/", "/v1/Orders", "/v1/orders2", "/v1", "/v1/orders/42"]),
            ("/v1/orders/", &["/v1/orders/"], &["/v1/orders", "/v1/orders/42"]),
            (
                "/orders/{id}",
                &["/orders/42", "/orders/x%40y"],
                &["/orders", "/orders/", "/orders/42/", "/orders/42/items"],
            ),
            ("/orders/{id:uint}", &["/orders/42"], &["/orders/x", "/orders/-1", "/orders/42/", "/orders/4%402"]),
            ("/{id:uint}.json", &["/1.json"], &["/.json", "/1", "/1.jsonx", "/a.json"]),
            ("/report-{d:date}", &["/report-2026-11-22"], &["/report-", "/report-2026-13-01", "/2026-11-22"]),
            ("/a-{x}-b", &["/a-1-b", "/a---b"], &["/a--b", "/a-b", "/a-1-b/"]),
            ("/{kind:books|music}/{id}", &["/books/1", "/music/x"], &["/book/1", "/films/1", "/Books/1"]),
            ("/files/{rest...}", &["/files", "/files/", "/files/a", "/files/a/b/"], &["/filesx", "/", "/file/a"]),
            ("/{rest...}", &["/", "/a", "/a/b"], &[]),
            ("/café", &["/caf%C3%A9"], &["/cafe", "/caf%C3%A8"]),
            ("/caf%c3%a9", &["/caf%C3%A9"], &["/cafe"]),
            ("/users/{mail:email}", &["/users/a%40example.org", "/users/a@example.org"], &["/users/a"]),
            ("/orders:import", &["/orders:import", "/orders%3Aimport"], &["/orders"]),
            ("/a@b", &["/a@b", "/a%40b"], &["/a"]),
        ];
        for (text, good, bad) in table {
            let template = PathTemplate::parse(text).unwrap();
            good.iter().for_each(|p| assert!(template.matches(p), "{text} {p}"));
            bad.iter().for_each(|p| assert!(!template.matches(p), "{text} {p}"));
        }
    }

    #[test]
    fn a_path_without_escapes_is_read_the_short_way_alike() {
        let templates = [
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/ab/b",
            "/{x}",
            "/{x}/",
            "/a/{x}",
            "/a/{x}/b",
            "/a/b{x}",
            "/a/{x}b/{y:uint}",
            "/a/b{x}/{rest...}",
            "/{rest...}",
            "/a/{rest...}",
            "/a/b/{rest...}",
            "/{x}/b/{rest...}",
            "/a/{x}/{rest...}",
        ];
        let pieces = ["", "a", "b", "ab", "ba", "7", "bb"];
        let mut paths = vec![String::new(), "a".to_owned(), "a/b".to_owned()];
        for one in pieces {
            paths.push(format!("/{one}"));
            for two in pieces {
                paths.push(format!("/{one}/{two}"));
                paths.extend(pieces.map(|three| format!("/{one}/{two}/{three}")));
            }
        }
        let mut matched = 0;
        for text in templates {
            let template = PathTemplate::parse(text).unwrap();
            for path in &paths {
                assert_eq!(template.matches_unescaped(path), template.matches(path), "{text} {path}");
                matched += usize::from(template.matches(path));
            }
        }
        assert!(matched > 400, "{matched}");
    }

    #[test]
    fn what_can_never_match_is_refused_with_its_place() {
        for (text, offset, message) in [
            ("orders", 0, "begins with `/`"),
            ("", 0, "begins with `/`"),
            ("/a//b", 3, "no request can match"),
            ("/a/../b", 3, "no request can match"),
            ("/a/.", 3, "no request can match"),
            ("/a;x", 1, "no request can match"),
            ("/a%2fb", 1, "no request can match"),
            ("/a b", 1, "no request can match"),
            ("/a#b", 1, "no request can match"),
            ("/x/a%zz", 3, "no request can match"),
            ("/{a}%252e", 4, "no request can match"),
            ("/a?x=1", 2, "query"),
            ("/api/*", 5, "wildcard"),
            ("/api/**", 5, "wildcard"),
            ("/a/:id", 3, "not a parameter"),
            ("${api}/orders", 0, "variables"),
            ("/${api}/orders", 1, "variables"),
            ("/a/{id", 3, "never closed"),
            ("/a/id}", 5, "never opened"),
            ("/{a}{b}", 4, "at most one"),
            ("/{}", 2, "name"),
            ("/{1a}", 2, "name"),
            ("/{a}/{a}", 6, "twice"),
            ("/{a:book}", 4, "unknown parameter type"),
            ("/{a:UINT}", 4, "unknown parameter type"),
            ("/{a:x|}", 6, "empty word"),
            ("/{a:x|y;z}", 6, "no request can match"),
            ("/{rest...}/a", 1, "end of a path"),
            ("/a{rest...}", 2, "whole segment"),
            ("/{rest...:uint}", 1, "takes no type"),
            ("/{rest:uint...}", 7, "unknown parameter type"),
        ] {
            let error = PathTemplate::parse(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error}");
            assert_eq!(error.offset, offset, "{text}: {error}");
        }
    }

    #[test]
    fn literal_is_narrower_than_typed_than_any_than_tail() {
        let order = ["/{rest...}", "/{a}", "/{a:slug}", "/orders"].map(|t| PathTemplate::parse(t).unwrap());
        assert!(order.windows(2).all(|w| w[0].specificity() < w[1].specificity()));
        let deep =
            ["/a/{rest...}", "/a/{x}/{rest...}", "/a/b/{rest...}", "/a/b/c"].map(|t| PathTemplate::parse(t).unwrap());
        assert!(deep.windows(2).all(|w| w[0].specificity() < w[1].specificity()));
    }
}
