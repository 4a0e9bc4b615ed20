//! W2, the open loop: requests at fixed times, whether or not earlier ones have been answered.
//!
//! Latency counts from the time a request was due, not from when it could be sent, so that a pair which falls behind
//! cannot hide it ("coordinated omission"). Blocking sockets in up to 64 threads: the kernel wakes the thread that waits,
//! and nothing of the generator's own stands between. With more connections than threads each thread uses its own in turn.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use super::mix::Mix;
use super::{Load, reply};
use crate::cost::Window;

/// Runs the load and prints what came of it.
pub(crate) fn run(load: &Load) {
    // Sleeps end up to 50 µs late by default; threads inherit this. Without it the figures are that much higher, no more.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let count = load.connections.min(THREADS);
    let open = Barrier::new(count + 1);
    let (ready, start) = (Barrier::new(count + 1), OnceLock::new());
    let answered = AtomicUsize::new(0);
    let (costs, requests, mut latencies) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|index| {
                let (open, ready, start, answered) = (&open, &ready, &start, &answered);
                scope.spawn(move || {
                    let mut thread = Thread::connect(load, index, count);
                    open.wait();
                    ready.wait();
                    thread.requests(load, *start.get().unwrap(), answered)
                })
            })
            .collect();
        open.wait();
        let begin = Instant::now() + LEAD;
        start.set(begin).unwrap();
        ready.wait();
        sleep_until(begin + load.warm_up);
        let before = answered.load(Ordering::Relaxed);
        let window = Window::open(load.pids);
        sleep_until(begin + load.warm_up + load.window);
        let costs = window.close();
        let requests = answered.load(Ordering::Relaxed) - before;
        let latencies: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (costs, requests, latencies)
    });
    assert!(requests > 0, "no response within the window");
    let mut report = costs.report(&mut latencies);
    // Those answered within the window are what the CPU time of the window was spent on.
    report["requests"] = requests.into();
    println!("{report}");
}

const THREADS: usize = 64;
/// From the moment all connections are open to the first request of the schedule.
const LEAD: Duration = Duration::from_millis(20);

struct Thread {
    index: usize,
    count: usize,
    connections: Vec<Connection>,
}

impl Thread {
    /// Every connection has its first answer before the schedule begins.
    fn connect(load: &Load, index: usize, count: usize) -> Self {
        let numbers = (index..load.connections).step_by(count);
        let connections = numbers
            .map(|number| {
                let mut connection = Connection::open(load.to);
                connection.exchange(load.mix, number);
                connection
            })
            .collect();
        Self { index, count, connections }
    }

    /// Sends at its own share of the times; gives the latencies, in nanoseconds, of what was answered in the window.
    fn requests(&mut self, load: &Load, start: Instant, answered: &AtomicUsize) -> Vec<u64> {
        let interval = Duration::from_secs(1) / load.rate;
        let each = interval * u32::try_from(self.count).unwrap();
        let (begin, end) = (start + load.warm_up, start + load.warm_up + load.window);
        let mut latencies = Vec::new();
        let mut due = start + interval * u32::try_from(self.index).unwrap();
        let mut number = self.index;
        let mut turn = 0;
        // A pair that falls behind is not waited for beyond the window.
        while due < end && Instant::now() < end {
            sleep_until(due);
            self.connections[turn].exchange(load.mix, number);
            answered.fetch_add(1, Ordering::Relaxed);
            if Instant::now() >= begin {
                latencies.push(u64::try_from(due.elapsed().as_nanos()).unwrap());
            }
            due += each;
            number += self.count;
            turn = (turn + 1) % self.connections.len();
        }
        latencies
    }
}

/// One kept connection over a blocking socket.
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(crate) fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream }
    }

    /// The `number`th request of the mix, and its whole response.
    pub(crate) fn exchange(&mut self, mix: Mix, number: usize) {
        self.stream.write_all(&mix.request(number)).unwrap();
        let mut response = [0; 4096];
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut response[filled..]).unwrap();
            assert!(count > 0, "the sidecar closed a connection");
            filled += count;
            if reply::is_whole(&response[..filled]).unwrap_or_else(|error| panic!("{error}")) {
                return;
            }
        }
    }
}

fn sleep_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}
