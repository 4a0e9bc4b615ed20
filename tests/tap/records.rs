//! Records of the tap: one line of JSON for each exchange, flow and loss; to a file, to standard output among the lines of the
//! access log, and to syslog. Joined with the packets of another tap by Community ID; without any secret.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::peers::TlsClient;
use support::sidecar::Sidecar;
use support::{wait, wire};

use crate::sensor::Sensor;

#[test]
fn an_exchange_is_told_with_everything_that_is_known_of_it() {
    let (pair, path) = with_file("");
    let head = format!(
        "POST /api/orders?token=s3cr3t-query&x=1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nAuthorization: Bearer s3cr3t-token\r\n\r\nhello"
    );
    wire::request(pair.entry(), head.as_bytes()).unwrap();
    wire::get(pair.entry(), HOST, "/api/orders/42").unwrap();
    let records = settled(&pair.server, &path, 2);
    let [refused, allowed] = [&records[0], &records[1]];
    assert_eq!(refused["verdict"], "denied", "{refused}");
    assert_eq!((&refused["rule"], &refused["status"]), (&Value::Null, &json!(403)));
    assert_eq!(refused["path"], "/api/orders?token=************&x=1");
    assert_eq!(refused["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(refused["redacted"]["parameters"], 1);
    assert_eq!(allowed["verdict"], "allowed", "{allowed}");
    assert_eq!((&allowed["method"], &allowed["path"]), (&json!("GET"), &json!("/api/orders/42")));
    assert_eq!((&allowed["host"], &allowed["status"]), (&json!(HOST), &json!(200)));
    assert!(allowed["template"].as_str().unwrap().contains("/api/orders/{"), "{allowed}");
    assert!(allowed["rule"].is_string());
    assert_eq!(allowed["source"], "spiffe://example.org/ns/shop/sa/web");
    assert_eq!(allowed["destination"], "spiffe://example.org/ns/shop/sa/orders");
    assert_eq!(allowed["trust_domain"], "example.org");
    assert_eq!(allowed["direction"], "inbound");
    assert_eq!(allowed["tls_version"], "TLSv1.3");
    assert!(allowed["peer_serial"].as_str().unwrap().len() > 8);
    for (number, record) in records.iter().enumerate() {
        assert_eq!((&record["schema"], &record["type"]), (&json!("sekisho.tap/1"), &json!("exchange")));
        assert_eq!(record["seq"], number + 1);
        let id = |client: &str, server: &str| {
            let end = |name: &str| record[name].as_str().unwrap().parse::<SocketAddr>().unwrap();
            tap::community::id(end(client), end(server), 0)
        };
        assert_eq!(record["community_id"], id("client", "server"));
        assert_eq!(record["community_id_wire"], id("wire_client", "wire_server"));
        assert_eq!(record["wire_server"], pair.setting.at.inbound.to_string());
        assert!(record["duration_ns"].as_u64().unwrap() > 0);
    }
    assert_ne!(refused["decision"], allowed["decision"]);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("s3cr3t"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_request_that_cannot_be_read_has_a_record_with_its_verdict() {
    let (pair, path) = with_file("");
    let head = format!("GET /api/orders/%2e%2e/admin HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    // The caller's own sidecar would refuse it: the callee's is asked with the caller's certificate.
    let setting = &pair.setting;
    let _ = TlsClient::new(setting.at.inbound)
        .cert(&setting.web)
        .bundle(&setting.web.bundle)
        .seconds(3)
        .send(head.as_bytes());
    let records = settled(&pair.server, &path, 1);
    assert_eq!((&records[0]["verdict"], &records[0]["status"]), (&json!("denied"), &json!(400)), "{}", records[0]);
    assert!(records[0]["response_code_details"].as_str().unwrap().starts_with("path_normalization_failed"));
}

#[test]
fn bytes_that_are_no_request_have_a_record_too() {
    let (pair, path) = with_file("");
    let setting = &pair.setting;
    let _ = TlsClient::new(setting.at.inbound)
        .cert(&setting.web)
        .bundle(&setting.web.bundle)
        .seconds(3)
        .send(b"GET / HTTP/1.1\r\nHost : broken\r\n\r\n");
    let records = settled(&pair.server, &path, 1);
    assert_eq!((&records[0]["verdict"], &records[0]["status"]), (&json!("denied"), &json!(400)), "{}", records[0]);
    assert_eq!((&records[0]["method"], &records[0]["type"]), (&Value::Null, &json!("exchange")));
    assert_eq!(records[0]["source"], "spiffe://example.org/ns/shop/sa/web");
}

#[test]
fn records_and_packets_of_the_same_connection_join_by_community_id() {
    let path = PathBuf::from("tap-records.json");
    let setting = Setting::new();
    let path = setting.dir.path().join(path);
    let tap = format!("[[tap]]\nname = \"records\"\nto_sensor = \"json://{}\"\n\n[[tap]]", path.display());
    let setting = setting.server(|text| text.replacen("[[tap]]", &tap, 1));
    let sensor = Sensor::start(setting.at.sensor);
    let origin = Origin::with(setting.at.app, |_| Reply::text(b"ok".to_vec()));
    let pair = setting.start_with(origin);
    for _ in 0..3 {
        wire::get(pair.entry(), HOST, "/api/orders/42").unwrap();
    }
    let records = settled(&pair.server, &path, 3);
    let copy = sensor.settle(pair.setting.dir.path());
    let packets: BTreeSet<String> = copy
        .fields("tcp.flags.syn == 1 && tcp.flags.ack == 0", &["ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"])
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split('\t').collect();
            let end = |ip: &str, port: &str| SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap());
            tap::community::id(end(words[0], words[1]), end(words[2], words[3]), 0)
        })
        .collect();
    let told: BTreeSet<String> =
        records.iter().map(|record| record["community_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, packets);
}

#[test]
fn lines_on_standard_output_stay_whole_between_those_of_the_access_log() {
    let setting = Setting::new().server(|text| with_tap(text, "to_sensor = \"json:stdout\""));
    let pair = setting.start();
    for number in 0..50 {
        wire::get(pair.entry(), HOST, &format!("/api/orders/{number}")).unwrap();
    }
    let lines = wait::until("all lines", wait::SOON, || {
        let lines: Vec<String> = pair.server.child.stdout.text().lines().map(str::to_owned).collect();
        let records = lines.iter().filter(|line| line.contains("sekisho.tap/1")).count();
        let logged = lines.iter().filter(|line| line.starts_with('[')).count();
        (records == 50 && logged == 50).then_some(lines)
    });
    for line in lines.iter().filter(|line| line.contains("sekisho.tap/1")) {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(record["type"], "exchange");
    }
}

#[test]
fn syslog_messages_hold_a_record_each_and_say_what_they_leave_out() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let to = format!("to_sensor = \"syslog+udp://{}\"", receiver.local_addr().unwrap());
    let pair = Setting::new().server(|text| with_tap(text, &to)).start();
    wire::get(pair.entry(), HOST, "/api/orders/42").unwrap();
    wire::get(pair.entry(), HOST, &format!("/api/orders/{}", "7".repeat(3000))).unwrap();
    let mut records = Vec::new();
    for _ in 0..2 {
        let mut datagram = vec![0; 65536];
        let length = receiver.recv(&mut datagram).unwrap();
        assert!(length <= 2048, "{length}");
        let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
        let (head, record) = text.split_once(" tap - ").unwrap();
        assert!(head.starts_with("<134>1 2") || head.starts_with("<133>1 2"), "{head}");
        records.push(serde_json::from_str::<Value>(record).unwrap());
    }
    assert_eq!(records[0].get("omitted"), None);
    assert_eq!((&records[1]["omitted"], records[1].get("path")), (&json!(["path"]), None));
    assert_eq!(records[1]["status"].as_u64().map(|status| status > 0), Some(true));
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let (pair, path) = with_file("");
    wire::get(pair.entry(), HOST, "/api/orders/1").unwrap();
    settled(&pair.server, &path, 1);
    let old = path.with_extension("old");
    std::fs::rename(&path, &old).unwrap();
    let mut asked = 1;
    wait::until("the new file", wait::SOON, || {
        asked += 1;
        wire::get(pair.entry(), HOST, "/api/orders/2").unwrap();
        path.exists().then_some(())
    });
    wait::until("all records", wait::SOON, || (read(&path).len() + read(&old).len() == asked).then_some(()));
}

#[test]
fn opaque_connections_are_flows_in_the_records() {
    let setting = Setting::new().server(|text| {
        let text = text.replace("[app]", "[app]\nprotocol = \"tcp\"");
        with_tap(text, "to_sensor = \"json:stdout\"")
    });
    let pair = setting.start();
    let setting = &pair.setting;
    let _ = TlsClient::new(setting.at.inbound)
        .cert(&setting.web)
        .bundle(&setting.web.bundle)
        .seconds(3)
        .send(b"\x00\x01\x02 not http at all \r\n");
    let flow = wait::until("a flow", wait::SOON, || {
        let text = pair.server.child.stdout.text();
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|record| record["type"] == "flow")
    });
    assert_eq!(flow["protocol"], "tcp", "{flow}");
    assert_eq!(flow["source"], "spiffe://example.org/ns/shop/sa/web");
    assert!(flow["community_id_wire"].is_string() && flow["verdict"].is_string());
}

#[test]
fn a_full_disk_is_counted_and_told_in_the_status() {
    // Every write to this device fails with ENOSPC.
    let pair = Setting::new().server(|text| with_tap(text, "to_sensor = \"json:///dev/full\"")).start();
    wire::get(pair.entry(), HOST, "/api/orders/42").unwrap();
    let tap = wait::until("the loss to be counted", wait::SOON, || {
        let status: Value = serde_json::from_slice(&pair.server.admin("/tap/status").body).unwrap();
        let tap = status["taps"][0].clone();
        (tap["send_errors"]["ENOSPC"].as_u64() > Some(0)).then_some(tap)
    });
    assert_eq!(
        (&tap["kind"], &tap["sensor"], &tap["up"]),
        (&json!("records"), &json!("json:///dev/full"), &json!(true))
    );
    assert_eq!((&tap["matched"], &tap["mirrored"], &tap["loss"]), (&json!(1), &json!(1), &json!(true)));
    assert_eq!(tap["last_error"]["errno"], "ENOSPC");
    let sum = |name: &str| tap[name].as_u64().unwrap();
    let errors: u64 = tap["send_errors"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(sum("built"), sum("sent") + errors);

    // The record, and the one of its loss, which is not tried over and over.
    let built = || pair.server.metrics().sum("sekisho_tap_packets_built_total", &[]);
    wait::until("the loss to be told", wait::SOON, || (built() >= 2.0).then_some(()));
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(built(), 2.0);
}

#[test]
fn every_field_of_a_record_is_in_the_schema() {
    let schema: Value = serde_json::from_str(
        &std::fs::read_to_string(support::tools::repository().join("docs/reference/tap-record.schema.json")).unwrap(),
    )
    .unwrap();
    let (pair, path) = with_file("");
    wire::get(pair.entry(), HOST, "/api/orders/42").unwrap();
    wire::get(pair.entry(), HOST, "/admin").unwrap();
    let page = std::fs::read_to_string(support::tools::repository().join("docs/tap-records.md")).unwrap();
    for record in settled(&pair.server, &path, 2) {
        let known = schema["$defs"]["exchange"]["properties"].as_object().unwrap();
        for (name, value) in record.as_object().unwrap() {
            let says = known.get(name).unwrap_or_else(|| panic!("{name} is not in the schema"));
            assert!(fits(value, &says["type"]), "{name} is {value}, not {says}");
            assert!(page.contains(&format!("| `{name}` |")), "{name} is not on the page");
        }
        for name in schema["$defs"]["exchange"]["required"].as_array().unwrap() {
            assert!(record.get(name.as_str().unwrap()).is_some(), "{name} is missing");
        }
    }
}

/// Whether a value is of one of the types of a JSON Schema.
fn fits(value: &Value, types: &Value) -> bool {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => false,
    };
    types.as_str().is_some_and(is)
        || types.as_array().is_some_and(|types| types.iter().filter_map(Value::as_str).any(is))
}

/// A pair whose only tap writes records to a file.
fn with_file(more: &str) -> (Pair, PathBuf) {
    let setting = Setting::new();
    let path = setting.dir.path().join("records.json");
    let sensor = format!("to_sensor = \"json://{}\"\n{more}", path.display());
    (setting.server(|text| with_tap(text, &sensor)).start(), path)
}

/// The file with its tap replaced by one with these keys.
fn with_tap(text: String, keys: &str) -> String {
    let (before, after) = text.split_once("[[tap]]").unwrap();
    let rest = after.find("\n[").map_or("", |next| &after[next..]);
    format!("{before}[[tap]]\nname = \"records\"\n{keys}\n{rest}")
}

/// The records of a file once there are so many, and the sidecar's counters agree.
fn settled(sidecar: &Sidecar, path: &Path, count: usize) -> Vec<Value> {
    wait::until("the records", wait::SOON, || (read(path).len() == count).then_some(()));
    let metrics = sidecar.metrics();
    let sum = |name: &str| metrics.sum(&format!("sekisho_tap_{name}_total"), &[("tap", "records")]) as usize;
    assert_eq!((sum("matched"), sum("mirrored"), sum("packets_built")), (count, count, count));
    read(path)
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
