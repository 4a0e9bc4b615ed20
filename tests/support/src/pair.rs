//! The pair of the contract: caller's sidecar, callee's sidecar, an application, and certificates from `sekisho ca`.
//!
//! The two files are used as they are written; only their fixed ports are replaced, so that tests can run side by side.
//! A test may change either text before the start.

use std::net::SocketAddr;

use crate::origin::Origin;
use crate::pki::{Ca, Cert};
use crate::ports;
use crate::scratch::Scratch;
use crate::sidecar::Sidecar;

/// `server.toml` of the contract.
pub const SERVER: &str = include_str!("../contract/server.toml");
/// `client.toml` of the contract.
pub const CLIENT: &str = include_str!("../contract/client.toml");
/// The name under which the caller asks for the callee.
pub const HOST: &str = "orders.shop.svc";

/// The addresses of one pair.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Where the caller's application enters (9001 in the contract).
    pub entry: SocketAddr,
    /// The callee's mutual TLS port (15006).
    pub inbound: SocketAddr,
    /// The application (8080).
    pub app: SocketAddr,
    /// The tap's sensor (4789).
    pub sensor: SocketAddr,
    server: [SocketAddr; 3],
    client: [SocketAddr; 3],
}

impl Addresses {
    /// The ports as the contract files have them.
    #[must_use]
    pub fn of_the_contract() -> Self {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            entry: at(9001),
            inbound: at(15006),
            app: at(8080),
            sensor: at(4789),
            server: [at(15000), at(15021), at(15090)],
            client: [at(15100), at(15121), at(15190)],
        }
    }

    /// Free ports.
    #[must_use]
    pub fn free() -> Self {
        let three = || [ports::local(), ports::local(), ports::local()];
        Self {
            entry: ports::local(),
            inbound: ports::local(),
            app: ports::local(),
            sensor: ports::local(),
            server: three(),
            client: three(),
        }
    }

    /// A contract file with its ports replaced by these.
    #[must_use]
    pub fn rewrite(&self, text: &str) -> String {
        let fixed = Self::of_the_contract();
        let both = [
            (fixed.entry, self.entry),
            (fixed.inbound, self.inbound),
            (fixed.app, self.app),
            (fixed.sensor, self.sensor),
        ];
        let admin = fixed.server.into_iter().zip(self.server).chain(fixed.client.into_iter().zip(self.client));
        // In one pass: a new port must not be taken for another old one.
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let changes: Vec<(String, String)> =
            both.into_iter().chain(admin).map(|(old, new)| (old.to_string(), new.to_string())).collect();
        while let Some(start) = rest.find("127.0.0.1:") {
            let (before, at) = rest.split_at(start);
            out.push_str(before);
            let digits = at["127.0.0.1:".len()..].find(|c: char| !c.is_ascii_digit()).unwrap_or(at.len() - 10);
            let (address, after) = at.split_at("127.0.0.1:".len() + digits);
            out.push_str(changes.iter().find(|(old, _)| old == address).map_or(address, |(_, new)| new));
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// What is there before either sidecar runs: a folder, the CA, both certificates, both texts.
#[derive(Debug)]
pub struct Setting {
    /// The folder with `server.toml`, `client.toml` and the certificates.
    pub dir: Scratch,
    /// The CA.
    pub ca: Ca,
    /// The caller's certificate, shop/web.
    pub web: Cert,
    /// The callee's certificate, shop/orders.
    pub orders: Cert,
    /// Where everything listens.
    pub at: Addresses,
}

impl Setting {
    /// With free ports.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Addresses::free())
    }

    /// With given addresses.
    #[must_use]
    pub fn at(at: Addresses) -> Self {
        let dir = Scratch::new();
        let ca = Ca::init(dir.path());
        let web = ca.issue("web", "shop", "web");
        let orders = ca.issue("orders", "shop", "orders");
        dir.write("server.toml", at.rewrite(SERVER));
        dir.write("client.toml", at.rewrite(CLIENT));
        Self { dir, ca, web, orders, at }
    }

    /// Changes `server.toml`.
    #[must_use]
    pub fn server(self, change: impl FnOnce(String) -> String) -> Self {
        self.dir.write("server.toml", change(self.dir.read("server.toml")));
        self
    }

    /// Changes `client.toml`.
    #[must_use]
    pub fn client(self, change: impl FnOnce(String) -> String) -> Self {
        self.dir.write("client.toml", change(self.dir.read("client.toml")));
        self
    }

    /// Starts the callee's sidecar.
    #[must_use]
    pub fn start_server(&self) -> Sidecar {
        Sidecar::start(self.dir.path(), "server")
    }

    /// Starts the caller's sidecar.
    #[must_use]
    pub fn start_client(&self) -> Sidecar {
        Sidecar::start(self.dir.path(), "client")
    }

    /// Starts everything, with a recording application.
    #[must_use]
    pub fn start(self) -> Pair {
        let origin = Origin::on(self.at.app);
        self.start_with(origin)
    }

    /// Starts both sidecars before an application that the test made.
    #[must_use]
    pub fn start_with(self, origin: Origin) -> Pair {
        let server = self.start_server();
        let client = self.start_client();
        Pair { client, server, origin, setting: self }
    }
}

impl Default for Setting {
    fn default() -> Self {
        Self::new()
    }
}

/// The pair at work.
pub struct Pair {
    /// The caller's sidecar.
    pub client: Sidecar,
    /// The callee's sidecar.
    pub server: Sidecar,
    /// The application.
    pub origin: Origin,
    /// Folder, CA, certificates, addresses.
    pub setting: Setting,
}

impl Pair {
    /// The contract files with free ports.
    #[must_use]
    pub fn start() -> Self {
        Setting::new().start()
    }

    /// Where the caller's application enters.
    #[must_use]
    pub fn entry(&self) -> SocketAddr {
        self.setting.at.entry
    }
}

/// `text` with an access log of JSON lines, whose fields tests can name.
#[must_use]
pub fn json_log(text: String) -> String {
    text.replace("[proxy]\n", "[log]\nformat = \"json\"\n\n[proxy]\n")
}

/// `text` without its `[[inbound]]`, `[[outbound]]` tables: a file that passes nothing.
#[must_use]
pub fn without_rules(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = matches!(line.trim(), "[[inbound]]" | "[[outbound]]");
        }
        if !inside {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewriting_changes_every_fixed_port_and_nothing_else() {
        let at = Addresses::free();
        for text in [SERVER, CLIENT] {
            let new = at.rewrite(text);
            assert_eq!(new.lines().count(), text.lines().count());
            for (old, new) in text.lines().zip(new.lines()) {
                assert_eq!(old.contains("127.0.0.1:"), old != new, "{old}");
            }
        }
        assert_eq!(Addresses::of_the_contract().rewrite(SERVER), SERVER);
    }

    #[test]
    fn a_file_without_rules_keeps_its_tap_and_service() {
        assert!(!without_rules(SERVER).contains("web-reads-orders"));
        assert!(without_rules(SERVER).contains("[[tap]]"));
        assert!(without_rules(CLIENT).contains("[[service]]") && !without_rules(CLIENT).contains("web-to-orders"));
    }
}
