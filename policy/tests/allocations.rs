//! A decision allocates nothing, and the tables of ten thousand rules are small. Counted, not timed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "common/counting.rs"]
mod counting;
#[path = "common/random.rs"]
mod random;
#[path = "common/workload.rs"]
mod workload;

use policy::{Direction, PathCase, PathOptions, RawTarget, RuleSet, Scheme, Why, canonicalise};
use random::Random;
use workload::{Asked, peers, requests, rules};

#[test]
fn a_decision_among_ten_thousand_rules_allocates_nothing() {
    let mut random = Random(1);
    for count in [10, 10_000] {
        let all = rules(count, &mut random);
        let folding = RuleSet::reading(PathOptions { case: PathCase::Insensitive }, all.clone(), vec![]);
        let set = RuleSet::new(all, vec![]);
        let mut asked = Vec::new();
        for why in [Why::MatchedAllow, Why::MatchedDeny, Why::NoRule(None)] {
            asked.extend(requests(&set, why, 20, &mut random));
        }
        // Escapes are compared by what they stand for.
        for path in ["/v1/resource-1/a%40b", "/v1/caf%C3%A9/7/items/%2B", "/V1/Resource-1/A"] {
            let raw = RawTarget { method: "GET", path_and_query: path, authority: "a", scheme: Scheme::Http };
            let target = canonicalise(&PathOptions::default(), &raw).unwrap().into_owned();
            asked.push(Asked { peer: peers()[0].clone(), target });
        }
        assert!(asked.len() > 10);
        let before = counting::calls();
        for one in &asked {
            let opaque = policy::Attributes { request: None, ..one.attributes() };
            for attributes in [one.attributes(), opaque] {
                std::hint::black_box(set.decide(Direction::Inbound, &attributes).verdict);
                std::hint::black_box(folding.decide(Direction::Inbound, &attributes).verdict);
            }
            std::hint::black_box(set.accepts_peer(8080, &one.peer));
            std::hint::black_box(set.names_cidr([10, 0, 0, 1].into(), 8080));
        }
        assert_eq!(counting::calls() - before, 0, "{count} rules");
    }
    // The counter counts.
    let before = counting::calls();
    std::hint::black_box(Box::new(1));
    assert_eq!(counting::calls() - before, 1);
}

#[test]
fn the_tables_of_ten_thousand_rules_take_four_mebibytes_at_most() {
    let rules = rules(10_000, &mut Random(2));
    let copy = rules.clone();
    let before = counting::live();
    let set = RuleSet::new(copy, vec![]);
    let bytes = counting::live() - before;
    assert!(bytes <= 4 << 20, "{bytes} bytes");
    assert_eq!(set.rules(Direction::Inbound).len(), 10_000);
}
