//! Ordinary clients reach the callee by its service address, and the link shows nothing but TLS.

use support::peers::grpc_calls_by;
use support::{root, wait};

use crate::link::Link;
use crate::world::{BARE_SERVICE, ORDERS, Place, SERVICE, World};

const MARKER: &str = "MARKER-7f3a";

#[test]
fn ordinary_clients_reach_the_callee_and_the_link_shows_only_tls() {
    if !root::granted("ordinary_clients_reach_the_callee_and_the_link_shows_only_tls") {
        return;
    }
    let world = World::meshed();
    let (mut tcpdump, pcap) = world.record_link();

    let marked = format!("http://{SERVICE}/api/orders/42?{MARKER}");
    let (status, body) = world.curl(Place::Web, &["-H", &format!("x-note: {MARKER}"), &marked]);
    assert_eq!((status.as_str(), body.trim()), ("200", format!("nginx GET /api/orders/42?{MARKER}").as_str()));

    let mut python = world.python(Place::Web);
    let cases = ["unary", "marker", "big", "server_stream", "client_stream", "chat", "forbidden"];
    let results = grpc_calls_by(&mut python, &format!("{SERVICE}:9090"), &cases);
    let codes: Vec<&str> = results.iter().filter_map(|result| result["code"].as_str()).collect();
    assert_eq!(codes, ["OK", "OK", "OK", "OK", "OK", "OK", "PERMISSION_DENIED"], "{results:#?}");

    let redis = |line: &str| world.shell(Place::Web, &format!("redis-cli -h {SERVICE} {line}")).1.trim().to_owned();
    assert_eq!(redis(&format!("set note {MARKER}")), "OK");
    assert_eq!(redis("get note"), MARKER);

    tcpdump.signal("INT");
    assert!(tcpdump.wait(wait::SOON).is_some());
    let link = Link::read(world.dir.path(), &pcap);
    link.assert_all_tls();
    assert!(link.payloads > 20, "only {} payloads", link.payloads);
    assert!(!link.shows(MARKER.as_bytes()), "the marker crossed the link in the clear");
}

#[test]
fn the_recording_would_show_plain_traffic() {
    if !root::granted("the_recording_would_show_plain_traffic") {
        return;
    }
    // The control: the same link without redirect rules. If this shows nothing, the test above proves nothing.
    let world = World::bare();
    let (mut tcpdump, pcap) = world.record_link();
    assert_eq!(world.curl(Place::Web, &[&format!("http://{SERVICE}/{MARKER}")]).0, "200");
    tcpdump.signal("INT");
    assert!(tcpdump.wait(wait::SOON).is_some());
    let link = Link::read(world.dir.path(), &pcap);
    assert!(link.shows(MARKER.as_bytes()));
    assert!(std::panic::catch_unwind(|| link.assert_all_tls()).is_err());
}

#[test]
fn an_original_destination_that_no_service_names_is_reached_by_mutual_tls() {
    if !root::granted("an_original_destination_that_no_service_names_is_reached_by_mutual_tls") {
        return;
    }
    let world = World::meshed();
    for address in [format!("{BARE_SERVICE}:8080"), format!("{ORDERS}:8080")] {
        let (status, body) = world.curl(Place::Web, &[&format!("http://{address}/api/orders/42")]);
        assert_eq!((status.as_str(), body.trim()), ("200", "nginx GET /api/orders/42"), "{address}");
    }
    let named =
        [&format!("--resolve=orders.shop.svc:80:{SERVICE}"), "http://orders.shop.svc/api/orders/42"].map(str::to_owned);
    let named: Vec<&str> = named[0].split('=').chain([named[1].as_str()]).collect();
    assert_eq!(world.curl(Place::Web, &named).0, "200");
}

#[test]
fn a_request_that_no_rule_names_is_refused_between_pods() {
    if !root::granted("a_request_that_no_rule_names_is_refused_between_pods") {
        return;
    }
    let world = World::meshed();
    let before = world.nginx_log().len();
    for arguments in [vec!["-X", "POST"], vec![]] {
        let url = format!("http://{SERVICE}/api/orders{}", if arguments.is_empty() { "/x" } else { "" });
        let arguments: Vec<&str> = arguments.into_iter().chain([url.as_str()]).collect();
        assert_eq!(world.curl(Place::Web, &arguments), ("403".to_owned(), "RBAC: access denied".to_owned()));
    }
    let raw = format!("http://{SERVICE}/api/orders/../admin");
    assert_eq!(world.curl(Place::Web, &["--path-as-is", &raw]).0, "400");
    assert_eq!(world.nginx_log().len(), before);
    wait::until("the callee's log line", wait::SOON, || (!world.access_log(Place::Orders).is_empty()).then_some(()));
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    if !root::granted("a_server_that_speaks_first_is_heard_at_once") {
        return;
    }
    let world = World::meshed();
    let script = format!(
        "import socket\none = socket.create_connection(('{SERVICE}', 2525), timeout=3)\n\
         print(one.recv(100)); one.sendall(b'hello'); print(one.recv(100))"
    );
    let output = world.command(Place::Web, "python3").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "b'220 speaks first\\r\\n'\nb'250 hello'\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_address_outside_is_reached_only_if_a_rule_names_it() {
    if !root::granted("an_address_outside_is_reached_only_if_a_rule_names_it") {
        return;
    }
    let world = World::meshed();
    assert_eq!(world.curl(Place::Web, &["http://10.77.1.1:8000/"]), ("200".to_owned(), "outside".to_owned()));
    let (status, body) = world.curl(Place::Web, &["http://10.77.1.1:8001/"]);
    assert!(status != "200" && body != "outside", "{status} {body}");
}
