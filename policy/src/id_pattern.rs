//! Who: patterns over SPIFFE IDs.
//!
//! | form | means |
//! | --- | --- |
//! | `shop/web` | `spiffe://<own trust domain>/ns/shop/sa/web` |
//! | `spiffe://example.org/ns/edge/sa/gateway` | that ID |
//! | `batch-*/*`, `spiffe://example.org/ns/batch-*/sa/*` | `*` or `prefix-*` inside one path segment, never across `/` |
//! | `ns:shop` | every service account of a namespace of the own trust domain |
//! | `td:partner.example` | every ID of a trust domain |
//!
//! Trust domains are compared exactly, everything byte for byte (SPIFFE-ID §2).

use crate::pattern_error::PatternError;
use identity::{SpiffeId, TrustDomain};
use std::fmt;

/// A pattern over SPIFFE IDs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdPattern(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Exact(SpiffeId),
    Glob { trust_domain: TrustDomain, segments: Box<[Glob]> },
    Namespace { trust_domain: TrustDomain, namespace: Box<str> },
    TrustDomain(TrustDomain),
}

/// One path segment of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Glob {
    Literal(Box<str>),
    /// `*` with the text before it.
    Prefix(Box<str>),
}

impl IdPattern {
    /// Reads one of the forms above. `own` is the trust domain of the short forms.
    ///
    /// # Errors
    /// With the place in `text`.
    pub fn parse(text: &str, own: &TrustDomain) -> Result<Self, PatternError> {
        if let Some(name) = text.strip_prefix("td:") {
            let td = TrustDomain::parse(name).map_err(|e| PatternError::new(3, name.len(), e.to_string()))?;
            return Ok(Self(Kind::TrustDomain(td)));
        }
        if let Some(namespace) = text.strip_prefix("ns:") {
            return parse_namespace(namespace, own);
        }
        if text.starts_with("spiffe:") {
            return parse_uri(text);
        }
        match text.split('/').collect::<Vec<_>>().as_slice() {
            [ns, sa] if text.contains('*') => {
                parse_glob(own.clone(), &[("ns", 0), (ns, 0), ("sa", 0), (sa, ns.len() + 1)])
            }
            [_, _] => SpiffeId::workload(own, text)
                .map(|id| Self(Kind::Exact(id)))
                .map_err(|e| PatternError::new(0, text.len(), e.to_string())),
            _ => Err(PatternError::new(0, text.len(), format!("`{text}` is not an identity")).help(
                "an identity is `namespace/service-account`, a full SPIFFE ID, `ns:namespace` or `td:trust.domain`",
            )),
        }
    }

    /// Whether an identity is meant.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match &self.0 {
            Kind::Exact(exact) => exact == id,
            Kind::TrustDomain(td) => td.as_str() == id.trust_domain(),
            Kind::Namespace { trust_domain, namespace } => {
                trust_domain.as_str() == id.trust_domain()
                    && id
                        .path()
                        .strip_prefix("/ns/")
                        .and_then(|p| p.strip_prefix(&**namespace))
                        .and_then(|p| p.strip_prefix("/sa/"))
                        .is_some_and(|sa| !sa.is_empty() && !sa.contains('/'))
            }
            Kind::Glob { trust_domain, segments } => {
                let mut actual = id.segments();
                trust_domain.as_str() == id.trust_domain()
                    && segments.iter().all(|glob| actual.next().is_some_and(|s| glob.matches(s)))
                    && actual.next().is_none()
            }
        }
    }

    /// The ID when exactly one is meant.
    #[must_use]
    pub fn exact(&self) -> Option<&SpiffeId> {
        match &self.0 {
            Kind::Exact(id) => Some(id),
            _ => None,
        }
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }

    /// How narrow: exact 4, glob 3, namespace 2, trust domain 1.
    pub(crate) fn rank(&self) -> u8 {
        match &self.0 {
            Kind::Exact(_) => 4,
            Kind::Glob { .. } => 3,
            Kind::Namespace { .. } => 2,
            Kind::TrustDomain(_) => 1,
        }
    }
}

impl Glob {
    fn matches(&self, segment: &str) -> bool {
        match self {
            Self::Literal(text) => **text == *segment,
            Self::Prefix(text) => segment.starts_with(&**text),
        }
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exact(id) => write!(f, "{id}"),
            Kind::TrustDomain(td) => write!(f, "td:{td}"),
            Kind::Namespace { trust_domain, namespace } => write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/*"),
            Kind::Glob { trust_domain, segments } => {
                write!(f, "spiffe://{trust_domain}")?;
                segments.iter().try_for_each(|glob| match glob {
                    Glob::Literal(text) => write!(f, "/{text}"),
                    Glob::Prefix(text) => write!(f, "/{text}*"),
                })
            }
        }
    }
}

fn parse_namespace(namespace: &str, own: &TrustDomain) -> Result<IdPattern, PatternError> {
    if namespace.contains('*') {
        return Err(PatternError::new(3, namespace.len(), "`ns:` takes one namespace")
            .help(format!("write `{namespace}/*` for a pattern")));
    }
    // A namespace is whatever can stand in an ID.
    SpiffeId::workload(own, &format!("{namespace}/x"))
        .map_err(|e| PatternError::new(3, namespace.len(), e.to_string()))?;
    Ok(IdPattern(Kind::Namespace { trust_domain: own.clone(), namespace: namespace.into() }))
}

fn parse_uri(text: &str) -> Result<IdPattern, PatternError> {
    const SCHEME: &str = "spiffe://";
    let Some(rest) = text.strip_prefix(SCHEME) else {
        return Err(PatternError::new(0, text.len(), "a SPIFFE ID begins with `spiffe://`"));
    };
    let whole = |message: String| PatternError::new(0, text.len(), message);
    let Some((domain, path)) = rest.split_once('/') else {
        return Err(whole("this names a trust domain, not a workload".into())
            .help(format!("write `td:{rest}` for every workload of it")));
    };
    if !text.contains('*') {
        return SpiffeId::parse(text).map(|id| IdPattern(Kind::Exact(id))).map_err(|e| whole(e.to_string()));
    }
    let start = SCHEME.len();
    if domain.contains('*') {
        return Err(PatternError::new(start, domain.len(), "a trust domain is named exactly"));
    }
    let td = TrustDomain::parse(domain).map_err(|e| PatternError::new(start, domain.len(), e.to_string()))?;
    let mut offset = start + domain.len() + 1;
    let mut segments = Vec::new();
    for segment in path.split('/') {
        segments.push((segment, offset));
        offset += segment.len() + 1;
    }
    parse_glob(td, &segments)
}

/// Segments with their offsets; at least one holds a star.
fn parse_glob(trust_domain: TrustDomain, segments: &[(&str, usize)]) -> Result<IdPattern, PatternError> {
    let mut globs = Vec::with_capacity(segments.len());
    for (segment, offset) in segments {
        let (literal, star) = match segment.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (*segment, false),
        };
        if let Some(at) = literal.find('*') {
            return Err(PatternError::new(offset + at, 1, "`*` stands only at the end of a segment"));
        }
        // Judge the literal part as SPIFFE would, beside a letter where a star completes it.
        let probe = format!("spiffe://{trust_domain}/{literal}{}", if star { "x" } else { "" });
        SpiffeId::parse(&probe).map_err(|e| PatternError::new(*offset, segment.len(), e.to_string()))?;
        globs.push(if star { Glob::Prefix(literal.into()) } else { Glob::Literal(literal.into()) });
    }
    Ok(IdPattern(Kind::Glob { trust_domain, segments: globs.into() }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::IdPattern;
    use identity::{SpiffeId, TrustDomain};

    fn own() -> TrustDomain {
        TrustDomain::parse("example.org").unwrap()
    }

    #[test]
    fn each_form_matches_what_it_says_and_nothing_near() {
        let web = "spiffe://example.org/ns/shop/sa/web";
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "shop/web",
                &[web],
                &[
                    "spiffe://other.org/ns/shop/sa/web",
                    "spiffe://example.org/ns/shop/sa/web2",
                    "spiffe://example.org/ns/shop/sa/Web",
                    "spiffe://example.org/ns/shop/sa/web/x",
                ],
            ),
            (web, &[web], &["spiffe://example.org/ns/shop/sa/we"]),
            ("spiffe://example.org/vm/db", &["spiffe://example.org/vm/db"], &[web]),
            (
                "shop/*",
                &[web],
                &[
                    "spiffe://example.org/ns/shop2/sa/web",
                    "spiffe://example.org/ns/shop/sa/web/x",
                    "spiffe://other.org/ns/shop/sa/web",
                ],
            ),
            (
                "spiffe://example.org/ns/batch-*/sa/*",
                &["spiffe://example.org/ns/batch-1/sa/x", "spiffe://example.org/ns/batch-/sa/y"],
                &[
                    "spiffe://example.org/ns/batch/sa/x",
                    "spiffe://example.org/ns/batch-1/sa/x/y",
                    "spiffe://example.org/ns/batch-1/xx/y",
                    "spiffe://example.org/ns/batch-1/sa",
                ],
            ),
            (
                "ns:shop",
                &[web],
                &[
                    "spiffe://example.org/ns/shop2/sa/web",
                    "spiffe://example.org/ns/shop/sa/a/b",
                    "spiffe://other.org/ns/shop/sa/web",
                    "spiffe://example.org/ns/shop",
                ],
            ),
            (
                "td:partner.example",
                &["spiffe://partner.example/x"],
                &[web, "spiffe://partner.example.org/x", "spiffe://sub.partner.example/x"],
            ),
        ];
        for (text, good, bad) in table {
            let pattern = IdPattern::parse(text, &own()).unwrap();
            good.iter().for_each(|id| assert!(pattern.matches(&SpiffeId::parse(id).unwrap()), "{text} {id}"));
            bad.iter().for_each(|id| assert!(!pattern.matches(&SpiffeId::parse(id).unwrap()), "{text} {id}"));
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_place() {
        for (text, offset) in [
            ("", 0),
            ("web", 0),
            ("*", 0),
            ("anyone", 0),
            ("a/b/c", 0),
            ("shop/we b", 0),
            ("shop/*web", 5),
            ("shop/w*b", 6),
            ("shop/**", 5),
            ("../*", 0),
            ("spiffe://example.org", 0),
            ("spiffe:/example.org/a", 0),
            ("spiffe://*.org/a/*", 9),
            ("spiffe://example.org/a//*", 23),
            ("spiffe://EXAMPLE.org/a", 0),
            ("td:", 3),
            ("td:*", 3),
            ("ns:", 3),
            ("ns:batch-*", 3),
            ("ns:a/b", 3),
        ] {
            let error = IdPattern::parse(text, &own()).unwrap_err();
            assert_eq!(error.offset, offset, "{text}: {error}");
        }
    }

    #[test]
    fn narrower_patterns_rank_higher() {
        let ranks =
            ["td:example.org", "ns:shop", "shop/*", "shop/web"].map(|t| IdPattern::parse(t, &own()).unwrap().rank());
        assert!(ranks.windows(2).all(|w| w[0] < w[1]));
    }
}
