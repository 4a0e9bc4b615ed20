//! Stop signals under load, one sidecar after the other and both at once: whoever calls is told to go elsewhere, and nobody
//! is failed.

use std::time::{Duration, Instant};

use support::load::{Load, TlsLoad};
use support::origin::{Origin, Reply};
use support::pair::{HOST, Pair, Setting};
use support::sidecar::Sidecar;

use super::{count, quiet};

/// Stop signals to the caller's sidecar, to the callee's and to both; `SEKISHO_STOPS` of them.
#[test]
fn stop_signals_under_load_fail_no_request_and_end_in_time() {
    let setting = quiet(Setting::new());
    let origin = Origin::forgetful(setting.at.app, |_| Reply::text("here"));
    let Pair { mut client, mut server, origin: _origin, setting } = setting.start_with(origin);
    let (mut ok, mut slowest) = (0, Duration::ZERO);
    let stops = count("SEKISHO_STOPS", 4);
    for round in 0..stops {
        let kept = Load::start(setting.at.entry, HOST, "/api/orders/42", 3);
        let fresh = Load::fresh(setting.at.entry, HOST, "/api/orders/42", 2);
        let tls = TlsLoad::start(setting.dir.path(), setting.at.inbound, &setting.web, "/api/orders/42", 2);
        // Another moment each time.
        std::thread::sleep(Duration::from_millis(300 + u64::from(round) * 37 % 200));
        let (ends_client, ends_server) = (round % 3 != 1, round % 3 != 0);
        let stopped: Vec<&mut Sidecar> = [(ends_client, &mut client), (ends_server, &mut server)]
            .into_iter()
            .filter_map(|(ends, one)| ends.then_some(one))
            .collect();
        stopped.iter().for_each(|sidecar| sidecar.terminate());
        // Callers that have not yet heard of the end go on for a while, on new connections too.
        std::thread::sleep(Duration::from_millis(1500));
        let begin = Instant::now();
        // A connection that ends at the caller's sidecar is told by that one alone (RFC 9110 §7.6.1).
        for (name, load, is_told) in
            [("kept", kept.stop(), ends_client), ("fresh", fresh.stop(), true), ("mtls", tls.stop(), ends_server)]
        {
            println!("round {round}: {name} {} answered, {} told to go", load.ok, load.closes);
            load.assert_clean(20);
            assert!(load.closes > 0 || !is_told, "nobody was told to go elsewhere");
            ok += load.ok;
        }
        for sidecar in stopped {
            assert!(sidecar.ended(Duration::from_secs(15)).success(), "round {round}");
            slowest = slowest.max(begin.elapsed());
        }
        if ends_server {
            server = setting.start_server();
        }
        if ends_client {
            client = setting.start_client();
        }
    }
    println!(
        "{stops} stops under load: {ok} requests, none failed; the slowest end {slowest:?} after the last caller had left"
    );
}

#[test]
fn a_draining_sidecar_under_load_is_not_ready_and_serves_on() {
    let mut pair = Pair::start();
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 4);
    for sidecar in [&pair.client, &pair.server] {
        sidecar.terminate();
    }
    std::thread::sleep(Duration::from_secs(3));
    assert!(!pair.client.is_ready() && pair.client.child.is_running());
    assert!(!pair.server.is_ready() && pair.server.child.is_running());
    load.stop_clean(50);
    assert!(pair.client.ended(Duration::from_secs(10)).success());
    assert!(pair.server.ended(Duration::from_secs(15)).success());
}
