//! Class 77: another case of a denied path, where the file says that case does not count, and where it says nothing.

use serde_json::json;
use support::catalogue::{Outcome, Table};
use support::origin::Origin;
use support::pair::{HOST, Pair, Setting};
use support::strict::{self, Seen};

use super::Must::{Arrive, Refuse};
use super::{Case, Door, both, case, get, judge, policy, readings, received, sidecars, tag};

/// Spellings of what the rules deny: the segment, its prefix, escapes of letters, and the whole of it at its end.
const DENIED: [&str; 14] = [
    "/open/admin/@R@",
    "/open/ADMIN/@R@",
    "/open/Admin/@R@",
    "/open/aDMIN/@R@",
    "/open/admiN/@R@/X",
    "/OPEN/admin/@R@",
    "/Open/Admin/@R@?a=B",
    "/open/%41dmin/@R@",
    "/open/%61%44%4d%49%4e/@R@",
    "/open/ADMIN/@R@/",
    // What an application that folds more than ASCII takes for it.
    "/open/adm%C4%B1n/@R@",
    "/open/ADM%C4%B0N/@R@",
    "/open/adm%c4%b1n/@R@",
    "/open/ADMIN%20/@R@",
];

/// What is allowed, and arrives in the sender's spelling.
const ALLOWED: [&str; 4] =
    ["/open/Administrator/@R@", "/open/x/ADMIN/@R@", "/open/CAF%C3%89/@R@", "/open/@R@/Mixed?Query=ADMIN"];

const DENY: &str = r#"
[path]
case = "insensitive"

[[inbound]]
name = "anything"
from = "shop/web"

[[inbound]]
name = "no-admin"
action = "deny"
from = "anyone"
requests = ["* /open/admin/{rest...}"]
"#;

const ANYTHING: &str = "\n[[inbound]]\nname = \"anything\"\nfrom = \"shop/web\"\n";

/// Only what is allowed is named, and the file says nothing of case.
const ALLOW_ONLY: &str = r#"
[[inbound]]
name = "open"
from = "shop/web"
requests = ["* /open/public/{rest...}"]
"#;

#[test]
fn no_case_leads_round_a_rule_that_ignores_it() {
    let mut table = Table::new("policy-case", 77..=77);
    let cases = cases(&DENIED, &ALLOWED);
    fill(&mut table, "callee", &sidecars(DENY), &cases);
    fill(&mut table, "caller", &refusing_caller(), &cases);
    // Letter by letter, another case is another path: nothing but what is named passes.
    let exact = self::cases(
        &["/OPEN/public/@R@", "/open/Public/@R@", "/open/PUBLIC/@R@", "/open/%50ublic/@R@"],
        &["/open/public/@R@", "/open/public/@R@/ADMIN", "/open/%70ublic/@R@"],
    );
    fill(&mut table, "allow only", &sidecars(ALLOW_ONLY), &exact);
    table.judge(&[77]);
}

fn cases(denied: &[&str], allowed: &[&str]) -> Vec<Case> {
    let denied = denied.iter().map(|target| case(77, Refuse, *target, get(target)));
    denied.chain(allowed.iter().map(|target| case(77, Arrive, *target, get(target)).check(as_asked))).collect()
}

/// That the target has letters of the case it was asked in: every allowed one has a word of its own case but for escapes.
fn as_asked(seen: &Seen) -> Option<String> {
    let kept = ["/open/Administrator/", "/open/x/ADMIN/", "/open/CAF%C3%89/", "/Mixed?Query=ADMIN", "/open/public/"];
    (!kept.iter().any(|text| seen.target.contains(text))).then(|| format!("the target {}", seen.target))
}

/// A pair whose caller's sidecar refuses, by the same rules in the other direction.
fn refusing_caller() -> Pair {
    let outbound = DENY
        .replace("[[inbound]]", "[[outbound]]")
        .replace("from = \"shop/web\"", "to = \"shop/orders\"")
        .replace("from = \"anyone\"", "to = \"anyone\"");
    let setting = Setting::new()
        .client(|text| support::pair::without_rules(&text) + &outbound)
        .server(|text| support::pair::without_rules(&text).replace("[app]\n", super::APP) + ANYTHING);
    let origin: Origin = super::recording(setting.at.app);
    setting.start_with(origin)
}

/// Each case over HTTP/1.1 by both doors, where both judge, and over HTTP/2.
fn fill(table: &mut Table, who: &str, pair: &Pair, cases: &[Case]) {
    let plain = Door { letter: 'p', to: pair.entry(), cert: None };
    let mtls = Door { letter: 'm', to: pair.setting.at.inbound, cert: Some(&pair.setting.web) };
    // The callee of a caller that refuses allows everything.
    let doors = if who == "caller" { vec![&plain] } else { vec![&plain, &mtls] };
    let send = |(row, case): (usize, &Case)| {
        doors.iter().map(|door| door.send(&case.bytes(&tag(row, door.letter)), false)).collect::<Vec<_>>()
    };
    let over_one: Vec<_> = cases.iter().enumerate().map(send).collect();
    let ask = |(row, case): (usize, &Case)| json!({"method": "GET", "path": case.name.replace("@R@", &tag(row, 'e')), "authority": HOST});
    let over_two = policy::ask_all(pair, &cases.iter().enumerate().map(ask).collect::<Vec<_>>());
    let got = readings(&pair.origin);
    for (row, ((case, one), two)) in cases.iter().zip(over_one).zip(over_two).enumerate() {
        let of = |letter| got.get(&tag(row, letter)).map(Vec::as_slice).unwrap_or_default();
        let judged = doors.iter().zip(&one).map(|(door, answer)| judge(case, answer, of(door.letter)));
        let outcome = judged.reduce(both).expect("there is a door");
        let over_two = match two.as_str() {
            "200" if of('e').iter().flat_map(|reading| &reading.requests).all(|seen| as_asked(seen).is_none()) => {
                Outcome::Cleaned(two)
            }
            _ if of('e').is_empty() => Outcome::Refused(two),
            _ => Outcome::Passed(two),
        };
        let same = matches!(
            (&outcome, &over_two),
            (Outcome::Cleaned(_), Outcome::Cleaned(_)) | (Outcome::Refused(_), Outcome::Refused(_))
        );
        let allowed = matches!(outcome, Outcome::Cleaned(_));
        assert_eq!(allowed, case.must == Arrive, "{who}, {}: {outcome}", case.name);
        let outcome =
            if same { outcome } else { Outcome::Passed(format!("{outcome} over HTTP/1.1, {over_two} over HTTP/2")) };
        table.row(77, format!("{who}: {}", case.name), outcome, None);
    }
    for bytes in received(&pair.origin) {
        for seen in strict::read(&bytes).requests {
            assert!(!seen.target.to_ascii_lowercase().starts_with("/open/admin/"), "{seen:?}");
        }
    }
}
