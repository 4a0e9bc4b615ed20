//! What a window of load cost: CPU time and memory of both sidecars, and how busy the two cores were.
//!
//! CPU time is utime + stime of /proc/PID/stat, the whole process with all its threads. The kernel charges the work of
//! loopback TCP to whoever sends, so both sidecars pay for the segments that they send. Ticks are 10 ms: over 5 s of load
//! the error is below 1 %.

use std::time::Instant;

use serde_json::{Value, json};

/// USER_HZ, which Linux fixes for programs whatever its own tick is.
const TICKS: f64 = 100.0;

/// The processes whose cost is noted: both sidecars, the origin, and the load generator itself.
pub(crate) const PROCESSES: [&str; 4] = ["caller", "callee", "origin", "load"];

/// An open window of measurement.
pub(crate) struct Window {
    pids: [u32; PROCESSES.len()],
    start: Instant,
    before: Counters,
}

/// What a closed window holds.
pub(crate) struct Costs {
    seconds: f64,
    processes: [Value; PROCESSES.len()],
    cores: Vec<Value>,
}

struct Counters {
    processes: [Cpu; PROCESSES.len()],
    /// Per core: ticks of each kind, in the order of /proc/stat.
    cores: Vec<Vec<f64>>,
}

/// Seconds of CPU.
#[derive(Clone, Copy)]
struct Cpu {
    user: f64,
    system: f64,
}

impl Window {
    /// Notes the counters now. To be called by the load generator, with the first three of [`PROCESSES`].
    pub(crate) fn open([caller, callee, origin]: [u32; 3]) -> Self {
        let pids = [caller, callee, origin, std::process::id()];
        Self { pids, start: Instant::now(), before: Counters::read(pids) }
    }

    /// Notes them again.
    pub(crate) fn close(self) -> Costs {
        let seconds = self.start.elapsed().as_secs_f64();
        let after = Counters::read(self.pids);
        let process = |index: usize| {
            let (before, after) = (self.before.processes[index], after.processes[index]);
            json!({
                "user_s": after.user - before.user,
                "system_s": after.system - before.system,
                "memory_kib": memory(self.pids[index]),
            })
        };
        let cores = self.before.cores.iter().zip(&after.cores);
        Costs {
            seconds,
            processes: std::array::from_fn(process),
            cores: cores.map(|(before, after)| shares(before, after)).collect(),
        }
    }
}

impl Costs {
    /// The JSON line of a load generator. `latencies` are in nanoseconds, one per request of the window.
    pub(crate) fn report(&self, latencies: &mut [u64]) -> Value {
        latencies.sort_unstable();
        let microseconds = |quantile: f64| nearest_rank(latencies, quantile).map(|value| value as f64 / 1000.0);
        let mut report = json!({
            "requests": latencies.len(),
            "seconds": self.seconds,
            "cores": self.cores,
            "latency_us": {
                "p50": microseconds(0.5),
                "p90": microseconds(0.9),
                "p99": microseconds(0.99),
                "p999": microseconds(0.999),
                "max": microseconds(1.0),
            },
        });
        for (name, process) in PROCESSES.into_iter().zip(&self.processes) {
            report[name] = process.clone();
        }
        report
    }
}

/// CPU seconds of two processes per second of the window of a report.
pub(crate) fn share(report: &Value, processes: [&str; 2]) -> f64 {
    let seconds = processes.map(|name| number(&report[name]["user_s"]) + number(&report[name]["system_s"]));
    (seconds[0] + seconds[1]) / number(&report["seconds"])
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Resident memory of a process in KiB: all of it, and the part that is no file.
pub(crate) fn memory(pid: u32) -> Value {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    json!({ "rss": field("VmRSS:"), "anonymous": field("RssAnon:"), "peak": field("VmHWM:") })
}

impl Counters {
    fn read(pids: [u32; PROCESSES.len()]) -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap();
        let cores = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
        Self {
            processes: pids.map(Cpu::of),
            cores: cores
                .map(|line| line.split_whitespace().skip(1).map(|number| number.parse().unwrap()).collect())
                .collect(),
        }
    }
}

impl Cpu {
    /// proc(5): after the name in parentheses, utime and stime are the 12th and 13th field.
    fn of(pid: u32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, after_name) = text.rsplit_once(") ").unwrap();
        let seconds = |field: usize| after_name.split(' ').nth(field).unwrap().parse::<f64>().unwrap() / TICKS;
        Self { user: seconds(11), system: seconds(12) }
    }
}

/// Shares of a core's time. `steal` is what the hypervisor took away.
fn shares(before: &[f64], after: &[f64]) -> Value {
    let ticks: Vec<f64> = before.iter().zip(after).take(8).map(|(before, after)| after - before).collect();
    let total: f64 = ticks.iter().sum::<f64>().max(1.0);
    let idle = ticks[3] + ticks[4];
    json!({ "busy": 1.0 - (idle + ticks[7]) / total, "steal": ticks[7] / total })
}

/// The smallest value that at least the share `quantile` of all values does not exceed.
fn nearest_rank(sorted: &[u64], quantile: f64) -> Option<u64> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}
