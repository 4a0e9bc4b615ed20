//! From a sidecar's start to its first certificate, with the CA beside it.

use std::time::{Duration, Instant};

use support::pair::{Addresses, SERVER};
use support::scratch::Scratch;
use support::sidecar::Sidecar;
use support::{ca_server::CaServer, wait};

use super::count;
use super::world::{lines, with_identity};

/// `SEKISHO_FIRST` starts, one after the other.
#[test]
fn the_first_certificate_comes_soon_after_the_start() {
    let dir = Scratch::new();
    let ca = CaServer::start(dir.path(), &lines("1h"));
    let mut took = Vec::new();
    for _ in 0..count("SEKISHO_FIRST", 5) {
        ca.token("orders", "shop", "orders");
        let text = with_identity(&Addresses::free().rewrite(SERVER), &ca.identity("orders"));
        dir.write("server.toml", text);
        let begun = Instant::now();
        let sidecar = Sidecar::start_unready(dir.path(), "server");
        let started = || {
            let text = std::fs::read(&sidecar.child.stderr.path).unwrap();
            text.windows(9).any(|part| part == b"\"started\"")
        };
        // Every millisecond, since what is measured takes few of them.
        while !started() {
            assert!(begun.elapsed() < wait::SOON, "the sidecar has not started");
            std::thread::sleep(Duration::from_millis(1));
        }
        took.push(begun.elapsed());
    }
    took.sort();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!("{} starts to `started`: p50 {:?}, p99 {:?}", took.len(), at(50), at(99));
    assert!(at(50) < Duration::from_secs(5), "{took:?}");
}
