//! Classes 70 to 85: other words for what a rule denies, and claims that only a proxy may make.

use serde_json::{Value, json};
use support::catalogue::{Outcome, Table};
use support::pair::{HOST, Pair};
use support::strict::{self, Seen};
use support::{peers, wire};

use super::Must::{Arrive, Clean, Refuse};
use super::{Bench, Case, Door, RULES, case, get, judge, plain_host, reach, sidecars, values};

#[test]
fn no_spelling_leads_round_a_rule() {
    let mut table = Table::new("policy-bypass", 70..=83);
    let cases: Vec<Case> = [paths(), overrides(), identities(), repeated()].into_iter().flatten().collect();
    Bench::start().fill(&mut table, &cases);
    table.judge(&(70..=83).collect::<Vec<u8>>());
}

/// Targets that some application reads as one a rule denies, by class.
const TARGETS: [(u8, &str); 96] = [
    (70, "/open/x/../admin/@R@"),
    (70, "/open/./admin/@R@"),
    (70, "/open//admin/@R@"),
    (70, "//open/admin/@R@"),
    (70, "/open/admin/../admin/@R@"),
    (70, "/open/../closed/@R@"),
    (70, "/open/.../@R@/../../admin"),
    (70, "/open/@R@/.."),
    (70, "/open/admin/."),
    (70, "/open/admin/"),
    (70, "/open/admin//@R@"),
    (71, "/open/x/%2e%2e/admin/@R@"),
    (71, "/open/x/%2E%2E/admin/@R@"),
    (71, "/open/x/.%2e/admin/@R@"),
    (71, "/open/%2e/admin/@R@"),
    (71, "/open%2fadmin/@R@"),
    (71, "/open%2Fadmin/@R@"),
    (71, "/open/x%2f..%2fadmin/@R@"),
    (71, "/open/%2fadmin/@R@"),
    (71, "/open%5cadmin/@R@"),
    (71, "/open/x%5C..%5Cadmin/@R@"),
    (71, "/open/%61dmin/@R@"),
    (71, "/open/%61%64%6d%69%6e/@R@"),
    (71, "/%6fpen/%61dmin/@R@"),
    (72, "/open/x/%252e%252e/admin/@R@"),
    (72, "/open%252fadmin/@R@"),
    (72, "/open%255cadmin/@R@"),
    (72, "/open/%2561dmin/@R@"),
    (72, "/open/x/%25252e%25252e/admin/@R@"),
    (72, "/open%25252fadmin/@R@"),
    (72, "/open/%252561dmin/@R@"),
    (72, "/open/%25%361dmin/@R@"),
    (72, "/open/%2%361dmin/@R@"),
    (72, "/open/x/..%252fadmin/@R@"),
    (73, "/open/admin;a=b/@R@"),
    (73, "/open;a=b/admin/@R@"),
    (73, "/open/admin;/@R@"),
    (73, "/open/x/..;/admin/@R@"),
    (73, "/open/x/..;a=b/admin/@R@"),
    (73, "/open/.;/admin/@R@"),
    (73, "/open/x/..%3b/admin/@R@"),
    (73, "/open/admin%3b/@R@"),
    (73, "/open/admin%3Ba=b/@R@"),
    (73, "/open/;/admin/@R@"),
    (73, "/open/x;/../admin/@R@"),
    (73, "/open/admin%253b/@R@"),
    (74, "/open\\admin\\@R@"),
    (74, "/open/x\\..\\admin/@R@"),
    (74, "\\open\\admin\\@R@"),
    (74, "/open/..\\closed/@R@"),
    (75, "/open/x/%c0%ae%c0%ae/admin/@R@"),
    (75, "/open%c0%afadmin/@R@"),
    (75, "/open/%c1%a1dmin/@R@"),
    (75, "/open/x/%e0%80%ae%e0%80%ae/admin/@R@"),
    (75, "/open/%f0%80%81%a1dmin/@R@"),
    (75, "/open/x/%ef%bc%8e%ef%bc%8e/admin/@R@"),
    (75, "/open%ef%bc%8fadmin/@R@"),
    (75, "/open%ef%bc%bcadmin/@R@"),
    (75, "/open/%ef%bd%81dmin/@R@"),
    (75, "/open/admin%ef%bc%9b/@R@"),
    (75, "/open/x/%u002e%u002e/admin/@R@"),
    (75, "/open%u002fadmin/@R@"),
    (75, "/open/%u0061dmin/@R@"),
    (75, "/open/%ed%a0%80admin/@R@"),
    (75, "/open/%ff%fe/admin/@R@"),
    (76, "/open/admin%00/@R@"),
    (76, "/open/admin%00.html/@R@"),
    (76, "/open/admin%0d/@R@"),
    (76, "/open/admin%0a/@R@"),
    (76, "/open/admin%09/@R@"),
    (76, "/open/admin%20/@R@"),
    (76, "/open/%20admin/@R@"),
    (76, "/open/adm%00in/@R@"),
    (76, "/open/adm%0ain/@R@"),
    (76, "/open/admin%c2%a0/@R@"),
    (76, "/open/admin%c2%85/@R@"),
    (76, "/open/admin%e2%80%a8/@R@"),
    (76, "/open/admin%7f/@R@"),
    (76, "/open/x/%20../admin/@R@"),
    (77, "/open/ADMIN/@R@"),
    (77, "/open/Admin/@R@"),
    (77, "/open/admiN"),
    (77, "/open/%41dmin/@R@"),
    (77, "/OPEN/admin/@R@"),
    (77, "/OPEN/x/@R@"),
    (78, "/open/admin%3f/@R@"),
    (78, "/open/admin%3fx=@R@"),
    (78, "/open/admin%23@R@"),
    (78, "/open/x%3f/../admin/@R@"),
    (78, "/open/x%23/../../admin/@R@"),
    (78, "/open/admin%253f/@R@"),
    (79, "http://orders.shop.svc/open/admin/@R@"),
    (79, "HTTP://orders.shop.svc//open/admin/@R@"),
    (79, "//orders.shop.svc/open/admin/@R@"),
    (79, "///open/admin/@R@"),
    (79, "http://orders.shop.svc/open/x/../admin/@R@"),
];

fn paths() -> Vec<Case> {
    // Case is part of a path (RFC 3986 §6.2.2.1): what no rule allows in this case is refused, and a deny rule holds for the
    // case it is written in (docs/policy.md).
    // Nothing of it may be served as something else than what was judged: what arrives is read in every way there is.
    let mut cases: Vec<Case> =
        TARGETS.map(|(class, target)| case(class, Clean, target.replace("@R@", "x"), get(target))).into();
    for (class, target) in [
        (70, "/open/x..y/..z/@R@"),
        (71, "/open/%7Ex/%61/@R@"),
        (72, "/open/100%25/@R@"),
        (75, "/open/caf%C3%A9/@R@"),
        (77, "/open/administrator/@R@"),
        (78, "/open/@R@?a=/../admin&b=%2e%2e;x"),
        (79, "http://orders.shop.svc/open/@R@"),
    ] {
        cases.push(case(class, Arrive, target.replace("@R@", "x"), get(target)).check(plain_host));
    }
    cases
}

/// That nothing of what the caller claims arrives, under any name.
fn nothing_forged(seen: &Seen) -> Option<String> {
    let all = seen.fields.iter().chain(&seen.trailers);
    let forged: Vec<&String> = all.filter(|(_, value)| value.contains("forged")).map(|(name, _)| name).collect();
    (!forged.is_empty()).then(|| format!("the fields {forged:?}"))
}

/// Other spellings of a name that some application takes for the same.
fn spellings(name: &str) -> [String; 4] {
    [name.to_owned(), name.to_ascii_uppercase(), name.replace('-', "_"), name.replacen('-', "_", 1)]
}

/// Class 80: fields that make another request of the one that was judged.
fn overrides() -> Vec<Case> {
    let names = [
        "X-Original-URL",
        "X-Original-URI",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Envoy-Original-Path",
        "X-Envoy-Original-Host",
    ];
    let spelled = names.iter().flat_map(|name| spellings(name));
    let mut cases: Vec<Case> = spelled
        .map(|name| {
            let bytes = format!("GET /open/@R@ HTTP/1.1\r\nHost: @H@\r\n{name}: /open/admin/forged\r\n\r\n");
            case(80, Clean, name, bytes).check(nothing_forged)
        })
        .collect();
    cases.push(
        case(80, Clean, "X-Original-URL for a trailer", "POST /open/@R@ HTTP/1.1\r\nHost: @H@\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Original-URL: forged\r\n\r\n")
            .check(nothing_forged),
    );
    cases
}

/// That the application learns from us, once, who called.
fn who_called(seen: &Seen) -> Option<String> {
    let cert = values(seen, "x-forwarded-client-cert");
    if !matches!(cert[..], [one] if one.contains("URI=spiffe://example.org/ns/shop/sa/web") && !one.contains(',')) {
        return Some(format!("client certificate {cert:?}"));
    }
    nothing_forged(seen)
}

/// Classes 81 and 82.
fn identities() -> Vec<Case> {
    let names = [
        "X-Forwarded-Client-Cert",
        "L5d-Client-Id",
        "l5d-remote-ip",
        "X-Envoy-Internal",
        "X-Envoy-External-Address",
        "X-Envoy-Peer-Metadata",
        "X-Envoy-Decorator-Operation",
        "X-Envoy-Downstream-Service-Cluster",
        "X-Envoy-Upstream-Rq-Timeout-Ms",
        "X-Envoy-Retry-On",
    ];
    let head = |fields: String| format!("GET /open/@R@ HTTP/1.1\r\nHost: @H@\r\n{fields}\r\n\r\n");
    let mut cases = Vec::new();
    for name in names {
        cases.push(case(81, Clean, name, head(format!("{name}: By=forged;URI=spiffe://forged"))).check(who_called));
        for spelled in &spellings(name)[1..] {
            cases.push(
                case(82, Clean, spelled.as_str(), head(format!("{spelled}: By=forged;URI=spiffe://forged")))
                    .check(who_called),
            );
        }
        cases.push(
            case(82, Clean, format!("{name} twice"), head(format!("{name}: forged\r\n{name}: forged")))
                .check(who_called),
        );
        cases.push(
            case(
                82,
                Clean,
                format!("{name} named in Connection"),
                head(format!("Connection: {name}\r\n{name}: forged")),
            )
            .check(who_called),
        );
        cases.push(
            case(82, Clean, format!("{name}, empty, then forged"), head(format!("{name}:\r\n{name}: forged")))
                .check(who_called),
        );
    }
    cases
}

/// Class 83: rules look at two fields, the host and, for gRPC, the type of the body.
fn repeated() -> Vec<Case> {
    let hosts: [(&str, &[u8]); 5] = [
        ("a denied host after ours", b"Host: @H@\r\nHost: private.shop.svc"),
        ("a denied host before ours", b"Host: private.shop.svc\r\nHost: @H@"),
        ("a denied host and a byte that is no UTF-8", b"Host: private.shop.svc\xff"),
        ("a denied host after bytes that are no UTF-8", b"Host: \xc3\x28private.shop.svc"),
        ("a denied host in a list", b"Host: @H@, private.shop.svc"),
    ];
    let types: [(&str, &[u8]); 8] = [
        ("a denied call", b"Content-Type: application/grpc"),
        ("a denied call in protobuf", b"Content-Type: application/grpc+proto"),
        ("a denied call in capitals", b"CONTENT-TYPE: APPLICATION/GRPC"),
        ("a denied call with a parameter", b"Content-Type: application/grpc; charset=utf-8"),
        ("a denied call with a parameter that is no UTF-8", b"Content-Type: application/grpc;\xff"),
        ("a denied call after another type", b"Content-Type: text/plain\r\nContent-Type: application/grpc"),
        ("a denied call before another type", b"Content-Type: application/grpc\r\nContent-Type: text/plain"),
        ("a denied call after a type that is no UTF-8", b"Content-Type: \xff\r\nContent-Type: application/grpc"),
    ];
    let hosts = hosts
        .map(|(name, lines)| case(83, Refuse, name, [&b"GET /open/@R@ HTTP/1.1\r\n"[..], lines, b"\r\n\r\n"].concat()));
    let types = types.map(|(name, lines)| {
        let head = &b"POST /open/Forbidden HTTP/1.1\r\nHost: @H@\r\nX-Row: @R@\r\nContent-Length: 0\r\n"[..];
        case(83, Refuse, name, [head, lines, b"\r\n\r\n"].concat())
    });
    hosts.into_iter().chain(types).collect()
}

/// Class 84: bytes in which no rule can be read, where one that denies would have to.
#[test]
fn a_rule_that_cannot_be_evaluated_denies() {
    let mut table = Table::new("policy-unreadable", 84..=84);
    let pair = sidecars(ANYTHING_BUT_ADMIN);
    let control = wire::get(pair.entry(), HOST, "/anything").unwrap();
    assert_eq!(control.status(), 200, "everything else is allowed");
    let doors = [('p', pair.entry(), None), ('m', pair.setting.at.inbound, Some(&pair.setting.web))];
    let cases: [(&str, &[u8]); 7] = [
        ("noise", b"\0\x01\x02noise @R@\r\n\r\n"),
        ("a line without a version, then a request", b"HELLO @R@\r\nGET /open/admin HTTP/1.1\r\nHost: @H@\r\n\r\n"),
        ("a request line of HTTP/0.9", b"GET /open/admin/@R@\r\n"),
        ("a request behind two empty lines", b"\r\n\r\nGET /open/admin/@R@ HTTP/1.1\r\nHost: @H@\r\n\r\n"),
        ("a request behind a NUL", b"\0GET /open/admin/@R@ HTTP/1.1\r\nHost: @H@\r\n\r\n"),
        ("a version in small letters", b"GET /open/admin/@R@ http/1.1\r\nHost: @H@\r\n\r\n"),
        ("a request cut in its line", b"GET /open/admin/@R@ HTT"),
    ];
    for (row, (name, bytes)) in cases.into_iter().enumerate() {
        let case = case(84, Refuse, name, bytes);
        let [plain, mtls] = doors.map(|(letter, to, cert)| {
            // No protocol is named in the handshake: the bytes alone say what they are.
            let answer = Door { letter, to, cert }.send_as(&case.bytes(&super::tag(row, letter)), &[], true);
            judge(&case, &answer, &[])
        });
        table.row(84, name, super::both(plain, mtls), None);
    }
    for bytes in super::received(&pair.origin) {
        assert!(bytes.is_empty() || bytes.starts_with(b"GET /anything "), "{:?}", String::from_utf8_lossy(&bytes));
    }
    table.judge(&[84]);
}

/// Everything is allowed, opaque bytes too, where no request could be one that is denied.
const ANYTHING_BUT_ADMIN: &str = r#"
[[inbound]]
name = "anything"
from = "shop/web"

[[inbound]]
name = "no-admin"
action = "deny"
from = "anyone"
requests = ["* /open/admin/{rest...}"]
"#;

/// Class 85: the same request over HTTP/2 and HTTP/1.1 gets the same verdict.
#[test]
fn both_versions_of_http_get_the_same_verdict() {
    let mut table = Table::new("policy-http2", 85..=85);
    let pair = sidecars(RULES);
    // Over HTTP/2 there is no absolute form.
    let targets =
        TARGETS.iter().map(|(_, target)| target.replace("@R@", "h2")).filter(|target| target.starts_with('/'));
    let more = ["/open/h2", "/open/admin/h2", "/closed/h2", "/open/h2?a=b;c", "/open/100%25"].map(str::to_owned);
    let targets: Vec<String> = targets.chain(more).collect();
    let asks: Vec<Value> =
        targets.iter().map(|path| json!({"method": "GET", "path": path, "authority": HOST})).collect();
    for (target, two) in targets.iter().zip(ask_all(&pair, &asks)) {
        let one = wire::get(pair.entry(), HOST, target).unwrap().status();
        let how = format!("{one} and {two}");
        // What HTTP/1.1 answers with 400 may end the stream without an answer.
        let outcome = match two.as_str() {
            _ if one == 400 && two.starts_with("reset") => Outcome::Refused(how),
            _ if two != one.to_string() => Outcome::Passed(how),
            "200" => Outcome::Cleaned(how),
            _ => Outcome::Refused(how),
        };
        table.row(85, target.as_str(), outcome, None);
    }
    let with = |method: &str, path: &str, authority: &str, fields: &[[&str; 2]]| json!({"method": method, "path": path, "authority": authority, "headers": fields});
    let types = ["text/plain", "application/grpc"].map(|value| ["content-type", value]);
    let asks = [
        ("a denied host in `host`", with("GET", "/open/h2", HOST, &[["host", "private.shop.svc"]])),
        ("a denied host before our `host`", with("GET", "/open/h2", "private.shop.svc", &[["host", HOST]])),
        ("a denied host with a port", with("GET", "/open/h2", "private.shop.svc:80", &[])),
        ("a denied host in capitals", with("GET", "/open/h2", "PRIVATE.shop.svc", &[])),
        ("a denied host with a dot", with("GET", "/open/h2", "private.shop.svc.", &[])),
        ("a denied call", with("POST", "/open/Forbidden", HOST, &types[1..])),
        ("a denied call after another type", with("POST", "/open/Forbidden", HOST, &types)),
        ("a denied call in capitals", with("POST", "/open/Forbidden", HOST, &[["content-type", "APPLICATION/GRPC"]])),
    ];
    for (name, ask) in asks {
        let how = ask_all(&pair, &[ask]).remove(0);
        let passed = how == "200" || how.starts_with("nothing");
        table.row(85, name, if passed { Outcome::Passed(how) } else { Outcome::Refused(how) }, None);
    }
    for bytes in super::received(&pair.origin) {
        for seen in strict::read(&bytes).requests {
            assert!(reach::stays_open(&seen.target) && plain_host(&seen).is_none(), "{seen:?}");
        }
    }
    table.judge(&[85]);
}

/// What became of HTTP/2 requests: a status, `gRPC status`, `reset …`; `nothing: …` when that says nothing.
pub(super) fn ask_all(pair: &Pair, asks: &[Value]) -> Vec<String> {
    let mut answers = Vec::new();
    while answers.len() < asks.len() {
        for answer in peers::h2_requests(pair.entry(), &asks[answers.len()..]) {
            let error = answer["error"].as_str().unwrap_or_default();
            let ended = ["reset", "closed", "goaway"].iter().any(|how| error.starts_with(how));
            answers.push(match answer["status"].as_u64() {
                Some(_) if answer["headers"].to_string().contains("grpc-status") => "gRPC status".to_owned(),
                Some(status) => status.to_string(),
                None if ended => format!("reset: {error}"),
                None => format!("nothing: {error}"),
            });
            if ended {
                // What follows on an ended connection says nothing: ask again.
                break;
            }
        }
    }
    answers
}
