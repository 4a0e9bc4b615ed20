//! The demo's world: a folder, a CA, the files, the applications, and the sidecars as processes.

use super::{Style, apps, eventually, sensor::Sensor};
use ca::Authority;
use identity::{SpiffeId, TrustDomain};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

/// Everything that runs. Dropping it ends it.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    keep: bool,
    pub(crate) sensor: Sensor,
    pub(crate) orders: apps::Seen,
    pub(crate) orders_db: apps::Seen,
    pub(crate) impostor: apps::Seen,
    pub(crate) at: Addresses,
    sidecars: BTreeMap<&'static str, Child>,
}

/// Where things listen, all on 127.0.0.1.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    /// `web`'s own door to `orders`.
    pub(crate) web_orders: SocketAddr,
    /// `web`'s door to an endpoint at which an impostor answers.
    pub(crate) web_impostor: SocketAddr,
    /// The attacker's door to `orders`.
    pub(crate) attacker_orders: SocketAddr,
    /// The checkpoint before `orders`.
    pub(crate) orders_inbound: SocketAddr,
    pub(crate) orders_admin: SocketAddr,
}

const TRUST_DOMAIN: &str = "demo.example";

impl World {
    pub(crate) fn build(keep: bool) -> Result<Self, String> {
        let dir = std::env::temp_dir().join(format!("sekisho-demo-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        certificates(&dir)?;
        let sensor = Sensor::start()?;
        let mut ports = Ports::new();
        let (orders_app, orders_app_at) = ports.listener()?;
        let (db_app, db_app_at) = ports.listener()?;
        let (impostor_app, impostor_app_at) = ports.listener()?;
        let [
            web_orders,
            web_impostor,
            attacker_orders,
            orders_inbound,
            orders_db,
            db_inbound,
            attacker_inbound,
            orders_admin,
        ] = ports.free()?;
        let at = Addresses { web_orders, web_impostor, attacker_orders, orders_inbound, orders_admin };

        let mut file = |name: &str, text: String, admin: Option<SocketAddr>| -> Result<(), String> {
            let [health, metrics, spare] = ports.free()?;
            let admin = admin.unwrap_or(spare);
            let text = text.replace(
                "$PROXY",
                &format!("capture = \"none\"\nadmin = \"{admin}\"\nhealth = \"{health}\"\nmetrics = \"{metrics}\""),
            );
            fs::write(dir.join(format!("{name}.toml")), text).map_err(|error| error.to_string())
        };
        file("web", web_file(&at, attacker_inbound), None)?;
        file("orders", orders_file(&at, orders_app_at, orders_db, db_inbound, sensor.address), Some(orders_admin))?;
        file("orders-db", orders_db_file(db_inbound, db_app_at), None)?;
        file("attacker", attacker_file(&at, attacker_inbound, impostor_app_at), None)?;
        // The same file as it will be after the reload of a later scene, with the same ports.
        let reloaded = fs::read_to_string(dir.join("orders.toml")).map_err(|error| error.to_string())?;
        let reloaded = reloaded.replace("requests = [\"GET,HEAD", "requests = [\"POST /api/orders\", \"GET,HEAD");
        fs::write(dir.join("orders.next"), reloaded).map_err(|error| error.to_string())?;

        let mut world = Self {
            keep,
            sensor,
            orders: apps::orders(orders_app, orders_db),
            orders_db: apps::orders_db(db_app),
            impostor: apps::orders(impostor_app, orders_db),
            at,
            sidecars: BTreeMap::new(),
            dir,
        };
        for name in ["web", "orders", "orders-db", "attacker"] {
            world.start(name)?;
        }
        Ok(world)
    }

    /// Starts a sidecar by the command a pod runs, and waits until it is ready.
    fn start(&mut self, name: &'static str) -> Result<(), String> {
        let binary = std::env::current_exe().map_err(|error| error.to_string())?;
        let file =
            |suffix: &str| File::create(self.dir.join(format!("{name}.{suffix}"))).map_err(|error| error.to_string());
        let child = Command::new(binary)
            .args(["proxy", "-c"])
            .arg(self.dir.join(format!("{name}.toml")))
            .stdin(Stdio::null())
            .stdout(file("access.log")?)
            .stderr(file("events.log")?)
            .spawn()
            .map_err(|error| error.to_string())?;
        self.sidecars.insert(name, child);
        let events = self.dir.join(format!("{name}.events.log"));
        let started = || fs::read_to_string(&events).unwrap_or_default();
        if eventually(Duration::from_secs(10), || started().contains("\"started\"")) {
            Ok(())
        } else {
            Err(format!("the sidecar of {name} did not start:\n{}", started()))
        }
    }

    /// The newest refusal that `sidecar` reported and that `matches`, once it is there.
    pub(crate) fn refusal(&self, sidecar: &str, matches: &str) -> Option<Refusal> {
        let path = self.dir.join(format!("{sidecar}.events.log"));
        let mut found = None;
        eventually(Duration::from_secs(5), || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            found = text
                .lines()
                .rev()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .filter(|line| text_of(line, "event").is_some_and(|event| event.ends_with("refused")))
                .find(|line| line.to_string().contains(matches))
                .map(|line| Refusal {
                    reason: text_of(&line, "reason").unwrap_or_default(),
                    rule: text_of(&line, "rule").unwrap_or_default(),
                    peer: text_of(&line, "peer").unwrap_or_else(|| "no identity".to_owned()),
                    detail: text_of(&line, "detail").unwrap_or_default(),
                });
            found.is_some()
        });
        found
    }

    /// What `GET path` on the admin port of `orders` says.
    pub(crate) fn admin(&self, path: &str) -> Result<String, String> {
        super::client::request(self.at.orders_admin, "GET", path, "admin", "").map(|answer| answer.body)
    }

    pub(crate) fn introduce(&self, style: &Style) {
        out!("{}", style.bold("Three workloads, each behind its own sidecar; the wire between sidecars is mutual TLS"));
        out!("  web ──▶ orders ──▶ orders-db          every certificate comes from a CA made a moment ago");
        out!("           ▲   ╲");
        out!("     attacker    ──▶ IDS (VXLAN, {})", self.sensor.address);
        out!("  folder: {}", self.dir.display());
    }

    pub(crate) fn invite(&self, style: &Style) {
        out!("\n{}", style.bold("Everything stays up until ^C. Try:"));
        out!("  curl -i http://{}/api/orders/7", self.at.web_orders);
        out!("  curl -i -X DELETE http://{}/api/orders/7", self.at.web_orders);
        out!("  curl -i http://{}/api/orders/7      # the attacker", self.at.attacker_orders);
        out!("  curl http://{}/policy/status", self.at.orders_admin);
        out!("  tail -f {}/*.log", self.dir.display());
    }
}

/// A refusal line, read back.
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) rule: String,
    pub(crate) peer: String,
    pub(crate) detail: String,
}

impl Refusal {
    pub(crate) fn line(&self) -> String {
        format!("refused: {} (rule: {}; peer: {})", self.detail, self.rule, self.peer)
    }
}

fn text_of(line: &serde_json::Value, field: &str) -> Option<String> {
    line.get(field)?.as_str().map(str::to_owned)
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.sidecars.values_mut() {
            // At once: nothing in the demo's world is worth a drain.
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.keep {
            out!("kept: {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Free ports below the range the kernel hands out by itself, so that no connection takes one between choice and use.
struct Ports {
    next: u16,
}

impl Ports {
    fn new() -> Self {
        // Demos that run side by side begin in different places.
        let spread = u16::try_from(std::process::id() % 100).unwrap_or(0);
        Self { next: 20_000 + spread * 100 }
    }

    fn listener(&mut self) -> Result<(TcpListener, SocketAddr), String> {
        for _ in 0..1000 {
            self.next = if self.next >= 32_000 { 20_000 } else { self.next + 1 };
            let address = SocketAddr::from(([127, 0, 0, 1], self.next));
            if let Ok(listener) = TcpListener::bind(address) {
                return Ok((listener, address));
            }
        }
        Err("no free port between 20000 and 32000".to_owned())
    }

    fn free<const N: usize>(&mut self) -> Result<[SocketAddr; N], String> {
        let mut addresses = Vec::with_capacity(N);
        for _ in 0..N {
            addresses.push(self.listener()?.1);
        }
        addresses.try_into().map_err(|_| "ports".to_owned())
    }
}

fn certificates(dir: &Path) -> Result<(), String> {
    let now = SystemTime::now();
    let trust_domain = TrustDomain::parse(TRUST_DOMAIN).map_err(|error| error.to_string())?;
    let authority = Authority::init(&trust_domain, now).map_err(|error| error.to_string())?;
    let issuer = authority.intermediate(now).map_err(|error| error.to_string())?;
    fs::write(dir.join("roots.pem"), authority.root_pem()).map_err(|error| error.to_string())?;
    for (name, workload) in [
        ("web", "shop/web"),
        ("orders", "shop/orders"),
        ("orders-db", "shop/orders-db"),
        ("attacker", "other/attacker"),
    ] {
        let id = SpiffeId::workload(&trust_domain, workload).map_err(|error| error.to_string())?;
        let (issued, key) = issuer
            .issue_with_new_key(&ca::attest::Attested::by_operator(id.clone()), Duration::from_secs(3600), now)
            .map_err(|error| error.to_string())?;
        fs::write(dir.join(format!("{name}.pem")), issued.chain_pem()).map_err(|error| error.to_string())?;
        private(&dir.join(format!("{name}.key")), &key).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

fn head(name: &str, workload: &str) -> String {
    format!(
        "schema = 1\nworkload = \"{workload}\"\ntrust_domain = \"{TRUST_DOMAIN}\"\nmode = \"enforce\"\n\n\
         [identity]\nsource = \"files\"\ncert = \"{name}.pem\"\nkey = \"{name}.key\"\nbundle = \"roots.pem\"\n\n\
         [log]\nformat = \"json\"\n\n[proxy]\n$PROXY\n"
    )
}

fn web_file(at: &Addresses, impostor: SocketAddr) -> String {
    format!(
        "{}\n[[service]]\nname = \"orders\"\nidentity = \"shop/orders\"\nendpoints = [\"{}\"]\nbind = \"{}\"\n\n\
         [[service]]\nname = \"orders-elsewhere\"\nidentity = \"shop/orders\"\nendpoints = [\"{impostor}\"]\nbind = \"{}\"\n\n\
         [[outbound]]\nname = \"web-to-orders\"\nto = \"shop/orders\"\n",
        head("web", "shop/web"),
        at.orders_inbound,
        at.web_orders,
        at.web_impostor
    )
}

fn orders_file(at: &Addresses, app: SocketAddr, db_door: SocketAddr, db: SocketAddr, sensor: SocketAddr) -> String {
    format!(
        "{}inbound = \"{}\"\n\n[app]\naddress = \"{app}\"\n\n\
         [[service]]\nname = \"orders-db\"\nidentity = \"shop/orders-db\"\nendpoints = [\"{db}\"]\nbind = \"{db_door}\"\nprotocol = \"tcp\"\n\n\
         [[inbound]]\nname = \"web-reads-orders\"\nfrom = \"shop/web\"\n\
         requests = [\"GET,HEAD /api/orders\", \"GET,HEAD /api/orders/{{id:uint}}\"]\n\n\
         [[outbound]]\nname = \"orders-to-db\"\nto = \"shop/orders-db\"\nprotocol = \"tcp\"\n\n\
         [[tap]]\nname = \"ids\"\nto_sensor = \"vxlan://{sensor}?vni=42\"\n",
        head("orders", "shop/orders"),
        at.orders_inbound
    )
}

fn orders_db_file(inbound: SocketAddr, app: SocketAddr) -> String {
    format!(
        "{}inbound = \"{inbound}\"\n\n[app]\naddress = \"{app}\"\nprotocol = \"tcp\"\n\n\
         [[inbound]]\nname = \"only-orders\"\nfrom = \"shop/orders\"\nprotocol = \"tcp\"\n",
        head("orders-db", "shop/orders-db")
    )
}

fn attacker_file(at: &Addresses, inbound: SocketAddr, app: SocketAddr) -> String {
    format!(
        "{}inbound = \"{inbound}\"\n\n[app]\naddress = \"{app}\"\n\n\
         [[service]]\nname = \"orders\"\nidentity = \"shop/orders\"\nendpoints = [\"{}\"]\nbind = \"{}\"\n\n\
         [[inbound]]\nname = \"come-in\"\nfrom = \"anyone\"\n\n\
         [[outbound]]\nname = \"get-out\"\nto = \"shop/orders\"\n",
        head("attacker", "other/attacker"),
        at.orders_inbound,
        at.attacker_orders
    )
}
