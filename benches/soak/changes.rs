//! What operators and CAs do while the load goes on: rules that change a verdict, taps that come and go, certificates that
//! are renewed long before and only just before they expire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::pair::HOST;
use support::{wait, wire};

use crate::ledger::Ledger;
use crate::stage::{GATE, Stage};

/// From one change of rules to the next.
const RULES_EVERY: Duration = Duration::from_secs(3);
/// From one renewal to the next, and how long a certificate would live without it.
const PAPERS_EVERY: Duration = Duration::from_secs(10);
const TTL: &str = "30s";

/// Within which a change must be seen by a probe. They come with SIGHUP or by the look at the files twice a second.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// The running changes.
pub(crate) struct Changes {
    stop: Arc<AtomicBool>,
    threads: [JoinHandle<()>; 2],
}

impl Changes {
    pub(crate) fn start(stage: &Arc<Stage>, ledger: &Arc<Ledger>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spawn = |part: fn(&Stage, &Ledger, &AtomicBool)| {
            let (stage, ledger, stop) = (Arc::clone(stage), Arc::clone(ledger), Arc::clone(&stop));
            std::thread::spawn(move || part(&stage, &ledger, &stop))
        };
        Self { threads: [spawn(rules), spawn(papers)], stop }
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Each turn opens or closes the gate, in the callee's file or in the caller's, with or without a signal.
fn rules(stage: &Stage, ledger: &Ledger, stop: &AtomicBool) {
    let dir = &stage.setting.dir;
    let (callee, caller) = (dir.read("server.toml"), dir.read("client.toml"));
    let allow = format!("[[inbound]]\nname = \"gate\"\nfrom = \"shop/web\"\nrequests = [\"GET {GATE}\"]\n");
    let deny = format!(
        "[[outbound]]\nname = \"no-gate\"\naction = \"deny\"\nto = \"shop/orders\"\nrequests = [\"GET {GATE}\"]\n"
    );
    let (callee_without_tap, tap) = callee.split_once("\n[[tap]]").unwrap();
    let (mut callee_opens, mut caller_opens) = (false, true);
    for turn in 1_u32.. {
        if !pause(RULES_EVERY, stop) {
            return;
        }
        let round = format!("# {turn}\n");
        if turn % 3 == 0 {
            caller_opens = !caller_opens;
            dir.write("client.toml", format!("{caller}\n{}{round}", if caller_opens { "" } else { &deny }));
        } else {
            callee_opens = !callee_opens;
            // The tap goes and comes back too.
            let tap = if turn % 8 == 4 { String::new() } else { format!("\n[[tap]]{tap}\n") };
            dir.write(
                "server.toml",
                format!("{callee_without_tap}\n{}{tap}{round}", if callee_opens { &allow } else { "" }),
            );
        }
        if turn % 2 == 0 {
            stage.caller.reload();
            stage.callee.reload();
        }
        let due = if callee_opens && caller_opens { 200 } else { 403 };
        let verdict = || wire::get(stage.entry(), HOST, GATE).ok().map(|answer| answer.status());
        let seen = wait::within(SEEN_WITHIN, || (verdict() == Some(due)).then_some(()));
        ledger.note_due("new rules", seen.ok_or(format!("turn {turn}: {due} was not seen")));
    }
}

/// New certificates for both sidecars from `sekisho ca issue`, and a look that they were taken.
fn papers(stage: &Stage, ledger: &Ledger, stop: &AtomicBool) {
    for turn in 1_u32.. {
        if !pause(PAPERS_EVERY, stop) {
            return;
        }
        for (name, (_, sidecar)) in ["web", "orders"].into_iter().zip(stage.sidecars()) {
            let serial = || sidecar.policy_status()["certificate"]["serial"].clone();
            let before = serial();
            stage.setting.ca.issue_for(name, "shop", name, TTL);
            if turn % 2 == 0 {
                sidecar.reload();
            }
            let taken = wait::within(SEEN_WITHIN, || (serial() != before).then_some(()));
            ledger.note_due("renewal", taken.ok_or(format!("turn {turn}: {name}'s certificate was not taken")));
        }
    }
}

/// Waits, unless it is time to stop.
fn pause(time: Duration, stop: &AtomicBool) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if stop.load(Ordering::SeqCst) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}
