//! What the copy holds: allowed and refused requests, both directions, HTTP/2 and gRPC written as HTTP/1.1, large and
//! empty bodies, and none of the secrets.

use serde_json::json;
use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::peers::{GrpcServer, H2Origin, TlsClient, grpc_calls, h2_requests};
use support::wire;

use crate::sensor::Sensor;

/// Rules that let every method and path of the tests through.
const OPEN: &str = r#"
[[inbound]]
name = "open"
from = "shop/web"
requests = ["* /open/{rest...}"]

[[inbound]]
name = "open-calls"
from = "shop/web"
grpc = ["echo.Echo/*"]

[[tap]]"#;

#[test]
fn tshark_finds_no_fault_and_a_refused_request_is_among_the_copies() {
    let (pair, sensor) = start();
    for path in ["/api/orders/42", "/api/orders/x", "/api/orders", "/admin"] {
        get(&pair, path);
    }
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    assert_eq!(sorted(copy.requests()), ["GET /admin", "GET /api/orders", "GET /api/orders/42", "GET /api/orders/x"]);
    assert_eq!(sorted(copy.statuses()), ["200", "200", "403", "403"]);
    assert!(copy.shows(b"RBAC: access denied"));
}

#[test]
fn a_request_without_a_canonical_reading_is_copied_too() {
    let (pair, sensor) = start();
    let bytes = format!("GET /api/orders/../admin HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let client = TlsClient::new(pair.setting.at.inbound).cert(&pair.setting.web);
    assert!(client.send(bytes.as_bytes()).received.starts_with(b"HTTP/1.1 400"));
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    assert_eq!(copy.requests(), ["GET /api/orders/../admin"]);
    assert_eq!(copy.statuses(), ["400"]);
}

#[test]
fn a_request_that_cannot_be_read_is_copied_as_it_came_without_its_values() {
    let (pair, sensor) = start();
    let bytes = format!(
        "POST /open/a HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer s3cr3t\r\nX-Key: s3cr3t\r\n\
         Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"
    );
    let client = TlsClient::new(pair.setting.at.inbound).cert(&pair.setting.web);
    assert!(client.send(bytes.as_bytes()).received.starts_with(b"HTTP/1.1 400"));
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    assert_eq!(copy.statuses(), ["400"]);
    for shown in ["POST /open/a HTTP/1.1\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"] {
        assert!(copy.shows(shown.as_bytes()), "{shown}");
    }
    assert!(!copy.shows(b"s3cr3t"));
}

#[test]
fn bodies_of_every_size_are_copied_without_fault() {
    let (pair, sensor) = start();
    // Around the segment size of a 1500-byte path (MSS 1410), and past the default body limit of 128 KiB.
    let sizes = [0, 1, 1409, 1410, 1411, 16_384, 131_072, 131_073, 1 << 20];
    for (done, size) in sizes.into_iter().enumerate() {
        let head = format!("POST /open/{size} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n");
        let bytes = [head.as_bytes(), &vec![b'a'; size]].concat();
        assert_eq!(wire::request(pair.entry(), &bytes).unwrap().status(), 200);
        sensor.catch_up(&pair.server, 2 * done + 1);
        get(&pair, &format!("/open/answer/{size}"));
        sensor.catch_up(&pair.server, 2 * done + 2);
    }
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    let flows = copy.flows().concat();
    let heads = |start: &[u8]| flows.windows(start.len()).filter(|window| *window == start).count();
    assert_eq!(heads(b"POST /open/"), sizes.len());
    assert_eq!(heads(b"GET /open/answer/"), sizes.len());
    assert_eq!(heads(b"HTTP/1.1 200 OK\r\n"), 2 * sizes.len());
    let longest = copy.flows().iter().map(Vec::len).max().unwrap();
    assert!(longest > 131_072, "nothing above the body limit was copied: {longest}");
}

#[test]
fn chunked_bodies_and_their_trailers_are_copied() {
    let (pair, sensor) = start();
    let head = format!(
        "POST /open/chunked HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
    );
    let bytes = format!("{head}5\r\nhello\r\n0\r\nx-sum: 99\r\n\r\n");
    let reply = wire::request(pair.entry(), bytes.as_bytes()).unwrap();
    assert_eq!(reply.trailer("x-origin-length"), Some("5"));
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    assert!(copy.shows(b"hello"));
    let flows = copy.flows().concat();
    let text = String::from_utf8_lossy(&flows).to_lowercase();
    assert!(text.contains("x-sum: 99") && text.contains("x-origin-length: 5"), "{text}");
}

#[test]
fn http2_requests_are_copied_as_http1() {
    let setting = Setting::new();
    let origin = H2Origin::start(setting.dir.path());
    let (old, new) = (setting.at.app.to_string(), origin.addr().to_string());
    let setting = setting.server(|text| text.replace("[[tap]]", OPEN).replace(&old, &new));
    let sensor = Sensor::start(setting.at.sensor);
    let _server = setting.start_server();
    let _client = setting.start_client();
    let requests: Vec<_> =
        (0..100).map(|number| json!({"method": "POST", "path": format!("/open/{number}"), "authority": HOST, "body_length": number})).collect();
    for reply in h2_requests(setting.at.entry, &requests) {
        assert_eq!(reply["status"], 200, "{reply}");
    }
    let copy = sensor.settle(setting.dir.path());
    copy.assert_faultless();
    assert_eq!(copy.requests().len(), 100);
    assert_eq!(copy.statuses().iter().filter(|status| *status == "200").count(), 100);
    let names = copy.fields("http.host", &["http.host"]);
    assert!(names.iter().all(|name| name == HOST), "{names:?}");
}

#[test]
fn grpc_calls_are_copied_with_their_status() {
    let setting = Setting::new();
    let app = GrpcServer::start(setting.dir.path());
    let (old, new) = (setting.at.app.to_string(), app.addr().to_string());
    let setting = setting.server(|text| text.replace("[[tap]]", OPEN).replace(&old, &new));
    let sensor = Sensor::start(setting.at.sensor);
    let _server = setting.start_server();
    let _client = setting.start_client();
    for result in grpc_calls(&setting.at.entry.to_string(), &["unary", "server_stream", "client_stream", "chat"]) {
        assert_eq!(result["ok"], true, "{result}");
    }
    let copy = sensor.settle(setting.dir.path());
    copy.assert_faultless();
    let expected = ["POST /echo.Echo/Chat", "POST /echo.Echo/Count", "POST /echo.Echo/Sum", "POST /echo.Echo/Unary"];
    assert_eq!(sorted(copy.requests()), expected);
    let flows = copy.flows().concat();
    assert!(String::from_utf8_lossy(&flows).to_lowercase().contains("grpc-status: 0"));
}

#[test]
fn secrets_are_not_in_the_copy() {
    let (pair, sensor) = start();
    let secrets = ["Bearer s3cr3t-token", "session=s3cr3t-cookie", "s3cr3t-key"];
    let head = format!(
        "GET /open/a?token=s3cr3t-query HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {}\r\nCookie: {}\r\nX-Api-Key: {}\r\n\r\n",
        secrets[0], secrets[1], secrets[2]
    );
    assert_eq!(wire::request(pair.entry(), head.as_bytes()).unwrap().status(), 200);
    let seen = pair.origin.requests().pop().unwrap();
    assert_eq!(seen.header("authorization"), Some(secrets[0]), "the application itself has to get it");
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    for secret in ["s3cr3t-token", "s3cr3t-cookie", "s3cr3t-key", "s3cr3t-query", "s3cr3t-answer"] {
        assert!(!copy.shows(secret.as_bytes()), "{secret} is in the copy");
    }
}

/// A pair whose application answers `/open/answer/N` with N bytes, and its sensor.
fn start() -> (Pair, Sensor) {
    let setting = Setting::new().server(|text| text.replace("[[tap]]", OPEN));
    let sensor = Sensor::start(setting.at.sensor);
    let origin = Origin::with(setting.at.app, answer);
    (setting.start_with(origin), sensor)
}

fn answer(request: &Message) -> Reply {
    let size = request.target().strip_prefix("/open/answer/").and_then(|size| size.parse().ok());
    let reply = Reply::text(vec![b'z'; size.unwrap_or(2)]).with_header("set-cookie", "session=s3cr3t-answer");
    if request.chunked { reply.with_trailer("x-origin-length", &request.body.len().to_string()) } else { reply }
}

fn get(pair: &Pair, path: &str) {
    wire::get(pair.entry(), HOST, path).unwrap();
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}
