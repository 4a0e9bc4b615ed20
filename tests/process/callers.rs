//! Who may speak to the callee at all: good certificates of the wrong workload get an answer, bad certificates get none,
//! and the application never sees a connection for either.

use std::time::Duration;

use serde_json::json;
use support::message::{self, Kind};
use support::pair::{HOST, Pair};
use support::peers::{TlsClient, TlsSeen};
use support::pki::{Cert, Forged, Forger, spiffe};
use support::wait;
use support::wire::{self, End};

const GET: &str = "GET /api/orders/42 HTTP/1.1\r\nHost: orders.shop.svc\r\nConnection: close\r\n\r\n";

#[test]
fn a_certificate_of_another_namespace_is_answered_403() {
    let pair = Pair::start();
    for (name, namespace, account) in
        [("other", "other", "web"), ("sibling", "shop", "stock"), ("self", "shop", "orders")]
    {
        let cert = pair.setting.ca.issue(name, namespace, account);
        let seen = knock(&pair, Some(&cert));
        let reply = message::read(&mut &seen.received[..], Kind::Response).unwrap().unwrap();
        assert_eq!((reply.status(), reply.text().as_str()), (403, "RBAC: access denied"), "{namespace}/{account}");
        pair.server.refused(&spiffe(namespace, account));
    }
    assert_eq!(pair.origin.connections(), 0);
}

#[test]
fn a_certificate_of_another_trust_domain_gets_no_answer() {
    let pair = Pair::start();
    // Under a root of its own, and under ours: the second is what a compromised or careless issuer would make.
    let foreign = Forger::new_root(pair.setting.dir.path(), "foreign", "partner.example");
    let names = ["URI:spiffe://partner.example/ns/shop/sa/web"];
    let forged = Forged { names: &names, ..Forged::default() };
    assert_no_answer(&pair, Some(&foreign.leaf("foreign", &forged)), "trust_domain");
    assert_no_answer(&pair, Some(&pair.setting.ca.forger().leaf("cuckoo", &forged)), "trust_domain");
}

#[test]
fn the_right_name_under_an_unknown_root_gets_no_answer() {
    let pair = Pair::start();
    let name = format!("URI:{}", spiffe("shop", "web"));
    let foreign = Forger::new_root(pair.setting.dir.path(), "foreign", "example.org");
    let cert = foreign.leaf("lookalike", &Forged { names: &[&name], ..Forged::default() });
    assert_no_answer(&pair, Some(&cert), "unknown_issuer");
}

#[test]
fn an_expired_certificate_gets_no_answer() {
    let pair = Pair::start();
    let name = format!("URI:{}", spiffe("shop", "web"));
    let cert =
        pair.setting.ca.forger().leaf("expired", &Forged { names: &[&name], expired: true, ..Forged::default() });
    assert_no_answer(&pair, Some(&cert), "expired");
}

#[test]
fn a_certificate_with_two_uri_names_gets_no_answer() {
    let pair = Pair::start();
    let (web, admin) = (format!("URI:{}", spiffe("shop", "web")), format!("URI:{}", spiffe("ops", "admin")));
    let cert = pair.setting.ca.forger().leaf("two", &Forged { names: &[&web, &admin], ..Forged::default() });
    assert_no_answer(&pair, Some(&cert), "two_uri_sans");
}

#[test]
fn a_certificate_without_a_uri_name_gets_no_answer() {
    let pair = Pair::start();
    let forger = pair.setting.ca.forger();
    let dns =
        forger.leaf("dns", &Forged { names: &["DNS:web.shop.svc", "DNS:spiffe.example.org"], ..Forged::default() });
    assert_no_answer(&pair, Some(&dns), "no_uri_san");
    let none = forger.leaf("nameless", &Forged::default());
    assert_no_answer(&pair, Some(&none), "no_uri_san");
}

#[test]
fn a_ca_certificate_as_a_leaf_gets_no_answer() {
    let pair = Pair::start();
    let name = format!("URI:{}", spiffe("shop", "web"));
    let cert = pair.setting.ca.forger().leaf("caleaf", &Forged { names: &[&name], ca: true, ..Forged::default() });
    assert_no_answer(&pair, Some(&cert), "leaf_is_ca");
}

#[test]
fn a_caller_without_a_certificate_gets_no_answer() {
    let pair = Pair::start();
    assert_no_answer(&pair, None, "no_certificate");
}

#[test]
fn plain_http_on_the_mutual_tls_port_gets_no_http_answer() {
    let pair = Pair::start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for bytes in [GET.as_bytes(), preface, b"\0\0\0\0garbage\r\n\r\n"] {
        let (received, end) = wire::exchange(pair.setting.at.inbound, bytes, Duration::from_secs(10));
        // A TLS alert record is all that may come back.
        assert!(received.is_empty() || received[0] == 21, "{:?}", String::from_utf8_lossy(&received));
        assert_ne!(end, End::Quiet, "the connection was left open");
    }
    assert_eq!(pair.origin.connections(), 0);
    assert_still_serving(&pair);
}

#[test]
fn a_stalled_handshake_is_ended_by_its_timer() {
    let pair = Pair::start();
    let (received, end) = wire::exchange(pair.setting.at.inbound, b"\x16\x03\x01\x02\x00", Duration::from_secs(12));
    assert!(received.is_empty() || received[0] == 21);
    assert_ne!(end, End::Quiet, "still open 12 s after half a hello");
    assert_still_serving(&pair);
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let pair = Pair::start();
    for version in ["TLSv1_3", "TLSv1_2"] {
        let seen = client(&pair, Some(&pair.setting.web)).at_most(version).send(GET.as_bytes());
        assert!(seen.received.starts_with(b"HTTP/1.1 200"), "{version}: {}", seen.error);
        assert_eq!(seen.all["version"].as_str().unwrap().replace('.', "_"), version);
    }
    let seen = client(&pair, Some(&pair.setting.web)).at_most("TLSv1_1").send(GET.as_bytes());
    assert!(!seen.handshake && seen.received.is_empty());
}

/// No byte of HTTP comes back, the application sees no connection, the reason is said and counted, others are served.
fn assert_no_answer(pair: &Pair, cert: Option<&Cert>, reason: &str) {
    let refusals = || -> Vec<_> {
        pair.server.events().into_iter().filter(|event| event["event"] == "handshake_refused").collect()
    };
    let (connections, before) = (pair.origin.connections(), refusals().len());
    let seen = knock(pair, cert);
    assert!(seen.received.is_empty(), "answered {:?}", String::from_utf8_lossy(&seen.received));
    assert_ne!(seen.end, "timeout", "the connection was left open");
    let refusal = wait::until("a refusal line", wait::SOON, || refusals().get(before).cloned());
    assert_eq!((&refusal["event"], &refusal["reason"]), (&json!("handshake_refused"), &json!(reason)), "{refusal}");
    assert!(!refusal["detail"].as_str().unwrap_or("").is_empty(), "no detail in {refusal}");
    assert_eq!(pair.origin.connections(), connections);
    assert_still_serving(pair);
}

fn assert_still_serving(pair: &Pair) {
    let reply = wire::get(pair.entry(), HOST, "/api/orders/42").unwrap();
    assert_eq!(reply.status(), 200);
}

fn knock(pair: &Pair, cert: Option<&Cert>) -> TlsSeen {
    client(pair, cert).send(GET.as_bytes())
}

fn client<'a>(pair: &'a Pair, cert: Option<&'a Cert>) -> TlsClient<'a> {
    let client = TlsClient::new(pair.setting.at.inbound).bundle(&pair.setting.web.bundle);
    match cert {
        Some(cert) => client.cert(cert),
        None => client,
    }
}
