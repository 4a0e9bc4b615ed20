//! The verdict of a set of rules: default deny, deny overrides, order does not matter.
//!
//! In: what is verified and known about one request or connection ([`Attributes`]).
//! Out: allow or deny, the rule that is reported for it, and why. The reported rule is the most specific
//! match (path, then identity, then name); reporting never changes the verdict.
//!
//! Two readings are strict on purpose. A deny rule holds with or without mutual TLS. A deny rule that looks
//! into requests cannot be evaluated on opaque bytes, so there it refuses, unless an allow rule that matches
//! declares `protocol = "tcp"`: otherwise a caller could dodge it by not looking like HTTP.

use crate::canonical::Target;
use crate::request::RequestPattern;
use crate::rule::{Action, Direction, Rule, RuleProtocol, Who};
use crate::upgrade;
use identity::SpiffeId;
use std::cmp::Ordering;
use std::net::IpAddr;

/// What is known about a request or a connection when it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Inbound: the verified caller. Outbound: the identity the destination must prove. `None`: no identity.
    pub peer: Option<&'a SpiffeId>,
    /// Inbound: it came without mutual TLS. Meaningless outbound.
    pub plaintext: bool,
    /// Outbound: the address that would be dialled. Conditions on addresses are false without one.
    pub ip: Option<IpAddr>,
    /// Inbound: the application's port. Outbound: the destination's.
    pub port: u16,
    /// The request, or `None` for opaque bytes.
    pub request: Option<RequestView<'a>>,
}

/// A request as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The canonical reading.
    pub target: &'a Target<'a>,
    /// POST with a content type of `application/grpc` or `application/grpc+…`.
    pub grpc: bool,
    /// The protocol of the `Upgrade` field where the request asks to switch (RFC 9110 §7.8: HTTP/1.1, and `Connection`
    /// names `upgrade`), as one name; `connect` or `None` for CONNECT, whose method says it. Case does not matter.
    /// A request that names several protocols is the caller's to refuse.
    pub upgrade: Option<&'a str>,
}

/// The rules of one workload, both directions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleSet {
    inbound: Vec<Rule>,
    outbound: Vec<Rule>,
}

/// Whether it may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// A verdict and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Decision<'a> {
    /// Whether it may pass.
    pub verdict: Verdict,
    /// The rule that is reported; `None` when no rule matched.
    pub rule: Option<RuleRef<'a>>,
    /// Why.
    pub why: Why,
}

/// One rule of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleRef<'a> {
    /// Its place within its direction, as the set was built.
    pub index: usize,
    /// The rule.
    pub rule: &'a Rule,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// An allow rule matched and no deny rule did.
    MatchedAllow,
    /// A deny rule matched.
    MatchedDeny,
    /// A deny rule reads requests and this is opaque, so it could not be evaluated.
    UnreadableDeny,
    /// No allow rule matched.
    NoRule(Option<Hint>),
}

/// What is one small step from being allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// HEAD was asked where GET is allowed; `GET` does not include `HEAD`.
    HeadIsNotGet,
    /// It would be allowed with mutual TLS.
    NeedsMutualTls,
    /// It would be allowed if it did not ask to switch protocols.
    UpgradeNotNamed,
}

impl RuleSet {
    /// Takes the rules of each direction; a rule's own `direction` is not looked at again.
    #[must_use]
    pub fn new(inbound: Vec<Rule>, outbound: Vec<Rule>) -> Self {
        Self { inbound, outbound }
    }

    /// No rules: nothing passes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The rules of a direction, in the order given.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// Judges one request or one opaque connection.
    pub fn decide(&self, direction: Direction, attributes: &Attributes<'_>) -> Decision<'_> {
        let rules = self.rules(direction);
        let seen = attributes.request.map(|r| Seen::of(&r));
        let decision = judge(rules, direction, attributes, seen);
        if decision.why != Why::NoRule(None) {
            return decision;
        }
        Decision { why: Why::NoRule(hint(rules, direction, attributes, seen)), ..decision }
    }

    /// Every rule that matches, for explanations. Includes deny rules that could not be evaluated.
    pub fn matching<'s>(&'s self, direction: Direction, attributes: &Attributes<'_>) -> Vec<RuleRef<'s>> {
        let seen = attributes.request.map(|r| Seen::of(&r));
        let matches = |rule| !matches!(apply(rule, direction, attributes, seen), Outcome::No);
        let rules = self.rules(direction).iter().enumerate();
        rules.filter(|(_, rule)| matches(*rule)).map(|(index, rule)| RuleRef { index, rule }).collect()
    }

    /// Whether an allow rule that lists this port says `protocol = "tcp"`: its bytes are not looked at, so
    /// protocols in which the server speaks first work.
    #[must_use]
    pub fn declares_tcp(&self, direction: Direction, port: u16) -> bool {
        self.allows(direction).any(|r| r.protocol == Some(RuleProtocol::Tcp) && r.ports.contains(&port))
    }

    /// Whether an inbound allow rule for this port may match without mutual TLS.
    #[must_use]
    pub fn allows_plaintext(&self, port: u16) -> bool {
        self.allows(Direction::Inbound).any(|r| r.plaintext && r.covers_port(port))
    }

    /// Whether an outbound allow rule for this port names the identity and no deny rule refuses all traffic to it.
    #[must_use]
    pub fn accepts_peer(&self, port: u16, id: &SpiffeId) -> bool {
        let names = |r: &Rule| {
            r.covers_port(port) && r.who.rank(Some(id)).is_some() && !r.not_who.iter().any(|p| p.matches(id))
        };
        let refuses_all = |r: &Rule| {
            r.action == Action::Deny && !r.reads_requests() && r.cidrs.is_empty() && r.protocol.is_none() && names(r)
        };
        self.allows(Direction::Outbound).any(|r| matches!(r.who, Who::Ids(_)) && names(r))
            && !self.outbound.iter().any(refuses_all)
    }

    /// Whether an outbound allow rule with `to_cidr` covers this address and port.
    #[must_use]
    pub fn names_cidr(&self, ip: IpAddr, port: u16) -> bool {
        self.allows(Direction::Outbound).any(|r| r.covers_port(port) && r.cidrs.iter().any(|c| c.contains(ip)))
    }

    /// Whether an outbound allow rule with `to` covers this port.
    #[must_use]
    pub fn has_outbound_to(&self, port: u16) -> bool {
        self.allows(Direction::Outbound).any(|r| matches!(r.who, Who::Ids(_)) && r.covers_port(port))
    }

    fn allows(&self, direction: Direction) -> impl Iterator<Item = &Rule> {
        self.rules(direction).iter().filter(|r| r.action == Action::Allow)
    }
}

/// The parts of a request that conditions read. The method stands apart so that a hint can try another.
#[derive(Clone, Copy)]
struct Seen<'a> {
    method: &'a str,
    path: &'a str,
    /// Whether the path has escapes, which are compared by what they stand for.
    escapes: bool,
    host: &'a str,
    grpc: bool,
    upgrade: Option<&'a str>,
}

impl<'a> Seen<'a> {
    fn of(view: &RequestView<'a>) -> Self {
        let target = view.target;
        // gRPC is POST only, whatever the caller of this room made of the content type.
        let grpc = view.grpc && target.method() == "POST";
        Self {
            method: target.method(),
            path: target.path(),
            escapes: target.has_escapes(),
            host: target.host(),
            grpc,
            upgrade: upgrade::asked(target.method(), view.upgrade),
        }
    }
}

/// What one rule says to one request.
enum Outcome<'r> {
    No,
    /// How narrowly it matched: the path's ranks, then the identity's.
    Yes(&'r [u8], u8),
    /// Everything else matches, but the rule reads requests and there is none to read.
    Unreadable(u8),
}

fn judge<'s>(rules: &'s [Rule], direction: Direction, a: &Attributes<'_>, seen: Option<Seen<'_>>) -> Decision<'s> {
    let mut allow = Best::default();
    let mut deny = Best::default();
    let mut unreadable = Best::default();
    let mut declared_opaque = false;
    for (index, rule) in rules.iter().enumerate() {
        let found = RuleRef { index, rule };
        match (apply(rule, direction, a, seen), rule.action) {
            (Outcome::No, _) | (Outcome::Unreadable(_), Action::Allow) => {}
            (Outcome::Yes(path, who), Action::Deny) => deny.offer(found, path, who),
            (Outcome::Unreadable(who), Action::Deny) => unreadable.offer(found, &[], who),
            (Outcome::Yes(path, who), Action::Allow) => {
                declared_opaque |= rule.protocol == Some(RuleProtocol::Tcp);
                allow.offer(found, path, who);
            }
        }
    }
    if deny.is_some() {
        return Decision { verdict: Verdict::Deny, rule: deny.rule(), why: Why::MatchedDeny };
    }
    if unreadable.is_some() && !declared_opaque {
        return Decision { verdict: Verdict::Deny, rule: unreadable.rule(), why: Why::UnreadableDeny };
    }
    if allow.is_some() {
        return Decision { verdict: Verdict::Allow, rule: allow.rule(), why: Why::MatchedAllow };
    }
    Decision { verdict: Verdict::Deny, rule: None, why: Why::NoRule(None) }
}

/// Cheap conditions first: most rules of a set are not about this port or this peer.
fn apply<'r>(rule: &'r Rule, direction: Direction, a: &Attributes<'_>, seen: Option<Seen<'_>>) -> Outcome<'r> {
    if !rule.covers_port(a.port) {
        return Outcome::No;
    }
    let needs_tls = direction == Direction::Inbound && rule.action == Action::Allow && !rule.plaintext;
    if needs_tls && a.plaintext {
        return Outcome::No;
    }
    let Some(who) = rule.who.rank(a.peer) else {
        return Outcome::No;
    };
    if a.peer.is_some_and(|peer| rule.not_who.iter().any(|p| p.matches(peer))) {
        return Outcome::No;
    }
    if !rule.cidrs.is_empty() && !a.ip.is_some_and(|ip| rule.cidrs.iter().any(|c| c.contains(ip))) {
        return Outcome::No;
    }
    match (rule.protocol, seen) {
        (Some(RuleProtocol::Tcp), Some(_)) | (Some(RuleProtocol::Http), None) => Outcome::No,
        (_, None) if rule.reads_requests() => Outcome::Unreadable(who),
        (_, None) => Outcome::Yes(&[], who),
        (_, Some(seen)) => match operation(rule, seen) {
            Some(path) => Outcome::Yes(path, who),
            None => Outcome::No,
        },
    }
}

/// The ranks of the narrowest operation of the rule that covers the request; empty when the rule names none.
fn operation<'r>(rule: &'r Rule, seen: Seen<'_>) -> Option<&'r [u8]> {
    if !rule.covers_upgrade(seen.upgrade) {
        return None;
    }
    if !rule.hosts.is_empty() && !rule.hosts.iter().any(|h| h.matches(seen.host)) {
        return None;
    }
    let covers = |r: &&RequestPattern| {
        if seen.escapes { r.matches(seen.method, seen.path) } else { r.matches_unescaped(seen.method, seen.path) }
    };
    let requests = rule.requests.iter().filter(covers);
    let request = requests.map(|r| r.template.specificity().ranks()).max();
    if !rule.requests.is_empty() && request.is_none() {
        return None;
    }
    let methods = rule.grpc.iter().filter(|g| seen.grpc && g.matches(seen.path));
    let method = methods.map(crate::grpc::GrpcPattern::ranks).max();
    if !rule.grpc.is_empty() && method.is_none() {
        return None;
    }
    Some(request.max(method).unwrap_or(&[]))
}

fn hint(rules: &[Rule], direction: Direction, a: &Attributes<'_>, seen: Option<Seen<'_>>) -> Option<Hint> {
    let allowed = |a: &Attributes<'_>, seen| judge(rules, direction, a, seen).verdict == Verdict::Allow;
    if let Some(seen) = seen
        && seen.method == "HEAD"
        && allowed(a, Some(Seen { method: "GET", ..seen }))
    {
        return Some(Hint::HeadIsNotGet);
    }
    if direction == Direction::Inbound && a.plaintext && allowed(&Attributes { plaintext: false, ..*a }, seen) {
        return Some(Hint::NeedsMutualTls);
    }
    if let Some(seen) = seen
        && seen.upgrade.is_some()
        && allowed(a, Some(Seen { upgrade: None, ..seen }))
    {
        return Some(Hint::UpgradeNotNamed);
    }
    None
}

/// The most specific match so far; of equals, the first by name, then by place.
#[derive(Default)]
struct Best<'r>(Option<(RuleRef<'r>, &'r [u8], u8)>);

impl<'r> Best<'r> {
    fn offer(&mut self, found: RuleRef<'r>, path: &'r [u8], who: u8) {
        let better = self.0.as_ref().is_none_or(|(old, old_path, old_who)| {
            compare(path, old_path)
                .then(who.cmp(old_who))
                .then_with(|| old.rule.name.cmp(&found.rule.name))
                .then(old.index.cmp(&found.index))
                .is_gt()
        });
        if better {
            self.0 = Some((found, path, who));
        }
    }

    fn is_some(&self) -> bool {
        self.0.is_some()
    }

    fn rule(&self) -> Option<RuleRef<'r>> {
        self.0.as_ref().map(|(r, _, _)| *r)
    }
}

/// Lexicographic. Ranks are few and often none, so a loop beats a call; `memcmp` of two empty slices, whose
/// pointers may be to no page, was measured at 80 ns.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().cmp(b)
}

impl Verdict {
    /// `allow` or `deny`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl Decision<'_> {
    /// Whether it may pass.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

impl Why {
    /// Snake case, stable, for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MatchedAllow => "matched_allow",
            Self::MatchedDeny => "matched_deny",
            Self::UnreadableDeny => "unreadable_deny",
            Self::NoRule(None) => "no_rule",
            Self::NoRule(Some(hint)) => hint.as_str(),
        }
    }
}

impl Hint {
    /// Snake case, stable, for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HeadIsNotGet => "no_rule_head_is_not_get",
            Self::NeedsMutualTls => "no_rule_needs_mutual_tls",
            Self::UpgradeNotNamed => "no_rule_upgrade_not_named",
        }
    }

    /// A sentence for the operator of the refused caller.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::HeadIsNotGet => "GET is allowed here, and GET does not include HEAD",
            Self::NeedsMutualTls => "this is allowed with mutual TLS",
            Self::UpgradeNotNamed => {
                "this is allowed without the switch of protocols, which no rule names in `upgrade`"
            }
        }
    }
}
