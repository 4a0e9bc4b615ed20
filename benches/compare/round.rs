//! One make, once: fresh pairs, checked, then one workload after another.
//!
//! Fresh processes in every round, so that one unlucky layout in memory does not stand for a make. What fails leaves a
//! record with its error, which makes the row invalid, and the run goes on.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use support::wait;

use crate::cost;
use crate::load::{Load, mix::Mix};
use crate::makes::Make;
use crate::options::{Cores, Options, Times};
use crate::pair::Pair;
use crate::proof;
use crate::runs::Runs;
use crate::setup::Shape;
use crate::workloads::Workload;
use crate::world::World;

/// What came of one workload, or why nothing did.
pub(crate) type Outcome = Result<Value, String>;

/// Adds one record per workload.
pub(crate) fn measure(world: &World, make: Make, round: u32, options: &Options, runs: &mut Runs) {
    let wants = |workload| options.wants(make, workload);
    let mut note = |workload: &str, outcome| record(runs, options.cores, make, round, workload, outcome);
    if [Workload::W1, Workload::W2, Workload::W4, Workload::W5, Workload::W6].into_iter().any(wants) {
        if round == 1 {
            proof::caller(world, make);
        }
        match start(world, make, Shape::default()) {
            Err(error) => {
                let lost = STEADY.iter().filter(|(workload, _)| wants(*workload));
                lost.flat_map(|(_, names)| *names).for_each(|name| note(name, Err(error.clone())));
            }
            Ok(pair) => steady(world, &pair, options, &mut note),
        }
    }
    if wants(Workload::W3) {
        let outcome = start(world, make, Shape { h2: true, ..Shape::default() })
            .and_then(|pair| world.run("h2", &pair.load(options.times)));
        note("w3", outcome);
    }
    if wants(Workload::W6) {
        match start(world, make, Shape::default()) {
            Err(error) => ["w6-plain", "w6-mtls"].iter().for_each(|name| note(name, Err(error.clone()))),
            Ok(pair) => idle(world, &pair, options, &mut note),
        }
    }
    if wants(Workload::Rules) {
        note("rules", many_rules(world, make, options.times));
    }
}

/// The records of one pair, which fail together when it does not start.
const STEADY: [(Workload, &[&str]); 5] = [
    (Workload::W6, &["w6"]),
    (Workload::W2, &["w2"]),
    (Workload::W1, &["w1", "w1-syscalls"]),
    (Workload::W4, &["w4-1", "w4-4"]),
    (Workload::W5, &["w5-full", "w5-resumed", "w5-mlkem"]),
];

/// A pair that has been shown to refuse what it must.
pub(crate) fn start(world: &World, make: Make, shape: Shape) -> Result<Pair, String> {
    attempt(|| {
        let pair = Pair::start(world, make, shape);
        proof::callee(world, &pair);
        Ok(pair)
    })
}

/// The workloads of one pair, the gentlest first, since memory only grows.
fn steady(world: &World, pair: &Pair, options: &Options, note: &mut impl FnMut(&str, Outcome)) {
    let wants = |workload| options.wants(pair.make, workload);
    let load = pair.load(options.times);
    if wants(Workload::W6) {
        std::thread::sleep(SETTLE);
        note("w6", Ok(pair.memory()));
    }
    if wants(Workload::W2) || wants(Workload::W6) {
        note("w2", world.run("open", &load));
    }
    if wants(Workload::W1) {
        note("w1", world.run("closed", &load));
        let window = Duration::from_millis(700);
        note("w1-syscalls", world.run("closed", &Load { kind: "syscalls".into(), window, ..load.clone() }));
    }
    let short = Load { warm_up: load.warm_up / 2, window: options.times.short, ..load };
    if wants(Workload::W4) {
        for connections in [1, 4] {
            note(&format!("w4-{connections}"), world.run("bulk", &Load { connections, ..short.clone() }));
        }
    }
    if wants(Workload::W5) {
        for kind in ["full", "resumed", "mlkem"] {
            let load = Load { to: pair.inbound, kind: kind.into(), ..short.clone() };
            note(&format!("w5-{kind}"), world.run("handshake", &load));
        }
    }
}

/// Quiet before a look at memory.
const SETTLE: Duration = Duration::from_millis(500);

fn idle(world: &World, pair: &Pair, options: &Options, note: &mut impl FnMut(&str, Outcome)) {
    std::thread::sleep(SETTLE);
    let load = Load { connections: options.idle, ..pair.load(options.times) };
    for (kind, to) in [("plain", pair.entry), ("mtls", pair.inbound)] {
        let load = Load { to, kind: kind.into(), ..load.clone() };
        note(&format!("w6-{kind}"), attempt(|| hold(world, pair, &load)));
    }
}

/// Memory before many connections, while they are idle, and some time after they were closed.
fn hold(world: &World, pair: &Pair, load: &Load) -> Outcome {
    let before = pair.memory();
    let (out, err) = (world.dir.join("idle.out"), world.dir.join("idle.err"));
    let mut command = world.role("idle", &load.to_json());
    command.stdin(Stdio::piped()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut holder = command.spawn().map_err(|error| error.to_string())?;
    let open = wait::within(OPENING, || {
        let said = std::fs::read_to_string(&out).unwrap_or_default();
        let ended = holder.try_wait().unwrap().is_some();
        (ended || said.starts_with("open")).then_some(!ended)
    });
    if open == Some(true) {
        std::thread::sleep(SETTLE);
    }
    let held = pair.memory();
    drop(holder.stdin.take());
    if wait::within(Duration::from_secs(10), || holder.try_wait().unwrap()).is_none() {
        let _ = holder.kill();
        let _ = holder.wait();
    }
    if open != Some(true) {
        let said = std::fs::read_to_string(&err).unwrap_or_default();
        return Err(format!("not all of {} connections could be opened: {}", load.connections, said.trim()));
    }
    std::thread::sleep(AFTERWARDS);
    Ok(json!({ "connections": load.connections, "before": before, "held": held, "closed": pair.memory() }))
}

/// 10,000 handshakes take some makes twenty seconds.
const OPENING: Duration = Duration::from_secs(90);
/// From the end of the connections to the look at what memory is left.
const AFTERWARDS: Duration = Duration::from_secs(2);

const RULES: usize = 10_000;
/// Requests per second over so many rules.
pub(crate) const RULES_RATE: u32 = 5000;

/// What a busy workload of a large cluster asks of a small sidecar.
fn many_rules(world: &World, make: Make, times: Times) -> Outcome {
    let pair = start(world, make, Shape { rules: RULES, ..Shape::default() })?;
    world.run("open", &Load { connections: 1000, rate: RULES_RATE, mix: Mix::Rules(RULES), ..pair.load(times) })
}

/// The same load straight to the origin: what of the figures is not the sidecars'.
pub(crate) fn without_sidecars(world: &World, round: u32, options: &Options, runs: &mut Runs) {
    let pid = world.origin_pid();
    let load = Load::new(world.origin, [pid; 3], options.times.warm_up, options.times.window);
    for (workload, name, role) in [(Workload::W2, "w2", "open"), (Workload::W1, "w1", "closed")] {
        if options.workloads.contains(&workload) {
            match world.run(role, &load) {
                Ok(mut outcome) => {
                    outcome["round"] = round.into();
                    outcome["make"] = NOBODY.into();
                    outcome["workload"] = name.into();
                    runs.add(outcome);
                }
                Err(error) => eprintln!("  without sidecars, {name}: {error}"),
            }
        }
    }
}

/// In place of a make.
pub(crate) const NOBODY: &str = "none";

/// Turns a failed assertion into an error.
pub(crate) fn attempt<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default())
    })
}

/// Writes down what came of a workload, and says so when it failed or when other work was in its way.
pub(crate) fn record(runs: &mut Runs, cores: Cores, make: Make, round: u32, workload: &str, outcome: Outcome) {
    let mut record = json!({ "round": round, "make": make.name(), "workload": workload });
    match outcome {
        Err(error) => {
            eprintln!("  {workload}: invalid: {error}");
            record["error"] = error.into();
        }
        Ok(outcome) => {
            record.as_object_mut().unwrap().extend(outcome.as_object().unwrap().clone());
            if outcome["cores"].is_array() {
                let other = other_work(&outcome, cores);
                if other.iter().any(|share| *share > TOLERATED) {
                    let [sidecars, load] = other.map(|share| share * 100.0);
                    eprintln!(
                        "  {workload}: others took {sidecars:.0} % of the sidecars' core, {load:.0} % of the load's"
                    );
                }
                record["other_work"] = json!({ "sidecar_core": other[0], "load_core": other[1] });
            }
        }
    }
    runs.add(record);
}

/// Share of a core that may go to others before the run is worth a word on the terminal.
const TOLERATED: f64 = 0.05;

/// The shares of the sidecars' core and of the load's that went to anything but the processes of this bench.
fn other_work(outcome: &Value, cores: Cores) -> [f64; 2] {
    let ours = [["caller", "callee"], ["origin", "load"]];
    let cores = [cores.sidecars, cores.load];
    std::array::from_fn(|index| {
        let busy = outcome["cores"][cores[index]]["busy"].as_f64().unwrap();
        (busy - cost::share(outcome, ours[index])).max(0.0)
    })
}
