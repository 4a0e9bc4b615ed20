//! The built binary as a certificate authority: `sekisho ca serve -c ca.toml` over a folder of its own, waited for, looked at
//! through its ports and its audit log, ended at any moment and started again.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::child::{Child, run};
use crate::message::Message;
use crate::pki::{self, Forger, spiffe};
use crate::prometheus::Scrape;
use crate::{ports, tools, wait, wire};

/// How long a step that waits for certificates of some seconds may take on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// A CA, running unless it was ended. Killed when dropped.
#[derive(Debug)]
pub struct CaServer {
    dir: PathBuf,
    home: PathBuf,
    grpc: SocketAddr,
    admin: SocketAddr,
    health: SocketAddr,
    child: Option<Child>,
    starts: u32,
}

impl CaServer {
    /// `sekisho ca init` into `<dir>/ca`, its first root as `<dir>/roots.pem`, and a server over it. `sections` go into the
    /// file behind `[server]`.
    #[must_use]
    pub fn start(dir: &Path, sections: &str) -> Self {
        let mut server = Self::prepare(dir, sections);
        server.again();
        server
    }

    /// The same, not running yet.
    #[must_use]
    pub fn prepare(dir: &Path, sections: &str) -> Self {
        let home = dir.join("ca");
        Self::init(&home);
        for name in ["root.pem", "root.key"] {
            std::fs::copy(pki::root(&home).join(name), dir.join(format!("first-{name}"))).unwrap();
        }
        std::fs::copy(dir.join("first-root.pem"), dir.join("roots.pem")).unwrap();
        Self::over(dir, &home, "", sections)
    }

    /// `sekisho ca init` for `example.org`.
    pub fn init(home: &Path) {
        let init = ["ca", "init", "--trust-domain", pki::TRUST_DOMAIN, "--dir"];
        run(Command::new(tools::sekisho()).args(init).arg(home));
    }

    /// A server over a folder that is there; its file and its outputs go into `dir`.
    #[must_use]
    pub fn start_over(dir: &Path, home: &Path, sections: &str) -> Self {
        let mut server = Self::over(dir, home, "", sections);
        server.again();
        server
    }

    /// The same, not running yet; `lines` go into the file before its tables.
    #[must_use]
    pub fn over(dir: &Path, home: &Path, lines: &str, sections: &str) -> Self {
        let [grpc, admin, health] = [ports::local(), ports::local(), ports::local()];
        let server = Self { dir: dir.to_owned(), home: home.to_owned(), grpc, admin, health, child: None, starts: 0 };
        server.write(lines, sections);
        server
    }

    /// Writes its file anew, with the same ports; replaced as a whole.
    pub fn write(&self, lines: &str, sections: &str) {
        let Self { home, grpc, admin, health, .. } = self;
        let file = format!(
            "schema = 1\ndir = \"{}\"\n{lines}\n[server]\nlisten = \"{grpc}\"\nadmin = \"{admin}\"\nhealth = \"{health}\"\n\
             names = \"localhost\"\n{sections}",
            home.display()
        );
        std::fs::write(self.dir.join("ca.toml.new"), file).unwrap();
        std::fs::rename(self.dir.join("ca.toml.new"), self.dir.join("ca.toml")).unwrap();
    }

    /// How it is started, for a test that runs it under something else.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(tools::sekisho());
        command.args(["ca", "serve", "-c", "ca.toml"]).current_dir(&self.dir);
        command
    }

    /// Starts it once more, and waits until it is ready.
    pub fn again(&mut self) {
        let mut command = self.command();
        self.again_by(&mut command);
    }

    /// The same by another command over the same file.
    pub fn again_by(&mut self, command: &mut Command) {
        self.spawn(command);
        self.wait_until_ready();
    }

    /// The same without waiting: it may end.
    pub fn spawn(&mut self, command: &mut Command) {
        assert!(self.child.is_none(), "it still runs");
        self.starts += 1;
        self.child = Some(Child::start(&self.dir, &format!("ca-{}", self.starts), command));
    }

    /// Waits for 200 from the health port; panics with its last words when it ends first.
    pub fn wait_until_ready(&mut self) {
        wait::until("the CA to be ready", wait::SOON, || {
            let child = self.child.as_mut().unwrap();
            if let Some(status) = child.process().try_wait().unwrap() {
                panic!("the CA ended with {status}: {}", child.stderr.text());
            }
            self.is_ready().then_some(())
        });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.take().unwrap().kill();
    }

    /// Waits for its end by a SIGKILL that is not from here.
    pub fn killed(&mut self) {
        let mut child = self.child.take().unwrap();
        let status = child.wait(LONG).unwrap_or_else(|| panic!("nobody killed the CA: {}", child.stderr.text()));
        assert_eq!(status.signal(), Some(9), "{status}: {}", child.stderr.text());
    }

    /// The phase that stands on the disk, whether it runs or not.
    #[must_use]
    pub fn phase_on_disk(&self) -> String {
        let state: Value = serde_json::from_slice(&std::fs::read(self.home.join("state.json")).unwrap()).unwrap();
        state["phase"].as_str().unwrap().to_owned()
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        child.signal("TERM");
        let status = child.wait(wait::SOON).unwrap_or_else(|| panic!("the CA did not end"));
        assert!(status.success(), "{status}: {}", child.stderr.text());
    }

    /// What it says when it ends by itself: its exit code and stderr.
    pub fn refusal(&mut self) -> (Option<i32>, String) {
        let mut command = self.command();
        self.spawn(&mut command);
        let mut child = self.child.take().unwrap();
        let status = child.wait(wait::SOON).unwrap_or_else(|| panic!("the CA did not end"));
        (status.code(), child.stderr.text())
    }

    /// The running process.
    #[must_use]
    pub fn child(&self) -> &Child {
        self.child.as_ref().unwrap()
    }

    /// Whether the process is there, alive.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(Child::is_running)
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

    /// The address of the admin port.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
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

    /// The first root in openssl's hands, also after it has left.
    #[must_use]
    pub fn forger(&self) -> Forger {
        Forger::with(&self.dir.join("first-root.pem"), &self.dir.join("first-root.key"), &self.dir)
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

    /// `GET /status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let reply = self.admin("/status");
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
        self.post(&format!("/rotation/{step}"), "{}")
    }

    /// `POST path` on the admin port with a JSON document.
    pub fn post(&self, path: &str, body: &str) -> Message {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close",
            body.len()
        );
        wire::request(self.admin, format!("{head}\r\n\r\n{body}").as_bytes()).unwrap()
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

    /// The root that signed for the certificate with this serial number, by the audit log.
    #[must_use]
    pub fn root_of(&self, serial: &str) -> Option<String> {
        let records = self.records();
        let record = records.iter().find(|record| record["serial"].as_str() == Some(serial))?;
        record["root"].as_str().map(str::to_owned)
    }

    /// `sekisho ca ARGS` beside the server, to its end; its stdout.
    pub fn run(&self, args: &[&str]) -> String {
        run(Command::new(tools::sekisho()).arg("ca").args(args).current_dir(&self.dir))
    }

    /// The same, whatever comes of it.
    pub fn try_run(&self, args: &[&str]) -> Output {
        Command::new(tools::sekisho()).arg("ca").args(args).current_dir(&self.dir).output().unwrap()
    }

    /// A join token for a name, from `sekisho ca token create`.
    #[must_use]
    pub fn join_token(&self, id: &str) -> String {
        let home = self.home.to_str().unwrap();
        self.run(&["token", "--dir", home, "create", "--id", id]).trim().to_owned()
    }

    /// A join token for a workload of the contract's trust domain, as the file `<dir>/<name>.token`.
    pub fn token(&self, name: &str, namespace: &str, account: &str) {
        let token = self.join_token(&spiffe(namespace, account));
        std::fs::write(self.dir.join(format!("{name}.token")), token).unwrap();
    }

    /// The table `[identity]` of a sidecar that comes with `<name>.token`.
    #[must_use]
    pub fn identity(&self, name: &str) -> String {
        let address = self.grpc;
        format!(
            "[identity]\nsource = \"ca\"\naddress = \"{address}\"\nroots = \"roots.pem\"\ntoken = \"{name}.token\"\n"
        )
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
