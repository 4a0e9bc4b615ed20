//! The makes that are compared, each started as a pair from the files in `setup/`: caller's sidecar and callee's sidecar.
//!
//! In: a world that has certificates and an origin. Out: a running pair with the address where callers enter.
//! Everything here runs on the core of the sidecars, except the origin, which runs on the core of the load.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::child::Child;
use support::pki::Ca;
use support::scratch::Scratch;
use support::{ports, tools, wait, wire};

use crate::options::{Cores, Options};
use crate::origin::BODY;

/// A make of sidecar, with the HTTP version that its pair speaks between its two halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Sekisho,
    Envoy,
    Haproxy,
    EnvoyH2,
}

impl Make {
    /// In the order of a round.
    pub(crate) const ALL: [Self; 4] = [Self::Sekisho, Self::Envoy, Self::Haproxy, Self::EnvoyH2];

    /// As the command line and the raw runs have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sekisho => "sekisho",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::EnvoyH2 => "envoy-h2",
        }
    }

    /// As tables and plots have it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Sekisho => "Sekisho",
            Self::Envoy => "Envoy",
            Self::Haproxy => "HAProxy",
            Self::EnvoyH2 => "Envoy, HTTP/2 between",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|make| make.name() == name);
        found.ok_or_else(|| format!("no make {name}: there are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// What every pair stands in: a folder with the certificates, and the origin.
pub(crate) struct World {
    dir: Scratch,
    cores: Cores,
    origin: SocketAddr,
    origin_process: Child,
}

impl World {
    /// Issues the certificates with `sekisho ca` (ECDSA P-256) and starts the origin.
    pub(crate) fn new(options: &Options) -> Self {
        let dir = Scratch::new();
        // A copy: a build that ends during the run must not change what is measured half way through it.
        std::fs::copy(tools::sekisho(), dir.join(OURS)).unwrap();
        let ca = Ca::init(dir.path());
        for (name, account) in [("web", "web"), ("orders", "orders")] {
            let cert = ca.issue(name, "shop", account);
            // HAProxy reads chain and key from one file.
            let both = [std::fs::read(&cert.chain).unwrap(), std::fs::read(&cert.key).unwrap()].concat();
            dir.write(&format!("{name}-and-key.pem"), both);
        }
        let origin = ports::local();
        let mut command = pinned(options.cores.load, &std::env::current_exe().unwrap());
        command.args(["--role", "origin", &origin.to_string()]);
        let child = Child::start(dir.path(), "origin", &mut command);
        wait::until("the origin", wait::SOON, || wire::get(origin, "origin", "/").ok());
        Self { dir, cores: options.cores, origin, origin_process: child }
    }

    /// A load generator of this bench, pinned to its core; its arguments are still to come.
    pub(crate) fn load(&self, role: &str) -> Command {
        let mut command = pinned(self.cores.load, &std::env::current_exe().unwrap());
        command.args(["--role", role]);
        command
    }

    /// The program of a make.
    pub(crate) fn program(&self, make: Make) -> PathBuf {
        match make {
            Make::Sekisho => self.dir.join(OURS),
            Make::Envoy | Make::EnvoyH2 => envoy(),
            Make::Haproxy => tools::system("haproxy", "haproxy").get_program().into(),
        }
    }

    /// The origin's process.
    pub(crate) fn origin_pid(&self) -> u32 {
        self.origin_process.id()
    }
}

const OURS: &str = "sekisho";

/// Two running sidecars. Killed when dropped.
pub(crate) struct Pair {
    make: Make,
    entry: SocketAddr,
    callee_admin: SocketAddr,
    caller: Child,
    callee: Child,
}

impl Pair {
    /// Starts both and waits until the allowed request passes.
    pub(crate) fn start(world: &World, make: Make) -> Self {
        let (entry, inbound) = (ports::local(), ports::local());
        let (callee, callee_admin) = sidecar(world, make, "callee", inbound, ("ORIGIN", world.origin));
        let (caller, _) = sidecar(world, make, "caller", entry, ("CALLEE", inbound));
        let mut pair = Self { make, entry, callee_admin, caller, callee };
        wait::until(&format!("the {} pair", make.name()), wait::SOON, || {
            for child in [&mut pair.caller, &mut pair.callee] {
                assert!(child.is_running(), "a sidecar ended: {}", child.stderr.text());
            }
            let reply = wire::get(pair.entry, HOST, "/api/orders/42").ok()?;
            (reply.status() == 200 && reply.body.len() == BODY).then_some(())
        });
        pair
    }

    /// What the rule forbids must be refused, and Envoy must have negotiated what the others are told to.
    pub(crate) fn check(&self) {
        for path in ["/api/admin", "/"] {
            let reply = wire::get(self.entry, HOST, path).unwrap();
            assert_eq!(reply.status(), 403, "{} answered {path} with {}", self.make.name(), reply.status());
        }
        if matches!(self.make, Make::Envoy | Make::EnvoyH2) {
            let stats = wire::get(self.callee_admin, "localhost", "/stats?usedonly&filter=ssl").unwrap().text();
            for name in ["versions.TLSv1.3", "ciphers.TLS_AES_128_GCM_SHA256", "curves.X25519"] {
                assert!(stats.contains(&format!("ssl.{name}: ")), "no {name} in:\n{stats}");
            }
        }
    }

    /// Where callers enter.
    pub(crate) fn entry(&self) -> SocketAddr {
        self.entry
    }

    /// The caller's and the callee's process.
    pub(crate) fn pids(&self) -> [u32; 2] {
        [self.caller.id(), self.callee.id()]
    }
}

const HOST: &str = "orders.shop.svc";

/// Writes one side's file from its template and starts it. `peer` is what it forwards to. Gives its admin address as well.
fn sidecar(world: &World, make: Make, side: &str, listen: SocketAddr, peer: (&str, SocketAddr)) -> (Child, SocketAddr) {
    let addresses =
        [("LISTEN", listen), peer, ("ADMIN", ports::local()), ("HEALTH", ports::local()), ("METRICS", ports::local())];
    let (template, ending) = template(make, side == "caller");
    let mut text = template.to_owned();
    for (word, address) in addresses {
        text = text.replace(&format!("@{word}@"), &address.to_string());
        text = text.replace(&format!("@{word}_PORT@"), &address.port().to_string());
    }
    let (alpn, protocol) = match make {
        Make::EnvoyH2 => ("h2", "http2_protocol_options"),
        _ => ("http/1.1", "http_protocol_options"),
    };
    text = text.replace("@ALPN@", alpn).replace("@UPSTREAM_PROTOCOL@", protocol);

    let name = format!("{}-{side}", make.name());
    let file = format!("{name}.{ending}");
    world.dir.write(&file, text);
    let mut command = pinned(world.cores.sidecars, &world.program(make));
    match make {
        Make::Sekisho => command.args(["proxy", "-c", &file]),
        Make::Haproxy => command.args(["-db", "-f", &file]),
        Make::Envoy | Make::EnvoyH2 => {
            command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c", &file])
        }
    };
    let child = Child::start(world.dir.path(), &name, command.current_dir(world.dir.path()));
    (child, addresses[2].1)
}

fn template(make: Make, caller: bool) -> (&'static str, &'static str) {
    match (make, caller) {
        (Make::Sekisho, true) => (include_str!("setup/sekisho-caller.toml"), "toml"),
        (Make::Sekisho, false) => (include_str!("setup/sekisho-callee.toml"), "toml"),
        (Make::Envoy | Make::EnvoyH2, true) => (include_str!("setup/envoy-caller.yaml"), "yaml"),
        (Make::Envoy | Make::EnvoyH2, false) => (include_str!("setup/envoy-callee.yaml"), "yaml"),
        (Make::Haproxy, true) => (include_str!("setup/haproxy-caller.cfg"), "cfg"),
        (Make::Haproxy, false) => (include_str!("setup/haproxy-callee.cfg"), "cfg"),
    }
}

/// taskset replaces itself by the program, so the process id is the program's.
fn pinned(core: usize, program: &Path) -> Command {
    let mut command = tools::system("taskset", "util-linux");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// `$ENVOY`, or what `scripts/test` has installed, or the one on PATH.
fn envoy() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY") {
        return path.into();
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path).map(|dir| dir.join("envoy")).find(|path| path.exists());
    let installed =
        std::env::var_os("SEKISHO_VENV").is_some() || tools::repository().join("target/test-venv/bin/python").exists();
    match on_path {
        Some(path) if !installed => path,
        _ => tools::envoy(),
    }
}

/// Quiet between the start and the look at idle memory.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);
