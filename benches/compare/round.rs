//! One make, once: start a fresh pair, check it, look at its memory, run both workloads, end it.
//!
//! Fresh processes in every round, so that one unlucky layout in memory does not stand for a make.

use serde_json::{Value, json};
use std::process::Stdio;

use crate::cost;
use crate::options::{Cores, Load, Options};
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
            record.as_object_mut().unwrap().extend(outcome.as_object().unwrap().clone());
            let other = other_work(&outcome, options.cores);
            if other.iter().any(|share| *share > TOLERATED) {
                let [sidecars, load] = other.map(|share| share * 100.0);
                eprintln!(
                    "  {workload}: other work took {sidecars:.0} % of the sidecars' core, {load:.0} % of the load's"
                );
            }
            record["other_work"] = json!({ "sidecar_core": other[0], "load_core": other[1] });
            record
        })
        .into()
}

/// Share of a core that may go to others before the run is worth a word on the terminal.
const TOLERATED: f64 = 0.05;

fn load(world: &World, pair: &Pair, workload: &str, options: &Options) -> Value {
    let [caller, callee] = pair.pids();
    let pids = [caller, callee, world.origin_pid()];
    let load = Load { to: pair.entry(), warm_up: options.warm_up, window: options.window, pids };
    let output = world.load(workload).args(load.arguments()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the {workload} load failed: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The shares of the sidecars' core and of the load's that went to anything but the processes of this bench.
fn other_work(outcome: &Value, cores: Cores) -> [f64; 2] {
    let ours = [["caller", "callee"], ["origin", "load"]];
    let cores = [cores.sidecars, cores.load];
    std::array::from_fn(|index| {
        let busy = outcome["cores"][cores[index]]["busy"].as_f64().unwrap();
        (busy - cost::share(outcome, ours[index])).max(0.0)
    })
}
