//! The caller's side of identity: whoever answers at the callee's address with other papers gets no byte of a request.

use std::net::TcpListener;

use serde_json::json;
use support::message::Message;
use support::pair::{HOST, Setting, json_log};
use support::peers::Impostor;
use support::pki::{Cert, Forged, Forger, spiffe};
use support::sidecar::Sidecar;
use support::wire;

#[test]
fn a_callee_with_another_identity_gets_no_request() {
    assert_gets_nothing("SAN_matcher", |setting| setting.ca.issue("fake", "shop", "stock"));
}

#[test]
fn a_callee_with_the_callers_own_identity_gets_no_request() {
    assert_gets_nothing("SAN_matcher", |setting| setting.web.clone());
}

#[test]
fn a_callee_with_the_right_name_under_an_unknown_root_gets_no_request() {
    assert_gets_nothing("verify_cert_failed:_unknown_issuer", |setting| {
        let name = format!("URI:{}", spiffe("shop", "orders"));
        let foreign = Forger::new_root(setting.dir.path(), "foreign", "example.org");
        foreign.leaf("fake", &Forged { names: &[&name], ..Forged::default() })
    });
}

#[test]
fn a_callee_with_an_expired_certificate_gets_no_request() {
    assert_gets_nothing("verify_cert_failed:_expired", |setting| {
        let name = format!("URI:{}", spiffe("shop", "orders"));
        setting.ca.forger().leaf("fake", &Forged { names: &[&name], expired: true, ..Forged::default() })
    });
}

#[test]
fn a_callee_with_two_identities_gets_no_request() {
    assert_gets_nothing("verify_cert_failed:_two_uri_sans", |setting| {
        let (right, more) = (format!("URI:{}", spiffe("shop", "orders")), format!("URI:{}", spiffe("shop", "stock")));
        setting.ca.forger().leaf("fake", &Forged { names: &[&right, &more], ..Forged::default() })
    });
}

#[test]
fn a_callee_without_tls_gets_no_request() {
    let setting = Setting::new().client(json_log);
    let client = setting.start_client();
    let origin = support::origin::Origin::on(setting.at.inbound);
    assert_upstream_failure(&ask(&setting), &client);
    assert!(!origin.saw(b"GET"), "a plain listener was sent a request");
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn a_callee_that_is_not_there_is_answered_503() {
    let setting = Setting::new().client(json_log);
    let client = setting.start_client();
    assert_upstream_failure(&ask(&setting), &client);
    drop(TcpListener::bind(setting.at.inbound).unwrap());
}

fn assert_gets_nothing(reason: &str, papers: impl FnOnce(&Setting) -> Cert) {
    let setting = Setting::new().client(json_log);
    let cert = papers(&setting);
    let impostor = Impostor::start(setting.dir.path(), setting.at.inbound, &cert);
    let client = setting.start_client();
    for _ in 0..3 {
        assert_upstream_failure(&ask(&setting), &client);
    }
    let connections = support::wait::until("the impostor to see a connection", support::wait::SOON, || {
        let seen = impostor.connections();
        (!seen.is_empty()).then_some(seen)
    });
    for connection in connections {
        assert_eq!(connection["received"], "", "{reason}: {connection}");
    }
    let refusal = client.refused(reason);
    assert_eq!(refusal["event"], json!("request_refused"), "{refusal}");
    assert_eq!(refusal["reason"], json!("upstream_tls"), "{refusal}");
}

/// 503 in Envoy's words, with its flag in the log.
fn assert_upstream_failure(reply: &Message, client: &Sidecar) {
    assert_eq!(reply.status(), 503, "{}", reply.text());
    let words = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    assert_eq!(reply.text(), words);
    assert_eq!(reply.header("server"), Some("envoy"));
    client.logged(&[
        "\"response_code\":503",
        "\"response_flags\":\"UF\"",
        "upstream_reset_before_response_started{remote_connection_failure|",
    ]);
}

fn ask(setting: &Setting) -> Message {
    wire::get(setting.at.entry, HOST, "/api/orders/42").unwrap()
}
