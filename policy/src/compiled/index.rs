//! The verdict from the tables of one direction.

use super::entry::{Entry, Kind, MATCHER, Matcher, condition, part};
use super::methods::OtherMethods;
use super::path::{Path, with_decoded};
use super::subjects::{Subjects, row};
use super::table::Groups;
use super::words::{UNKNOWN, Words};
use crate::decide::{Attributes, Decision, RuleRef, Verdict, Why};
use crate::linear::{self, Outcome, Seen};
use crate::rule::{Action, Direction, Rule, RuleProtocol};

/// The rules of one direction as tables. It does not hold the rules; whoever asks brings those it was made from.
pub(crate) struct Index {
    pub(super) subjects: Subjects,
    /// The kinds of subject `s`: `kinds[kinds_of[s]..kinds_of[s + 1]]`, deny rules and narrow paths first.
    pub(super) kinds_of: Box<[u32]>,
    pub(super) kinds: Box<[Kind]>,
    /// In a group, what is reported first stands first.
    pub(super) entries: Groups<Entry>,
    pub(super) words: Words,
    pub(super) hosts: Words,
    /// The templates' segments: a word's number, or [`MATCHER`] and a place among the matchers.
    pub(super) codes: Box<[u32]>,
    pub(super) matchers: Box<[Matcher]>,
    pub(super) methods: OtherMethods,
    /// The length of the longest template.
    pub(super) depth: usize,
    /// The rule that an entry's `place` stands for.
    pub(super) by_place: Box<[u32]>,
    /// Rules that the reference judges.
    pub(super) odd: Box<[Odd]>,
}

/// A rule that the tables do not take.
pub(super) struct Odd {
    pub(super) rule: u32,
    pub(super) place: u32,
    /// The narrowness of each of its operations, with its place in the order of all.
    pub(super) orders: Box<[(Box<[u8]>, u32)]>,
}

/// One question to the tables.
#[derive(Clone, Copy)]
struct Question<'q> {
    rules: &'q [Rule],
    attributes: &'q Attributes<'q>,
}

/// What a question about a request has more than one about opaque bytes.
struct Request<'q> {
    seen: Seen<'q>,
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

/// How narrow a match is: path, then identity, then the place of the rule; 0 is none.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Best(u128);

impl Best {
    const fn new(order: u32, who: u8, place: u32) -> Self {
        Self(1 << 80 | (order as u128) << 40 | (who as u128) << 32 | place as u128)
    }

    fn is_some(self) -> bool {
        self.0 != 0
    }

    fn offer(&mut self, other: Self) {
        *self = (*self).max(other);
    }
}

impl Index {
    /// Judges as [`linear::judge`] does.
    pub(crate) fn judge<'s>(
        &self,
        rules: &'s [Rule],
        direction: Direction,
        a: &Attributes<'_>,
        seen: Option<Seen<'_>>,
    ) -> Decision<'s> {
        let question = Question { rules, attributes: a };
        let found = match seen {
            None => Some(self.opaque(question)),
            Some(seen) if seen.escapes => with_decoded(seen.path, |path| self.request(question, seen, path)),
            Some(seen) => self.request(question, seen, seen.path.as_bytes()),
        };
        let Some(mut found) = found else {
            return linear::judge(rules, direction, a, seen);
        };
        if !self.odd.is_empty() {
            self.ask_odd(question, direction, seen, &mut found);
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
    fn request(&self, question: Question<'_>, seen: Seen<'_>, path: &[u8]) -> Option<Found> {
        let path = Path::read(path, self.depth, &self.words)?;
        let (mut host, mut parent) = (UNKNOWN, UNKNOWN);
        if !self.hosts.is_empty() {
            host = self.hosts.number(seen.host.as_bytes());
            let above = seen.host.split_once('.').filter(|(label, _)| !label.is_empty());
            parent = above.map_or(UNKNOWN, |(_, above)| self.hosts.number(above.as_bytes()));
        }
        let request = Request { method: self.methods.bit(seen.method), seen, path, host, parent };
        let mut found = Found::default();
        let a = question.attributes;
        self.subjects.visit(a.peer, a.ip, |subject, who| {
            self.request_of(question, &request, subject, who, &mut found);
        });
        Some(found)
    }

    fn request_of(&self, q: Question<'_>, request: &Request<'_>, subject: u32, who: u8, found: &mut Found) {
        for kind in row(&self.kinds_of, &self.kinds, subject) {
            let shape = kind.shape;
            if shape.parts & part::OPAQUE != 0 || !shape.fits(&request.path) {
                continue;
            }
            let denies = shape.parts & part::DENY != 0;
            // Next to a refusal no leave matters.
            if !denies && found.deny.is_some() {
                return;
            }
            let best = if denies { &mut found.deny } else { &mut found.allow };
            // Nothing in there could be reported instead.
            if *best > Best::new(kind.order, who, u32::MAX) {
                continue;
            }
            let host = if shape.parts & part::HOST != 0 { request.host } else { request.parent };
            let port = q.attributes.port;
            let hash = shape.hash(subject, |i| request.path.word(i), port, host);
            for entry in self.entries.get(hash) {
                if entry.subject == subject
                    && entry.shape == shape
                    && (shape.parts & part::PORT == 0 || entry.port == port)
                    && (shape.parts & (part::HOST | part::PARENT) == 0 || entry.host == host)
                    && entry.methods & request.method != 0
                    && self.covers(entry, &request.path)
                    && self.holds(q, request, entry, denies)
                {
                    best.offer(Best::new(entry.order, who, entry.place));
                    break;
                }
            }
        }
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
    fn holds(&self, q: Question<'_>, request: &Request<'_>, entry: &Entry, denies: bool) -> bool {
        let conditions = entry.conditions;
        if conditions & condition::GRPC != 0 && !request.seen.grpc {
            return false;
        }
        if conditions & condition::TLS != 0 && q.attributes.plaintext {
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
    fn rule_holds(&self, q: Question<'_>, entry: &Entry, request: Option<&Request<'_>>) -> bool {
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

    fn rule<'q>(&self, q: Question<'q>, entry: &Entry) -> Option<&'q Rule> {
        q.rules.get(*self.by_place.get(entry.place as usize)? as usize)
    }

    /// The matches of opaque bytes.
    fn opaque(&self, question: Question<'_>) -> Found {
        let mut found = Found::default();
        let a = question.attributes;
        self.subjects.visit(a.peer, a.ip, |subject, who| self.opaque_of(question, subject, who, &mut found));
        found
    }

    fn opaque_of(&self, q: Question<'_>, subject: u32, who: u8, found: &mut Found) {
        let a = q.attributes;
        for kind in row(&self.kinds_of, &self.kinds, subject) {
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
    fn ask_odd(&self, q: Question<'_>, direction: Direction, seen: Option<Seen<'_>>, found: &mut Found) {
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
