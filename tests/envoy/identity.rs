//! The wrong identity at either end, with an Envoy at the other: the same answer from every pair.

use serde_json::json;
use support::envoy::Version;
use support::origin::Origin;
use support::pair::Setting;
use support::peers::{GrpcServer, grpc_calls, h2_requests};
use support::scratch::Scratch;
use support::wire;

use crate::edge::{Edge, Make, Papers};
use Make::{Envoy, Sekisho};

const EDGES: [(Make, Make); 3] = [(Envoy, Envoy), (Envoy, Sekisho), (Sekisho, Envoy)];

#[test]
fn a_caller_of_another_namespace_is_refused_by_either_make() {
    for (caller, callee) in EDGES {
        for version in [Version::Http1, Version::Http2] {
            let origin = Origin::start();
            let setting = Setting::new();
            let mut papers = Papers::usual(&setting);
            papers.caller = setting.ca.issue("stranger", "other", "web");
            papers.caller_name = ("other", "web");
            let edge = Edge::with(setting, &papers, caller, callee, version, origin.addr());
            let (status, body) = ask(&edge, version);
            assert_eq!((status, body.as_str()), (403, "RBAC: access denied"), "{caller:?} to {callee:?}, {version:?}");
            assert_eq!(origin.connections(), 0);
        }
    }
}

#[test]
fn a_callee_of_another_name_gets_no_request_from_either_make() {
    for (caller, callee) in EDGES {
        for version in [Version::Http1, Version::Http2] {
            let origin = Origin::start();
            let setting = Setting::new();
            let mut papers = Papers::usual(&setting);
            papers.callee = setting.ca.issue("stranger", "shop", "stock");
            papers.callee_name = ("shop", "stock");
            let edge = Edge::with(setting, &papers, caller, callee, version, origin.addr());
            let (status, body) = ask(&edge, version);
            assert_eq!(status, 503, "{caller:?} to {callee:?}, {version:?}: {body}");
            let words =
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
            assert_eq!(body, words);
            edge.caller.logged(
                "GET",
                "/api/orders/42",
                503,
                "upstream_reset_before_response_started{remote_connection_failure",
            );
            edge.caller.logged("GET", "/api/orders/42", 503, "UF");
            assert_eq!(origin.connections(), 0);
        }
    }
}

#[test]
fn a_grpc_caller_of_another_namespace_gets_status_7_from_either_make() {
    for (caller, callee) in EDGES {
        let scratch = Scratch::new();
        let server = GrpcServer::start(scratch.path());
        let setting = Setting::new();
        let mut papers = Papers::usual(&setting);
        papers.caller = setting.ca.issue("stranger", "other", "web");
        papers.caller_name = ("other", "web");
        let edge = Edge::with(setting, &papers, caller, callee, Version::Http2, server.addr());
        for result in grpc_calls(&edge.entry().to_string(), &["unary", "chat"]) {
            assert_eq!(result["code"], "PERMISSION_DENIED", "{caller:?} to {callee:?}: {result}");
            assert_eq!(result["details"], "RBAC: access denied");
        }
        assert!(server.calls().is_empty());
    }
}

fn ask(edge: &Edge, version: Version) -> (u64, String) {
    match version {
        Version::Http1 => {
            let reply = wire::get(edge.entry(), "orders.shop.svc", "/api/orders/42").unwrap();
            (u64::from(reply.status()), reply.text())
        }
        Version::Http2 => {
            let request = json!({"method": "GET", "path": "/api/orders/42", "authority": "orders.shop.svc"});
            let reply = h2_requests(edge.entry(), &[request]).remove(0);
            (reply["status"].as_u64().unwrap_or(0), reply["body"].as_str().unwrap_or("").to_owned())
        }
    }
}
