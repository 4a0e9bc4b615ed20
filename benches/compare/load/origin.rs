//! The application behind the callee's sidecar: kept connections, 1 KiB for every request, no work of its own.
//!
//! HTTP/1.1, or HTTP/2 with prior knowledge, told apart by the first bytes. It understands only what sidecars send here:
//! requests without a body. `?bytes=N` asks for N bytes instead.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{h2_origin, reply};

/// Size of the body of every answer, in bytes.
pub(crate) const BODY: usize = 1024;

/// Serves until the process is killed.
pub(crate) fn serve(address: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind(address).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::task::spawn_local(connection(stream));
        }
    });
}

async fn connection(mut stream: TcpStream) {
    let answer = [head(BODY).as_bytes(), &[b'x'; BODY]].concat();
    let mut request = Vec::with_capacity(4096);
    while let Ok(1..) = stream.read_buf(&mut request).await {
        if request.starts_with(b"PRI ") {
            return h2_origin::connection(stream, request).await;
        }
        // The end of the head is the end of the request, and nothing is pipelined.
        if request.ends_with(b"\r\n\r\n") {
            let sent = match bytes_wanted(&request) {
                None => stream.write_all(&answer).await.is_ok(),
                Some(count) => bulk(&mut stream, count).await.is_ok(),
            };
            if !sent {
                return;
            }
            request.clear();
        }
    }
}

fn head(bytes: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {bytes}\r\n\r\n")
}

/// N of `?bytes=N` in the request line.
fn bytes_wanted(request: &[u8]) -> Option<usize> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let at = reply::find(line, b"?bytes=")? + b"?bytes=".len();
    let digits = line[at..].split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

async fn bulk(stream: &mut TcpStream, count: usize) -> std::io::Result<()> {
    static PIECE: [u8; 256 << 10] = [b'x'; 256 << 10];
    stream.write_all(head(count).as_bytes()).await?;
    let mut left = count;
    while left > 0 {
        let piece = left.min(PIECE.len());
        stream.write_all(&PIECE[..piece]).await?;
        left -= piece;
    }
    Ok(())
}
