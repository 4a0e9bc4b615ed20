//! The CA is slow, broken or taken over: the sidecar serves on under its valid certificate, asks again with pauses that differ, says
//! why, and recovers by itself.

use std::time::Duration;

use support::wait;

use super::fake_ca::{Answer, FakeCa, Fault};
use super::world::{Stage, World};

/// A fault, and a word of what the sidecar must say.
const FAULTS: &[(Fault, &str)] = &[
    (Fault::Closed, "no TLS: "),
    (Fault::Silent, "connecting took too long"),
    (Fault::Drip, "connecting took too long"),
    (Fault::Noise, "no TLS: "),
    (Fault::OtherProtocol, "no TLS: "),
    (Fault::UnknownCa, "no TLS: "),
    (Fault::AnotherWorkload, "spiffe://example.org/ns/shop/sa/evil"),
    (Fault::Expired, "has expired"),
    (Fault::SilentGrpc, "the CA does not answer a watch"),
    (Fault::Answer(Answer::Never), "the CA does not answer"),
    (Fault::Answer(Answer::Unavailable), "the disk is full"),
    (Fault::Answer(Answer::NoPem), "the CA's answer cannot be used"),
    (Fault::Answer(Answer::NoDer), "the CA's answer cannot be used"),
    (Fault::Answer(Answer::AnotherKey), "the CA's answer cannot be used"),
    (Fault::Answer(Answer::AnotherName), "spiffe://example.org/ns/shop/sa/admin"),
    (Fault::Answer(Answer::Expired), "has expired"),
    (Fault::Answer(Answer::AnotherRoot), "the CA's answer cannot be used"),
    (Fault::Answer(Answer::NoRoots), "the CA's answer cannot be used"),
    (Fault::Answer(Answer::Nothing), "without a chain and roots"),
    (Fault::Answer(Answer::AnotherDomain), "is a root of trust domain `partner.example`"),
];

/// The pair with the faulty CA in front of the real one.
fn world(ttl: &str) -> (World, FakeCa) {
    let stage = Stage::new(ttl);
    let fake = FakeCa::start(stage.ca.home(), stage.ca.address());
    let (real, address) = (stage.ca.address().to_string(), fake.address().to_string());
    let stage = stage.change("server", |text| text.replace(&real, &address));
    (stage.start(), fake)
}

/// What the callee's sidecar says of its source, in order.
fn said(world: &World) -> Vec<String> {
    let events = world.server.events();
    let failed = events.iter().filter(|event| event["event"] == "identity_source_failed");
    failed.map(|event| event["detail"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_faulty_ca_of_any_kind_troubles_nobody_and_is_said() {
    let (mut world, fake) = world("1h");
    let load = world.load();
    let mut wrong = Vec::new();
    for (fault, words) in FAULTS {
        // A handshake that failed may mean that the CA no longer takes our certificate: the recovery from the fault before may have
        // brought another.
        let before = world.serials();
        let told = said(&world).len();
        fake.be(*fault);
        let heard = wait::within(Duration::from_secs(30), || {
            said(&world)[told..].iter().any(|text| text.contains(words)).then_some(())
        });
        if heard.is_none() {
            wrong.push(format!("{fault:?}: {words:?} is not in {:?}", &said(&world)[told..]));
        }
        // The certificate in force is the one of before, it serves, and what is wrong stands in the state.
        assert_eq!(world.serials(), before, "{fault:?}");
        // A CA that answers a watch well and a request badly is heard and missed in turns.
        wait::until(&format!("{fault:?} to stand in the state"), Duration::from_secs(30), || {
            (world.server.policy_status()["certificate"]["stale"] == true).then_some(())
        });
        world.assert_untroubled();
        fake.be(Fault::None);
        wait::until("the CA to be heard again", Duration::from_secs(60), || {
            (world.server.policy_status()["certificate"]["stale"] == false).then_some(())
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let requests = load.stop_clean(50);
    println!("{requests} requests, 0 failed, over {} faults", FAULTS.len());
    world.assert_untroubled();
}

#[test]
fn who_cannot_watch_is_issued_certificates_all_the_same() {
    let (mut world, fake) = world("10s");
    let load = world.load();
    fake.be(Fault::NoWatch);
    let mut before = world.serials();
    for _ in 0..2 {
        before = world.renewed_since(&before, Duration::from_secs(30));
    }
    load.stop_clean(50);
    world.assert_untroubled();
}

/// Attempts of an outage: their pauses grow, and no two are alike.
#[test]
fn attempts_come_with_growing_pauses_of_different_lengths() {
    let (world, fake) = world("1h");
    fake.be(Fault::Closed);
    // An attempt by the certificate and, because TLS fails, one by the token: then a pause.
    let times = wait::until("five pauses", Duration::from_secs(100), || {
        let times = fake.times();
        (times.len() >= 10).then_some(times)
    });
    let begins: Vec<_> = times.iter().step_by(2).collect();
    let pauses: Vec<_> = begins.windows(2).map(|pair| pair[1].duration_since(*pair[0]).unwrap_or_default()).collect();
    // Full jitter: any single pause may be short. They end at 0.5, 1, 2 and 4 s, so that not one in ten thousand outages shows
    // none of these.
    let longest = pauses.iter().max().unwrap();
    assert!(*longest > Duration::from_millis(150), "{pauses:?}");
    let mut distinct: Vec<_> = pauses.iter().map(|pause| pause.as_millis()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() >= 3, "{pauses:?}");
    assert!(world.server.is_ready());
}
