//! A running pair: caller's sidecar and callee's sidecar of one make, both on the core of the sidecars.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use support::child::Child;
use support::{ports, wait, wire};

use crate::cost;
use crate::load::Load;
use crate::load::origin::BODY;
use crate::makes::Make;
use crate::options::Times;
use crate::programs::pinned;
use crate::setup::{self, HOST, Shape};
use crate::world::World;

/// Two running sidecars. Killed when dropped.
pub(crate) struct Pair {
    pub(crate) make: Make,
    pub(crate) shape: Shape,
    /// Where callers enter.
    pub(crate) entry: SocketAddr,
    /// Where the callee takes mutual TLS.
    pub(crate) inbound: SocketAddr,
    pub(crate) callee_admin: SocketAddr,
    pub(crate) callee_metrics: SocketAddr,
    caller: Child,
    callee: Child,
    origin: u32,
}

impl Pair {
    /// Starts both and waits until the allowed request passes.
    pub(crate) fn start(world: &World, make: Make, shape: Shape) -> Self {
        let (entry, inbound) = (ports::local(), ports::local());
        let (callee_admin, callee_metrics) = (ports::local(), ports::local());
        let callee = [
            ("LISTEN", inbound),
            ("ORIGIN", world.origin),
            ("ADMIN", callee_admin),
            ("METRICS", callee_metrics),
            ("HEALTH", ports::local()),
        ];
        let callee = start(world, make, "callee", shape, &callee);
        let caller = start(world, make, "caller", shape, &caller_addresses(entry, inbound));
        let origin = world.origin_pid();
        let mut pair = Self { make, shape, entry, inbound, callee_admin, callee_metrics, caller, callee, origin };
        wait::until(&format!("the {} pair", make.name()), START, || {
            pair.assert_alive();
            pair.passes().then_some(())
        });
        pair
    }

    /// The caller's sidecar alone, towards somebody else.
    pub(crate) fn caller_of(world: &World, make: Make, callee: SocketAddr) -> (Child, SocketAddr) {
        let entry = ports::local();
        (start(world, make, "caller", Shape::default(), &caller_addresses(entry, callee)), entry)
    }

    /// Whether the allowed request has the right answer.
    fn passes(&self) -> bool {
        if self.shape.h2 {
            // The question of a load generator; its first answer is as good as any.
            return std::net::TcpStream::connect(self.entry).is_ok()
                && std::net::TcpStream::connect(self.inbound).is_ok()
                && crate::load::h2::asks_once(self.entry).is_ok();
        }
        let reply = wire::get(self.entry, HOST, "/api/orders/42");
        reply.is_ok_and(|reply| reply.status() == 200 && reply.body.len() == BODY)
    }

    /// Panics with the last words of a sidecar that has ended.
    pub(crate) fn assert_alive(&mut self) {
        for child in [&mut self.caller, &mut self.callee] {
            assert!(child.is_running(), "a sidecar ended: {}", child.stderr.tail(10));
        }
    }

    /// Resident memory of both, as the kernel has it now.
    pub(crate) fn memory(&self) -> Value {
        json!({ "caller": cost::memory(self.caller.id()), "callee": cost::memory(self.callee.id()) })
    }

    /// A load through the pair, with 64 connections.
    pub(crate) fn load(&self, times: Times) -> Load {
        Load::new(self.entry, self.pids(), times.warm_up, times.window)
    }

    /// The caller's, the callee's and the origin's process.
    pub(crate) fn pids(&self) -> [u32; 3] {
        [self.caller.id(), self.callee.id(), self.origin]
    }
}

/// Envoy takes its time over ten thousand rules.
const START: Duration = Duration::from_secs(60);

fn caller_addresses(entry: SocketAddr, callee: SocketAddr) -> [(&'static str, SocketAddr); 5] {
    let (admin, metrics, health) = (ports::local(), ports::local(), ports::local());
    [("LISTEN", entry), ("CALLEE", callee), ("ADMIN", admin), ("METRICS", metrics), ("HEALTH", health)]
}

/// Writes one side's file from its template and starts it.
fn start(world: &World, make: Make, side: &str, shape: Shape, addresses: &[(&str, SocketAddr)]) -> Child {
    let (text, ending) = setup::file(make, side, shape, addresses);
    let name = format!("{}-{side}", make.name());
    let file = format!("{name}.{ending}");
    world.dir.write(&file, text);
    if make == Make::Haproxy {
        let rules: String = (0..shape.rules).map(|rule| format!("/api/r{rule}/\n")).collect();
        world.dir.write("haproxy-rules.lst", rules);
    }
    let mut command = pinned(world.cores.sidecars, &world.program(make));
    match make {
        Make::Sekisho => command.args(["proxy", "-c", &file]),
        Make::Haproxy => command.args(["-db", "-f", &file]),
        Make::Nginx => command.args(["-e", "stderr", "-p", "."]).arg("-c").arg(world.dir.join(&file)),
        Make::Envoy | Make::EnvoyH2 => {
            command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c", &file])
        }
    };
    Child::start(world.path(), &name, command.current_dir(world.path()))
}
