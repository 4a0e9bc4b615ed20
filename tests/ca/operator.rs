//! What an operator does to a CA, with a server on its folder and without: it happens, and it is on record by whom.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use serde_json::Value;
use support::ca_server::CaServer;
use support::scratch::Scratch;
use support::wire;

const MACHINE: &str = "spiffe://example.org/vm/db-1";

/// The acts on record: what, to what, by whom.
fn acts(server: &CaServer) -> Vec<(String, String, String)> {
    let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let records = server.records();
    let acts = records.iter().map(|record| (text(record, "event"), text(record, "subject"), text(record, "by")));
    acts.filter(|(.., by)| !by.is_empty()).collect()
}

/// Rotates, denies, makes and takes back a token, by the commands; the events that this must leave.
fn operate(server: &CaServer, secret: &[&str]) -> Vec<&'static str> {
    // Behind the folder and before the step.
    fn with<'a>(secret: &[&'a str], arguments: &[&'a str]) -> Vec<&'a str> {
        let (front, step) = arguments.split_at(3);
        [front, secret, step].concat()
    }
    let ca = |arguments: &[&str]| server.run(&with(secret, arguments));
    ca(&["rotate", "--dir", "ca", "prepare"]);
    ca(&["rotate", "--dir", "ca", "rollback"]);
    let refused = server.try_run(&with(secret, &["rotate", "--dir", "ca", "finish"]));
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
    let list = ca(&["deny", "--dir", "ca", "add", "--id", MACHINE, "--reason", "host lost"]);
    assert!(list.contains(MACHINE) && list.contains("host lost"), "{list}");
    ca(&["deny", "--dir", "ca", "remove", "--id", MACHINE]);
    let slip = ["deny", "--dir", "ca", "add", "--id", "spiffe://example.com/ns/shop/sa/web", "--reason", "lost"];
    let refused = server.try_run(&with(secret, &slip));
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("another trust domain"),
        "{refused:?}"
    );
    let refused = server.try_run(&with(secret, &["deny", "--dir", "ca", "remove", "--id", MACHINE]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no such entry"));
    let token = ca(&["token", "--dir", "ca", "create", "--id", MACHINE]);
    assert!(token.starts_with("sekisho-join-"), "{token}");
    let listed = server.run(&["token", "--dir", "ca", "list"]);
    let name = listed.lines().find(|line| line.ends_with(MACHINE)).unwrap().split(' ').next().unwrap();
    ca(&["token", "--dir", "ca", "revoke", name]);
    let other = server.try_run(&with(secret, &["token", "--dir", "ca", "create", "--id", "spiffe://other.example/x"]));
    assert_eq!(other.status.code(), Some(1));
    vec![
        "rotation-prepared",
        "rotation-rolled-back",
        "denied",
        "denial-lifted",
        "join-token-made",
        "join-token-revoked",
    ]
}

fn assert_recorded(server: &CaServer, before: usize, expected: &[&str]) {
    let user = format!("uid {}", std::fs::metadata("/proc/self").unwrap().uid());
    let acts = acts(server);
    let new = &acts[before..];
    assert_eq!(new.iter().map(|(what, ..)| what.as_str()).collect::<Vec<_>>(), expected);
    assert!(new.iter().all(|(_, subject, by)| *by == user && !subject.is_empty()), "{new:?}");
    assert!(server.records().iter().all(|record| !record.to_string().contains("sekisho-join-")), "a token in the log");
    let verified = server.verify_log();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[test]
fn commands_go_through_the_server_that_runs_and_are_on_record() {
    let dir = Scratch::new();
    let mut server = CaServer::start(dir.path(), "");
    let socket = std::fs::metadata(server.home().join("admin.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.mode() & 0o7777, 0o600);

    let (before, sequence) = (acts(&server).len(), server.status()["sequence"].as_u64().unwrap());
    let expected = operate(&server, &[]);
    assert_recorded(&server, before, &expected);
    // The server knows at once, not when it looks at the folder next.
    assert!(server.status()["sequence"].as_u64().unwrap() >= sequence + 2);
    assert_eq!(server.phase(), "steady");
    server.run(&["deny", "--dir", "ca", "add", "--serial", "0a1b", "--reason", "found"]);
    assert_eq!(server.metrics().sum("sekisho_ca_denied", &[]), 1.0);

    // What a killed server leaves behind is no server.
    server.kill();
    assert!(server.home().join("admin.sock").exists());
    let before = acts(&server).len();
    let expected = operate(&server, &[]);
    assert_recorded(&server, before, &expected);
    server.again();
    server.run(&["rotate", "--dir", "ca", "prepare"]);
    assert_eq!(server.phase(), "prepared");
    server.stop();
    assert!(!server.home().join("admin.sock").exists(), "the socket stays behind");
}

#[test]
fn without_a_server_what_cannot_be_put_on_record_is_not_done() {
    let dir = Scratch::new();
    let init = ["init", "--trust-domain", "example.org", "--dir", "ca", "--passphrase-file", "passphrase"];
    dir.write("passphrase", "correct horse\n");
    let mut server = CaServer::over(dir.path(), &dir.join("ca"), "passphrase_file = \"passphrase\"\n", "");
    server.run(&init);
    for (arguments, file) in [
        (&["token", "--dir", "ca", "create", "--id", MACHINE][..], "tokens"),
        (&["deny", "--dir", "ca", "add", "--id", MACHINE, "--reason", "lost"], "denied.json"),
    ] {
        let refused = server.try_run(arguments);
        assert_eq!((refused.status.code(), refused.stdout.is_empty()), (Some(1), true));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("passphrase"), "{said}");
        assert!(!server.home().join(file).exists(), "{file} was written");
    }
    let before = acts(&server).len();
    let expected = operate(&server, &["--passphrase-file", "passphrase"]);
    assert_recorded(&server, before, &expected);
    // The server has the passphrase; who asks it needs none.
    server.again();
    let before = acts(&server).len();
    let expected = operate(&server, &[]);
    assert_recorded(&server, before, &expected);
}

#[test]
fn a_page_in_a_browser_changes_and_reads_nothing() {
    let dir = Scratch::new();
    let server = CaServer::start(dir.path(), "");
    let ask = |head: &str, body: &str| {
        let length = format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        wire::request(server.admin_address(), format!("{head}\r\n{length}").as_bytes()).unwrap()
    };
    let json = "Content-Type: application/json";
    let port = server.admin_address().port();
    for (head, status) in [
        // Its name leads here by DNS rebinding.
        (format!("POST /rotation/prepare HTTP/1.1\r\nHost: evil.example:{port}\r\n{json}"), 403),
        (format!("GET /status HTTP/1.1\r\nHost: evil.example:{port}"), 403),
        // It asks across origins, and says so.
        (
            format!(
                "POST /rotation/prepare HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: https://evil.example\r\n{json}"
            ),
            403,
        ),
        (format!("POST /rotation/prepare HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: null\r\n{json}"), 403),
        // What a form or an image can send without being asked back.
        (format!("POST /rotation/prepare HTTP/1.1\r\nHost: 127.0.0.1:{port}"), 415),
        (format!("POST /rotation/prepare HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: text/plain"), 415),
        (format!("GET /rotation/prepare HTTP/1.1\r\nHost: 127.0.0.1:{port}"), 404),
    ] {
        let reply = ask(&head, "");
        assert_eq!(reply.status(), status, "{head}: {}", reply.text());
    }
    // Identities are made over the socket in the folder alone.
    let create = format!("{{\"id\":\"{MACHINE}\",\"seconds\":60}}");
    assert_eq!(server.post("/token/create", &create).status(), 404);
    assert_eq!(server.post("/deny/add", "{}").status(), 404);
    assert_eq!(server.phase(), "steady");
    assert!(!server.home().join("tokens").exists());

    assert_eq!(ask(&format!("POST /rotation/prepare HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{json}"), "").status(), 200);
    assert_eq!(server.phase(), "prepared");
    let (what, _, by) = acts(&server).pop().unwrap();
    assert_eq!((what.as_str(), by.as_str()), ("rotation-prepared", "admin"));
}
