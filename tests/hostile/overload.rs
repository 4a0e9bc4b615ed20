//! More than there is room for: connections beyond the descriptors, one caller that wants every place, bytes beyond the memory.
//!
//! What must hold each time: the sidecar lives, sheds and says so, does not spin, and serves as before once the flood is over.

mod root;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use support::pair::{HOST, Setting};
use support::sidecar::Sidecar;
use support::{tls, tools, wait, wire};

/// `key = value` in `[proxy]`.
fn with(key: &str, value: &str) -> impl Fn(String) -> String {
    let line = format!("[proxy]\n{key} = {value}\n");
    move |text| text.replace("[proxy]\n", &line)
}

#[test]
fn heads_that_never_end_do_not_fill_memory_beyond_its_limit() {
    let limit = 64 << 20;
    let pair = Setting::new().client(with("memory_limit", "\"64MiB\"")).start();
    let head = format!("GET /api/orders/1 HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {}", "a".repeat(58_000));
    let mut held = Vec::new();
    for _ in 0..3000 {
        if let Ok(mut stream) = TcpStream::connect(pair.entry()) {
            let _ = stream.set_nonblocking(true);
            let _ = stream.write(head.as_bytes());
            held.push(stream);
        }
    }
    let peak = peak(&pair.client);
    println!("peak {} KiB of {} KiB, {} connections tried", peak >> 10, limit >> 10, held.len());
    assert!(peak < limit, "{peak} bytes were resident");
    wait::until("what was shed to be told", wait::SOON, || {
        let shed = pair.client.metrics().sum("sekisho_shed_total", &[]);
        (shed > 0.0).then_some(())
    });
    drop(held);
    is_served_again(pair.entry());
}

#[test]
fn silent_connections_that_all_want_a_handshake_do_not_fill_memory_beyond_its_limit() {
    let limit = 48 << 20;
    let setting = Setting::new()
        .client(with("memory_limit", "\"48MiB\""))
        // Silence counts as a protocol in which the server speaks first: then each connection gets one of its own upstream.
        .client(with("detect_timeout", "\"500ms\""));
    let pair = setting.start();
    let held: Vec<TcpStream> = (0..4000).filter_map(|_| TcpStream::connect(pair.entry()).ok()).collect();
    std::thread::sleep(Duration::from_secs(2));
    let peak = peak(&pair.client);
    println!("peak {} KiB of {} KiB, {} connections", peak >> 10, limit >> 10, held.len());
    assert!(peak < limit, "{peak} bytes were resident");
    drop(held);
    is_served_again(pair.entry());
}

#[test]
fn connections_beyond_the_descriptors_are_closed_and_nothing_spins() {
    // Silent connections keep their places for as long as the test may take: on a slow machine, places that became free
    // at each timeout would be given to so many of the attempts that too few were left to close.
    let setting = Setting::new().client(with("detect_timeout", "\"10m\""));
    let _origin = support::origin::Origin::on(setting.at.app);
    let _server = setting.start_server();
    let mut command = tools::system("prlimit", "util-linux");
    command.arg("--nofile=1024:1024").arg(tools::sekisho()).args(["proxy", "-c", "client.toml"]);
    command.current_dir(setting.dir.path());
    let mut client = Sidecar::start_by(&mut command, setting.dir.path(), "client");
    client.wait_until_ready();
    is_served_again(setting.at.entry);
    let mut held = VecDeque::new();
    let (mut tried, began) = (0, Instant::now());
    while tried < 50_000 {
        tried += 1;
        held.extend(TcpStream::connect(setting.at.entry).ok());
        // The first ones stay, so that every place is taken; of the others a few hundred, because this process has bounds too.
        if held.len() > 1000 {
            held.remove(600);
        }
    }
    println!("{tried} attempts in {:?}", began.elapsed());
    assert!(client.is_ready(), "the health port has descriptors of its own");
    let closed = || client.metrics().sum("envoy_listener_downstream_cx_overflow", &[]);
    wait::until("those beyond the bound to be closed", wait::SOON, || (closed() > 40_000.0).then_some(()));
    // Every place is taken; once the queue is worked off there is nothing to do: a loop that spins would never rest.
    wait::until("the sidecar to rest", wait::SOON, || {
        let before = cpu(&client);
        std::thread::sleep(Duration::from_secs(1));
        let spent = cpu(&client) - before;
        println!("{spent:?} of CPU in a second");
        (spent < Duration::from_millis(100)).then_some(())
    });
    drop(held);
    is_served_again(setting.at.entry);
}

#[test]
fn one_identity_cannot_take_every_place() {
    let pair = Setting::new().server(with("max_connections_per_identity", "4")).start();
    let other = pair.setting.ca.issue("cart", "shop", "cart");
    let at = pair.setting.at.inbound;
    let connect = |cert| tls::connect(at, Some(cert), &["http/1.1"]).unwrap();
    let mut held: Vec<tls::Stream> = (0..4).map(|_| connect(&pair.setting.web)).collect();
    for stream in &mut held {
        assert_eq!(status(stream).as_deref(), Some("200"));
    }
    assert_eq!(status(&mut connect(&pair.setting.web)), None, "the fifth gets no answer");
    assert_eq!(pair.server.refused("max_connections_per_identity")["peer"], "spiffe://example.org/ns/shop/sa/web");
    assert_eq!(
        status(&mut connect(&other)).as_deref(),
        Some("403"),
        "somebody else gets in, to be told that no rule names it"
    );
    held.pop();
    wait::until("the place to be free again", wait::SOON, || {
        (status(&mut connect(&pair.setting.web)).as_deref() == Some("200")).then_some(())
    });
}

#[test]
fn who_takes_every_place_does_not_shut_the_others_out() {
    let pair = Setting::new().server(with("max_connections", "16")).start();
    let other = pair.setting.ca.issue("cart", "shop", "cart");
    let at = pair.setting.at.inbound;
    let connect = |cert| tls::connect(at, Some(cert), &["http/1.1"]).unwrap();
    let mut held: Vec<tls::Stream> = (0..16).map(|_| connect(&pair.setting.web)).collect();
    for stream in &mut held {
        assert_eq!(status(stream).as_deref(), Some("200"));
    }
    assert_eq!(status(&mut connect(&pair.setting.web)), None, "it holds more than half of all");
    let mut others: Vec<tls::Stream> = (0..4).map(|_| connect(&other)).collect();
    for stream in &mut others {
        assert_eq!(status(stream).as_deref(), Some("403"), "they get in, to be told that no rule names them");
    }
}

/// Asks, and gives the status of the answer. `None`: closed without one.
fn status(stream: &mut tls::Stream) -> Option<String> {
    let request = format!("GET /api/orders/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let _ = stream.write_all(request.as_bytes());
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok().map(|()| String::from_utf8_lossy(&answer[9..]).into_owned())
}

/// A request is answered 200, soon.
fn is_served_again(entry: SocketAddr) {
    wait::until("a request to be served", wait::SOON, || {
        wire::get(entry, HOST, "/api/orders/1").is_ok_and(|reply| reply.status() == 200).then_some(())
    });
}

/// The most bytes a sidecar ever had resident.
fn peak(sidecar: &Sidecar) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// CPU time of a sidecar so far, user and system (proc_pid_stat(5), fields 14 and 15, in ticks).
fn cpu(sidecar: &Sidecar) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sidecar.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let per_second = Command::new("getconf").arg("CLK_TCK").output().unwrap();
    let per_second: u64 = String::from_utf8_lossy(&per_second.stdout).trim().parse().unwrap();
    Duration::from_millis(ticks * 1000 / per_second)
}
