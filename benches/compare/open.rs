//! Workload 2, the open loop: requests at fixed times, whether or not earlier ones have been answered.
//!
//! Latency counts from the time a request was due, not from when it could be sent, so that a pair which falls behind
//! cannot hide it ("coordinated omission"). One thread per connection over blocking sockets: the kernel wakes the thread
//! that waits, and nothing of the generator's own stands between. Prints one JSON line.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::cost::Window;
use crate::options::{CONNECTIONS, Load, RATE};
use crate::reply;

/// Runs the load and prints what came of it.
pub(crate) fn run(load: &Load) {
    // Sleeps end up to 50 µs late by default; threads inherit this. Without it the figures are that much higher, no more.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let ready = Barrier::new(CONNECTIONS + 1);
    let interval = Duration::from_secs(1) / RATE;
    let each = interval * u32::try_from(CONNECTIONS).unwrap();
    let start = Instant::now() + CONNECT;
    let begin = start + load.warm_up;
    let end = begin + load.window;
    let (costs, mut latencies) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|index| {
                let first = start + interval * u32::try_from(index).unwrap();
                let ready = &ready;
                scope.spawn(move || {
                    let mut connection = Connection::open(load);
                    connection.exchange();
                    ready.wait();
                    connection.requests(first, each, begin, end)
                })
            })
            .collect();
        ready.wait();
        assert!(Instant::now() < start, "connecting took longer than {CONNECT:?}");
        sleep_until(begin);
        let window = Window::open(load.pids);
        sleep_until(end);
        let costs = window.close();
        let latencies: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (costs, latencies)
    });
    println!("{}", costs.report(&mut latencies));
}

/// Time for all connections to have had their first answer before the schedule begins.
const CONNECT: Duration = Duration::from_secs(1);

struct Connection {
    stream: TcpStream,
    response: Vec<u8>,
}

impl Connection {
    fn open(load: &Load) -> Self {
        let stream = TcpStream::connect(load.to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream, response: vec![0; 8192] }
    }

    /// Sends at `first`, `first + each` and so on; gives the latencies, in nanoseconds, of those due in the window.
    fn requests(&mut self, first: Instant, each: Duration, begin: Instant, end: Instant) -> Vec<u64> {
        let mut latencies = Vec::new();
        let mut due = first;
        while due < end {
            sleep_until(due);
            self.exchange();
            if due >= begin {
                latencies.push(u64::try_from(due.elapsed().as_nanos()).unwrap());
            }
            due += each;
        }
        latencies
    }

    fn exchange(&mut self) {
        self.stream.write_all(reply::REQUEST).unwrap();
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut self.response[filled..]).unwrap();
            assert!(count > 0, "the sidecar closed a connection");
            filled += count;
            if reply::is_whole(&self.response[..filled]).unwrap_or_else(|error| panic!("{error}")) {
                return;
            }
        }
    }
}

fn sleep_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}
