//! The file decides: without rules nothing passes, without a file nothing starts, and a file with a mistake says where.

use support::message::{self, Kind};
use support::pair::{HOST, Setting, without_rules};
use support::peers::TlsClient;
use support::scratch::Scratch;
use support::sidecar::{Sidecar, sekisho};
use support::wire;

const GET: &[u8] = b"GET /api/orders/42 HTTP/1.1\r\nHost: orders.shop.svc\r\nConnection: close\r\n\r\n";

#[test]
fn a_callee_without_rules_lets_nothing_in() {
    let pair = Setting::new().server(|text| without_rules(&text)).start();
    let straight =
        TlsClient::new(pair.setting.at.inbound).cert(&pair.setting.web).bundle(&pair.setting.web.bundle).send(GET);
    let reply = message::read(&mut &straight.received[..], Kind::Response).unwrap().unwrap();
    assert_eq!((reply.status(), reply.text().as_str()), (403, "RBAC: access denied"));
    assert_eq!(wire::request(pair.entry(), GET).unwrap().status(), 403);
    assert_eq!(pair.origin.connections(), 0);
}

#[test]
fn a_caller_without_rules_lets_nothing_out() {
    let pair = Setting::new().client(|text| without_rules(&text)).start();
    let reply = wire::request(pair.entry(), GET).unwrap();
    assert_eq!((reply.status(), reply.text().as_str()), (403, "RBAC: access denied"));
    assert_eq!(pair.origin.connections(), 0);
    assert!(pair.server.access_log().is_empty(), "the callee's sidecar was asked: {:?}", pair.server.access_log());
}

#[test]
fn a_missing_file_refuses_to_start() {
    let dir = Scratch::new();
    let output = sekisho(dir.path(), &["proxy", "-c", "nowhere.toml"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nowhere.toml"), "{said}");
}

#[test]
fn a_missing_certificate_refuses_to_start() {
    let setting = Setting::new();
    std::fs::remove_file(&setting.orders.chain).unwrap();
    let (status, said) = Sidecar::refuse(setting.dir.path(), "server");
    assert!(!status.success());
    assert!(said.contains("orders.pem"), "{said}");
}

#[test]
fn a_certificate_of_another_workload_refuses_to_start() {
    let setting = Setting::new().server(|text| text.replace("orders.pem", "web.pem").replace("orders.key", "web.key"));
    let (status, said) = Sidecar::refuse(setting.dir.path(), "server");
    assert!(!status.success());
    assert!(said.contains("spiffe://example.org/ns/shop/sa/web"), "{said}");
}

#[test]
fn every_mistake_of_a_file_is_said_in_one_run_with_its_line() {
    let setting = Setting::new().server(|text| {
        text.replace("mode = \"enforce\"", "mode = \"enforced\"").replace("from = \"shop/web\"", "form = \"shop/web\"")
    });
    let (status, said) = Sidecar::refuse(setting.dir.path(), "server");
    assert!(!status.success());
    for word in ["server.toml:5", "enforced", "form", "from"] {
        assert!(said.contains(word), "no {word} in:\n{said}");
    }
}

#[test]
fn a_taken_port_is_an_error_at_start() {
    let setting = Setting::new();
    let _taken = std::net::TcpListener::bind(setting.at.inbound).unwrap();
    let (status, said) = Sidecar::refuse(setting.dir.path(), "server");
    assert!(!status.success());
    assert!(said.contains(&setting.at.inbound.port().to_string()), "{said}");
}

#[test]
fn only_written_listeners_bind_without_capture() {
    let pair = support::pair::Pair::start();
    // The caller's file has no `[app]` and writes no `inbound` or `outbound`, so nobody may listen there for it.
    let listening = listening_ports(pair.client.child.id());
    let written = pair.setting.dir.read("client.toml");
    assert_eq!(listening.len(), 4, "{listening:?}");
    for port in listening {
        assert!(written.contains(&format!(":{port}\"")), "port {port} is not in the file");
    }
    assert_eq!(listening_ports(pair.server.child.id()).len(), 4);
    assert_eq!(wire::get(pair.entry(), HOST, "/api/orders/42").unwrap().status(), 200);
}

/// The TCP ports a process listens on, from `/proc`.
fn listening_ports(pid: u32) -> Vec<u16> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if columns[3] == "0A" && sockets.iter().any(|inode| inode == columns[9]) {
                ports.push(u16::from_str_radix(columns[1].rsplit(':').next().unwrap(), 16).unwrap());
            }
        }
    }
    ports.sort_unstable();
    // Several workers may share one port by SO_REUSEPORT.
    ports.dedup();
    ports
}
