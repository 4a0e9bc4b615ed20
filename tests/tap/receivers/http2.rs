//! HTTP/2 in the copy: each stream is an HTTP/1.1 exchange of its own, however they overlapped; gRPC keeps its trailers.

use std::io::BufReader;

use serde_json::json;
use support::message::{self, Kind, Message};
use support::pair::{HOST, Setting};
use support::peers::{GrpcServer, H2Origin, grpc_calls, h2_together};
use support::sidecar::Sidecar;

use super::judge::{self, Talk};
use crate::sensor::Sensor;

const STREAMS: usize = 100;

#[test]
fn a_hundred_streams_at_once_are_a_hundred_exchanges() {
    streams_at_once(false);
}

#[test]
fn a_hundred_streams_at_once_over_ipv6_are_a_hundred_exchanges() {
    streams_at_once(true);
}

fn streams_at_once(ipv6: bool) {
    let setting = super::families(Setting::new(), ipv6, ipv6);
    let origin = H2Origin::start(setting.dir.path());
    let (setting, sensor, _server, _client) = before(setting, &origin.addr().to_string());
    // Of all sizes, so that they end in another order than they began.
    let length = |number: usize| number * 7919 % 20_000;
    let requests: Vec<_> = (0..STREAMS)
        .map(|number| {
            json!({"method": "POST", "path": format!("/{number}?bytes={}", length(number + 1)), "authority": HOST,
                   "headers": [["x-number", number.to_string()], ["cookie", "a=b"], ["cookie", "c=d"]], "length": length(number)})
        })
        .collect();
    let replies = h2_together(setting.at.entry, &requests);
    assert_eq!(replies["most_open"], STREAMS, "they were not open at once");
    let told = origin.requests();
    assert_eq!(told.len(), STREAMS);

    let copy = sensor.settle(setting.dir.path());
    let talks = judge::agreed(&copy);
    assert!(talks.iter().all(|talk| talk.client.is_ipv6() == ipv6 && talk.server.is_ipv6() == ipv6));
    let exchanges: Vec<_> = talks.iter().flat_map(messages).collect();
    assert_eq!(exchanges.len(), STREAMS);
    for (number, reply) in replies["replies"].as_array().unwrap().iter().enumerate() {
        let target = format!("/{number}?bytes={}", length(number + 1));
        let (request, response) = one(&exchanges, &target);
        let got = told.iter().find(|record| record["path"] == target.as_str()).unwrap();
        assert_eq!((request.start.as_str(), request.header("host")), (&*format!("POST {target} HTTP/1.1"), Some(HOST)));
        assert_eq!(request.header("x-number"), Some(&*number.to_string()));
        assert_eq!(request.header("cookie"), Some("********"), "crumbs are one field, and masked");
        assert_eq!((request.body.len(), got["length"].as_u64()), (length(number), Some(length(number) as u64)));
        assert!(request.body == body(number, length(number)), "the body of {target}");
        assert_eq!((reply["status"].as_u64(), response.status()), (Some(200), 200));
        assert_eq!(response.body.len(), length(number + 1));
        assert_eq!(reply["length"].as_u64(), Some(response.body.len() as u64));
    }
}

#[test]
fn grpc_calls_of_all_four_kinds_have_their_messages_and_their_trailers() {
    calls(false);
}

#[test]
fn grpc_calls_over_ipv6_have_their_messages_and_their_trailers() {
    calls(true);
}

fn calls(ipv6: bool) {
    let setting = super::families(Setting::new(), ipv6, ipv6);
    let app = GrpcServer::start(setting.dir.path());
    let (setting, sensor, _server, _client) = before(setting, &app.addr().to_string());
    let cases = ["unary", "server_stream", "client_stream", "chat", "forbidden"];
    let results = grpc_calls(&setting.at.entry.to_string(), &cases);
    assert_eq!(results.iter().filter(|result| result["ok"] == true).count(), 5, "{results:?}");

    let copy = sensor.settle(setting.dir.path());
    let talks = judge::agreed(&copy);
    assert!(talks.iter().all(|talk| talk.client.is_ipv6() == ipv6 && talk.server.is_ipv6() == ipv6));
    let exchanges: Vec<_> = talks.iter().flat_map(messages).collect();
    assert_eq!(exchanges.len(), 5);
    let call = |method: &str| one(&exchanges, &format!("/echo.Echo/{method}"));
    for (method, sent, got) in [
        ("Unary", framed(&["hello"]), framed(&["echo:hello"])),
        ("Count", framed(&["5"]), framed(&["0", "1", "2", "3", "4"])),
        ("Sum", framed(&["1", "2", "39"]), framed(&["42"])),
    ] {
        let (request, response) = call(method);
        assert_eq!((&request.body, &response.body), (&sent, &got), "{method}");
        assert_eq!(request.header("content-type"), Some("application/grpc"));
        assert_eq!(response.trailer("grpc-status"), Some("0"), "{method}: {:?}", response.trailers);
    }
    let (_, response) = call("Unary");
    assert_eq!(response.trailer("x-echo-trailer"), Some("unary"));
    let (request, response) = call("Chat");
    // Five bytes of frame and "re:" more for each message.
    assert!(response.body.len() > request.body.len() && response.trailer("grpc-status") == Some("0"));
}

/// Sidecars before this application, all of whose methods are allowed, and the sensor.
fn before(setting: Setting, app: &str) -> (Setting, Sensor, Sidecar, Sidecar) {
    let old = setting.at.app.to_string();
    let rule = "[[inbound]]\nname = \"all\"\nfrom = \"shop/web\"\n\n[[tap]]";
    let setting = setting.server(|text| text.replace("[[tap]]", rule).replace(&old, app));
    let sensor = Sensor::start(setting.at.sensor);
    let (server, client) = (setting.start_server(), setting.start_client());
    (setting, sensor, server, client)
}

/// The messages of a connection, in pairs.
fn messages(talk: &Talk) -> Vec<(Message, Message)> {
    let (mut asked, mut answered) = (BufReader::new(&talk.asked[..]), BufReader::new(&talk.answered[..]));
    let mut pairs = Vec::new();
    while let Some(request) = message::read(&mut asked, Kind::Request).unwrap() {
        pairs.push((request, message::read(&mut answered, Kind::Response).unwrap().expect("a response to each")));
    }
    assert_eq!(message::read(&mut answered, Kind::Response).unwrap().map(|message| message.start), None);
    pairs
}

fn one<'a>(exchanges: &'a [(Message, Message)], target: &str) -> &'a (Message, Message) {
    let mut found = exchanges.iter().filter(|(request, _)| request.target() == target);
    let first = found.next().unwrap_or_else(|| panic!("{target} is not in the copy"));
    assert!(found.next().is_none(), "{target} is there twice");
    first
}

/// As `h2_together.py` makes them.
pub(super) fn body(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251 + number) as u8).collect()
}

/// Messages of gRPC: not compressed, four bytes of length.
pub(super) fn framed(messages: &[&str]) -> Vec<u8> {
    let one = |text: &&str| [&[0][..], &u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    messages.iter().flat_map(one).collect()
}
