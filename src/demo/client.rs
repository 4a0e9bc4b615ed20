//! A client that sends exactly the bytes it is told, as an application or an attacker would.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends one request on a connection of its own and reads the answer.
pub(crate) fn request(to: SocketAddr, method: &str, target: &str, host: &str, body: &str) -> Result<Answer, String> {
    let text = format!(
        "{method} {target} HTTP/1.1\r\nhost: {host}\r\nuser-agent: demo\r\nauthorization: Bearer demo-secret\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(to, text.as_bytes())?;
    parse(&answer).ok_or_else(|| format!("no HTTP answer, but {} bytes", answer.len()))
}

/// Sends bytes and reads until the other end closes.
pub(crate) fn exchange(to: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(|error| format!("{to}: {error}"))?;
    let prepared = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(bytes));
    prepared.map_err(|error| format!("{to}: {error}"))?;
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        // The demo's bodies are one chunk.
        body.split_once("\r\n")?.1.split("\r\n").next()?.to_owned()
    } else {
        body.to_owned()
    };
    Some(Answer { status, body })
}
