//! The CA is away: traffic goes on under the last certificates, and when it is back they are renewed.

use std::time::{Duration, Instant};

use support::sidecar::Sidecar;
use support::{tools, wait};

use super::world::Stage;

#[test]
fn traffic_goes_on_while_the_ca_is_away_and_renewals_follow_when_it_is_back() {
    let mut world = Stage::new("20s").start();
    let load = world.load();
    let before = world.serials();
    let begun = Instant::now();
    world.ca.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "open watches held up its end: {:?}", begun.elapsed());
    for sidecar in [&world.client, &world.server] {
        wait::until("the sidecar to say so", wait::SOON, || {
            sidecar.events().iter().any(|event| event["event"] == "identity_source_failed").then_some(())
        });
    }
    std::thread::sleep(Duration::from_secs(8).saturating_sub(begun.elapsed()));
    assert_eq!(world.serials(), before, "there was nobody to renew them");
    assert!(world.client.is_ready() && world.server.is_ready());
    world.ca.again();
    let back = Instant::now();
    world.renewed_since(&before, Duration::from_secs(20));
    println!("renewed {:?} after the CA was back", back.elapsed());
    let requests = load.stop_clean(50);
    println!("{requests} requests, 0 failed");
    for sidecar in [&world.client, &world.server] {
        assert_eq!(sidecar.policy_status()["certificate"]["stale"], false);
    }
    world.assert_untroubled();
}

/// By a wall clock that the test moves.
#[test]
fn six_hours_without_the_ca_are_noticed_by_nobody() {
    const NOTICED: Duration = Duration::from_secs(100);
    let mut stage = Stage::new("8h");
    let clock = stage.dir.join("clock");
    let shift = |by: &str| std::fs::write(&clock, by).unwrap();
    shift("+0");
    let variables = tools::faketime(&clock);
    stage.ca.stop();
    let mut command = stage.ca.command();
    stage.ca.again_by(command.envs(variables.clone()));
    let mut world = stage.start_with(variables.clone());
    let load = world.load();
    let before = world.serials();
    world.ca.stop();
    // Half of their lives ends while nobody can renew them.
    for hour in 1..=6 {
        shift(&format!("+{hour}h"));
        std::thread::sleep(Duration::from_millis(700));
        world.assert_untroubled();
    }
    assert_eq!(world.serials(), before);
    let mut command = world.ca.command();
    world.ca.again_by(command.envs(variables));
    // Late, and within a minute, not all at once.
    world.renewed_since(&before, NOTICED);
    let requests = load.stop_clean(50);
    println!("{requests} requests in six hours and more, 0 failed");
    world.assert_untroubled();
}

/// What somebody is woken by: the two gauges of docs/operations.md, from the loss of the CA to the certificate's end.
#[test]
fn a_certificate_that_nears_its_end_without_the_ca_is_seen_in_the_metrics() {
    const LIFE: f64 = 8.0 * 3600.0;
    let mut stage = Stage::new("8h");
    let clock = stage.dir.join("clock");
    let shift = |minutes: u32| std::fs::write(&clock, format!("+{minutes}m")).unwrap();
    shift(0);
    let variables = tools::faketime(&clock);
    stage.ca.stop();
    let mut command = stage.ca.command();
    stage.ca.again_by(command.envs(variables.clone()));
    let mut world = stage.start_with(variables.clone());
    let load = world.load();
    let before = world.serials();
    let ends = [&world.client, &world.server].map(end);
    for (sidecar, end) in [&world.client, &world.server].into_iter().zip(ends) {
        assert!(!stale(sidecar), "it has just come");
        let left = end - unix_now();
        assert!((LIFE - 120.0..=LIFE).contains(&left), "{left}");
    }

    world.ca.stop();
    wait::until("both sidecars to miss the CA", wait::SOON, || {
        (stale(&world.client) && stale(&world.server)).then_some(())
    });
    // Past the half of its life, when it is due, and two minutes from its end.
    for minutes in [1, 5 * 60, 8 * 60 - 2] {
        shift(minutes);
        std::thread::sleep(Duration::from_secs(1));
        for (sidecar, before) in [&world.client, &world.server].into_iter().zip(ends) {
            assert!(stale(sidecar), "after {minutes} minutes: {}", sidecar.policy_status());
            assert_eq!(end(sidecar), before, "after {minutes} minutes");
        }
        world.assert_untroubled();
    }

    // In time: it is over, by both.
    let mut command = world.ca.command();
    world.ca.again_by(command.envs(variables));
    let after = world.renewed_since(&before, Duration::from_secs(100));
    for (sidecar, before) in [&world.client, &world.server].into_iter().zip(ends) {
        wait::until("the gauge to be 0 again", wait::SOON, || (!stale(sidecar)).then_some(()));
        assert!(end(sidecar) > before + LIFE / 2.0);
    }
    let requests = load.stop_clean(50);
    println!("{requests} requests, 0 failed");
    world.assert_untroubled();

    // Not in time: it stays, and the sidecar is not ready.
    world.ca.stop();
    shift(17 * 60);
    for sidecar in [&world.client, &world.server] {
        wait::until("the gauge and readiness to say so", wait::SOON, || {
            (stale(sidecar) && !sidecar.is_ready()).then_some(())
        });
    }
    assert_eq!(world.serials(), after);
}

/// `sekisho_credentials_stale`, which is there in any case.
fn stale(sidecar: &Sidecar) -> bool {
    let scrape = sidecar.metrics();
    assert!(scrape.has("sekisho_credentials_stale"));
    scrape.sum("sekisho_credentials_stale", &[]) > 0.0
}

/// When its certificate ends, by its metrics; seconds since 1970.
fn end(sidecar: &Sidecar) -> f64 {
    sidecar.metrics().sum("envoy_listener_ssl_certificate_expiration_unix_time_seconds", &[])
}

fn unix_now() -> f64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}
