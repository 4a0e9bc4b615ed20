//! A connection that lives long, before a receiver that stops reading each direction of a connection after 1 MiB, as Suricata
//! does by default (`stream.reassembly.depth`).

use std::io::BufReader;

use support::message::{self, Kind, Message};
use support::origin::{Origin, Reply};
use support::pair::{HOST, Setting};
use support::wire::Connection;

use super::judge;
use crate::sensor::Sensor;

const REQUESTS: usize = 5000;
/// Of each response: 50 MiB in all.
const BODY: usize = 50 * 1024 * 1024 / REQUESTS + 1;
const DEPTH: usize = 1024 * 1024;

#[test]
fn a_connection_of_5000_requests_and_50_mib_is_seen_whole_by_a_receiver_that_stops_at_1_mib() {
    let rule = "[[inbound]]\nname = \"all\"\nfrom = \"shop/web\"\n\n[[tap]]";
    let setting = Setting::new().server(|text| text.replace("[[tap]]", rule));
    let sensor = Sensor::start(setting.at.sensor);
    let origin = Origin::forgetful(setting.at.app, |request: &Message| {
        Reply::text(body(request.target().trim_start_matches('/').parse().unwrap()))
    });
    let pair = setting.start_with(origin);
    let mut connection = Connection::open(pair.entry()).unwrap();
    for number in 0..REQUESTS {
        connection.send(format!("GET /{number} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        assert!(connection.receive().unwrap().body == body(number));
        // What a socket buffer holds is less than this connection.
        if number % 100 == 99 {
            sensor.catch_up(&pair.server, number + 1);
        }
    }
    assert_eq!(
        pair.server.metrics().sum("envoy_http_downstream_cx_total", &[("envoy_http_conn_manager_prefix", "inbound")]),
        1.0
    );

    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    let talks = judge::by_scapy(&copy, DEPTH);
    let mut next = 0;
    for talk in &talks {
        assert!(talk.asked.len() <= DEPTH && talk.answered.len() <= DEPTH);
        let (mut asked, mut answered) = (BufReader::new(&talk.asked[..]), BufReader::new(&talk.answered[..]));
        while let Some(request) = message::read(&mut asked, Kind::Request).unwrap() {
            let response = message::read(&mut answered, Kind::Response).unwrap().unwrap();
            assert_eq!(request.target(), format!("/{next}"), "in order, and none missing");
            assert!(response.body == body(next), "the body of /{next}");
            next += 1;
        }
        assert!(message::read(&mut answered, Kind::Response).unwrap().is_none());
    }
    assert_eq!(next, REQUESTS);
    let all: usize = talks.iter().map(|talk| talk.answered.len()).sum();
    assert!(all > 50 * DEPTH, "{all} bytes");
    // Without the rollover all but the first MiB would be missing; the bound is twice that.
    assert!(talks.len() > 50 && talks.len() < 150, "{} connections", talks.len());
}

fn body(number: usize) -> Vec<u8> {
    (0..BODY).map(|at| (at * 7 + at / 251 + number * 3) as u8).collect()
}
