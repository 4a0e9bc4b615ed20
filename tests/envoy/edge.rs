//! One caller's sidecar, one callee's sidecar and an application, each end of whichever make the test asks for.
//!
//! The same permissions are written in both languages: everything a test asks is allowed to shop/web, except `/refused`
//! and the gRPC method `Forbidden`.

use std::net::SocketAddr;

use support::envoy::{Envoy, Version};
use support::pair::{Addresses, Setting, json_log};
use support::pki::{Cert, spiffe};
use support::sidecar::Sidecar;

/// Who stands at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Envoy,
    Sekisho,
}

/// The certificates of an edge; the usual ones are shop/web and shop/orders.
pub(crate) struct Papers {
    pub(crate) caller: Cert,
    pub(crate) callee: Cert,
    /// The namespace and account of the caller's certificate.
    pub(crate) caller_name: (&'static str, &'static str),
    pub(crate) callee_name: (&'static str, &'static str),
}

impl Papers {
    pub(crate) fn usual(setting: &Setting) -> Self {
        Self {
            caller: setting.web.clone(),
            callee: setting.orders.clone(),
            caller_name: ("shop", "web"),
            callee_name: ("shop", "orders"),
        }
    }
}

/// Two sidecars at work; whoever asks speaks plain HTTP to `entry`.
pub(crate) struct Edge {
    pub(crate) setting: Setting,
    pub(crate) caller: End,
    pub(crate) callee: End,
}

pub(crate) enum End {
    Envoy(Envoy),
    Sekisho(Sidecar),
}

impl End {
    /// Waits for an access log line about `method path` with this status and, in its details, this text.
    pub(crate) fn logged(&self, method: &str, path: &str, status: u16, details: &str) {
        match self {
            Self::Envoy(envoy) => {
                envoy.logged(&[&format!("{method} {path} "), &format!(" {status} "), details]);
            }
            Self::Sekisho(sidecar) => {
                let path = format!("\"path\":\"{path}\"");
                sidecar.logged(&[
                    &path,
                    &format!("\"method\":\"{method}\""),
                    &format!("\"response_code\":{status},"),
                    details,
                ]);
            }
        }
    }
}

impl Edge {
    /// The usual identities before an application at `app`.
    pub(crate) fn start(caller: Make, callee: Make, version: Version, app: SocketAddr) -> Self {
        let setting = Setting::new();
        let papers = Papers::usual(&setting);
        Self::with(setting, &papers, caller, callee, version, app)
    }

    /// The callee expects shop/web and the caller expects shop/orders, whatever their papers say.
    pub(crate) fn with(
        setting: Setting,
        papers: &Papers,
        caller: Make,
        callee: Make,
        version: Version,
        app: SocketAddr,
    ) -> Self {
        let dir = setting.dir.path().to_owned();
        let at = setting.at;
        let callee = match callee {
            Make::Envoy => {
                End::Envoy(Envoy::callee(&dir, at.inbound, &papers.callee, &spiffe("shop", "web"), app, version))
            }
            Make::Sekisho => {
                setting.dir.write("callee.toml", callee_file(&at, papers, app));
                End::Sekisho(Sidecar::start(&dir, "callee"))
            }
        };
        let caller = match caller {
            Make::Envoy => {
                End::Envoy(Envoy::caller(&dir, &papers.caller, at.inbound, &spiffe("shop", "orders"), version))
            }
            Make::Sekisho => {
                setting.dir.write("caller.toml", caller_file(&at, papers));
                End::Sekisho(Sidecar::start(&dir, "caller"))
            }
        };
        Self { setting, caller, callee }
    }

    /// Where the caller's application enters.
    pub(crate) fn entry(&self) -> SocketAddr {
        match &self.caller {
            End::Envoy(envoy) => envoy.addr(),
            End::Sekisho(_) => self.setting.at.entry,
        }
    }
}

/// `server.toml` of the contract with this edge's rules.
fn callee_file(at: &Addresses, papers: &Papers, app: SocketAddr) -> String {
    let rule = "[[inbound]]\nname = \"web-asks\"\nfrom = \"shop/web\"\nrequests = [\"GET /api/orders/{id:uint}\", \
                \"POST /upload\", \"POST /trailers\"]\n\n[[inbound]]\nname = \"web-calls\"\nfrom = \"shop/web\"\n\
                grpc = [\"echo.Echo/Unary\", \"echo.Echo/Count\", \"echo.Echo/Sum\", \"echo.Echo/Chat\"]\n";
    let text = at.rewrite(support::pair::SERVER).replace(&at.app.to_string(), &app.to_string());
    let (before, _) = text.split_once("[[inbound]]").unwrap();
    json_log(name_papers(before, "shop/orders", papers.callee_name, "orders", &papers.callee)) + rule
}

/// `client.toml` of the contract, which allows everything towards shop/orders.
fn caller_file(at: &Addresses, papers: &Papers) -> String {
    json_log(name_papers(&at.rewrite(support::pair::CLIENT), "shop/web", papers.caller_name, "web", &papers.caller))
}

/// The file with another workload and other certificate files.
fn name_papers(text: &str, old: &str, name: (&str, &str), stem: &str, cert: &Cert) -> String {
    text.replace(&format!("workload = \"{old}\""), &format!("workload = \"{}/{}\"", name.0, name.1))
        .replace(&format!("\"{stem}.pem\""), &format!("\"{}\"", cert.chain.display()))
        .replace(&format!("\"{stem}.key\""), &format!("\"{}\"", cert.key.display()))
}
