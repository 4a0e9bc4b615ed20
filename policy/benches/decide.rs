//! What a decision costs: `cargo bench -p sekisho-policy --bench decide`.
//!
//! Three kinds of requests, drawn from all over the set: allowed, denied by a rule, matched by none. Each is judged on its own
//! between two looks at the clock, in an order that jumps about; a row shows the median and the 99th percentile, less what the
//! clock itself costs. Beside them the same for a caller who was introduced before, the same by the reference, the size of the
//! tables, and the time it takes to make them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../tests/common/counting.rs"]
mod counting;
#[path = "../tests/common/random.rs"]
mod random;
#[path = "../tests/common/workload.rs"]
mod workload;

use policy::{Attributes, Decision, Direction, Rule, RuleSet, Why};
use random::Random;
use std::hint::black_box;
use std::time::Instant;
use workload::{Asked, few, requests, rules};

const KINDS: [(&str, Why); 3] =
    [("allowed", Why::MatchedAllow), ("denied", Why::MatchedDeny), ("no rule", Why::NoRule(None))];

fn main() {
    // Test runners start every target to ask for its tests; only `cargo bench` says this word.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let clock = clock();
    println!("the clock costs {clock} ns; ns per decision, median and 99th percentile\n");
    println!(
        "| rules | request | compiled p50 | p99 | introduced p50 | p99 | one by one p50 | p99 | rules KiB | tables KiB | peak KiB | compile ms |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for count in [1, 3, 10] {
        table(&format!("few, {count}"), few(count), clock);
    }
    for count in [10, 100, 1000, 10_000] {
        table(&count.to_string(), rules(count, &mut Random(count as u64)), clock);
    }
    connections();
}

fn table(name: &str, rules: Vec<Rule>, clock: u64) {
    let mut random = Random(rules.len() as u64);
    let (plain, live, peak, compile) = size(&rules);
    let set = RuleSet::new(rules, vec![]);
    for (kind, why) in KINDS {
        let asked = requests(&set, why, 1000, &mut random);
        if asked.len() < 20 {
            continue;
        }
        let introduce = |asked: &Asked| set.introduce(Direction::Inbound, Some(asked.peer.clone()), None);
        let parties: Vec<_> = asked.iter().map(introduce).collect();
        let all = set.rules(Direction::Inbound).len();
        let fast = measure(&asked, clock, 40, &mut random, |_, a| set.decide(Direction::Inbound, a));
        let party =
            measure(&asked, clock, 40, &mut random, |i, a| set.decide_for(&parties[i], a.plaintext, a.port, a.request));
        let slow = measure(&asked, clock, if all > 500 { 2 } else { 20 }, &mut random, |_, a| {
            set.decide_linear(Direction::Inbound, a)
        });
        println!(
            "| {name} | {kind} | {} | {} | {} | {} | {} | {} | {plain} | {live} | {peak} | {compile:.1} |",
            fast.0, fast.1, party.0, party.1, slow.0, slow.1
        );
    }
}

/// What is asked once per connection.
fn connections() {
    println!("\n| outbound rules | accepts_peer | names_cidr | has_outbound_to | declares_tcp |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    for count in [10, 10_000] {
        let mut random = Random(7);
        let rule = |(i, rule): (usize, Rule)| Rule {
            requests: vec![],
            ports: vec![(i % 3000) as u16 + 1],
            protocol: (i % 5 == 0).then_some(policy::RuleProtocol::Tcp),
            ..rule
        };
        let mut all: Vec<Rule> = rules(count, &mut random).into_iter().enumerate().map(rule).collect();
        for (i, rule) in all.iter_mut().enumerate().filter(|(i, _)| i % 3 == 0) {
            rule.who = policy::Who::Anyone;
            rule.cidrs = vec![policy::Cidr::parse(&format!("10.{}.{}.0/24", i / 256 % 256, i % 256)).unwrap()];
        }
        let set = RuleSet::new(vec![], all);
        let peers = workload::peers();
        let each = |ask: &dyn Fn(usize) -> bool| {
            let start = Instant::now();
            for i in 0..200_000 {
                black_box(ask(i));
            }
            start.elapsed().as_nanos() / 200_000
        };
        let port = |i: usize| (i * 7 % 4000) as u16;
        println!(
            "| {count} | {} | {} | {} | {} |",
            each(&|i| set.accepts_peer(port(i), &peers[i % peers.len()])),
            each(&|i| set.names_cidr([10, (i >> 8) as u8, i as u8, 1].into(), port(i))),
            each(&|i| set.has_outbound_to(port(i))),
            each(&|i| set.declares_tcp(Direction::Outbound, port(i))),
        );
    }
}

/// KiB that the rules take and that the tables take, KiB that live at most while they are made, and the median of the milliseconds it takes.
fn size(rules: &[Rule]) -> (usize, usize, usize, f64) {
    let mut times = Vec::new();
    let (mut plain, mut live, mut peak) = (0, 0, 0);
    for _ in 0..9 {
        let without = counting::live();
        let copy = rules.to_vec();
        let before = counting::live();
        plain = (before - without) / 1024;
        counting::peak();
        let start = Instant::now();
        let set = RuleSet::new(copy, vec![]);
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        live = (counting::live() - before) / 1024;
        peak = (counting::peak() - before) / 1024;
        drop(set);
    }
    times.sort_by(f64::total_cmp);
    (plain, live, peak, times[times.len() / 2])
}

/// Median and 99th percentile over so many rounds.
fn measure<'s>(
    asked: &[Asked],
    clock: u64,
    rounds: usize,
    random: &mut Random,
    decide: impl Fn(usize, &Attributes<'_>) -> Decision<'s>,
) -> (u64, u64) {
    let mut order: Vec<usize> = (0..asked.len()).collect();
    let mut times = Vec::with_capacity(rounds * asked.len());
    for round in 0..=rounds {
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
        for i in &order {
            let attributes = asked[*i].attributes();
            let start = Instant::now();
            black_box(decide(*i, black_box(&attributes)).verdict);
            let time = start.elapsed().as_nanos() as u64;
            // The first round is for the caches.
            if round > 0 {
                times.push(time.saturating_sub(clock));
            }
        }
    }
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// The median cost of looking at the clock twice.
fn clock() -> u64 {
    let mut times: Vec<u64> = (0..100_000).map(|_| Instant::now().elapsed().as_nanos() as u64).collect();
    times.sort_unstable();
    times[times.len() / 2]
}
