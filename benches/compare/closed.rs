//! Workload 1, the closed loop: each connection sends its next request as soon as it has the whole response to the last.
//!
//! It shows the most that a pair can do, and what a request costs when the sidecars' core is never idle.
//! One thread; prints one JSON line.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cost::Window;
use crate::options::{CONNECTIONS, Load};
use crate::reply;

/// Runs the load and prints what came of it.
pub(crate) fn run(load: &Load) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let shared = Rc::new(Shared::default());
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(load.to).await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::task::spawn_local(connection(stream, Rc::clone(&shared)));
        }
        tokio::time::sleep(load.warm_up).await;
        shared.measuring.set(true);
        let window = Window::open(load.pids);
        tokio::time::sleep(load.window).await;
        let costs = window.close();
        shared.measuring.set(false);
        let stuck = shared.last.get().is_none_or(|last| last.elapsed() > STUCK);
        assert!(!stuck, "no response for {STUCK:?}");
        println!("{}", costs.report(&mut shared.latencies.borrow_mut()));
    });
}

const STUCK: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Shared {
    measuring: Cell<bool>,
    /// Nanoseconds, one per response that came within the window.
    latencies: RefCell<Vec<u64>>,
    last: Cell<Option<Instant>>,
}

async fn connection(mut stream: TcpStream, shared: Rc<Shared>) {
    let mut response = Vec::with_capacity(8192);
    loop {
        response.clear();
        let sent = Instant::now();
        stream.write_all(reply::REQUEST).await.unwrap();
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
