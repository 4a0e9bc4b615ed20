//! A small world of rules and requests, made of few names, so that overlaps, near misses, escapes and every kind of condition
//! really meet; and the comparison of the two ways to judge them.

use super::random::Random;
use identity::{SpiffeId, TrustDomain};
use policy::{
    Action, Attributes, Cidr, Direction, GrpcPattern, HostPattern, IdPattern, PathCase, PathOptions, RawTarget,
    RequestPattern, RequestView, Rule, RuleProtocol, RuleSet, Scheme, Target, UpgradePattern, Who, canonicalise,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Everything that rules and requests are made of, parsed once.
pub(crate) struct World {
    ids: Vec<SpiffeId>,
    pub(crate) patterns: Vec<IdPattern>,
    cidrs: Vec<Cidr>,
    ips: Vec<IpAddr>,
    pub(crate) hosts: Vec<HostPattern>,
    common: Vec<RequestPattern>,
    pub(crate) requests: Vec<RequestPattern>,
    odd_requests: Vec<RequestPattern>,
    grpc: Vec<GrpcPattern>,
    upgrades: Vec<UpgradePattern>,
    common_targets: Vec<Target<'static>>,
    targets: Vec<Target<'static>>,
}

pub(crate) const PORTS: [u16; 6] = [80, 81, 443, 8080, 9090, 65535];
const METHODS: [&str; 9] = ["*", "GET", "GET,HEAD", "HEAD", "POST", "PUT,PATCH", "BREW", "GET,CONNECT", "TRACE,M1,M2"];
const SEGMENTS: [&str; 22] = [
    "A",
    "{x:A|b}",
    "a",
    "a",
    "a",
    "b",
    "7",
    "a@b",
    "é",
    "{x}",
    "{x}",
    "{x:uint}",
    "{x:int}",
    "{x:hex}",
    "{x:slug}",
    "{x:a|b|a@b}",
    "{x:email}",
    "a-{x}",
    "{x:uint}.json",
    "é{x:any}é",
    "@{x}",
    "{x:date}",
];
const PIECES: [&str; 24] = [
    "a",
    "a",
    "a",
    "b",
    "7",
    "7",
    "a",
    "b",
    "7",
    "-7",
    "a%40b",
    "a@b",
    "%C3%A9",
    "é",
    "c",
    "a-7",
    "7.json",
    "%C3%A9x%C3%A9",
    "%40b",
    "2024-02-29",
    "%61",
    "A",
    "%2B",
    "x-y-z",
];
/// Operations and requests that meet most of the time.
const COMMON: [&str; 14] = [
    "GET /a",
    "* /a",
    "GET /{x}",
    "GET,HEAD /{x}",
    "GET /{x:uint}",
    "* /{x:slug}",
    "POST /{rest...}",
    "GET /a/{x}",
    "HEAD /a/{x:uint}",
    "GET /a/{rest...}",
    "GET /",
    "* /a@b",
    "GET /a/",
    "GET /{x:uint}/{y}",
];
const COMMON_PATHS: [&str; 10] = ["/a", "/a", "/7", "/b", "/a/7", "/a/b", "/a%40b", "/", "/a/", "/7/7"];
const HOSTS: [&str; 8] =
    ["a.example.org", "b.example.org", "example.org", "A.B.example.org", "c.a.example.org", "org", "[::1]", "10.1.2.3"];

pub(crate) fn world() -> World {
    let own = TrustDomain::parse("example.org").unwrap();
    let mut ids = Vec::new();
    let mut patterns = Vec::new();
    for ns in ["shop", "sh", "edge"] {
        for sa in ["web", "we", "db"] {
            ids.push(format!("spiffe://example.org/ns/{ns}/sa/{sa}"));
            patterns.push(format!("{ns}/{sa}"));
        }
        patterns.extend([format!("{ns}/*"), format!("ns:{ns}"), format!("{}*/we*", &ns[..2])]);
    }
    for id in [
        "other.org/ns/shop/sa/web",
        "example.org/vm/db",
        "example.org/vm",
        "example.org",
        "example.org/ns/shop/sa/web/x",
    ] {
        ids.push(format!("spiffe://{id}"));
    }
    for pattern in [
        "*/web",
        "*/*",
        "s*/*",
        "td:example.org",
        "td:other.org",
        "spiffe://other.org/ns/shop/sa/web",
        "spiffe://example.org/vm/db",
        "spiffe://example.org/vm/*",
        "spiffe://example.org/*",
        "spiffe://example.org/ns/shop/sa/*",
        "spiffe://example.org/v*/d*",
    ] {
        patterns.push(pattern.into());
    }
    let mut random = Random(1);
    let mut requests = Vec::new();
    let tails = ["", "", "", "/", "/{rest...}"];
    for depth in [0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4] {
        for _ in 0..12 {
            let mut names = 0;
            let segments: String = (0..depth)
                .map(|_| {
                    names += 1;
                    format!("/{}", random.of(&SEGMENTS).replace("{x", &format!("{{x{names}")))
                })
                .collect();
            let tail = random.of(&tails);
            let template = if depth == 0 && tail.is_empty() { "/".into() } else { format!("{segments}{tail}") };
            let method = if template == "/" || template == "/{rest...}" {
                random.of(&METHODS)
            } else {
                random.of(&METHODS[..7])
            };
            requests.push(format!("{method} {template}"));
        }
    }
    for service in ["a.B/C", "a.B/D", "a.B"] {
        requests.push(format!("POST /{service}"));
    }
    let odd_requests = (0..40).map(|i| format!("M{i} /a")).chain([deep(16), deep(17), deep(18)]);
    let mut targets = Vec::new();
    let mut paths: Vec<String> =
        ["/", "/a.B/C", "/a.B/D", "/a.B/E", "/a.B/", "/a.B/C/", "/a.B/1", "/a.B/a%40"].map(str::to_owned).into();
    for depth in [1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 16, 17, 18] {
        for _ in 0..12 {
            let deep = depth > 5;
            let pieces: String =
                (0..depth).map(|_| format!("/{}", if deep { "a" } else { random.of(&PIECES) })).collect();
            paths.push(format!("{pieces}{}", random.of(&["", "", "", "/", "?q=/a"])));
        }
    }
    // Longer than what is decoded in place.
    paths.push(format!("/a/{}", "%C3%A9".repeat(600)));
    for path in paths {
        let path: String = path.chars().map(|c| if c.is_ascii() { c.to_string() } else { "%c3%a9".into() }).collect();
        for _ in 0..4 {
            let method = random.of(&[
                "GET", "GET", "HEAD", "HEAD", "POST", "PUT", "PATCH", "TRACE", "BREW", "M1", "M30", "NEVER", "get",
            ]);
            let authority = random.of(&HOSTS);
            let raw = RawTarget { method, path_and_query: &path, authority, scheme: Scheme::Http };
            targets.push(
                canonicalise(&PathOptions::default(), &raw).unwrap_or_else(|e| panic!("{path}: {e}")).into_owned(),
            );
        }
    }
    let mut common_targets = Vec::new();
    for path_and_query in COMMON_PATHS {
        for method in ["GET", "GET", "HEAD", "POST"] {
            let authority = random.of(&HOSTS);
            let raw = RawTarget { method, path_and_query, authority, scheme: Scheme::Http };
            common_targets.push(canonicalise(&PathOptions::default(), &raw).unwrap().into_owned());
        }
    }
    for host in HOSTS {
        let authority = format!("{host}:443");
        let raw = RawTarget { method: "CONNECT", path_and_query: "", authority: &authority, scheme: Scheme::Http };
        targets.push(canonicalise(&PathOptions::default(), &raw).unwrap().into_owned());
    }
    let cidrs = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3/32",
        "10.1.2.2/31",
        "0.0.0.0/0",
        "192.0.2.0/24",
        "2001:db8::/32",
        "::/0",
        "::1",
        "10.1.2.4/30",
    ];
    let ips =
        ["10.1.2.3", "10.1.2.4", "10.2.0.1", "192.0.2.7", "198.51.100.1", "2001:db8::1", "::1", "::ffff:10.1.2.3"];
    World {
        ids: ids.iter().map(|id| SpiffeId::parse(id).unwrap()).collect(),
        patterns: patterns.iter().map(|p| IdPattern::parse(p, &own).unwrap_or_else(|e| panic!("{p}: {e}"))).collect(),
        cidrs: cidrs.iter().map(|c| Cidr::parse(c).unwrap_or_else(|e| panic!("{c}: {e}"))).collect(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        hosts: [
            "a.example.org",
            "b.example.org",
            "*.example.org",
            "*.b.example.org",
            "org",
            "*.org",
            "[::1]",
            "10.1.2.3",
        ]
        .iter()
        .map(|h| HostPattern::parse(h).unwrap())
        .collect(),
        common: COMMON.iter().map(|r| RequestPattern::parse(r).unwrap_or_else(|e| panic!("{r}: {e}"))).collect(),
        requests: requests.iter().map(|r| RequestPattern::parse(r).unwrap_or_else(|e| panic!("{r}: {e}"))).collect(),
        odd_requests: odd_requests.map(|r| RequestPattern::parse(&r).unwrap_or_else(|e| panic!("{r}: {e}"))).collect(),
        grpc: ["a.B/C", "a.B/D", "a.B/*", "a.C/*"].iter().map(|g| GrpcPattern::parse(g).unwrap()).collect(),
        upgrades: ["websocket", "irc", "connect"].iter().map(|u| UpgradePattern::parse(u).unwrap()).collect(),
        common_targets,
        targets,
    }
}

/// A template of so many segments.
fn deep(segments: usize) -> String {
    format!("GET {}", "/a".repeat(segments))
}

impl World {
    pub(crate) fn rule(&self, random: &mut Random, direction: Direction, number: usize) -> Rule {
        let action = if percent(random, 30) { Action::Deny } else { Action::Allow };
        let mut who = Who::Anyone;
        if percent(random, 75) {
            // Nobody at all, or more than are taken one by one, now and then.
            let count = *random.of(&[0, 1, 1, 1, 1, 1, 2, 2, 3, 12]);
            who = Who::Ids((0..count).map(|_| random.of(&self.patterns).clone()).collect());
        }
        let addresses = direction == Direction::Outbound && percent(random, if who == Who::Anyone { 70 } else { 5 });
        let operations = if percent(random, 50) { &self.common } else { &self.requests };
        let mut requests = some(random, operations, 65, 3);
        if percent(random, 2) {
            requests = some(random, &self.odd_requests, 100, 3);
        }
        let grpc = if requests.is_empty() || percent(random, 2) { some(random, &self.grpc, 25, 2) } else { Vec::new() };
        // Names that compare otherwise than their numbers, and some that are there twice.
        let name = if percent(random, 10) { "same".to_owned() } else { format!("{}-{number}", random.below(3)) };
        Rule {
            not_who: some(random, &self.patterns, 12, 2),
            cidrs: if addresses { some(random, &self.cidrs, 100, 3) } else { Vec::new() },
            hosts: some(random, &self.hosts, 15, 3),
            ports: some(random, &PORTS, 30, 3),
            protocol: *random.of(&[None, None, None, None, None, Some(RuleProtocol::Http), Some(RuleProtocol::Tcp)]),
            requests,
            grpc,
            upgrade: some(random, &self.upgrades, 12, 2),
            plaintext: percent(random, 20),
            ..Rule::new(&name, action, direction, who)
        }
    }

    fn rules(&self, random: &mut Random) -> RuleSet {
        let count = *random.of(&[0, 1, 2, 3, 5, 8, 8, 12, 12, 16, 24]);
        let mut side = |direction| (0..count).map(|i| self.rule(random, direction, i)).collect();
        let (inbound, outbound) = (side(Direction::Inbound), side(Direction::Outbound));
        let case = if percent(random, 25) { PathCase::Insensitive } else { PathCase::Sensitive };
        RuleSet::reading(PathOptions { case }, inbound, outbound)
    }

    pub(crate) fn attributes<'w>(&'w self, random: &mut Random) -> Attributes<'w> {
        let targets = if percent(random, 50) { &self.common_targets } else { &self.targets };
        let view = RequestView {
            target: random.of(targets),
            grpc: percent(random, 20),
            upgrade: percent(random, 20).then(|| *random.of(&["websocket", "IRC", "connect", "h2c"])),
        };
        Attributes {
            peer: (!percent(random, 15)).then(|| random.of(&self.ids)),
            plaintext: percent(random, 20),
            ip: (!percent(random, 15)).then(|| *random.of(&self.ips)),
            port: *random.of(&PORTS),
            request: (!percent(random, 15)).then_some(view),
        }
    }
}

/// The compiled answers against the sentences of the documentation, asked of every rule.
fn connections_agree(world: &World, rules: &RuleSet) {
    let names = |patterns: &[IdPattern], id: &SpiffeId| patterns.iter().any(|p| p.matches(id));
    let outbound = rules.rules(Direction::Outbound);
    let allows = |direction: Direction| rules.rules(direction).iter().filter(|r| r.action == Action::Allow);
    for port in PORTS {
        for direction in [Direction::Inbound, Direction::Outbound] {
            let declares = |r: &Rule| r.protocol == Some(RuleProtocol::Tcp) && r.ports.contains(&port);
            assert_eq!(rules.declares_tcp(direction, port), allows(direction).any(declares));
        }
        let plaintext = allows(Direction::Inbound).any(|r| r.plaintext && r.covers_port(port));
        assert_eq!(rules.allows_plaintext(port), plaintext);
        let has_to = allows(Direction::Outbound).any(|r| matches!(r.who, Who::Ids(_)) && r.covers_port(port));
        assert_eq!(rules.has_outbound_to(port), has_to);
        for ip in &world.ips {
            let covers = |r: &Rule| r.covers_port(port) && r.cidrs.iter().any(|c| c.contains(*ip));
            assert_eq!(rules.names_cidr(*ip, port), allows(Direction::Outbound).any(covers), "{ip}");
        }
        for id in &world.ids {
            let about = |r: &Rule| {
                r.covers_port(port)
                    && !names(&r.not_who, id)
                    && match &r.who {
                        Who::Anyone => true,
                        Who::Ids(ids) => names(ids, id),
                    }
            };
            let refuses = |r: &Rule| {
                r.action == Action::Deny
                    && !r.reads_requests()
                    && r.cidrs.is_empty()
                    && r.protocol.is_none()
                    && about(r)
            };
            let accepted =
                allows(Direction::Outbound).any(|r| r.who != Who::Anyone && about(r)) && !outbound.iter().any(refuses);
            assert_eq!(rules.accepts_peer(port, id), accepted, "{id} {port}\n{outbound:#?}");
        }
    }
}

const REQUESTS_PER_SET: usize = 250;

/// Judges so many pairs both ways and counts the outcomes.
pub(crate) fn agree(world: &World, seed: u64, pairs: usize) -> BTreeMap<&'static str, usize> {
    let mut random = Random(seed);
    let mut outcomes = BTreeMap::new();
    let mut stranger = RuleSet::empty().introduce(Direction::Inbound, None, None);
    for set in 0..pairs.div_ceil(REQUESTS_PER_SET) {
        let rules = world.rules(&mut random);
        if set % 8 == 0 {
            connections_agree(world, &rules);
        }
        for _ in 0..REQUESTS_PER_SET {
            let a = world.attributes(&mut random);
            let direction = if percent(&mut random, 50) { Direction::Inbound } else { Direction::Outbound };
            let (fast, slow) = (rules.decide(direction, &a), rules.decide_linear(direction, &a));
            let same = fast.verdict == slow.verdict && fast.why == slow.why;
            if !same || fast.rule.map(|r| r.index) != slow.rule.map(|r| r.index) {
                let matching = rules.matching(direction, &a);
                panic!(
                    "seed {seed}, set {set}: {fast:#?}\nbut should be {slow:#?}\nfor {a:#?}\nmatching: {matching:#?}"
                );
            }
            assert!(fast.rule.is_none_or(|r| std::ptr::eq(r.rule, &rules.rules(direction)[r.index])));
            // The same for somebody who was introduced to these rules, or to those before.
            if percent(&mut random, 30) {
                let party = rules.introduce(direction, a.peer.cloned(), a.ip);
                assert_eq!(rules.decide_for(&party, a.plaintext, a.port, a.request), fast, "{party:?}");
                assert_eq!(rules.decide_for(&stranger, a.plaintext, a.port, a.request), {
                    let a = Attributes { peer: stranger.peer(), ip: stranger.ip(), ..a };
                    rules.decide(stranger.direction(), &a)
                });
                stranger = party;
            }
            *outcomes.entry(fast.why.as_str()).or_default() += 1;
        }
    }
    outcomes
}

/// In so many of a hundred cases.
fn percent(random: &mut Random, n: usize) -> bool {
    random.below(100) < n
}

/// Up to `most` of these, none in the other cases; sometimes all.
fn some<T: Clone>(random: &mut Random, from: &[T], chance: usize, most: usize) -> Vec<T> {
    if !percent(random, chance) {
        return Vec::new();
    }
    if percent(random, 4) {
        return from.to_vec();
    }
    (0..=random.below(most)).map(|_| random.of(from).clone()).collect()
}
