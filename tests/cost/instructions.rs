//! Instructions per request and sidecar, counted by callgrind.
//!
//! Valgrind runs the program on a processor of its own making: AVX2, AES-NI and PCLMULQDQ, never AVX-512 or VAES, whatever
//! the machine has beyond that. aws-lc and libc choose their code by what they are told, so machines agree on the count. The
//! kernel's work is not in it, nor are reads of the clock, which are system calls there. One request is in flight at a time:
//! how many events one look at the sockets finds is then no matter of luck, and two runs agree within a part in a thousand.
//! With more in flight a request costs less.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::child::run;
use support::sidecar::Sidecar;
use support::tools;

use crate::SIDES;
use crate::limits::Table;
use crate::load::{self, Callers};
use crate::setting::{Ground, NOT_SELECTED, Shape};

#[test]
fn instructions_of_a_request_stay_within_their_limits() {
    assert!(is_the_processor_of_the_limits(), "the limits are those of x86-64 with AVX2, AES-NI and PCLMULQDQ");
    let mut table = Table::new("instructions");
    let base = measure(Shape::default());
    gate(&mut table, "h1", base);

    for (name, format) in [("log-envoy", "envoy"), ("log-json", "json")] {
        let logged = measure(Shape { log: Some(format), ..Shape::default() });
        for (index, side) in SIDES.iter().enumerate() {
            table.gate(&format!("{name}.{side}.percent"), percent(logged[index], base[index]), 1);
        }
    }
    let rules = measure(Shape { rules: true, ..Shape::default() });
    // The rules are the callee's.
    table.gate("rules.callee.percent", percent(rules[1], base[1]), 1);

    let tap = measure(Shape { tap: Some(""), ..Shape::default() });
    table.gate("tap.callee.extra", tap[1] - base[1], 0);
    table.note("tap.callee.percent", percent(tap[1], base[1]), 1);
    let other = measure(Shape { tap: Some(NOT_SELECTED), ..Shape::default() });
    table.gate("tap-not-selected.callee.extra", other[1] - base[1], 0);

    gate(&mut table, "h2", measure(Shape { http2: true, ..Shape::default() }));
    table.check();
}

/// Valgrind passes on no more than these, so newer processors count the same.
fn is_the_processor_of_the_limits() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

fn gate(table: &mut Table, name: &str, costs: [f64; 2]) {
    for (side, cost) in SIDES.iter().zip(costs) {
        table.gate(&format!("{name}.{side}"), cost, 0);
    }
}

/// What it costs above the base.
fn percent(cost: f64, base: f64) -> f64 {
    (cost / base - 1.0) * 100.0
}

/// The two lengths of load whose difference counts.
const REQUESTS: [usize; 2] = [200, 1200];
/// Until buffers, pools and branches have seen everything.
const WARM_UP: usize = 200;
/// How long the pair is watched at rest, to take out what it does by the clock.
const REST: Duration = Duration::from_secs(1);

/// Instructions per request of caller and callee.
fn measure(shape: Shape) -> [f64; 2] {
    let ground = Ground::new(shape);
    let mut sidecars = SIDES.map(|side| Counted::start(&ground, side));
    let [caller, callee] = &mut sidecars;
    ground.prove(&mut [&mut caller.sidecar, &mut callee.sidecar]);

    let mut callers = (!shape.http2).then(|| Callers::connect(ground.entry(), 1));
    let mut ask = |count| match &mut callers {
        Some(callers) => assert_eq!(callers.ask(count), count),
        None => load::ask_http2(ground.entry(), count),
    };
    ask(WARM_UP);
    for sidecar in &mut sidecars {
        sidecar.take();
    }
    let begin = Instant::now();
    std::thread::sleep(REST);
    let at_rest = sidecars.each_mut().map(Counted::take).map(|count| count / begin.elapsed().as_secs_f64());

    // Whatever disturbs a count adds to it, so the smaller of two is nearer the truth.
    let mut once = || {
        let windows = REQUESTS.map(|requests| {
            let begin = Instant::now();
            ask(requests);
            let counts = sidecars.each_mut().map(Counted::take);
            let seconds = begin.elapsed().as_secs_f64();
            [0, 1].map(|side| counts[side] - at_rest[side] * seconds)
        });
        [0, 1].map(|side| (windows[1][side] - windows[0][side]) / (REQUESTS[1] - REQUESTS[0]) as f64)
    };
    let (first, second) = (once(), once());
    [0, 1].map(|side| first[side].min(second[side]))
}

/// A sidecar under callgrind.
struct Counted {
    sidecar: Sidecar,
    /// Where its counts are written, each time under the next number.
    out: PathBuf,
    pipes: String,
    taken: usize,
}

impl Counted {
    fn start(ground: &Ground, side: &str) -> Self {
        let out = ground.dir().join(format!("{side}.callgrind"));
        // The default would leave its pipes behind in /tmp.
        let pipes = format!("--vgdb-prefix={}", ground.dir().join("vgdb").display());
        let mut command = tools::system("valgrind", "valgrind");
        command.args(["--tool=callgrind", &pipes]).arg(format!("--callgrind-out-file={}", out.display()));
        // How often it looks for our questions, in basic blocks: at rest it runs only a few of them a second.
        command.arg("--vgdb-poll=500");
        Self { sidecar: ground.start(side, Some(command)), out, pipes, taken: 0 }
    }

    /// Instructions since the last time.
    fn take(&mut self) -> f64 {
        let mut command: Command = tools::system("vgdb", "valgrind");
        run(command.args([&self.pipes, &format!("--pid={}", self.sidecar.child.id()), "dump"]));
        self.taken += 1;
        total(&PathBuf::from(format!("{}.{}", self.out.display(), self.taken)))
    }
}

/// The total of a file of callgrind's.
fn total(path: &Path) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    total.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no total in {}", path.display()))
}
