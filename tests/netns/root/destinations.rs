//! Classes 99 and 100: destinations that lead back to the sidecar, by every name that a local address has, and destinations that
//! are no place at all. Each is refused, nothing goes round in circles, and others are served.

use support::{root, wait};

use crate::world::{ORDERS, Place, SERVICE, World};

/// Connects to each of these, as a user, sends a request, and says what came back: one JSON array of `[address, port, text]`.
/// The wait is longer than the sidecar's for a connection.
const ASK: &str = r#"
import encodings.latin_1, encodings.idna, json, os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
said = []
for address, port in json.loads(sys.argv[1]):
    try:
        one = socket.create_connection((address, port), timeout=5)
        one.settimeout(15)
        one.sendall(b"GET /api/orders/42 HTTP/1.1\r\nHost: nowhere.example\r\nConnection: close\r\n\r\n")
        text = b""
        while True:
            more = one.recv(65536)
            if not more: break
            text += more
        said.append([address, port, text.decode("latin-1")])
    except socket.timeout:
        said.append([address, port, "held open"])
    except OSError as error:
        said.append([address, port, "error " + str(error)])
print(json.dumps(said))
"#;

fn ask(world: &World, place: Place, destinations: &[(String, u16)]) -> Vec<(String, u16, String)> {
    ask_as("0", world, place, destinations)
}

fn ask_as(user: &str, world: &World, place: Place, destinations: &[(String, u16)]) -> Vec<(String, u16, String)> {
    let list = serde_json::to_string(destinations).unwrap();
    let output = world.command(place, "python3").args(["-c", ASK, &list, user]).output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// CPU time of a sidecar so far, in ticks (proc_pid_stat(5), fields 14 and 15).
fn ticks(world: &World, place: Place) -> u64 {
    let child = if place == Place::Web { &world.web } else { &world.orders };
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.as_ref().unwrap().id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn assert_still_serving(world: &World) {
    assert_eq!(world.curl(Place::Web, &[&format!("http://{SERVICE}/api/orders/42")]).0, "200");
}

#[test]
fn the_sidecars_ports_by_any_local_address_are_refused() {
    if !root::granted("the_sidecars_ports_by_any_local_address_are_refused") {
        return;
    }
    let world = World::meshed();
    assert_still_serving(&world);
    for (place, own, own_v6) in [(Place::Web, "10.77.1.2", "fd77:1::2"), (Place::Orders, ORDERS, "fd77:2::2")] {
        let mapped = format!("::ffff:{own}");
        let addresses = [
            "127.0.0.1",
            "127.0.0.2",
            "127.255.255.254",
            "127.0.0.6",
            "0.0.0.0",
            own,
            "::1",
            "::",
            own_v6,
            "::ffff:127.0.0.1",
            &mapped,
        ];
        let all: Vec<(String, u16)> =
            addresses.iter().flat_map(|address| [15001, 15006].map(|port| (String::from(*address), port))).collect();
        let before = world.access_log(place).len();
        let cpu = ticks(&world, place);
        for (address, port, said) in ask(&world, place, &all) {
            assert!(!said.contains("200 OK") && !said.contains("nginx"), "{place:?} {address} {port}: {said}");
            assert_ne!(said, "held open", "{place:?} {address} {port}");
        }
        // A connection that came back would be one more line each time round, and no end of work.
        let lines = world.access_log(place).len() - before;
        assert!(lines <= all.len(), "{place:?}: {lines} lines for {} connections", all.len());
        let cpu = ticks(&world, place) - cpu;
        assert!(cpu < 100, "{place:?}: {cpu} ticks of CPU");
    }
    // From outside, where the redirect rules do their part: the admin port above all.
    let ports = [15000, 15001, 15006];
    let outside: Vec<(String, u16)> = ports.map(|port| (ORDERS.to_owned(), port)).to_vec();
    for place in [Place::Node, Place::Web] {
        for (address, port, said) in ask(&world, place, &outside) {
            assert!(!said.contains("200 OK"), "{place:?} {address} {port}: {said}");
        }
    }
    // The sidecar's own user, whose connections to the pod itself are led to where callers arrive.
    let itself: Vec<(String, u16)> = [15000, 15001, 15006, 15021, 15090]
        .iter()
        .flat_map(|port| [(ORDERS.to_owned(), *port), ("127.0.0.2".to_owned(), *port)])
        .collect();
    for (address, port, said) in ask_as("1337", &world, Place::Orders, &itself) {
        assert!(!said.contains("200 OK"), "{address} {port}: {said}");
        assert_ne!(said, "held open", "{address} {port}");
    }
    let child = world.orders.as_ref().unwrap();
    child.stderr.wait_for_line("own_listener", |line| line.contains("\"own_listener\""));
    child.stderr.wait_for_line("not_redirected", |line| line.contains("\"not_redirected\""));
    assert_still_serving(&world);
}

#[test]
fn destinations_that_are_no_place_are_errors_and_no_loops() {
    if !root::granted("destinations_that_are_no_place_are_errors_and_no_loops") {
        return;
    }
    let mut world = World::meshed();
    assert_still_serving(&world);
    let before = world.access_log(Place::Web).len();
    let nowhere: Vec<(String, u16)> = [
        (ORDERS, 0),             // no port
        ("10.77.2.255", 8080),   // the broadcast address of another network
        ("10.77.1.255", 8080),   // of our own
        ("255.255.255.255", 80), // of all
        ("224.0.0.1", 80),       // multicast
        ("0.0.0.0", 8080),
        ("240.0.0.1", 80), // reserved
        (ORDERS, 8099),    // nobody listens
        ("10.77.9.9", 8080),
    ]
    .map(|(address, port)| (address.to_owned(), port))
    .to_vec();
    for (address, port, said) in ask(&world, Place::Web, &nowhere) {
        println!("{address}:{port}: {}", said.lines().next().unwrap_or("closed"));
        assert!(!said.contains("200 OK"), "{address}:{port}: {said}");
    }
    let lines = world.access_log(Place::Web).len() - before;
    assert!(lines <= nowhere.len() * 2, "{lines} lines for {} connections", nowhere.len());
    world.web.as_ref().unwrap().stderr.wait_for_line("port 0", |line| line.contains("\"unusable_destination\""));
    assert_still_serving(&world);

    // The original destination goes away under a caller that keeps asking: the callee's sidecar dies, then its whole pod.
    let url = format!("http://{ORDERS}:8080/api/orders/42");
    assert_eq!(world.curl(Place::Web, &[&url]).0, "200");
    world.orders.as_mut().unwrap().kill();
    assert_eq!(world.curl(Place::Web, &[&url]).0, "503", "nobody listens there any more");
    assert!(world.shell(Place::Orders, "ip link set eth0 down").0);
    let (status, _) = world.curl(Place::Web, &["--max-time", "30", &url]);
    assert_eq!(status, "503", "nobody is there any more");
    wait::until("the caller's sidecar to stay ready", wait::SOON, || {
        (world.curl(Place::Web, &["http://127.0.0.1:15021/healthz/ready"]).0 == "200").then_some(())
    });
}
