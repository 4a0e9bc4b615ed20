//! Files that load: what users' scripts rest on, the smallest example, and every default.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use config::{
    AccessSink, Capture, Endpoint, Extent, IdentitySource, Listen, LogFormat, Protocol, Redaction, Sensor, Snapshot,
    TapDirection, TapHttp, TapKind, TapSelection, TapVerdict,
};
use policy::{Direction, Mode, PathCase, RuleProtocol, Who};
use std::path::{Path, PathBuf};
use std::time::Duration;

const HEAD: &str = "schema = 1\nworkload = \"shop/orders\"\n";

fn load(text: &str) -> Snapshot {
    config::parse("t.toml", text, Path::new("/etc/sekisho")).unwrap_or_else(|e| panic!("{e}"))
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

fn addresses(listens: &[Listen]) -> Vec<String> {
    listens.iter().map(|l| l.addr.to_string()).collect()
}

#[test]
fn the_server_of_the_contract_loads_as_written() {
    let path = file("server.toml");
    let s = config::load(&path).unwrap();
    assert_eq!(s.workload.as_str(), "spiffe://example.org/ns/shop/sa/orders");
    assert_eq!((s.trust_domain.as_str(), s.mode), ("example.org", Mode::Enforce));
    let folder = path.parent().unwrap();
    let IdentitySource::Files { cert, key, bundle } = &s.identity else { panic!("files") };
    assert_eq!(
        [cert, key, bundle],
        [&folder.join("orders.pem"), &folder.join("orders.key"), &folder.join("roots.pem")]
    );
    assert_eq!(s.proxy.capture, Capture::None);
    assert_eq!(addresses(&s.proxy.inbound), ["127.0.0.1:15006"]);
    assert!(s.proxy.outbound.is_empty());
    assert_eq!(s.app.unwrap().address.to_string(), "127.0.0.1:8080");
    let [rule] = s.rules.rules(Direction::Inbound) else { panic!("one rule") };
    assert_eq!(&*rule.name, "web-reads-orders");
    assert_eq!(
        rule.requests.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["GET,HEAD /api/orders", "GET,HEAD /api/orders/{id:uint}"]
    );
    let [tap] = s.taps.as_slice() else { panic!("one tap") };
    let sensor = Sensor::Vxlan { host: "127.0.0.1".into(), port: 4789, vni: 42 };
    assert_eq!((tap.name.as_str(), &tap.sensor), ("ids", &sensor));
    assert_eq!((tap.body, tap.stream, tap.queue), (Extent::First(128 << 10), Extent::All, 4 << 20));
    assert_eq!((tap.mtu, tap.rate_cap, &tap.select), (1500, None, &TapSelection::default()));
    assert!(s.warnings.is_empty());
}

#[test]
fn the_client_of_the_contract_loads_as_written() {
    let s = config::load(&file("client.toml")).unwrap();
    assert!(s.proxy.inbound.is_empty() && s.proxy.outbound.is_empty() && s.app.is_none());
    assert_eq!(addresses(&s.proxy.admin), ["127.0.0.1:15100"]);
    let [service] = s.services.as_slice() else { panic!("one service") };
    assert_eq!(service.hosts, ["orders.shop.svc", "orders.shop.svc.cluster.local"]);
    assert_eq!(service.identity.as_str(), "spiffe://example.org/ns/shop/sa/orders");
    assert_eq!(service.endpoints, [Endpoint::Socket("127.0.0.1:15006".parse().unwrap())]);
    assert_eq!(service.bind, ["127.0.0.1:9001".parse().unwrap()]);
    assert_eq!(s.rules.rules(Direction::Outbound).len(), 1);
    assert!(s.warnings.is_empty());
}

#[test]
fn paths_are_compared_as_the_file_says_and_letter_by_letter_where_it_says_nothing() {
    let of = |text: &str| load(&format!("{HEAD}{text}")).rules.path_options().case;
    assert_eq!(of(""), PathCase::Sensitive);
    assert_eq!(of("[path]\n"), PathCase::Sensitive);
    assert_eq!(of("[path]\ncase = \"sensitive\"\n"), PathCase::Sensitive);
    assert_eq!(of("[path]\ncase = \"insensitive\"\n"), PathCase::Insensitive);
    // It stands for both directions, whether it is written before the rules or after them.
    let rules = load(&format!(
        "{HEAD}[[inbound]]\nname = \"a\"\nfrom = \"shop/web\"\nrequests = \"GET /A\"\n[path]\ncase = \"insensitive\"\n"
    ))
    .rules;
    assert!(rules.rules(Direction::Inbound)[0].requests[0].matches("GET", "/a"));
}

#[test]
fn the_smallest_useful_file_loads_as_written() {
    let s = config::load(&file("example-app.toml")).unwrap();
    assert_eq!(s.workload.as_str(), "spiffe://cluster.local/ns/example-java-app/sa/javaapp");
    let inbound = s.rules.rules(Direction::Inbound);
    assert_eq!((inbound.len(), inbound[0].ports.as_slice()), (1, &[8080][..]));
    let outbound = s.rules.rules(Direction::Outbound);
    assert_eq!(outbound.iter().map(|r| &*r.name).collect::<Vec<_>>(), ["app-to-mongo", "app-to-redis", "feed"]);
    assert_eq!(outbound[2].cidrs[0].to_string(), "192.229.173.207/32");
    assert_eq!(outbound[2].who, Who::Anyone);
    assert_eq!(outbound[2].owner.as_deref(), Some("team-java"));
    assert!(s.warnings.is_empty());
}

#[test]
fn a_file_without_rules_has_every_default_and_passes_nothing() {
    let s = load(HEAD);
    assert_eq!((s.trust_domain.as_str(), s.mode, s.proxy.capture), ("cluster.local", Mode::Enforce, Capture::Redirect));
    for (listens, expected) in [
        (&s.proxy.inbound, ["0.0.0.0:15006", "[::]:15006"]),
        (&s.proxy.outbound, ["127.0.0.1:15001", "[::1]:15001"]),
        (&s.proxy.admin, ["127.0.0.1:15000", "[::1]:15000"]),
        (&s.proxy.health, ["0.0.0.0:15021", "[::]:15021"]),
        (&s.proxy.metrics, ["0.0.0.0:15090", "[::]:15090"]),
    ] {
        assert_eq!(addresses(listens), expected);
        assert!(listens.iter().all(|l| l.defaulted));
    }
    let t = s.proxy.timeouts;
    let seconds = [
        t.connect,
        t.handshake,
        t.head,
        t.idle_stream,
        t.pool_idle,
        t.drain,
        t.detect,
        t.revoke_within,
        t.downstream_idle,
    ];
    assert_eq!(seconds.map(|d| d.as_secs()), [10, 5, 5, 300, 60, 45, 5, 5, 3600]);
    assert_eq!((s.proxy.workers, s.proxy.admin_writes, s.proxy.max_connections), (None, false, 10_000));
    assert_eq!((s.log.access, s.log.format), (AccessSink::Stdout, LogFormat::Envoy));
    assert_eq!(s.app, None);
    for direction in [Direction::Inbound, Direction::Outbound] {
        assert!(s.rules.rules(direction).is_empty());
    }
    assert!(s.services.is_empty() && s.taps.is_empty() && s.identities.is_empty() && s.warnings.is_empty());
    let IdentitySource::Files { cert, .. } = s.identity else { panic!("files") };
    assert_eq!(cert, Path::new("/var/run/secrets/workload-spiffe-credentials/cert-chain.pem"));
}

#[test]
fn without_capture_only_what_is_written_listens() {
    let none = format!("{HEAD}[proxy]\ncapture = \"none\"\n");
    let s = load(&none);
    assert!(s.proxy.inbound.is_empty() && s.proxy.outbound.is_empty());
    assert_eq!((s.proxy.admin.len(), s.proxy.health.len(), s.proxy.metrics.len()), (2, 2, 2));
    let s = load(&format!("{none}outbound = \"127.0.0.1:9000\"\n[app]\naddress = \"127.0.0.1:8080\"\n"));
    assert_eq!(addresses(&s.proxy.inbound), ["0.0.0.0:15006", "[::]:15006"]);
    assert_eq!(addresses(&s.proxy.outbound), ["127.0.0.1:9000"]);
    assert!(!s.proxy.outbound[0].defaulted);
}

#[test]
fn every_key_is_taken_over() {
    let s = load(
        r#"
schema = 1
workload = "spiffe://prod.example/ns/shop/sa/orders"
trust_domain = "prod.example"
mode = "observe"
[identity]
source = "files"
cert = "/certs/a.pem"
key = "keys/a.key"
bundle = "../roots.pem"
[proxy]
capture = "redirect"
inbound = ["10.0.0.1:15006", "[2001:db8::1]:15006"]
workers = 3
admin_writes = true
max_connections = 0x100
connect_timeout = "1s"
idle_timeout = "250ms"
downstream_idle_timeout = "2h"
[app]
address = "[::1]:8080"
protocol = "http2"
timeout = "30s"
[log]
access = "file:logs/access.log"
format = "json"
[identities]
web = "shop/web"
ops = ["platform/ops-console", "ns:breakglass"]
db = { id = "shop/orders-db", kind = "database", criticality = "high" }
[[service]]
name = "ledger"
identity = "db"
hosts = "Ledger.Finance.svc."
endpoints = ["ledger-0.finance:5432", "[::1]:5432"]
addresses = ["10.96.0.5:80"]
protocol = "tcp"
timeout = "1m"
connect_timeout = "2s"
[[inbound]]
name = "a"
action = "deny"
from = "anyone"
not_from = ["ops", "web", "edge/*"]
ports = [80, 8080]
hosts = ["*.shop.svc", "ORDERS"]
requests = "* /admin/{rest...}"
owner = "o"
ticket = "t"
reason = "r"
[[inbound]]
name = "b"
from = "anyone"
plaintext = true
grpc = ["a.B/*", "a.B/C"]
[[outbound]]
name = "c"
to = ["db", "td:partner.example"]
protocol = "tcp"
ports = [5432]
[[tap]]
name = "far"
to_sensor = "vxlan://[2001:db8::7]?vni=16777215"
allow_plaintext_tap = true
direction = "both"
from = "web"
to = ["shop/orders", "td:partner.example"]
requests = "GET /a/{b}"
hosts = "*.shop.svc"
ports = [8080, 5432]
rules = "a"
verdicts = ["deny", "shadow-deny"]
status = ["5xx", "404"]
sample = 0.5
rate_cap = "200Mbit/s"
body = "all"
stream = "first 64KiB"
queue = "64MiB"
mtu = 9000
port = 80
vlan = 7
redact = ["json:pan", "X-Secret", "cookie:sid", "query:key"]
pass = "Cookie"
http = "http1"
"#,
    );
    assert_eq!(s.mode, Mode::Observe);
    let IdentitySource::Files { cert, key, bundle } = &s.identity else { panic!("files") };
    assert_eq!(
        [cert, key, bundle].map(|p| p.to_str().unwrap()),
        ["/certs/a.pem", "/etc/sekisho/keys/a.key", "/etc/sekisho/../roots.pem"]
    );
    assert_eq!((s.proxy.workers, s.proxy.admin_writes, s.proxy.max_connections), (Some(3), true, 256));
    assert_eq!(s.proxy.timeouts.idle_stream, Duration::from_millis(250));
    assert_eq!(s.proxy.timeouts.downstream_idle, Duration::from_secs(7200));
    let app = s.app.as_ref().unwrap();
    assert_eq!((app.protocol, app.timeout), (Protocol::Http2, Some(Duration::from_secs(30))));
    assert_eq!(s.log.access, AccessSink::File("/etc/sekisho/logs/access.log".into()));
    assert_eq!(s.log.format, LogFormat::Json);
    assert_eq!(s.identities.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["db", "ops", "web"]);
    assert_eq!(s.identities[0].criticality.as_deref(), Some("high"));
    assert_eq!(s.identities[1].ids.len(), 2);
    let service = &s.services[0];
    assert_eq!(service.identity.as_str(), "spiffe://prod.example/ns/shop/sa/orders-db");
    assert_eq!(service.hosts, ["ledger.finance.svc"]);
    assert_eq!(service.endpoints[0], Endpoint::Name { host: "ledger-0.finance".into(), port: 5432 });
    assert_eq!((service.protocol, service.connect_timeout), (Protocol::Tcp, Some(Duration::from_secs(2))));
    let [deny, plain] = s.rules.rules(Direction::Inbound) else { panic!("two rules") };
    assert_eq!((deny.not_who.len(), deny.ports.len(), deny.hosts[1].to_string().as_str()), (4, 2, "orders"));
    assert_eq!((deny.reason.as_deref(), deny.ticket.as_deref()), (Some("r"), Some("t")));
    assert!(plain.plaintext && plain.grpc.len() == 2);
    let [out] = s.rules.rules(Direction::Outbound) else { panic!("one rule") };
    assert_eq!(out.protocol, Some(RuleProtocol::Tcp));
    assert!(s.rules.declares_tcp(Direction::Outbound, 5432));
    let far = &s.taps[0];
    assert_eq!(far.sensor, Sensor::Vxlan { host: "2001:db8::7".into(), port: 4789, vni: 0xff_ffff });
    assert_eq!((far.allow_plaintext, far.body, far.stream), (true, Extent::All, Extent::First(64 << 10)));
    assert_eq!((far.rate_cap, far.queue, far.mtu), (Some(25_000_000), 64 << 20, 9000));
    assert_eq!((far.port, far.vlan), (Some(80), Some(7)));
    let names = ["x-secret", "cookie:sid", "query:key", "json:pan"].map(str::to_owned);
    let [header, cookie, query, json] = names.map(|n| n.rsplit(':').next().unwrap().to_owned());
    let redact = [Redaction::Header(header), Redaction::Cookie(cookie), Redaction::Query(query), Redaction::Json(json)];
    assert_eq!((far.redact.as_slice(), far.pass.as_slice()), (&redact[..], &[Redaction::Header("cookie".into())][..]));
    let select = &far.select;
    assert_eq!((select.direction, select.from.len(), select.to.len()), (TapDirection::Both, 1, 2));
    assert_eq!((select.requests[0].to_string().as_str(), select.hosts.len()), ("GET /a/{b}", 1));
    assert_eq!((select.ports.as_slice(), select.rules.len()), (&[8080, 5432][..], 1));
    assert_eq!(select.verdicts, [TapVerdict::Deny, TapVerdict::ShadowDeny]);
    assert!(select.status[0].matches(503) && select.status[1].matches(404) && !select.sample.is_all());
}

#[test]
fn a_tap_that_hides_members_of_json_copies_no_streams_unless_the_file_says_so() {
    let stream = |keys: &str| {
        let tap = format!("{HEAD}[[tap]]\nname = \"a\"\nto_sensor = \"pcap-listen://127.0.0.1\"\n{keys}");
        load(&tap).taps.remove(0).stream
    };
    assert_eq!(stream(""), Extent::All);
    assert_eq!(stream("redact = [\"x-secret\"]"), Extent::All);
    assert_eq!(stream("redact = [\"json:pan\"]"), Extent::None);
    assert_eq!(stream("redact = [\"json:pan\"]\nstream = \"all\""), Extent::All);
}

#[test]
fn every_sensor_has_its_defaults() {
    let sensor = |url: &str| {
        let sure = "\nallow_plaintext_tap = true";
        let tap = format!("{HEAD}[[tap]]\nname = \"a\"\nto_sensor = \"{url}\"");
        let local = ["pcap+mtls", "pcapng", "json"].iter().any(|scheme| url.starts_with(scheme));
        load(&if local { tap } else { tap + sure }).taps.remove(0).sensor
    };
    let host = || "ids.security".to_owned();
    let id = || identity::SpiffeId::parse("spiffe://cluster.local/ns/sec/sa/ids").unwrap();
    for (url, expected) in [
        ("vxlan://ids.security?vni=0", Sensor::Vxlan { host: host(), port: 4789, vni: 0 }),
        ("pcap://ids.security", Sensor::Pcap { host: host(), port: 57012 }),
        ("pcap://IDS.security.:9", Sensor::Pcap { host: host(), port: 9 }),
        ("pcap-listen://0.0.0.0", Sensor::PcapListen { address: "0.0.0.0:57012".parse().unwrap() }),
        ("pcap-listen://[::1]:9", Sensor::PcapListen { address: "[::1]:9".parse().unwrap() }),
        ("pcap+mtls://ids.security?id=sec/ids", Sensor::PcapMtls { host: host(), port: 57012, id: id() }),
        (
            "pcap+mtls://[::1]:9?id=spiffe://cluster.local/ns/sec/sa/ids",
            Sensor::PcapMtls { host: "::1".into(), port: 9, id: id() },
        ),
        ("pcapng:///var/tap", Sensor::Pcapng { folder: "/var/tap".into(), size: 64 << 20, files: 8 }),
        ("pcapng:///tap?files=2&size=1GiB", Sensor::Pcapng { folder: "/tap".into(), size: 1 << 30, files: 2 }),
        ("shadow://ids.security", Sensor::Shadow { host: host(), port: 80 }),
        ("json:stdout", Sensor::JsonStdout),
        ("json:///var/log/tap.json", Sensor::JsonFile { path: "/var/log/tap.json".into() }),
        ("syslog+udp://ids.security", Sensor::Syslog { host: host(), port: 514 }),
    ] {
        assert_eq!(sensor(url), expected, "{url}");
    }
    assert_eq!(sensor("json:stdout").kind(), TapKind::Records);
    assert_eq!(sensor("shadow://ids").kind(), TapKind::Requests);
    assert_eq!(sensor("pcapng:///a").kind(), TapKind::Frames);
}

#[test]
fn a_tap_runs_on_when_only_what_it_selects_is_another() {
    let tap =
        |rest: &str| load(&format!("{HEAD}[[tap]]\nname = \"a\"\nto_sensor = \"json:stdout\"\n{rest}")).taps.remove(0);
    let plain = tap("");
    for rest in ["from = \"shop/web\"", "body = \"none\"", "sample = 0.1", "verdicts = \"deny\""] {
        assert!(plain.runs_on_as(&tap(rest)), "{rest}");
    }
    for rest in ["queue = \"1MiB\"", "redact = \"x-a\"", "pass = \"cookie\"", "rate_cap = \"1Mbit/s\""] {
        assert!(!plain.runs_on_as(&tap(rest)), "{rest}");
    }
}

#[test]
fn every_tap_of_packets_may_show_http2_as_it_was_and_no_other_may() {
    let tap = |sensor: &str, rest: &str| format!("{HEAD}[[tap]]\nname = \"a\"\nto_sensor = \"{sensor}\"\n{rest}\n");
    let mtls = "pcap+mtls://127.0.0.1?id=soc/ids";
    for sensor in ["vxlan://127.0.0.1?vni=1", "pcap://127.0.0.1", "pcap-listen://127.0.0.1", mtls, "pcapng:///taps"] {
        let shown = load(&tap(sensor, "http = \"h2c\"")).taps.remove(0);
        let plain = load(&tap(sensor, "")).taps.remove(0);
        assert_eq!((shown.http, plain.http), (TapHttp::H2c, TapHttp::Http1), "{sensor}");
        assert!(!plain.runs_on_as(&shown), "{sensor}");
    }
    for sensor in ["json:stdout", "syslog+udp://127.0.0.1", "shadow://127.0.0.1:80"] {
        assert!(config::parse("t.toml", &tap(sensor, "http = \"h2c\""), Path::new("/")).is_err(), "{sensor}");
    }
}

#[test]
fn switches_of_protocol_are_taken_over_in_lower_case() {
    let s = load(&format!(
        r#"{HEAD}
[[inbound]]
name = "page-and-socket"
from = "shop/web"
requests = "GET /live"
upgrade = ["WebSocket", "irc"]
[[inbound]]
name = "no-tunnels"
action = "deny"
from = "anyone"
requests = "CONNECT /"
[[inbound]]
name = "no-sockets"
action = "deny"
from = "anyone"
upgrade = "websocket"
[[outbound]]
name = "tunnel"
to = "shop/db"
hosts = ["db.example.org"]
upgrade = ["connect"]
[[outbound]]
name = "tunnel-and-page"
to = "shop/db"
requests = ["CONNECT /", "GET /health"]
upgrade = ["connect", "websocket"]
[[outbound]]
name = "everything"
to = "shop/db"
requests = "* /{{rest...}}"
upgrade = ["connect", "websocket"]
"#
    ));
    let names = |direction| -> Vec<Vec<String>> {
        let rules = s.rules.rules(direction).iter();
        rules.map(|r| r.upgrade.iter().map(ToString::to_string).collect()).collect()
    };
    assert_eq!(names(Direction::Inbound), [vec!["websocket", "irc"], vec![], vec!["websocket"]]);
    assert_eq!(
        names(Direction::Outbound),
        [vec!["connect"], vec!["connect", "websocket"], vec!["connect", "websocket"]]
    );
    assert!(s.warnings.is_empty());
}

#[test]
fn the_digest_is_that_of_the_text() {
    assert_eq!(load(HEAD).digest, load(HEAD).digest);
    assert_ne!(load(HEAD).digest, load(&format!("{HEAD}\n")).digest);
    // sha256sum of the two lines
    assert_eq!(load(HEAD).digest, "ffe4d47056abe1833d908cd8b81552c7afc34c054e0bb744dd8216ddaa017878");
}

#[test]
fn a_range_that_reaches_a_metadata_address_gets_the_sidecars_own_deny_rule() {
    let s = load(&format!("{HEAD}[[outbound]]\nname = \"wide\"\nto_cidr = [\"0.0.0.0/0\"]\n"));
    let rules = s.rules.rules(Direction::Outbound);
    assert_eq!(rules.iter().map(|r| &*r.name).collect::<Vec<_>>(), ["wide", "builtin/metadata-deny"]);
    let to = |ip: &str| {
        let a =
            policy::Attributes { peer: None, plaintext: false, ip: Some(ip.parse().unwrap()), port: 80, request: None };
        s.rules.decide(Direction::Outbound, &a).is_allowed()
    };
    assert!(to("192.0.2.1") && !to("169.254.169.254"));
    assert_eq!(s.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["W0103"]);
}

#[test]
fn what_is_legal_but_does_nothing_is_a_warning() {
    let none = format!("{HEAD}[proxy]\ncapture = \"none\"\n");
    for (rest, code) in [
        ("[[inbound]]\nname = \"a\"\nfrom = \"shop/web\"\n", "W0101"),
        ("[[service]]\nname = \"a\"\nhosts = \"a\"\nidentity = \"shop/a\"\nendpoints = \"a:1\"\n", "W0102"),
        (
            "[app]\naddress = \"127.0.0.1:1\"\nprotocol = \"tcp\"\n[[inbound]]\nname = \"a\"\nfrom = \"shop/web\"\nrequests = \"GET /\"\n",
            "W0104",
        ),
    ] {
        let s = load(&format!("{none}{rest}"));
        assert_eq!(s.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), [code]);
    }
}

#[test]
fn a_byte_order_mark_windows_line_ends_and_comments_are_fine() {
    assert_eq!(load("\u{feff}# first a comment\r\nschema = 1\r\nworkload = \"a/b\"\r\n").mode, Mode::Enforce);
}

#[test]
fn an_identity_comes_from_a_ca_or_a_socket() {
    use config::{CaSource, ExpectedCa};
    let s = load("schema = 1\nworkload = \"shop/web\"\n[identity]\nsource = \"ca\"\n");
    let IdentitySource::Ca(CaSource { address, expected, token, cluster, .. }) = s.identity else { panic!("a CA") };
    assert_eq!(address, "sekisho-ca.sekisho.svc:15012");
    assert!(matches!(expected, ExpectedCa::Id(id) if id.path() == "/sekisho/ca"));
    assert_eq!(token.to_str(), Some("/var/run/secrets/tokens/sekisho-ca"));
    assert_eq!(cluster, None);

    let s = load(
        "schema = 1\nworkload = \"shop/web\"\n[identity]\nsource = \"ca\"\naddress = \"istiod.istio-system.svc:15012\"\nca_name = \"istiod.istio-system.svc\"\nroots = \"r.pem\"\nttl = \"1h\"\n",
    );
    let IdentitySource::Ca(CaSource { expected, roots, ttl, .. }) = s.identity else { panic!("a CA") };
    assert_eq!(expected, ExpectedCa::Name("istiod.istio-system.svc".to_owned()));
    assert_eq!(roots.to_str(), Some("/etc/sekisho/r.pem"));
    assert_eq!(ttl, Some(Duration::from_secs(3600)));

    let s = load(
        "schema = 1\nworkload = \"shop/web\"\n[identity]\nsource = \"sds\"\nsocket = \"/run/sds\"\nvalidation = \"ALL\"\n",
    );
    let IdentitySource::Sds { socket, certificate, validation } = s.identity else { panic!("a socket") };
    assert_eq!((socket.to_str(), &*certificate, &*validation), (Some("/run/sds"), "default", "ALL"));
}
