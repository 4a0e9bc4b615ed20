//! W5, handshakes: connect to the callee alone with mutual TLS, ask once, close, again.
//!
//! Kind `full` offers X25519 and no ticket, `resumed` the ticket of the thread's last connection, `mlkem` X25519MLKEM768
//! first. What was agreed is counted: a make that did not resume is told from one that did.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rustls::HandshakeKind;

use super::Load;
use super::tls::{Connection, Offer, client};
use crate::cost::Window;

const THREADS: usize = 8;

#[derive(Default)]
struct Counts {
    measuring: AtomicBool,
    resumed: AtomicU64,
    post_quantum: AtomicU64,
}

/// Runs the load and prints what came of it.
pub(crate) fn run(load: &Load) {
    let offer = Offer { post_quantum: load.kind == "mlkem", resume: load.kind == "resumed" };
    let counts = Counts::default();
    let end = Instant::now() + load.warm_up + load.window;
    let (costs, mut latencies) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| connections(load, offer, end, &counts))).collect();
        std::thread::sleep(load.warm_up);
        counts.measuring.store(true, Ordering::Relaxed);
        let window = Window::open(load.pids);
        std::thread::sleep(load.window);
        counts.measuring.store(false, Ordering::Relaxed);
        let costs = window.close();
        let latencies: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (costs, latencies)
    });
    assert!(!latencies.is_empty(), "no connection in the window");
    let mut report = costs.report(&mut latencies);
    report["resumed"] = counts.resumed.into_inner().into();
    report["post_quantum"] = counts.post_quantum.into_inner().into();
    println!("{report}");
}

/// Gives what each connection of the window took, in nanoseconds, from connecting to the whole response.
fn connections(load: &Load, offer: Offer, end: Instant, counts: &Counts) -> Vec<u64> {
    let config = client(Path::new("."), Some("web"), offer);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        let mut connection = Connection::open(load.to, &config).unwrap();
        connection.exchange().unwrap_or_else(|error| panic!("{error}"));
        if counts.measuring.load(Ordering::Relaxed) {
            latencies.push(u64::try_from(begin.elapsed().as_nanos()).unwrap());
            let resumed = connection.tls.handshake_kind() == Some(HandshakeKind::Resumed);
            counts.resumed.fetch_add(resumed.into(), Ordering::Relaxed);
            let group = connection.tls.negotiated_key_exchange_group().map(|group| group.name());
            let post_quantum = group == Some(rustls::NamedGroup::X25519MLKEM768);
            counts.post_quantum.fetch_add(post_quantum.into(), Ordering::Relaxed);
        }
        connection.close();
    }
    latencies
}
