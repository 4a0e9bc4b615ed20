//! Outbound taps, and destinations that the file describes by no service: the copy and the records have what is known of them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::child::run;
use support::{root, tools, wait};

use crate::manifest;
use crate::world::{ORDERS, Place, World};

/// Who is not of the mesh, and whom a rule names by address.
const OUTSIDE: &str = "10.77.1.1:8000";
/// The same, named by nobody.
const UNNAMED: &str = "10.77.1.1:8001";
const WEB: &str = "spiffe://example.org/ns/shop/sa/web";

#[test]
fn outbound_taps_see_what_no_service_describes() {
    if !root::granted("outbound_taps_see_what_no_service_describes") {
        return;
    }
    let mut world = World::bare();
    world.write_files();
    let dir = world.dir.path().join("taps");
    std::fs::create_dir_all(dir.join("ring")).unwrap();
    run(Command::new("chown").args(["-R", "1337"]).arg(&dir));
    let tap = |name: &str, sensor: String, more: &str| {
        format!("\n[[tap]]\nname = \"{name}\"\nto_sensor = \"{sensor}\"\ndirection = \"outbound\"\n{more}")
    };
    let taps = [
        tap("packets", format!("pcapng://{}", dir.join("ring").display()), ""),
        tap("all", format!("json://{}", dir.join("all.json").display()), ""),
        tap("orders", format!("json://{}", dir.join("orders.json").display()), "to = \"shop/orders\"\n"),
    ];
    world.dir.write("web.toml", world.dir.read("web.toml") + &taps.concat());
    for place in [Place::Web, Place::Orders] {
        world.capture(place, &manifest::capture_arguments());
    }
    world.start_sidecars();

    assert_eq!(world.curl(Place::Web, &[&format!("http://{OUTSIDE}/named")]), ("200".into(), "outside".into()));
    assert_ne!(world.curl(Place::Web, &[&format!("http://{UNNAMED}/unnamed")]).0, "200");
    let (status, body) = world.curl(Place::Web, &[&format!("http://{ORDERS}:8080/api/orders/42")]);
    assert_eq!((status.as_str(), body.trim()), ("200", "nginx GET /api/orders/42"));
    assert_eq!(world.shell(Place::Web, &format!("redis-cli -h {ORDERS} ping")).1.trim(), "PONG");

    let records = records(&dir.join("all.json"), 4);
    let one = |key: &str, value: &str| records.iter().find(|record| record[key] == value).unwrap();
    for record in &records {
        assert_eq!((&record["direction"], &record["source"]), (&json!("outbound"), &json!(WEB)), "{record}");
        assert!(record["client"].as_str().unwrap().starts_with("10.77.1.2:"), "the application's own end: {record}");
    }
    let named = one("path", "/named");
    assert_eq!((&named["verdict"], &named["rule"]), (&json!("allowed"), &json!("one-address-outside")), "{named}");
    assert_eq!((&named["destination"], &named["tls_version"]), (&Value::Null, &Value::Null), "{named}");
    assert_eq!((&named["server"], &named["status"]), (&json!(OUTSIDE), &json!(200)));
    let unnamed = one("server", UNNAMED);
    assert_eq!((&unnamed["verdict"], &unnamed["destination"]), (&json!("denied"), &Value::Null), "{unnamed}");
    let orders = "spiffe://example.org/ns/shop/sa/orders";
    let proved = one("path", "/api/orders/42");
    assert_eq!((&proved["verdict"], &proved["destination"]), (&json!("allowed"), &json!(orders)), "{proved}");
    assert_eq!(proved["server"], format!("{ORDERS}:8080"));
    let opaque = one("type", "flow");
    assert_eq!((&opaque["verdict"], &opaque["destination"]), (&json!("allowed"), &json!(orders)), "{opaque}");
    assert_eq!(opaque["server"], format!("{ORDERS}:6379"));

    // A tap of one callee has only what that callee has proved itself to be.
    let of_orders = self::records(&dir.join("orders.json"), 2);
    assert!(of_orders.iter().all(|record| record["destination"] == orders), "{of_orders:?}");

    // The last file of the ring is finished when the tap ends.
    let web = world.web.as_mut().unwrap();
    web.signal("TERM");
    assert!(web.wait(wait::SOON).is_some());
    let file = wait::until("the ring's file", wait::SOON, || {
        let files = std::fs::read_dir(dir.join("ring")).unwrap().flatten();
        files.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "pcapng"))
    });
    let tshark = |filter: &str, fields: &[&str]| {
        let mut command = tools::system("tshark", "tshark");
        command.arg("-r").arg(&file).args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
        command.args(["-d", "tcp.port==8000,http", "-d", "tcp.port==8001,http", "-Y", filter, "-T", "fields"]);
        command.args(fields.iter().flat_map(|field| ["-e", field]));
        run(&mut command).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let faults = "tcp.analysis.flags || _ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0";
    assert_eq!(tshark(faults, &["frame.number"]), Vec::<String>::new());
    let mut asked = tshark("http.request", &["ip.src", "ip.dst", "tcp.dstport", "http.request.uri"]);
    asked.sort();
    let expected = [
        "10.77.1.2\t10.77.1.1\t8000\t/named".to_owned(),
        "10.77.1.2\t10.77.1.1\t8001\t/unnamed".to_owned(),
        format!("10.77.1.2\t{ORDERS}\t8080\t/api/orders/42"),
    ];
    assert_eq!(asked, expected);
    assert!(tshark("tcp.dstport == 6379 && tcp.len > 0", &["tcp.len"]).len() == 1, "Redis' own words");
}

fn records(path: &Path, count: usize) -> Vec<Value> {
    wait::until("the records", wait::SOON, || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let records: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (records.len() >= count).then_some(records)
    })
}
