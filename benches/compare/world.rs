//! What every pair stands in: a folder with certificates, and the application behind the callee.
//!
//! In: the options. Out: paths, the origin's address, and load generators that are run to their end under a deadline.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::child::{Child, run};
use support::pki::Ca;
use support::scratch::Scratch;
use support::{ports, tools, wait, wire};

use crate::load::Load;
use crate::makes::Make;
use crate::options::{Cores, Options};
use crate::programs::{self, pinned};

/// Folder, certificates, origin. Everything ends with it.
pub(crate) struct World {
    pub(crate) dir: Scratch,
    pub(crate) cores: Cores,
    pub(crate) origin: SocketAddr,
    origin_process: Child,
}

const OURS: &str = "sekisho";

impl World {
    /// Issues the certificates with `sekisho ca` (ECDSA P-256) and starts the origin.
    pub(crate) fn new(options: &Options) -> Self {
        let dir = Scratch::new();
        // A copy: a build that ends during the run must not change what is measured half way through it.
        std::fs::copy(tools::sekisho(), dir.join(OURS)).unwrap();
        let ca = Ca::init(dir.path());
        for (name, account) in [("web", "web"), ("orders", "orders"), ("stranger", "stranger")] {
            let cert = ca.issue(name, "shop", account);
            // HAProxy reads chain and key from one file.
            let both = [std::fs::read(&cert.chain).unwrap(), std::fs::read(&cert.key).unwrap()].concat();
            dir.write(&format!("{name}-and-key.pem"), both);
        }
        std::fs::create_dir(dir.join("other")).unwrap();
        Ca::init(&dir.join("other")).issue("web", "shop", "web");
        if options.makes.contains(&Make::Nginx) {
            issue_named(&dir);
        }
        let origin = ports::local();
        let mut command = pinned(options.cores.load, &std::env::current_exe().unwrap());
        command.args(["--role", "origin", &origin.to_string()]);
        let child = Child::start(dir.path(), "origin", &mut command);
        wait::until("the origin", wait::SOON, || wire::get(origin, "origin", "/").ok());
        Self { dir, cores: options.cores, origin, origin_process: child }
    }

    /// A process of this bench in another role, on the core of the load.
    pub(crate) fn role(&self, role: &str, argument: &str) -> Command {
        let mut command = pinned(self.cores.load, &std::env::current_exe().unwrap());
        command.args(["--role", role, argument]).current_dir(self.dir.path());
        command
    }

    /// Runs a load generator to its end and gives its JSON line, or what it said instead.
    pub(crate) fn run(&self, role: &str, load: &Load) -> Result<Value, String> {
        let (out, err) = (self.dir.join("load.out"), self.dir.join("load.err"));
        let mut command = self.role(role, &load.to_json());
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let mut child = command.spawn().map_err(|error| format!("{role}: {error}"))?;
        let limit = load.warm_up + load.window + PATIENCE;
        let status = wait::within(limit, || child.try_wait().unwrap());
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let said = std::fs::read_to_string(&err).unwrap_or_default();
        match status {
            Some(status) if status.success() => {
                let text = std::fs::read_to_string(&out).unwrap_or_default();
                serde_json::from_str(&text).map_err(|error| format!("{role}: {error} in {text:?}"))
            }
            Some(_) => Err(said.trim().to_owned()),
            None => Err(format!("no end after {limit:?}: {}", said.trim())),
        }
    }

    /// The program of a make.
    pub(crate) fn program(&self, make: Make) -> PathBuf {
        match make {
            Make::Sekisho => self.dir.join(OURS),
            Make::Envoy | Make::EnvoyH2 => programs::envoy().unwrap(),
            Make::Haproxy => programs::find("haproxy").unwrap(),
            Make::Nginx => programs::find("nginx").unwrap(),
        }
    }

    /// The origin's process.
    pub(crate) fn origin_pid(&self) -> u32 {
        self.origin_process.id()
    }

    /// The folder with certificates and configurations.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// What a load may take beyond its window: opening 10,000 connections, each with a handshake, is the longest.
const PATIENCE: Duration = Duration::from_secs(90);

/// nginx verifies an upstream only by DNS name, so its callee has a certificate with one, under the same root and over an
/// intermediate like all others: `named.pem`, `named.key`.
fn issue_named(dir: &Scratch) {
    dir.write("openssl.cnf", "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nO=bench\n");
    let issue = |name: &str, issuer: &str, extensions: &[&str]| {
        let mut command = tools::system("openssl", "openssl");
        command.current_dir(dir.path()).args(["req", "-x509", "-config", "openssl.cnf", "-days", "2", "-nodes"]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
        command.args(["-CA", &format!("{issuer}.pem"), "-CAkey", &format!("{issuer}.key")]);
        run(command.args(extensions.iter().flat_map(|extension| ["-addext", extension])));
    };
    let usage = "keyUsage=critical,keyCertSign";
    issue("named-ca", "ca/root", &["basicConstraints=critical,CA:TRUE,pathlen:0", usage]);
    let names = "subjectAltName=URI:spiffe://example.org/ns/shop/sa/orders,DNS:orders.shop.svc";
    let usage = "keyUsage=critical,digitalSignature";
    issue("named", "named-ca", &[names, usage, "extendedKeyUsage=serverAuth", "basicConstraints=critical,CA:FALSE"]);
    let chain = [dir.read("named.pem"), dir.read("named-ca.pem")].concat();
    dir.write("named.pem", chain);
}
