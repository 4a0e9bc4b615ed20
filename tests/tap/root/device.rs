//! The kernel's VXLAN device as the receiver: what it takes out of the tunnel is what went in, and without fault.

use support::pair::{HOST, Setting};
use support::{root, wait, wire};

use super::accounts::balanced;
use super::link::Link;
use crate::receivers::judge;
use crate::sensor::Copy;

#[test]
fn a_kernel_vxlan_device_and_the_link_below_it_show_the_same_frames() {
    if !root::granted("a_kernel_vxlan_device_and_the_link_below_it_show_the_same_frames") {
        return;
    }
    let link = Link::new();
    let setting = link.tapped(Setting::new(), "");
    let port = setting.at.sensor.port();
    link.ip(&format!("link add vx0 type vxlan id 42 dstport {port} dev eth0 nolearning"));
    link.ip("link set vx0 up");
    let below = link.capture("eth0", &format!("udp dst port {port}"));
    let above = link.capture("vx0", "tcp");
    let pair = setting.start();
    for path in ["/api/orders/42", "/api/orders/x", "/admin"] {
        wire::get(pair.entry(), HOST, path).unwrap();
    }
    let metrics = balanced(&pair.server, 3);
    // The last packet is an acknowledgement or an end, some milliseconds later.
    let sent = wait::until("the tap to rest", wait::SOON, || {
        let before = pair.server.metrics().sum("sekisho_tap_packets_sent_total", &[]);
        // The tap's thread gives way to everybody else.
        std::thread::sleep(std::time::Duration::from_millis(1300));
        let after = pair.server.metrics().sum("sekisho_tap_packets_sent_total", &[]);
        (before == after && after >= metrics.sum("sekisho_tap_packets_sent_total", &[])).then_some(after as usize)
    });
    let above = above.packets(sent);
    let below = below.packets(sent);
    // Outer Ethernet, IPv4, UDP and VXLAN.
    let inner: Vec<_> = below.iter().map(|frame| frame[14 + 20 + 8 + 8..].to_vec()).collect();
    assert_eq!((inner.len(), above.len()), (sent, sent));
    assert!(inner == above, "the device shows other frames");

    let dir = link.dir.path();
    let copy = Copy::of_file(dir.join("vx0.pcap"), dir);
    let talks = judge::agreed(&copy);
    let asked: usize = talks.iter().map(|talk| text(&talk.asked).matches("GET ").count()).sum();
    let refused: usize = talks.iter().map(|talk| text(&talk.answered).matches("HTTP/1.1 403 ").count()).sum();
    assert_eq!((asked, refused), (3, 2));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
