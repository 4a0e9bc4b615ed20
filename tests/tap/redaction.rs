//! What is named for redaction is in no copy: not in the packets of VXLAN, not in the records, not in the logs; however the
//! bytes were cut on their way. The application itself gets all of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::peers::{H2Origin, h2_requests};
use support::wait;

use crate::sensor::Sensor;

const RULES: &str = r#"
[[inbound]]
name = "open"
from = "shop/web"
requests = ["* /open/{rest...}"]

"#;

const REDACT: &str = r#"redact = ["x-internal", "cookie:sid", "query:session", "json:password", "json:pin"]
pass = ["cookie", "set-cookie"]
"#;

/// Nothing that begins like this may be seen in a copy.
const SECRET: &[u8] = b"S3CR3T";

#[test]
fn no_named_secret_is_in_packets_records_or_logs_however_it_was_cut() {
    let (pair, sensor, records) = start();
    let json = r#"{"user":"ann","pass\u0077ord":"S3CR3T-escaped","deep":[{"PIN":"S3CR3T-deep"},{"password":{"old":["S3CR3T-nested"]}}],"password":"S3CR3T-twice"}"#;
    // Chunks of odd sizes, each written by itself.
    for size in [1, 2, 3, 7, 13, 64] {
        let body: Vec<u8> = json
            .as_bytes()
            .chunks(size)
            .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
            .chain(*b"0\r\n\r\n")
            .collect();
        let head = format!(
            "POST /open/{size}?session=S3CR3T-query&user[password]=S3CR3T-form HTTP/1.1\r\nHost: {HOST}\r\n\
             X-Internal: S3CR3T-header\r\nCookie: theme=dark; sid=S3CR3T-cookie\r\nAuthorization: Bearer S3CR3T-bearer\r\n\
             X-Mesh-Src: S3CR3T-forged\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        slowly(&pair, &[head.as_bytes(), &body].concat(), size * 5);
    }
    let form = "user=ann&password=S3CR3T-in-a-form&session=S3CR3T?too&x=1";
    let head = format!(
        "POST /open/form HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        form.len()
    );
    slowly(&pair, &[head.as_bytes(), form.as_bytes()].concat(), 11);
    let seen: String =
        pair.origin.requests().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    assert_eq!(seen.matches("S3CR3T-escaped").count(), 6, "the application itself has to get it");
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    assert!(!copy.shows(SECRET), "a secret is in the packets");
    assert!(copy.shows(b"theme=dark") && copy.shows(b"\"user\":\"ann\""), "what is no secret is there");
    assert!(copy.shows(br#""pass\u0077ord":"**************""#));
    told(&records, 7);
    assert_no_secret(&records);
    // The log has its own names, which are the defaults.
    let log = pair.server.child.stdout.text();
    assert!(log.contains("user[password]=***********") && !log.contains("S3CR3T-form"), "{log}");
}

#[test]
fn secrets_split_across_frames_of_http2_are_masked() {
    let setting = Setting::new();
    let origin = H2Origin::start(setting.dir.path());
    let (old, new) = (setting.at.app.to_string(), origin.addr().to_string());
    let (setting, records) = with_taps(setting);
    let setting = setting.server(|text| text.replace(&old, &new));
    let sensor = Sensor::start(setting.at.sensor);
    let _server = setting.start_server();
    let _client = setting.start_client();
    let body = format!("{{\"filler\":\"{}\",\"pin\":\"S3CR3T-{}\"}}", "x".repeat(16_370), "y".repeat(20_000));
    let requests: Vec<_> = (0..4)
        .map(|number| {
            json!({"method": "POST", "path": format!("/open/{number}?session=S3CR3T-{number}"), "authority": HOST, "body": body,
                   "headers": [["content-type", "application/json"], ["x-internal", "S3CR3T"]]})
        })
        .collect();
    for reply in h2_requests(setting.at.entry, &requests) {
        assert_eq!(reply["status"], 200, "{reply}");
    }
    let copy = sensor.settle(setting.dir.path());
    assert_eq!(copy.requests().len(), 4);
    assert!(!copy.shows(SECRET) && copy.shows(b"\"pin\":\"*******"));
    told(&records, 4);
    assert_no_secret(&records);
}

#[test]
fn a_body_that_cannot_be_read_is_in_no_copy_and_is_counted() {
    let (pair, sensor, _records) = start();
    for (kind, body) in [
        ("Content-Type: application/json\r\n", "{'password':'S3CR3T'}"),
        ("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "S3CR3T-packed"),
        ("Content-Type: text/plain\r\n", "harmless"),
    ] {
        let head = format!(
            "POST /open/a HTTP/1.1\r\nHost: {HOST}\r\n{kind}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = slowly(&pair, head.as_bytes(), 1000);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "the application is served whatever the tap makes of it");
    }
    let copy = sensor.settle(pair.setting.dir.path());
    assert!(!copy.shows(SECRET) && copy.shows(b"harmless"));
    let metrics = pair.server.metrics();
    let dropped = metrics.sum("sekisho_tap_dropped_total", &[("tap", "ids"), ("reason", "redact_error")]);
    assert_eq!(dropped as u64, 2);
}

#[test]
fn credentials_are_recognised_by_their_shape_masked_and_flagged() {
    let (pair, sensor, records) = start();
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJTM0NSM1QifQ.c2lnbmF0dXJl";
    let head = format!(
        "GET /open/a?k=AKIAIOSFODNN7EXAMPLE&u=https://ann:hunter2hunter2@host/ HTTP/1.1\r\nHost: {HOST}\r\nX-Debug: {jwt}\r\nConnection: close\r\n\r\n"
    );
    slowly(&pair, head.as_bytes(), 9);
    let copy = sensor.settle(pair.setting.dir.path());
    let told = told(&records, 1);
    let record: serde_json::Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!(record["credentials"], json!(["user_info", "jwt", "aws_access_key"]));
    let log = wait::until("the access log", wait::SOON, || {
        let text = pair.server.child.stdout.text();
        text.contains("/open/a").then_some(text)
    });
    for secret in ["AKIAIOSFODNN7EXAMPLE", "hunter2hunter2", "eyJzdWIi"] {
        assert!(!copy.shows(secret.as_bytes()) && !told.contains(secret) && !log.contains(secret), "{secret}");
    }
    let metrics = pair.server.metrics();
    assert_eq!(metrics.sum("sekisho_tap_credentials_total", &[("tap", "ids"), ("kind", "jwt")]) as u64, 1);
}

#[test]
fn a_refused_request_does_not_write_its_secrets_into_the_refusal_line() {
    let (pair, _sensor, _records) = start();
    let head = format!(
        "GET /closed?token=S3CR3T&x=xoxb-123456789012-S3CR3TS3CR3T HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    );
    slowly(&pair, head.as_bytes(), 1000);
    let line = pair
        .server
        .refusal("a closed path", |line| line["detail"].as_str().is_some_and(|detail| detail.contains("/closed")));
    assert!(line["detail"].as_str().unwrap().contains("token=******"), "{line}");
    assert!(line["decision"].is_string());
    assert_no_secret_text("refusals", &pair.server.child.stderr.text(), &["/closed"]);
    assert_no_secret_text(
        "caller's refusals and log",
        &(pair.client.child.stderr.text() + &pair.client.child.stdout.text()),
        &[],
    );
}

/// A pair whose callee has a tap of packets and one of records, both with the same redaction.
fn start() -> (Pair, Sensor, PathBuf) {
    let (setting, records) = with_taps(Setting::new());
    let sensor = Sensor::start(setting.at.sensor);
    let origin = Origin::with(setting.at.app, |_| {
        let reply = Reply::text(br#"{"password":"S3CR3T-answer","x":1}"#.to_vec());
        reply.with_header("set-cookie", "sid=S3CR3T-set; Path=/").with_header("location", "/a?session=S3CR3T-location")
    });
    (setting.start_with(origin), sensor, records)
}

fn with_taps(setting: Setting) -> (Setting, PathBuf) {
    let records = setting.dir.path().join("records.json");
    let tap = format!(
        "{RULES}[[tap]]\nname = \"records\"\nto_sensor = \"json://{}\"\n{REDACT}\n[[tap]]\n{REDACT}",
        records.display()
    );
    (setting.server(|text| text.replacen("[[tap]]", &tap, 1)), records)
}

/// Sends in pieces, each a write of its own, and reads the answer to its end.
fn slowly(pair: &Pair, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(pair.entry()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    for part in bytes.chunks(piece) {
        stream.write_all(part).unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn told(records: &Path, count: usize) -> String {
    wait::until("the records", wait::SOON, || {
        let text = std::fs::read_to_string(records).unwrap_or_default();
        (text.lines().count() == count).then_some(text)
    })
}

fn assert_no_secret(records: &Path) {
    assert_no_secret_text("records", &std::fs::read_to_string(records).unwrap(), &[]);
}

fn assert_no_secret_text(what: &str, text: &str, there: &[&str]) {
    for part in there {
        assert!(text.contains(part), "{what} has no {part}: {text}");
    }
    assert!(!text.contains("S3CR3T"), "a secret is in the {what}: {text}");
}
