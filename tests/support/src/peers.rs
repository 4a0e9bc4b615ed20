//! Peers of other make, run as Python processes: TLS by OpenSSL, HTTP/2 by h2, gRPC by grpcio.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::child::{Child, run, run_with_input};
use crate::pki::Cert;
use crate::{ports, tools};

/// One TLS connection to make by OpenSSL.
#[derive(Debug, Clone)]
pub struct TlsClient<'a> {
    to: SocketAddr,
    cert: Option<&'a Cert>,
    bundle: Option<&'a Path>,
    alpn: Vec<&'a str>,
    max_version: Option<&'a str>,
    seconds: u32,
}

/// What such a connection saw.
#[derive(Debug, Clone)]
pub struct TlsSeen {
    /// Whether this side finished its handshake; with TLS 1.3 that says nothing about the other side's judgement.
    pub handshake: bool,
    /// Every application byte received.
    pub received: Vec<u8>,
    /// `eof`, `alert`, `reset` or `timeout`.
    pub end: String,
    /// OpenSSL's words.
    pub error: String,
    /// All of it: version, cipher, alpn, peer_uris.
    pub all: Value,
}

impl<'a> TlsClient<'a> {
    /// Without a certificate, believing nobody in particular.
    #[must_use]
    pub fn new(to: SocketAddr) -> Self {
        Self { to, cert: None, bundle: None, alpn: vec!["http/1.1"], max_version: None, seconds: 10 }
    }

    /// Shows this certificate.
    #[must_use]
    pub fn cert(mut self, cert: &'a Cert) -> Self {
        self.cert = Some(cert);
        self
    }

    /// Checks the callee against these roots.
    #[must_use]
    pub fn bundle(mut self, bundle: &'a Path) -> Self {
        self.bundle = Some(bundle);
        self
    }

    /// Offers these protocols.
    #[must_use]
    pub fn alpn(mut self, alpn: &[&'a str]) -> Self {
        self.alpn = alpn.to_vec();
        self
    }

    /// Speaks at most this version, such as `TLSv1_2`.
    #[must_use]
    pub fn at_most(mut self, version: &'a str) -> Self {
        self.max_version = Some(version);
        self
    }

    /// Gives up after so many seconds of silence.
    #[must_use]
    pub fn seconds(mut self, seconds: u32) -> Self {
        self.seconds = seconds;
        self
    }

    /// Connects, sends these bytes, reads to the end.
    #[must_use]
    pub fn send(&self, bytes: &[u8]) -> TlsSeen {
        let ask = json!({
            "address": self.to.ip().to_string(), "port": self.to.port(), "send": hex(bytes), "seconds": self.seconds,
            "cert": self.cert.map(|cert| &cert.chain), "key": self.cert.map(|cert| &cert.key), "bundle": self.bundle,
            "alpn": self.alpn, "max_version": self.max_version,
        });
        let text = run_with_input(tools::python().arg(tools::script("tls_client.py")), &ask.to_string());
        let all: Value = serde_json::from_str(&text).unwrap();
        TlsSeen {
            handshake: all["handshake"] == true,
            received: unhex(all["received"].as_str().unwrap()),
            end: all["end"].as_str().unwrap_or("").to_owned(),
            error: all["error"].as_str().unwrap_or("").to_owned(),
            all,
        }
    }
}

/// A TLS server with the wrong papers in the place of a callee. Ends when dropped.
#[derive(Debug)]
pub struct Impostor {
    addr: SocketAddr,
    log: std::path::PathBuf,
    _child: Child,
}

impl Impostor {
    /// Listens at `addr` with this certificate.
    #[must_use]
    pub fn start(dir: &Path, addr: SocketAddr, cert: &Cert) -> Self {
        let log = dir.join("impostor.log");
        let mut command = tools::python();
        command.arg(tools::script("tls_server.py")).arg(addr.port().to_string());
        let mut child = Child::start(dir, "impostor", command.arg(&cert.chain).arg(&cert.key).arg(&log));
        child.wait_for("ready");
        Self { addr, log, _child: child }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// One record per connection: `handshake`, `error`, `received` (hex).
    #[must_use]
    pub fn connections(&self) -> Vec<Value> {
        json_lines(&self.log)
    }
}

/// An HTTP/2 application without TLS that writes down what it gets. Ends when dropped.
#[derive(Debug)]
pub struct H2Origin {
    addr: SocketAddr,
    log: std::path::PathBuf,
    _child: Child,
}

impl H2Origin {
    /// On a free port.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let addr = ports::local();
        let log = dir.join(format!("h2-origin-{}.log", addr.port()));
        let mut command = tools::python();
        command.arg(tools::script("h2_origin.py")).arg(addr.port().to_string()).arg(&log);
        let mut child = Child::start(dir, &format!("h2-origin-{}", addr.port()), &mut command);
        child.wait_for("ready");
        Self { addr, log, _child: child }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every finished request: `method`, `path`, `authority`, `headers`, `length`, `sha256`, `trailers`.
    #[must_use]
    pub fn requests(&self) -> Vec<Value> {
        json_lines(&self.log)
    }
}

/// HTTP/2 requests over one plain connection; each is `{method, path, authority, headers, body_length, trailers}`.
#[must_use]
pub fn h2_requests(to: SocketAddr, requests: &[Value]) -> Vec<Value> {
    let ask = json!({"address": to.ip().to_string(), "port": to.port(), "requests": requests});
    let text = run_with_input(tools::python().arg(tools::script("h2_client.py")), &ask.to_string());
    serde_json::from_str(&text).unwrap()
}

/// HTTP/2 requests over one plain connection, all open at once; each is `{method, path, authority, headers, length}`. Gives
/// `{most_open, replies: [{status, length}]}`.
#[must_use]
pub fn h2_together(to: SocketAddr, requests: &[Value]) -> Value {
    let ask = json!({"address": to.ip().to_string(), "port": to.port(), "requests": requests});
    let text = run_with_input(tools::python().arg(tools::script("h2_together.py")), &ask.to_string());
    serde_json::from_str(&text).unwrap()
}

/// A gRPC application: service `echo.Echo`. Ends when dropped.
#[derive(Debug)]
pub struct GrpcServer {
    addr: SocketAddr,
    log: std::path::PathBuf,
    _child: Child,
}

impl GrpcServer {
    /// On a free port.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        let addr = ports::local();
        let log = dir.join(format!("grpc-{}.log", addr.port()));
        let mut command = tools::python();
        command.arg(tools::script("grpc_peer.py")).arg("serve").arg(addr.to_string()).arg(&log);
        let mut child = Child::start(dir, &format!("grpc-{}", addr.port()), command.stdin(Stdio::null()));
        child.wait_for("ready");
        Self { addr, log, _child: child }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every call: `method` and `metadata`.
    #[must_use]
    pub fn calls(&self) -> Vec<Value> {
        json_lines(&self.log)
    }
}

/// Runs gRPC cases with grpcio's client and gives `{case, ok, code, details, got}` for each.
#[must_use]
pub fn grpc_calls(address: &str, cases: &[&str]) -> Vec<Value> {
    grpc_calls_by(&mut tools::python(), address, cases)
}

/// The same by a given command that ends in a Python interpreter: for another network namespace.
#[must_use]
pub fn grpc_calls_by(python: &mut Command, address: &str, cases: &[&str]) -> Vec<Value> {
    let text = run(python.arg(tools::script("grpc_peer.py")).arg("call").arg(address).args(cases));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
