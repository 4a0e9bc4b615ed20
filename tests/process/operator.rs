//! What operators and their scripts rest on: readiness, metrics, policy state, the version, the CA's files.

use std::os::unix::fs::PermissionsExt;

use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting, json_log};
use support::scratch::Scratch;
use support::sidecar::{Sidecar, sekisho};
use support::{wait, wire};

#[test]
fn readiness_metrics_and_policy_state_are_where_scripts_look() {
    let pair = Pair::start();
    assert_eq!(wire::get(pair.entry(), HOST, "/api/orders/42").unwrap().status(), 200);
    for sidecar in [&pair.client, &pair.server] {
        assert!(sidecar.is_ready());
        let ready = sidecar.admin("/ready");
        assert_eq!((ready.status(), ready.text().trim_end()), (200, "LIVE"));
        assert!(!sidecar.metrics().samples().is_empty());
        assert_eq!(sidecar.admin("/stats/prometheus").status(), 200);

        let status = sidecar.policy_status();
        assert!(status["generation"].as_u64().is_some_and(|generation| generation >= 1), "{status}");
        assert!(
            status["digest"].as_str().is_some_and(|digest| digest.contains(|c: char| c.is_ascii_hexdigit())),
            "{status}"
        );
        assert_eq!(status["mode"], "enforce");
        assert_eq!(status["stale"], false);
        assert_eq!(status["problems"].as_array().map(Vec::len), Some(0), "{status}");
    }
}

#[test]
fn one_access_log_line_is_written_per_request() {
    let pair = Pair::start();
    for number in 1..=20 {
        let expected = if number % 2 == 0 { 200 } else { 403 };
        let target = if number % 2 == 0 { format!("/api/orders/{number}") } else { format!("/no/{number}") };
        assert_eq!(wire::get(pair.entry(), HOST, &target).unwrap().status(), expected);
    }
    for sidecar in [&pair.client, &pair.server] {
        wait::until("twenty lines", wait::SOON, || (sidecar.access_log().len() >= 20).then_some(()));
        assert_eq!(sidecar.access_log().len(), 20);
    }
}

#[test]
fn the_access_log_can_be_json_in_a_file_or_off() {
    let log = "[log]\naccess = \"file:access.log\"\nformat = \"json\"\n\n[app]";
    let off = |text: String| text.replace("[[service]]", "[log]\naccess = \"off\"\n\n[[service]]");
    let pair = Setting::new().server(|text| text.replace("[app]", log)).client(off).start();
    assert_eq!(wire::get(pair.entry(), HOST, "/api/orders/42").unwrap().status(), 200);
    assert_eq!(wire::get(pair.entry(), HOST, "/no").unwrap().status(), 403);
    let text = wait::until("two lines", wait::SOON, || {
        Some(pair.setting.dir.read("access.log")).filter(|text| text.matches('\n').count() == 2)
    });
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value.is_object());
    }
    assert!(pair.client.access_log().is_empty() && pair.server.access_log().is_empty());
    // The refusal is said on stderr whatever the access log does.
    pair.server.refused("rbac_access_denied_matched_policy[none]");
}

/// What the lines of a connection have in common is kept from one to the next: none may tell of another request.
#[test]
fn every_line_of_a_connection_tells_of_its_own_request_and_rules() {
    const MORE: &str = "[[inbound]]\nname = \"web-writes\"\nfrom = \"shop/web\"\nrequests = [\"POST /api/orders\"]\n\n";
    let setting = Setting::new().client(|text| text.replace("[proxy]\n", "[proxy]\nworkers = 1\n"));
    let pair = setting.server(|text| json_log(text).replace("[[tap]]", &format!("{MORE}[[tap]]"))).start();
    let mut connection = wire::Connection::open(pair.entry()).unwrap();
    let mut number = 0;
    let mut line_of = |method: &str, path: &str| {
        number += 1;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nx-request-id: n{number}\r\n");
        connection.send(format!("{head}content-length: 0\r\n\r\n").as_bytes()).unwrap();
        let status = connection.receive().unwrap().status();
        let line = pair.server.logged(&[&format!("\"request_id\":\"n{number}\"")]);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["response_code"], status);
        value
    };
    let is = |line: &serde_json::Value, rule: Option<&str>, generation: u64| {
        let verdict = if rule.is_some() { "allow" } else { "deny" };
        assert_eq!(line["rule"].as_str(), rule, "{line}");
        assert_eq!((&line["verdict"], &line["would_be_verdict"]), (&verdict.into(), &verdict.into()), "{line}");
        assert_eq!(line["upstream_host"].is_string(), rule.is_some(), "{line}");
        assert_eq!(line["source_principal"], "spiffe://example.org/ns/shop/sa/web", "{line}");
        assert_eq!(line["destination_principal"], "spiffe://example.org/ns/shop/sa/orders", "{line}");
        assert_eq!(line["policy_generation"], generation, "{line}");
        line["connection_id"].as_u64().unwrap()
    };
    let generation = pair.server.generation();
    let mut connections = Vec::new();
    for _ in 0..2 {
        for _ in 0..2 {
            connections.push(is(&line_of("GET", "/api/orders/7"), Some("web-reads-orders"), generation));
            connections.push(is(&line_of("POST", "/api/orders"), Some("web-writes"), generation));
        }
        connections.push(is(&line_of("POST", "/api/orders"), Some("web-writes"), generation));
        connections.push(is(&line_of("DELETE", "/api/orders"), None, generation));
    }
    let text = pair.setting.dir.read("server.toml");
    pair.setting.dir.write("server.toml", text.replace("web-writes", "web-writes-too"));
    pair.server.reload();
    wait::until("the new rules", wait::SOON, || (pair.server.generation() > generation).then_some(()));
    connections.push(is(&line_of("POST", "/api/orders"), Some("web-writes-too"), generation + 1));
    connections.push(is(&line_of("GET", "/api/orders/7"), Some("web-reads-orders"), generation + 1));
    assert!(connections.iter().all(|id| *id == connections[0]), "not one connection: {connections:?}");
}

#[test]
fn a_response_without_a_body_is_complete_and_its_connection_is_kept() {
    let one_worker = |text: String| text.replace("capture = \"none\"", "capture = \"none\"\nworkers = 1");
    let setting = Setting::new().server(one_worker).client(one_worker);
    let origin = Origin::with(setting.at.app, |request| match request.target() {
        "/api/orders/204" => Reply { status: 204, ..Reply::text("") },
        "/api/orders/7" => Reply::text("seven").with_trailer("x-sum", "5"),
        _ => Reply::text(""),
    });
    let pair = setting.start_with(origin);
    for path in ["/api/orders/1", "/api/orders/204", "/api/orders/7", "/api/orders/2", "/api/orders/3"] {
        assert!(matches!(wire::get(pair.entry(), HOST, path).unwrap().status(), 200 | 204), "{path}");
    }
    for sidecar in [&pair.client, &pair.server] {
        wait::until("five lines", wait::SOON, || (sidecar.access_log().len() >= 5).then_some(()));
        for line in sidecar.access_log() {
            // Envoy's format: status, then the response flags, which are `-` for a response that was sent in full.
            assert!(line.contains(" 200 - ") || line.contains(" 204 - "), "{line}");
        }
    }
    assert_eq!(pair.origin.connections(), 1, "the connection to the application was not used again");
}

#[test]
fn the_access_log_survives_hostile_bytes_as_single_lines() {
    let pair = Pair::start();
    for path in ["/a%0d%0ab", "/a%00b", "/\x1b[31mred", "/a\"b"] {
        let reply = wire::get(pair.entry(), HOST, path).unwrap();
        assert!(matches!(reply.status(), 400 | 403), "{path:?}: {}", reply.status());
    }
    wait::until("a line each", wait::SOON, || (pair.client.access_log().len() >= 4).then_some(()));
    for line in pair.client.access_log() {
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    }
}

#[test]
fn the_admin_port_changes_nothing_unless_the_file_says_so() {
    let pair = Pair::start();
    for path in ["/quitquitquit", "/healthcheck/fail", "/drain_listeners"] {
        let bytes =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let admin = pair.setting.dir.read("server.toml");
        let admin = admin.lines().find(|line| line.starts_with("admin")).unwrap().split('"').nth(1).unwrap().to_owned();
        let reply = wire::request(admin.parse().unwrap(), bytes.as_bytes()).unwrap();
        assert!(reply.status() >= 400, "{path} was answered {}", reply.status());
    }
    assert!(pair.server.is_ready());
    assert_eq!(wire::get(pair.entry(), HOST, "/api/orders/42").unwrap().status(), 200);
}

#[test]
fn the_version_is_a_name_a_number_and_a_commit() {
    let output = sekisho(Scratch::new().path(), &["--version"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (number, commit) = text.trim_end().strip_prefix("sekisho ").unwrap().split_once(" (").unwrap();
    assert_eq!(number.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{text}");
    assert!(commit.ends_with(')') && commit.len() > 1, "{text}");
}

#[test]
fn keys_are_for_their_owner_alone_and_a_plain_root_key_is_said() {
    let dir = Scratch::new();
    let output = sekisho(dir.path(), &["ca", "init", "--dir", "ca", "--trust-domain", "example.org"]);
    assert!(output.status.success());
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("plain") || said.contains("not encrypted"), "the root key's state is not said: {said}");

    let id = "spiffe://example.org/ns/shop/sa/web";
    let output = sekisho(dir.path(), &["ca", "issue", "--dir", "ca", "--id", id, "--out", ".", "--name", "web"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for key in [dir.join("web.key"), support::pki::root(&dir.join("ca")).join("root.key")] {
        let mode = std::fs::metadata(&key).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", key.display());
    }
    assert_eq!(dir.read("web.pem").matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(dir.read("roots.pem").matches("BEGIN CERTIFICATE").count(), 1);

    let again = sekisho(dir.path(), &["ca", "init", "--dir", "ca", "--trust-domain", "example.org"]);
    assert!(!again.status.success(), "a second init replaced a root");
}

#[test]
fn a_root_key_behind_a_passphrase_issues_only_with_it() {
    let dir = Scratch::new();
    dir.write("right", "correct horse\n");
    dir.write("wrong", "battery staple\n");
    let init = ["ca", "init", "--dir", "ca", "--trust-domain", "example.org", "--passphrase-file", "right"];
    assert!(sekisho(dir.path(), &init).status.success());
    let key = support::pki::root(&dir.join("ca")).join("root.key");
    assert!(!std::fs::read_to_string(key).unwrap().contains("BEGIN PRIVATE KEY"));
    let issue = |more: &[&str]| {
        let id = "spiffe://example.org/ns/shop/sa/web";
        let mut arguments = vec!["ca", "issue", "--dir", "ca", "--id", id, "--out", ".", "--name", "web"];
        arguments.extend_from_slice(more);
        sekisho(dir.path(), &arguments).status.success()
    };
    assert!(!issue(&[]));
    assert!(!issue(&["--passphrase-file", "wrong"]));
    assert!(issue(&["--passphrase-file", "right"]));
}

#[test]
fn tasks_come_with_connections_and_go_with_them() {
    let pair = Pair::start();
    let tasks = |sidecar: &Sidecar| sidecar.metrics().sum("sekisho_tasks_active", &[]);
    let at_rest = [&pair.client, &pair.server].map(tasks);
    assert!(at_rest.iter().all(|tasks| *tasks > 0.0), "{at_rest:?}");
    let mut connections: Vec<_> = (0..5).map(|_| wire::Connection::open(pair.entry()).unwrap()).collect();
    for connection in &mut connections {
        connection.send(format!("GET /api/orders/1 HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(connection.receive().unwrap().status(), 200);
    }
    assert_eq!(tasks(&pair.client), at_rest[0] + 5.0);
    assert!(tasks(&pair.server) > at_rest[1]);
    drop(connections);
    wait::until("the tasks to end", wait::SOON, || (tasks(&pair.client) == at_rest[0]).then_some(()));
}
