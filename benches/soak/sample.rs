//! What the sidecars hold, as the kernel and their metrics tell it, every few seconds; kept as JSON lines.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::child::run;
use support::trend::nearest_rank;
use support::{tools, wait};

use crate::ledger::{Count, Ledger};
use crate::options::Options;
use crate::stage::Stage;

/// What one sidecar holds at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Held {
    /// Resident memory in KiB, and the part of it that is no file.
    pub(crate) rss: u64,
    pub(crate) anonymous: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    pub(crate) tasks: u64,
    /// Connections from callers, and to whoever is called.
    pub(crate) downstream: u64,
    pub(crate) upstream: u64,
    pub(crate) requests: u64,
    pub(crate) handshakes: u64,
}

/// Both sidecars: the caller's, the callee's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Both(pub(crate) [Held; 2]);

/// One moment of the run.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Seconds since the load began.
    pub(crate) at: f64,
    pub(crate) held: Both,
    /// p50, p90, p99 and the longest, in µs, of the probe's answers since the sample before.
    pub(crate) latency: [u64; 4],
    /// Requests since the sample before, per second.
    pub(crate) good: f64,
    pub(crate) as_due: f64,
    /// Wrong ones since the beginning.
    pub(crate) wrong: u64,
    /// Cores that were busy since the sample before: with both sidecars, with this program, with everything.
    pub(crate) cores: [f64; 3],
}

/// Looks at the sidecars.
pub(crate) struct Sampler {
    stage: Arc<Stage>,
    count: Count,
    taken: Instant,
    ticks: [f64; 3],
}

impl Sampler {
    pub(crate) fn new(stage: &Arc<Stage>) -> Self {
        let mut sampler =
            Self { stage: Arc::clone(stage), count: Count::default(), taken: Instant::now(), ticks: [0.0; 3] };
        sampler.ticks = sampler.ticks();
        sampler
    }

    /// What they hold before any load.
    pub(crate) fn base(&self) -> Both {
        // The look before has closed its connection by then.
        let _ = self.held();
        std::thread::sleep(Duration::from_millis(500));
        self.held()
    }

    pub(crate) fn take(&mut self, begin: Instant, ledger: &Ledger, latencies: Vec<u64>) -> Sample {
        let (count, ticks) = (ledger.sum(), self.ticks());
        let seconds = self.taken.elapsed().as_secs_f64();
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        let sample = Sample {
            at: begin.elapsed().as_secs_f64(),
            held: self.held(),
            latency: [0.5, 0.9, 0.99, 1.0].map(|quantile| nearest_rank(&latencies, quantile)),
            good: rate(count.good, self.count.good),
            as_due: rate(count.as_due, self.count.as_due),
            wrong: count.wrong,
            cores: std::array::from_fn(|at| (ticks[at] - self.ticks[at]) / TICKS / seconds),
        };
        (self.count, self.taken, self.ticks) = (count, Instant::now(), ticks);
        sample
    }

    /// What they hold when nobody calls any more: waited for until it is no more than before the load, or for 30 s.
    pub(crate) fn settled(&self, base: &Both) -> Both {
        let mut last = self.held();
        wait::within(Duration::from_secs(30), || {
            std::thread::sleep(Duration::from_millis(500));
            last = self.held();
            last.0.iter().zip(&base.0).all(|(left, base)| left.is_no_more_than(base)).then_some(())
        });
        last
    }

    fn held(&self) -> Both {
        Both(self.stage.sidecars().map(|(_, sidecar)| {
            let process = PathBuf::from(format!("/proc/{}", sidecar.child.id()));
            // Before the scrape, whose connection is a descriptor too.
            let descriptors = std::fs::read_dir(process.join("fd")).map_or(0, Iterator::count) as u64;
            let status = std::fs::read_to_string(process.join("status")).expect("the sidecar runs");
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.split_whitespace().next().unwrap().parse().unwrap()
            };
            let scrape = sidecar.metrics();
            let sum = |name: &str| scrape.sum(name, &[]) as u64;
            Held {
                rss: field("VmRSS:"),
                anonymous: field("RssAnon:"),
                descriptors,
                threads: field("Threads:"),
                tasks: sum("sekisho_tasks_active"),
                downstream: sum("envoy_server_total_connections"),
                upstream: sum("envoy_cluster_upstream_cx_active"),
                requests: sum("envoy_http_downstream_rq_active"),
                handshakes: sum("sekisho_tls_handshakes_active"),
            }
        }))
    }

    /// Ticks of CPU time so far: both sidecars, this program, the whole machine.
    fn ticks(&self) -> [f64; 3] {
        // proc(5): after the name in parentheses, utime and stime are the 12th and 13th field.
        let of = |pid: String| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<f64> = text.rsplit_once(") ").map_or(Vec::new(), |(_, rest)| {
                rest.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect()
            });
            fields.iter().sum::<f64>()
        };
        let sidecars = self.stage.sidecars().map(|(_, sidecar)| of(sidecar.child.id().to_string()));
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let all: Vec<f64> =
            stat.lines().next().unwrap().split_whitespace().skip(1).take(8).map(|tick| tick.parse().unwrap()).collect();
        [sidecars.iter().sum(), of("self".to_owned()), all.iter().sum::<f64>() - all[3] - all[4]]
    }
}

/// USER_HZ, which Linux fixes for programs whatever its own tick is.
const TICKS: f64 = 100.0;

impl Held {
    /// In everything that must go when nobody calls; memory is not among it, for an allocator keeps what it may need.
    pub(crate) fn is_no_more_than(&self, base: &Self) -> bool {
        let these = |held: &Self| {
            [held.descriptors, held.threads, held.tasks, held.downstream, held.upstream, held.requests, held.handshakes]
        };
        these(self).iter().zip(these(base)).all(|(now, then)| *now <= then)
    }

    fn json(&self) -> Value {
        json!({
            "rss_kib": self.rss, "anonymous_kib": self.anonymous, "descriptors": self.descriptors, "threads": self.threads,
            "tasks": self.tasks, "downstream_connections": self.downstream, "upstream_connections": self.upstream,
            "requests": self.requests, "handshakes": self.handshakes,
        })
    }
}

impl Both {
    pub(crate) fn in_words(&self) -> String {
        let one = |held: &Held| {
            format!(
                "{:.1} MiB, {} descriptors, {} tasks, {} requests",
                held.rss as f64 / 1024.0,
                held.descriptors,
                held.tasks,
                held.requests
            )
        };
        format!("caller {}; callee {}", one(&self.0[0]), one(&self.0[1]))
    }

    fn json(&self) -> Value {
        json!({ "caller": self.0[0].json(), "callee": self.0[1].json() })
    }
}

impl Sample {
    pub(crate) fn in_words(&self) -> String {
        format!(
            "{:>5.0} s  {}; {:.0} + {:.0} requests/s, p99 {:.1} ms, {} wrong, {:.1} cores busy",
            self.at,
            self.held.in_words(),
            self.good,
            self.as_due,
            self.latency[2] as f64 / 1000.0,
            self.wrong,
            self.cores[2],
        )
    }

    fn json(&self) -> Value {
        let [p50, p90, p99, max] = self.latency;
        let [sidecars, bench, machine] = self.cores;
        let mut value = self.held.json();
        value["at_s"] = json!(self.at);
        value["latency_us"] = json!({ "p50": p50, "p90": p90, "p99": p99, "max": max });
        value["requests_per_s"] = json!({ "good": self.good, "as_due": self.as_due });
        value["wrong"] = json!(self.wrong);
        value["busy_cores"] = json!({ "sidecars": sidecars, "bench": bench, "machine": machine });
        value
    }
}

/// All samples of a run, and the file they are written to as they come.
pub(crate) struct Samples {
    file: File,
    path: PathBuf,
    all: Vec<Sample>,
}

impl Samples {
    /// `<out>/<date>-<commit>.jsonl`, beginning with a line about the machine.
    pub(crate) fn create(options: &Options, stage: &Stage) -> Self {
        std::fs::create_dir_all(&options.out).unwrap();
        let time = run(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])).trim().to_owned();
        let version = run(Command::new(tools::sekisho()).arg("--version")).trim().to_owned();
        let commit = version.split(['(', ')']).nth(1).unwrap_or("unknown");
        let path = options.out.join(format!("{}-{commit}.jsonl", &time[..10]));
        let file = File::create(&path).unwrap();
        let mut samples = Self { file, path, all: Vec::new() };
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        samples.write(&json!({
            "time": time, "sekisho": version, "minutes": options.minutes, "seconds_between_samples": options.every.as_secs(),
            "processor": processor.map_or("unknown", |(_, name)| name),
            "cores": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            "kernel": read("/proc/sys/kernel/osrelease").trim(),
            "workers": stage.caller.metrics().sum("envoy_server_concurrency", &[]),
        }));
        samples
    }

    pub(crate) fn add(&mut self, sample: Sample) {
        self.write(&sample.json());
        self.all.push(sample);
    }

    /// Writes what was before, what is left, and what came of all requests.
    pub(crate) fn finish(&mut self, base: &Both, left: &Both, ledger: &Ledger) {
        let kinds: serde_json::Map<String, Value> = ledger
            .kinds()
            .into_iter()
            .map(|(kind, count)| {
                let count = json!({
                    "good": count.good, "as_due": count.as_due, "unlucky": count.unlucky, "wrong": count.wrong,
                });
                (kind.to_owned(), count)
            })
            .collect();
        self.write(&json!({ "before": base.json(), "left": left.json(), "requests": kinds, "wrong": ledger.words() }));
    }

    pub(crate) fn all(&self) -> &[Sample] {
        &self.all
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, line: &Value) {
        writeln!(self.file, "{line}").unwrap();
    }
}
