//! Two pods and a node between them, made of network namespaces, and everything that runs in them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use support::child::{Child, run};
use support::pki::Ca;
use support::scratch::Scratch;
use support::{nginx, tools, wait};

use crate::manifest;

/// The pod of the callee, as others on the link address it.
pub(crate) const ORDERS: &str = "10.77.2.2";
/// The same over IPv6.
pub(crate) const ORDERS_V6: &str = "fd77:2::2";
/// The service address of the callee; the node turns it into the pod's.
pub(crate) const SERVICE: &str = "10.96.0.5";
/// A second service address, which the caller's file does not mention.
pub(crate) const BARE_SERVICE: &str = "10.96.0.6";

static WORLDS: AtomicU32 = AtomicU32::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Web,
    Node,
    Orders,
}

/// The whole world. Taken down when dropped.
pub(crate) struct World {
    name: String,
    pub(crate) dir: Scratch,
    pub(crate) web: Option<Child>,
    pub(crate) orders: Option<Child>,
    applications: Vec<Child>,
}

impl World {
    /// Namespaces, links, service addresses and applications; no sidecars and no redirect rules yet.
    pub(crate) fn bare() -> Self {
        let name = format!("sk{}x{}", std::process::id(), WORLDS.fetch_add(1, Ordering::SeqCst));
        let mut world = Self { name, dir: Scratch::new(), web: None, orders: None, applications: Vec::new() };
        world.build();
        world.start_applications();
        world
    }

    /// With redirect rules in both pods and both sidecars ready.
    pub(crate) fn meshed() -> Self {
        let mut world = Self::bare();
        world.write_files();
        world.capture(Place::Web, &manifest::capture_arguments());
        world.capture(Place::Orders, &manifest::capture_arguments());
        world.start_sidecars();
        world
    }

    /// A command inside one namespace, as root and without any sign of a proxy in its environment.
    pub(crate) fn command(&self, place: Place, program: &str) -> Command {
        let mut command = tools::system("ip", "iproute2");
        command.args(["netns", "exec", &self.namespace(place), program]);
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        command
    }

    /// curl with further arguments: its status (000 without an answer) and its body.
    pub(crate) fn curl(&self, place: Place, arguments: &[&str]) -> (String, String) {
        let mut command = self.command(place, "curl");
        command.args(["-s", "-w", "\n%{http_code}", "--max-time", "15", "--noproxy", "*"]);
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }

    /// A shell line inside one namespace; gives whether it succeeded, and its stdout.
    pub(crate) fn shell(&self, place: Place, line: &str) -> (bool, String) {
        let output = self.command(place, "sh").args(["-c", line]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Python with grpcio inside one namespace.
    pub(crate) fn python(&self, place: Place) -> Command {
        let python = tools::python();
        self.command(place, python.get_program().to_str().unwrap())
    }

    /// `sekisho ARGUMENTS` as the init container runs it: root, with NET_ADMIN and NET_RAW and nothing else.
    pub(crate) fn capture(&self, place: Place, arguments: &[String]) -> String {
        let mut command = self.command(place, "setpriv");
        command.args(["--bounding-set", "-all,+net_admin,+net_raw", "--inh-caps", "-all", "--no-new-privs", "--"]);
        run(command.arg(self.binary()).args(arguments))
    }

    /// Starts both sidecars as UID 1337 without any capability, and waits until they are ready.
    pub(crate) fn start_sidecars(&mut self) {
        self.orders = Some(self.start_sidecar(Place::Orders));
        self.web = Some(self.start_sidecar(Place::Web));
        for place in [Place::Orders, Place::Web] {
            wait::until("a sidecar in its pod to be ready", wait::SOON, || {
                let (status, _) = self.curl(place, &["http://127.0.0.1:15021/healthz/ready"]);
                (status == "200").then_some(())
            });
        }
    }

    /// The callee's applications, as their logs show them: how many requests or connections they saw.
    pub(crate) fn nginx_log(&self) -> Vec<String> {
        self.applications[0].stdout.lines()
    }

    /// What one sidecar said on stdout.
    pub(crate) fn access_log(&self, place: Place) -> Vec<String> {
        let child = if place == Place::Web { &self.web } else { &self.orders };
        child.as_ref().map(|child| child.stdout.lines()).unwrap_or_default()
    }

    /// Records everything that crosses the link between the node and the callee's pod.
    pub(crate) fn record_link(&self) -> (Child, PathBuf) {
        let file = self.dir.join("link.pcap");
        let mut command = self.command(Place::Node, "tcpdump");
        // 64 MiB of buffer: a recording with holes would fail the test for the recorder's sake.
        command
            .args(["-i", "orders", "--immediate-mode", "-B", "65536", "-U", "-n", "-s", "0", "-Z", "root", "-w"])
            .arg(&file);
        let child = Child::start(self.dir.path(), "tcpdump", &mut command);
        child.stderr.wait_for_line("listening on", |line| line.contains("listening on"));
        (child, file)
    }

    fn start_sidecar(&self, place: Place) -> Child {
        let name = if place == Place::Web { "web" } else { "orders" };
        let mut command = self.command(place, "setpriv");
        command.args(["--reuid", "1337", "--regid", "1337", "--clear-groups", "--inh-caps", "-all"]);
        command.args(["--bounding-set", "-all", "--no-new-privs", "--"]).arg(self.binary());
        let file = self.dir.join(format!("{name}.toml")).display().to_string();
        for argument in manifest::proxy_arguments() {
            command.arg(argument.replace("/etc/sekisho/sekisho.toml", &file));
        }
        Child::start(self.dir.path(), &format!("sidecar-{name}"), &mut command)
    }

    /// The binary where every user can reach it.
    fn binary(&self) -> PathBuf {
        let path = self.dir.join("sekisho");
        if !path.exists() {
            std::fs::copy(tools::sekisho(), &path).unwrap();
        }
        path
    }

    pub(crate) fn write_files(&self) {
        let ca = Ca::init(self.dir.path());
        for name in ["web", "orders"] {
            let cert = ca.issue(name, "shop", name);
            run(Command::new("chown").arg("1337").arg(cert.key));
        }
        let secrets = |text: String, name: &str| {
            let path = |file: &str| self.dir.join(file).display().to_string();
            text.replace("/var/run/secrets/sekisho/cert.pem", &path(&format!("{name}.pem")))
                .replace("/var/run/secrets/sekisho/key.pem", &path(&format!("{name}.key")))
                .replace("/var/run/secrets/sekisho/roots.pem", &path("roots.pem"))
        };
        self.dir.write("orders.toml", secrets(manifest::rules() + MORE_INBOUND, "orders"));
        let (identity, _) =
            manifest::rules().split_once("[[inbound]]").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let web = identity.replace("shop/orders", "shop/web") + OUTBOUND;
        self.dir.write("web.toml", secrets(web, "web"));
    }

    fn build(&self) {
        let ip = |line: String| {
            run(tools::system("ip", "iproute2").args(line.split(' ')));
        };
        let [web, node, orders] = [Place::Web, Place::Node, Place::Orders].map(|place| self.namespace(place));
        for namespace in [&web, &node, &orders] {
            ip(format!("netns add {namespace}"));
            ip(format!("-n {namespace} link set lo up"));
        }
        for (namespace, link, net) in [(&web, "web", 1), (&orders, "orders", 2)] {
            ip(format!("-n {node} link add {link} type veth peer name eth0 netns {namespace}"));
            ip(format!("-n {node} addr add 10.77.{net}.1/24 dev {link}"));
            ip(format!("-n {node} addr add fd77:{net}::1/64 dev {link} nodad"));
            ip(format!("-n {node} link set {link} up"));
            ip(format!("-n {namespace} addr add 10.77.{net}.2/24 dev eth0"));
            ip(format!("-n {namespace} addr add fd77:{net}::2/64 dev eth0 nodad"));
            ip(format!("-n {namespace} link set eth0 up"));
            ip(format!("-n {namespace} route add default via 10.77.{net}.1"));
            ip(format!("-n {namespace} -6 route add default via fd77:{net}::1"));
        }
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        assert!(self.shell(Place::Node, forward).0);
        // What kube-proxy does for a service of one pod.
        for (service, port, target) in SERVICES {
            let line = format!(
                "-t nat -A PREROUTING -d {service} -p tcp --dport {port} -j DNAT --to-destination {ORDERS}:{target}"
            );
            run(self.command(Place::Node, "iptables").args(line.split(' ')));
        }
    }

    fn start_applications(&mut self) {
        let dir = self.dir.path().to_owned();
        let config = nginx::write_config(&dir, "8080; listen [::]:8080");
        let mut command = self.command(Place::Orders, "nginx");
        let nginx = Child::start(&dir, "nginx", command.arg("-c").arg(config).arg("-p").arg(&dir));
        let mut command = self.command(Place::Orders, "redis-server");
        command
            .args(["--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir"])
            .arg(&dir);
        let redis = Child::start(&dir, "redis", &mut command);
        let mut command = self.python(Place::Orders);
        command.arg(tools::script("grpc_peer.py")).args(["serve", "0.0.0.0:9090"]).arg(self.dir.join("grpc.log"));
        let mut grpc = Child::start(&dir, "grpc", &mut command);
        grpc.wait_for("ready");
        let mut command = self.command(Place::Orders, "python3");
        let mut banner = Child::start(&dir, "banner", command.args(["-c", BANNER]));
        banner.wait_for("ready");
        // An application of somebody else, outside of every mesh: on the node, ports 8000 and 8001.
        let mut command = self.command(Place::Node, "python3");
        let mut outside = Child::start(&dir, "outside", command.args(["-c", OUTSIDE]));
        outside.wait_for("ready");
        self.applications = vec![nginx, redis, grpc, banner, outside];
        wait::until("the applications to answer", wait::SOON, || {
            let (status, _) = self.curl(Place::Orders, &["http://127.0.0.1:8080/"]);
            (status == "200" && self.shell(Place::Orders, "redis-cli -h 127.0.0.1 ping").1.trim() == "PONG")
                .then_some(())
        });
    }

    fn namespace(&self, place: Place) -> String {
        let ending = match place {
            Place::Web => "w",
            Place::Node => "n",
            Place::Orders => "o",
        };
        format!("{}{ending}", self.name)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Processes first: a namespace lives as long as anything in it.
        self.web = None;
        self.orders = None;
        self.applications.clear();
        for place in [Place::Web, Place::Node, Place::Orders] {
            let _ = tools::system("ip", "iproute2").args(["netns", "del", &self.namespace(place)]).output();
        }
    }
}

/// Service address, its port, the pod's port.
const SERVICES: [(&str, u16, u16); 5] = [
    (SERVICE, 80, 8080),
    (SERVICE, 9090, 9090),
    (SERVICE, 6379, 6379),
    (SERVICE, 2525, 2525),
    (BARE_SERVICE, 8080, 8080),
];

/// A server that speaks first, like a mail or MySQL server, and then says what it heard.
const BANNER: &str = r#"
import socket, threading
listener = socket.create_server(("0.0.0.0", 2525))
print("ready", flush=True)
def serve(one):
    with one:
        one.sendall(b"220 speaks first\r\n")
        one.sendall(b"250 " + one.recv(1000))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// Plain HTTP on two ports, over IPv4 and IPv6.
const OUTSIDE: &str = r#"
import http.server, socket, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "7"); self.end_headers(); self.wfile.write(b"outside")
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
for port in (8000, 8001):
    threading.Thread(target=Server(("::", port), Answer).serve_forever).start()
print("ready", flush=True)
"#;

/// Beside the manifest's one rule: gRPC, Redis, and the server that speaks first.
const MORE_INBOUND: &str = r#"
[[inbound]]
name = "web-calls-echo"
from = "shop/web"
ports = [9090]
grpc = ["echo.Echo/Unary", "echo.Echo/Count", "echo.Echo/Sum", "echo.Echo/Chat"]

[[inbound]]
name = "web-uses-redis"
from = "shop/web"
ports = [6379]
protocol = "tcp"

[[inbound]]
name = "web-reads-banner"
from = "shop/web"
ports = [2525]
protocol = "tcp"
"#;

/// The caller's side: one service by its address, the rest by original destination, one address outside.
const OUTBOUND: &str = r#"
[[service]]
name = "orders"
hosts = ["orders.shop.svc"]
identity = "shop/orders"
addresses = ["10.96.0.5:80"]
endpoints = ["10.77.2.2:8080"]

[[outbound]]
name = "web-to-orders"
to = "shop/orders"
ports = [80, 8080, 9090]

[[outbound]]
name = "web-to-orders-tcp"
to = "shop/orders"
ports = [6379, 2525]
protocol = "tcp"

[[outbound]]
name = "one-address-outside"
to_cidr = ["10.77.1.1/32"]
ports = [8000]
"#;
