//! What the pair lets through and what it answers to the rest, asked through the caller's sidecar and, as an attacker
//! would, with the caller's certificate straight at the callee's port.

use std::process::Command;
use std::time::Duration;

use support::child::run;
use support::message::{self, Kind, Message};
use support::pair::{Addresses, CLIENT, HOST, Pair, SERVER, Setting, json_log};
use support::peers::TlsClient;
use support::pki::spiffe;
use support::{ports, tools, wire};

/// Targets without a canonical reading, each with the reason that has to be said.
const MALFORMED: [(&str, &str); 3] =
    [("/api/orders/../admin", "dot_segment"), ("/api//orders", "empty_segment"), ("/api/orders%2f42", "encoded_slash")];

#[test]
fn contract_files_work_as_written_on_their_own_ports() {
    let _turn = ports::exclusive("contract-ports");
    let pair = Setting::at(Addresses::of_the_contract()).start();
    assert_eq!(pair.setting.dir.read("server.toml"), SERVER);
    assert_eq!(pair.setting.dir.read("client.toml"), CLIENT);

    let curl = |arguments: &str| {
        let mut command = curl();
        run(command.args(["-H", "Host: orders.shop.svc"]).args(arguments.split(' ')))
    };
    assert_eq!(curl("http://127.0.0.1:9001/api/orders/42"), "200");
    assert_eq!(curl("-X POST http://127.0.0.1:9001/api/orders"), "403");
    assert_eq!(curl("http://127.0.0.1:9001/api/orders/x"), "403");
    for (target, reason) in MALFORMED {
        assert_malformed(&ask(&pair, "GET", target), reason);
        assert_malformed(&ask_straight(&pair, "GET", target), reason);
    }
    assert_eq!(targets_seen(&pair), ["/api/orders/42"]);
}

#[test]
fn an_allowed_request_reaches_the_application_with_the_callers_identity() {
    let pair = Pair::start();
    let reply = ask(&pair, "GET", "/api/orders/42");
    assert_eq!((reply.status(), reply.text().as_str()), (200, "GET /api/orders/42 0"));
    assert_eq!(reply.header("server"), Some("recording-origin"), "the application's own name passes through");

    let seen = pair.origin.last("/api/orders/42");
    assert_eq!(seen.header("host"), Some(HOST));
    assert_xfcc(&seen);
    pair.client.logged(&["GET /api/orders/42", " 200 "]);
    pair.server.logged(&["GET /api/orders/42", " 200 "]);
}

#[test]
fn an_allowed_request_with_the_callers_certificate_is_answered_straight_too() {
    let pair = Pair::start();
    let reply = ask_straight(&pair, "GET", "/api/orders/42");
    assert_eq!(reply.status(), 200);
    assert_xfcc(&pair.origin.last("/api/orders/42"));
}

#[test]
fn head_is_allowed_where_the_rule_names_it_and_has_no_body() {
    let pair = Pair::start();
    let reply = ask(&pair, "HEAD", "/api/orders");
    assert_eq!(reply.status(), 200);
    assert_eq!(pair.origin.last("/api/orders").method(), "HEAD");
}

#[test]
fn a_query_is_forwarded_byte_for_byte_and_never_judged() {
    let pair = Pair::start();
    let target = "/api/orders/42?a=../b&c=%2f&d=//";
    assert_eq!(ask(&pair, "GET", target).status(), 200);
    assert_eq!(targets_seen(&pair), [target]);
}

#[test]
fn a_request_that_no_rule_names_is_refused_with_envoys_words() {
    let pair = Setting::new().server(json_log).start();
    for (method, target) in
        [("POST", "/api/orders"), ("GET", "/api/orders/x"), ("GET", "/"), ("DELETE", "/api/orders/42")]
    {
        for reply in [ask(&pair, method, target), ask_straight(&pair, method, target)] {
            assert_eq!(reply.status(), 403, "{method} {target}");
            assert_eq!(reply.text(), "RBAC: access denied");
            assert_eq!(reply.header("content-type"), Some("text/plain"));
            assert_eq!(reply.header("server"), Some("envoy"));
        }
        pair.server.logged(&[
            &format!("\"path\":\"{target}\""),
            "\"response_code\":403",
            "\"response_code_details\":\"rbac_access_denied_matched_policy[none]\"",
        ]);
        let refusal = pair.server.refused("rbac_access_denied_matched_policy[none]");
        for key in ["event", "reason", "rule", "peer", "detail"] {
            assert!(refusal.get(key).is_some(), "{key} is missing in {refusal}");
        }
        assert_eq!(refusal["peer"], spiffe("shop", "web"));
    }
    assert_eq!(pair.origin.requests().len(), 0);
}

#[test]
fn a_target_without_a_canonical_reading_is_refused_through_the_pair_for_its_own_reason() {
    let pair = Setting::new().client(json_log).start();
    for (target, reason) in MALFORMED {
        assert_malformed(&ask(&pair, "GET", target), reason);
        pair.client.logged(&[
            "\"response_code\":400",
            &format!("\"response_code_details\":\"path_normalization_failed{{{reason}}}\""),
        ]);
        pair.client.refused(&format!("path_normalization_failed{{{reason}}}"));
    }
    assert_eq!(pair.origin.requests().len(), 0);
    assert!(!pair.origin.saw(b"orders"));
}

#[test]
fn a_target_without_a_canonical_reading_is_refused_over_mutual_tls_for_its_own_reason() {
    let pair = Setting::new().server(json_log).start();
    for (target, reason) in MALFORMED {
        assert_malformed(&ask_straight(&pair, "GET", target), reason);
        pair.server.logged(&[
            "\"response_code\":400",
            &format!("\"response_code_details\":\"path_normalization_failed{{{reason}}}\""),
        ]);
        pair.server.refused(&format!("path_normalization_failed{{{reason}}}"));
    }
    assert_eq!(pair.origin.requests().len(), 0);
    assert!(!pair.origin.saw(b"orders"));
}

#[test]
fn a_malformed_target_is_refused_in_observe_mode_too_and_a_forbidden_one_passes() {
    let observe = |text: String| text.replace("mode = \"enforce\"", "mode = \"observe\"");
    let pair = Setting::new().server(observe).client(observe).start();
    for (target, reason) in MALFORMED {
        assert_malformed(&ask(&pair, "GET", target), reason);
        assert_malformed(&ask_straight(&pair, "GET", target), reason);
    }
    assert_eq!(pair.origin.requests().len(), 0);
    assert_eq!(ask(&pair, "GET", "/not/in/any/rule").status(), 200);
    assert_eq!(targets_seen(&pair), ["/not/in/any/rule"]);
}

#[test]
fn an_identity_header_from_a_client_is_replaced() {
    let pair = Pair::start();
    let spoofed = "x-forwarded-client-cert: By=spiffe://example.org/ns/a/sa/b;URI=spiffe://example.org/ns/kube-system/sa/admin\r\n";
    let bytes = format!("GET /api/orders/42 HTTP/1.1\r\nHost: {HOST}\r\n{spoofed}Connection: close\r\n\r\n");
    assert_eq!(wire::request(pair.entry(), bytes.as_bytes()).unwrap().status(), 200);
    assert_xfcc(&pair.origin.last("/api/orders/42"));
    assert_eq!(parse(&straight(&pair).send(bytes.as_bytes()).received).status(), 200);
    for seen in pair.origin.requests() {
        assert_xfcc(&seen);
    }
}

#[test]
fn two_requests_in_one_write_are_judged_one_by_one() {
    let pair = Pair::start();
    let good = format!("GET /api/orders/42 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let bad = format!("GET /admin HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let mut connection = wire::Connection::open(pair.entry()).unwrap();
    connection.send(format!("{good}{bad}").as_bytes()).unwrap();
    assert_eq!(connection.receive().unwrap().status(), 200);
    assert_eq!(connection.receive().unwrap().status(), 403);
    assert_eq!(targets_seen(&pair), ["/api/orders/42"]);
}

#[test]
fn a_request_with_two_lengths_smuggles_no_second_request() {
    let framings = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 5\r\nTransfer-Encoding: chunked\r\n",
    ];
    let pair = Pair::start();
    for framing in framings {
        let smuggled = "0\r\n\r\nGET /api/orders/666 HTTP/1.1\r\nHost: orders.shop.svc\r\n\r\n";
        let bytes = format!("GET /api/orders/42 HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n{smuggled}");
        let straight = straight(&pair).seconds(3).send(bytes.as_bytes()).received;
        let through = wire::exchange(pair.entry(), bytes.as_bytes(), Duration::from_secs(3)).0;
        for received in [straight, through] {
            // RFC 9112 section 6.3: refuse it, or drop the length, answer once and close. Never a second answer.
            let answers = String::from_utf8_lossy(&received).matches("HTTP/1.1 ").count();
            let status = parse(&received).status();
            assert_eq!(answers, 1, "{framing:?}");
            assert!(status == 200 || (400..=501).contains(&status), "{framing:?} was answered {status}");
        }
    }
    assert!(!pair.origin.saw(b"666"), "the application was sent the second request");
}

/// A request by raw bytes at the caller's entry.
fn ask(pair: &Pair, method: &str, target: &str) -> Message {
    wire::request(pair.entry(), &bytes(method, target)).unwrap()
}

/// The same bytes over mutual TLS straight at the callee, with the caller's certificate.
fn ask_straight(pair: &Pair, method: &str, target: &str) -> Message {
    let seen = straight(pair).send(&bytes(method, target));
    assert!(seen.handshake, "{}", seen.error);
    assert_eq!(seen.all["peer_uris"][0], spiffe("shop", "orders"));
    message::read(&mut &seen.received[..], Kind::Response).unwrap().unwrap()
}

fn straight(pair: &Pair) -> TlsClient<'_> {
    TlsClient::new(pair.setting.at.inbound).cert(&pair.setting.web).bundle(&pair.setting.web.bundle)
}

fn bytes(method: &str, target: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// The first message of some bytes; an empty one, with status 0, when there is none.
fn parse(received: &[u8]) -> Message {
    message::read(&mut &received[..], Kind::Response).ok().flatten().unwrap_or_default()
}

fn targets_seen(pair: &Pair) -> Vec<String> {
    pair.origin.requests().iter().map(|request| request.target().to_owned()).collect()
}

fn assert_malformed(reply: &Message, reason: &str) {
    assert_eq!(reply.status(), 400, "{reason}");
    assert!(reply.text().contains(reason), "the body does not say {reason}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("text/plain"));
}

/// `By=…;Hash=…;Subject="…";URI=…`, once, about the caller of the pair.
fn assert_xfcc(seen: &Message) {
    assert_eq!(seen.count("x-forwarded-client-cert"), 1);
    let xfcc = seen.header("x-forwarded-client-cert").unwrap();
    let (start, end) = (format!("By={};Hash=", spiffe("shop", "orders")), format!(";URI={}", spiffe("shop", "web")));
    let middle = xfcc.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&end)).unwrap_or_else(|| panic!("{xfcc}"));
    let (hash, subject) = middle.split_once(';').unwrap();
    assert!(
        hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()),
        "{xfcc}"
    );
    assert!(subject.starts_with("Subject=\"") && subject.ends_with('"'), "{xfcc}");
}

/// curl that prints the status alone and never rewrites a path.
fn curl() -> Command {
    let mut command = tools::system("curl", "curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", "--max-time", "20"]);
    command
}
