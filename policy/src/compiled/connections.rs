//! What is asked once per connection, without its requests: which ports, which addresses, which peers the rules name.

use super::subjects::{Numbering, Subject, Subjects};
use super::table::{Groups, mix};
use crate::rule::{Action, Direction, Rule, RuleProtocol, Who};
use identity::SpiffeId;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The answers of both directions. It does not hold the rules; whoever asks brings those it was made from.
pub(crate) struct Connections {
    /// Listed by allow rules with `protocol = "tcp"`.
    declared_inbound: Ports,
    declared_outbound: Ports,
    /// Of inbound allow rules with `plaintext`.
    plaintext: Ports,
    /// Of outbound allow rules with identities.
    with_identity: Ports,
    /// The address ranges of outbound allow rules.
    ranges: Named,
    /// Whom outbound allow rules name.
    accepted: Named,
    /// Whom outbound deny rules refuse altogether.
    refused: Named,
}

impl Connections {
    pub(crate) fn new(inbound: &[Rule], outbound: &[Rule]) -> Self {
        Self {
            declared_inbound: Ports::listed(inbound.iter().filter(|r| declares_tcp(r))),
            declared_outbound: Ports::listed(outbound.iter().filter(|r| declares_tcp(r))),
            plaintext: Ports::covered(inbound.iter().filter(|r| r.action == Action::Allow && r.plaintext)),
            with_identity: Ports::covered(outbound.iter().filter(|r| accepts(r))),
            ranges: Named::new(outbound, |r| r.action == Action::Allow && !r.cidrs.is_empty(), ranges),
            accepted: Named::new(outbound, accepts, identities),
            refused: Named::new(outbound, refuses_all, identities),
        }
    }

    /// See [`crate::RuleSet::declares_tcp`].
    pub(crate) fn declares_tcp(&self, direction: Direction, port: u16) -> bool {
        match direction {
            Direction::Inbound => self.declared_inbound.contains(port),
            Direction::Outbound => self.declared_outbound.contains(port),
        }
    }

    /// See [`crate::RuleSet::allows_plaintext`].
    pub(crate) fn allows_plaintext(&self, port: u16) -> bool {
        self.plaintext.contains(port)
    }

    /// See [`crate::RuleSet::has_outbound_to`].
    pub(crate) fn has_outbound_to(&self, port: u16) -> bool {
        self.with_identity.contains(port)
    }

    /// See [`crate::RuleSet::names_cidr`].
    pub(crate) fn names_cidr(&self, outbound: &[Rule], ip: IpAddr, port: u16) -> bool {
        self.ranges.has(outbound, None, Some(ip), port, |rule| rule.covers_address(Some(ip)))
    }

    /// See [`crate::RuleSet::accepts_peer`].
    pub(crate) fn accepts_peer(&self, outbound: &[Rule], id: &SpiffeId, port: u16) -> bool {
        let names = |rule: &Rule| rule.who.rank(Some(id)).is_some() && !rule.leaves_out(Some(id));
        self.accepted.has(outbound, Some(id), None, port, names)
            && !self.refused.has(outbound, Some(id), None, port, names)
    }
}

fn declares_tcp(rule: &Rule) -> bool {
    rule.action == Action::Allow && rule.protocol == Some(RuleProtocol::Tcp)
}

fn accepts(rule: &Rule) -> bool {
    rule.action == Action::Allow && rule.who != Who::Anyone
}

fn refuses_all(rule: &Rule) -> bool {
    rule.action == Action::Deny && !rule.reads_requests() && rule.cidrs.is_empty() && rule.protocol.is_none()
}

/// A set of ports.
struct Ports {
    every: bool,
    /// In order.
    some: Box<[u16]>,
}

impl Ports {
    /// Those that rules list; a rule without ports lists none.
    fn listed<'r>(rules: impl Iterator<Item = &'r Rule>) -> Self {
        let some: BTreeSet<u16> = rules.flat_map(|r| r.ports.iter().copied()).collect();
        Self { every: false, some: some.into_iter().collect() }
    }

    /// Those that rules cover; a rule without ports covers all.
    fn covered<'r>(rules: impl Iterator<Item = &'r Rule> + Clone) -> Self {
        Self { every: rules.clone().any(|r| r.ports.is_empty()), ..Self::listed(rules) }
    }

    fn contains(&self, port: u16) -> bool {
        self.every || self.some.binary_search(&port).is_ok()
    }
}

/// Identities or addresses that some rules name, each with ports.
struct Named {
    subjects: Subjects,
    ports: Groups<(u32, Port)>,
    /// Rules whose lists would multiply to too much, or that leave somebody out: asked one by one.
    one_by_one: Box<[u32]>,
}

/// A port, or all of them.
type Port = Option<u16>;

/// How many pairs one rule may become.
const MOST_PAIRS: usize = 64;

/// Whom a rule names.
fn identities(rule: &Rule) -> Vec<Subject> {
    match &rule.who {
        Who::Anyone => vec![Subject::Anyone],
        Who::Ids(ids) => ids.iter().map(|id| Subject::Id(id.clone())).collect(),
    }
}

/// The addresses a rule names.
fn ranges(rule: &Rule) -> Vec<Subject> {
    rule.cidrs.iter().map(|cidr| Subject::Range(*cidr)).collect()
}

impl Named {
    fn new(rules: &[Rule], asked: fn(&Rule) -> bool, subjects: fn(&Rule) -> Vec<Subject>) -> Self {
        let mut numbering = Numbering::new();
        let mut pairs = BTreeSet::new();
        let mut one_by_one = Vec::new();
        for (rule, index) in rules.iter().zip(0..).filter(|(rule, _)| asked(rule)) {
            let lists = rule.ports.len().max(1)
                * match &rule.who {
                    Who::Anyone => rule.cidrs.len(),
                    Who::Ids(ids) => ids.len().max(rule.cidrs.len()),
                };
            if lists > MOST_PAIRS || !rule.not_who.is_empty() {
                one_by_one.push(index);
                continue;
            }
            for subject in subjects(rule) {
                let subject = numbering.number(subject);
                let every = rule.ports.is_empty().then_some(None);
                pairs.extend(every.into_iter().chain(rule.ports.iter().copied().map(Some)).map(|port| (subject, port)));
            }
        }
        let pairs = pairs.into_iter().map(|(subject, port)| (hash(subject, port), (subject, port))).collect();
        Self { subjects: Subjects::new(numbering), ports: Groups::new(pairs, Ord::cmp), one_by_one: one_by_one.into() }
    }

    /// Whether one of the rules covers the port and names this identity or address; `names` asks a rule for the latter.
    fn has(
        &self,
        rules: &[Rule],
        peer: Option<&SpiffeId>,
        ip: Option<IpAddr>,
        port: u16,
        names: impl Fn(&Rule) -> bool,
    ) -> bool {
        let mut found = false;
        if !self.ports.is_empty() {
            self.subjects.visit(peer, ip, |subject, _| {
                found = found
                    || [None, Some(port)].iter().any(|p| self.ports.get(hash(subject, *p)).contains(&(subject, *p)));
            });
        }
        let rule = |index: &u32| rules.get(*index as usize);
        found || self.one_by_one.iter().filter_map(rule).any(|rule| rule.covers_port(port) && names(rule))
    }
}

fn hash(subject: u32, port: Port) -> u64 {
    mix(subject.into(), port.map_or(1 << 16, u64::from))
}
