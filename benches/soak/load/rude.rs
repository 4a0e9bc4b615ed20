//! Callers who must not be served: those whom no rule lets through, those nobody knows, those who cannot write HTTP, and
//! those who leave in the middle of something.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use support::pair::HOST;
use support::{tls, wire};

use super::{Caller, Line, number, polite};

/// Requests that the rules refuse, on kept connections that must stay.
pub(crate) fn refused(caller: &Caller) {
    const ASKS: [(&str, &str); 4] =
        [("GET", "/admin"), ("POST", "/api/orders/7"), ("GET", "/api/orders/x"), ("DELETE", "/soak/upload")];
    let config = polite::config(caller);
    let (mut plain, mut mtls) = (None, None);
    for turn in caller.turns(Duration::from_millis(50)) {
        let (method, target) = ASKS[turn as usize % ASKS.len()];
        let kept = if turn % 2 == 0 { &mut plain } else { &mut mtls };
        let line = kept.take().map_or_else(
            || {
                if turn % 2 == 0 {
                    Line::plain(caller.stage.entry())
                } else {
                    Line::mtls(caller.stage.inbound(), &config)
                }
            },
            Ok,
        );
        let answer = line.and_then(|mut line| Ok((line.ask(method, target, "", b"")?, line)));
        let outcome = match answer {
            Ok((answer, line)) if answer.status() == 403 => {
                *kept = (!answer.closes()).then_some(line);
                Ok(())
            }
            Ok((answer, _)) => Err(format!("{method} {target}: {}", answer.status())),
            Err(error) => Err(format!("{method} {target}: {error}")),
        };
        caller.ledger.note_due("refused", outcome);
    }
}

/// Handshakes that must not lead to a request: no certificate, a stranger's, none at all.
pub(crate) fn strangers(caller: &Caller) {
    let stranger = Arc::new(tls::config(Some(caller.stage.stranger.certified()), &[]).unwrap());
    let nobody = Arc::new(tls::config(None, &[]).unwrap());
    for turn in caller.turns(Duration::from_millis(150)) {
        let to = caller.stage.inbound();
        let got = match turn % 4 {
            0 => Line::mtls(to, &stranger).and_then(|mut line| line.ask("GET", "/api/orders/1", "", b"")).is_ok(),
            1 => Line::mtls(to, &nobody).and_then(|mut line| line.ask("GET", "/api/orders/1", "", b"")).is_ok(),
            2 => Line::plain(to).and_then(|mut line| line.ask("GET", "/api/orders/1", "", b"")).is_ok(),
            // The beginning of a ClientHello and then nothing.
            _ => Line::plain(to).and_then(|mut line| line.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")).is_err(),
        };
        caller.ledger.note_due("stranger", if got { Err("was answered".to_owned()) } else { Ok(()) });
    }
}

/// Bytes that are no request. None may be answered with a 2xx or 3xx.
pub(crate) fn malformed(caller: &Caller) {
    let many: String = (0..120).map(|at| format!("x-{at}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "a".repeat(70_000));
    let with = |fields: &str| format!("GET /api/orders/7 HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
    let cases = [
        "GET /api/orders/7 HTTP/1.1\r\n\r\n".to_owned(),
        "GET /api/orders/7 HTTP/1.9\r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/orders/7\r\n\r\n".to_owned(),
        with("Host: other\r\n"),
        with("Content-Length: 3\r\nContent-Length: 4\r\n"),
        with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        with("Transfer-Encoding: chunked, chunked\r\n"),
        with(" folded: 1\r\n"),
        with("bad name: 1\r\n"),
        with(&many),
        with(&long),
        with("").replace("/api/orders/7", "/api//orders/7"),
        with("").replace("/api/orders/7", "/api/%2e%2e/7"),
        with("").replace("/api/orders/7", "/api/orders%2f7"),
        with("").replace("\r\n", "\n"),
        "\x00\x01\x02\x03 no protocol at all\r\n\r\n".to_owned(),
        "SSH-2.0-soak\r\n".to_owned(),
    ];
    for turn in caller.turns(Duration::from_millis(100)) {
        let at = turn as usize % cases.len();
        let outcome = match said(caller, cases[at].as_bytes()) {
            Ok(answer) if matches!(answer.get(9), None | Some(b'4' | b'5')) => Ok(()),
            Ok(answer) => Err(format!("case {at}: {}", String::from_utf8_lossy(&answer))),
            Err(error) => Err(format!("case {at}: {error}")),
        };
        caller.ledger.note_due("malformed", outcome);
    }
}

/// The first bytes of what is said to this; none when the connection is closed or reset instead.
fn said(caller: &Caller, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&caller.stage.entry(), wire::QUIET)?;
    stream.set_read_timeout(Some(wire::QUIET))?;
    let _ = stream.write_all(bytes);
    let mut answer = [0; 60];
    match stream.read(&mut answer) {
        Ok(count) => Ok(answer[..count].to_vec()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Callers who are gone before they had all.
pub(crate) fn leavers(caller: &Caller) {
    let config = polite::config(caller);
    for turn in caller.turns(Duration::from_millis(80)) {
        let target = format!("/api/orders/{}", number());
        let head = |more: &str| format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n");
        let upload = format!("POST /soak/upload HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000\r\n\r\n");
        let download = format!("GET /soak/download/1000000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let left = match turn % 8 {
            0 => leave(caller, &head("")[..30], 0, false),
            1 => leave(caller, &head("")[..50], 0, true),
            2 => leave(caller, &(upload.clone() + &"u".repeat(20_000)), 0, turn % 16 == 2),
            3 => leave(caller, &download, 100, turn % 16 == 3),
            4 => leave(caller, &download, 200_000, turn % 16 == 4),
            5 => leave(caller, "", 0, turn % 16 == 5),
            // Mutual TLS: after the handshake, and in the middle of an answer.
            6 => Line::mtls(caller.stage.inbound(), &config).map(Line::reset),
            _ => Line::mtls(caller.stage.inbound(), &config).and_then(|mut line| {
                line.send(download.as_bytes())?;
                line.bytes(1000)?;
                line.reset();
                Ok(())
            }),
        };
        caller.ledger.note_due("left", left.map_err(|error| format!("case {}: {error}", turn % 8)));
    }
}

/// Says something, waits for so many bytes, and goes.
fn leave(caller: &Caller, say: &str, wait_for: usize, by_reset: bool) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&caller.stage.entry(), wire::QUIET)?;
    stream.set_read_timeout(Some(wire::QUIET))?;
    stream.write_all(say.as_bytes())?;
    stream.read_exact(&mut vec![0; wait_for])?;
    if by_reset {
        wire::reset_when_closed(&stream);
    }
    Ok(())
}
