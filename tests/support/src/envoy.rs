//! A real Envoy beside the product: as the caller's sidecar, or as the callee's.
//!
//! The bootstrap files in `envoy/` hold what an operator would write; the words between @ signs are filled in here.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::child::Child;
use crate::message::Message;
use crate::pki::Cert;
use crate::{ports, tools, wait, wire};

/// The bootstrap of a caller, with certificate and roots from files.
pub const CALLER: &str = include_str!("../envoy/caller.yaml");
/// The bootstrap of a callee.
pub const CALLEE: &str = include_str!("../envoy/callee.yaml");
const EDGE: &str = include_str!("../envoy/edge.yaml");

/// The HTTP version between two sidecars, or between a sidecar and its application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Version {
    fn envoy_options(self) -> &'static str {
        match self {
            Self::Http1 => "http_protocol_options: { enable_trailers: true }",
            Self::Http2 => "http2_protocol_options: {}",
        }
    }

    /// The ALPN name.
    #[must_use]
    pub fn alpn(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// A running Envoy. Killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    listen: SocketAddr,
    admin: SocketAddr,
    child: Child,
}

impl Envoy {
    /// Plain HTTP in on a free port, mutual TLS out to `callee`, which must be `callee_id`.
    #[must_use]
    pub fn caller(dir: &Path, cert: &Cert, callee: SocketAddr, callee_id: &str, version: Version) -> Self {
        let text = CALLER
            .replace("@CALLEE_PORT@", &callee.port().to_string())
            .replace("@CALLEE_ID@", callee_id)
            .replace("@ALPN@", version.alpn());
        Self::start(dir, "caller", ports::local(), text, cert, version)
    }

    /// Mutual TLS in on `listen` from `caller_id` alone, plain HTTP out to `app`.
    #[must_use]
    pub fn callee(
        dir: &Path,
        listen: SocketAddr,
        cert: &Cert,
        caller_id: &str,
        app: SocketAddr,
        version: Version,
    ) -> Self {
        let text = CALLEE.replace("@APP_PORT@", &app.port().to_string()).replace("@CALLER_ID@", caller_id);
        Self::start(dir, "callee", listen, text, cert, version)
    }

    /// The same, with the other end's URI names checked in its handshake as well: one must begin with `prefix`;
    /// and that handshake may take 2 s.
    #[must_use]
    pub fn strict_callee(
        dir: &Path,
        listen: SocketAddr,
        cert: &Cert,
        caller_id: &str,
        prefix: &str,
        app: SocketAddr,
    ) -> Self {
        let names = format!(
            "trusted_ca: {{ filename: @BUNDLE@ }}\n              match_typed_subject_alt_names:\n              \
             - {{ san_type: URI, matcher: {{ prefix: \"{prefix}\" }} }}"
        );
        let text = CALLEE
            .replace("trusted_ca: { filename: @BUNDLE@ }", &names)
            .replace("- transport_socket:\n", "- transport_socket_connect_timeout: 2s\n      transport_socket:\n")
            .replace("@APP_PORT@", &app.port().to_string())
            .replace("@CALLER_ID@", caller_id);
        assert!(text.contains(prefix) && text.contains("connect_timeout: 2s"), "the places to fill in are gone");
        Self::start(dir, "callee", listen, text, cert, Version::Http1)
    }

    /// The same on a free port, hardened by its own list for edge proxies, with the rules of the tables of faults: `/open`
    /// without `/open/admin`, and not the host `private.shop.svc`.
    #[must_use]
    pub fn edge(dir: &Path, cert: &Cert, caller_id: &str, app: SocketAddr) -> Self {
        let text = EDGE.replace("@APP_PORT@", &app.port().to_string()).replace("@CALLER_ID@", caller_id);
        Self::start(dir, "edge", ports::local(), text, cert, Version::Http1)
    }

    /// Mutual TLS in on `listen` and HTTP/1.1 out, by a bootstrap text of the test's own. What stands between @ signs in the
    /// two files of `envoy/` is filled in.
    #[must_use]
    pub fn with(dir: &Path, role: &str, listen: SocketAddr, text: String, cert: &Cert) -> Self {
        Self::start(dir, role, listen, text, cert, Version::Http1)
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listen
    }

    /// `GET path` on its admin port.
    #[must_use]
    pub fn admin(&self, path: &str) -> Message {
        wire::get(self.admin, "localhost", path).unwrap()
    }

    /// Its access log so far.
    #[must_use]
    pub fn access_log(&self) -> Vec<String> {
        self.child.stdout.lines()
    }

    /// Waits for an access log line that holds all of `texts`.
    pub fn logged(&self, texts: &[&str]) -> String {
        self.child.stdout.wait_for_line(&format!("{texts:?}"), |line| texts.iter().all(|text| line.contains(text)))
    }

    fn start(dir: &Path, role: &str, listen: SocketAddr, text: String, cert: &Cert, version: Version) -> Self {
        let admin = ports::local();
        let name = format!("envoy-{role}-{}", listen.port());
        let text = text
            .replace("@ADMIN_PORT@", &admin.port().to_string())
            .replace("@LISTEN_PORT@", &listen.port().to_string())
            .replace("@UPSTREAM_PROTOCOL@", version.envoy_options())
            .replace("@ACCESS_LOG@", "/dev/stdout")
            .replace("@CERT@", &cert.chain.display().to_string())
            .replace("@KEY@", &cert.key.display().to_string())
            .replace("@BUNDLE@", &cert.bundle.display().to_string());
        let config = dir.join(format!("{name}.yaml"));
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(tools::envoy());
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"]).arg(&config);
        let mut child = Child::start(dir, &name, &mut command);
        wait::until(&format!("{name} to be ready"), wait::SOON * 2, || {
            if let Some(status) = child.process().try_wait().unwrap() {
                panic!("{name} ended with {status}: {}", child.stderr.text());
            }
            wire::get(admin, "localhost", "/ready").is_ok_and(|reply| reply.status() == 200).then_some(())
        });
        Self { listen, admin, child }
    }
}
