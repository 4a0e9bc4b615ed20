//! Bodies on their way: trailers, extensions, single bytes, sixty-four megabytes at a time, and the memory that takes.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use support::child::signal;
use support::message::{self, Kind};
use support::sidecar::Sidecar;
use support::wait;
use support::wire::Connection;

use super::open::{get, head, pair, staged};

#[test]
fn trailers_pass_both_ways_and_those_that_would_change_the_message_do_not() {
    let stage = staged(|line| {
        while let Some(request) = line.request()? {
            assert_eq!(request.body, b"hello");
            line.send(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2;ext=1\r\nok\r\n0;last\r\nX-Sum: 7\r\n\
                 Content-Length: 3\r\nTransfer-Encoding: gzip\r\nSet-Down: 1\r\nHost: evil\r\nTrailer: y\r\n\r\n",
            )?;
        }
        Ok(())
    });
    let mut connection = stage.connect();
    for _ in 0..2 {
        connection.send(head("POST", "a", "TE: trailers\r\nTransfer-Encoding: chunked\r\n").as_bytes()).unwrap();
        connection.send(b"5;ext=\"x\"\r\nhello\r\n0\r\nX-Up: 1\r\n\r\n").unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!((reply.status(), reply.text().as_str(), reply.trailer("x-sum")), (200, "ok", Some("7")));
        for forbidden in ["content-length", "transfer-encoding", "host", "trailer"] {
            assert_eq!(reply.trailer(forbidden), None, "{forbidden}");
        }
        assert_eq!(reply.trailer("set-down"), Some("1"));
    }
}

#[test]
fn what_goes_up_has_our_chunks_and_no_extension_or_forbidden_trailer() {
    let pair = pair();
    let mut connection = Connection::open(pair.entry()).unwrap();
    connection.send(head("POST", "a", "Transfer-Encoding: chunked\r\n").as_bytes()).unwrap();
    connection
        .send(
            b"5;smuggled=\"x\"\r\nhello\r\n0;smuggled\r\nX-Up: 1\r\nContent-Length: 3\r\nHost: evil\r\nAuthorization: x\r\n\
              Transfer-Encoding: x\r\nX-Envoy-Internal: 1\r\nx_forwarded_client_cert: By=evil\r\n\r\n",
        )
        .unwrap();
    assert_eq!(connection.receive().unwrap().status(), 200);
    let seen = pair.origin.last("/open/a");
    assert_eq!((seen.body.as_slice(), &*seen.trailers), (&b"hello"[..], &[("X-Up".to_owned(), "1".to_owned())][..]));
    assert!(!pair.origin.saw(b"smuggled") && !pair.origin.saw(b"evil"));
    assert_eq!((seen.count("host"), seen.count("content-length"), seen.count("transfer-encoding")), (1, 0, 1));
}

#[test]
fn a_chunked_request_that_comes_byte_by_byte_arrives_whole() {
    let pair = pair();
    let mut connection = Connection::open(pair.entry()).unwrap();
    let mut text = head("POST", "a", "Transfer-Encoding: chunked\r\nX-Field: some value\r\n").into_bytes();
    text.extend_from_slice(b"5\r\nhello\r\n06;x=y\r\n world\r\n0\r\nx-sum: 11\r\n\r\n");
    for byte in text.repeat(2) {
        connection.send(&[byte]).unwrap();
        std::thread::yield_now();
    }
    for _ in 0..2 {
        assert_eq!(connection.receive().unwrap().text(), "POST /open/a 11");
    }
    let seen = pair.origin.requests_for("/open/a");
    assert_eq!(seen.len(), 2);
    for request in seen {
        assert_eq!((request.text().as_str(), request.trailer("x-sum")), ("hello world", Some("11")));
    }
}

#[test]
fn a_response_that_comes_byte_by_byte_arrives_whole() {
    let stage = staged(|line| {
        while line.head()?.is_some() {
            let text = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                        5\r\nhello\r\n0006\r\n world\r\n0\r\nx-sum: 11\r\n\r\n";
            for byte in text.bytes() {
                line.send([byte])?;
            }
        }
        Ok(())
    });
    let mut connection = stage.connect();
    for _ in 0..3 {
        connection.send(head("GET", "a", "").as_bytes()).unwrap();
        let reply = connection.receive().unwrap();
        assert_eq!((reply.text().as_str(), reply.trailer("x-sum")), ("hello world", Some("11")));
    }
    assert_eq!(stage.origin.connections(), 1);
}

#[test]
fn a_response_whose_way_was_blocked_at_its_end_arrives_to_its_last_byte() {
    let caller = Arc::new(AtomicU32::new(0));
    let process = Arc::clone(&caller);
    let stage = staged(move |line| {
        while let Some(head) = line.head()? {
            let length: usize = head.split([' ', '/']).find_map(|word| word.parse().ok()).unwrap();
            // While the caller's sidecar stands still, the callee's gets rid of so much and no more.
            signal(process.load(Ordering::SeqCst), "STOP");
            line.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"))?;
            write_pattern(|bytes| line.send(bytes), length, false)?;
        }
        Ok(())
    });
    caller.store(stage.client.child.id(), Ordering::SeqCst);
    let mut connection = stage.connect();
    // How much that is the kernel decides, near 2.7 MB: one of these lengths ends where the way is full.
    for (stopped, length) in (150..214).map(|number| number << 14).enumerate() {
        connection.send(&get(&length.to_string())).unwrap();
        wait::until("the request", wait::SOON, || (stage.origin.heads().len() > stopped).then_some(()));
        std::thread::sleep(Duration::from_millis(30));
        signal(stage.client.child.id(), "CONT");
        let reply = connection.receive();
        assert!(reply.is_ok_and(|reply| reply.body.len() == length), "{length}");
    }
}

/// Sizes of a first chunk around which a whole message is about as long as what is read and written in one piece.
const ABOUT_A_BUFFER: std::ops::Range<usize> = 65_200..65_560;

/// A body of three chunks, of which the last two are small: they are what is left over when the first fills a buffer.
fn three_chunks(first: usize) -> Vec<u8> {
    let mut body = format!("{first:x}\r\n").into_bytes();
    body.resize(body.len() + first, b'x');
    body.extend_from_slice(b"\r\n1e\r\n012345678901234567890123456789\r\n5\r\nhello\r\n0\r\n\r\n");
    body
}

#[test]
fn a_response_about_as_long_as_a_buffer_arrives_to_its_last_byte() {
    let stage = staged(|line| {
        while let Some(head) = line.head()? {
            let first: usize = head.split([' ', '/']).find_map(|word| word.parse().ok()).unwrap();
            line.send([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &*three_chunks(first)].concat())?;
        }
        Ok(())
    });
    let mut connection = stage.connect();
    for first in ABOUT_A_BUFFER.step_by(4) {
        connection.send(&get(&first.to_string())).unwrap();
        assert_eq!(connection.receive().unwrap().body.len(), first + 35);
    }
}

#[test]
fn a_request_about_as_long_as_a_buffer_arrives_to_its_last_byte() {
    let pair = pair();
    let mut connection = Connection::open(pair.entry()).unwrap();
    for first in ABOUT_A_BUFFER.step_by(4) {
        let head = head("POST", "a", "Transfer-Encoding: chunked\r\n").into_bytes();
        connection.send(&[head, three_chunks(first)].concat()).unwrap();
        assert_eq!(connection.receive().unwrap().text(), format!("POST /open/a {}", first + 35));
    }
}

/// Bytes of each body.
const LARGE: usize = 64 << 20;
/// A pattern whose length is prime, so that a piece that is lost, doubled or moved shows.
const PATTERN: usize = 65_521;
/// How much more either sidecar may hold while eight such bodies pass both ways, in KiB.
const GROWTH: usize = 20 * 1024;

#[test]
fn eight_large_bodies_pass_both_ways_at_once_and_cost_no_memory() {
    let stage = staged(|line| {
        while let Some(head) = line.head()? {
            // What comes is sent back as it comes, framed as it was.
            let head = message::read_start(&mut head.as_bytes(), Kind::Request)?.unwrap();
            let length: usize = head.header("x-length").unwrap().parse().unwrap();
            let framing = if head.chunked {
                "transfer-encoding: chunked".to_owned()
            } else {
                format!("content-length: {length}")
            };
            line.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))?;
            line.echo((!head.chunked).then_some(length))?;
        }
        Ok(())
    });
    // Warm: one small exchange in each worker's pools.
    for _ in 0..8 {
        exchange_large(stage.setting.at.entry, true, 1 << 20);
    }
    let before = [resident(&stage.client), resident(&stage.server)];
    let entry = stage.setting.at.entry;
    let exchanges: Vec<_> =
        (0..8).map(|number| std::thread::spawn(move || exchange_large(entry, number % 2 == 0, LARGE))).collect();
    let mut most = before;
    while exchanges.iter().any(|exchange| !exchange.is_finished()) {
        most = [most[0].max(resident(&stage.client)), most[1].max(resident(&stage.server))];
        std::thread::sleep(Duration::from_millis(20));
    }
    for exchange in exchanges {
        exchange.join().unwrap();
    }
    for (before, most) in before.into_iter().zip(most) {
        assert!(most.saturating_sub(before) < GROWTH, "from {before} to {most} KiB");
    }
}

/// Sends a body of the pattern and reads it back at the same time.
fn exchange_large(entry: SocketAddr, chunked: bool, length: usize) {
    let mut stream = TcpStream::connect(entry).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {length}") };
    let lines = format!("{framing}\r\nX-Length: {length}\r\n");
    stream.write_all(head("POST", "large", &lines).as_bytes()).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || write_pattern(|bytes| writer.write_all(bytes), length, chunked));
    let mut reader = BufReader::with_capacity(1 << 17, stream);
    let head = message::read_start(&mut reader, Kind::Response).unwrap().unwrap();
    assert_eq!((head.status(), head.chunked), (200, chunked));
    read_pattern(message::body(&mut reader, &head), length);
    writing.join().unwrap().unwrap();
}

fn pattern() -> Vec<u8> {
    (0..PATTERN).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect()
}

fn write_pattern(mut write: impl FnMut(&[u8]) -> io::Result<()>, length: usize, chunked: bool) -> io::Result<()> {
    let pattern = pattern();
    let mut left = length;
    while left > 0 {
        let piece = &pattern[..PATTERN.min(left)];
        if chunked {
            write(format!("{:x}\r\n", piece.len()).as_bytes())?;
        }
        write(piece)?;
        if chunked {
            write(b"\r\n")?;
        }
        left -= piece.len();
    }
    if chunked { write(b"0\r\n\r\n") } else { Ok(()) }
}

fn read_pattern(mut body: impl Read, length: usize) {
    let pattern = pattern();
    let mut piece = vec![0; PATTERN];
    let mut received = 0;
    while received < length {
        let size = PATTERN.min(length - received);
        body.read_exact(&mut piece[..size]).unwrap();
        assert!(piece[..size] == pattern[..size], "other bytes behind {received}");
        received += size;
    }
    assert_eq!(body.read(&mut [0]).unwrap(), 0, "more than was sent");
}

/// Resident memory of a sidecar, in KiB.
fn resident(sidecar: &Sidecar) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
