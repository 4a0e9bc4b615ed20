//! An exact number of requests, and the application that answers them. Neither allocates while it runs, so that both may
//! stand in one process with a sidecar whose allocations are counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use support::child::run;
use support::pair::HOST;
use support::tools;

/// The path that the rule allows.
pub(crate) const PATH: &str = "/api/orders/42";
/// Size of the body of every answer, in bytes.
pub(crate) const BODY: usize = 1024;

const REQUEST: &[u8] =
    b"GET /api/orders/42 HTTP/1.1\r\nhost: orders.shop.svc\r\nuser-agent: cost\r\naccept: */*\r\n\r\n";

/// HTTP/1.1 callers with kept connections.
pub(crate) struct Callers {
    connections: Vec<TcpStream>,
}

impl Callers {
    pub(crate) fn connect(to: SocketAddr, count: usize) -> Self {
        let open = |_| {
            let stream = TcpStream::connect(to).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        };
        Self { connections: (0..count).map(open).collect() }
    }

    /// Asks `count` times, rounded up to whole rounds. In a round every connection sends one request, and all answers are
    /// read before the next: that many are in flight at once. Every answer must be a whole 200.
    pub(crate) fn ask(&mut self, count: usize) -> usize {
        let rounds = count.div_ceil(self.connections.len());
        for _ in 0..rounds {
            for connection in &mut self.connections {
                connection.write_all(REQUEST).unwrap();
            }
            for connection in &mut self.connections {
                read_answer(connection);
            }
        }
        rounds * self.connections.len()
    }
}

fn read_answer(stream: &mut TcpStream) {
    let mut buffer = [0; 8192];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).unwrap();
        assert!(count > 0, "the sidecar closed a connection");
        filled += count;
        let answer = &buffer[..filled];
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
            let body = &answer[end + 4..];
            assert!(body.len() <= BODY && body.iter().all(|byte| *byte == b'x'), "another body than the origin's");
            if body.len() == BODY {
                return;
            }
        }
    }
}

/// The same over HTTP/2 by h2load: one connection, one request at a time.
pub(crate) fn ask_http2(to: SocketAddr, count: usize) {
    let mut command = tools::system("h2load", "nghttp2-client");
    command.args(["-n", &count.to_string(), "-c", "1", "-m", "1", "-H", "user-agent: cost", "-H", "accept: */*"]);
    command.arg(format!("--connect-to={to}")).arg(format!("http://{HOST}{PATH}"));
    let said = run(&mut command);
    assert!(said.contains(&format!("status codes: {count} 2xx")), "{said}");
}

/// An HTTP/1.1 application with kept connections, a thread for each.
pub(crate) struct Origin;

impl Origin {
    /// Serves until the process ends.
    pub(crate) fn start(at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer_all(stream));
            }
        });
        Self
    }
}

/// Understands only what sidecars send here: requests without a body, one after the other.
fn answer_all(mut stream: TcpStream) {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 1024\r\n\r\n";
    let mut answer = [b'x'; HEAD.len() + BODY];
    answer[..HEAD.len()].copy_from_slice(HEAD);
    let mut request = [0; 8192];
    let mut filled = 0;
    let _ = stream.set_nodelay(true);
    while let Ok(count @ 1..) = stream.read(&mut request[filled..]) {
        filled += count;
        if request[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }
}
