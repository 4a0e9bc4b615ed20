//! SPIFFE IDs and trust domains, parsed strictly.
//!
//! In comes text from a rule file, a command line or a certificate; out comes a name that is well formed by
//! construction. Refused: every form the SPIFFE-ID standard does not spell out, upper case in the trust domain
//! included. The standard lets a reader lower it (§2.4) although a writer must not produce it (§2.1); two
//! readings of one name are one too many where the name decides who may pass.

use std::fmt;
use std::sync::Arc;

/// A trust domain: 1 to 255 bytes of `[a-z0-9._-]` (SPIFFE-ID §2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a bare trust domain such as `example.org`, without scheme and without path.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        check_trust_domain(text)?;
        Ok(Self(text.into()))
    }

    /// The name as written, always lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

/// A SPIFFE ID: `spiffe://<trust domain>[/<segment>...]`, at most 2048 bytes (SPIFFE-ID §2).
///
/// The path may be empty: such an ID names the trust domain itself and never a workload. Comparing is
/// comparing bytes, since a parsed ID has one spelling only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    uri: Arc<str>,
    /// Offset of the path in `uri`. Invariant: `SCHEME.len() < path <= uri.len()`, on a character boundary.
    path: usize,
}

impl SpiffeId {
    /// Reads a full ID such as `spiffe://example.org/ns/shop/sa/web`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.len() > MAX_ID {
            return Err(IdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let domain_end = rest.find('/').unwrap_or(rest.len());
        let (domain, path) = rest.split_at(domain_end);
        check_trust_domain(domain)?;
        check_path(path)?;
        Ok(Self { uri: text.into(), path: SCHEME.len() + domain_end })
    }

    /// The ID of a Kubernetes service account: `shop/web` becomes `spiffe://<td>/ns/shop/sa/web`.
    ///
    /// `ns_sa` is exactly two segments; each is checked on its own, so that neither can add a level.
    pub fn workload(trust_domain: &TrustDomain, ns_sa: &str) -> Result<Self, IdError> {
        let (namespace, account) = ns_sa.split_once('/').ok_or(IdError::NotTwoSegments)?;
        if account.contains('/') {
            return Err(IdError::NotTwoSegments);
        }
        check_segment(namespace)?;
        check_segment(account)?;
        Self::parse(&format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{account}"))
    }

    /// The ID of these path segments, none of which can add a level or end the path.
    pub fn from_segments<'a>(
        trust_domain: &TrustDomain,
        segments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, IdError> {
        let mut uri = format!("{SCHEME}{trust_domain}");
        for segment in segments {
            check_segment(segment)?;
            uri.push('/');
            uri.push_str(segment);
        }
        Self::parse(&uri)
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain, lower case.
    pub fn trust_domain(&self) -> &str {
        self.uri.get(SCHEME.len()..self.path).unwrap_or_default()
    }

    /// The path: empty, or starting with `/`.
    pub fn path(&self) -> &str {
        self.uri.get(self.path..).unwrap_or_default()
    }

    /// The segments of the path, in order; none when the path is empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path().split('/').skip(1)
    }

    /// `<ns>` of a path `/ns/<ns>/sa/<sa>`; `None` for any other shape.
    pub fn namespace(&self) -> Option<&str> {
        self.service_account_parts().map(|(namespace, _)| namespace)
    }

    /// `<sa>` of a path `/ns/<ns>/sa/<sa>`; `None` for any other shape.
    pub fn service_account(&self) -> Option<&str> {
        self.service_account_parts().map(|(_, account)| account)
    }

    fn service_account_parts(&self) -> Option<(&str, &str)> {
        let mut segments = self.segments();
        let parts = (segments.next()?, segments.next()?, segments.next()?, segments.next()?);
        match (parts, segments.next()) {
            (("ns", namespace, "sa", account), None) => Some((namespace, account)),
            _ => None,
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.uri)
    }
}

/// Why a text is no SPIFFE ID or no trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// More than 2048 bytes.
    TooLong,
    /// Does not begin with `spiffe://` in lower case.
    Scheme,
    /// No trust domain.
    TrustDomainEmpty,
    /// A trust domain of more than 255 bytes.
    TrustDomainTooLong,
    /// An upper-case letter in the trust domain.
    TrustDomainUpperCase,
    /// Another character that a trust domain cannot hold.
    TrustDomainCharacter(char),
    /// `user@`.
    UserInfo,
    /// `:port`.
    Port,
    /// `?query`.
    Query,
    /// `#fragment`.
    Fragment,
    /// A `%`, anywhere.
    PercentEncoding,
    /// Two slashes in a row.
    EmptySegment,
    /// A segment `.` or `..`.
    DotSegment,
    /// A slash at the end; a path of `/` alone included.
    TrailingSlash,
    /// Another character that a path segment cannot hold.
    PathCharacter(char),
    /// The short form is not exactly `namespace/service-account`.
    NotTwoSegments,
}

impl IdError {
    /// A short label for metrics and log lines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong => "id_too_long",
            Self::Scheme => "id_scheme",
            Self::TrustDomainEmpty => "id_trust_domain_empty",
            Self::TrustDomainTooLong => "id_trust_domain_too_long",
            Self::TrustDomainUpperCase => "id_trust_domain_upper_case",
            Self::TrustDomainCharacter(_) => "id_trust_domain_character",
            Self::UserInfo => "id_user_info",
            Self::Port => "id_port",
            Self::Query => "id_query",
            Self::Fragment => "id_fragment",
            Self::PercentEncoding => "id_percent_encoding",
            Self::EmptySegment => "id_empty_segment",
            Self::DotSegment => "id_dot_segment",
            Self::TrailingSlash => "id_trailing_slash",
            Self::PathCharacter(_) => "id_path_character",
            Self::NotTwoSegments => "id_not_two_segments",
        }
    }
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the ID is longer than {MAX_ID} bytes (SPIFFE-ID §2.3)"),
            Self::Scheme => f.write_str("the ID does not begin with `spiffe://` (SPIFFE-ID §2)"),
            Self::TrustDomainEmpty => f.write_str("the trust domain is empty (SPIFFE-ID §2.1)"),
            Self::TrustDomainTooLong => {
                write!(f, "the trust domain is longer than {MAX_TRUST_DOMAIN} bytes (SPIFFE-ID §2.3)")
            }
            Self::TrustDomainUpperCase => f.write_str("the trust domain holds an upper-case letter (SPIFFE-ID §2.1)"),
            Self::TrustDomainCharacter(c) => {
                write!(f, "the trust domain holds {c:?}; only a-z, 0-9, `.`, `-` and `_` are allowed (SPIFFE-ID §2.1)")
            }
            Self::UserInfo => f.write_str("the ID holds user information (SPIFFE-ID §2.1)"),
            Self::Port => f.write_str("the ID holds a port (SPIFFE-ID §2.1)"),
            Self::Query => f.write_str("the ID holds a query (SPIFFE-ID §2)"),
            Self::Fragment => f.write_str("the ID holds a fragment (SPIFFE-ID §2)"),
            Self::PercentEncoding => f.write_str("the ID holds a percent-encoded character (SPIFFE-ID §2.1, §2.2)"),
            Self::EmptySegment => f.write_str("the path holds an empty segment (SPIFFE-ID §2.2)"),
            Self::DotSegment => f.write_str("the path holds a `.` or `..` segment (SPIFFE-ID §2.2)"),
            Self::TrailingSlash => f.write_str("the path ends with a slash (SPIFFE-ID §2.2)"),
            Self::PathCharacter(c) => {
                write!(f, "the path holds {c:?}; only letters, digits, `.`, `-` and `_` are allowed (SPIFFE-ID §2.2)")
            }
            Self::NotTwoSegments => {
                f.write_str("a workload is written `namespace/service-account` or as a full SPIFFE ID")
            }
        }
    }
}

impl std::error::Error for IdError {}

fn check_trust_domain(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::TrustDomainEmpty);
    }
    for c in text.chars() {
        match c {
            'a'..='z' | '0'..='9' | '.' | '-' | '_' => {}
            'A'..='Z' => return Err(IdError::TrustDomainUpperCase),
            '@' => return Err(IdError::UserInfo),
            // `user:secret@td` is user information too; the `@` says so before the `:` is called a port.
            ':' if text.contains('@') => return Err(IdError::UserInfo),
            ':' => return Err(IdError::Port),
            _ => return Err(special(c).unwrap_or(IdError::TrustDomainCharacter(c))),
        }
    }
    // After the alphabet, so that a long name with a foreign character is called by its worse fault.
    if text.len() > MAX_TRUST_DOMAIN {
        return Err(IdError::TrustDomainTooLong);
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), IdError> {
    let Some(inner) = path.strip_prefix('/') else {
        return Ok(());
    };
    if inner.is_empty() {
        return Err(IdError::TrailingSlash);
    }
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_none() {
            return Err(IdError::TrailingSlash);
        }
        check_segment(segment)?;
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), IdError> {
    if segment.is_empty() {
        return Err(IdError::EmptySegment);
    }
    if segment == "." || segment == ".." {
        return Err(IdError::DotSegment);
    }
    match segment.chars().find(|c| !is_path_character(*c)) {
        None => Ok(()),
        Some(c) => Err(special(c).unwrap_or(IdError::PathCharacter(c))),
    }
}

fn is_path_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// The characters that mean a part of a URI which a SPIFFE ID does not have.
fn special(c: char) -> Option<IdError> {
    match c {
        '?' => Some(IdError::Query),
        '#' => Some(IdError::Fragment),
        '%' => Some(IdError::PercentEncoding),
        _ => None,
    }
}

const SCHEME: &str = "spiffe://";

/// SPIFFE-ID §2.3: support 2048 bytes, do not generate more. We read no more either.
const MAX_ID: usize = 2048;

/// SPIFFE-ID §2.3: the limit of the host part (RFC 3986 §3.2.2).
const MAX_TRUST_DOMAIN: usize = 255;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_one_segment() {
        let domain = TrustDomain::parse("example.org").unwrap();
        let of = |segments: &[&str]| SpiffeId::from_segments(&domain, segments.iter().copied());
        assert_eq!(of(&["ns", "shop", "sa", "web"]).unwrap().as_str(), "spiffe://example.org/ns/shop/sa/web");
        assert_eq!(of(&[]).unwrap().path(), "");
        assert_eq!(of(&["ns", "a/b"]), Err(IdError::PathCharacter('/')));
        assert_eq!(of(&["ns", ""]), Err(IdError::EmptySegment));
        assert_eq!(of(&["ns", ".."]), Err(IdError::DotSegment));
        assert_eq!(of(&["a%2fb"]), Err(IdError::PercentEncoding));
        assert_eq!(of(&["a"; 1100]), Err(IdError::TooLong));
    }
    use proptest::prelude::*;

    #[test]
    fn well_formed_ids_are_read_as_written() {
        for text in [
            "spiffe://example.org",
            "spiffe://example.org/ns/shop/sa/web",
            "spiffe://10.0.0.1/x",
            "spiffe://under_score/x",
            "spiffe://td/...",
            "spiffe://td/.x/..x/A-b_C",
        ] {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!(id.as_str(), text);
            assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        }
    }

    #[test]
    fn malformed_ids_are_refused_each_for_its_own_reason() {
        let long_domain = format!("spiffe://{}/x", "a".repeat(256));
        let long_id = format!("spiffe://td/{}", "a".repeat(2049 - 12));
        assert_eq!(long_id.len(), 2049);
        let rows: &[(&str, IdError)] = &[
            ("", IdError::Scheme),
            ("spiffe:/td/x", IdError::Scheme),
            ("SPIFFE://td/x", IdError::Scheme),
            ("https://td/x", IdError::Scheme),
            (" spiffe://td/x", IdError::Scheme),
            ("spiffe://", IdError::TrustDomainEmpty),
            ("spiffe:///x", IdError::TrustDomainEmpty),
            ("spiffe://Td/x", IdError::TrustDomainUpperCase),
            ("spiffe://td:80/x", IdError::Port),
            ("spiffe://u@td/x", IdError::UserInfo),
            ("spiffe://u:p@td/x", IdError::UserInfo),
            ("spiffe://t%64/x", IdError::PercentEncoding),
            ("spiffe://[::1]/x", IdError::TrustDomainCharacter('[')),
            ("spiffe://tä/x", IdError::TrustDomainCharacter('ä')),
            ("spiffe://td\0.evil/x", IdError::TrustDomainCharacter('\0')),
            ("spiffe://td?q", IdError::Query),
            ("spiffe://td#f", IdError::Fragment),
            ("spiffe://td/x?q", IdError::Query),
            ("spiffe://td/x#f", IdError::Fragment),
            ("spiffe://td/", IdError::TrailingSlash),
            ("spiffe://td/x/", IdError::TrailingSlash),
            ("spiffe://td//x", IdError::EmptySegment),
            ("spiffe://td/x//y", IdError::EmptySegment),
            ("spiffe://td/x//", IdError::EmptySegment),
            ("spiffe://td/./x", IdError::DotSegment),
            ("spiffe://td/x/..", IdError::DotSegment),
            ("spiffe://td/a%2Fb", IdError::PercentEncoding),
            ("spiffe://td/a:b", IdError::PathCharacter(':')),
            ("spiffe://td/a b", IdError::PathCharacter(' ')),
            ("spiffe://td/ä", IdError::PathCharacter('ä')),
            ("spiffe://td/x\0", IdError::PathCharacter('\0')),
            ("spiffe://td/x\n", IdError::PathCharacter('\n')),
            ("spiffe://td/*", IdError::PathCharacter('*')),
            (&long_domain, IdError::TrustDomainTooLong),
            (&long_id, IdError::TooLong),
        ];
        for (text, expected) in rows {
            assert_eq!(SpiffeId::parse(text).unwrap_err(), *expected, "{text:?}");
        }
    }

    #[test]
    fn limits_are_inclusive() {
        let domain = "a".repeat(255);
        assert!(TrustDomain::parse(&domain).is_ok());
        let id = format!("spiffe://td/{}", "a".repeat(2048 - 12));
        assert!(SpiffeId::parse(&id).is_ok());
    }

    #[test]
    fn workload_takes_exactly_two_segments() {
        let td = TrustDomain::parse("example.org").unwrap();
        let id = SpiffeId::workload(&td, "shop/web").unwrap();
        assert_eq!(id.as_str(), "spiffe://example.org/ns/shop/sa/web");
        assert_eq!((id.namespace(), id.service_account()), (Some("shop"), Some("web")));
        for (text, expected) in [
            ("web", IdError::NotTwoSegments),
            ("a/b/c", IdError::NotTwoSegments),
            ("/web", IdError::EmptySegment),
            ("shop/", IdError::EmptySegment),
            ("../web", IdError::DotSegment),
            ("a%2fb/web", IdError::PercentEncoding),
        ] {
            assert_eq!(SpiffeId::workload(&td, text).unwrap_err(), expected);
        }
    }

    #[test]
    fn other_path_shapes_have_no_service_account() {
        for text in ["spiffe://td", "spiffe://td/ns/a/sa", "spiffe://td/ns/a/sa/b/c", "spiffe://td/NS/a/sa/b"] {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!((id.namespace(), id.service_account()), (None, None));
        }
        assert_eq!(SpiffeId::parse("spiffe://td").unwrap().segments().count(), 0);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in "(spiffe://)?[a-zA-Z0-9./%:@?#_-]{0,60}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.as_str(), text.as_str());
                let path: String = id.segments().map(|s| format!("/{s}")).collect();
                prop_assert_eq!(path.as_str(), id.path());
                prop_assert!(TrustDomain::parse(id.trust_domain()).is_ok());
            }
        }
    }
}
