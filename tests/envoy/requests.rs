//! The same requests over every edge: GET, a 1 MiB POST, chunked with trailers, a 403, gRPC in all four forms.

use serde_json::{Value, json};
use support::envoy::Version;
use support::message::Message;
use support::origin::Origin;
use support::peers::{GrpcServer, H2Origin, grpc_calls, h2_requests};
use support::pki::spiffe;
use support::scratch::Scratch;
use support::wire;

use crate::edge::{Edge, Make};
use Make::{Envoy, Sekisho};

const HOST: &str = "orders.shop.svc";
const MIB: usize = 1 << 20;

#[test]
fn http1_between_two_envoys_is_the_measure() {
    over_http1(Envoy, Envoy);
}

#[test]
fn http1_from_envoy_to_sekisho() {
    over_http1(Envoy, Sekisho);
}

#[test]
fn http1_from_sekisho_to_envoy() {
    over_http1(Sekisho, Envoy);
}

#[test]
fn http1_between_two_of_ours() {
    over_http1(Sekisho, Sekisho);
}

#[test]
fn http2_between_two_envoys_is_the_measure() {
    over_http2(Envoy, Envoy);
}

#[test]
fn http2_from_envoy_to_sekisho() {
    over_http2(Envoy, Sekisho);
}

#[test]
fn http2_from_sekisho_to_envoy() {
    over_http2(Sekisho, Envoy);
}

#[test]
fn http2_between_two_of_ours() {
    over_http2(Sekisho, Sekisho);
}

#[test]
fn grpc_between_two_envoys_is_the_measure() {
    over_grpc(Envoy, Envoy);
}

#[test]
fn grpc_from_envoy_to_sekisho() {
    over_grpc(Envoy, Sekisho);
}

#[test]
fn grpc_from_sekisho_to_envoy() {
    over_grpc(Sekisho, Envoy);
}

#[test]
fn grpc_between_two_of_ours() {
    over_grpc(Sekisho, Sekisho);
}

fn over_http1(caller: Make, callee: Make) {
    let origin = Origin::start();
    let edge = Edge::start(caller, callee, Version::Http1, origin.addr());
    let mut connection = wire::Connection::open(edge.entry()).unwrap();
    let mut ask = |bytes: &[u8]| {
        connection.send(bytes).unwrap();
        connection.receive().unwrap()
    };

    let reply = ask(format!("GET /api/orders/42?x=1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes());
    assert_eq!((reply.status(), reply.text().as_str()), (200, "GET /api/orders/42?x=1 0"));
    let seen = origin.last("/api/orders/42?x=1");
    assert_eq!(seen.header("host"), Some(HOST));
    assert_eq!(seen.count("x-forwarded-client-cert"), 1);
    assert_xfcc(seen.header("x-forwarded-client-cert").unwrap());
    assert!(seen.header("x-request-id").is_some_and(|id| id.len() == 36), "{seen:?}");

    let body = pattern(MIB);
    let head = format!("POST /upload HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {MIB}\r\n\r\n");
    let reply = ask(&[head.as_bytes(), &body].concat());
    assert_eq!((reply.status(), reply.text()), (200, format!("POST /upload {MIB}")));
    assert!(origin.last("/upload").body == body, "the body was changed on its way");

    let reply = ask(&chunked("/trailers", &body));
    assert_eq!(reply.status(), 200);
    let length = MIB.to_string();
    assert_eq!(reply.trailer("x-origin-length"), Some(length.as_str()), "the answer's trailer was lost");
    let seen = origin.last("/trailers");
    assert!(seen.body == body, "the chunked body was changed on its way");
    assert_eq!(seen.trailer("x-sum"), Some("42"), "the request's trailer was lost: {:?}", seen.trailers);

    let spoofed = format!(
        "GET /api/orders/7 HTTP/1.1\r\nHost: {HOST}\r\nx-forwarded-client-cert: URI=spiffe://example.org/ns/a/sa/b\r\n\r\n"
    );
    assert_eq!(ask(spoofed.as_bytes()).status(), 200);
    let seen = origin.last("/api/orders/7");
    assert_eq!(seen.count("x-forwarded-client-cert"), 1);
    assert_xfcc(seen.header("x-forwarded-client-cert").unwrap());

    let before = origin.requests().len();
    assert_refused(&ask(format!("GET /refused HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()));
    assert_eq!(origin.requests().len(), before);
    edge.callee.logged("GET", "/refused", 403, "rbac_access_denied_matched_policy[none]");
    edge.caller.logged("GET", "/refused", 403, "via_upstream");
}

fn over_http2(caller: Make, callee: Make) {
    let scratch = Scratch::new();
    let origin = H2Origin::start(scratch.path());
    let edge = Edge::start(caller, callee, Version::Http2, origin.addr());
    let ask = |method: &str, path: &str, more: Value| {
        let mut ask = json!({"method": method, "path": path, "authority": HOST});
        ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask
    };
    let replies = h2_requests(
        edge.entry(),
        &[
            ask("GET", "/api/orders/42?x=1", json!({})),
            ask("POST", "/upload", json!({"body_length": MIB, "headers": [["content-length", MIB.to_string()]]})),
            ask("POST", "/trailers", json!({"body_length": MIB, "trailers": [["x-sum", "42"]]})),
            ask("GET", "/refused", json!({})),
            ask("GET", "/api/orders/43", json!({})),
        ],
    );
    let statuses: Vec<u64> = replies.iter().filter_map(|reply| reply["status"].as_u64()).collect();
    assert_eq!(statuses, [200, 200, 200, 403, 200], "{replies:#?}");
    assert_eq!(replies[3]["body"], "RBAC: access denied");
    assert_eq!(replies[2]["body"], format!("h2 {MIB}"));
    assert!(replies.iter().all(|reply| reply["error"].is_null()), "{replies:#?}");

    let seen = origin.requests();
    let paths: Vec<&str> = seen.iter().filter_map(|request| request["path"].as_str()).collect();
    assert_eq!(paths, ["/api/orders/42?x=1", "/upload", "/trailers", "/api/orders/43"]);
    for (request, reply) in seen.iter().zip([&replies[0], &replies[1], &replies[2], &replies[4]]) {
        assert_eq!(request["authority"], HOST);
        let xfcc: Vec<&str> = header_values(request, "x-forwarded-client-cert");
        assert_eq!(xfcc.len(), 1);
        assert_xfcc(xfcc[0]);
        // The application's trailer carries the hash of what it received.
        assert_eq!(reply["trailers"], json!([["x-origin-sum", request["sha256"]]]), "the answer's trailer was lost");
    }
    assert_eq!((&seen[1]["length"], &seen[2]["length"]), (&json!(MIB), &json!(MIB)));
    assert_eq!(seen[1]["sha256"], seen[2]["sha256"]);
    assert_eq!(seen[2]["trailers"], json!([["x-sum", "42"]]), "the request's trailer was lost");
    edge.callee.logged("GET", "/refused", 403, "HTTP/2");
    edge.callee.logged("POST", "/upload", 200, "HTTP/2");
}

fn over_grpc(caller: Make, callee: Make) {
    let scratch = Scratch::new();
    let server = GrpcServer::start(scratch.path());
    let edge = Edge::start(caller, callee, Version::Http2, server.addr());
    let cases = ["unary", "big", "server_stream", "client_stream", "chat", "forbidden", "unary"];
    let results = grpc_calls(&edge.entry().to_string(), &cases);
    assert_eq!(results.len(), cases.len());
    let got: Vec<&Value> = results.iter().map(|result| &result["got"]).collect();
    assert_eq!(got[0], "echo:hello", "{results:#?}");
    assert_eq!(got[1], &json!(MIB + 5));
    assert_eq!(got[2], &json!(["0", "1", "2", "3", "4"]));
    assert_eq!(got[3], "42");
    assert_eq!(got[4], &json!(["re:m0", "re:m1", "re:m2", "re:m3"]));
    assert_eq!(
        (&results[5]["code"], &results[5]["details"]),
        (&json!("PERMISSION_DENIED"), &json!("RBAC: access denied"))
    );
    assert_eq!(got[6], "echo:hello", "the connection did not outlive a refusal");

    let calls = server.calls();
    let methods: Vec<&str> = calls.iter().filter_map(|call| call["method"].as_str()).collect();
    assert_eq!(methods, ["Unary", "Unary", "Count", "Sum", "Chat", "Unary"]);
    for call in calls {
        assert_xfcc(call["metadata"]["x-forwarded-client-cert"].as_str().unwrap());
    }
}

fn assert_refused(reply: &Message) {
    assert_eq!((reply.status(), reply.text().as_str()), (403, "RBAC: access denied"));
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    assert_eq!(reply.header("content-length"), Some("19"));
    assert_eq!(reply.header("server"), Some("envoy"));
}

/// One element about the usual caller: SANITIZE_SET with subject, URI and DNS.
fn assert_xfcc(xfcc: &str) {
    let fields: Vec<&str> = xfcc.split(';').collect();
    assert_eq!(fields.len(), 4, "{xfcc}");
    assert_eq!(fields[0], format!("By={}", spiffe("shop", "orders")));
    assert!(fields[1].strip_prefix("Hash=").is_some_and(|hash| hash.len() == 64), "{xfcc}");
    assert!(fields[2].starts_with("Subject=\""), "{xfcc}");
    assert_eq!(fields[3], format!("URI={}", spiffe("shop", "web")));
}

fn header_values<'a>(request: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = request["headers"].as_array().unwrap();
    headers.iter().filter(|pair| pair[0] == name).filter_map(|pair| pair[1].as_str()).collect()
}

fn chunked(path: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
    )
    .into_bytes();
    for piece in body.chunks(10_007) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\nx-sum: 42\r\n\r\n");
    out
}

/// Bytes without a short period, so that a lost or doubled piece shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}
