//! Why a request has no canonical reading. Each reason is a closed door with a history; the name is what
//! logs, metrics and response-code details show, the sentence is the body of the 400.

use std::fmt;

/// A request that two programs could read differently, or that no grammar allows. Answered with 400 in
/// every mode; no rule is consulted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// The method is empty or not a token (RFC 9110 §9.1, §5.6.2).
    BadMethod,
    /// CONNECT whose target is not `host:port` alone, or whose `Host` says something else (RFC 9110 §9.3.6, §7.2).
    ConnectTarget,
    /// The path does not begin with `/`: `*`, a URL, an empty target (RFC 9112 §3.2).
    NotAbsolute,
    /// A segment is `.` or `..`, written plainly or as `%2e` (CVE-2019-9901).
    DotSegment,
    /// Two slashes stand side by side (CVE-2021-31920).
    EmptySegment,
    /// `%2f` hides a slash (CVE-2021-29492).
    EncodedSlash,
    /// `%5c` hides a backslash, which some origins read as a slash.
    EncodedBackslash,
    /// A plain backslash.
    Backslash,
    /// `;` or `%3b`: path parameters, which some origins cut off before they route (CVE-2026-73553).
    Parameters,
    /// `%25` followed by what would be an escape after one more decoding.
    DoubleEncoding,
    /// `%` without two hexadecimal digits, `%u002e` included (RFC 3986 §2.1).
    BadEscape,
    /// A control character, plain or encoded.
    Control,
    /// `%00`, which ends the name for origins written in C.
    EncodedNul,
    /// A blank, plain or encoded, Unicode blanks included.
    Blank,
    /// `#`: a fragment is never sent (RFC 9112 §3.2; CVE-2021-32779).
    Fragment,
    /// `%3f` or `%23`: a delimiter that appears after one more decoding.
    EncodedDelimiter,
    /// Escapes that are not UTF-8: overlong forms, surrogates, stray bytes (RFC 3629 §3).
    NonUtf8,
    /// A byte above 0x7f that is not written as an escape (RFC 3986 §2).
    NonAscii,
    /// A character that compatibility folding turns into an ASCII one, such as a full-width slash.
    Lookalike,
    /// A character that RFC 3986 §3.3 does not allow in a path, such as `"` or `{`.
    InvalidCharacter,
    /// The authority is missing or is not a host name or an address (RFC 9110 §7.2).
    BadHost,
    /// The port is empty, zero, too large or not a plain number.
    BadPort,
}

impl Malformed {
    /// Every reason, in the order of the reference page.
    pub const ALL: [Self; 22] = [
        Self::BadMethod,
        Self::ConnectTarget,
        Self::NotAbsolute,
        Self::DotSegment,
        Self::EmptySegment,
        Self::EncodedSlash,
        Self::EncodedBackslash,
        Self::Backslash,
        Self::Parameters,
        Self::DoubleEncoding,
        Self::BadEscape,
        Self::Control,
        Self::EncodedNul,
        Self::Blank,
        Self::Fragment,
        Self::EncodedDelimiter,
        Self::NonUtf8,
        Self::NonAscii,
        Self::Lookalike,
        Self::InvalidCharacter,
        Self::BadHost,
        Self::BadPort,
    ];

    /// The name used in logs, metrics and `path_normalization_failed{…}`: snake case, stable.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadMethod => "bad_method",
            Self::ConnectTarget => "connect_target",
            Self::NotAbsolute => "not_absolute",
            Self::DotSegment => "dot_segment",
            Self::EmptySegment => "empty_segment",
            Self::EncodedSlash => "encoded_slash",
            Self::EncodedBackslash => "encoded_backslash",
            Self::Backslash => "backslash",
            Self::Parameters => "parameters",
            Self::DoubleEncoding => "double_encoding",
            Self::BadEscape => "bad_escape",
            Self::Control => "control_character",
            Self::EncodedNul => "encoded_nul",
            Self::Blank => "blank",
            Self::Fragment => "fragment",
            Self::EncodedDelimiter => "encoded_delimiter",
            Self::NonUtf8 => "non_utf8",
            Self::NonAscii => "non_ascii",
            Self::Lookalike => "lookalike",
            Self::InvalidCharacter => "invalid_character",
            Self::BadHost => "bad_host",
            Self::BadPort => "bad_port",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::BadMethod => "the method is not a token",
            Self::ConnectTarget => "the target of CONNECT is not a host and a port, or the host field says another",
            Self::NotAbsolute => "the path does not begin with a slash",
            Self::DotSegment => "the path has a segment that is `.` or `..`",
            Self::EmptySegment => "the path has an empty segment (two slashes side by side)",
            Self::EncodedSlash => "the path has an encoded slash (%2F)",
            Self::EncodedBackslash => "the path has an encoded backslash (%5C)",
            Self::Backslash => "the path has a backslash",
            Self::Parameters => "the path has parameters (a semicolon, plain or encoded)",
            Self::DoubleEncoding => "the path is percent-encoded twice",
            Self::BadEscape => "the path has a percent sign without two hexadecimal digits",
            Self::Control => "the path or query has a control character",
            Self::EncodedNul => "the path has an encoded NUL (%00)",
            Self::Blank => "the path or query has a blank, plain or encoded",
            Self::Fragment => "the path or query has a fragment (`#`)",
            Self::EncodedDelimiter => "the path has an encoded `?` or `#`",
            Self::NonUtf8 => "the escapes of the path are not UTF-8",
            Self::NonAscii => "the path or query has a byte above 0x7F that is not percent-encoded",
            Self::Lookalike => "the path has a character that folds to an ASCII one",
            Self::InvalidCharacter => "the path has a character that must be percent-encoded",
            Self::BadHost => "the host is missing or is not a name or an address",
            Self::BadPort => "the port of the host is not a number from 1 to 65535",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::Malformed;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_a_name_and_a_sentence_of_its_own() {
        let names: HashSet<_> = Malformed::ALL.iter().map(|m| m.as_str()).collect();
        let sentences: HashSet<_> = Malformed::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), Malformed::ALL.len());
        assert_eq!(sentences.len(), Malformed::ALL.len());
        assert!(names.iter().all(|n| { n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()) }));
    }
}
