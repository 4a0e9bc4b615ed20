//! Tunnels by CONNECT: the copy holds the request, its answer and the bytes behind it, as the tap's keys say, and the record
//! tells of them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};
use support::pair::Setting;
use support::script::Scripted;
use support::sidecar::Sidecar;
use support::wait;

use crate::receivers::judge::{self, Talk};
use crate::sensor::Sensor;

/// What is asked for, beyond the application that is a proxy itself.
const BEYOND: &str = "beyond.example:443";
const ANSWER: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
/// The application speaks first in the tunnel: these bytes may come with its answer.
const BANNER: &[u8] = b"220 in the tunnel\r\n";
/// Past the rollover.
const LONG: usize = 600 * 1024;

/// A pair whose rules let tunnels through to one host, a tap of packets with `keys`, and one of records.
struct Tunnels {
    setting: Setting,
    sensor: Sensor,
    server: Sidecar,
    _client: Sidecar,
    app: Scripted,
}

impl Tunnels {
    fn start(keys: &str) -> Self {
        let rule = "upgrade = [\"connect\"]\nhosts = [\"beyond.example\"]\nrequests = [\"CONNECT /\"]\n";
        let setting = Setting::new();
        let records = setting.dir.path().join("records.json");
        let more = format!(
            "{keys}\n[[tap]]\nname = \"records\"\nto_sensor = \"json://{}\"\n\n\
             [[inbound]]\nname = \"proxy\"\nfrom = \"shop/web\"\n{rule}",
            records.display()
        );
        // The caller may ask for one more: it is the callee that refuses.
        let any = rule.replace("\"beyond.example\"", "\"beyond.example\", \"elsewhere.example\"");
        let setting = setting
            .client(|text| text.replace("to = \"shop/orders\"\n", &format!("to = \"shop/orders\"\n{any}")))
            .server(|text| text + &more);
        let app = Scripted::on(setting.at.app, |line| {
            line.head()?;
            line.send([ANSWER.as_bytes(), BANNER].concat())?;
            let heard = line.bytes(LONG)?;
            line.send(heard)
        });
        let sensor = Sensor::start(setting.at.sensor);
        let (server, client) = (setting.start_server(), setting.start_client());
        Self { setting, sensor, server, _client: client, app }
    }

    /// Asks for a tunnel to `target`, and says `said` in it. The head of the answer, and what followed.
    fn ask(&self, target: &str, said: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.setting.at.entry).unwrap();
        stream.set_read_timeout(Some(wait::SOON)).unwrap();
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        if !head.starts_with("HTTP/1.1 200") {
            return (head, Vec::new());
        }
        let mut writer = stream.try_clone().unwrap();
        let saying = said.to_vec();
        let writing = std::thread::spawn(move || {
            writer.write_all(&saying).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        writing.join().unwrap();
        (head, heard)
    }

    fn records(&self, count: usize) -> Vec<Value> {
        wait::until("the records", wait::SOON, || {
            let text = std::fs::read_to_string(self.setting.dir.path().join("records.json")).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let records: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (records.len() == count).then_some(records)
        })
    }

    /// What both sides said, over the connections of the copy in their order.
    fn copied(&self) -> (Vec<u8>, Vec<u8>) {
        let copy = self.sensor.settle(self.setting.dir.path());
        let talks = judge::agreed(&copy);
        let all = |half: fn(&Talk) -> &Vec<u8>| talks.iter().flat_map(|talk| half(talk).clone()).collect();
        (all(|talk| &talk.asked), all(|talk| &talk.answered))
    }
}

fn numbered(count: usize) -> Vec<u8> {
    (0..).flat_map(|line: u32| format!("{line:08}\n").into_bytes()).take(count).collect()
}

/// The head, and what is behind it.
fn parted(bytes: &[u8]) -> (&str, &[u8]) {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    (std::str::from_utf8(&bytes[..end]).unwrap(), &bytes[end..])
}

#[test]
fn a_tunnel_is_copied_whole_and_told_once() {
    let tunnels = Tunnels::start("queue = \"64MiB\"");
    let said = numbered(LONG);
    let (head, heard) = tunnels.ask(BEYOND, &said);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(heard == [BANNER, &said].concat(), "{} bytes", heard.len());
    let record = tunnels.records(1).remove(0);
    assert_eq!((&record["type"], &record["method"]), (&json!("exchange"), &json!("CONNECT")), "{record}");
    assert_eq!((&record["host"], &record["status"]), (&json!(BEYOND), &json!(200)), "{record}");
    assert_eq!((&record["verdict"], &record["rule"]), (&json!("allowed"), &json!("proxy")));
    assert_eq!(record["request_bytes"], LONG, "{record}");
    assert_eq!(record["response_bytes"], BANNER.len() + LONG, "{record}");
    let (asked, answered) = tunnels.copied();
    let ((request, up), (response, down)) = (parted(&asked), parted(&answered));
    assert!(request.starts_with(&format!("CONNECT {BEYOND} HTTP/1.1\r\nhost: {BEYOND}\r\n")), "{request}");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(up == said, "{} bytes from the client", up.len());
    assert!(down == heard, "{} bytes from the server", down.len());
    let metrics = tunnels.server.metrics();
    assert_eq!(metrics.sum("sekisho_tap_streams_cut_total", &[]), 0.0);
    for tap in ["ids", "records"] {
        assert_eq!(metrics.sum("sekisho_tap_matched_total", &[("tap", tap)]), 1.0);
    }
}

#[test]
fn a_refused_tunnel_is_copied_with_its_refusal() {
    let tunnels = Tunnels::start("");
    let (head, _) = tunnels.ask("elsewhere.example:443", b"");
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(tunnels.app.connections(), 0);
    let record = tunnels.records(1).remove(0);
    assert_eq!((&record["method"], &record["status"]), (&json!("CONNECT"), &json!(403)), "{record}");
    assert_eq!((&record["verdict"], &record["host"]), (&json!("denied"), &json!("elsewhere.example:443")));
    let (asked, answered) = tunnels.copied();
    assert!(asked.starts_with(b"CONNECT elsewhere.example:443 HTTP/1.1\r\n"));
    assert!(answered.starts_with(b"HTTP/1.1 403 "));
}

#[test]
fn of_a_tunnel_is_copied_what_the_tap_says() {
    let tunnels = Tunnels::start("stream = \"first 2KiB\"");
    let said = numbered(LONG);
    let (_, heard) = tunnels.ask(BEYOND, &said);
    assert_eq!(heard.len(), BANNER.len() + LONG);
    let (asked, answered) = tunnels.copied();
    assert!(parted(&asked).1 == &said[..2048] && parted(&answered).1 == &heard[..2048]);
}
