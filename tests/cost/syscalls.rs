//! System calls per request and sidecar, counted by strace.
//!
//! Those on sockets are the same for every request. Looks at the sockets (`epoll_wait`) depend on how many requests wait at
//! that moment: with one in flight there are two for each request, always; with many in flight fewer, by the luck of the
//! moment, so they are shown and not gated. The access log's thread works by the clock: its calls are counted per second
//! under load and shared out over a fixed rate, so that a slow machine counts fewer of them, never more.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use support::sidecar::Sidecar;
use support::tools;

use crate::SIDES;
use crate::limits::Table;
use crate::load::Callers;
use crate::setting::{Ground, Shape};

#[test]
fn system_calls_of_a_request_stay_within_their_limits() {
    let mut table = Table::new("system-calls");
    for (side, calls) in SIDES.iter().zip(per_request(1)) {
        table.gate(&format!("in-flight-1.{side}"), calls.all(), 1);
    }
    for (side, calls) in SIDES.iter().zip(per_request(64)) {
        table.gate(&format!("in-flight-64.{side}.socket"), calls.socket, 1);
        table.gate(&format!("in-flight-64.{side}.other"), calls.other, 1);
        table.note(&format!("in-flight-64.{side}.epoll"), calls.epoll, 1);
    }
    let off = besides_sockets(None);
    for format in ["envoy", "json"] {
        let on = besides_sockets(Some(format));
        for (side, (on, off)) in SIDES.iter().zip(on.into_iter().zip(off)) {
            table.gate(&format!("log-{format}.{side}"), (on - off) / RATE, 2);
        }
    }
    table.check();
}

/// Requests per second at which the access log's calls are shared out: fewer than a busy worker serves.
const RATE: f64 = 10_000.0;

/// Calls per request.
#[derive(Clone, Copy)]
struct Calls {
    /// That move bytes.
    socket: f64,
    /// That wait for readiness.
    epoll: f64,
    other: f64,
}

impl Calls {
    fn all(self) -> f64 {
        self.socket + self.epoll + self.other
    }
}

/// With so many requests in flight, for caller and callee.
fn per_request(in_flight: usize) -> [Calls; 2] {
    let ground = Ground::new(Shape::default());
    let mut sidecars = SIDES.map(|side| Traced::start(&ground, side, &[]));
    let [caller, callee] = &mut sidecars;
    ground.prove(&mut [&mut caller.sidecar, &mut callee.sidecar]);
    let mut callers = Callers::connect(ground.entry(), in_flight);
    callers.ask(in_flight * 4);
    for sidecar in &mut sidecars {
        sidecar.take();
    }

    let windows = [500, 4500].map(|requests| {
        let asked = callers.ask(requests);
        (asked as f64, sidecars.each_mut().map(Traced::take))
    });
    let [(few, before), (many, after)] = &windows;
    [0, 1].map(|side| {
        let count = |fits: &dyn Fn(&str) -> bool| {
            let of = |names: &[String]| names.iter().filter(|name| fits(name)).count() as f64;
            (of(&after[side]) - of(&before[side])) / (many - few)
        };
        let (socket, epoll) = (count(&|name| SOCKET.contains(&name)), count(&|name| name == "epoll_wait"));
        Calls { socket, epoll, other: count(&|_| true) - socket - epoll }
    })
}

const SOCKET: [&str; 10] =
    ["read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg", "sendfile", "splice"];

/// Calls per second that are neither on sockets nor `epoll_wait`, under load with that access log, for caller and callee.
/// The others are not even looked at, so the load runs at full speed.
fn besides_sockets(log: Option<&'static str>) -> [f64; 2] {
    const ELSE: [&str; 2] = ["--seccomp-bpf", "--trace=!recvfrom,recvmsg,readv,sendto,sendmsg,writev,epoll_wait"];
    let ground = Ground::new(Shape { log, ..Shape::default() });
    let mut sidecars = SIDES.map(|side| Traced::start(&ground, side, &ELSE));
    let [caller, callee] = &mut sidecars;
    ground.prove(&mut [&mut caller.sidecar, &mut callee.sidecar]);
    let mut callers = Callers::connect(ground.entry(), 64);
    // Until every connection to the application that the load needs is open.
    callers.ask(6400);
    for sidecar in &mut sidecars {
        sidecar.take();
    }

    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        callers.ask(640);
    }
    let seconds = begin.elapsed().as_secs_f64();
    sidecars.each_mut().map(Traced::take).map(|calls| calls.len() as f64 / seconds)
}

/// A sidecar under strace.
struct Traced {
    sidecar: Sidecar,
    out: PathBuf,
    /// How much of the file has been read.
    read: usize,
}

impl Traced {
    fn start(ground: &Ground, side: &str, options: &[&str]) -> Self {
        let out = ground.dir().join(format!("{side}.strace"));
        let mut command: Command = tools::system("strace", "strace");
        command.args(["-f", "--signal=none"]).args(options).arg("-o").arg(&out);
        // A tracer that is killed lets go of its program, which has to end with it.
        command.arg(tools::system("setpriv", "util-linux").get_program()).args(["--pdeathsig", "KILL"]);
        Self { sidecar: ground.start(side, Some(command)), out, read: 0 }
    }

    /// The names of the calls since the last time.
    fn take(&mut self) -> Vec<String> {
        // For what a request leaves to be done after its answer, and for the tracer's own writing.
        std::thread::sleep(Duration::from_millis(200));
        let text = std::fs::read_to_string(&self.out).unwrap();
        let new = &text[self.read..];
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole;
        new[..whole].lines().filter_map(name).map(str::to_owned).collect()
    }
}

/// `1234 epoll_wait(5, ...`; the second half of an interrupted line has no name.
fn name(line: &str) -> Option<&str> {
    let (_, call) = line.split_once(' ')?;
    let (name, _) = call.trim_start().split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_call_is_counted_once() {
        assert_eq!(name("71 recvfrom(12, \"GET\", 8192, 0, NULL, NULL) = 80"), Some("recvfrom"));
        assert_eq!(name("71 epoll_wait(5,  <unfinished ...>"), Some("epoll_wait"));
        assert_eq!(name("71 <... epoll_wait resumed>[{events=EPOLLIN}], 1024, 498) = 1"), None);
        assert_eq!(name("71 +++ exited with 0 +++"), None);
    }
}
