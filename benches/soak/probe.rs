//! The probe: one caller that asks at fixed times, and how long each answer took from the time at which it was due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::app;
use crate::ledger::Ledger;
use crate::load::{Line, judge, number};
use crate::stage::Stage;

/// 100 requests a second.
const EVERY: Duration = Duration::from_millis(10);

/// The running probe.
pub(crate) struct Probe {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Microseconds, since they were last taken.
    latencies: Mutex<Vec<u64>>,
}

impl Probe {
    pub(crate) fn start(stage: &Arc<Stage>, ledger: &Arc<Ledger>) -> Self {
        let shared = Arc::<Shared>::default();
        let (stage, ledger, its) = (Arc::clone(stage), Arc::clone(ledger), Arc::clone(&shared));
        Self { shared, thread: std::thread::spawn(move || ask(&stage, &ledger, &its)) }
    }

    /// What was measured since the last call, in order of size.
    pub(crate) fn latencies(&self) -> Vec<u64> {
        let mut latencies = std::mem::take(&mut *self.shared.latencies.lock().unwrap());
        latencies.sort_unstable();
        latencies
    }

    pub(crate) fn stop(self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

fn ask(stage: &Stage, ledger: &Ledger, shared: &Shared) {
    let mut kept = None;
    let mut due = Instant::now();
    while !shared.stop.load(Ordering::SeqCst) {
        due += EVERY;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let line = kept.take().map_or_else(|| Line::plain(stage.entry()), Ok);
        let target = format!("/api/orders/{}", number());
        match line.and_then(|mut line| Ok((line.ask("GET", &target, "", b"")?, line))) {
            Ok((answer, line)) => {
                let taken = u64::try_from(due.elapsed().as_micros()).unwrap();
                shared.latencies.lock().unwrap().push(taken);
                ledger.note("probe", judge(&answer, &app::order(&target)));
                kept = (!answer.closes()).then_some(line);
            }
            Err(error) => ledger.wrong("probe", error),
        }
    }
}
