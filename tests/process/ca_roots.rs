//! The CA's roots over time, by the commands: a rotation from A to B, the deny list, recovery, and `kill -9`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::scratch::Scratch;
use support::sidecar::sekisho;
use support::{tools, wait};

/// Runs `sekisho ca` and returns its exit code and stdout.
fn ca(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = sekisho(dir, &[&["ca"], arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || !error.is_empty(), "{arguments:?} failed without a word");
    (output.status.code().unwrap(), text)
}

fn init(dir: &Path) {
    assert_eq!(ca(dir, &["init", "--dir", "ca", "--trust-domain", "example.org"]).0, 0);
}

fn rotate(dir: &Path, step: &[&str]) -> i32 {
    ca(dir, &[&["rotate", "--dir", "ca"], step].concat()).0
}

fn status(dir: &Path) -> Value {
    let (code, text) = ca(dir, &["rotate", "--dir", "ca", "--format", "json", "status"]);
    assert_eq!(code, 0);
    serde_json::from_str(&text).unwrap()
}

fn issue(dir: &Path, name: &str) {
    let id = format!("spiffe://example.org/ns/shop/sa/{name}");
    let (code, _) = ca(dir, &["issue", "--dir", "ca", "--id", &id, "--out", ".", "--name", name]);
    assert_eq!(code, 0);
}

/// Whether openssl finds a path from a chain to the roots of a file.
fn trusts(dir: &Path, roots: &str, chain: &str) -> bool {
    let arguments = ["verify", "-x509_strict", "-CAfile", roots, "-untrusted", chain, chain];
    tools::system("openssl", "openssl").args(arguments).current_dir(dir).output().unwrap().status.success()
}

#[test]
fn a_root_is_replaced_step_by_step_and_what_is_not_the_moment_has_its_exit_code() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    init(dir);
    issue(dir, "one");
    std::fs::rename(dir.join("roots.pem"), dir.join("a.pem")).unwrap();
    let first = status(dir);
    assert_eq!((first["phase"].as_str(), first["sequence"].as_u64()), (Some("steady"), Some(1)));
    assert_eq!(rotate(dir, &["activate", "--override"]), 4);
    assert_eq!(rotate(dir, &["finish"]), 4);

    assert_eq!(rotate(dir, &["prepare"]), 0);
    assert_eq!(rotate(dir, &["prepare"]), 4);
    issue(dir, "two");
    assert_eq!(scratch.read("roots.pem").matches("BEGIN CERTIFICATE").count(), 2);
    assert!(trusts(dir, "a.pem", "two.pem"), "the first root goes on issuing");
    assert_eq!(status(dir)["issuing"], first["issuing"]);

    assert_eq!(rotate(dir, &["activate"]), 4, "nobody has acknowledged anything here");
    assert_eq!(rotate(dir, &["activate", "--override"]), 0);
    issue(dir, "three");
    assert!(!trusts(dir, "a.pem", "three.pem"), "the second root issues");
    for name in ["one.pem", "two.pem", "three.pem"] {
        assert!(trusts(dir, "roots.pem", name), "{name}");
    }
    let state = status(dir);
    assert_eq!((state["phase"].as_str(), state["sequence"].as_u64()), (Some("activated"), Some(3)));
    assert_eq!(state["passed"]["by"], "override");
    assert_ne!(state["issuing"], first["issuing"]);

    assert_eq!(rotate(dir, &["finish"]), 4, "certificates of the first root are in use");
    assert_eq!(rotate(dir, &["rollback"]), 0);
    assert_eq!(status(dir)["issuing"], first["issuing"]);
}

#[test]
fn a_compromised_root_is_replaced_at_once_and_leaves_by_its_time() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    init(dir);
    let first = status(dir)["issuing"].clone();
    assert_eq!(rotate(dir, &["compromise", "--leave-in", "1s"]), 0);
    let state = status(dir);
    assert_ne!(state["issuing"], first);
    assert!(state["renew"]["splay_seconds"].is_u64(), "{state}");
    wait::until("the compromised root may leave", Duration::from_secs(30), || {
        (rotate(dir, &["finish"]) == 0).then_some(())
    });
    let state = status(dir);
    assert_eq!((state["phase"].as_str(), state["roots"].as_array().map(Vec::len)), (Some("steady"), Some(1)));
    issue(dir, "web");
    assert!(trusts(dir, "roots.pem", "web.pem"));
}

#[test]
fn the_deny_list_takes_gives_and_refuses_entries() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    init(dir);
    let deny = |arguments: &[&str]| ca(dir, &[&["deny", "--dir", "ca", "--format", "json"], arguments].concat());
    let id = "spiffe://example.org/ns/shop/sa/web";
    assert_eq!(deny(&["add", "--id", id, "--reason", "stolen"]).0, 0);
    let issue = ["issue", "--dir", "ca", "--id", id, "--out", ".", "--name", "web"];
    assert_eq!(ca(dir, &issue).0, 1, "a denied name");
    assert!(!dir.join("web.pem").exists());
    assert_eq!(deny(&["add", "--serial", "0a1b", "--reason", "stolen", "--for", "1h"]).0, 0);
    assert_eq!(deny(&["add", "--serial", "xyz", "--reason", "stolen"]).0, 1);
    assert_eq!(deny(&["add", "--reason", "stolen"]).0, 2);
    assert_eq!(deny(&["remove", "--serial", "0a1b"]).0, 0);
    assert_eq!(deny(&["remove", "--serial", "0a1b"]).0, 1);
    let list: Value = serde_json::from_str(&deny(&["list"]).1).unwrap();
    assert_eq!((list["version"].as_u64(), list["entries"].as_array().map(Vec::len)), (Some(3), Some(1)));
    assert_eq!(list["entries"][0]["value"], id);
}

#[test]
fn recovery_does_nothing_while_the_root_is_valid_and_numbers_on_from_a_backup() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    init(dir);
    let before = status(dir);
    assert_eq!(ca(dir, &["recover", "--dir", "ca"]).0, 0);
    assert_eq!(ca(dir, &["recover", "--dir", "ca", "--apply"]).0, 0);
    assert_eq!(status(dir), before);
    assert_eq!(ca(dir, &["recover", "--dir", "ca", "--apply", "--sequence-above", "41"]).0, 0);
    assert_eq!(status(dir)["sequence"], 42);
}

/// The clock is moved past the root's end under the real binary.
#[test]
fn recovery_leads_out_of_an_expired_root() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    init(dir);
    let before = status(dir)["issuing"].clone();
    let later = |arguments: &[&str]| {
        let mut command = Command::new(tools::sekisho());
        command.envs(tools::faketime_by("+4000d")).arg("ca").args(arguments).current_dir(dir);
        command.output().unwrap().status.code().unwrap()
    };
    let issue = ["issue", "--dir", "ca", "--id", "spiffe://example.org/x", "--out", ".", "--name", "x"];
    assert_eq!(later(&issue), 1);
    assert_eq!(later(&["recover", "--dir", "ca"]), 0);
    assert_eq!(later(&issue), 1, "without --apply nothing is changed");
    assert_eq!(later(&["recover", "--dir", "ca", "--apply"]), 0);
    assert_eq!(later(&issue), 0);
    let state = status(dir);
    assert_ne!(state["issuing"], before);
    assert_eq!(state["phase"], "steady");
}

/// One step of the state machine, from the phase before it to the one after it.
struct Step {
    /// What brings a new CA to that phase.
    before: &'static [&'static [&'static str]],
    step: &'static [&'static str],
    phases: [&'static str; 2],
}

const STEPS: &[Step] = &[
    Step { before: &[], step: &["prepare"], phases: ["steady", "prepared"] },
    Step { before: &[&["prepare"]], step: &["rollback"], phases: ["prepared", "steady"] },
    Step { before: &[&["prepare"]], step: &["activate", "--override"], phases: ["prepared", "activated"] },
    Step {
        before: &[&["prepare"], &["activate", "--override"]],
        step: &["rollback"],
        phases: ["activated", "prepared"],
    },
    Step { before: &[], step: &["compromise"], phases: ["steady", "activated"] },
    Step { before: &[&["compromise", "--leave-in", "1s"]], step: &["finish"], phases: ["activated", "steady"] },
];

/// The kernel kills the process at its first, second, third … flush, move and new folder.
#[test]
fn a_kill_at_any_moment_of_a_step_leaves_a_ca_that_goes_on() {
    for Step { before, step, phases } in STEPS {
        let ready = Scratch::new();
        init(ready.path());
        for step in *before {
            assert_eq!(rotate(ready.path(), step), 0, "{step:?}");
        }
        if *step == ["finish"] {
            wait::until("the compromised root's time to be over", wait::SOON, || {
                let roots = status(ready.path())["advice"].clone();
                roots.to_string().contains("\"finish\"").then_some(())
            });
        }
        let mut kills = 0;
        for call in ["fsync", "/^rename", "/^mkdir"] {
            for nth in 1.. {
                let scratch = Scratch::new();
                let dir = scratch.path();
                let copy = tools::system("cp", "coreutils").arg("-a").arg(ready.join("ca")).arg(dir).status();
                assert!(copy.unwrap().success());
                let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
                let mut command = tools::system("strace", "strace");
                command.args(["-f", "-o", "/dev/null", "-e", &inject]).arg(tools::sekisho());
                command.args(["ca", "rotate", "--dir", "ca"]).args(*step).current_dir(dir);
                let done = command.output().unwrap().status.success();
                let phase = status(dir)["phase"].clone();
                assert!(phases.iter().any(|possible| phase == *possible), "{step:?}: {phase}");
                assert!(!done || phase == phases[1], "{step:?}: {phase}");
                issue(dir, "web");
                assert!(trusts(dir, "roots.pem", "web.pem"));
                if phase == phases[0] {
                    assert_eq!(rotate(dir, step), 0, "{step:?} after the kill");
                }
                assert_eq!(ca(dir, &["log", "verify", "--dir", "ca"]).0, 0, "{step:?}");
                if done {
                    break;
                }
                kills += 1;
            }
        }
        println!("{step:?} from {}: {kills} kills", phases[0]);
        assert!(kills >= 3, "{step:?}: {kills} kills");
    }
}
