//! Class 101: hundreds of callers that are slow with their head, slow with their body, or slow to read. Each is ended by its
//! timer, however it trickles; another caller is served all the while; and nothing is left of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::origin::{Origin, Reply};
use support::pair::HOST;
use support::{rest, wait, wire};

/// Of each kind; of those that do not read only a tenth, because each is sent some megabytes before it is held back.
const MANY: usize = 100;

const UNREAD: &str = "an answer nobody reads";

/// What a slow caller sends at once, and what it sends again and again.
const KINDS: [(&str, &str, &str); 4] = [
    ("a head that trickles", "GET /open/a HTTP/1.1\r\nHost: orders.shop.svc\r\nX-Slow: ", "x"),
    ("a head that stalls", "GET /open/a HTTP/1.1\r\nHost: orders.sh", ""),
    ("a body that stalls", "POST /open/a HTTP/1.1\r\nHost: orders.shop.svc\r\nContent-Length: 1000\r\n\r\nbody", ""),
    (UNREAD, "GET /open/big HTTP/1.1\r\nHost: orders.shop.svc\r\n\r\n", ""),
];

#[test]
fn slow_callers_are_ended_by_their_timers_and_others_kept() {
    let timers = super::with("head_timeout = \"2s\"\nidle_timeout = \"2s\"");
    let setting = super::setting().server(&timers).client(&timers);
    let origin = Origin::with(setting.at.app, |request| {
        Reply::text(if request.target() == "/open/big" { vec![b'x'; 16 << 20] } else { b"well".to_vec() })
    });
    let pair = setting.start_with(origin);
    assert_eq!(wire::get(pair.entry(), HOST, "/open/a").unwrap().status(), 200);
    let bases = [&pair.client, &pair.server].map(rest::base);
    let stop = AtomicBool::new(false);
    let (slowest, asked) = std::thread::scope(|scope| {
        let kept = scope.spawn(|| keep_asking(pair.entry(), &stop));
        let slow: Vec<Slow> = KINDS
            .iter()
            .flat_map(|(name, first, more)| {
                let many = if *name == UNREAD { MANY / 10 } else { MANY };
                (0..many).map(move |_| (*name, *first, *more))
            })
            .map(|(name, first, more)| Slow::begin(pair.entry(), name, first, more))
            .collect();
        let ended = until_all_ended(slow);
        stop.store(true, Ordering::SeqCst);
        println!("every slow caller had been ended after {ended:?}");
        kept.join().unwrap()
    });
    println!("the other caller asked {asked} times, its slowest answer took {slowest:?}");
    assert!(asked > 20, "{asked}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    for (sidecar, base) in [&pair.client, &pair.server].into_iter().zip(bases) {
        rest::returned(sidecar, base);
    }
}

/// A slow caller.
struct Slow {
    name: &'static str,
    stream: TcpStream,
    more: &'static str,
}

impl Slow {
    fn begin(to: SocketAddr, name: &'static str, first: &str, more: &'static str) -> Self {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(first.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { name, stream, more }
    }

    /// Sends a little more, and looks whether the other side has ended it. Whoever does not read sees that by a failed write.
    fn has_ended(&mut self) -> bool {
        if self.name == UNREAD {
            return self.stream.write(b" ").is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock);
        }
        let _ = self.stream.write(self.more.as_bytes());
        let mut waste = [0; 4096];
        loop {
            match self.stream.read(&mut waste) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Waits for the end of all, and says how long that took.
fn until_all_ended(mut slow: Vec<Slow>) -> Duration {
    let begun = Instant::now();
    let over = wait::within(Duration::from_secs(30), || {
        std::thread::sleep(Duration::from_millis(100));
        slow.retain_mut(|one| !one.has_ended());
        slow.is_empty().then_some(())
    });
    let left = |name: &str| slow.iter().filter(|one| one.name == name).count();
    assert!(over.is_some(), "still there: {:?}", KINDS.map(|(name, ..)| (name, left(name))));
    begun.elapsed()
}

/// Asks every 20 ms on a kept connection. Gives the slowest answer and how many there were; any failure is a panic.
fn keep_asking(to: SocketAddr, stop: &AtomicBool) -> (Duration, usize) {
    let mut connection = wire::Connection::open(to).unwrap();
    let (mut slowest, mut count) = (Duration::ZERO, 0);
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        connection.send(format!("GET /open/other HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(connection.receive().unwrap().status(), 200);
        slowest = slowest.max(begun.elapsed());
        count += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    (slowest, count)
}
