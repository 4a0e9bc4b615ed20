//! Connections that become something else: WebSocket and CONNECT, by rule and only by rule.

use std::path::Path;
use std::time::Duration;

use support::child::{Child, run};
use support::origin::Origin;
use support::pair::{HOST, Setting, json_log};
use support::sidecar::Sidecar;
use support::{ports, tools, wait};

use super::open::{head, setting, staged, staged_in};

/// The setting in which both sidecars' rules name these switches.
fn allowing(switches: &str) -> Setting {
    let add = |text: String| {
        let text = text.replace("to = \"shop/orders\"\n", &format!("to = \"shop/orders\"\nupgrade = [{switches}]\n"));
        text.replace("/open/{rest...}\"]\n", &format!("/open/{{rest...}}\"]\nupgrade = [{switches}]\n"))
    };
    setting().client(add).server(add)
}

struct WebSockets {
    app: Child,
    server: Sidecar,
    client: Sidecar,
    setting: Setting,
}

fn web_sockets(setting: Setting) -> WebSockets {
    let mut python = tools::python();
    python.arg(tools::script("ws_echo.py")).arg(setting.at.app.port().to_string());
    let mut app = Child::start(setting.dir.path(), "ws", &mut python);
    app.wait_for("ready");
    let (server, client) = (setting.start_server(), setting.start_client());
    WebSockets { app, server, client, setting }
}

/// A WebSocket client of other make. Prints what it saw.
const TALK: &str = "
import socket as sockets, sys
from websockets.sync.client import connect
from websockets.exceptions import InvalidStatus
try:
    # The name it asks for is the callee's; the connection goes to the caller's sidecar.
    line = sockets.create_connection(('127.0.0.1', int(sys.argv[1])))
    with connect('ws://%s/open/live' % sys.argv[2], sock=line, max_size=None, compression=None) as socket:
        print(socket.recv())
        for message in ['text', b'\\x00\\xff' * 100000, 'x' * 70000]:
            socket.send(message)
            print(socket.recv() == message)
        print(socket.ping().wait(10))
    print('closed', socket.close_code)
except InvalidStatus as refused:
    print(refused.response.status_code, refused.response.body.decode())
";

fn talk(sockets: &WebSockets) -> String {
    let mut python = tools::python();
    run(python.args(["-c", TALK, &sockets.setting.at.entry.port().to_string(), HOST]))
}

#[test]
fn a_websocket_passes_where_both_sides_rules_name_it() {
    let sockets = web_sockets(allowing("\"websocket\""));
    assert_eq!(talk(&sockets).lines().collect::<Vec<_>>(), ["hello", "True", "True", "True", "True", "closed 1000"]);
    assert!(sockets.app.stdout.text().contains("open /open/live\n"));
    for sidecar in [&sockets.client, &sockets.server] {
        let line = sidecar.logged(&["\"response_code\":101", "/open/live"]);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line["bytes_received"].as_u64().unwrap() > 270_000, "{line}");
        assert!(line["bytes_sent"].as_u64().unwrap() > 270_000, "{line}");
        assert_eq!(line["verdict"], "allow");
        assert_eq!(line["response_flags"], "-");
    }
}

#[test]
fn a_websocket_that_no_rule_names_is_refused_before_the_application_hears_of_it() {
    let sockets = web_sockets(setting());
    assert_eq!(talk(&sockets).trim(), "403 RBAC: access denied");
    assert_eq!(sockets.app.stdout.text(), "ready\n");
    let refusal = sockets.client.refused("/open/live");
    assert!(refusal["detail"].as_str().unwrap().contains("upgrade"), "{refusal}");
}

/// A client that hears nothing more after the first word.
const WAIT: &str = "
import socket as sockets, sys
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed
line = sockets.create_connection(('127.0.0.1', int(sys.argv[1])))
with connect('ws://%s/open/live' % sys.argv[2], sock=line) as socket:
    print(socket.recv(), flush=True)
    try:
        print(socket.recv(timeout=30), flush=True)
    except ConnectionClosed:
        print('cut', flush=True)
";

#[test]
fn a_websocket_ends_when_the_rules_no_longer_allow_it() {
    let setting =
        allowing("\"websocket\"").server(|text| text.replace("[proxy]\n", "[proxy]\nrevoke_within = \"1s\"\n"));
    let sockets = web_sockets(setting);
    let mut python = tools::python();
    let mut client = Child::start(
        sockets.setting.dir.path(),
        "ws-client",
        python.args(["-c", WAIT, &sockets.setting.at.entry.port().to_string(), HOST]),
    );
    client.wait_for("hello");
    let without = sockets.setting.dir.read("server.toml").replace("upgrade = [\"websocket\"]\n", "");
    sockets.setting.dir.write("server.toml", &without);
    client.wait_for("cut");
    sockets.server.logged(&["\"response_code\":101", "revoked_by_policy"]);
}

#[test]
fn bytes_behind_a_request_to_switch_go_nowhere_until_it_is_granted() {
    let stage = staged_in(allowing("\"websocket\""), |line| {
        line.head()?;
        line.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")?;
        let mut more = Vec::new();
        while let Ok(byte) = line.bytes(1) {
            more.extend(byte);
        }
        assert!(more.is_empty(), "{more:?}");
        Ok(())
    });
    let mut connection = stage.connect();
    // A request could be what the other protocol says, too: it is not for us to tell.
    let ask = head("GET", "a", "Connection: upgrade\r\nUpgrade: websocket\r\n") + &head("GET", "b", "");
    connection.send(ask.as_bytes()).unwrap();
    let reply = connection.receive_any().unwrap();
    assert_eq!((reply.text().as_str(), reply.header("connection")), ("no", Some("close")));
    assert!(connection.rest().0.is_empty());
    assert_eq!(stage.origin.heads().len(), 1);
}

#[test]
fn what_the_application_says_with_its_101_is_not_lost() {
    let stage = staged_in(allowing("\"irc\""), |line| {
        line.head()?;
        line.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: irc\r\n\r\nfirst words")?;
        let asked = line.bytes(4)?;
        line.send([&b"echo "[..], &asked].concat())
    });
    let mut connection = stage.connect();
    connection.send(head("GET", "a", "Connection: upgrade\r\nUpgrade: irc\r\n").as_bytes()).unwrap();
    let reply = connection.receive_any().unwrap();
    assert_eq!(reply.status(), 101);
    connection.send(b"ping").unwrap();
    assert_eq!(connection.rest().0, b"first wordsecho ping");
}

#[test]
fn a_101_to_another_protocol_than_the_one_asked_for_is_no_answer() {
    for line in ["Upgrade: other", "X: y", "Upgrade: websocket\r\nUpgrade: websocket"] {
        let text = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n{line}\r\n\r\n");
        let stage = staged_in(allowing("\"websocket\""), move |line| {
            line.head()?;
            line.send(text.clone())?;
            line.until_closed();
            Ok(())
        });
        let mut connection = stage.connect();
        connection.send(head("GET", "a", "Connection: upgrade\r\nUpgrade: websocket\r\n").as_bytes()).unwrap();
        assert_eq!(connection.receive_any().unwrap().status(), 502, "{line}");
    }
}

#[test]
fn an_offer_of_http2_is_taken_as_an_ordinary_request() {
    let stage = staged(|line| {
        while line.head()?.is_some() {
            line.answer("plain")?;
        }
        Ok(())
    });
    let url = format!("http://{}/open/a", stage.setting.at.entry);
    let said = run(tools::system("curl", "curl").args(["-s", "--http2", "-H", &format!("Host: {HOST}"), &url]));
    assert_eq!(said, "plain");
    let head = stage.origin.heads()[0].to_lowercase();
    assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
}

/// tinyproxy as an application: an HTTP proxy that speaks CONNECT.
fn tinyproxy(dir: &Path, port: u16) -> Child {
    let config = format!("Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nLogLevel Connect\n");
    std::fs::write(dir.join("tinyproxy.conf"), config).unwrap();
    let mut command = tools::system("tinyproxy", "tinyproxy-bin");
    let child = Child::start(dir, "tinyproxy", command.arg("-d").arg("-c").arg(dir.join("tinyproxy.conf")));
    wait::until("tinyproxy to listen", Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    child
}

/// What curl gets from `target` through the sidecars and the proxy behind them.
fn tunnel(setting: &Setting, target: &str) -> String {
    let mut curl = tools::system("curl", "curl");
    let proxy = format!("http://{}", setting.at.entry);
    curl.args(["-s", "-o", "-", "-w", "%{http_connect} %{http_code}", "--proxytunnel", "--proxy", &proxy, target]);
    String::from_utf8(curl.output().unwrap().stdout).unwrap()
}

#[test]
fn connect_passes_to_the_hosts_a_rule_names_and_to_no_other() {
    let beyond = ports::local();
    let origin = Origin::on(beyond);
    let rule = "upgrade = [\"connect\"]\nhosts = [\"localhost\"]\nrequests = [\"CONNECT /\"]\n";
    let setting = Setting::new()
        .client(|text| json_log(text).replace("to = \"shop/orders\"\n", &format!("to = \"shop/orders\"\n{rule}")))
        .server(|text| json_log(text) + "\n[[inbound]]\nname = \"proxy\"\nfrom = \"shop/web\"\n" + rule);
    let _proxy = tinyproxy(setting.dir.path(), setting.at.app.port());
    let (server, client) = (setting.start_server(), setting.start_client());
    let said = tunnel(&setting, &format!("http://localhost:{}/beyond", beyond.port()));
    assert!(said.ends_with("200 200"), "{said}");
    assert_eq!(origin.requests().len(), 1);
    server.logged(&["\"method\":\"CONNECT\"", "\"response_code\":200"]);
    client.logged(&["\"method\":\"CONNECT\"", "\"response_code\":200"]);
    let said = tunnel(&setting, &format!("http://127.0.0.1:{}/beyond", beyond.port()));
    assert_eq!(said, "403 000", "another host");
    assert_eq!(origin.requests().len(), 1);
}
