//! One way in which one rule matches, and the kind of group it is found in.

use super::table::mix;
use crate::template::Segment;

/// What a rule says about whom, where and what, one of each; a rule has as many entries as there are combinations.
pub(super) struct Entry {
    /// How narrow the path is: a place in the order of all paths of the direction.
    pub(super) order: u32,
    /// Which rule, numbered so that of equally narrow matches the greater is reported.
    pub(super) place: u32,
    pub(super) subject: u32,
    pub(super) methods: u32,
    /// Where the segments of the template begin among all codes.
    pub(super) codes: u32,
    pub(super) shape: Shape,
    /// The host's number where the shape has one.
    pub(super) host: u32,
    /// The port where the shape or a condition has one.
    pub(super) port: u16,
    pub(super) conditions: u16,
}

/// What else an entry asks for, as bits of [`Entry::conditions`].
pub(super) mod condition {
    /// The request is gRPC.
    pub(in super::super) const GRPC: u16 = 1;
    /// A deny rule, of requests. For opaque bytes the shape says it.
    pub(in super::super) const DENY: u16 = 1 << 7;
    /// The entry's port.
    pub(in super::super) const PORT: u16 = 1 << 8;
    /// Mutual TLS.
    pub(in super::super) const TLS: u16 = 1 << 1;
    /// The rule names switches of protocol.
    pub(in super::super) const UPGRADE: u16 = 1 << 2;
    /// The rule's lists of these, asked of the rule itself.
    pub(in super::super) const PORTS: u16 = 1 << 3;
    pub(in super::super) const HOSTS: u16 = 1 << 4;
    pub(in super::super) const RANGES: u16 = 1 << 5;
    pub(in super::super) const NOT_WHO: u16 = 1 << 6;
    /// Those that opaque bytes do not have.
    pub(in super::super) const OF_REQUESTS: u16 = GRPC | UPGRADE | HOSTS | DENY;
    /// Those that only the rule itself can answer.
    pub(in super::super) const OF_RULE: u16 = PORTS | HOSTS | RANGES | NOT_WHO;
}

/// The kind of group: which parts of a request the entries in it have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Shape {
    /// Bit `i`: segment `i` of the template is literal.
    pub(super) literals: u16,
    /// How many segments the template has.
    pub(super) len: u8,
    /// Bits of [`part`].
    pub(super) parts: u8,
}

/// What else the entries of a group have in common, as bits of [`Shape::parts`].
pub(super) mod part {
    /// A tail follows the segments.
    pub(in super::super) const TAIL: u8 = 1;
    /// For opaque bytes, not for requests.
    pub(in super::super) const OPAQUE: u8 = 1 << 1;
    /// The port, where there is no path to tell the entries apart.
    pub(in super::super) const PORT: u8 = 1 << 2;
    /// The host, as it is.
    pub(in super::super) const HOST: u8 = 1 << 3;
    /// The host without its first label.
    pub(in super::super) const PARENT: u8 = 1 << 4;
    /// Deny rules, for opaque bytes.
    pub(in super::super) const DENY: u8 = 1 << 5;
    /// Deny rules that read requests, for opaque bytes.
    pub(in super::super) const UNREADABLE: u8 = 1 << 6;
    /// Allow rules with `protocol = "tcp"`, for opaque bytes.
    pub(in super::super) const DECLARED: u8 = 1 << 7;
}

/// A shape that some subject has, with what is best among its entries.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) shape: Shape,
    /// Whether there are deny rules among them.
    pub(super) denies: bool,
    /// The narrowest path among them.
    pub(super) order: u32,
}

impl Shape {
    /// The hash of a group, from the literal segments' words in order, the port and the host's number; those the shape does
    /// not have are ignored.
    #[inline]
    pub(super) fn hash(self, subject: u32, word: impl Fn(usize) -> u32, port: u16, host: u32) -> u64 {
        let own = u64::from(self.literals) << 16 | u64::from(self.len) << 8 | u64::from(self.parts);
        let mut sum = u64::from(subject) << 32 | own;
        if self.parts & part::PORT != 0 {
            sum = mix(sum, port.into());
        }
        if self.parts & (part::HOST | part::PARENT) != 0 {
            sum = mix(sum, host.into());
        }
        let mut literals = self.literals;
        // The words' products do not wait for each other; each is made different by its place.
        let mut words = 0u64;
        while literals != 0 {
            let i = literals.trailing_zeros();
            words = words.wrapping_add(mix(u64::from(word(i as usize)), u64::from(i)));
            literals &= literals - 1;
        }
        mix(sum, words)
    }

    /// Whether a path of so many segments, of which these are words, may be of such a template.
    #[inline]
    pub(super) fn fits(self, count: usize, words: u16) -> bool {
        let len = usize::from(self.len);
        let long_enough = if self.parts & part::TAIL != 0 { count >= len } else { count == len };
        long_enough && self.literals & !words == 0
    }
}

/// A segment of a template among the codes: a word, or a matcher's place with this bit.
pub(super) const MATCHER: u32 = 1 << 31;

/// What a parameter of a template accepts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Matcher {
    Segment(Segment),
    /// The name of a gRPC method.
    Identifier,
}

impl Matcher {
    pub(super) fn accepts(&self, segment: &[u8]) -> bool {
        match self {
            Self::Segment(parameter) => parameter.accepts(segment),
            Self::Identifier => std::str::from_utf8(segment).is_ok_and(crate::grpc::is_identifier),
        }
    }
}
