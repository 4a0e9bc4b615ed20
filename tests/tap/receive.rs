//! `sekisho tap receive`: sidecars send over mutual TLS, an IDS on this host reads; who may send, what is refused, and numbers
//! that agree at both ends.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::child::{Child, run};
use support::pair::{HOST, Pair, Setting};
use support::pki::Cert;
use support::scratch::Scratch;
use support::{ports, tools, wait, wire};

use crate::sensor::{Copy, Sensor};
use crate::transports::{at_rest, count, packets_in};

/// A running receiver.
pub(crate) struct Receiver {
    pub(crate) child: Child,
}

impl Receiver {
    fn start(dir: &Path, listen: SocketAddr, identity: &[&str], outputs: &[String]) -> Self {
        Self::by(Command::new(tools::sekisho()), dir, listen, identity, outputs)
    }

    /// By a command that runs the program, perhaps elsewhere.
    pub(crate) fn by(
        mut command: Command,
        dir: &Path,
        listen: SocketAddr,
        identity: &[&str],
        outputs: &[String],
    ) -> Self {
        command.args(["tap", "receive", "--format", "json", "--listen", &listen.to_string()]).args(identity);
        outputs.iter().for_each(|output| {
            command.args(["--out", output]);
        });
        let child = Child::start(dir, "receive", &mut command);
        child.stderr.wait_for_line("its start", |line| line.contains("\"started\""));
        Self { child }
    }

    pub(crate) fn secured(dir: &Path, listen: SocketAddr, cert: &Cert, from: &str, outputs: &[String]) -> Self {
        Self::secured_by(Command::new(tools::sekisho()), dir, listen, cert, from, outputs)
    }

    /// With a certificate, by such a command.
    pub(crate) fn secured_by(
        command: Command,
        dir: &Path,
        listen: SocketAddr,
        cert: &Cert,
        from: &str,
        outputs: &[String],
    ) -> Self {
        let text = |path: &Path| path.display().to_string();
        let (chain, key, bundle) = (text(&cert.chain), text(&cert.key), text(&cert.bundle));
        Self::by(command, dir, listen, &["--cert", &chain, "--key", &key, "--bundle", &bundle, "--from", from], outputs)
    }

    /// Ends it; gives its counters.
    pub(crate) fn end(mut self) -> Value {
        self.child.signal("TERM");
        let status = self.child.wait(Duration::from_secs(20)).expect("it ends");
        assert!(status.success(), "{status}");
        let lines = [self.child.stdout.lines(), self.child.stderr.lines()].concat();
        let last = lines.iter().rev().find_map(|line| {
            let value: Value = serde_json::from_str(line).ok()?;
            value.get("outputs").is_some().then_some(value)
        });
        last.expect("counters are printed")
    }
}

/// A pair whose tap sends to a receiver as `ids/sensor`, which has a certificate.
fn pair() -> (Pair, Cert) {
    let setting = Setting::new();
    let cert = setting.ca.issue("ids", "ids", "sensor");
    let old = format!("vxlan://{}?vni=42", setting.at.sensor);
    let new = format!("pcap+mtls://{}?id=ids/sensor", setting.at.sensor);
    (setting.server(|text| text.replace(&old, &new)).start(), cert)
}

fn get(pair: &Pair, path: &str) {
    wire::get(pair.entry(), HOST, path).unwrap();
}

/// Asks until the tap has copied one more.
fn ask_until_copied(pair: &Pair) {
    let before = count(&pair.server, "mirrored");
    wait::until("the tap to be up", Duration::from_secs(60), || {
        get(pair, "/api/orders/42");
        (count(&pair.server, "mirrored") > before).then_some(())
    });
}

fn ring(dir: &Scratch) -> String {
    format!("ring:{}?size=1MiB&files=50", dir.path().display())
}

/// Every packet of a folder of files.
fn in_files(dir: &Scratch, scratch: &Path) -> Vec<Copy> {
    let mut files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| Copy::of_file(file, scratch)).collect()
}

#[test]
fn packets_sent_by_a_sidecar_are_the_packets_in_the_files_also_when_the_receiver_comes_back() {
    let (pair, cert) = pair();
    let dir = pair.setting.dir.path();
    let files = Scratch::new();
    let mut written = 0;
    for round in 0..2 {
        let receiver = Receiver::secured(dir, pair.setting.at.sensor, &cert, "shop/*", &[ring(&files)]);
        ask_until_copied(&pair);
        get(&pair, &format!("/api/orders/{round}"));
        at_rest(&pair.server);
        let counters = receiver.end();
        // What is asked for meanwhile would be taken for a copy that the next receiver gets.
        wait::until("the tap to be down", wait::SOON, || {
            (count(&pair.server, "streams_broken") == round + 1).then_some(())
        });
        written += counters["outputs"][0]["written"].as_u64().unwrap();
        assert_eq!(counters["outputs"][0]["dropped"], 0);
        assert_eq!((&counters["senders"]["accepted"], &counters["senders"]["cut"]), (&1.into(), &0.into()));
    }
    assert_eq!(at_rest(&pair.server).1, written);
    let copies = in_files(&files, dir);
    assert_eq!(copies.len(), 2);
    copies.iter().for_each(Copy::assert_faultless);
    assert_eq!(copies.iter().map(|copy| copy.packets as u64).sum::<u64>(), written);
    for (round, copy) in copies.iter().enumerate() {
        assert!(copy.requests().contains(&format!("GET /api/orders/{round}")));
    }
}

#[test]
fn nothing_goes_to_a_receiver_with_another_identity_and_none_of_it_is_counted_as_sent() {
    let (pair, _) = pair();
    let dir = pair.setting.dir.path();
    let other = pair.setting.ca.issue("other", "ids", "other");
    let files = Scratch::new();
    let receiver = Receiver::secured(dir, pair.setting.at.sensor, &other, "shop/*", &[ring(&files)]);
    receiver.child.stderr.wait_for_line("a refusal", |line| line.contains("refused_tls"));
    get(&pair, "/api/orders/1");
    assert_eq!((count(&pair.server, "mirrored"), count(&pair.server, "packets_built")), (0, 0));
    assert_eq!(receiver.end()["frames"], 0);
}

#[test]
fn a_sender_that_was_not_asked_for_is_refused_before_it_sends_anything() {
    let (pair, cert) = pair();
    let files = Scratch::new();
    let dir = pair.setting.dir.path();
    let receiver = Receiver::secured(dir, pair.setting.at.sensor, &cert, "shop/web", &[ring(&files)]);
    receiver.child.stderr.wait_for_line("a refusal", |line| line.contains("refused_identity"));
    get(&pair, "/api/orders/1");
    assert_eq!((count(&pair.server, "mirrored"), count(&pair.server, "packets_built")), (0, 0));
    let counters = receiver.end();
    assert!(counters["senders"]["refused_identity"].as_u64().unwrap() > 0, "{counters}");
    assert_eq!((&counters["senders"]["accepted"], &counters["frames"]), (&0.into(), &0.into()));
}

#[test]
fn a_certificate_that_was_renewed_is_shown_at_the_next_connection() {
    let (pair, cert) = pair();
    let dir = pair.setting.dir.path();
    let files = Scratch::new();
    let receiver = Receiver::secured(dir, pair.setting.at.sensor, &cert, "shop/*", &[ring(&files)]);
    ask_until_copied(&pair);
    receiver.end();
    // Another root altogether: only who shows the new certificate, and believes the new root, gets through.
    let far = Scratch::new();
    let new = support::pki::Ca::init(far.path());
    new.issue("orders", "shop", "orders");
    let cert = new.issue("ids", "ids", "sensor");
    for name in ["orders.key", "orders.pem", "roots.pem"] {
        let whole = dir.join(format!("{name}.new"));
        std::fs::copy(far.path().join(name), &whole).unwrap();
        std::fs::rename(whole, dir.join(name)).unwrap();
    }
    let before = count(&pair.server, "packets_sent");
    let receiver = Receiver::secured(dir, pair.setting.at.sensor, &cert, "shop/orders", &[ring(&files)]);
    receiver.child.stderr.wait_for_line("the sender", |line| line.contains("\"sender\"") && line.contains("sa/orders"));
    // Callers still show the old one, and are refused; the connection itself is what counts here.
    drop(receiver);
    assert!(count(&pair.server, "packets_sent") >= before);
}

/// A pcap stream with frames at these times, in seconds.
fn stream(times: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for time in times {
        for word in [*time, 0, 60, 60] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&[7; 60]);
    }
    bytes
}

fn send(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// The counters as printed every second, once they fit.
fn wait_for(receiver: &Receiver, what: &str, fits: impl Fn(&Value) -> bool) {
    let of = |line: &str| {
        serde_json::from_str::<Value>(line).is_ok_and(|value| value.get("outputs").is_some() && fits(&value))
    };
    wait::until(what, Duration::from_secs(30), || {
        let lines = [receiver.child.stdout.lines(), receiver.child.stderr.lines()].concat();
        lines.iter().any(|line| of(line)).then_some(())
    });
}

#[test]
fn many_senders_become_one_stream_in_order_and_what_is_no_capture_is_refused() {
    let dir = Scratch::new();
    let listen = ports::local();
    let receiver = Receiver::start(dir.path(), listen, &["--plain", "--every", "1s"], &["stdout".to_owned()]);
    let mut senders: Vec<_> = (0..20_u32).map(|n| send(listen, &stream(&[1000 + n, 500 + n, 1500 - n]))).collect();
    let cut = |captured: u32, original: u32| {
        let mut bytes = stream(&[]);
        [1, 0, captured, original].iter().for_each(|word: &u32| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes
    };
    for malformed in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), cut(65_536, 65_536), cut(10, 20)] {
        let mut refused = send(listen, &malformed);
        // It is told by the end of the connection.
        assert!(matches!(refused.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    // The last one is cut amid a frame.
    let whole = stream(&[2000, 2000]);
    drop(send(listen, &whole[..whole.len() - 1]));
    wait_for(&receiver, "every frame", |counters| counters["frames"] == 61 && counters["senders"]["cut"] == 1);
    senders.clear();
    let stdout = receiver.child.stdout.path.clone();
    let counters = receiver.end();
    assert_eq!(counters["senders"]["refused_malformed"], 3, "{counters}");
    assert_eq!((&counters["outputs"][0]["written"], &counters["outputs"][0]["dropped"]), (&61.into(), &0.into()));
    assert_eq!(packets_in(&stdout), 61);
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_nothing_and_its_next_reader_gets_whole_frames() {
    let dir = Scratch::new();
    let (listen, vxlan) = (ports::local(), ports::local());
    let pipe = dir.path().join("pipe");
    run(Command::new("mkfifo").arg(&pipe));
    let files = Scratch::new();
    let outputs = [format!("pipe:{}", pipe.display()), ring(&files), format!("vxlan://{vxlan}?vni=42")];
    let sensor = Sensor::start(vxlan);
    let receiver = Receiver::start(dir.path(), listen, &["--plain", "--every", "1s"], &outputs);
    drop(send(listen, &stream(&[1; 100])));
    wait_for(&receiver, "the files to have all", |counters| {
        counters["outputs"][1]["written"] == 100 && counters["outputs"][0]["dropped"] == 100
    });
    // A reader comes, hears some, and leaves; then another.
    let mut heard = 0;
    for round in 0..2_u64 {
        let mut reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let mut sender = send(listen, &stream(&[2; 50]));
        sender.flush().unwrap();
        let mut got = vec![0; 24 + 50 * 76];
        reader.read_exact(&mut got).unwrap();
        let copy = dir.path().join(format!("piped-{round}.pcap"));
        std::fs::write(&copy, got).unwrap();
        heard += packets_in(&copy);
        drop(reader);
        // The writer notices that it has gone with the next frame.
        drop(sender);
        drop(send(listen, &stream(&[3])));
        wait_for(&receiver, "the frame without a reader", |counters| {
            counters["outputs"][0]["dropped"] == 100 + round + 1
        });
    }
    let counters = receiver.end();
    assert_eq!(heard, 100);
    assert_eq!(counters["frames"], 202);
    for output in counters["outputs"].as_array().unwrap() {
        let number = |name: &str| output[name].as_u64().unwrap();
        assert_eq!(number("written") + number("dropped"), 202, "{output}");
    }
    assert_eq!(counters["outputs"][0]["written"], 100);
    assert_eq!(counters["outputs"][1]["written"], 202);
    wait::until("the datagrams", wait::SOON, || (sensor.count() == 202).then_some(()));
}

#[test]
fn a_command_line_that_is_not_valid_ends_with_two() {
    for wrong in [
        &["--listen", "127.0.0.1:1", "--plain", "--out", "nowhere"][..],
        &["--listen", "127.0.0.1:1", "--from", "shop/web"],
        &["--listen", "127.0.0.1:1"],
        &["--listen", "127.0.0.1:1", "--plain", "--out", "stdout", "--out", "stdout"],
    ] {
        let output = Command::new(tools::sekisho()).args(["tap", "receive"]).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        Command::new(tools::sekisho()).args(["tap", "receive", "--plain", "--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
