//! One root takes the place of another while requests go on, by itself once it is prepared; also when the CA is killed on the way.

use std::time::{Duration, Instant};

use support::fatal::Moment;
use support::pki::{Forged, spiffe};
use support::{tls, wait};

use super::count;
use super::world::{Stage, World};

/// How long a rotation of certificates of six seconds may take on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// `SEKISHO_ROOT_ROTATIONS` times.
#[test]
fn roots_rotate_under_load_without_a_failed_request() {
    let mut world = Stage::new("6s").start();
    let forged = world
        .ca
        .forger()
        .leaf("forged", &Forged { names: &[&format!("URI:{}", spiffe("shop", "web"))], ..Forged::default() });
    let accepted = |world: &World| answers(world, &forged);
    assert!(accepted(&world), "what the first root signs is accepted while it is there");
    let load = world.load();
    let mut took = Vec::new();
    for round in 0..count("SEKISHO_ROOT_ROTATIONS", 2) {
        let old = world.ca.roots();
        assert_eq!(old.len(), 1);
        let begun = Instant::now();
        world.ca.step("prepare");
        let new = finished(&world, &old[0]);
        took.push(begun.elapsed());
        settled(&world, &new);
        wait::until("the first root to be believed no more", wait::SOON, || (!accepted(&world)).then_some(()));
        println!("rotation {round}: {:?}", took.last().unwrap());
    }
    let requests = load.stop_clean(100);
    let longest = took.iter().max().unwrap();
    println!("{} rotations, {requests} requests, 0 failed; longest {longest:?}", took.len());
    world.assert_untroubled();
}

/// In each state that it can be in, CA is killed as soon as it says that it is there.
#[test]
fn a_rotation_goes_on_after_the_ca_is_killed_in_each_state() {
    let mut world = Stage::new("6s").start();
    let load = world.load();
    let old = world.ca.roots();
    world.ca.step("prepare");
    kill(&mut world, "prepared");
    wait::until("B to issue", LONG, || (world.ca.phase() == "activated").then_some(()));
    kill(&mut world, "activated");
    wait::until("everybody to have a certificate of B", LONG, || {
        let status = world.ca.status();
        let holders = |at: usize| status["roots"][at]["holders"].as_u64().unwrap();
        assert_eq!(
            status["roots"].as_array().unwrap().len(),
            2,
            "A has left before everybody was seen to have B: {status}"
        );
        (holders(0) == 2 && holders(1) == 0).then_some(())
    });
    kill(&mut world, "activated");
    let new = finished(&world, &old[0]);
    kill(&mut world, "steady");
    settled(&world, &new);
    // The next one as well: nothing was left behind.
    world.ca.step("prepare");
    let newer = finished(&world, &new);
    settled(&world, &newer);
    let requests = load.stop_clean(100);
    println!("{requests} requests, 0 failed");
    world.assert_untroubled();
}

/// The steps that it takes by itself are interrupted: each is taken by the server that comes after it.
#[test]
fn a_rotation_goes_on_after_the_ca_is_killed_within_each_step_of_its_own() {
    let mut world = Stage::new("6s").start();
    let load = world.load();
    for moment in Moment::ALL {
        let old = world.ca.roots();
        world.ca.kill();
        world.ca.again_by(&mut moment.of_a_step(&world.ca));
        let asked = world.ca.try_run(&["rotate", "--dir", "ca", "prepare"]);
        assert!(!asked.status.success(), "{moment:?}: acknowledged");
        world.ca.killed();
        if moment == Moment::Before {
            assert_eq!(world.ca.phase_on_disk(), "steady");
            // On the folder: a server would go on to the next step at a time of its own.
            world.ca.run(&["rotate", "--dir", "ca", "prepare"]);
        }
        assert_eq!(world.ca.phase_on_disk(), "prepared", "{moment:?}");

        world.ca.spawn(&mut moment.of_a_step(&world.ca));
        world.ca.killed();
        if moment == Moment::Before {
            assert_eq!(world.ca.phase_on_disk(), "prepared");
            world.ca.again();
            wait::until("B to issue", LONG, || (world.ca.phase() == "activated").then_some(()));
            world.ca.kill();
        }
        assert_eq!(world.ca.phase_on_disk(), "activated", "{moment:?}");

        world.ca.spawn(&mut moment.of_a_step(&world.ca));
        world.ca.killed();
        let stands = if moment == Moment::Before { "activated" } else { "steady" };
        assert_eq!(world.ca.phase_on_disk(), stands, "{moment:?}");
        world.ca.again();
        let new = finished(&world, &old[0]);
        settled(&world, &new);
        println!("{moment:?}: three kills");
    }
    let requests = load.stop_clean(100);
    println!("{requests} requests, 0 failed");
    let verified = world.ca.verify_log();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    world.assert_untroubled();
}

/// `kill -9`; what is on the disk must be this phase. Then again.
fn kill(world: &mut World, phase: &str) {
    world.ca.kill();
    assert_eq!(world.ca.phase_on_disk(), phase, "killed too late");
    world.ca.again();
}

/// Waits until the old root has left the bundle; the one that issues then.
pub(super) fn finished(world: &World, old: &str) -> String {
    wait::until("the rotation to end", LONG, || {
        let status = world.ca.status();
        let roots = status["roots"].as_array().unwrap();
        let new = roots[0]["id"].as_str().unwrap();
        (status["phase"] == "steady" && roots.len() == 1 && new != old).then(|| new.to_owned())
    })
}

/// Both show certificates of this root.
pub(super) fn settled(world: &World, root: &str) {
    for serial in world.serials() {
        assert_eq!(world.ca.root_of(&serial).as_deref(), Some(root), "{serial}");
    }
    assert!(world.callee_shows(root));
}

/// Whether the callee answers somebody with these papers.
pub(super) fn answers(world: &World, papers: &support::pki::Cert) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<String> {
        let mut stream = tls::connect(world.at.inbound, Some(papers), &["http/1.1"])?;
        stream.write_all(b"GET /api/orders/42 HTTP/1.1\r\nHost: orders.shop.svc\r\nConnection: close\r\n\r\n")?;
        let mut buffer = [0; 64];
        let count = stream.read(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    };
    ask().is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
}
