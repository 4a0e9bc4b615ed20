//! HTTP/2 in the copy as HTTP/2 (`http = "h2c"`): each exchange is a connection of its own, which tshark dissects whole and h2,
//! a strict receiver, takes from either side; gRPC is gRPC.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::child::run;
use support::pair::{HOST, Setting};
use support::peers::{GrpcServer, H2Origin, grpc_calls, h2_requests, h2_together};
use support::sidecar::Sidecar;
use support::tools;
use support::wire::Connection;

use super::http2::{body, framed};
use super::judge;
use crate::sensor::{Copy, Sensor};

const MIB: usize = 1 << 20;
const NO_ERROR: u64 = 0;

#[test]
fn a_hundred_streams_at_once_are_a_hundred_connections() {
    let (setting, origin, sensor, _sidecars) = before_origin("", "");
    let length = |number: usize| number * 7919 % 20_000;
    let replies = together(&setting, 100, &length);
    assert_eq!(replies["most_open"], 100, "they were not open at once");
    assert_eq!(origin.requests().len(), 100);
    let exchanges = exchanges(&sensor.settle(setting.dir.path()).read_as_http2());
    assert_eq!(exchanges.len(), 100);
    exchanges.iter().for_each(Exchange::assert_whole);
    for number in 0..100 {
        let one = of_path(&exchanges, &format!("/{number}?bytes={}", length(number + 1)));
        assert!(one.asked == body(number, length(number)), "the body of {number}");
        assert_eq!(one.answered.len(), length(number + 1));
    }
}

#[test]
fn bodies_around_the_size_of_a_frame_and_of_every_window() {
    let (setting, origin, sensor, _sidecars) = before_origin("", "body = \"first 2MiB\"\nqueue = \"64MiB\"");
    let lengths = [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, MIB];
    let length = |number: usize| lengths[number % lengths.len()];
    let replies = together(&setting, lengths.len(), &length);
    let told = origin.requests();
    let copy = sensor.settle(setting.dir.path()).read_as_http2();
    let exchanges = exchanges(&copy);
    assert_eq!(exchanges.len(), lengths.len());
    exchanges.iter().for_each(Exchange::assert_whole);
    for number in 0..lengths.len() {
        let path = format!("/{number}?bytes={}", length(number + 1));
        let one = of_path(&exchanges, &path);
        let got = told.iter().find(|record| record["path"] == path.as_str()).unwrap();
        assert_eq!(got["length"].as_u64(), Some(length(number) as u64), "{path}");
        assert!(one.asked == body(number, length(number)), "the body of {path}");
        assert_eq!(replies["replies"][number]["length"].as_u64(), Some(one.answered.len() as u64), "{path}");
        assert_eq!(one.answered.len(), length(number + 1));
        // The fields the application got, but for what the sidecars add to them.
        for pair in got["headers"].as_array().unwrap() {
            let (name, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            match name {
                ":scheme" | "x-forwarded-client-cert" | "x-envoy-expected-rq-timeout-ms" => {}
                "cookie" => assert_eq!(one.asked_field(name), (&*"*".repeat(value.len()), true)),
                _ => assert_eq!(one.asked_field(name), (value, false)),
            }
        }
    }
    // tshark adds up the same lengths.
    let mut sums: Vec<usize> = data_by_tshark(&copy).into_values().collect();
    let mut expected: Vec<usize> = lengths.iter().chain(&lengths).copied().filter(|length| *length > 0).collect();
    sums.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sums, expected);
}

#[test]
fn grpc_is_dissected_as_grpc_with_its_trailers() {
    let setting = Setting::new();
    let app = GrpcServer::start(setting.dir.path());
    let (setting, sensor, _sidecars) = before(setting, &app.addr().to_string(), "", "");
    let cases = ["unary", "server_stream", "client_stream", "chat", "forbidden"];
    let results = grpc_calls(&setting.at.entry.to_string(), &cases);
    assert_eq!(results.iter().filter(|result| result["ok"] == true).count(), 5, "{results:?}");

    let copy = sensor.settle(setting.dir.path()).read_as_http2();
    let exchanges = exchanges(&copy);
    assert_eq!(exchanges.len(), 5);
    for (method, sent, got) in [
        ("Unary", framed(&["hello"]), framed(&["echo:hello"])),
        ("Count", framed(&["5"]), framed(&["0", "1", "2", "3", "4"])),
        ("Sum", framed(&["1", "2", "39"]), framed(&["42"])),
    ] {
        let one = of_path(&exchanges, &format!("/echo.Echo/{method}"));
        assert_eq!((&one.asked, &one.answered), (&sent, &got), "{method}");
        assert_eq!((one.asked_field("te"), one.trailer("grpc-status")), (("trailers", false), Some("0")), "{method}");
    }
    // Messages as tshark counts them: 1 + 1, 1 + 5, 3 + 1, and some of the chat.
    let messages = copy.fields("grpc", &["tcp.stream", "grpc.message_length"]);
    let count = messages.iter().map(|line| line.split('\t').nth(1).unwrap().split(',').count()).sum::<usize>();
    assert!(count >= 12, "{messages:?}");
    let trailers = copy.fields("http2.header.name == \"grpc-status\"", &["http2.header.name"]);
    assert_eq!(trailers.len(), 5, "every call has a status");
}

#[test]
fn what_is_refused_cut_or_http1_is_in_the_copy_as_such() {
    let (setting, _origin, sensor, _sidecars) =
        before_origin("requests = \"POST /{rest...}\"", "body = \"first 16KiB\"");
    let ask = |method: &str, path: &str, length: usize| json!({"method": method, "path": path, "authority": HOST, "headers": [], "length": length, "body_length": length});
    let statuses: Vec<_> =
        [ask("POST", "/cut?bytes=1", 20_000), ask("POST", "/long?bytes=30000", 5), ask("GET", "/refused", 0)]
            .iter()
            .map(|one| h2_requests(setting.at.entry, std::slice::from_ref(one))[0]["status"].as_u64())
            .collect();
    assert_eq!(statuses, [Some(200), Some(200), Some(403)]);
    let mut plain = Connection::open(setting.at.entry).unwrap();
    plain.send(format!("GET /plain HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(plain.receive().unwrap().status(), 403);

    let copy = sensor.settle(setting.dir.path());
    let exchanges = exchanges(&copy);
    assert_eq!(exchanges.len(), 3);
    let cut = of_path(&exchanges, "/cut?bytes=1");
    assert!(cut.asked == body_of(20_000)[..16_384], "as far as configured");
    assert_eq!((cut.client["ended"].as_bool(), cut.client["reset"].as_u64()), (Some(false), Some(NO_ERROR)));
    assert_eq!((cut.answered.len(), cut.server["ended"].as_bool()), (1, Some(true)));
    let long = of_path(&exchanges, "/long?bytes=30000");
    assert_eq!((long.answered.len(), long.client["ended"].as_bool()), (16_384, Some(true)));
    assert_eq!((long.server["ended"].as_bool(), long.server["reset"].as_u64()), (Some(false), Some(NO_ERROR)));
    let refused = of_path(&exchanges, "/refused");
    assert_eq!(refused.status(), "403");
    refused.assert_whole();
    assert_eq!(copy.requests(), ["GET /plain"], "HTTP/1.1 stays what it was");
}

/// An exchange of the copy, as h2 reads it.
struct Exchange {
    client: Value,
    server: Value,
    asked: Vec<u8>,
    answered: Vec<u8>,
}

impl Exchange {
    fn status(&self) -> &str {
        field(&self.server["fields"], ":status").unwrap().0
    }

    fn asked_field(&self, name: &str) -> (&str, bool) {
        field(&self.client["fields"], name).unwrap_or_else(|| panic!("no {name}: {}", self.client))
    }

    fn trailer(&self, name: &str) -> Option<&str> {
        field(&self.server["trailers"], name).map(|(value, _)| value)
    }

    fn assert_whole(&self) {
        for (side, goaway) in [(&self.client, Some(NO_ERROR)), (&self.server, None)] {
            assert!(side["ended"] == true && side["reset"].is_null() && side["goaway"].as_u64() == goaway, "{side}");
        }
    }
}

/// Value, and whether it is never to be indexed.
fn field<'a>(fields: &'a Value, name: &str) -> Option<(&'a str, bool)> {
    let mut found = fields.as_array().unwrap().iter().filter(|field| field[0] == name);
    let first = found.next().map(|field| (field[1].as_str().unwrap(), field[2].as_bool().unwrap()));
    assert!(found.next().is_none(), "{name} is there twice: {fields}");
    first
}

/// Every exchange that is HTTP/2 in the copy; tshark, tcpflow, scapy and h2 find no fault.
fn exchanges(copy: &Copy) -> Vec<Exchange> {
    judge::agreed(copy);
    let folder = copy.dir().join("tap-scapy");
    let said = run(tools::python().arg(tools::script("h2c_talks.py")).arg(&folder));
    let one = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let half = |side: &str| std::fs::read(folder.join(format!("{}-{side}-body", line["number"]))).unwrap();
        let (asked, answered) = (half("client"), half("server"));
        Exchange { client: line["client"].take(), server: line["server"].take(), asked, answered }
    };
    let exchanges: Vec<_> = said.lines().map(one).collect();
    // tshark sees the same frames, all of them.
    let types = copy.fields("http2", &["http2.type"]);
    let count: usize = types.iter().map(|line| line.split(',').filter(|kind| !kind.is_empty()).count()).sum();
    let frames = |side: &Value| side["frames"].as_u64().unwrap() as usize;
    assert_eq!(count, exchanges.iter().map(|one| frames(&one.client) + frames(&one.server)).sum::<usize>());
    exchanges
}

fn of_path<'a>(exchanges: &'a [Exchange], path: &str) -> &'a Exchange {
    let mut found = exchanges.iter().filter(|one| one.asked_field(":path").0 == path);
    let first = found.next().unwrap_or_else(|| panic!("{path} is not in the copy"));
    assert!(found.next().is_none(), "{path} is there twice");
    first
}

/// Bytes of DATA by connection and sender, as tshark dissects them.
fn data_by_tshark(copy: &Copy) -> BTreeMap<(String, String), usize> {
    let mut sums = BTreeMap::new();
    for line in copy.fields("http2.type == 0", &["tcp.stream", "tcp.srcport", "http2.type", "http2.length"]) {
        let parts: Vec<&str> = line.split('\t').collect();
        for (kind, length) in parts[2].split(',').zip(parts[3].split(',')) {
            if kind == "0" {
                *sums.entry((parts[0].to_owned(), parts[1].to_owned())).or_default() +=
                    length.parse::<usize>().unwrap();
            }
        }
    }
    sums
}

/// So many requests at once, with bodies and answers of these lengths.
fn together(setting: &Setting, count: usize, length: &dyn Fn(usize) -> usize) -> Value {
    let requests: Vec<_> = (0..count)
        .map(|number| {
            json!({"method": "POST", "path": format!("/{number}?bytes={}", length(number + 1)), "authority": HOST,
                   "headers": [["x-number", number.to_string()], ["cookie", "a=b"], ["cookie", "c=d"]], "length": length(number)})
        })
        .collect();
    h2_together(setting.at.entry, &requests)
}

fn before_origin(rule: &str, tap: &str) -> (Setting, H2Origin, Sensor, (Sidecar, Sidecar)) {
    let setting = Setting::new();
    let origin = H2Origin::start(setting.dir.path());
    let (setting, sensor, sidecars) = before(setting, &origin.addr().to_string(), rule, tap);
    (setting, origin, sensor, sidecars)
}

/// Sidecars before this application, and the sensor of a tap that shows HTTP/2 as it was.
fn before(setting: Setting, app: &str, rule: &str, tap: &str) -> (Setting, Sensor, (Sidecar, Sidecar)) {
    let old = setting.at.app.to_string();
    let rule = format!("[[inbound]]\nname = \"all\"\nfrom = \"shop/web\"\n{rule}\n\n[[tap]]\nhttp = \"h2c\"\n{tap}");
    let setting = setting.server(|text| text.replace("[[tap]]", &rule).replace(&old, app));
    let sensor = Sensor::start(setting.at.sensor);
    let sidecars = (setting.start_server(), setting.start_client());
    (setting, sensor, sidecars)
}

/// As `h2_client.py` makes them.
fn body_of(length: usize) -> Vec<u8> {
    vec![b'x'; length]
}
