//! The built binary as a certificate authority: `sekisho ca serve -c ca.toml` over a folder of its own, waited for, looked at
//! through its ports and its audit log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::child::{Child, run};
use crate::message::Message;
use crate::prometheus::Scrape;
use crate::{pki, ports, tools, wait, wire};

/// A CA that serves. Killed when dropped.
#[derive(Debug)]
pub struct CaServer {
    /// The process.
    pub child: Child,
    dir: PathBuf,
    home: PathBuf,
    grpc: SocketAddr,
    admin: SocketAddr,
    health: SocketAddr,
}

impl CaServer {
    /// `sekisho ca init` into `<dir>/ca`, and a server over it. `sections` go into the file behind `[server]`.
    #[must_use]
    pub fn start(dir: &Path, sections: &str) -> Self {
        Self::init(&dir.join("ca"));
        Self::start_over(dir, &dir.join("ca"), sections)
    }

    /// `sekisho ca init` for `example.org`.
    pub fn init(home: &Path) {
        let init = ["ca", "init", "--trust-domain", pki::TRUST_DOMAIN, "--dir"];
        run(Command::new(tools::sekisho()).args(init).arg(home));
    }

    /// A server over a folder that is there; its file and its outputs go into `dir`.
    #[must_use]
    pub fn start_over(dir: &Path, home: &Path, sections: &str) -> Self {
        let [grpc, admin, health] = [ports::local(), ports::local(), ports::local()];
        let file = format!(
            "schema = 1\ndir = \"{}\"\n[server]\nlisten = \"{grpc}\"\nadmin = \"{admin}\"\nhealth = \"{health}\"\n\
             names = \"localhost\"\n{sections}",
            home.display()
        );
        std::fs::write(dir.join("ca.toml"), file).unwrap();
        let child = serve(dir);
        let mut server = Self { child, dir: dir.to_owned(), home: home.to_owned(), grpc, admin, health };
        server.wait_until_ready();
        server
    }

    /// Waits for 200 from the health port; panics with its last words when it ends first.
    pub fn wait_until_ready(&mut self) {
        wait::until("the CA to be ready", wait::SOON, || {
            if let Some(status) = self.child.process().try_wait().unwrap() {
                panic!("the CA ended with {status}: {}", self.child.stderr.text());
            }
            self.is_ready().then_some(())
        });
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.child.signal("TERM");
        let status = self.child.wait(wait::SOON).unwrap_or_else(|| panic!("the CA did not end"));
        assert!(status.success(), "{status}: {}", self.child.stderr.text());
    }

    /// Starts it again after [`CaServer::stop`], with the same file and ports.
    pub fn start_again(&mut self) {
        self.child = serve(&self.dir);
        self.wait_until_ready();
    }

    /// Where it speaks gRPC, by its DNS name.
    #[must_use]
    pub fn grpc(&self) -> String {
        format!("localhost:{}", self.grpc.port())
    }

    /// Where it speaks gRPC, as an address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.grpc
    }

    /// The CA's folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The certificate of its only root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        pki::root(&self.home).join("root.pem")
    }

    /// Whether the health port says 200.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        wire::get(self.health, "probe", "/healthz/ready").is_ok_and(|reply| reply.status() == 200)
    }

    /// `GET path` on the admin port.
    #[must_use]
    pub fn admin(&self, path: &str) -> Message {
        wire::get(self.admin, "localhost", path).unwrap_or_else(|error| panic!("admin {path}: {error}"))
    }

    /// A scrape of the health port.
    #[must_use]
    pub fn metrics(&self) -> Scrape {
        let reply = wire::get(self.health, "scrape", "/stats/prometheus").unwrap();
        assert_eq!(reply.status(), 200, "{}", reply.text());
        Scrape::parse(&reply.text())
    }

    /// The records of the audit log so far; a line still being written is left out.
    #[must_use]
    pub fn records(&self) -> Vec<Value> {
        let mut records = Vec::new();
        for segment in segments(&self.home) {
            let text = std::fs::read_to_string(segment).unwrap();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            records.extend(whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
        records
    }

    /// A join token for a name, from `sekisho ca token create`.
    #[must_use]
    pub fn join_token(&self, id: &str) -> String {
        let create = ["create", "--id", id];
        run(Command::new(tools::sekisho()).args(["ca", "token", "--dir"]).arg(&self.home).args(create))
            .trim()
            .to_owned()
    }

    /// `sekisho ca log verify` over its folder.
    #[must_use]
    pub fn verify_log(&self) -> Output {
        let verify = ["ca", "log", "verify", "--format", "json", "--dir"];
        Command::new(tools::sekisho()).args(verify).arg(&self.home).output().unwrap()
    }
}

/// The segments of a CA's audit log, in their order.
#[must_use]
pub fn segments(home: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    segments.sort();
    segments
}

fn serve(dir: &Path) -> Child {
    Child::start(
        dir,
        "ca-serve",
        Command::new(tools::sekisho()).args(["ca", "serve", "-c", "ca.toml"]).current_dir(dir),
    )
}
