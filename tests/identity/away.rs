//! The CA is away: traffic goes on under the last certificates, and when it is back they are renewed.

use std::time::{Duration, Instant};

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
