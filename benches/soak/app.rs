//! The application: right answers to right questions, and under `/soak/fault/` every way to fail that a question names.
//!
//! An answer holds what only the right one can: the target of its request, the sum of the bytes that came, or a pattern that
//! follows from the number asked for.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use support::message::{self, Kind, Message};
use support::wire;

/// Serves until the process ends.
pub(crate) fn start(at: SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // Whoever leaves in the middle of something is no news.
                let _ = serve(stream);
            });
        }
    });
}

/// What an order's answer must be.
pub(crate) fn order(target: &str) -> Vec<u8> {
    let mut body = target.as_bytes().to_vec();
    body.resize(1024, b'.');
    body
}

/// What an upload is answered.
pub(crate) fn receipt(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
    format!("{} bytes, {sum:08x}", bytes.len())
}

/// So many bytes, none like its neighbours.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ length) as u8).collect()
}

/// When a connection was last closed that nobody was told of.
static LEFT: Mutex<Option<Instant>> = Mutex::new(None);

/// Whether a connection that the sidecar kept for later was closed after `begin`, or so shortly before it that the sidecar
/// need not have heard.
pub(crate) fn left_since(begin: Instant) -> bool {
    LEFT.lock().unwrap().is_some_and(|left| left + Duration::from_millis(20) > begin)
}

/// The accept value of [`WS_KEY`] (RFC 6455 §1.3).
const WS_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
pub(crate) const WS_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Whether the connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Request,
    Close,
}

fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Beyond every timer of the sidecar, so that it is never this side that gives up first.
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = message::read_start(&mut reader, Kind::Request)? {
        let target = head.target().to_owned();
        if target == "/soak/live" {
            return live(reader);
        }
        if let Some(fault) = target.strip_prefix("/soak/fault/") {
            let fault = fault.to_owned();
            if fault == "early" {
                answer(reader.get_mut(), b"enough", "connection: close\r\n")?;
                return Ok(());
            }
            read_body(&mut reader, &head)?;
            if misbehave(&mut reader, &fault)? == Next::Close {
                return Ok(());
            }
            continue;
        }
        let body = read_body(&mut reader, &head)?;
        let reply = match target.strip_prefix("/soak/download/") {
            Some(length) => pattern(length.parse().unwrap_or(0)),
            None if target == "/soak/upload" => receipt(&body).into_bytes(),
            None => order(&target),
        };
        if head.method() == "HEAD" {
            write!(reader.get_mut(), "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", reply.len())?;
        } else if target.starts_with("/soak/download/") && reply.len() % 2 == 1 {
            chunked(reader.get_mut(), &reply)?;
        } else {
            answer(reader.get_mut(), &reply, "")?;
        }
        if head.closes() {
            return Ok(());
        }
    }
    Ok(())
}

fn read_body(reader: &mut BufReader<TcpStream>, head: &Message) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    message::body(reader, head).read_to_end(&mut body)?;
    Ok(body)
}

fn answer(stream: &mut TcpStream, body: &[u8], fields: &str) -> io::Result<()> {
    let mut out = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    stream.write_all(&out)
}

fn chunked(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n")?;
    for piece in body.chunks(10_000) {
        write!(stream, "{:x}\r\n", piece.len())?;
        stream.write_all(piece)?;
        stream.write_all(b"\r\n")?;
    }
    write!(stream, "0\r\nx-sum: {}\r\n\r\n", receipt(body))
}

/// Fails in the way that was asked for.
fn misbehave(reader: &mut BufReader<TcpStream>, fault: &str) -> io::Result<Next> {
    let stream = reader.get_mut();
    match fault {
        "close" => {}
        "reset" => wire::reset_when_closed(stream),
        "cut" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")?;
            stream.write_all(&pattern(3000))?;
        }
        "cut-chunks" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1000\r\n")?;
            stream.write_all(&pattern(100))?;
            wire::reset_when_closed(stream);
        }
        "nonsense" => stream.write_all(b"HTTP/1.1 two hundred\r\n\r\n")?,
        "two-lengths" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc")?,
        "stall" => {
            // Until the sidecar has had enough.
            let mut waste = [0; 1024];
            while stream.read(&mut waste).is_ok_and(|count| count > 0) {}
        }
        "late" => {
            std::thread::sleep(Duration::from_millis(700));
            answer(stream, b"late", "")?;
            return Ok(Next::Request);
        }
        "slow" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
            for piece in pattern(1000).chunks(100) {
                std::thread::sleep(Duration::from_millis(40));
                stream.write_all(piece)?;
            }
            return Ok(Next::Request);
        }
        "interim" => {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")?;
            answer(stream, b"interim", "")?;
            return Ok(Next::Request);
        }
        // An answer in order, and then a close that nobody was told of.
        "leave" => {
            *LEFT.lock().unwrap() = Some(Instant::now());
            answer(stream, b"leave", "")?;
        }
        other => panic!("no such fault: {other}"),
    }
    Ok(Next::Close)
}

/// A WebSocket, as far as a sidecar can tell: it sends back what comes.
fn live(mut reader: BufReader<TcpStream>) -> io::Result<()> {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    write!(reader.get_mut(), "{switch}sec-websocket-accept: {WS_ACCEPT}\r\n\r\n")?;
    let mut bytes = [0; 16384];
    loop {
        let count = reader.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        reader.get_mut().write_all(&bytes[..count])?;
    }
}
