//! The server is killed in the middle of each step that an operator asks for: the operator is told of a failure, the folder holds
//! the state before the step or the one after it, and the server that is started again goes on from there.

use std::path::PathBuf;

use serde_json::json;
use support::fatal::Moment;
use support::wait;

use crate::setting::{Setting, whole};

/// Steps in an order that is allowed, and the phase after each. A pod that never comes back keeps the gate shut, so that the
/// server takes none of them by itself.
const STEPS: &[(&[&str], &str)] = &[
    (&["prepare"], "prepared"),
    (&["rollback"], "steady"),
    (&["prepare"], "prepared"),
    (&["activate", "--override"], "activated"),
    (&["rollback"], "prepared"),
];

#[test]
fn a_server_killed_before_it_has_taken_a_step_finds_the_state_before_it() {
    each_step(Moment::Before);
}

#[test]
fn a_server_killed_before_it_has_told_of_a_step_finds_the_state_after_it() {
    each_step(Moment::After);
}

fn each_step(moment: Moment) {
    let mut setting = Setting::new("");
    setting.holder("web", json!({}));
    let first = setting.server.roots();
    let mut before = "steady";
    setting.server.kill();
    for (step, after) in STEPS {
        killed_at(&mut setting, moment, step);
        let stands = if moment == Moment::Before { before } else { after };
        assert_eq!(setting.server.phase_on_disk(), stands, "{step:?}");
        setting.server.again();
        assert_eq!(setting.server.phase(), stands, "{step:?}");
        assert_eq!(
            begun_from(&setting),
            (setting.server.status()["sequence"].as_u64().unwrap(), stands.to_owned()),
            "{step:?}"
        );
        if moment == Moment::Before {
            rotate(&setting, step).unwrap_or_else(|said| panic!("{step:?} once more: {said}"));
        }
        assert_eq!(setting.server.phase(), *after, "{step:?}");
        issues(&mut setting);
        setting.server.kill();
        before = after;
    }

    let compromise = ["compromise", "--leave-in", "2s"];
    killed_at(&mut setting, moment, &compromise);
    assert_eq!(setting.server.phase_on_disk(), if moment == Moment::Before { "prepared" } else { "activated" });
    if moment == Moment::Before {
        // On the folder: a server would go on to the next step at a time of its own.
        rotate(&setting, &compromise).unwrap();
    }
    // The last step is the server's own, when the time of the compromised root is over.
    setting.server.spawn(&mut moment.of_a_step(&setting.server));
    setting.server.killed();
    assert_eq!(setting.server.phase_on_disk(), if moment == Moment::Before { "activated" } else { "steady" });
    setting.server.again();
    let last = wait::until("the compromised root to leave", wait::SOON, || {
        let roots = setting.server.roots();
        (roots.len() == 1).then_some(roots)
    });
    assert_ne!(last, first);
    assert_eq!(setting.server.phase(), "steady");
    issues(&mut setting);
    whole(&setting.server);
}

/// The server is killed at this moment of a step; whoever asked for the step is not told that it was done.
fn killed_at(setting: &mut Setting, moment: Moment, step: &[&str]) {
    setting.server.again_by(&mut moment.of_a_step(&setting.server));
    assert!(rotate(setting, step).is_err(), "{step:?} was acknowledged");
    setting.server.killed();
}

fn rotate(setting: &Setting, step: &[&str]) -> Result<(), String> {
    let done = setting.server.try_run(&[&["rotate", "--dir", "ca"], step].concat());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() { Ok(()) } else { Err(said) }
}

/// What the newest record of a start says: the bundle's number and the phase.
fn begun_from(setting: &Setting) -> (u64, String) {
    let records = setting.server.records();
    let started = records.iter().rfind(|record| record["event"] == "started").unwrap();
    let detail = started["detail"].as_str().unwrap();
    (started["bundle"].as_u64().unwrap(), detail.split(", ").nth(1).unwrap().to_owned())
}

/// A new pod gets a certificate of the root that issues.
fn issues(setting: &mut Setting) {
    let roots = bundle(setting);
    let token = setting.client.token("e1", json!({}));
    let answer = setting.ask(&token, json!({ "roots": roots }));
    assert_eq!(answer["code"], "OK", "{answer}");
    let serial = answer["leaf"]["serial"].as_str().unwrap();
    assert_eq!(setting.server.root_of(serial).as_ref(), setting.server.roots().first());
}

/// The roots of the bundle as a file, for a client that comes with nothing else.
fn bundle(setting: &Setting) -> PathBuf {
    let pem = |id: &String| std::fs::read_to_string(setting.server.home().join("roots").join(id).join("root.pem"));
    let text: String = setting.server.roots().iter().map(|id| pem(id).unwrap()).collect();
    setting.dir.write("bundle.pem", text)
}
