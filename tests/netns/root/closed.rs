//! What stays shut: plain callers, IPv6, the sidecar's own ports, and everything once the sidecar is dead.

use support::{root, wait};

use crate::manifest;
use crate::world::{ORDERS, ORDERS_V6, Place, SERVICE, World};

#[test]
fn with_the_sidecar_dead_nothing_passes() {
    if !root::granted("with_the_sidecar_dead_nothing_passes") {
        return;
    }
    let mut world = World::meshed();
    let ask = |world: &World| world.curl(Place::Web, &[&format!("http://{SERVICE}/api/orders/42")]).0;
    assert_eq!(ask(&world), "200");
    let seen = world.nginx_log().len();

    // The caller's sidecar alone, then both; each time from the application's place and from outside.
    world.web.as_mut().unwrap().kill();
    assert_eq!(ask(&world), "000");
    for line in ["http://10.77.1.1:8000/", &format!("http://{ORDERS}:8080/api/orders/42")] {
        assert_eq!(world.curl(Place::Web, &["--max-time", "4", line]).0, "000", "{line}");
    }
    world.orders.as_mut().unwrap().kill();
    for place in [Place::Web, Place::Node] {
        for port in [8080, 9090, 6379, 2525] {
            assert_no_connection(&world, place, ORDERS, port);
        }
    }
    // The callee's application cannot get out either.
    assert_eq!(world.curl(Place::Orders, &["--max-time", "4", "http://10.77.2.1:8000/"]).0, "000");
    assert_eq!(world.nginx_log().len(), seen);

    world.start_sidecars();
    assert_eq!(ask(&world), "200", "a new sidecar does not take over");
}

#[test]
fn a_caller_without_a_sidecar_gets_no_answer() {
    if !root::granted("a_caller_without_a_sidecar_gets_no_answer") {
        return;
    }
    let world = World::meshed();
    let seen = world.nginx_log().len();
    for port in [8080, 9090, 6379] {
        let url = format!("http://{ORDERS}:{port}/api/orders/42");
        assert_eq!(world.curl(Place::Node, &["--max-time", "8", &url]), ("000".to_owned(), String::new()), "{port}");
    }
    let redis = format!("timeout 8 redis-cli -h {ORDERS} ping");
    assert_ne!(world.shell(Place::Node, &redis).1.trim(), "PONG");
    assert_eq!(world.nginx_log().len(), seen);
}

#[test]
fn ipv6_is_dropped_in_both_directions() {
    if !root::granted("ipv6_is_dropped_in_both_directions") {
        return;
    }
    let mut world = World::bare();
    let inward = format!("http://[{ORDERS_V6}]:8080/api/orders/42");
    let outward = "http://[fd77:1::1]:8000/";
    assert_eq!(world.curl(Place::Web, &[&inward]).0, "200", "without rules IPv6 has to work, or this proves nothing");
    assert_eq!(world.curl(Place::Web, &[outward]).0, "200");

    world.close_and_mesh();
    let seen = world.nginx_log().len();
    for place in [Place::Web, Place::Node] {
        assert_eq!(world.curl(place, &["--max-time", "4", &inward]).0, "000");
    }
    assert_eq!(world.curl(Place::Web, &["--max-time", "4", outward]).0, "000");
    assert_eq!(world.nginx_log().len(), seen);
    assert_eq!(world.curl(Place::Web, &[&format!("http://{SERVICE}/api/orders/42")]).0, "200");
}

#[test]
fn the_sidecars_own_ports_are_no_way_in_and_no_loop() {
    if !root::granted("the_sidecars_own_ports_are_no_way_in_and_no_loop") {
        return;
    }
    let world = World::meshed();
    for (place, url) in [
        (Place::Node, format!("http://{ORDERS}:15006/api/orders/42")),
        (Place::Node, format!("http://{ORDERS}:15001/api/orders/42")),
        (Place::Node, format!("http://{ORDERS}:15000/server_info")),
        (Place::Orders, "http://127.0.0.1:15006/api/orders/42".to_owned()),
        (Place::Orders, "http://127.0.0.1:15001/api/orders/42".to_owned()),
        (Place::Web, "http://127.0.0.1:15001/api/orders/42".to_owned()),
        (Place::Web, format!("http://{ORDERS}:15006/api/orders/42")),
        (Place::Web, format!("http://{ORDERS}:15001/api/orders/42")),
    ] {
        let (status, body) = world.curl(place, &["--max-time", "8", &url]);
        assert_ne!(status, "200", "{place:?} {url}: {body}");
        assert!(!body.contains("nginx"), "{place:?} {url}: {body}");
    }
    for place in [Place::Web, Place::Orders] {
        let line = world.access_log(place).len();
        assert!(line < 50, "{place:?} wrote {line} lines: it talks to itself");
        assert_eq!(world.curl(place, &["http://127.0.0.1:15021/healthz/ready"]).0, "200");
    }
    // Health and metrics are what the outside may ask for.
    for path in ["15021/healthz/ready", "15090/stats/prometheus"] {
        assert_eq!(world.curl(Place::Node, &[&format!("http://{ORDERS}:{path}")]).0, "200", "{path}");
    }
    assert_eq!(world.curl(Place::Web, &[&format!("http://{SERVICE}/api/orders/42")]).0, "200");
}

#[test]
fn the_callees_application_reaches_itself_over_loopback() {
    if !root::granted("the_callees_application_reaches_itself_over_loopback") {
        return;
    }
    let world = World::meshed();
    assert_eq!(world.curl(Place::Orders, &["http://127.0.0.1:8080/anything"]).0, "200");
    assert_eq!(world.curl(Place::Orders, &["http://localhost:8080/anything"]).0, "200");
}

/// No payload comes back from there, whatever is sent.
fn assert_no_connection(world: &World, place: Place, address: &str, port: u16) {
    let script = format!(
        "import socket\ntry:\n    one = socket.create_connection(('{address}', {port}), timeout=3)\n    \
         one.sendall(b'PING\\r\\n'); print(one.recv(100))\nexcept OSError:\n    print('nothing')"
    );
    let output = world.command(place, "python3").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(said == "nothing" || said == "b''", "{place:?} to {address}:{port}: {said}");
}

impl World {
    /// Redirect rules in both pods and both sidecars, for a world that was bare.
    fn close_and_mesh(&mut self) {
        self.write_files();
        self.capture(Place::Web, &manifest::capture_arguments());
        self.capture(Place::Orders, &manifest::capture_arguments());
        self.start_sidecars();
        wait::until("the pair to work", wait::SOON, || {
            (self.curl(Place::Web, &[&format!("http://{SERVICE}/api/orders/42")]).0 == "200").then_some(())
        });
    }
}
