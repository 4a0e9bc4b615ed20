//! The stage: two sidecars of the contract with rules for this load, their certificates, and a sensor that hears their copy.

use std::net::{SocketAddr, UdpSocket};

use support::pair::Setting;
use support::pki::Cert;
use support::sidecar::Sidecar;
use support::{wire, x509};

use crate::app;

/// Everything that stands for the whole run.
pub(crate) struct Stage {
    pub(crate) setting: Setting,
    pub(crate) caller: Sidecar,
    pub(crate) callee: Sidecar,
    /// Of a caller without a sidecar.
    pub(crate) direct: Cert,
    /// Papers of the right name that a stranger signed.
    pub(crate) stranger: x509::Papers,
}

/// The path that changing rules open and close.
pub(crate) const GATE: &str = "/soak/gate";

/// Answers later than this are 504. Short, so that a stalled application is met often; long for a busy machine.
const TIMEOUT: &str = "5s";

const RULES: &str = r#"
[[inbound]]
name = "soak"
from = "shop/web"
requests = ["POST /soak/upload", "GET /soak/download/{id:uint}", "GET,POST /soak/fault/{kind}"]

[[inbound]]
name = "live"
from = "shop/web"
requests = ["GET /soak/live"]
upgrade = ["websocket"]
"#;

impl Stage {
    pub(crate) fn start() -> Self {
        let setting = Setting::new().server(callee_file).client(caller_file);
        let direct = setting.ca.issue("direct", "shop", "web");
        let stranger = x509::Authority::root("stranger").leaf(&support::pki::spiffe("shop", "web"), |leaf| leaf);
        listen(setting.at.sensor);
        app::start(setting.at.app);
        for name in ["server.out", "client.out"] {
            // Half an hour of access log is of no use to anybody and would fill a disk.
            std::os::unix::fs::symlink("/dev/null", setting.dir.join(name)).unwrap();
        }
        let callee = setting.start_server();
        let caller = setting.start_client();
        Self { setting, caller, callee, direct, stranger }
    }

    /// Where the caller's application enters.
    pub(crate) fn entry(&self) -> SocketAddr {
        self.setting.at.entry
    }

    /// The callee's mutual TLS port.
    pub(crate) fn inbound(&self) -> SocketAddr {
        self.setting.at.inbound
    }

    /// With the names that tables use.
    pub(crate) fn sidecars(&self) -> [(&'static str, &Sidecar); 2] {
        [("caller", &self.caller), ("callee", &self.callee)]
    }
}

/// Short idle times, so that connections come and go in the pools too.
fn proxy_lines(text: &str) -> String {
    text.replace("[proxy]\n", "[proxy]\npool_idle_timeout = \"5s\"\nidle_timeout = \"20s\"\nrevoke_within = \"2s\"\n")
}

fn callee_file(text: String) -> String {
    let app = format!("[app]\nprotocol = \"http1\"\ntimeout = \"{TIMEOUT}\"\n");
    proxy_lines(&text).replace("[app]\n", &app).replace("\n[[tap]]", &format!("{RULES}\n[[tap]]"))
}

fn caller_file(text: String) -> String {
    proxy_lines(&text).replace("to = \"shop/orders\"\n", "to = \"shop/orders\"\nupgrade = [\"websocket\"]\n")
}

/// A sensor that takes every packet and forgets it.
fn listen(at: SocketAddr) {
    let socket: UdpSocket = wire::roomy_udp(at);
    std::thread::spawn(move || {
        let mut packet = [0; 65536];
        while socket.recv(&mut packet).is_ok() {}
    });
}
