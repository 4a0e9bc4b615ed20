//! The pair that is measured: the files of the contract with one worker each, in the shapes whose cost is compared.
//!
//! In: a [`Shape`]. Out: both sidecars under whatever command the measurement wraps them in, ready, with an origin behind
//! them and one allowed and one forbidden request already tried.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::child::Child;
use support::pair::{HOST, Setting};
use support::sidecar::Sidecar;
use support::{tools, wait, wire};

use crate::load::{BODY, Origin, PATH};
use crate::rules;

/// What is on beyond mutual TLS, one rule and metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    /// HTTP/2 from the load through both sidecars to the origin.
    pub(crate) http2: bool,
    /// Format of the access log, which goes to a file; none is off.
    pub(crate) log: Option<&'static str>,
    /// Ten thousand rules at the callee.
    pub(crate) rules: bool,
    /// A tap at the callee, with these lines in its table: none of them, and everything is copied.
    pub(crate) tap: Option<&'static str>,
    /// A tap at each side that looks at requests and selects none of the load.
    pub(crate) tap_apart: bool,
}

/// A selection that no measured request is in.
pub(crate) const NOT_SELECTED: &str = "requests = [\"POST /api/other/{id:uint}\"]\nhosts = [\"other.shop.svc\"]";

/// Folder, certificates, both files, a running origin. Everything ends with it.
pub(crate) struct Ground {
    setting: Setting,
    shape: Shape,
    _origin: AnyOrigin,
    /// Takes the packets and reads none of them.
    _sensor: UdpSocket,
}

/// Selects nothing of the load, but has to read every request to know.
const APART: &str = "\ndirection = \"both\"\nrequests = \"POST /nothing/of/this\"\n";

enum AnyOrigin {
    Http1 { _origin: Origin },
    Http2 { _nginx: Child },
}

impl Ground {
    /// Writes the files and starts the origin.
    pub(crate) fn new(shape: Shape) -> Self {
        let setting = Setting::new();
        let sensor = UdpSocket::bind(setting.at.sensor).unwrap();
        let log = |dir: &Path, side: &str| match shape.log {
            None => "[log]\naccess = \"off\"\n\n".to_owned(),
            Some(format) => format!("[log]\naccess = \"file:{}\"\nformat = \"{format}\"\n\n", dir.join(side).display()),
        };
        let common = |text: String, log: String| text.replace("[proxy]\n", &format!("{log}[proxy]\nworkers = 1\n"));
        let (server, client) = (log(setting.dir.path(), "callee.log"), log(setting.dir.path(), "caller.log"));
        let apart = if shape.tap_apart {
            format!("\n[[tap]]\nname = \"apart\"\nto_sensor = \"vxlan://127.0.0.1:4789?vni=1\"{APART}")
        } else {
            String::new()
        };
        let setting = setting.client(|text| common(text, client) + &apart).server(|text| {
            let text = common(text, server);
            let (without_tap, tap) = text.split_once("[[tap]]").unwrap();
            let tap = match shape {
                Shape { tap: Some(lines), .. } => format!("[[tap]]\n{lines}{tap}"),
                Shape { tap_apart: true, .. } => format!("[[tap]]{tap}{APART}"),
                _ => String::new(),
            };
            let rules = if shape.rules { rules::ten_thousand() } else { String::new() };
            format!("{without_tap}{rules}{tap}")
        });
        let at = setting.at.app;
        let origin = if shape.http2 {
            AnyOrigin::Http2 { _nginx: http2_origin(setting.dir.path(), at) }
        } else {
            AnyOrigin::Http1 { _origin: Origin::start(at) }
        };
        Self { setting, shape, _origin: origin, _sensor: sensor }
    }

    /// Where the caller's application enters.
    pub(crate) fn entry(&self) -> SocketAddr {
        self.setting.at.entry
    }

    /// The folder of files and certificates.
    pub(crate) fn dir(&self) -> &Path {
        self.setting.dir.path()
    }

    /// The file of a side.
    pub(crate) fn file(&self, side: &str) -> PathBuf {
        self.dir().join(format!("{}.toml", file_name(side)))
    }

    /// Starts the release binary as one side; `wrap` is the command and the arguments it runs under.
    pub(crate) fn start(&self, side: &str, wrap: Option<Command>) -> Sidecar {
        let binary = release_binary();
        let mut command = match wrap {
            None => Command::new(binary),
            Some(mut wrap) => {
                wrap.arg(binary);
                wrap
            }
        };
        command.args(["proxy", "-c"]).arg(self.file(side)).current_dir(self.dir());
        Sidecar::start_by(&mut command, self.dir(), file_name(side))
    }

    /// Waits until both are ready, and sees that the rule is in force: one request passes whole, another is refused.
    pub(crate) fn prove(&self, sidecars: &mut [&mut Sidecar]) {
        for sidecar in sidecars {
            wait::until("a measured sidecar", PATIENCE, || {
                assert!(sidecar.child.is_running(), "the sidecar ended: {}", sidecar.child.stderr.text());
                sidecar.is_ready().then_some(())
            });
        }
        if !self.shape.http2 {
            let reply = wire::get(self.entry(), HOST, PATH).unwrap();
            assert_eq!((reply.status(), reply.body.len()), (200, BODY), "{}", reply.text());
            assert_eq!(wire::get(self.entry(), HOST, "/api/admin").unwrap().status(), 403);
        }
    }
}

/// Under valgrind a file of ten thousand rules takes seconds to be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// As the contract calls the files.
fn file_name(side: &str) -> &'static str {
    match side {
        "caller" => "client",
        "callee" => "server",
        other => panic!("no side {other}"),
    }
}

/// What is measured. Limits for the release build say nothing about another.
fn release_binary() -> PathBuf {
    let named = std::env::var_os("SEKISHO_BIN").is_some();
    assert!(named, "costs are measured on the release binary: `just cost`, or SEKISHO_BIN=target/release/sekisho");
    tools::sekisho()
}

/// nginx with HTTP/2 in clear text and by prior knowledge, 1 KiB for every request.
fn http2_origin(dir: &Path, at: SocketAddr) -> Child {
    let path = dir.join("nginx.conf");
    let text = format!(
        "daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\nhttp {{\n  \
         access_log off;\n  client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  \
         fastcgi_temp_path {dir}/fastcgi;\n  uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n  \
         keepalive_requests 1000000;\n  server {{\n    listen {at} http2;\n    location / {{\n      \
         default_type application/octet-stream;\n      return 200 \"{body}\";\n    }}\n  }}\n}}\n",
        dir = dir.display(),
        body = "x".repeat(BODY),
    );
    std::fs::write(&path, text).unwrap();
    let mut command = tools::system("nginx", "nginx");
    let child = Child::start(dir, "nginx", command.arg("-c").arg(&path).arg("-p").arg(dir));
    wait::until("nginx to listen", wait::SOON, || std::net::TcpStream::connect(at).ok());
    child
}
