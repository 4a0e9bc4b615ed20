//! Who a rule is about, as numbers: one subject for every distinct pattern over identities, every range of addresses,
//! everyone, and every long list of these. What is known of one request belongs to a handful of subjects, found by a few
//! hashes; only the rules of those are looked at.

use super::id_shape::{Parts, Shape};
use super::table::{Groups, hash, mix};
use crate::cidr::{self, Cidr};
use crate::id_pattern::IdPattern;
use identity::SpiffeId;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// The subject of rules that ask for nobody in particular.
const ANYONE: u32 = 0;

/// One subject, while they are numbered.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Anyone,
    Id(IdPattern),
    Range(Cidr),
    /// Whoever is one of these.
    OneOf(Vec<u32>),
}

/// Numbers subjects as they come.
pub(super) struct Numbering {
    numbers: HashMap<Subject, u32>,
    subjects: Vec<Subject>,
}

impl Numbering {
    pub(super) fn new() -> Self {
        let mut numbering = Self { numbers: HashMap::new(), subjects: Vec::new() };
        numbering.number(Subject::Anyone);
        numbering
    }

    pub(super) fn number(&mut self, subject: Subject) -> u32 {
        if let Some(number) = self.numbers.get(&subject) {
            return *number;
        }
        let number = u32::try_from(self.subjects.len()).unwrap_or(u32::MAX);
        self.numbers.insert(subject.clone(), number);
        self.subjects.push(subject);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.subjects.len()
    }
}

/// From an identity and an address to the subjects they belong to.
pub(super) struct Subjects {
    /// Single identities.
    whole_ids: Groups<Named>,
    /// Patterns by the hash of what they compare; see [`Shape::hash_of`].
    ids: Groups<Named>,
    /// What kinds of patterns there are, so that only their hashes are made.
    shapes: Box<[Shape]>,
    /// Patterns without a shape, asked one by one.
    shapeless: Box<[Named]>,
    ranges: Groups<(Cidr, u32)>,
    /// The lengths of prefixes among `ranges`, per family.
    prefixes_v4: Box<[u8]>,
    prefixes_v6: Box<[u8]>,
    /// The lists that subject `s` is in: `lists[lists_of[s]..lists_of[s + 1]]`. Empty when there is no list at all.
    lists_of: Box<[u32]>,
    lists: Box<[u32]>,
}

struct Named {
    pattern: IdPattern,
    subject: u32,
    rank: u8,
}

impl Subjects {
    pub(super) fn new(numbering: Numbering) -> Self {
        let count = numbering.len();
        let (mut whole_ids, mut ids) = (Vec::new(), Vec::new());
        let mut shapes = BTreeSet::new();
        let mut shapeless = Vec::new();
        let mut ranges = Vec::new();
        let (mut prefixes_v4, mut prefixes_v6) = (BTreeSet::new(), BTreeSet::new());
        let mut members = Vec::new();
        for (subject, number) in numbering.subjects.into_iter().zip(0u32..) {
            match subject {
                Subject::Anyone => {}
                Subject::Id(pattern) => {
                    let (shape, rank) = (Shape::of(&pattern), pattern.rank());
                    let whole = pattern.exact().map(|id| hash(id.as_str().as_bytes()));
                    let named = Named { pattern, subject: number, rank };
                    if let Some(hash) = whole {
                        whole_ids.push((hash, named));
                        continue;
                    }
                    match shape {
                        Some((shape, hash)) => {
                            ids.push((hash, named));
                            shapes.insert(shape);
                        }
                        None => shapeless.push(named),
                    }
                }
                Subject::Range(cidr) => {
                    let lengths = if cidr.network().is_ipv4() { &mut prefixes_v4 } else { &mut prefixes_v6 };
                    lengths.insert(cidr.prefix());
                    ranges.push((hash_of_range(cidr.network(), cidr.prefix()), (cidr, number)));
                }
                Subject::OneOf(list) => members.extend(list.into_iter().map(|member| (member, number))),
            }
        }
        let (lists_of, lists) = if members.is_empty() { Default::default() } else { rows(members, count) };
        Self {
            whole_ids: Groups::new(whole_ids, |a, b| a.subject.cmp(&b.subject)),
            ids: Groups::new(ids, |a, b| a.subject.cmp(&b.subject)),
            shapes: shapes.into_iter().collect(),
            shapeless: shapeless.into(),
            ranges: Groups::new(ranges, |a, b| a.1.cmp(&b.1)),
            prefixes_v4: prefixes_v4.into_iter().collect(),
            prefixes_v6: prefixes_v6.into_iter().collect(),
            lists_of,
            lists,
        }
    }

    /// Calls `found` with each subject and how narrowly it names what is known: 4 exact … 1 trust domain, 0 anyone. The
    /// same list may come twice, with the narrowness of each member.
    #[inline]
    pub(super) fn visit(&self, peer: Option<&SpiffeId>, ip: Option<IpAddr>, mut found: impl FnMut(u32, u8)) {
        found(ANYONE, 0);
        if let Some(peer) = peer {
            for named in self.whole_ids.get(hash(peer.as_str().as_bytes())) {
                if named.pattern.exact() == Some(peer) {
                    self.with_lists(named.subject, named.rank, &mut found);
                }
            }
            if !self.shapes.is_empty() {
                let parts = Parts::of(peer);
                let hashes = self.shapes.iter().filter_map(|shape| shape.hash_of(&parts));
                for named in hashes.flat_map(|hash| self.ids.get(hash)).filter(|named| parts.are_of(&named.pattern)) {
                    self.with_lists(named.subject, named.rank, &mut found);
                }
            }
            for named in self.shapeless.iter().filter(|named| named.pattern.matches(peer)) {
                self.with_lists(named.subject, named.rank, &mut found);
            }
        }
        if let Some(ip) = ip {
            let ip = ip.to_canonical();
            let prefixes = if ip.is_ipv4() { &self.prefixes_v4 } else { &self.prefixes_v6 };
            for prefix in prefixes {
                for (cidr, subject) in self.ranges.get(hash_of_range(cidr::mask(ip, *prefix), *prefix)) {
                    if cidr.prefix() == *prefix && cidr.contains(ip) {
                        self.with_lists(*subject, 0, &mut found);
                    }
                }
            }
        }
    }

    #[inline]
    fn with_lists(&self, subject: u32, rank: u8, found: &mut impl FnMut(u32, u8)) {
        found(subject, rank);
        for list in row(&self.lists_of, &self.lists, subject) {
            found(*list, rank);
        }
    }
}

/// Pairs of a row and a value as one array of values and where each row begins in it.
pub(super) fn rows<T>(mut pairs: Vec<(u32, T)>, count: usize) -> (Box<[u32]>, Box<[T]>) {
    pairs.sort_by_key(|(row, _)| *row);
    let begins = |row: usize| pairs.partition_point(|(r, _)| (*r as usize) < row);
    let starts = (0..=count).map(|row| u32::try_from(begins(row)).unwrap_or(u32::MAX)).collect();
    (starts, pairs.into_iter().map(|(_, value)| value).collect())
}

/// The values of one row.
#[inline]
pub(super) fn row<'t, T>(starts: &[u32], values: &'t [T], row: u32) -> &'t [T] {
    match starts.get(row as usize..) {
        Some([start, end, ..]) => values.get(*start as usize..*end as usize).unwrap_or_default(),
        _ => &[],
    }
}

fn hash_of_range(network: IpAddr, prefix: u8) -> u64 {
    let bits = match network {
        IpAddr::V4(v4) => hash(&v4.octets()),
        IpAddr::V6(v6) => hash(&v6.octets()),
    };
    mix(bits, prefix.into())
}
