//! W4, large bodies: each connection asks for one 64 MiB response after another and reads as fast as they come.
//!
//! Counts the bytes of body that arrive within the window. One thread per connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Load, reply};
use crate::cost::Window;

/// Bytes of one response.
const BODY: usize = 64 << 20;

/// Runs the load and prints what came of it.
pub(crate) fn run(load: &Load) {
    let bytes: &'static AtomicU64 = Box::leak(Box::default());
    for _ in 0..load.connections {
        let to = load.to;
        std::thread::spawn(move || connection(TcpStream::connect(to).unwrap(), bytes));
    }
    std::thread::sleep(load.warm_up);
    let before = bytes.load(Ordering::Relaxed);
    let window = Window::open(load.pids);
    std::thread::sleep(load.window);
    let costs = window.close();
    let bytes = bytes.load(Ordering::Relaxed) - before;
    assert!(bytes > 0, "nothing arrived in the window");
    let mut report = costs.report(&mut []);
    report["bytes"] = bytes.into();
    println!("{report}");
}

fn connection(mut stream: TcpStream, bytes: &AtomicU64) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = format!("GET /api/orders/42?bytes={BODY} HTTP/1.1\r\nhost: orders.shop.svc\r\n\r\n");
    let mut buffer = vec![0; 256 << 10];
    loop {
        stream.write_all(request.as_bytes()).unwrap();
        let mut left = head(&mut stream, &mut buffer, bytes);
        while left > 0 {
            let room = left.min(buffer.len());
            let count = stream.read(&mut buffer[..room]).unwrap();
            assert!(count > 0, "closed with {left} bytes of body to come");
            assert!(buffer[0] == b'x' && buffer[count - 1] == b'x', "another body than the origin's");
            bytes.fetch_add(count as u64, Ordering::Relaxed);
            left -= count;
        }
    }
}

/// Reads up to the end of the head, and gives what is left of the body after that.
fn head(stream: &mut TcpStream, buffer: &mut [u8], bytes: &AtomicU64) -> usize {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).unwrap();
        assert!(count > 0, "the sidecar closed a connection");
        filled += count;
        if let Some(end) = reply::find(&buffer[..filled], b"\r\n\r\n") {
            let head = &buffer[..end + 2];
            let right = head.starts_with(b"HTTP/1.1 200 ") && reply::content_length(head) == Some(BODY);
            assert!(right, "not 200 with {BODY} bytes: {}", String::from_utf8_lossy(head));
            let begun = filled - end - 4;
            bytes.fetch_add(begun as u64, Ordering::Relaxed);
            return BODY.checked_sub(begun).unwrap();
        }
    }
}
