//! A CA beside a pair of sidecars: `sekisho ca serve` with join tokens and an admin port, ended at any moment and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child::{Child, run};
use crate::message::Message;
use crate::pki::{self, Forger, spiffe};
use crate::prometheus::Scrape;
use crate::{ports, tools, wait, wire};

/// A CA, running unless it was ended. Killed when dropped.
#[derive(Debug)]
pub struct CaServer {
    out: PathBuf,
    /// The CA's folder.
    pub folder: PathBuf,
    /// Where it issues.
    pub listen: SocketAddr,
    admin: SocketAddr,
    health: SocketAddr,
    child: Option<Child>,
    starts: u32,
}

impl CaServer {
    /// `sekisho ca init` into `<out>/ca`, its first root as `<out>/roots.pem`, and the server with these further lines in its
    /// file.
    #[must_use]
    pub fn start(out: &Path, lines: &str) -> Self {
        let mut server = Self::prepare(out, lines);
        server.again();
        server
    }

    /// The same, not running yet.
    #[must_use]
    pub fn prepare(out: &Path, lines: &str) -> Self {
        let ca = pki::Ca::init(out);
        for name in ["root.pem", "root.key"] {
            std::fs::copy(ca.root().join(name), out.join(format!("first-{name}"))).unwrap();
        }
        std::fs::copy(out.join("first-root.pem"), out.join("roots.pem")).unwrap();
        let [listen, admin, health] = [ports::local(), ports::local(), ports::local()];
        let text = format!(
            "schema = 1\ndir = \"ca\"\n\n[server]\nlisten = \"{listen}\"\nadmin = \"{admin}\"\nhealth = \"{health}\"\n\n{lines}"
        );
        std::fs::write(out.join("ca.toml"), text).unwrap();
        Self { out: out.to_owned(), folder: out.join("ca"), listen, admin, health, child: None, starts: 0 }
    }

    /// How it is started, for a test that runs it under something else.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(tools::sekisho());
        command.args(["ca", "serve", "-c", "ca.toml"]).current_dir(&self.out);
        command
    }

    /// Starts it once more, and waits until it is ready.
    pub fn again(&mut self) {
        let mut command = self.command();
        self.again_by(&mut command);
    }

    /// The same by another command over the same file.
    pub fn again_by(&mut self, command: &mut Command) {
        assert!(self.child.is_none(), "it still runs");
        self.starts += 1;
        let mut child = Child::start(&self.out, &format!("ca-{}", self.starts), command);
        wait::until("the CA to be ready", wait::SOON, || {
            if let Some(status) = child.process().try_wait().unwrap() {
                panic!("the CA ended with {status}: {}", child.stderr.text());
            }
            wire::get(self.health, "probe", "/healthz/ready").is_ok_and(|reply| reply.status() == 200).then_some(())
        });
        self.child = Some(child);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.take().unwrap().kill();
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        child.signal("TERM");
        assert!(child.wait(wait::SOON).is_some_and(|status| status.success()), "{}", child.stderr.text());
    }

    /// The running process.
    pub fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }

    /// A join token for a workload of the contract's trust domain, as the file `<out>/<name>.token`.
    pub fn token(&self, name: &str, namespace: &str, account: &str) {
        let token = self.run(&["token", "--dir", "ca", "create", "--id", &spiffe(namespace, account)]);
        std::fs::write(self.out.join(format!("{name}.token")), token).unwrap();
    }

    /// The table `[identity]` of a sidecar that comes with `<name>.token`.
    #[must_use]
    pub fn identity(&self, name: &str) -> String {
        format!(
            "[identity]\nsource = \"ca\"\naddress = \"{}\"\nroots = \"roots.pem\"\ntoken = \"{name}.token\"\n",
            self.listen
        )
    }

    /// `sekisho ca ARGS` beside the server, to its end; its stdout.
    pub fn run(&self, args: &[&str]) -> String {
        run(Command::new(tools::sekisho()).arg("ca").args(args).current_dir(&self.out))
    }

    /// `GET /status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let reply = wire::get(self.admin, "localhost", "/status").unwrap();
        serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("/status: {error}: {}", reply.text()))
    }

    /// Where the rotation stands: `steady`, `prepared` or `activated`.
    #[must_use]
    pub fn phase(&self) -> String {
        self.status()["phase"].as_str().unwrap().to_owned()
    }

    /// The ids of the roots in the bundle, the one that issues first.
    #[must_use]
    pub fn roots(&self) -> Vec<String> {
        let status = self.status();
        status["roots"].as_array().unwrap().iter().map(|root| root["id"].as_str().unwrap().to_owned()).collect()
    }

    /// `POST /rotation/STEP`, which must be done.
    pub fn step(&self, step: &str) -> Value {
        let reply = self.try_step(step);
        assert_eq!(reply.status(), 200, "{step}: {}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// The same, whatever comes of it.
    pub fn try_step(&self, step: &str) -> Message {
        let head = "Host: localhost\r\nContent-Length: 0\r\nConnection: close";
        wire::request(self.admin, format!("POST /rotation/{step} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes()).unwrap()
    }

    /// The root that signed for the certificate with this serial number, by the audit log.
    #[must_use]
    pub fn root_of(&self, serial: &str) -> Option<String> {
        let mut segments: Vec<_> =
            std::fs::read_dir(self.folder.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
        segments.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
        let text: String = segments.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let record = records.into_iter().find(|record| record["serial"].as_str() == Some(serial))?;
        record["root"].as_str().map(str::to_owned)
    }

    /// What its metrics say.
    #[must_use]
    pub fn metrics(&self) -> Scrape {
        Scrape::parse(&wire::get(self.health, "scrape", "/stats/prometheus").unwrap().text())
    }

    /// The first root in openssl's hands, also after it has left.
    #[must_use]
    pub fn forger(&self) -> Forger {
        Forger::with(&self.out.join("first-root.pem"), &self.out.join("first-root.key"), &self.out)
    }
}
