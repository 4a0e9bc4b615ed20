//! The pair of the contract with a CA beside it: each sidecar comes with a join token and nothing else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::ca_server::CaServer;
use support::child::Child;
use support::load::Load;
use support::origin::{Origin, Reply};
use support::pair::{Addresses, CLIENT, HOST, SERVER};
use support::scratch::Scratch;
use support::sidecar::Sidecar;
use support::{tls, tools, wait};

/// What everybody asks for.
pub(super) const PATH: &str = "/api/orders/42";

/// The CA's file for certificates that live so long, with a rotation as short as it can be.
pub(super) fn lines(ttl: &str) -> String {
    format!(
        "[issue]\nttl = \"{ttl}\"\n\n[rotation]\nsplay = \"1s\"\nskew = \"1s\"\n\n[limits]\nper_identity_per_hour = 100000\n"
    )
}

/// Before the sidecars start: a folder, the CA, both files.
pub(super) struct Stage {
    pub(super) dir: Scratch,
    pub(super) at: Addresses,
    pub(super) ca: CaServer,
}

impl Stage {
    /// With certificates that live so long.
    pub(super) fn new(ttl: &str) -> Self {
        let (dir, at) = (Scratch::new(), Addresses::free());
        let ca = CaServer::start(dir.path(), &lines(ttl));
        for (file, text, account) in [("server", SERVER, "orders"), ("client", CLIENT, "web")] {
            ca.token(account, "shop", account);
            let text = with_identity(&at.rewrite(text), &ca.identity(account));
            dir.write(&format!("{file}.toml"), text.replace("[proxy]\n", "[log]\naccess = \"off\"\n\n[proxy]\n"));
        }
        Self { dir, at, ca }
    }

    /// Changes a file.
    pub(super) fn change(self, file: &str, change: impl FnOnce(String) -> String) -> Self {
        let name = format!("{file}.toml");
        self.dir.write(&name, change(self.dir.read(&name)));
        self
    }

    /// Starts everything.
    pub(super) fn start(self) -> World {
        self.start_with(Vec::new())
    }

    /// The same with these variables set for the sidecars.
    pub(super) fn start_with(self, variables: Vec<(&'static str, OsString)>) -> World {
        let origin = Origin::forgetful(self.at.app, |_| Reply::text("here"));
        let [server, client] = ["server", "client"].map(|name| {
            let mut command = Command::new(tools::sekisho());
            command.args(["proxy", "-c", &format!("{name}.toml")]).current_dir(self.dir.path());
            let mut sidecar = Sidecar::start_by(command.envs(variables.clone()), self.dir.path(), name);
            sidecar.wait_until_ready();
            sidecar
        });
        let ids = [server.child.id(), client.child.id()];
        World { client, server, ca: self.ca, at: self.at, ids, _origin: origin, _dir: self.dir }
    }
}

/// A pair and its CA at work.
pub(super) struct World {
    pub(super) client: Sidecar,
    pub(super) server: Sidecar,
    pub(super) ca: CaServer,
    pub(super) at: Addresses,
    ids: [u32; 2],
    _origin: Origin,
    _dir: Scratch,
}

impl World {
    pub(super) fn load(&self) -> Loads {
        // One connection that is kept, and one after the other that is not: between the sidecars are kept ones and new ones.
        Loads([Load::start(self.at.entry, HOST, PATH, 1), Load::fresh(self.at.entry, HOST, PATH, 1)])
    }

    /// The serial numbers of the caller's and the callee's certificate.
    pub(super) fn serials(&self) -> [String; 2] {
        [&self.client, &self.server]
            .map(|one| one.policy_status()["certificate"]["serial"].as_str().unwrap().to_owned())
    }

    /// Waits until both have other certificates than these.
    pub(super) fn renewed_since(&self, before: &[String; 2], limit: Duration) -> [String; 2] {
        wait::until("both sidecars to have new certificates", limit, || {
            let now = self.serials();
            now.iter().zip(before).all(|(now, before)| now != before).then_some(now)
        })
    }

    /// Both run as they did from the start, and are ready.
    pub(super) fn assert_untroubled(&mut self) {
        for (sidecar, id) in [(&mut self.server, self.ids[0]), (&mut self.client, self.ids[1])] {
            assert!(sidecar.child.is_running() && sidecar.child.id() == id, "{}", sidecar.child.stderr.tail(20));
            assert!(!sidecar.child.stderr.text().contains("panicked"), "{}", sidecar.child.stderr.tail(20));
            assert!(sidecar.is_ready(), "{}", sidecar.child.stderr.tail(20));
        }
    }

    /// Whether the callee's chain leads to the root with this id.
    pub(super) fn callee_shows(&self, root: &str) -> bool {
        let stream = tls::connect(self.at.inbound, None, &["http/1.1"]).unwrap();
        let chain = stream.conn.peer_certificates().unwrap();
        let name = format!("sekisho root {root}");
        chain.last().unwrap().windows(name.len()).any(|part| part == name.as_bytes())
    }
}

/// Load on the caller's sidecar.
pub(super) struct Loads([Load; 2]);

impl Loads {
    /// All of it, which must have gone well; so many requests of each kind at least.
    pub(super) fn stop_clean(self, at_least: u64) -> u64 {
        self.0.map(|load| load.stop_clean(at_least).ok).into_iter().sum()
    }
}

/// A file of the contract with another table `[identity]`.
pub(super) fn with_identity(text: &str, identity: &str) -> String {
    let start = text.find("[identity]").unwrap();
    let end = start + text[start..].find("\n[proxy]").unwrap();
    format!("{}{identity}{}", &text[..start], &text[end..])
}

/// `sekisho agent` with its identity from the CA of a stage, and its socket.
pub(super) struct Agent {
    pub(super) child: Child,
    pub(super) socket: PathBuf,
    dir: PathBuf,
    account: String,
}

impl Agent {
    /// For `shop/<account>`, with a token of its own.
    pub(super) fn start(stage: &Stage, account: &str) -> Self {
        let name = format!("{account}-agent");
        stage.ca.token(&name, "shop", account);
        let dir = stage.dir.path().to_owned();
        let socket = dir.join(format!("{name}.sock"));
        let text = format!(
            "schema = 1\nworkload = \"shop/{account}\"\ntrust_domain = \"example.org\"\n\n{}\n[agent]\nsocket = \"{name}.sock\"\n",
            stage.ca.identity(&name)
        );
        stage.dir.write(&format!("{name}.toml"), text);
        Self { child: Self::child(&dir, &name), socket, dir, account: account.to_owned() }
    }

    /// Another one in the place of one that has ended.
    pub(super) fn again(before: Self) -> Self {
        let child = Self::child(&before.dir, &format!("{}-agent", before.account));
        Self { child, ..before }
    }

    fn child(dir: &Path, name: &str) -> Child {
        let mut command = Command::new(tools::sekisho());
        command.args(["agent", "-c", &format!("{name}.toml")]).current_dir(dir);
        let mut child = Child::start(dir, name, &mut command);
        let said = child.stderr.clone();
        wait::until("the agent to have an identity", wait::SOON, || {
            assert!(child.is_running(), "{}", said.text());
            said.text().contains("\"event\":\"identity\"").then_some(())
        });
        child
    }
}
