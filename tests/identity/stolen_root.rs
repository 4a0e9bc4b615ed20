//! The drill of docs/ca-rotation.md, "Somebody else has a root's key": whoever has it is believed until the root leaves and no
//! longer, and nobody else notices. The server does the runbook's last step by itself.

use std::time::Instant;

use serde_json::Value;
use support::pair::HOST;
use support::pki::{Forged, spiffe};
use support::{wait, wire};

use super::rotation::{answers, finished, settled};
use super::world::{PATH, Stage};

#[test]
fn a_stolen_root_is_believed_by_nobody_after_the_drill_and_requests_go_on() {
    // Lives so long that no certificate is renewed or ends for any other reason.
    let mut world = Stage::new("1h").start();
    let load = world.load();
    let forger = world.ca.forger();
    let name = format!("URI:{}", spiffe("shop", "web"));
    let thief = forger.leaf("thief", &Forged { names: &[&name], ..Forged::default() });
    assert!(answers(&world, &thief), "whoever has the root's key is believed");
    let (old, serials) = (world.ca.roots(), world.serials());
    assert_eq!(old.len(), 1);

    let begun = Instant::now();
    world.ca.run(&["rotate", "--dir", "ca", "compromise", "--leave-in", "8s"]);
    let status = world.ca.status();
    assert_eq!(status["phase"], "activated", "{status}");
    assert_ne!(status["roots"][0]["id"], old[0].as_str(), "the stolen root issues: {status}");
    world.renewed_since(&serials, wait::SOON);
    println!("both have renewed after {:?}", begun.elapsed());
    // The last step of the runbook is the server's own.
    let new = finished(&world, &old[0]);
    settled(&world, &new);
    wait::until("the thief to be refused", wait::SOON, || (!answers(&world, &thief)).then_some(()));
    println!("the thief is refused after {:?}", begun.elapsed());
    // Those who came without a certificate were ourselves, to look at the callee's. Who came between two sets of roots may have had
    // a handshake and no answer: the next one has neither.
    let refused = wait::until("a refused handshake of the thief", wait::SOON, || {
        assert!(!answers(&world, &thief));
        let refused = |event: &Value| event["event"] == "handshake_refused" && event["reason"] != "no_certificate";
        world.server.events().into_iter().find(refused)
    });
    assert_eq!(refused["reason"], "unknown_issuer", "{refused}");

    // What is made with the key from now on is worth as little.
    let again = forger.leaf("again", &Forged { names: &[&name], ..Forged::default() });
    assert!(!answers(&world, &again));
    let status: Value =
        serde_json::from_str(&world.ca.run(&["rotate", "--dir", "ca", "--format", "json", "status"])).unwrap();
    assert_eq!((status["phase"].as_str(), status["issuing"].as_str()), (Some("steady"), Some(&*new)), "{status}");
    assert_eq!(wire::get(world.at.entry, HOST, PATH).unwrap().status(), 200);
    let requests = load.stop_clean(100);
    println!("{requests} requests, 0 failed");
    let acts: Vec<_> = world.ca.records().iter().map(|record| record["event"].clone()).collect();
    for act in ["root-compromised", "rotation-finished"] {
        assert!(acts.iter().any(|event| event == act), "{act} is not on record");
    }
    world.assert_untroubled();
}
