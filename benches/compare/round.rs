//! One make, once: start a fresh pair, check it, look at its memory, run both workloads, end it.
//!
//! Fresh processes in every round, so that one unlucky layout in memory does not stand for a make.

use serde_json::{Value, json};
use std::process::Stdio;

use crate::cost;
use crate::options::{Load, Options};
use crate::pairs::{Make, Pair, SETTLE, World};

/// Gives one record per workload.
pub(crate) fn measure(world: &World, make: Make, round: u32, options: &Options) -> Vec<Value> {
    let pair = Pair::start(world, make);
    pair.check();
    std::thread::sleep(SETTLE);
    let [caller, callee] = pair.pids();
    let idle = json!({ "caller": cost::memory(caller), "callee": cost::memory(callee) });
    ["closed", "open"]
        .map(|workload| {
            let mut record = json!({ "round": round, "make": make.name(), "workload": workload });
            record["idle_memory_kib"] = idle.clone();
            let outcome = load(world, &pair, workload, options);
            let other = other_work(&outcome, world.sidecar_core());
            if other > TOLERATED {
                eprintln!("  {workload}: other work took {:.0} % of the sidecars' core", other * 100.0);
            }
            record["other_work_on_sidecar_core"] = json!(other);
            record.as_object_mut().unwrap().extend(outcome.as_object().unwrap().clone());
            record
        })
        .into()
}

/// Share of the core that may go to others before the run is worth a word on the terminal.
const TOLERATED: f64 = 0.05;

fn load(world: &World, pair: &Pair, workload: &str, options: &Options) -> Value {
    let load = Load { to: pair.entry(), warm_up: options.warm_up, window: options.window, pids: pair.pids() };
    let output = world.load(workload).args(load.arguments()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the {workload} load failed: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The share of the sidecars' core that was busy with something else than the sidecars.
fn other_work(outcome: &Value, core: usize) -> f64 {
    let spent: f64 = ["caller", "callee"]
        .iter()
        .flat_map(|side| [&outcome[side]["user_s"], &outcome[side]["system_s"]])
        .filter_map(Value::as_f64)
        .sum();
    let busy = outcome["cores"][core]["busy"].as_f64().unwrap();
    (busy - spent / outcome["seconds"].as_f64().unwrap()).max(0.0)
}
