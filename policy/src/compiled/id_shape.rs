//! Which parts of an identity a pattern compares. Patterns of one shape are told apart by one hash of these parts, so an
//! identity is looked up once per shape and not once per pattern.

use super::table::{hash, mix};
use crate::id_pattern::{Glob, IdPattern, Kind};
use identity::SpiffeId;

/// The parts that a pattern compares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    Whole,
    Namespace,
    TrustDomain,
    /// The trust domain, and of each segment the whole or so many bytes.
    Segments(Box<[Part]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Whole,
    First(usize),
}

impl Shape {
    /// The shape of a pattern, and the hash under which [`Shape::hash_of`] finds it.
    pub(super) fn of(pattern: &IdPattern) -> (Self, u64) {
        match pattern.kind() {
            Kind::Exact(id) => (Self::Whole, whole(id.as_str())),
            Kind::Namespace { trust_domain, namespace } => {
                (Self::Namespace, in_namespace(trust_domain.as_str(), namespace))
            }
            Kind::TrustDomain(trust_domain) => (Self::TrustDomain, in_trust_domain(trust_domain.as_str())),
            Kind::Glob { trust_domain, segments } => {
                let part = |glob: &Glob| match glob {
                    Glob::Literal(_) => Part::Whole,
                    Glob::Prefix(text) => Part::First(text.len()),
                };
                let texts = segments.iter().map(|glob| match glob {
                    Glob::Literal(text) | Glob::Prefix(text) => text.as_bytes(),
                });
                let hash = texts.fold(by_segments(trust_domain.as_str()), with_segment);
                (Self::Segments(segments.iter().map(part).collect()), hash)
            }
        }
    }

    /// The hash of the patterns of this shape that may mean this identity; `None` when none can.
    #[inline]
    pub(super) fn hash_of(&self, id: &SpiffeId) -> Option<u64> {
        match self {
            Self::Whole => Some(whole(id.as_str())),
            Self::Namespace => Some(in_namespace(id.trust_domain(), id.namespace()?)),
            Self::TrustDomain => Some(in_trust_domain(id.trust_domain())),
            Self::Segments(parts) => {
                let mut segments = id.segments().map(str::as_bytes);
                let mut hash = by_segments(id.trust_domain());
                for part in parts {
                    let segment = segments.next()?;
                    let compared = match part {
                        Part::Whole => segment,
                        Part::First(len) => segment.get(..*len)?,
                    };
                    hash = with_segment(hash, compared);
                }
                segments.next().is_none().then_some(hash)
            }
        }
    }
}

/// Each shape hashes apart from the others.
fn whole(id: &str) -> u64 {
    hash(id.as_bytes())
}

fn in_namespace(trust_domain: &str, namespace: &str) -> u64 {
    mix(hash(trust_domain.as_bytes()), mix(hash(namespace.as_bytes()), 1))
}

fn in_trust_domain(trust_domain: &str) -> u64 {
    mix(hash(trust_domain.as_bytes()), 2)
}

fn by_segments(trust_domain: &str) -> u64 {
    mix(hash(trust_domain.as_bytes()), 3)
}

fn with_segment(so_far: u64, segment: &[u8]) -> u64 {
    mix(so_far, hash(segment))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::Shape;
    use crate::id_pattern::IdPattern;
    use identity::{SpiffeId, TrustDomain};

    #[test]
    fn whoever_a_pattern_matches_has_its_hash() {
        let own = TrustDomain::parse("example.org").unwrap();
        let patterns = [
            "shop/web",
            "shop/*",
            "sh*/*",
            "*/web",
            "*/w*",
            "ns:shop",
            "ns:sh",
            "td:example.org",
            "td:other.org",
            "spiffe://other.org/ns/shop/sa/*",
            "spiffe://example.org/vm/*",
            "spiffe://example.org/*",
        ];
        let ids = [
            "spiffe://example.org/ns/shop/sa/web",
            "spiffe://example.org/ns/shop/sa/w",
            "spiffe://example.org/ns/sh/sa/api",
            "spiffe://example.org/vm/db",
            "spiffe://example.org/vm",
            "spiffe://other.org/ns/shop/sa/web",
            "spiffe://example.org/ns/shop/sa/web/x",
        ];
        let mut matched = 0;
        for text in patterns {
            let pattern = IdPattern::parse(text, &own).unwrap();
            let (shape, hash) = Shape::of(&pattern);
            for id in ids {
                let id = SpiffeId::parse(id).unwrap();
                matched += usize::from(pattern.matches(&id));
                assert_eq!(shape.hash_of(&id) == Some(hash), pattern.matches(&id), "{text} {id}");
            }
        }
        assert!(matched > 15, "{matched}");
    }
}
