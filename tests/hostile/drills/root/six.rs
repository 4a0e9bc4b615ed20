//! Class 116: a host without any IPv4 address, not even 127.0.0.1. The sidecars start with their default listeners, of which those
//! of the absent family are left out, and serve over IPv6 from end to end, mutual TLS between them.

use std::process::Command;

use support::child::{Child, run};
use support::pair::Setting;
use support::{rest, root, tools, wait};

/// The namespace; gone when dropped.
struct Host(String);

impl Host {
    fn without_ipv4() -> Self {
        let host = Self(format!("sk6x{}", std::process::id()));
        for line in ["netns add NAME", "-n NAME link set lo up", "-n NAME addr del 127.0.0.1/8 dev lo"] {
            run(tools::system("ip", "iproute2").args(line.replace("NAME", &host.0).split(' ')));
        }
        host
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = tools::system("ip", "iproute2");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    /// Status and body.
    fn curl(&self, arguments: &[&str]) -> (String, String) {
        let mut command = self.command("curl");
        command.args(["-g", "-s", "-w", "\n%{http_code}", "--max-time", "10", "--noproxy", "*"]).args(arguments);
        let text = String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = tools::system("ip", "iproute2").args(["netns", "del", &self.0]).output();
    }
}

/// The text without these keys, so that their defaults hold.
fn defaults(text: &str) -> String {
    let listeners = ["inbound = \"", "admin = ", "health = ", "metrics = "];
    let kept = text.lines().filter(|line| !listeners.iter().any(|key| line.starts_with(key)));
    kept.map(|line| format!("{line}\n")).collect()
}

const APP: &str = r#"
import http.server, socket
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        said = (self.path + " " + self.headers["x-forwarded-client-cert"]).encode()
        self.send_response(200); self.send_header("content-length", str(len(said))); self.end_headers(); self.wfile.write(said)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
server = Server(("::1", 8080), Answer)
print("ready", flush=True)
server.serve_forever()
"#;

#[test]
fn without_any_ipv4_address_the_pair_serves_over_ipv6() {
    if !root::granted("without_any_ipv4_address_the_pair_serves_over_ipv6") {
        return;
    }
    let host = Host::without_ipv4();
    let six = |text: String| text.replace("127.0.0.1:", "[::1]:");
    // Fixed ports: nobody else lives here.
    let setting = rest::soon(Setting::at(support::pair::Addresses::of_the_contract()))
        .server(|text| six(defaults(&text)))
        .client(six);
    let mut app = Child::start(setting.dir.path(), "app", host.command("python3").args(["-c", APP]));
    app.wait_for("ready");
    let sidecars = ["server", "client"].map(|name| {
        let mut command = host.command(tools::sekisho());
        command.args(["proxy", "-c", &format!("{name}.toml")]).current_dir(setting.dir.path());
        Child::start(setting.dir.path(), name, &mut command)
    });
    for (port, child) in [15021, 15121].into_iter().zip(&sidecars) {
        let ready = || (host.curl(&[&format!("http://[::1]:{port}/healthz/ready")]).0 == "200").then_some(());
        assert!(wait::within(wait::SOON, ready).is_some(), "not ready: {}", child.stderr.tail(10));
    }
    let asked = ["-H", "Host: orders.shop.svc", "http://[::1]:9001/api/orders/42"];
    let (status, body) = host.curl(&asked);
    assert_eq!(status, "200", "{body}");
    assert!(
        body.starts_with("/api/orders/42 By=") && body.contains("URI=spiffe://example.org/ns/shop/sa/web"),
        "{body}"
    );
    let (status, _) = host.curl(&["-H", "Host: orders.shop.svc", "http://[::1]:9001/refused"]);
    assert_eq!(status, "403");
    // The default admin listener is on the loopback of the family that there is.
    assert_eq!(host.curl(&["http://[::1]:15000/ready"]).0, "200");
    assert_eq!(host.curl(&["http://[::1]:15090/stats/prometheus"]).0, "200");
}
