//! The verdict from the tables of one direction.

use super::entry::{Entry, Kind, MATCHER, Matcher, Shape, condition, part};
use super::methods::OtherMethods;
use super::path::{Path, Reading, with_decoded};
use super::subjects::Subjects;
use super::table::Groups;
use super::words::{UNKNOWN, Words};
use crate::decide::{Attributes, Decision, RuleRef, Verdict, Why};
use crate::linear::{self, Outcome, Seen};
use crate::rule::{Action, Direction, Rule, RuleProtocol};
use identity::SpiffeId;
use std::net::IpAddr;

/// The rules of one direction as tables. It does not hold the rules; whoever asks brings those it was made from.
pub(crate) struct Index {
    pub(super) subjects: Subjects,
    /// What each subject has, and one more row that only says where the last one ends.
    pub(super) rows: Box<[Row]>,
    /// The kinds of all subjects, of each those with deny rules and narrow paths first.
    pub(super) kinds: Box<[Kind]>,
    /// The words of all subjects; see [`Row`].
    pub(super) words_of: Box<[u64]>,
    /// In a group, what is reported first stands first.
    pub(super) entries: Groups<Entry>,
    pub(super) words: Words,
    pub(super) hosts: Words,
    /// The templates' segments: a word's number, or [`MATCHER`] and a place among the matchers.
    pub(super) codes: Box<[u32]>,
    pub(super) matchers: Box<[Matcher]>,
    pub(super) methods: OtherMethods,
    /// How much of a path all templates together compare.
    pub(super) reading: Reading,
    /// The rule that an entry's `place` stands for.
    pub(super) by_place: Box<[u32]>,
    /// Rules that the reference judges.
    pub(super) odd: Box<[Odd]>,
    /// Whether the reference is as quick, because there is so little to look at.
    pub(super) few: bool,
}

/// What one subject has.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Where its kinds begin.
    pub(super) kinds: u32,
    /// Where the bits of its words begin. Bit `w & mask` is set for each word `w` of its templates, so that a path with
    /// none of its words is not looked up at all.
    pub(super) bits: u32,
    pub(super) mask: u32,
}

/// A rule that the tables do not take.
pub(super) struct Odd {
    pub(super) rule: u32,
    pub(super) place: u32,
    /// The narrowness of each of its operations, with its place in the order of all.
    pub(super) orders: Box<[(Box<[u8]>, u32)]>,
}

/// What is known of an identity and an address.
#[derive(Clone)]
pub(crate) struct Known {
    /// The subjects they belong to, each with how narrowly it names them.
    subjects: Box<[(u32, u8)]>,
    /// How much of a path the templates of these compare.
    reading: Reading,
}

/// One question to the tables.
#[derive(Clone, Copy)]
struct Question<'q> {
    rules: &'q [Rule],
    attributes: &'q Attributes<'q>,
    /// The subjects of peer and address, where they are known already.
    known: Option<&'q Known>,
}

/// What a question about a request has more than one about opaque bytes.
struct Request<'q> {
    seen: &'q Seen<'q>,
    path: Path<'q>,
    method: u32,
    /// The numbers of the host and of the host without its first label.
    host: u32,
    parent: u32,
}

/// The best matches so far.
#[derive(Default)]
struct Found {
    deny: Best,
    unreadable: Best,
    allow: Best,
    /// An allow rule that matched says that the bytes are opaque.
    declared: bool,
}

/// How narrow a match is, as one number: a mark, 28 bits for the path, 3 for the identity (0 to 4), 32 for the place of the
/// rule; 0 is none.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Best(u64);

impl Best {
    const fn new(order: u32, who: u8, place: u32) -> Self {
        // 2^28 different templates do not fit into any memory.
        Self(1 << 63 | (order as u64) << 35 | (who as u64) << 32 | place as u64)
    }

    fn is_some(self) -> bool {
        self.0 != 0
    }

    fn offer(&mut self, other: Self) {
        *self = (*self).max(other);
    }
}

impl Index {
    /// What [`Index::judge`] would find out anew about this identity and address each time.
    pub(crate) fn know(&self, peer: Option<&SpiffeId>, ip: Option<IpAddr>) -> Known {
        let mut known = Vec::new();
        self.subjects.visit(peer, ip, |subject, who| {
            if !self.kinds_of(subject).1.is_empty() {
                known.push((subject, who));
            }
        });
        // Of a list that came twice, the narrower.
        known.sort_unstable_by(|a, b| b.cmp(a));
        known.dedup_by_key(|(subject, _)| *subject);
        let mut reading = Reading::default();
        for kind in known.iter().flat_map(|(subject, _)| self.kinds_of(*subject).1) {
            reading.widen(kind.shape);
        }
        Known { subjects: known.into(), reading }
    }

    /// Judges as [`linear::judge`] does. `known` is what [`Index::know`] made of the same identity and address.
    pub(crate) fn judge<'s>(
        &self,
        rules: &'s [Rule],
        direction: Direction,
        a: &Attributes<'_>,
        known: Option<&Known>,
        seen: Option<Seen<'_>>,
    ) -> Decision<'s> {
        if self.few {
            return linear::judge(rules, direction, a, seen);
        }
        let question = Question { rules, attributes: a, known };
        let found = match &seen {
            None => Some(self.opaque(&question)),
            Some(seen) if seen.escapes => with_decoded(seen.path, |path| self.request(&question, seen, path)),
            Some(seen) => self.request(&question, seen, seen.path.as_bytes()),
        };
        let Some(mut found) = found else {
            return linear::judge(rules, direction, a, seen);
        };
        if !self.odd.is_empty() {
            self.ask_odd(&question, direction, seen, &mut found);
        }
        self.decision(rules, &found)
    }

    #[inline]
    fn decision<'s>(&self, rules: &'s [Rule], found: &Found) -> Decision<'s> {
        let rule = |best: Best| {
            let index = *self.by_place.get(best.0 as u32 as usize)? as usize;
            rules.get(index).map(|rule| RuleRef { index, rule })
        };
        if found.deny.is_some() {
            return Decision { verdict: Verdict::Deny, rule: rule(found.deny), why: Why::MatchedDeny };
        }
        if found.unreadable.is_some() && !found.declared {
            return Decision { verdict: Verdict::Deny, rule: rule(found.unreadable), why: Why::UnreadableDeny };
        }
        if found.allow.is_some() {
            return Decision { verdict: Verdict::Allow, rule: rule(found.allow), why: Why::MatchedAllow };
        }
        Decision { verdict: Verdict::Deny, rule: None, why: Why::NoRule(None) }
    }

    /// The matches of a request. `path` is without escapes.
    #[inline]
    fn request(&self, question: &Question<'_>, seen: &Seen<'_>, path: &[u8]) -> Option<Found> {
        let mut request = Request {
            method: self.methods.bit(seen.method),
            seen,
            path: Path::of(path)?,
            host: UNKNOWN,
            parent: UNKNOWN,
        };
        request.path.read(question.known.map_or(self.reading, |known| known.reading), &self.words);
        if !self.hosts.is_empty() {
            request.host = self.hosts.number(seen.host.as_bytes());
            let above = seen.host.split_once('.').filter(|(label, _)| !label.is_empty());
            request.parent = above.map_or(UNKNOWN, |(_, above)| self.hosts.number(above.as_bytes()));
        }
        let mut found = Found::default();
        self.visit(question, |subject, who| self.request_of(question, &request, subject, who, &mut found));
        Some(found)
    }

    #[inline]
    fn visit(&self, question: &Question<'_>, mut found: impl FnMut(u32, u8)) {
        match question.known {
            Some(known) => known.subjects.iter().for_each(|(subject, who)| found(*subject, *who)),
            None => self.subjects.visit(question.attributes.peer, question.attributes.ip, found),
        }
    }

    /// What a subject has.
    #[inline]
    fn kinds_of(&self, subject: u32) -> (Row, &[Kind]) {
        match self.rows.get(subject as usize..) {
            Some([row, next, ..]) => {
                (*row, self.kinds.get(row.kinds as usize..next.kinds as usize).unwrap_or_default())
            }
            _ => (Row { kinds: 0, bits: 0, mask: 0 }, &[]),
        }
    }

    fn request_of(&self, q: &Question<'_>, request: &Request<'_>, subject: u32, who: u8, found: &mut Found) {
        let (row, kinds) = self.kinds_of(subject);
        if kinds.is_empty() {
            return;
        }
        let path = &request.path;
        // To ask which words are the subject's costs about as much as one look-up that finds nothing.
        let words = match kinds {
            [] | [_] | [_, _] | [_, _, _] | [_, _, _, _] => path.known,
            _ => path.words_among(|word| self.has_word(&row, word)),
        };
        for kind in kinds {
            let shape = kind.shape;
            if !shape.fits(path.count, words) || shape.parts & part::OPAQUE != 0 {
                continue;
            }
            // Nothing in there could be reported instead; and next to a refusal no leave matters.
            let most = Best::new(kind.order, who, u32::MAX);
            if found.deny > most || (!kind.denies && (found.deny.is_some() || found.allow > most)) {
                continue;
            }
            self.group(q, request, subject, shape, who, found);
        }
    }

    /// The best of one group: deny rules stand before allow rules, and what is reported first before the rest.
    #[inline]
    fn group(&self, q: &Question<'_>, request: &Request<'_>, subject: u32, shape: Shape, who: u8, found: &mut Found) {
        let host = if shape.parts & part::HOST != 0 { request.host } else { request.parent };
        let port = q.attributes.port;
        for entry in self.entries.get(shape.hash(subject, |i| request.path.word(i), port, host)) {
            let denies = entry.conditions & condition::DENY != 0;
            if !denies && found.deny.is_some() {
                return;
            }
            if entry.subject == subject
                && entry.shape == shape
                && (shape.parts & part::PORT == 0 || entry.port == port)
                && (shape.parts & (part::HOST | part::PARENT) == 0 || entry.host == host)
                && entry.methods & request.method != 0
                && self.covers(entry, &request.path)
                && self.holds(q, request, entry, denies)
            {
                let best = if denies { &mut found.deny } else { &mut found.allow };
                best.offer(Best::new(entry.order, who, entry.place));
                return;
            }
        }
    }

    #[inline]
    fn has_word(&self, row: &Row, word: u32) -> bool {
        let bit = word & row.mask;
        let bits = self.words_of.get(row.bits as usize + (bit / 64) as usize);
        bits.is_some_and(|bits| bits >> (bit % 64) & 1 == 1)
    }

    /// Whether a path is one of the entry's template, whose length it is known to have.
    #[inline]
    fn covers(&self, entry: &Entry, path: &Path<'_>) -> bool {
        let start = entry.codes as usize;
        let codes = self.codes.get(start..start + usize::from(entry.shape.len)).unwrap_or_default();
        codes.len() == usize::from(entry.shape.len)
            && codes.iter().enumerate().all(|(i, code)| {
                if code & MATCHER == 0 {
                    return path.word(i) == *code;
                }
                let matcher = self.matchers.get((code & !MATCHER) as usize);
                matcher.is_some_and(|matcher| matcher.accepts(path.segment(i)))
            })
    }

    /// Whether an entry's other conditions hold for a request.
    #[inline]
    fn holds(&self, q: &Question<'_>, request: &Request<'_>, entry: &Entry, denies: bool) -> bool {
        let conditions = entry.conditions;
        if conditions & condition::GRPC != 0 && !request.seen.grpc {
            return false;
        }
        if conditions & condition::TLS != 0 && q.attributes.plaintext {
            return false;
        }
        if conditions & condition::PORT != 0 && entry.port != q.attributes.port {
            return false;
        }
        let names_switches = conditions & condition::UPGRADE != 0;
        let upgrade = match request.seen.upgrade {
            None => !(denies && names_switches),
            Some(_) if !names_switches => denies,
            asked => self.rule(q, entry).is_some_and(|rule| rule.covers_upgrade(asked)),
        };
        upgrade && (conditions & condition::OF_RULE == 0 || self.rule_holds(q, entry, Some(request)))
    }

    /// The conditions that only the rule itself can answer.
    fn rule_holds(&self, q: &Question<'_>, entry: &Entry, request: Option<&Request<'_>>) -> bool {
        let Some(rule) = self.rule(q, entry) else {
            return false;
        };
        let a = q.attributes;
        let asked = |condition| entry.conditions & condition != 0;
        (!asked(condition::PORTS) || rule.covers_port(a.port))
            && (!asked(condition::HOSTS) || request.is_some_and(|r| rule.covers_host(r.seen.host)))
            && (!asked(condition::RANGES) || rule.covers_address(a.ip))
            && (!asked(condition::NOT_WHO) || !rule.leaves_out(a.peer))
    }

    fn rule<'q>(&self, q: &Question<'q>, entry: &Entry) -> Option<&'q Rule> {
        q.rules.get(*self.by_place.get(entry.place as usize)? as usize)
    }

    /// The matches of opaque bytes.
    fn opaque(&self, question: &Question<'_>) -> Found {
        let mut found = Found::default();
        self.visit(question, |subject, who| self.opaque_of(question, subject, who, &mut found));
        found
    }

    fn opaque_of(&self, q: &Question<'_>, subject: u32, who: u8, found: &mut Found) {
        let a = q.attributes;
        for kind in self.kinds_of(subject).1 {
            let shape = kind.shape;
            if shape.parts & part::OPAQUE == 0 {
                continue;
            }
            let first = self.entries.get(shape.hash(subject, |_| UNKNOWN, a.port, UNKNOWN)).iter().find(|entry| {
                entry.subject == subject
                    && entry.shape == shape
                    && (shape.parts & part::PORT == 0 || entry.port == a.port)
                    && !(entry.conditions & condition::TLS != 0 && a.plaintext)
                    && (entry.conditions & condition::OF_RULE == 0 || self.rule_holds(q, entry, None))
            });
            let Some(entry) = first else {
                continue;
            };
            let best = if shape.parts & part::UNREADABLE != 0 {
                &mut found.unreadable
            } else if shape.parts & part::DENY != 0 {
                &mut found.deny
            } else {
                found.declared |= shape.parts & part::DECLARED != 0;
                &mut found.allow
            };
            best.offer(Best::new(entry.order, who, entry.place));
        }
    }

    /// The rules that the tables do not take, by the reference.
    #[cold]
    fn ask_odd(&self, q: &Question<'_>, direction: Direction, seen: Option<Seen<'_>>, found: &mut Found) {
        for odd in &self.odd {
            let Some(rule) = q.rules.get(odd.rule as usize) else {
                continue;
            };
            let order = |ranks: &[u8]| odd.orders.iter().find(|(r, _)| **r == *ranks).map_or(0, |(_, order)| *order);
            let deny = rule.action == Action::Deny;
            match linear::apply(rule, direction, q.attributes, seen) {
                Outcome::No => {}
                Outcome::Yes(path, who) if deny => found.deny.offer(Best::new(order(path), who, odd.place)),
                Outcome::Yes(path, who) => {
                    found.declared |= rule.protocol == Some(RuleProtocol::Tcp);
                    found.allow.offer(Best::new(order(path), who, odd.place));
                }
                Outcome::Unreadable(who) if deny => found.unreadable.offer(Best::new(0, who, odd.place)),
                Outcome::Unreadable(_) => {}
            }
        }
    }
}
