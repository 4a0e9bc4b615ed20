//! Who holds leaves, and who knows which bundle: the gate of a rotation.
//!
//! In come facts: a leaf was issued, a bundle was acknowledged or refused, a holder said goodbye, time went by.
//! Out comes whether everybody who holds an unexpired leaf knows the bundle of a sequence, and if not, who is
//! awaited. Pure and bounded; after a restart the server tells it the issuings of its log again.
//!
//! A holder is one lineage: a pod, a machine. It is settled for sequence N when it acknowledged N or a later
//! one, or was issued a certificate since N was published and has no watch stream (the answer carries the
//! roots), or said goodbye, or its last leaf has ended.
//! Beyond the bound holders are not told apart any more: the gate then waits until the last of their leaves has
//! ended, since a gate that forgets somebody is none.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use super::{LastLeaf, RootId, at, seconds};

/// One issuing, as the log records it.
#[derive(Clone, Copy, Debug)]
pub struct Issue<'a> {
    /// The number of the record of the first attestation.
    pub lineage: u64,
    /// The SPIFFE ID.
    pub id: &'a str,
    /// The root that the leaf chains to.
    pub root: RootId,
    /// The leaf's last second.
    pub not_after: SystemTime,
    /// The bundle's sequence that the answer carried.
    pub sequence: u64,
}

/// Everybody who holds an unexpired leaf.
#[derive(Debug)]
pub struct Roster {
    capacity: usize,
    holders: HashMap<u64, Holder>,
    /// By the end of the last leaf: who leaves next.
    ends: BTreeSet<(u64, u64)>,
    /// By the sequence known: who is awaited first. Holders that said goodbye are not in it.
    known: BTreeSet<(u64, u64)>,
    roots: HashMap<RootId, Leaves>,
    /// The end of the last leaf of those that found no place.
    uncounted_until: u64,
}

#[derive(Debug)]
struct Holder {
    id: Box<str>,
    root: RootId,
    ends: u64,
    /// The highest sequence that this holder acknowledged.
    acked: u64,
    /// The sequence of the last answer with a certificate.
    answered: u64,
    watches: bool,
    gone: bool,
    nack: Option<Box<Nack>>,
}

#[derive(Debug)]
struct Nack {
    sequence: u64,
    text: String,
}

/// What is known of one root's leaves.
#[derive(Debug, Default)]
struct Leaves {
    /// The end of the last of them, whoever holds it.
    last: u64,
    /// How many holders' newest leaf chains to it.
    holders: usize,
}

impl Holder {
    fn knows(&self) -> u64 {
        let told = match self.watches {
            true => 0,
            false => self.answered,
        };
        // Who refused a bundle has not got it by being answered with it.
        let told = match &self.nack {
            Some(nack) if nack.sequence <= told => nack.sequence.saturating_sub(1),
            _ => told,
        };
        self.acked.max(told)
    }
}

impl Roster {
    /// An empty one for so many holders.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            holders: HashMap::new(),
            ends: BTreeSet::new(),
            known: BTreeSet::new(),
            roots: HashMap::new(),
            uncounted_until: 0,
        }
    }

    /// A leaf was issued.
    pub fn issued(&mut self, issue: Issue<'_>) {
        let end = seconds(issue.not_after);
        let leaves = self.roots.entry(issue.root).or_default();
        leaves.last = leaves.last.max(end);
        if !self.holders.contains_key(&issue.lineage) {
            if self.holders.len() >= self.capacity {
                self.uncounted_until = self.uncounted_until.max(end);
                return;
            }
            let holder = Holder {
                id: issue.id.into(),
                root: issue.root,
                ends: end,
                acked: 0,
                answered: issue.sequence,
                watches: false,
                gone: false,
                nack: None,
            };
            leaves.holders += 1;
            self.holders.insert(issue.lineage, holder);
            self.ends.insert((end, issue.lineage));
            self.known.insert((issue.sequence, issue.lineage));
            return;
        }
        let mut moved = None;
        self.change(issue.lineage, |holder| {
            moved = (holder.root != issue.root).then_some(holder.root);
            holder.root = issue.root;
            holder.ends = holder.ends.max(end);
            holder.answered = holder.answered.max(issue.sequence);
            holder.gone = false;
        });
        if let Some(before) = moved {
            self.count(before, |holders| holders.saturating_sub(1));
            self.count(issue.root, |holders| holders + 1);
        }
    }

    /// A holder opened or closed its watch stream. False: nobody of this lineage holds a leaf.
    pub fn watching(&mut self, lineage: u64, watches: bool) -> bool {
        self.change(lineage, |holder| {
            holder.watches = watches;
            holder.gone &= !watches;
        })
    }

    /// A holder acknowledged a bundle. `published` is the sequence in force: none above it can have been seen,
    /// and an acknowledgement of one is not believed. False: not believed, or nobody of this lineage.
    pub fn acked(&mut self, lineage: u64, sequence: u64, published: u64) -> bool {
        sequence <= published
            && self.change(lineage, |holder| {
                holder.acked = holder.acked.max(sequence);
                if holder.nack.as_ref().is_some_and(|nack| nack.sequence <= sequence) {
                    holder.nack = None;
                }
            })
    }

    /// A holder could not take a bundle, and said why; the text is cut to [`MAX_NACK`] bytes.
    pub fn nacked(&mut self, lineage: u64, sequence: u64, text: &str) -> bool {
        let mut end = text.len().min(MAX_NACK);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text: String = text.get(..end).unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
        self.change(lineage, |holder| holder.nack = Some(Box::new(Nack { sequence, text })))
    }

    /// A holder ends and will not use its leaf again.
    pub fn goodbye(&mut self, lineage: u64) -> bool {
        self.change(lineage, |holder| {
            holder.gone = true;
            holder.watches = false;
        })
    }

    /// Forgets those whose last leaf has ended, and roots without leaves.
    pub fn expire(&mut self, now: SystemTime) {
        let now = seconds(now);
        while let Some((end, lineage)) = self.ends.first().copied().filter(|(end, _)| *end < now) {
            self.ends.remove(&(end, lineage));
            if let Some(holder) = self.holders.remove(&lineage) {
                self.known.remove(&(holder.knows(), lineage));
                self.count(holder.root, |holders| holders.saturating_sub(1));
            }
        }
        // A holder may have a longer leaf of a root before, and counts under the one of its newest.
        self.roots.retain(|_, leaves| leaves.last >= now || leaves.holders > 0);
    }

    /// Whether everybody knows the bundle of `sequence` at `now`; names at most `limit` of those awaited.
    pub fn verdict(&mut self, sequence: u64, limit: usize, now: SystemTime) -> Verdict {
        self.expire(now);
        let behind =
            || self.known.range(..(sequence, 0)).filter_map(|(_, lineage)| self.holders.get_key_value(lineage));
        let awaited = behind().take(limit).map(|(lineage, holder)| Awaited {
            lineage: *lineage,
            id: holder.id.to_string(),
            knows: holder.knows(),
            watches: holder.watches,
            ends: at(holder.ends),
            nack: holder.nack.as_ref().map(|nack| nack.text.clone()),
        });
        Verdict {
            sequence,
            holders: self.holders.len(),
            awaited: awaited.collect(),
            awaited_total: behind().count(),
            uncounted_until: (self.uncounted_until >= seconds(now)).then(|| at(self.uncounted_until)),
        }
    }

    /// The end of the last unexpired leaf of a root, whoever holds it.
    pub fn last_leaf(&self, root: RootId, now: SystemTime) -> LastLeaf {
        match self.roots.get(&root) {
            Some(leaves) if leaves.last >= seconds(now) => LastLeaf::Ends(at(leaves.last)),
            _ => LastLeaf::None,
        }
    }

    /// How many holders' newest leaf chains to a root.
    pub fn holders_of(&self, root: RootId) -> usize {
        self.roots.get(&root).map_or(0, |leaves| leaves.holders)
    }

    /// The proof that nobody relies on a root any more: every holder's newest leaf chains to another. A root
    /// that is compromised may leave the bundle with it before its older leaves have ended.
    pub fn cleared(&mut self, root: RootId, now: SystemTime) -> Option<Cleared> {
        self.expire(now);
        let counted = self.uncounted_until < seconds(now);
        (counted && self.holders_of(root) == 0).then_some(Cleared(root))
    }

    /// How many hold an unexpired leaf.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// Changes one holder and keeps the orders true. False: nobody of this lineage.
    fn change(&mut self, lineage: u64, change: impl FnOnce(&mut Holder)) -> bool {
        let Some(holder) = self.holders.get_mut(&lineage) else {
            return false;
        };
        let (end, knows) = (holder.ends, holder.knows());
        change(holder);
        if holder.ends != end {
            self.ends.remove(&(end, lineage));
            self.ends.insert((holder.ends, lineage));
        }
        self.known.remove(&(knows, lineage));
        if !holder.gone {
            self.known.insert((holder.knows(), lineage));
        }
        true
    }

    fn count(&mut self, root: RootId, change: impl FnOnce(usize) -> usize) {
        if let Some(leaves) = self.roots.get_mut(&root) {
            leaves.holders = change(leaves.holders);
        }
    }
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// About which bundle.
    pub sequence: u64,
    /// How many hold an unexpired leaf.
    pub holders: usize,
    /// Those that do not know the bundle, who is farthest behind first.
    pub awaited: Vec<Awaited>,
    /// How many there are of them.
    pub awaited_total: usize,
    /// Holders beyond the bound: until when the gate waits for them.
    pub uncounted_until: Option<SystemTime>,
}

impl Verdict {
    /// The proof that everybody knows the bundle.
    pub fn met(&self) -> Option<GateMet> {
        (self.awaited_total == 0 && self.uncounted_until.is_none()).then_some(GateMet(self.sequence))
    }
}

/// Somebody for whom the gate waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The holder.
    pub lineage: u64,
    /// Its SPIFFE ID.
    pub id: String,
    /// The newest sequence that it is known to know.
    pub knows: u64,
    /// Whether its watch stream is open.
    pub watches: bool,
    /// When its last leaf ends, and the gate waits no longer.
    pub ends: SystemTime,
    /// Why it refused the bundle.
    pub nack: Option<String>,
}

/// Everybody who holds an unexpired leaf knows the bundle of this sequence. Made by [`Verdict::met`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateMet(u64);

impl GateMet {
    /// The bundle.
    pub fn sequence(&self) -> u64 {
        self.0
    }
}

/// Nobody's newest leaf chains to this root. Made by [`Roster::cleared`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleared(RootId);

impl Cleared {
    /// The root.
    pub fn root(&self) -> RootId {
        self.0
    }
}

/// The longest text of a refusal that is kept.
pub const MAX_NACK: usize = 256;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn root(number: u8) -> RootId {
        RootId::of_key(&[number])
    }

    fn issue(lineage: u64, root_number: u8, end: u64, sequence: u64) -> Issue<'static> {
        let id = "spiffe://example.org/ns/shop/sa/web";
        Issue { lineage, id, root: root(root_number), not_after: at(end), sequence }
    }

    #[test]
    fn the_gate_opens_by_acknowledgement_answer_goodbye_and_end() {
        let mut roster = Roster::new(10);
        for lineage in 1..=4 {
            roster.issued(issue(lineage, 1, 100 + lineage, 1));
        }
        let awaited = |roster: &mut Roster, now| {
            let verdict = roster.verdict(2, 10, at(now));
            assert_eq!(verdict.met().is_some(), verdict.awaited_total == 0);
            verdict.awaited.iter().map(|holder| holder.lineage).collect::<Vec<_>>()
        };
        assert_eq!(awaited(&mut roster, 1), [1, 2, 3, 4]);
        assert!(roster.acked(1, 2, 2));
        roster.issued(issue(2, 1, 200, 2));
        assert!(roster.goodbye(3));
        assert_eq!(awaited(&mut roster, 104), [4]);
        assert!(awaited(&mut roster, 105).is_empty());
        assert_eq!(roster.verdict(2, 10, at(105)).met().unwrap().sequence(), 2);
    }

    #[test]
    fn an_answer_does_not_settle_who_has_a_stream_or_refused() {
        let mut roster = Roster::new(10);
        roster.issued(issue(1, 1, 100, 1));
        roster.issued(issue(2, 1, 100, 1));
        roster.watching(1, true);
        roster.nacked(2, 2, "too many roots\n\u{7}");
        roster.issued(issue(1, 1, 100, 2));
        roster.issued(issue(2, 1, 100, 2));
        let verdict = roster.verdict(2, 10, at(1));
        assert_eq!(verdict.awaited_total, 2);
        assert_eq!(verdict.awaited[1].nack.as_deref(), Some("too many roots"));
        assert!(verdict.awaited[0].watches);
        roster.acked(1, 2, 2);
        roster.acked(2, 2, 2);
        assert!(roster.verdict(2, 10, at(1)).met().is_some());
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_published_is_not_believed() {
        let mut roster = Roster::new(10);
        roster.issued(issue(1, 1, 100, 1));
        assert!(!roster.acked(1, 9, 2));
        assert!(!roster.acked(2, 2, 2));
        assert_eq!(roster.verdict(2, 10, at(1)).awaited_total, 1);
    }

    #[test]
    fn who_comes_back_after_a_goodbye_is_awaited_again() {
        let mut roster = Roster::new(10);
        roster.issued(issue(1, 1, 100, 1));
        roster.goodbye(1);
        assert!(roster.verdict(2, 10, at(1)).met().is_some());
        roster.issued(issue(1, 1, 100, 1));
        assert!(roster.verdict(2, 10, at(1)).met().is_none());
    }

    #[test]
    fn beyond_the_bound_the_gate_waits_for_the_end_of_the_uncounted() {
        let mut roster = Roster::new(1);
        roster.issued(issue(1, 1, 100, 2));
        roster.issued(issue(2, 1, 300, 2));
        let verdict = roster.verdict(2, 10, at(1));
        assert_eq!((verdict.awaited_total, verdict.uncounted_until), (0, Some(at(300))));
        assert!(verdict.met().is_none());
        assert!(roster.cleared(root(2), at(1)).is_none());
        assert!(roster.verdict(2, 10, at(301)).met().is_some());
        assert!(roster.cleared(root(2), at(301)).is_some());
    }

    #[test]
    fn a_root_is_clear_when_every_newest_leaf_is_of_another_and_its_last_leaf_is_known_longer() {
        let mut roster = Roster::new(10);
        roster.issued(issue(1, 1, 500, 1));
        roster.issued(issue(1, 2, 100, 2));
        assert_eq!((roster.holders_of(root(1)), roster.holders_of(root(2))), (0, 1));
        assert_eq!(roster.cleared(root(1), at(1)).unwrap().root(), root(1));
        assert!(roster.cleared(root(2), at(1)).is_none());
        assert_eq!(roster.last_leaf(root(1), at(1)), LastLeaf::Ends(at(500)));
        assert_eq!(roster.last_leaf(root(1), at(501)), LastLeaf::None);
    }

    #[test]
    fn a_holder_with_a_longer_leaf_of_before_counts_under_its_newest() {
        let mut roster = Roster::new(10);
        roster.issued(issue(1, 1, 500, 1));
        roster.issued(issue(1, 2, 100, 2));
        roster.expire(at(200));
        assert_eq!((roster.len(), roster.holders_of(root(2))), (1, 1));
    }

    #[test]
    fn a_long_refusal_is_cut_at_a_character() {
        let mut roster = Roster::new(10);
        roster.issued(issue(1, 1, 100, 1));
        roster.nacked(1, 2, &"ä".repeat(1000));
        let nack = roster.verdict(2, 1, at(1)).awaited[0].nack.clone().unwrap();
        assert_eq!(nack.len(), MAX_NACK);
    }

    /// Ten thousand holders: what the maps and the names take, counted generously.
    #[test]
    fn ten_thousand_holders_are_a_few_megabytes() {
        let one = size_of::<(u64, Holder)>() + 40 + 2 * (size_of::<(u64, u64)>() * 2);
        assert!(one * 2 * 10_000 < 4 << 20, "{one}");
    }

    #[derive(Clone, Debug)]
    enum Fact {
        Issued(u64, u8, u64),
        Acked(u64, u64),
        Nacked(u64),
        Watching(u64, bool),
        Goodbye(u64),
        Later(u64),
    }

    fn fact() -> impl Strategy<Value = Fact> {
        prop_oneof![
            (0..8u64, 0..3u8, 1..60u64).prop_map(|(who, root, life)| Fact::Issued(who, root, life)),
            (0..8u64, 0..5u64).prop_map(|(who, sequence)| Fact::Acked(who, sequence)),
            (0..8u64).prop_map(Fact::Nacked),
            (0..8u64, any::<bool>()).prop_map(|(who, watches)| Fact::Watching(who, watches)),
            (0..8u64).prop_map(Fact::Goodbye),
            (1..40u64).prop_map(Fact::Later),
        ]
    }

    proptest! {
        /// The indices say what a walk over all holders says.
        #[test]
        fn the_orders_are_those_of_the_holders(facts in proptest::collection::vec(fact(), 0..120)) {
            let mut roster = Roster::new(6);
            let (mut now, mut sequence) = (0, 1);
            for fact in facts {
                match fact {
                    Fact::Issued(who, number, life) => roster.issued(issue(who, number, now + life, sequence)),
                    Fact::Acked(who, which) => { roster.acked(who, which, sequence); }
                    Fact::Nacked(who) => { roster.nacked(who, sequence, "no"); }
                    Fact::Watching(who, watches) => { roster.watching(who, watches); }
                    Fact::Goodbye(who) => { roster.goodbye(who); }
                    Fact::Later(by) => { now += by; sequence += by % 2; }
                }
                let verdict = roster.verdict(sequence, usize::MAX, at(now));
                let behind = roster.holders.values().filter(|holder| !holder.gone && holder.knows() < sequence);
                prop_assert_eq!(verdict.awaited_total, behind.count());
                prop_assert_eq!(verdict.awaited.len(), verdict.awaited_total);
                prop_assert!(roster.holders.values().all(|holder| holder.ends >= now));
                prop_assert_eq!(roster.ends.len(), roster.holders.len());
                prop_assert!(roster.len() <= 6);
                let mut by_root = BTreeMap::new();
                for holder in roster.holders.values() {
                    *by_root.entry(holder.root).or_insert(0) += 1;
                }
                for number in 0..3 {
                    prop_assert_eq!(roster.holders_of(root(number)), by_root.get(&root(number)).copied().unwrap_or(0));
                }
            }
        }
    }
}
