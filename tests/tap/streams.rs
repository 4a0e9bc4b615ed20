//! What is no exchange: opaque TCP and what follows a switch of protocols, byte for byte, with its true end, across the
//! rollover, and cut rather than delayed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use support::pair::{HOST, Setting};
use support::prometheus::Scrape;
use support::sidecar::Sidecar;
use support::{wait, wire};

use crate::sensor::{Copy, Sensor};

const TAP: [(&str, &str); 1] = [("tap", "ids")];

/// More than a synthetic connection carries in one direction.
const LONG: usize = 700 * 1024;

/// The contract's pair for opaque bytes; `keys` for its tap, `rule` for the callee's rule.
fn opaque(keys: &str, rule: &str) -> Setting {
    let setting = Setting::new();
    let (app, keys, rule) = (setting.at.app, keys.to_owned(), rule.to_owned());
    setting
        .server(|text| {
            let (before, after) = text.split_once("requests = ").unwrap();
            let after = after.split_once('\n').unwrap().1;
            let text = format!("{before}{rule}\n{after}{keys}\n");
            text.replace(&format!("address = \"{app}\""), &format!("address = \"{app}\"\nprotocol = \"tcp\""))
        })
        .client(|text| text.replace("name = \"orders\"\n", "name = \"orders\"\nprotocol = \"tcp\"\n"))
}

/// An application that hears all there is to hear, and then answers with it twice.
fn echo_at_the_end(at: SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut heard = Vec::new();
                if stream.read_to_end(&mut heard).is_ok() {
                    let _ = stream.write_all(&heard);
                }
            });
        }
    });
}

/// Bytes that tell their place, and that tshark takes for no protocol.
fn numbered(count: usize) -> Vec<u8> {
    let lines = (0..count.div_ceil(9)).flat_map(|line| format!("{line:08}\n").into_bytes());
    lines.take(count).collect()
}

/// What both sides said according to the copy, over all its connections in their order.
fn said(copy: &Copy, server: u16) -> (Vec<u8>, Vec<u8>) {
    let lines = copy.fields("tcp.len > 0", &["tcp.dstport", "tcp.payload"]);
    let mut both = (Vec::new(), Vec::new());
    for line in lines {
        let (to, hex) = line.split_once('\t').unwrap();
        let bytes = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap());
        if to == server.to_string() { both.0.extend(bytes) } else { both.1.extend(bytes) }
    }
    both
}

fn matched(sidecar: &Sidecar, count: u64) -> Scrape {
    wait::until("the tap to have done its work", wait::SOON, || {
        let metrics = sidecar.metrics();
        let sum = |what: &str| metrics.sum(&format!("sekisho_tap_{what}_total"), &TAP) as u64;
        let rests = metrics.sum("sekisho_tap_queue_bytes", &TAP) == 0.0 && sum("packets_built") == sum("packets_sent");
        (sum("matched") == count && sum("mirrored") + sum("dropped") == count && rests).then_some(metrics)
    })
}

#[test]
fn opaque_bytes_are_copied_whole_across_the_rollover_and_half_closed() {
    let setting = opaque("queue = \"64MiB\"", "");
    echo_at_the_end(setting.at.app);
    let sensor = Sensor::start(setting.at.sensor);
    let server = setting.start_server();
    let _client = setting.start_client();
    let sent = numbered(LONG);
    let mut stream = TcpStream::connect(setting.at.entry).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard == sent);
    let metrics = matched(&server, 1);
    assert_eq!(metrics.sum("sekisho_tap_streams_cut_total", &TAP), 0.0);
    let copy = sensor.settle(setting.dir.path());
    copy.assert_faultless();
    let (up, down) = said(&copy, setting.at.app.port());
    assert!(up == sent && down == sent, "{} and {} bytes", up.len(), down.len());
    assert!(copy.fields("tcp.flags.syn == 1 && tcp.flags.ack == 0", &["tcp.srcport"]).len() > 1, "no rollover");
    assert!(copy.fields("tcp.flags.reset == 1", &["frame.number"]).is_empty());
    // The client ended first, and the answer came after that.
    let ends = copy.fields("tcp.flags.fin == 1", &["tcp.dstport"]);
    assert_eq!(ends.last().map(|port| port == &setting.at.app.port().to_string()), Some(false), "{ends:?}");
}

#[test]
fn an_opaque_connection_that_breaks_off_ends_with_a_reset() {
    let setting = opaque("", "");
    echo_at_the_end(setting.at.app);
    let sensor = Sensor::start(setting.at.sensor);
    let server = setting.start_server();
    let _client = setting.start_client();
    let mut stream = TcpStream::connect(setting.at.entry).unwrap();
    stream.write_all(b"and then nothing").unwrap();
    wait::until("the copy to show it", wait::SOON, || {
        (server.metrics().sum("sekisho_tap_mirrored_total", &TAP) > 0.0 && sensor.count() > 3).then_some(())
    });
    wire::reset_when_closed(&stream);
    drop(stream);
    let copy = sensor.settle(setting.dir.path());
    copy.assert_faultless();
    assert_eq!(said(&copy, setting.at.app.port()).0, b"and then nothing");
    assert_eq!(copy.fields("tcp.flags.reset == 1", &["tcp.dstport"]), [setting.at.app.port().to_string()]);
    assert!(copy.fields("tcp.flags.fin == 1", &["frame.number"]).is_empty());
}

#[test]
fn a_refused_opaque_connection_is_a_handshake_and_a_reset() {
    let setting = opaque("verdicts = \"deny\"", "ports = [1]");
    echo_at_the_end(setting.at.app);
    let sensor = Sensor::start(setting.at.sensor);
    let server = setting.start_server();
    let _client = setting.start_client();
    let mut stream = TcpStream::connect(setting.at.entry).unwrap();
    let _ = stream.write_all(b"let me in");
    let _ = stream.read(&mut [0; 16]);
    matched(&server, 1);
    let copy = sensor.settle(setting.dir.path());
    copy.assert_faultless();
    assert_eq!(said(&copy, setting.at.app.port()), (Vec::new(), Vec::new()));
    assert_eq!(copy.fields("tcp.flags.reset == 1", &["tcp.srcport"]), [setting.at.app.port().to_string()]);
    assert_eq!(copy.packets, 4);
}

#[test]
fn a_stream_that_is_too_fast_for_its_queue_is_cut_and_passes_whole() {
    let setting = opaque("queue = \"64KiB\"\nbody = \"none\"", "");
    echo_at_the_end(setting.at.app);
    let server = setting.start_server();
    let _client = setting.start_client();
    let sent = numbered(8 << 20);
    let mut stream = TcpStream::connect(setting.at.entry).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard == sent, "watching never costs the watched");
    let metrics = matched(&server, 1);
    assert_eq!(metrics.sum("sekisho_tap_streams_cut_total", &TAP), 1.0);
    assert_eq!(metrics.sum("sekisho_tap_mirrored_total", &TAP), 1.0);
}

#[test]
fn only_the_start_of_a_stream_is_copied_where_the_file_says_so() {
    let setting = opaque("stream = \"first 2KiB\"", "");
    echo_at_the_end(setting.at.app);
    let sensor = Sensor::start(setting.at.sensor);
    let server = setting.start_server();
    let _client = setting.start_client();
    let sent = numbered(10_000);
    let mut stream = TcpStream::connect(setting.at.entry).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    matched(&server, 1);
    let copy = sensor.settle(setting.dir.path());
    copy.assert_faultless();
    let start = sent[..2048].to_vec();
    assert_eq!(said(&copy, setting.at.app.port()), (start.clone(), start));
}

/// An application that switches to a protocol of its own, in which it repeats what it hears.
fn switching(at: SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").unwrap();
        let mut heard = [0; 4096];
        while let Ok(count) = stream.read(&mut heard) {
            if count == 0 || stream.write_all(&heard[..count]).is_err() {
                break;
            }
        }
    });
}

#[test]
fn what_follows_a_switch_of_protocols_is_copied_where_the_exchange_ends() {
    let names = |text: String| {
        let text = text.replace("to = \"shop/orders\"\n", "to = \"shop/orders\"\nupgrade = \"echo\"\n");
        text.replace("/api/orders/{id:uint}\"]\n", "/api/orders/{id:uint}\"]\nupgrade = \"echo\"\n")
    };
    let setting = Setting::new().client(names).server(|text| names(text) + "queue = \"64MiB\"\n");
    switching(setting.at.app);
    let sensor = Sensor::start(setting.at.sensor);
    let server = setting.start_server();
    let _client = setting.start_client();
    let ask = format!("GET /api/orders/1 HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    let mut stream = TcpStream::connect(setting.at.entry).unwrap();
    stream.write_all(ask.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    let sent = numbered(LONG);
    let mut writer = stream.try_clone().unwrap();
    let saying = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&saying).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    writing.join().unwrap();
    assert!(heard == sent);
    let metrics = matched(&server, 1);
    assert_eq!(metrics.sum("sekisho_tap_streams_cut_total", &TAP), 0.0);
    let copy = sensor.settle(setting.dir.path());
    copy.assert_faultless();
    let (up, down) = said(&copy, setting.at.app.port());
    let after = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(up.starts_with(b"GET /api/orders/1 HTTP/1.1\r\n") && down.starts_with(b"HTTP/1.1 101 Switching"));
    assert!(up[after(&up)..] == sent && down[after(&down)..] == sent);
}
