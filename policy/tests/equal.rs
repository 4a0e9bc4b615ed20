//! The compiled rules say what the rules say: random sets and requests, judged both ways.
//!
//! `SEKISHO_PAIRS` sets how many pairs are tried (default one million), `SEKISHO_SEED` where the random numbers begin.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "common/random.rs"]
mod random;
#[path = "common/world.rs"]
mod world;

use identity::{SpiffeId, TrustDomain};
use policy::{
    Action, Attributes, Direction, Hint, IdPattern, PathOptions, RawTarget, RequestPattern, RequestView, Rule, RuleSet,
    Scheme, Verdict, Who, Why, canonicalise,
};
use random::Random;
use std::collections::BTreeMap;
use world::{PORTS, agree, world};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[test]
fn compiled_rules_decide_and_report_as_the_rules_one_by_one() {
    let pairs = number("SEKISHO_PAIRS", 1_000_000) as usize;
    let seed = number("SEKISHO_SEED", 7);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let world = &world();
    let mut outcomes = BTreeMap::new();
    std::thread::scope(|scope| {
        let parts = (0..threads as u64).map(|i| {
            scope.spawn(move || agree(world, seed.wrapping_mul(1000).wrapping_add(i), pairs.div_ceil(threads)))
        });
        for part in parts.collect::<Vec<_>>() {
            for (why, count) in part.join().unwrap() {
                *outcomes.entry(why).or_insert(0) += count;
            }
        }
    });
    println!("{outcomes:#?}");
    let kinds = [
        Why::MatchedAllow,
        Why::MatchedDeny,
        Why::UnreadableDeny,
        Why::NoRule(None),
        Why::NoRule(Some(Hint::HeadIsNotGet)),
        Why::NoRule(Some(Hint::NeedsMutualTls)),
        Why::NoRule(Some(Hint::UpgradeNotNamed)),
    ];
    // Each outcome is met often enough to mean something.
    for why in kinds {
        let count = outcomes.get(why.as_str()).copied().unwrap_or_default();
        assert!(count * 1000 >= pairs || pairs < 100_000, "{}: {count}", why.as_str());
    }
}

#[test]
fn long_lists_are_not_multiplied_and_mean_the_same() {
    let world = world();
    let mut random = Random(3);
    // So many combinations that lists stay lists.
    let wide = |random: &mut Random, i: usize| Rule {
        requests: (0..60).map(|_| random.of(&world.requests).clone()).collect(),
        hosts: (0..4).map(|_| random.of(&world.hosts).clone()).collect(),
        ports: PORTS[..4].to_vec(),
        who: Who::Ids((0..8).map(|_| random.of(&world.patterns).clone()).collect()),
        ..world.rule(random, Direction::Inbound, i)
    };
    for count in [10, 40, 400] {
        let rules = RuleSet::new((0..count).map(|i| wide(&mut random, i)).collect(), vec![]);
        for _ in 0..400 {
            let a = world.attributes(&mut random);
            let (fast, slow) = (rules.decide(Direction::Inbound, &a), rules.decide_linear(Direction::Inbound, &a));
            assert_eq!(
                (fast.verdict, fast.why, fast.rule.map(|r| r.index)),
                (slow.verdict, slow.why, slow.rule.map(|r| r.index))
            );
        }
    }
}

/// A thousand subjects, ports and paths of their own: what the tables tell apart, they tell apart.
#[test]
fn many_rules_that_differ_in_one_thing_are_told_apart() {
    let own = TrustDomain::parse("example.org").unwrap();
    let rule = |i: usize| Rule {
        ports: vec![1000 + (i % 7) as u16],
        requests: vec![RequestPattern::parse(&format!("GET /v{}/{{id:uint}}/x{i}", i % 5)).unwrap()],
        ..Rule::new(
            &format!("r{i}"),
            Action::Allow,
            Direction::Inbound,
            Who::Ids(vec![IdPattern::parse(&format!("n{}/s{}", i % 11, i % 13), &own).unwrap()]),
        )
    };
    let rules = RuleSet::new((0..1001).map(rule).collect(), vec![]);
    for i in 0..1001usize {
        let path = format!("/v{}/7/x{i}", i % 5);
        let raw = RawTarget { method: "GET", path_and_query: &path, authority: "a", scheme: Scheme::Http };
        let target = canonicalise(&PathOptions::default(), &raw).unwrap();
        for (di, port, expected) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
            let peer = SpiffeId::workload(&own, &format!("n{}/s{}", i % 11, (i + di) % 13)).unwrap();
            let request = Some(RequestView { target: &target, grpc: false, upgrade: None });
            let port = 1000 + ((i + port) % 7) as u16;
            let a = Attributes { peer: Some(&peer), plaintext: false, ip: None, port, request };
            let decision = rules.decide(Direction::Inbound, &a);
            assert_eq!(decision.verdict == Verdict::Allow, expected, "{i} {di} {port}");
            assert_eq!(decision.rule.map(|r| r.index), expected.then_some(i));
        }
    }
}
