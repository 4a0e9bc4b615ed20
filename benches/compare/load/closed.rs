//! W1, the closed loop: each connection sends its next request as soon as it has the whole response to the last.
//!
//! It shows the most that a pair can do, and what a request costs when the sidecars' core is never idle. One thread.
//! With kind `syscalls` it counts the sidecars' system calls in place of their CPU time, which tracing distorts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::mix::ORDERS;
use super::{Load, reply};
use crate::cost::Window;
use crate::syscalls::Trace;

/// Runs the load and prints what came of it.
pub(crate) fn run(load: &Load) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let shared = Rc::new(Shared::default());
        for _ in 0..load.connections {
            let stream = TcpStream::connect(load.to).await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::task::spawn_local(connection(stream, Rc::clone(&shared)));
        }
        tokio::time::sleep(load.warm_up).await;
        if load.kind == "syscalls" { trace(load, &shared).await } else { measure(load, &shared).await }
    });
}

async fn measure(load: &Load, shared: &Shared) {
    shared.measuring.set(true);
    let window = Window::open(load.pids);
    tokio::time::sleep(load.window).await;
    let costs = window.close();
    shared.measuring.set(false);
    shared.assert_moving();
    println!("{}", costs.report(&mut shared.latencies.borrow_mut()));
}

async fn trace(load: &Load, shared: &Shared) {
    let [caller, callee, _] = load.pids;
    let mut traces = [Trace::attach("caller", caller), Trace::attach("callee", callee)];
    while !traces.iter_mut().all(Trace::is_attached) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    shared.measuring.set(true);
    tokio::time::sleep(load.window).await;
    shared.measuring.set(false);
    traces.iter().for_each(Trace::detach);
    shared.assert_moving();
    let requests = shared.latencies.borrow().len();
    let [caller, callee] = traces.map(Trace::counts);
    println!("{}", json!({ "requests": requests, "caller": caller, "callee": callee }));
}

const STUCK: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Shared {
    measuring: Cell<bool>,
    /// Nanoseconds, one per response that came within the window.
    latencies: RefCell<Vec<u64>>,
    last: Cell<Option<Instant>>,
}

impl Shared {
    fn assert_moving(&self) {
        let stuck = self.last.get().is_none_or(|last| last.elapsed() > STUCK);
        assert!(!stuck, "no response for {STUCK:?}");
    }
}

async fn connection(mut stream: TcpStream, shared: Rc<Shared>) {
    let mut response = Vec::with_capacity(8192);
    loop {
        response.clear();
        let sent = Instant::now();
        stream.write_all(ORDERS).await.unwrap();
        loop {
            let count = stream.read_buf(&mut response).await.unwrap();
            assert!(count > 0, "the sidecar closed a connection");
            if reply::is_whole(&response).unwrap_or_else(|error| panic!("{error}")) {
                break;
            }
        }
        let now = Instant::now();
        shared.last.set(Some(now));
        if shared.measuring.get() {
            let nanoseconds = u64::try_from((now - sent).as_nanos()).unwrap();
            shared.latencies.borrow_mut().push(nanoseconds);
        }
    }
}
