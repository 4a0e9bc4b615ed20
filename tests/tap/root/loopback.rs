//! The tunnel as it is on the wire: tcpdump captures the datagrams themselves and tshark takes them apart.

use support::child::Child;
use support::pair::{HOST, Setting};
use support::{root, tools, wait, wire};

use crate::sensor::{Copy, Sensor};

#[test]
fn tshark_takes_the_captured_tunnel_apart_without_fault() {
    if !root::granted("tshark_takes_the_captured_tunnel_apart_without_fault") {
        return;
    }
    let setting = Setting::new();
    let sensor = Sensor::start(setting.at.sensor);
    let pair = setting.start();
    let dir = pair.setting.dir.path().to_owned();
    let pcap = dir.join("tunnel.pcap");
    let port = pair.setting.at.sensor.port();
    let mut command = tools::system("tcpdump", "tcpdump");
    command.args(["-i", "lo", "--immediate-mode", "-U", "-n", "-s", "0", "-Z", "root", "-w"]).arg(&pcap);
    let mut tcpdump = Child::start(&dir, "tcpdump", command.arg(format!("udp dst port {port}")));
    tcpdump.stderr.wait_for_line("listening on", |line| line.contains("listening on"));

    for path in ["/api/orders/42", "/api/orders/x", "/admin"] {
        wire::get(pair.entry(), HOST, path).unwrap();
    }
    let received = sensor.settle(&dir).packets;
    tcpdump.signal("INT");
    assert!(tcpdump.wait(wait::SOON).is_some());

    let options = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"];
    let decode = format!("udp.port=={port},vxlan");
    let http = format!("tcp.port=={},http", pair.setting.at.app.port());
    let tshark = |filter: &str| {
        let mut command = tools::system("tshark", "tshark");
        command.arg("-r").arg(&pcap).args(options).args(["-d", &decode, "-d", &http, "-Y", filter]);
        support::child::run(&mut command).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // The outer sum is zero on purpose (RFC 7348 section 5): a loopback capture would show an unfinished one.
    let faults = "tcp.analysis.flags || _ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || \
                  udp.checksum.status == 0";
    assert_eq!(tshark(faults), Vec::<String>::new());
    assert_eq!(tshark("vxlan.vni == 42 && tcp").len(), received);
    assert_eq!(tshark("http.request").len(), 3);
    assert_eq!(tshark("http.response.code == 403").len(), 2);
    assert_eq!(Copy::of_file(pcap, &dir).packets, received);
}
