//! Which parts of an identity a pattern compares. Patterns of one shape are told apart by one hash of these parts, so an
//! identity is looked up once per shape and not once per pattern.

use super::table::{hash, mix, slashes};
use crate::id_pattern::{Glob, IdPattern, Kind};
use identity::SpiffeId;

/// The parts that a pattern compares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    /// The trust domain alone.
    TrustDomain,
    /// The trust domain, and of each segment the whole or so many bytes.
    Segments(Box<[Part]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Whole,
    First(usize),
}

/// An identity taken apart, once for all shapes.
pub(super) struct Parts<'i> {
    id: &'i SpiffeId,
    trust_domain: u64,
    path: &'i [u8],
    /// Where each segment ends in `path`, and its hash; of paths with more segments only the first ones.
    segments: [(usize, u64); MOST_SEGMENTS],
    /// Of all segments.
    count: usize,
}

/// Service accounts have four. Longer identities are compared as the reference does.
const MOST_SEGMENTS: usize = 6;

impl Shape {
    /// The shape of a pattern, and the hash under which [`Shape::hash_of`] finds it. `None` of a single identity, and of a
    /// pattern of too many segments.
    pub(super) fn of(pattern: &IdPattern) -> Option<(Self, u64)> {
        let literal = |text: &str| (Part::Whole, hash(text.as_bytes()));
        let (trust_domain, parts) = match pattern.kind() {
            Kind::Exact(_) => return None,
            Kind::TrustDomain(name) => return Some((Self::TrustDomain, domain(hash(name.as_str().as_bytes())))),
            Kind::Namespace { trust_domain, namespace } => {
                (trust_domain, vec![literal("ns"), literal(namespace), literal("sa"), (Part::First(0), hash(b""))])
            }
            Kind::Glob { trust_domain, segments } => {
                let parts = segments.iter().map(|glob| match glob {
                    Glob::Literal(text) => literal(text),
                    Glob::Prefix(text) => (Part::First(text.len()), hash(text.as_bytes())),
                });
                (trust_domain, parts.collect())
            }
        };
        let start = hash(trust_domain.as_str().as_bytes());
        let all = parts.iter().fold(start, |so_far, (_, part)| mix(so_far, *part));
        let shape = Self::Segments(parts.into_iter().map(|(part, _)| part).collect());
        (shape.len() <= MOST_SEGMENTS).then_some((shape, all))
    }

    fn len(&self) -> usize {
        match self {
            Self::Segments(parts) => parts.len(),
            Self::TrustDomain => 0,
        }
    }

    /// The hash of the patterns of this shape that may mean this identity; `None` when none can.
    #[inline]
    pub(super) fn hash_of(&self, id: &Parts<'_>) -> Option<u64> {
        match self {
            Self::TrustDomain => Some(domain(id.trust_domain)),
            Self::Segments(parts) if parts.len() != id.count => None,
            Self::Segments(parts) => {
                let mut so_far = id.trust_domain;
                let mut start = 1;
                for (part, (end, whole)) in parts.iter().zip(&id.segments) {
                    let compared = match part {
                        Part::Whole => *whole,
                        Part::First(0) => EMPTY,
                        Part::First(len) if start + len > *end => return None,
                        Part::First(len) => hash(id.path.get(start..start + len)?),
                    };
                    so_far = mix(so_far, compared);
                    start = end + 1;
                }
                Some(so_far)
            }
        }
    }
}

/// A trust domain alone hashes apart from one with no segments.
fn domain(hash: u64) -> u64 {
    mix(hash, 1)
}

/// What `hash` makes of no bytes.
const EMPTY: u64 = mix(0, 0);

impl<'i> Parts<'i> {
    #[inline]
    pub(super) fn of(id: &'i SpiffeId) -> Self {
        let path = id.path().as_bytes();
        let trust_domain = hash(id.trust_domain().as_bytes());
        let mut parts = Self { id, trust_domain, path, segments: [(0, 0); MOST_SEGMENTS], count: 0 };
        if let Some(after) = path.strip_prefix(b"/") {
            let mut start = 1;
            slashes(after, |slash| {
                parts.end(start, slash + 1);
                start = slash + 2;
                true
            });
            parts.end(start, path.len());
        }
        parts
    }

    /// Whether a pattern means this identity: [`IdPattern::matches`] without taking the identity apart again.
    #[inline]
    pub(super) fn are_of(&self, pattern: &IdPattern) -> bool {
        match pattern.kind() {
            Kind::Glob { trust_domain, segments } if self.count <= MOST_SEGMENTS => {
                let mut start = 1;
                segments.len() == self.count
                    && trust_domain.as_str() == self.id.trust_domain()
                    && segments.iter().zip(&self.segments).all(|(glob, (end, _))| {
                        let segment = self.path.get(start..*end).unwrap_or_default();
                        start = end + 1;
                        match glob {
                            Glob::Literal(text) => text.as_bytes() == segment,
                            Glob::Prefix(text) => text.is_empty() || segment.starts_with(text.as_bytes()),
                        }
                    })
            }
            _ => pattern.matches(self.id),
        }
    }

    /// The next segment stands here.
    #[inline]
    fn end(&mut self, start: usize, end: usize) {
        if let Some(segment) = self.segments.get_mut(self.count) {
            *segment = (end, hash(self.path.get(start..end).unwrap_or_default()));
        }
        self.count += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use identity::TrustDomain;

    #[test]
    fn whoever_a_pattern_matches_has_its_hash() {
        let own = TrustDomain::parse("example.org").unwrap();
        let patterns = [
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
            "spiffe://example.org",
            "spiffe://other.org/ns/shop/sa/web",
            "spiffe://example.org/ns/shop/sa/web/x",
            "spiffe://example.org/1/2/3/4/5/6/7/8",
        ];
        let mut matched = 0;
        for text in patterns {
            let pattern = IdPattern::parse(text, &own).unwrap();
            let (shape, hash) = Shape::of(&pattern).unwrap();
            for id in ids {
                let id = SpiffeId::parse(id).unwrap();
                matched += usize::from(pattern.matches(&id));
                let parts = Parts::of(&id);
                assert_eq!(shape.hash_of(&parts) == Some(hash), pattern.matches(&id), "{text} {id}");
                assert_eq!(parts.are_of(&pattern), pattern.matches(&id), "{text} {id}");
            }
        }
        assert!(matched > 12, "{matched}");
        assert_eq!(EMPTY, hash(b""));
    }

    #[test]
    fn patterns_of_too_many_segments_and_single_identities_have_no_shape() {
        let own = TrustDomain::parse("example.org").unwrap();
        let of = |text: &str| Shape::of(&IdPattern::parse(text, &own).unwrap());
        assert!(of("spiffe://example.org/1/2/3/4/5/*").is_some());
        assert!(of("spiffe://example.org/1/2/3/4/5/6/*").is_none());
        assert!(of("shop/web").is_none(), "it is compared as a whole");
    }
}
