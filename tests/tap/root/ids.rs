//! Community IDs in the records are those of the packets: tcpdump captures the encrypted wire, a sensor takes the copy, the
//! reference implementation names every connection it finds there, and each record has to name the two that carried it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;

use serde_json::{Value, json};
use support::child::{Child, run_with_input};
use support::message::Message;
use support::origin::{Origin, Reply};
use support::pair::{HOST, Setting};
use support::peers::{H2Origin, h2_together};
use support::script::Scripted;
use support::sidecar::Sidecar;
use support::wire::Connection;
use support::{root, tools, wait};

use crate::receivers::judge::{self, Talk};
use crate::sensor::{Copy, Sensor};

/// So many bodies of this size take a copy past its rollover.
const BODY: usize = 200_000;
const TIMES: usize = 8;

/// A pair with a tap of packets and one of records at the callee, one of records at the caller, and a capture between them.
struct Watched {
    setting: Setting,
    sensor: Sensor,
    server: Sidecar,
    _client: Sidecar,
    tcpdump: Child,
}

impl Watched {
    fn start(setting: Setting) -> Self {
        let file = |name: &str| setting.dir.path().join(format!("{name}.json")).display().to_string();
        let tap = |name: &str, more: &str| {
            format!("\n[[tap]]\nname = \"records\"\nto_sensor = \"json://{}\"\n{more}", file(name))
        };
        let (callee, caller) = (tap("callee", ""), tap("caller", "direction = \"outbound\"\n"));
        let keys = "body = \"first 1MiB\"\nqueue = \"64MiB\"\n";
        let setting = setting.server(|text| text + keys + &callee).client(|text| text + &caller);
        let pcap = setting.dir.path().join("wire.pcap");
        let mut command = tools::system("tcpdump", "tcpdump");
        command.args(["-i", "lo", "--immediate-mode", "-U", "-n", "-s", "128", "-Z", "root", "-w"]).arg(&pcap);
        let inbound = format!("tcp port {}", setting.at.inbound.port());
        let tcpdump = Child::start(setting.dir.path(), "tcpdump", command.arg(inbound));
        tcpdump.stderr.wait_for_line("listening on", |line| line.contains("listening on"));
        let sensor = Sensor::start(setting.at.sensor);
        let (server, client) = (setting.start_server(), setting.start_client());
        Self { setting, sensor, server, _client: client, tcpdump }
    }

    fn records(&self, name: &str, count: usize) -> Vec<Value> {
        let path: PathBuf = self.setting.dir.path().join(format!("{name}.json"));
        wait::until("the records", wait::SOON, || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let records: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (records.len() == count).then_some(records)
        })
    }

    /// Every connection of the copy, by its ID.
    fn copied(&self) -> BTreeMap<String, Talk> {
        let copy = self.sensor.settle(self.setting.dir.path());
        let talks = judge::agreed(&copy);
        let ends: Vec<_> = talks.iter().map(|talk| (talk.client, talk.server)).collect();
        named(&ends).into_iter().zip(talks).collect()
    }

    /// The IDs of the connections on the wire.
    fn wire(&mut self) -> BTreeSet<String> {
        self.tcpdump.signal("INT");
        assert!(self.tcpdump.wait(wait::SOON).is_some());
        let copy = Copy::of_file(self.setting.dir.path().join("wire.pcap"), self.setting.dir.path());
        let fields = ["ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"];
        let opened = copy.fields("tcp.flags.syn == 1 && tcp.flags.ack == 0", &fields);
        let ends: Vec<_> = opened
            .iter()
            .map(|line| {
                let words: Vec<&str> = line.split('\t').collect();
                let end = |ip: &str, port: &str| SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap());
                (end(words[0], words[1]), end(words[2], words[3]))
            })
            .collect();
        named(&ends).into_iter().collect()
    }
}

/// What the reference implementation calls these flows.
fn named(ends: &[(SocketAddr, SocketAddr)]) -> Vec<String> {
    let mut asked = String::new();
    for (client, server) in ends {
        writeln!(asked, "{} {} {} {} 0", client.ip(), client.port(), server.ip(), server.port()).unwrap();
    }
    let answered = run_with_input(tools::python().arg(tools::script("community_id.py")), &asked);
    answered.lines().map(str::to_owned).collect()
}

/// Rules that let everything through, to this application.
fn open(setting: Setting) -> Setting {
    setting.server(|text| text.replace("[[tap]]", "[[inbound]]\nname = \"all\"\nfrom = \"shop/web\"\n\n[[tap]]"))
}

/// Each record names the connection of the copy that holds its request, the same on the wire as the caller's record of it, and one
/// that was captured.
fn assert_named(watched: &mut Watched, count: usize) {
    let (callee, caller) = (watched.records("callee", count), watched.records("caller", count));
    let copied = watched.copied();
    let wire = watched.wire();
    assert!(copied.len() > 1, "no rollover");
    let mut used = BTreeSet::new();
    for record in &callee {
        let (path, id) = (record["path"].as_str().unwrap(), record["community_id"].as_str().unwrap());
        let line = format!("POST {path} HTTP/1.1\r\n");
        let talk = copied.get(id).unwrap_or_else(|| panic!("not in the copy: {record}"));
        assert!(holds(&talk.asked, line.as_bytes()), "{id} does not hold it: {record}");
        assert_eq!(record["copied_by"], "ids");
        used.insert(id);
        let of_caller = caller.iter().find(|other| other["path"] == path).unwrap();
        for same in ["community_id_wire", "wire_client", "wire_server", "tls_version", "tls_cipher"] {
            assert_eq!(record[same], of_caller[same], "{same} of {path}");
            assert!(record[same].is_string(), "{record}");
        }
        assert!(wire.contains(record["community_id_wire"].as_str().unwrap()), "not on the wire: {record}");
        assert_eq!(of_caller["copied_by"], Value::Null, "nobody copies packets there");
    }
    assert_eq!(used.len(), copied.len(), "connections of the copy that no record names");
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn records_of_http1_name_the_connections_that_were_captured() {
    if !root::granted("records_of_http1_name_the_connections_that_were_captured") {
        return;
    }
    let mut watched = Watched::start(open(Setting::new()));
    let _origin = Origin::forgetful(watched.setting.at.app, |_: &Message| Reply::text(b"ok".to_vec()));
    let mut connection = Connection::open(watched.setting.at.entry).unwrap();
    for number in 0..TIMES {
        let head = format!("POST /{number} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {BODY}\r\n\r\n");
        connection.send(&[head.as_bytes(), &vec![b'x'; BODY]].concat()).unwrap();
        assert_eq!(connection.receive().unwrap().status(), 200);
        watched.sensor.catch_up_of(&watched.server, "ids", number + 1);
    }
    assert_named(&mut watched, TIMES);
}

#[test]
fn records_of_http2_name_the_connections_that_were_captured() {
    if !root::granted("records_of_http2_name_the_connections_that_were_captured") {
        return;
    }
    let setting = open(Setting::new());
    let origin = H2Origin::start(setting.dir.path());
    let (old, new) = (setting.at.app.to_string(), origin.addr().to_string());
    let mut watched = Watched::start(setting.server(|text| text.replace(&old, &new)));
    let requests: Vec<_> = (0..TIMES)
        .map(|number| json!({"method": "POST", "path": format!("/{number}?bytes=5"), "authority": HOST, "headers": [], "length": BODY}))
        .collect();
    let replies = h2_together(watched.setting.at.entry, &requests);
    assert_eq!(replies["replies"].as_array().unwrap().len(), TIMES, "{replies}");
    assert_named(&mut watched, TIMES);
}

#[test]
fn records_of_opaque_tcp_name_the_connections_that_were_captured() {
    if !root::granted("records_of_opaque_tcp_name_the_connections_that_were_captured") {
        return;
    }
    const OPAQUE: &str = "protocol = \"tcp\"\n";
    let setting = Setting::new()
        .server(|text| {
            let text = text.replace("[app]\n", &format!("[app]\n{OPAQUE}"));
            let (before, after) = text.split_once("requests = ").unwrap();
            format!("{before}{}", after.split_once('\n').unwrap().1)
        })
        .client(|text| text.replace("[[service]]\n", &format!("[[service]]\n{OPAQUE}")));
    let mut watched = Watched::start(setting);
    let _app = Scripted::on(watched.setting.at.app, |line| {
        let heard = line.bytes(4 * BODY)?;
        line.send(heard)
    });
    let mut stream = TcpStream::connect(watched.setting.at.entry).unwrap();
    let said: Vec<u8> = (0..4 * BODY).map(|at| (at * 7 + at / 251) as u8).collect();
    stream.write_all(&said).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard == said);
    let (callee, caller) = (watched.records("callee", 1).remove(0), watched.records("caller", 1).remove(0));
    let (copied, wire) = (watched.copied(), watched.wire());
    assert!(copied.len() > 1, "no rollover");
    let first = &copied[callee["community_id"].as_str().unwrap()];
    assert!(said.starts_with(&first.asked), "the record names a connection without the first byte");
    assert_eq!((&callee["copied_by"], &callee["type"]), (&json!("ids"), &json!("flow")));
    for same in ["community_id_wire", "wire_client", "wire_server", "tls_version", "tls_cipher"] {
        assert_eq!(callee[same], caller[same], "{same}");
        assert!(callee[same].is_string(), "{callee}");
    }
    assert!(caller["peer_serial"].is_string(), "{caller}");
    assert!(wire.contains(callee["community_id_wire"].as_str().unwrap()), "{callee}");
}
