//! A real Envoy on our socket: it serves mutual TLS with what it got there, and takes rotations without a restart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod common;

use common::papers::{Papers, Pki};
use common::{Socket, WEB};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use support::child::Child;
use support::{ports, tools, wait, wire};

const CLIENT: &str = "spiffe://example.org/ns/shop/sa/client";
const BOOTSTRAP: &str = include_str!("envoy.yaml");

struct Envoy {
    listen: SocketAddr,
    admin: SocketAddr,
    child: Child,
}

impl Envoy {
    fn start(dir: &Path, socket: &Socket, roots: &str) -> Self {
        let (listen, admin) = (ports::local(), ports::local());
        let text = BOOTSTRAP
            .replace("@ADMIN_PORT@", &admin.port().to_string())
            .replace("@LISTEN_PORT@", &listen.port().to_string())
            .replace("@SOCKET@", &socket.path.display().to_string())
            .replace("@ROOTS@", roots);
        let config = dir.join("envoy.yaml");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(tools::envoy());
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"]).arg(&config);
        Self { listen, admin, child: Child::start(dir, "envoy", &mut command) }
    }

    fn admin(&self, path: &str) -> Option<String> {
        wire::get(self.admin, "localhost", path).ok().map(|reply| reply.text())
    }

    /// Waits until its admin page shows the leaf with this serial number as its own.
    fn holds(&mut self, papers: &Papers) {
        let process = self.child.id();
        let serial = papers.serial.trim_start_matches('0').to_owned();
        wait::until(&format!("Envoy {process} to hold {serial}"), wait::SOON * 2, || {
            assert!(self.child.is_running(), "{}", self.child.stderr.text());
            let certs = self.admin("/certs")?;
            let certs: serde_json::Value = serde_json::from_str(&certs).ok()?;
            let leaf = certs["certificates"].as_array()?.iter().find_map(|entry| entry["cert_chain"].get(0))?;
            (leaf["serial_number"].as_str()?.trim_start_matches('0') == serial).then_some(())
        });
    }

    fn counter(&self, name: &str) -> u64 {
        let stats = self.admin("/stats?filter=sds").unwrap();
        let line = stats.lines().find(|line| line.split(':').next().unwrap().ends_with(name));
        line.unwrap_or_else(|| panic!("no {name} in {stats}")).rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// What openssl says and gets as the holder of `papers`, trusting `papers.roots`.
    fn asked_by(&self, dir: &Path, papers: &Papers) -> String {
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut openssl = tools::system("openssl", "openssl");
        openssl
            .args(["s_client", "-ign_eof", "-verify_return_error", "-showcerts", "-connect", &self.listen.to_string()])
            .arg("-cert")
            .arg(file("client.pem", &papers.chain))
            .arg("-cert_chain")
            .arg(file("client-chain.pem", &papers.chain))
            .arg("-key")
            .arg(file("client.key", &papers.key))
            .arg("-CAfile")
            .arg(file("roots.pem", &papers.roots))
            .stdin(Stdio::piped());
        openssl.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = openssl.spawn().unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
        // Refused in the handshake, it no longer reads.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), request);
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

fn is_served(said: &str) -> bool {
    said.contains("HTTP/1.1 200 OK") && said.contains("behind mutual TLS")
}

/// The lines of the first certificate of a chain.
fn leaf(papers: &Papers) -> &str {
    papers.chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().trim()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_serves_mutual_tls_through_rotations_of_leaf_and_root() {
    for roots in ["ROOTCA", "ALL", "spiffe://example.org"] {
        let dir = tempfile::tempdir().unwrap();
        let (pki, next) = (Pki::new("example.org"), Pki::new("example.org"));
        let (stranger, foreign) = (Pki::new("example.org"), Pki::new("example.com"));
        let first = pki.papers(WEB);
        let socket = Socket::serve(Some(&first));
        let mut envoy = Envoy::start(dir.path(), &socket, roots);
        envoy.holds(&first);
        let said = envoy.asked_by(dir.path(), &pki.papers(CLIENT));
        assert!(is_served(&said) && said.contains(leaf(&first)), "{said}");
        // A root that Envoy does not have, and a trust domain that it has no root for.
        for (other, id) in [(&stranger, CLIENT), (&foreign, "spiffe://example.com/ns/shop/sa/client")] {
            let said = envoy.asked_by(dir.path(), &other.papers(id).and_roots(&[&pki]));
            assert!(!is_served(&said), "{said}");
        }

        let second = pki.papers(WEB);
        socket.publish(&second);
        envoy.holds(&second);
        assert!(envoy.asked_by(dir.path(), &pki.papers(CLIENT)).contains(leaf(&second)));

        // The new root beside the old, then in its place.
        let third = next.papers(WEB).and_roots(&[&pki]);
        socket.publish(&third);
        envoy.holds(&third);
        let old = pki.papers(CLIENT).and_roots(&[&next]);
        let new = next.papers(CLIENT).and_roots(&[&pki]);
        wait::until("both roots to be accepted", wait::SOON, || {
            [&old, &new].iter().all(|papers| is_served(&envoy.asked_by(dir.path(), papers))).then_some(())
        });
        let fourth = next.papers(WEB);
        socket.publish(&fourth);
        envoy.holds(&fourth);
        wait::until("the old root to be gone", wait::SOON, || {
            (!is_served(&envoy.asked_by(dir.path(), &old))).then_some(())
        });
        assert!(is_served(&envoy.asked_by(dir.path(), &new)));

        assert_eq!(envoy.counter("sds.default.update_success"), 4);
        assert_eq!(envoy.counter("sds.default.update_rejected"), 0);
        assert_eq!(socket.events.count("rejected"), 0, "{:?}", socket.events.all());
        assert_eq!(socket.events.count("refused"), 0, "{:?}", socket.events.all());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_starts_before_there_is_an_identity_gets_it_when_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new("example.org");
    let socket = Socket::serve(None);
    let mut envoy = Envoy::start(dir.path(), &socket, "ROOTCA");
    socket.events.wait_for("streams secrets 2", 1).await;
    let papers = pki.papers(WEB);
    socket.publish(&papers);
    envoy.holds(&papers);
    let said = envoy.asked_by(dir.path(), &pki.papers(CLIENT));
    assert!(is_served(&said), "{said}");
    assert_eq!(socket.events.count("streams secrets 3"), 0);
}
