//! The verdict, rule by rule: the specification of what a set of rules means. [`crate::RuleSet::decide`] gives the same answers
//! from tables that are made once (`compiled`); tests hold the two equal, and explanations come from here.

use crate::decide::{Attributes, Decision, Hint, RequestView, RuleRef, Verdict, Why};
use crate::request::RequestPattern;
use crate::rule::{Action, Direction, Rule, RuleProtocol};
use crate::upgrade;
use std::cmp::Ordering;

/// The parts of a request that conditions read. The method stands apart so that a hint can try another.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) method: &'a str,
    /// As rules compare it: in lower case where case does not count.
    pub(crate) path: &'a str,
    /// Whether the path has escapes, which are compared by what they stand for.
    pub(crate) escapes: bool,
    pub(crate) host: &'a str,
    pub(crate) grpc: bool,
    pub(crate) upgrade: Option<&'a str>,
}

impl<'a> Seen<'a> {
    pub(crate) fn of(view: &RequestView<'a>) -> Self {
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
#[derive(Clone, Copy)]
pub(crate) enum Outcome<'r> {
    No,
    /// How narrowly it matched: the path's ranks, then the identity's.
    Yes(&'r [u8], u8),
    /// Everything else matches, but the rule reads requests and there is none to read.
    Unreadable(u8),
}

pub(crate) fn judge<'s>(
    rules: &'s [Rule],
    direction: Direction,
    a: &Attributes<'_>,
    seen: Option<Seen<'_>>,
) -> Decision<'s> {
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
pub(crate) fn apply<'r>(
    rule: &'r Rule,
    direction: Direction,
    a: &Attributes<'_>,
    seen: Option<Seen<'_>>,
) -> Outcome<'r> {
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
    if rule.leaves_out(a.peer) || !rule.covers_address(a.ip) {
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
    if !rule.covers_upgrade(seen.upgrade) || !rule.covers_host(seen.host) {
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

/// The verdict of one way to judge, with what is one small step from being allowed where nothing is.
#[inline(always)] // there is one caller for each way to judge, and what is seen of a request is some eighty bytes
pub(crate) fn with_hint<'s>(
    direction: Direction,
    a: &Attributes<'_>,
    seen: Option<Seen<'_>>,
    judge: impl Fn(&Attributes<'_>, Option<Seen<'_>>) -> Decision<'s>,
) -> Decision<'s> {
    let decision = judge(a, seen);
    if decision.why != Why::NoRule(None) {
        return decision;
    }
    let allowed = |a: &Attributes<'_>, seen: Option<Seen<'_>>| judge(a, seen).verdict == Verdict::Allow;
    Decision { why: Why::NoRule(hint(direction, a, seen, allowed)), ..decision }
}

fn hint(
    direction: Direction,
    a: &Attributes<'_>,
    seen: Option<Seen<'_>>,
    allowed: impl Fn(&Attributes<'_>, Option<Seen<'_>>) -> bool,
) -> Option<Hint> {
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
