//! Bodies around every bound, over IPv4 and IPv6, of the applications and of the path to the sensor.

use std::sync::{Arc, Mutex};

use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::wire::Connection;

use super::judge::{self, Talk};
use super::told;
use crate::sensor::Sensor;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SECRET: &str = "s3cr3t-query";

#[test]
fn bodies_over_ipv4_inside_and_outside() {
    sizes(false, false);
}

#[test]
fn bodies_over_ipv6_inside_and_outside() {
    sizes(true, true);
}

#[test]
fn bodies_over_ipv4_inside_and_ipv6_outside() {
    sizes(false, true);
}

#[test]
fn bodies_over_ipv6_inside_and_ipv4_outside() {
    sizes(true, false);
}

#[test]
fn a_body_of_100_mib_is_copied_as_far_as_configured() {
    let mut talk = Exchanges::start(false, false, "first 128KiB", 128 * KIB);
    talk.exchange(100 * MIB, 5);
    talk.exchange(5, 100 * MIB);
    talk.exchange(1, 1);
    let talks = talk.judge();
    // What was cut ends its connection: a receiver must not wait for the rest.
    assert_eq!(talks.len(), 3);
}

/// Requests and responses of every length that matters here, and one each in chunks.
fn sizes(inner_v6: bool, outer_v6: bool) {
    let ip = |v6| if v6 { 40 } else { 20 };
    // The path's 1500 bytes without the headers: outer IP, UDP, VXLAN, Ethernet, inner IP, TCP.
    let mss = 1500 - ip(outer_v6) - 8 - 8 - 14 - ip(inner_v6) - 20;
    let mut talk = Exchanges::start(inner_v6, outer_v6, "first 1MiB", MIB);
    for size in [0, 1, mss - 1, mss, mss + 1, 12 * KIB, 128 * KIB + 1, MIB] {
        talk.exchange(size, 1);
        talk.exchange(1, size);
    }
    talk.chunked(3 * mss);
    talk.exchange(MIB + 1, MIB + 1);
    let widest = talk.sensor.longest();
    talk.judge();
    // The datagrams fill the path, and none is larger.
    assert_eq!(widest + ip(outer_v6) + 8, 1500);
}

/// A pair with its sensor, and what has been exchanged so far.
struct Exchanges {
    pair: Pair,
    sensor: Sensor,
    connection: Connection,
    limit: usize,
    /// What the application got, bodies cut behind the limit.
    got: Arc<Mutex<Vec<Message>>>,
    /// Every response as the copy has to have it.
    answers: Vec<Vec<u8>>,
}

impl Exchanges {
    fn start(inner_v6: bool, outer_v6: bool, body: &str, limit: usize) -> Self {
        let mut setting = super::families(Setting::new(), inner_v6, outer_v6);
        if inner_v6 {
            setting = super::moved(setting, |at| &mut at.app);
        }
        let rule = format!("[[inbound]]\nname = \"all\"\nfrom = \"shop/web\"\n\n[[tap]]\nbody = \"{body}\"");
        let setting = setting.server(|text| text.replace("[[tap]]", &rule));
        let sensor = Sensor::start(setting.at.sensor);
        let got = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&got);
        let origin = Origin::forgetful(setting.at.app, move |request| {
            let mut kept = Message { body: Vec::new(), ..request.clone() };
            kept.body = request.body[..request.body.len().min(limit + 1)].to_vec();
            keep.lock().unwrap().push(kept);
            answer(request)
        });
        let pair = setting.start_with(origin);
        let connection = Connection::open(pair.entry()).unwrap();
        Self { pair, sensor, connection, limit, got, answers: Vec::new() }
    }

    /// A request with a body of so many bytes, and a response.
    fn exchange(&mut self, asked: usize, answered: usize) {
        let head = format!(
            "POST /{asked}/{answered}?token={SECRET} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer s3cr3t-header\r\n\
             Cookie: a=s3cr3t-cookie\r\nContent-Length: {asked}\r\n\r\n"
        );
        self.connection.send(head.as_bytes()).unwrap();
        self.connection.send(&pattern(asked)).unwrap();
        let reply = self.connection.receive().unwrap();
        assert_eq!((reply.status(), reply.body.len()), (200, answered));
        assert!(reply.body == pattern(answered));
        self.answered(answered, None);
    }

    /// A request in chunks, with a trailer, and a response of the same kind.
    fn chunked(&mut self, size: usize) {
        let head = format!(
            "PUT /{size}/{size} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
        );
        self.connection.send(head.as_bytes()).unwrap();
        for chunk in pattern(size).chunks(1000) {
            self.connection.send(&[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).unwrap();
        }
        self.connection.send(b"0\r\nx-sum: 9\r\n\r\n").unwrap();
        let reply = self.connection.receive().unwrap();
        assert_eq!((reply.trailer("x-origin"), reply.body.len()), (Some("end"), size));
        self.answered(size, Some(&[("x-origin".to_owned(), "end".to_owned())]));
    }

    fn answered(&mut self, size: usize, trailers: Option<&[(String, String)]>) {
        let field = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut fields: Vec<_> = FIELDS.iter().map(field).collect();
        if trailers.is_some() {
            fields.push(("trailer".into(), "x-origin".into()));
        }
        self.answers.push(told::response("200 OK", &fields, &pattern(size), trailers, self.limit));
        self.sensor.catch_up(&self.pair.server, self.answers.len());
    }

    /// All of it before the receivers: they agree, and hold these exchanges and nothing else.
    fn judge(&self) -> Vec<Talk> {
        let copy = self.sensor.settle(self.pair.setting.dir.path());
        let talks = judge::agreed(&copy);
        let got = self.got.lock().unwrap();
        let asked = got.iter().map(|message| told::request(message, SECRET, self.limit));
        let mut expected: Vec<_> = asked.zip(self.answers.clone()).collect();
        for talk in &talks {
            assert_eq!(talk.client.is_ipv6(), self.pair.setting.at.inbound.is_ipv6());
            take_whole(talk, &mut expected);
        }
        assert_eq!(expected.len(), 0, "exchanges that no connection holds");
        let all = talks.iter().flat_map(|talk| [&talk.asked, &talk.answered]);
        all.for_each(|text| assert!(!text.windows(6).any(|window| window == b"s3cr3t"), "a secret in the copy"));
        talks
    }
}

/// Takes what this connection holds out of what is expected: whole exchanges, in order, and nothing between them.
fn take_whole(talk: &Talk, expected: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    let (mut asked, mut answered) = (&talk.asked[..], &talk.answered[..]);
    while !asked.is_empty() {
        let is_next = |(request, _): &(Vec<u8>, Vec<u8>)| asked.starts_with(request);
        let which = expected.iter().position(is_next).unwrap_or_else(|| {
            let left: Vec<_> = expected.iter().map(|(request, _)| start(request)).collect();
            panic!("never asked: {}\nstill expected: {left:#?}", start(asked));
        });
        let (request, response) = expected.remove(which);
        asked = &asked[request.len()..];
        answered = answered.strip_prefix(&response[..]).unwrap_or_else(|| {
            panic!("never answered: {}\nexpected: {}", start(answered), start(&response));
        });
    }
    assert!(answered.is_empty(), "an answer to nothing: {}", start(answered));
}

/// Enough of a message to tell which it is.
fn start(message: &[u8]) -> String {
    message[..message.len().min(400)].escape_ascii().to_string()
}

/// The two numbers of the path are the lengths of request and response.
fn answer(request: &Message) -> Reply {
    let path = request.target().split('?').next().unwrap();
    let size = path.rsplit('/').next().unwrap().parse().unwrap();
    let reply = Reply::text(pattern(size)).with_header("set-cookie", "session=s3cr3t-answer");
    if request.chunked { reply.with_trailer("x-origin", "end") } else { reply }
}

/// What [`Reply`] and [`answer`] send, in order.
const FIELDS: [(&str, &str); 3] =
    [("server", "recording-origin"), ("content-type", "text/plain"), ("set-cookie", "session=s3cr3t-answer")];

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251 + at / 65_537) as u8).collect()
}
