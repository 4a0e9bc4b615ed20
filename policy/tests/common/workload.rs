//! Sets of rules of one workload as they grow in practice, and requests to them: 200 identities and patterns over them,
//! overlapping typed templates, one rule in ten denies.

use super::random::Random;
use identity::{SpiffeId, TrustDomain};
use policy::{
    Action, Attributes, Direction, IdPattern, PathOptions, RawTarget, RequestPattern, RequestView, Rule, RuleSet,
    Scheme, Target, Who, Why, canonicalise,
};

/// One request with whom it comes from.
pub(crate) struct Asked {
    pub(crate) peer: SpiffeId,
    pub(crate) target: Target<'static>,
}

impl Asked {
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        let request = Some(RequestView { target: &self.target, grpc: false, upgrade: None });
        Attributes { peer: Some(&self.peer), plaintext: false, ip: None, port: 8080, request }
    }
}

fn own() -> TrustDomain {
    TrustDomain::parse("prod.example.org").unwrap()
}

/// Identities that call: 320 services of 40 teams.
pub(crate) fn peers() -> Vec<SpiffeId> {
    let name = |i: usize| format!("team-{}/{}-service-{}", i % 40, ["web", "batch", "edge", "cron"][i % 4], i / 40);
    (0..320).map(|i| SpiffeId::workload(&own(), &name(i)).unwrap()).collect()
}

/// What rules write for them: 160 exact, 40 patterns of three shapes, a namespace, a trust domain.
fn patterns(peers: &[SpiffeId]) -> Vec<IdPattern> {
    let exact = peers.iter().take(160).map(|id| id.to_string());
    let globs = (0..40).map(|i| match i % 4 {
        0 => format!("team-{i}/*"),
        1 => format!("team-{i}/web-*"),
        2 => format!("team-{}*/batch-service-{}", i % 3 + 1, i % 8),
        _ => format!("ns:team-{i}"),
    });
    exact.chain(globs).map(|text| IdPattern::parse(&text, &own()).unwrap()).collect()
}

/// Templates of one resource that overlap.
const TEMPLATES: [&str; 12] = [
    "GET,HEAD /v1/R",
    "POST /v1/R",
    "GET,HEAD /v1/R/{id:uint}",
    "PUT,PATCH,DELETE /v1/R/{id:uint}",
    "GET /v1/R/{id:uuid}",
    "GET /v1/R/{name:slug}",
    "GET /v1/R/{any}",
    "GET,POST /v1/R/{id:uint}/items",
    "GET,DELETE /v1/R/{id:uint}/items/{item:hex}",
    "GET /v1/R/export-{day:date}.csv",
    "GET /v1/{tenant:slug}/R/{id:uint}",
    "* /internal/R/{rest...}",
];

/// So many rules.
pub(crate) fn rules(count: usize, random: &mut Random) -> Vec<Rule> {
    let peers = peers();
    let patterns = patterns(&peers);
    // A resource has about eight rules, whoever they are for.
    let resources = (count / 8).max(2);
    let rule = |i: usize| {
        let deny = i % 10 == 9;
        let who = match random.below(20) {
            0 if deny => Who::Anyone,
            0 if i.is_multiple_of(3) => Who::Ids(vec![IdPattern::parse("td:prod.example.org", &own()).unwrap()]),
            n => Who::Ids((0..n % 3 + 1).map(|_| random.of(&patterns).clone()).collect()),
        };
        let requests = (0..random.below(2) + 1).map(|_| {
            let template = random.of(&TEMPLATES).replace('R', &format!("resource-{}", random.below(resources)));
            RequestPattern::parse(&template).unwrap()
        });
        let requests = requests.collect();
        let action = if deny { Action::Deny } else { Action::Allow };
        let ports = if i.is_multiple_of(4) { vec![8080] } else { Vec::new() };
        Rule { requests, ports, ..Rule::new(&format!("rule-{i}"), action, Direction::Inbound, who) }
    };
    (0..count).map(rule).collect()
}

/// So many rules as most workloads have them: callers named in full, a path or two each.
#[allow(dead_code)] // the benchmark asks, the test does not
pub(crate) fn few(count: usize) -> Vec<Rule> {
    let callers = peers();
    let rule = |i: usize| {
        let id = IdPattern::parse(callers[i].as_str(), &own()).unwrap();
        let requests = [format!("GET,HEAD /api/resource-{i}"), format!("GET,HEAD /api/resource-{i}/{{id:uint}}")];
        let requests = requests.iter().map(|r| RequestPattern::parse(r).unwrap()).collect();
        Rule { requests, ..Rule::new(&format!("rule-{i}"), Action::Allow, Direction::Inbound, Who::Ids(vec![id])) }
    };
    (0..count).map(rule).collect()
}

fn target(method: &str, path: &str) -> Target<'static> {
    let raw = RawTarget { method, path_and_query: path, authority: "orders.shop.svc", scheme: Scheme::Http };
    canonicalise(&PathOptions::default(), &raw).unwrap().into_owned()
}

/// A path of a template.
fn path_of(template: &str, random: &mut Random) -> String {
    let mut path = template.to_owned();
    for (kind, value) in [
        (":uint}", random.below(100_000).to_string()),
        (":uuid}", format!("123e4567-e89b-12d3-a456-{:012}", random.below(1_000_000))),
        (":slug}", format!("blue-suede-{}", random.below(1000))),
        (":hex}", format!("{:x}", random.below(1 << 30))),
        (":date}", format!("2026-11-{:02}", random.below(28) + 1)),
        ("...}", format!("a/b/{}", random.below(100))),
        ("}", format!("Any_{}", random.below(1000))),
    ] {
        while let Some(end) = path.find(kind) {
            let start = path[..end].rfind('{').unwrap();
            path.replace_range(start..end + kind.len(), &value);
        }
    }
    path
}

/// Requests that have this outcome, each made from a rule drawn from all.
pub(crate) fn requests(rules: &RuleSet, wanted: Why, count: usize, random: &mut Random) -> Vec<Asked> {
    let peers = peers();
    let all = rules.rules(Direction::Inbound);
    let mut found = Vec::new();
    // A small set may have no such request.
    for _ in 0..count * 200 {
        let rule = random.of(all);
        let request = random.of(&rule.requests);
        let methods = request.methods.to_string();
        let methods: Vec<&str> = if methods == "*" { vec!["GET"] } else { methods.split(',').collect() };
        let meant: Vec<&SpiffeId> = match &rule.who {
            Who::Anyone => peers.iter().collect(),
            Who::Ids(ids) => peers.iter().filter(|peer| ids.iter().any(|id| id.matches(peer))).collect(),
        };
        if meant.is_empty() {
            continue;
        }
        let mut peer = (*random.of(&meant)).clone();
        let mut method = *random.of(&methods);
        let mut path = path_of(request.template.as_str(), random);
        // A miss is a near one: another caller, another method, a longer path, another resource.
        if matches!(wanted, Why::NoRule(_)) {
            match random.below(4) {
                0 => peer = random.of(&peers).clone(),
                1 => method = "OPTIONS",
                2 => path.push_str("/more"),
                _ => path = path.replace("resource", "another"),
            }
        }
        let asked = Asked { peer, target: target(method, &path) };
        if rules.decide_linear(Direction::Inbound, &asked.attributes()).why == wanted {
            found.push(asked);
            if found.len() == count {
                break;
            }
        }
    }
    found
}
