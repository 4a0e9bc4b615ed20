//! The verdict of a set of rules: default deny, deny overrides, order does not matter.
//!
//! In: what is verified and known about one request or connection ([`Attributes`]).
//! Out: allow or deny, the rule that is reported for it, and why. The reported rule is the most specific
//! match (path, then identity, then name); reporting never changes the verdict.
//!
//! Two readings are strict on purpose. A deny rule holds with or without mutual TLS. A deny rule that looks
//! into requests cannot be evaluated on opaque bytes, so there it refuses, unless an allow rule that matches
//! declares `protocol = "tcp"`: otherwise a caller could dodge it by not looking like HTTP.

use crate::canonical::{PathOptions, Target};
use crate::case::{self, PathCase};
use crate::compiled::{Compiled, Known};
use crate::linear::{self, Outcome, Seen};
use crate::party::Party;
use crate::rule::{Direction, Rule};
use identity::SpiffeId;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

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

/// The rules of one workload, both directions, with the tables by which they are judged.
#[derive(Clone)]
pub struct RuleSet {
    paths: PathOptions,
    /// Invariant: these and the outbound ones compare paths as `paths` says.
    inbound: Vec<Rule>,
    outbound: Vec<Rule>,
    /// Invariant: made from these rules, in this order.
    compiled: Arc<Compiled>,
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
    /// Takes the rules of each direction and makes their tables; a rule's own `direction` is not looked at again.
    #[must_use]
    pub fn new(inbound: Vec<Rule>, outbound: Vec<Rule>) -> Self {
        Self::reading(PathOptions::default(), inbound, outbound)
    }

    /// The same for requests whose paths are read and compared in this way.
    #[must_use]
    pub fn reading(paths: PathOptions, inbound: Vec<Rule>, outbound: Vec<Rule>) -> Self {
        let comparing = |rules: Vec<Rule>| rules.into_iter().map(|rule| rule.comparing(paths.case)).collect();
        let (inbound, outbound): (Vec<Rule>, Vec<Rule>) = (comparing(inbound), comparing(outbound));
        let compiled = Arc::new(Compiled::new(&inbound, &outbound));
        Self { paths, inbound, outbound, compiled }
    }

    /// How requests that are judged by these rules are read: what [`crate::canonicalise`] takes.
    #[must_use]
    pub const fn path_options(&self) -> &PathOptions {
        &self.paths
    }

    /// No rules: nothing passes.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The rules of a direction, in the order given and as they are compared: their texts are those that were written.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// Judges one request or one opaque connection. What it costs hardly depends on the number of rules, and it
    /// allocates nothing, except for a path longer than a kilobyte that has escapes or is compared without regard to case.
    pub fn decide(&self, direction: Direction, attributes: &Attributes<'_>) -> Decision<'_> {
        self.decide_knowing(direction, attributes, None)
    }

    /// [`RuleSet::decide`] for somebody whose part in the rules was looked up before. Where `party` was introduced to
    /// other rules, it is looked up again.
    pub fn decide_for(
        &self,
        party: &Party,
        plaintext: bool,
        port: u16,
        request: Option<RequestView<'_>>,
    ) -> Decision<'_> {
        let attributes = Attributes { peer: party.peer(), plaintext, ip: party.ip(), port, request };
        self.decide_knowing(party.direction(), &attributes, party.known_to(&self.compiled))
    }

    /// Whether somebody was introduced to these rules, or to a clone of them, and not to others.
    #[must_use]
    pub fn knows(&self, party: &Party) -> bool {
        party.known_to(&self.compiled).is_some()
    }

    fn decide_knowing(&self, direction: Direction, a: &Attributes<'_>, known: Option<&Known>) -> Decision<'_> {
        let (rules, index) = (self.rules(direction), self.compiled.index(direction));
        if self.paths.case == PathCase::Insensitive {
            return self.decide_folding(direction, a, known);
        }
        let seen = a.request.map(|r| Seen::of(&r));
        linear::with_hint(direction, a, seen, |a, seen| index.judge(rules, direction, a, known, seen))
    }

    /// Apart, so that who compares letter by letter pays one comparison for it.
    #[inline(never)]
    fn decide_folding(&self, direction: Direction, a: &Attributes<'_>, known: Option<&Known>) -> Decision<'_> {
        let (rules, index) = (self.rules(direction), self.compiled.index(direction));
        self.with_seen(a, |seen| {
            linear::with_hint(direction, a, seen, |a, seen| index.judge(rules, direction, a, known, seen))
        })
    }

    /// Looks up which rules may be about somebody: the verified caller of an inbound connection, or the identity that the
    /// other end of an outbound one must prove and the address that would be dialled.
    #[must_use]
    pub fn introduce(&self, direction: Direction, peer: Option<SpiffeId>, ip: Option<IpAddr>) -> Party {
        Party::new(&self.compiled, direction, peer, ip)
    }

    /// The same decision, found by asking every rule in turn. This is the specification; [`RuleSet::decide`] always
    /// agrees with it.
    pub fn decide_linear(&self, direction: Direction, attributes: &Attributes<'_>) -> Decision<'_> {
        let rules = self.rules(direction);
        self.with_seen(attributes, |seen| {
            linear::with_hint(direction, attributes, seen, |a, seen| linear::judge(rules, direction, a, seen))
        })
    }

    /// Every rule that matches, for explanations. Includes deny rules that could not be evaluated.
    pub fn matching<'s>(&'s self, direction: Direction, attributes: &Attributes<'_>) -> Vec<RuleRef<'s>> {
        self.with_seen(attributes, |seen| {
            let matches = |rule| !matches!(linear::apply(rule, direction, attributes, seen), Outcome::No);
            let rules = self.rules(direction).iter().enumerate();
            rules.filter(|(_, rule)| matches(*rule)).map(|(index, rule)| RuleRef { index, rule }).collect()
        })
    }

    /// Gives `judge` what conditions read of a request, its path as these rules compare it.
    fn with_seen<T>(&self, a: &Attributes<'_>, judge: impl FnOnce(Option<Seen<'_>>) -> T) -> T {
        let seen = a.request.map(|r| Seen::of(&r));
        match (self.paths.case, seen) {
            (PathCase::Insensitive, Some(seen)) => {
                case::with_folded(seen.path, |path| judge(Some(Seen { path, ..seen })))
            }
            (_, seen) => judge(seen),
        }
    }

    /// Whether an allow rule that lists this port says `protocol = "tcp"`: its bytes are not looked at, so
    /// protocols in which the server speaks first work.
    #[must_use]
    pub fn declares_tcp(&self, direction: Direction, port: u16) -> bool {
        self.compiled.connections.declares_tcp(direction, port)
    }

    /// Whether an inbound allow rule for this port may match without mutual TLS.
    #[must_use]
    pub fn allows_plaintext(&self, port: u16) -> bool {
        self.compiled.connections.allows_plaintext(port)
    }

    /// Whether an outbound allow rule for this port names the identity and no deny rule refuses all traffic to it.
    #[must_use]
    pub fn accepts_peer(&self, port: u16, id: &SpiffeId) -> bool {
        self.compiled.connections.accepts_peer(&self.outbound, id, port)
    }

    /// Whether an outbound allow rule with `to_cidr` covers this address and port.
    #[must_use]
    pub fn names_cidr(&self, ip: IpAddr, port: u16) -> bool {
        self.compiled.connections.names_cidr(&self.outbound, ip, port)
    }

    /// Whether an outbound allow rule with `to` covers this port.
    #[must_use]
    pub fn has_outbound_to(&self, port: u16) -> bool {
        self.compiled.connections.has_outbound_to(port)
    }
}

impl Default for RuleSet {
    fn default() -> Self {
        Self::new(Vec::new(), Vec::new())
    }
}

/// Equal rules in equal order, comparing paths alike; the tables follow from them.
impl PartialEq for RuleSet {
    fn eq(&self, other: &Self) -> bool {
        self.paths == other.paths && self.inbound == other.inbound && self.outbound == other.outbound
    }
}

impl Eq for RuleSet {}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { paths, inbound, outbound, compiled: _ } = self;
        let mut debug = f.debug_struct("RuleSet");
        debug.field("paths", paths).field("inbound", inbound).field("outbound", outbound).finish_non_exhaustive()
    }
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
