//! Rules that compare paths without regard to case: one verdict for every spelling, and what is sent keeps its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "common/random.rs"]
mod random;
#[path = "common/world.rs"]
#[allow(dead_code)] // what only other tests ask of it
mod world;

use identity::{SpiffeId, TrustDomain};
use policy::{
    Action, Attributes, Direction, GrpcPattern, Malformed, PathCase, PathOptions, RawTarget, RequestPattern,
    RequestView, Rule, RuleSet, Scheme, Target, Who, Why, canonicalise,
};
use random::Random;
use world::world;

const EITHER: PathOptions = PathOptions { case: PathCase::Insensitive };

fn read<'a>(options: &PathOptions, method: &'a str, path: &'a str) -> Result<Target<'a>, Malformed> {
    canonicalise(options, &RawTarget { method, path_and_query: path, authority: "orders", scheme: Scheme::Http })
}

fn web() -> SpiffeId {
    SpiffeId::workload(&TrustDomain::parse("example.org").unwrap(), "shop/web").unwrap()
}

/// Everything is allowed but what the denied operations cover.
fn all_but(options: PathOptions, requests: &[&str], grpc: &[&str]) -> RuleSet {
    let all = Rule::new("all", Action::Allow, Direction::Inbound, Who::Anyone);
    let denying = |name| Rule::new(name, Action::Deny, Direction::Inbound, Who::Anyone);
    let requests = requests.iter().map(|r| RequestPattern::parse_for(r, &options).unwrap()).collect();
    let grpc: Vec<_> = grpc.iter().map(|g| GrpcPattern::parse(g).unwrap()).collect();
    let mut rules = vec![all, Rule { requests, ..denying("requests") }];
    if !grpc.is_empty() {
        rules.push(Rule { grpc, ..denying("grpc") });
    }
    RuleSet::reading(options, rules, vec![])
}

fn judged(rules: &RuleSet, method: &str, path: &str, grpc: bool) -> Why {
    let web = web();
    let target = read(rules.path_options(), method, path).unwrap();
    let request = Some(RequestView { target: &target, grpc, upgrade: None });
    let a = Attributes { peer: Some(&web), plaintext: false, ip: None, port: 80, request };
    let decision = rules.decide(Direction::Inbound, &a);
    assert_eq!(rules.decide_linear(Direction::Inbound, &a), decision);
    let matching = rules.matching(Direction::Inbound, &a);
    assert_eq!(matching.len(), if decision.is_allowed() { 1 } else { 2 }, "{path}");
    decision.why
}

#[test]
fn a_denied_path_is_denied_in_every_case_and_only_when_the_file_says_so() {
    let denied = ["* /Admin", "* /Admin/{rest...}", "* /report-{day:date}.CSV", "* /{k:Books|music}/new"];
    let (either, exact) = (all_but(EITHER, &denied, &[]), all_but(PathOptions::default(), &denied, &[]));
    for path in [
        "/admin",
        "/ADMIN",
        "/admin/x",
        "/aDMIN/X",
        "/%61dmin/x",
        "/%41DMIN/",
        "/admin/%C3%89",
        "/admin/a%40B",
        "/Report-2027-02-28.csv",
        "/REPORT-2027-02-28.CSV",
        "/books/NEW",
        "/MUSIC/new",
    ] {
        assert_eq!(judged(&either, "GET", path, false), Why::MatchedDeny, "{path}");
        assert_eq!(judged(&exact, "GET", path, false), Why::MatchedAllow, "{path}");
    }
    for path in ["/administer", "/", "/Admins/x", "/x/ADMIN", "/films/new", "/report-2027-02-30.csv"] {
        assert_eq!(judged(&either, "GET", path, false), Why::MatchedAllow, "{path}");
    }
    // As written, whichever way they are compared.
    assert_eq!(judged(&exact, "GET", "/Admin/x", false), Why::MatchedDeny);
    // Methods are not paths.
    let one = all_but(EITHER, &["GET /a"], &[]);
    assert_eq!(judged(&one, "GET", "/A", false), Why::MatchedDeny);
    assert_eq!(judged(&one, "get", "/A", false), Why::MatchedAllow);
}

#[test]
fn types_of_parameters_take_the_letters_of_either_case() {
    let typed = ["* /s/{x:slug}", "* /u/{x:uuid}", "* /h/{x:hex}", "* /l/{x:ulid}", "* /m/{x:email}", "* /n/{x:uint}"];
    let either = all_but(EITHER, &typed, &[]);
    for path in [
        "/s/blue-suede",
        "/S/BLUE-Suede",
        "/U/123E4567-e89b-12D3-a456-426614174000",
        "/h/dEaD",
        "/L/01ARZ3ndekTSV4RRFFQ69G5FAV",
        "/M/A%40Example.ORG",
        "/N/7",
    ] {
        assert_eq!(judged(&either, "GET", path, false), Why::MatchedDeny, "{path}");
    }
    for path in ["/s/A_B", "/h/XY", "/l/01ARZ3ndekTSV4RRFFQ69G5FAI", "/N/7a"] {
        assert_eq!(judged(&either, "GET", path, false), Why::MatchedAllow, "{path}");
    }
}

#[test]
fn grpc_names_are_part_of_the_path() {
    let denied = ["shop.Orders/Delete", "shop.Audit/*"];
    let (either, exact) =
        (all_but(EITHER, &["* /never"], &denied), all_but(PathOptions::default(), &["* /x"], &denied));
    for path in ["/shop.Orders/Delete", "/SHOP.orders/delete", "/shop.audit/ANY"] {
        assert_eq!(judged(&either, "POST", path, true), Why::MatchedDeny, "{path}");
        let expected = if path.contains("Orders") { Why::MatchedDeny } else { Why::MatchedAllow };
        assert_eq!(judged(&exact, "POST", path, true), expected, "{path}");
    }
    // The texts of a set are those that were written.
    let shown: Vec<String> = either.rules(Direction::Inbound)[2].grpc.iter().map(ToString::to_string).collect();
    assert_eq!(shown, denied);
    assert_eq!(all_but(EITHER, &["* /Admin"], &[]).rules(Direction::Inbound)[1].requests[0].to_string(), "* /Admin");
}

/// Java's `equalsIgnoreCase`, and whoever compares in upper case, takes these for letters of ASCII.
#[test]
fn what_only_some_readers_fold_is_refused() {
    for path in
        ["/adm%C4%B1n", "/%C5%BFecret", "/%E2%84%AAey", "/adm%C4%B0n", "/stra%C3%9Fe", "/of%EF%AC%81ce", "/%E1%BA%9E"]
    {
        assert_eq!(read(&EITHER, "GET", path), Err(Malformed::Lookalike), "{path}");
        assert!(read(&PathOptions::default(), "GET", path).is_ok(), "{path}");
        let operation = format!("GET {path}");
        assert!(RequestPattern::parse(&operation).is_ok());
        let error = RequestPattern::parse_for(&operation, &EITHER).unwrap_err();
        assert!(error.message.contains("no request can match this"), "{error}");
    }
    assert!(read(&EITHER, "GET", "/caf%C3%A9/%D0%AF/%E6%97%A5").is_ok());
}

#[test]
fn the_reading_and_what_is_sent_keep_the_case() {
    for (path, sent) in [("/ADMIN/x?Q=A", "/ADMIN/x?Q=A"), ("/%41dMin/%c3%a9", "/AdMin/%C3%A9")] {
        let target = read(&EITHER, "GET", path).unwrap();
        assert_eq!(target.path_and_query(), sent);
        assert_eq!(Ok(target), read(&PathOptions::default(), "GET", path));
    }
}

#[test]
fn sets_that_compare_paths_otherwise_are_not_equal() {
    let rules = || vec![Rule::new("all", Action::Allow, Direction::Inbound, Who::Anyone)];
    assert_ne!(RuleSet::new(rules(), vec![]), RuleSet::reading(EITHER, rules(), vec![]));
    assert_eq!(RuleSet::reading(EITHER, rules(), vec![]), RuleSet::reading(EITHER, rules(), vec![]));
}

/// Any rules, any request, any spelling: one decision, and it is the one that the same rules in lower case make, letter by
/// letter, of the path in lower case.
#[test]
fn every_spelling_of_a_path_gets_the_decision_of_its_lower_case() {
    let world = world();
    let mut random = Random(5);
    let (mut allowed, mut denied, mut respelled) = (0, 0, 0);
    for _ in 0..300 {
        let count = *random.of(&[1, 3, 8, 24]);
        let rules: Vec<Rule> = (0..count).map(|i| world.rule(&mut random, Direction::Inbound, i)).collect();
        let lower = RuleSet::new(rules.iter().map(lower_case).collect(), vec![]);
        let rules = RuleSet::reading(EITHER, rules, vec![]);
        for _ in 0..100 {
            let a = world.attributes(&mut random);
            let Some(view) = a.request.filter(|view| !view.target.is_connect()) else { continue };
            let text = view.target.path().to_owned();
            let spelled: String = text.chars().map(|c| respell(c, &mut random)).collect();
            respelled += usize::from(spelled != text);
            let ask = |rules: &RuleSet, path: &str| {
                let raw = RawTarget { path_and_query: path, ..raw(view.target) };
                let target = canonicalise(rules.path_options(), &raw).unwrap();
                let a = Attributes { request: Some(RequestView { target: &target, ..view }), ..a };
                let decision = rules.decide(Direction::Inbound, &a);
                assert_eq!(rules.decide_linear(Direction::Inbound, &a), decision);
                (decision.verdict, decision.why, decision.rule.map(|rule| rule.index))
            };
            let expected = ask(&lower, &text.to_ascii_lowercase());
            assert_eq!(ask(&rules, &text), expected, "{text}");
            assert_eq!(ask(&rules, &spelled), expected, "{text} {spelled}");
            allowed += usize::from(expected.1 == Why::MatchedAllow);
            denied += usize::from(expected.1 == Why::MatchedDeny);
        }
    }
    assert!(allowed > 1000 && denied > 1000 && respelled > 5000, "{allowed} {denied} {respelled}");
}

fn raw<'a>(target: &'a Target<'_>) -> RawTarget<'a> {
    RawTarget { method: target.method(), path_and_query: target.path(), authority: target.host(), scheme: Scheme::Http }
}

fn respell(c: char, random: &mut Random) -> char {
    if random.below(2) == 0 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
}

/// A rule whose patterns are written in lower case. `slug` is the one type that has letters of one case only.
fn lower_case(rule: &Rule) -> Rule {
    let requests = rule.requests.iter().map(|r| {
        let template = r.template.as_str().to_ascii_lowercase();
        RequestPattern::parse(&format!("{} {template}", r.methods)).unwrap()
    });
    let grpc = rule.grpc.iter().map(|g| GrpcPattern::parse(&g.to_string().to_ascii_lowercase()).unwrap());
    Rule { requests: requests.collect(), grpc: grpc.collect(), ..rule.clone() }
}
