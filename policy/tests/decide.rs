//! The semantics of a set of rules, seen from outside: default deny, deny overrides, order does not matter,
//! and what each key of a rule means.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use identity::{SpiffeId, TrustDomain};
use policy::{
    Action, Attributes, Cidr, Direction, GrpcPattern, Hint, HostPattern, IdPattern, PathOptions, RawTarget,
    RequestPattern, RequestView, Rule, RuleProtocol, RuleSet, Scheme, Target, UpgradePattern, Verdict, Who, Why,
    canonicalise,
};
use proptest::prelude::*;

fn id(ns_sa: &str) -> SpiffeId {
    SpiffeId::workload(&TrustDomain::parse("example.org").unwrap(), ns_sa).unwrap()
}

fn ids(patterns: &[&str]) -> Vec<IdPattern> {
    let own = TrustDomain::parse("example.org").unwrap();
    patterns.iter().map(|p| IdPattern::parse(p, &own).unwrap()).collect()
}

fn requests(patterns: &[&str]) -> Vec<RequestPattern> {
    patterns.iter().map(|p| RequestPattern::parse(p).unwrap()).collect()
}

fn inbound(name: &str, action: Action, from: &[&str]) -> Rule {
    let who = if from == ["anyone"] { Who::Anyone } else { Who::Ids(ids(from)) };
    Rule::new(name, action, Direction::Inbound, who)
}

fn outbound(name: &str, action: Action, to: &[&str]) -> Rule {
    Rule { direction: Direction::Outbound, ..inbound(name, action, to) }
}

fn target<'a>(method: &'a str, path: &'a str) -> Target<'a> {
    let raw = RawTarget { method, path_and_query: path, authority: "orders.shop.svc", scheme: Scheme::Http };
    canonicalise(&PathOptions::default(), &raw).unwrap()
}

/// A request over mutual TLS to port 8080.
fn http<'a>(peer: Option<&'a SpiffeId>, target: &'a Target<'a>) -> Attributes<'a> {
    let request = Some(RequestView { target, grpc: false, upgrade: None });
    Attributes { peer, plaintext: false, ip: None, port: 8080, request }
}

fn opaque(peer: Option<&SpiffeId>, port: u16) -> Attributes<'_> {
    Attributes { peer, plaintext: false, ip: None, port, request: None }
}

fn only(rule: Rule) -> RuleSet {
    match rule.direction {
        Direction::Inbound => RuleSet::new(vec![rule], vec![]),
        Direction::Outbound => RuleSet::new(vec![], vec![rule]),
    }
}

#[test]
fn without_rules_nothing_passes_in_either_direction() {
    let web = id("shop/web");
    let get = target("GET", "/");
    for direction in [Direction::Inbound, Direction::Outbound] {
        let rules = RuleSet::empty();
        let decision = rules.decide(direction, &http(Some(&web), &get));
        assert_eq!((decision.verdict, decision.rule, decision.why), (Verdict::Deny, None, Why::NoRule(None)));
    }
}

#[test]
fn a_rule_allows_what_it_names_and_nothing_else() {
    let mut rule = inbound("web-reads-orders", Action::Allow, &["shop/web"]);
    rule.requests = requests(&["GET,HEAD /api/orders", "GET,HEAD /api/orders/{id:uint}"]);
    let rules = only(rule);
    let (web, other) = (id("shop/web"), id("shop/other"));
    let verdict = |peer, method, path| {
        let target = target(method, path);
        rules.decide(Direction::Inbound, &http(peer, &target)).verdict
    };
    assert_eq!(verdict(Some(&web), "GET", "/api/orders/42"), Verdict::Allow);
    assert_eq!(verdict(Some(&web), "HEAD", "/api/orders"), Verdict::Allow);
    assert_eq!(verdict(Some(&web), "GET", "/api/%6frders/42?x=1"), Verdict::Allow);
    for (peer, method, path) in [
        (Some(&other), "GET", "/api/orders/42"),
        (None, "GET", "/api/orders/42"),
        (Some(&web), "DELETE", "/api/orders/42"),
        (Some(&web), "GET", "/api/orders/x"),
        (Some(&web), "GET", "/api/orders/42/"),
        (Some(&web), "GET", "/API/orders/42"),
    ] {
        assert_eq!(verdict(peer, method, path), Verdict::Deny, "{peer:?} {method} {path}");
    }
    // The other direction has rules of its own.
    let get = target("GET", "/api/orders");
    assert_eq!(rules.decide(Direction::Outbound, &http(Some(&web), &get)).verdict, Verdict::Deny);
}

#[test]
fn deny_overrides_allow_and_names_itself() {
    let mut deny = inbound("nobody-touches-admin", Action::Deny, &["anyone"]);
    deny.not_who = ids(&["platform/ops"]);
    deny.requests = requests(&["* /admin", "* /admin/{rest...}"]);
    let all = inbound("all", Action::Allow, &["td:example.org"]);
    let rules = RuleSet::new(vec![all, deny], vec![]);
    let (web, ops) = (id("shop/web"), id("platform/ops"));
    for path in ["/admin", "/admin/", "/admin/users", "/%61dmin", "/admin/a%40b"] {
        let target = target("GET", path);
        let decision = rules.decide(Direction::Inbound, &http(Some(&web), &target));
        assert_eq!(decision.why, Why::MatchedDeny, "{path}");
        assert_eq!(&*decision.rule.unwrap().rule.name, "nobody-touches-admin");
        assert_eq!(decision.rule.unwrap().index, 1);
        assert!(rules.decide(Direction::Inbound, &http(Some(&ops), &target)).is_allowed());
    }
    let free = target("GET", "/administer");
    assert!(rules.decide(Direction::Inbound, &http(Some(&web), &free)).is_allowed());
}

#[test]
fn without_mutual_tls_only_a_plaintext_rule_allows_and_every_deny_rule_holds() {
    let mut export = inbound("old-erp", Action::Allow, &["anyone"]);
    export.plaintext = true;
    let mut deny = inbound("no-admin", Action::Deny, &["anyone"]);
    deny.requests = requests(&["* /admin/{rest...}"]);
    let mtls_only = inbound("anyone-with-a-certificate", Action::Allow, &["anyone"]);
    let plain = |rules: &RuleSet, path: &str| {
        let target = target("GET", path);
        let a = Attributes { plaintext: true, ..http(None, &target) };
        let decision = rules.decide(Direction::Inbound, &a);
        (decision.verdict, decision.why)
    };
    let rules = RuleSet::new(vec![export.clone(), deny.clone()], vec![]);
    assert_eq!(plain(&rules, "/export").0, Verdict::Allow);
    assert_eq!(plain(&rules, "/admin/x"), (Verdict::Deny, Why::MatchedDeny));
    assert_eq!(plain(&only(mtls_only), "/export"), (Verdict::Deny, Why::NoRule(Some(Hint::NeedsMutualTls))));
    assert!(rules.allows_plaintext(8080));
    assert!(!only(deny).allows_plaintext(8080));
    // With mutual TLS the plaintext rule matches as well.
    let (web, get) = (id("shop/web"), target("GET", "/export"));
    assert!(only(export).decide(Direction::Inbound, &http(Some(&web), &get)).is_allowed());
}

#[test]
fn a_rule_for_requests_never_allows_opaque_bytes() {
    let web = id("shop/web");
    for narrow in [
        Rule { requests: requests(&["* /{rest...}"]), ..inbound("r", Action::Allow, &["shop/web"]) },
        Rule { grpc: vec![GrpcPattern::parse("a.B/*").unwrap()], ..inbound("g", Action::Allow, &["shop/web"]) },
        Rule { hosts: vec![HostPattern::parse("a").unwrap()], ..inbound("h", Action::Allow, &["shop/web"]) },
        Rule { protocol: Some(RuleProtocol::Http), ..inbound("p", Action::Allow, &["shop/web"]) },
    ] {
        assert_eq!(only(narrow).decide(Direction::Inbound, &opaque(Some(&web), 8080)).verdict, Verdict::Deny);
    }
    let wide = only(inbound("all", Action::Allow, &["shop/web"]));
    assert!(wide.decide(Direction::Inbound, &opaque(Some(&web), 8080)).is_allowed());
}

#[test]
fn a_deny_rule_that_cannot_be_evaluated_denies_unless_the_port_is_declared_opaque() {
    let web = id("shop/web");
    let deny = Rule { requests: requests(&["* /admin"]), ..inbound("no-admin", Action::Deny, &["anyone"]) };
    let wide = inbound("all", Action::Allow, &["shop/web"]);
    let declared =
        Rule { protocol: Some(RuleProtocol::Tcp), ports: vec![5432], ..inbound("db", Action::Allow, &["shop/web"]) };
    let rules = RuleSet::new(vec![deny, wide, declared], vec![]);
    let undeclared = rules.decide(Direction::Inbound, &opaque(Some(&web), 8080));
    assert_eq!((undeclared.why, &*undeclared.rule.unwrap().rule.name), (Why::UnreadableDeny, "no-admin"));
    assert!(rules.decide(Direction::Inbound, &opaque(Some(&web), 5432)).is_allowed());
    assert!(rules.declares_tcp(Direction::Inbound, 5432));
    assert!(!rules.declares_tcp(Direction::Inbound, 8080));
}

#[test]
fn a_tcp_rule_does_not_match_what_was_read_as_http() {
    let web = id("shop/web");
    let get = target("GET", "/");
    let rules = only(Rule { protocol: Some(RuleProtocol::Tcp), ..inbound("db", Action::Allow, &["shop/web"]) });
    assert!(!rules.decide(Direction::Inbound, &http(Some(&web), &get)).is_allowed());
    assert!(rules.decide(Direction::Inbound, &opaque(Some(&web), 1)).is_allowed());
}

#[test]
fn grpc_rules_want_grpc_and_request_rules_take_it_too() {
    let web = id("shop/web");
    let watch = Rule {
        grpc: vec![GrpcPattern::parse("shop.v1.Orders/Watch").unwrap()],
        ..inbound("g", Action::Allow, &["shop/web"])
    };
    let by_path =
        Rule { requests: requests(&["POST /shop.v1.Orders/Watch"]), ..inbound("r", Action::Allow, &["shop/web"]) };
    let judge = |rule: &Rule, method: &str, path: &str, grpc: bool| {
        let target = target(method, path);
        let request = Some(RequestView { target: &target, grpc, upgrade: None });
        only(rule.clone()).decide(Direction::Inbound, &Attributes { request, ..opaque(Some(&web), 9090) }).is_allowed()
    };
    assert!(judge(&watch, "POST", "/shop.v1.Orders/Watch", true));
    assert!(!judge(&watch, "POST", "/shop.v1.Orders/Watch", false), "a plain request to a gRPC path");
    assert!(!judge(&watch, "GET", "/shop.v1.Orders/Watch", true), "gRPC is POST");
    assert!(!judge(&watch, "POST", "/shop.v1.Orders/Cancel", true));
    assert!(judge(&by_path, "POST", "/shop.v1.Orders/Watch", true));
}

#[test]
fn every_key_of_a_rule_must_hold() {
    let web = id("shop/web");
    let rule = Rule {
        ports: vec![8080],
        hosts: vec![HostPattern::parse("orders.shop.svc").unwrap()],
        requests: requests(&["GET /a"]),
        ..inbound("narrow", Action::Allow, &["shop/web"])
    };
    let get = target("GET", "/a");
    assert!(only(rule.clone()).decide(Direction::Inbound, &http(Some(&web), &get)).is_allowed());
    let elsewhere = Attributes { port: 8081, ..http(Some(&web), &get) };
    assert!(!only(rule.clone()).decide(Direction::Inbound, &elsewhere).is_allowed());
    let other_host = Rule { hosts: vec![HostPattern::parse("*.shop.svc.cluster.local").unwrap()], ..rule };
    assert!(!only(other_host).decide(Direction::Inbound, &http(Some(&web), &get)).is_allowed());
}

#[test]
fn an_empty_list_of_identities_is_nobody_and_not_anybody() {
    let web = id("shop/web");
    let rules = only(Rule::new("none", Action::Allow, Direction::Inbound, Who::Ids(vec![])));
    assert!(!rules.decide(Direction::Inbound, &opaque(Some(&web), 1)).is_allowed());
    assert!(!rules.decide(Direction::Inbound, &opaque(None, 1)).is_allowed());
}

#[test]
fn an_address_rule_needs_the_address() {
    let feed = Rule {
        cidrs: vec![Cidr::parse("192.229.173.207/32").unwrap()],
        ..outbound("feed", Action::Allow, &["anyone"])
    };
    let rules = only(feed);
    let to = |ip: Option<&str>| {
        let a = Attributes { ip: ip.map(|ip| ip.parse().unwrap()), ..opaque(None, 443) };
        rules.decide(Direction::Outbound, &a).is_allowed()
    };
    assert!(to(Some("192.229.173.207")));
    assert!(to(Some("::ffff:192.229.173.207")));
    assert!(!to(Some("192.229.173.208")));
    assert!(!to(None));
    assert!(rules.names_cidr("192.229.173.207".parse().unwrap(), 443));
    assert!(!rules.has_outbound_to(443));
}

#[test]
fn a_peer_is_accepted_only_if_a_rule_for_its_port_names_it() {
    let (mongo, redis) = (id("app/mongo"), id("app/redis"));
    let to_mongo = Rule { ports: vec![27017], ..outbound("app-to-mongo", Action::Allow, &["app/mongo"]) };
    let rules = only(to_mongo.clone());
    assert!(rules.accepts_peer(27017, &mongo));
    assert!(!rules.accepts_peer(27017, &redis));
    assert!(!rules.accepts_peer(6379, &mongo));
    assert!(rules.has_outbound_to(27017) && !rules.has_outbound_to(6379));
    let denied = RuleSet::new(vec![], vec![to_mongo.clone(), outbound("quarantine", Action::Deny, &["app/mongo"])]);
    assert!(!denied.accepts_peer(27017, &mongo));
    let partly = Rule { requests: requests(&["* /admin"]), ..outbound("no-admin", Action::Deny, &["app/mongo"]) };
    assert!(RuleSet::new(vec![], vec![to_mongo, partly]).accepts_peer(27017, &mongo));
}

#[test]
fn a_denied_head_says_that_get_is_allowed() {
    let web = id("shop/web");
    let rules = only(Rule { requests: requests(&["GET /a"]), ..inbound("r", Action::Allow, &["shop/web"]) });
    let (head, post) = (target("HEAD", "/a"), target("POST", "/a"));
    assert_eq!(rules.decide(Direction::Inbound, &http(Some(&web), &head)).why, Why::NoRule(Some(Hint::HeadIsNotGet)));
    assert_eq!(rules.decide(Direction::Inbound, &http(Some(&web), &post)).why, Why::NoRule(None));
}

/// A GET that asks to switch to `protocol`, or a CONNECT.
fn switching(rules: &RuleSet, target: &Target<'_>, protocol: Option<&str>) -> Why {
    let web = id("shop/web");
    let request = Some(RequestView { target, grpc: false, upgrade: protocol });
    rules.decide(Direction::Inbound, &Attributes { request, ..opaque(Some(&web), 8080) }).why
}

fn upgrades(names: &[&str]) -> Vec<UpgradePattern> {
    names.iter().map(|n| UpgradePattern::parse(n).unwrap()).collect()
}

#[test]
fn a_switch_of_protocol_passes_only_where_a_rule_names_it() {
    let plain = Rule { requests: requests(&["GET /live"]), ..inbound("page", Action::Allow, &["shop/web"]) };
    let socket = Rule { upgrade: upgrades(&["websocket"]), ..plain.clone() };
    let live = target("GET", "/live");
    let denied = Why::NoRule(Some(Hint::UpgradeNotNamed));
    for (rule, protocol, why) in [
        (&plain, None, Why::MatchedAllow),
        (&plain, Some("websocket"), denied),
        (&socket, None, Why::MatchedAllow),
        (&socket, Some("websocket"), Why::MatchedAllow),
        (&socket, Some("WebSocket"), Why::MatchedAllow),
        (&socket, Some("h2c"), denied),
        (&socket, Some(""), denied),
        (&socket, Some("connect"), denied),
        (&socket, Some("websocket, h2c"), denied),
    ] {
        assert_eq!(switching(&only(rule.clone()), &live, protocol), why, "{:?} {protocol:?}", rule.upgrade);
    }
    // The other keys hold as ever.
    assert_eq!(switching(&only(socket), &target("GET", "/other"), Some("websocket")), Why::NoRule(None));
}

#[test]
fn a_deny_rule_holds_for_switches_and_one_that_names_them_for_nothing_else() {
    let allow = Rule { upgrade: upgrades(&["websocket", "irc"]), ..inbound("all", Action::Allow, &["shop/web"]) };
    let all = inbound("nothing", Action::Deny, &["anyone"]);
    let sockets = Rule { upgrade: upgrades(&["websocket"]), ..inbound("no-sockets", Action::Deny, &["anyone"]) };
    let get = target("GET", "/");
    let with = |deny: &Rule| RuleSet::new(vec![allow.clone(), deny.clone()], vec![]);
    assert_eq!(switching(&with(&all), &get, Some("websocket")), Why::MatchedDeny);
    assert_eq!(switching(&with(&all), &get, None), Why::MatchedDeny);
    assert_eq!(switching(&with(&sockets), &get, Some("WEBSOCKET")), Why::MatchedDeny);
    assert_eq!(switching(&with(&sockets), &get, Some("irc")), Why::MatchedAllow);
    assert_eq!(switching(&with(&sockets), &get, None), Why::MatchedAllow);
    // Opaque bytes have no `Upgrade` field to read: no leave, and no way round the refusal.
    let web = id("shop/web");
    let opaque_bytes = opaque(Some(&web), 8080);
    assert!(!only(allow.clone()).decide(Direction::Inbound, &opaque_bytes).is_allowed());
    let wide = inbound("wide", Action::Allow, &["shop/web"]);
    let rules = RuleSet::new(vec![wide, sockets], vec![]);
    assert_eq!(rules.decide(Direction::Inbound, &opaque_bytes).why, Why::UnreadableDeny);
}

#[test]
fn connect_is_named_like_a_protocol_and_judged_by_host_and_slash() {
    let raw = |authority| RawTarget { method: "CONNECT", path_and_query: "", authority, scheme: Scheme::Http };
    let to = |authority| canonicalise(&PathOptions::default(), &raw(authority)).unwrap();
    let tunnel = Rule {
        upgrade: upgrades(&["connect"]),
        hosts: vec![HostPattern::parse("db.example.org").unwrap()],
        ..inbound("tunnel", Action::Allow, &["shop/web"])
    };
    let only_tunnel = Rule { requests: requests(&["CONNECT /"]), ..tunnel.clone() };
    let db = to("db.example.org:5432");
    let other = to("other.example.org:5432");
    for rule in [&tunnel, &only_tunnel] {
        // The method says it, whatever the caller of this room says.
        for said in [Some("connect"), None, Some("websocket")] {
            assert_eq!(switching(&only(rule.clone()), &db, said), Why::MatchedAllow, "{said:?}");
        }
        assert_eq!(switching(&only(rule.clone()), &other, None), Why::NoRule(None));
    }
    let everything = Rule { requests: requests(&["* /{rest...}"]), ..inbound("all", Action::Allow, &["shop/web"]) };
    assert_eq!(switching(&only(everything.clone()), &db, None), Why::NoRule(Some(Hint::UpgradeNotNamed)));
    let sockets = Rule { upgrade: upgrades(&["websocket"]), ..everything.clone() };
    assert_eq!(switching(&only(sockets), &db, Some("websocket")), Why::NoRule(Some(Hint::UpgradeNotNamed)));
    let deny = Rule { action: Action::Deny, name: "deny".into(), ..everything };
    assert_eq!(switching(&RuleSet::new(vec![tunnel, deny], vec![]), &db, None), Why::MatchedDeny);
}

#[test]
fn the_most_specific_match_is_reported() {
    let web = id("shop/web");
    let rule = |name: &str, from: &str, request: &str| Rule {
        requests: if request.is_empty() { vec![] } else { requests(&[request]) },
        ..inbound(name, Action::Allow, &[from])
    };
    let set = vec![
        rule("a-no-path", "shop/web", ""),
        rule("b-tail", "shop/web", "* /{rest...}"),
        rule("c-any", "shop/web", "GET /orders/{id}"),
        rule("d-typed", "shop/web", "GET /orders/{id:uint}"),
        rule("e-literal-domain", "td:example.org", "GET /orders/42"),
        rule("f-literal-namespace", "ns:shop", "GET /orders/42"),
        rule("h-literal-exact", "shop/web", "GET /orders/42"),
        rule("g-literal-exact", "shop/web", "GET /orders/42"),
    ];
    let get = target("GET", "/orders/42");
    let mut left = set;
    for expected in [
        "g-literal-exact",
        "h-literal-exact",
        "f-literal-namespace",
        "e-literal-domain",
        "d-typed",
        "c-any",
        "b-tail",
        "a-no-path",
    ] {
        let rules = RuleSet::new(left.clone(), vec![]);
        let decision = rules.decide(Direction::Inbound, &http(Some(&web), &get));
        assert_eq!(&*decision.rule.unwrap().rule.name, expected);
        assert_eq!(rules.matching(Direction::Inbound, &http(Some(&web), &get)).len(), left.len());
        left.retain(|r| &*r.name != expected);
    }
}

/// Rules and requests over a small world, so that they meet often.
fn any_rule() -> impl Strategy<Value = Rule> {
    let who = prop::sample::select(vec!["anyone", "shop/web", "ns:shop", "td:example.org", "edge/*"]);
    let not_who = prop::option::weighted(0.2, prop::sample::select(vec!["shop/web", "ns:edge"]));
    let request = prop::option::of(prop::sample::select(vec![
        "GET /a",
        "* /a",
        "GET /{x}",
        "GET,HEAD /{x:uint}",
        "POST /{rest...}",
        "* /a/{rest...}",
    ]));
    let protocol = prop::sample::select(vec![None, None, None, Some(RuleProtocol::Tcp), Some(RuleProtocol::Http)]);
    let ports = prop::sample::select(vec![vec![], vec![80], vec![80, 81]]);
    (who, not_who, request, protocol, ports, prop::bool::weighted(0.3), any::<bool>()).prop_map(
        |(who, not_who, request, protocol, ports, deny, plaintext)| Rule {
            not_who: ids(&not_who.into_iter().collect::<Vec<_>>()),
            requests: requests(&request.into_iter().collect::<Vec<_>>()),
            protocol,
            ports,
            plaintext,
            ..inbound("", if deny { Action::Deny } else { Action::Allow }, &[who])
        },
    )
}

/// The semantics once more, written as one sentence per line and without any order of evaluation.
fn naive(rules: &[Rule], a: &Attributes<'_>) -> Verdict {
    let base = |r: &Rule| {
        (r.ports.is_empty() || r.ports.contains(&a.port))
            && match &r.who {
                Who::Anyone => true,
                Who::Ids(ids) => a.peer.is_some_and(|p| ids.iter().any(|i| i.matches(p))),
            }
            && !a.peer.is_some_and(|p| r.not_who.iter().any(|i| i.matches(p)))
            && (r.action == Action::Deny || r.plaintext || !a.plaintext)
            && r.protocol.is_none_or(|p| (p == RuleProtocol::Http) == a.request.is_some())
    };
    let reads = |r: &Rule| !r.requests.is_empty();
    let operation = |r: &Rule| match a.request {
        Some(v) => !reads(r) || r.requests.iter().any(|p| p.matches(v.target.method(), v.target.path())),
        None => !reads(r),
    };
    let allows: Vec<_> = rules.iter().filter(|r| r.action == Action::Allow && base(r) && operation(r)).collect();
    let declared = allows.iter().any(|r| r.protocol == Some(RuleProtocol::Tcp));
    let denied = rules
        .iter()
        .any(|r| r.action == Action::Deny && base(r) && (operation(r) || (a.request.is_none() && !declared)));
    if !allows.is_empty() && !denied { Verdict::Allow } else { Verdict::Deny }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_order_of_rules_changes_neither_verdict_nor_report(
        mut rules in prop::collection::vec(any_rule(), 0..8),
        seed in prop::collection::vec(any::<prop::sample::Index>(), 8),
        peer in prop::option::of(prop::sample::select(vec!["shop/web", "shop/db", "edge/gw"])),
        request in prop::option::of((prop::sample::select(vec!["GET", "HEAD", "POST"]), prop::sample::select(vec!["/a", "/7", "/a/b", "/"]))),
        port in prop::sample::select(vec![80u16, 81, 82]),
        plaintext in any::<bool>(),
    ) {
        for (i, rule) in rules.iter_mut().enumerate() {
            rule.name = format!("r{i}").into();
        }
        let peer = peer.map(id);
        let target = request.map(|(method, path)| target(method, path));
        let request = target.as_ref().map(|target| RequestView { target, grpc: false, upgrade: None });
        let a = Attributes { peer: peer.as_ref(), plaintext, ip: None, port, request };

        let expected = naive(&rules, &a);
        let before = RuleSet::new(rules.clone(), vec![]);
        let mut shuffled = rules.clone();
        for (i, index) in seed.iter().enumerate().take(rules.len()) {
            shuffled.swap(i, index.index(rules.len()));
        }
        let after = RuleSet::new(shuffled, vec![]);
        let (one, two) = (before.decide(Direction::Inbound, &a), after.decide(Direction::Inbound, &a));
        prop_assert_eq!(one.verdict, expected);
        prop_assert_eq!((one.verdict, one.why), (two.verdict, two.why));
        prop_assert_eq!(one.rule.map(|r| r.rule), two.rule.map(|r| r.rule));
    }

    /// Adding a deny rule never lets more through; adding an allow rule never lets less through.
    #[test]
    fn a_further_rule_moves_the_verdict_only_its_own_way(
        rules in prop::collection::vec(any_rule(), 0..6),
        extra in any_rule(),
        peer in prop::sample::select(vec!["shop/web", "edge/gw"]),
        path in prop::sample::select(vec!["/a", "/7", "/a/b"]),
    ) {
        let peer = id(peer);
        let target = target("GET", path);
        let a = Attributes { port: 80, ..http(Some(&peer), &target) };
        let set = RuleSet::new(rules.clone(), vec![]);
        let more = RuleSet::new(rules.into_iter().chain([extra.clone()]).collect(), vec![]);
        let (before, after) = (set.decide(Direction::Inbound, &a).is_allowed(), more.decide(Direction::Inbound, &a).is_allowed());
        match extra.action {
            Action::Deny => prop_assert!(before || !after),
            Action::Allow => prop_assert!(!before || after),
        }
    }
}
