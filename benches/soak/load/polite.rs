//! Callers who do everything right and must never be failed: whatever rules, certificates and the application do meanwhile,
//! each of their requests is answered 200, with the answer that belongs to it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use support::message::Message;
use support::tls;

use super::{Caller, Line, number};
use crate::app;

type Connect<'a> = dyn Fn() -> io::Result<Line> + 'a;

/// 25 requests a second on one connection to the caller's sidecar, which lives for half a minute.
pub(crate) fn kept(caller: &Caller) {
    orders(caller, "kept", Duration::from_millis(40), 750, &|| Line::plain(caller.stage.entry()));
}

/// A connection for each request.
pub(crate) fn fresh(caller: &Caller) {
    orders(caller, "fresh", Duration::from_millis(50), 1, &|| Line::plain(caller.stage.entry()));
}

/// Mutual TLS straight to the callee.
pub(crate) fn mtls_kept(caller: &Caller) {
    let config = config(caller);
    orders(caller, "mtls kept", Duration::from_millis(50), 400, &|| Line::mtls(caller.stage.inbound(), &config));
}

/// A whole handshake for each request.
pub(crate) fn mtls_fresh(caller: &Caller) {
    let config = config(caller);
    orders(caller, "mtls fresh", Duration::from_millis(100), 1, &|| Line::mtls(caller.stage.inbound(), &config));
}

/// Bodies with a length or in chunks, from nothing to half a mebibyte.
pub(crate) fn uploads(caller: &Caller) {
    upload(caller, "upload", &|| Line::plain(caller.stage.entry()));
}

/// The same straight to the callee.
pub(crate) fn mtls_uploads(caller: &Caller) {
    let config = config(caller);
    upload(caller, "mtls upload", &|| Line::mtls(caller.stage.inbound(), &config));
}

/// Answers with a length or in chunks, up to a mebibyte.
pub(crate) fn downloads(caller: &Caller) {
    const LENGTHS: [usize; 6] = [0, 1, 4096, 65_537, 300_000, 1 << 20];
    each(caller, "download", Duration::from_millis(400), 20, &|| Line::plain(caller.stage.entry()), |line, turn| {
        let length = LENGTHS[turn as usize % LENGTHS.len()];
        let answer = line.ask("GET", &format!("/soak/download/{length}"), "", b"")?;
        Ok((judge(&answer, &app::pattern(length)), answer))
    });
}

/// What callers without a sidecar show.
pub(crate) fn config(caller: &Caller) -> Arc<ClientConfig> {
    Arc::new(tls::config(Some(tls::certified(&caller.stage.direct)), &["http/1.1"]).unwrap())
}

fn orders(caller: &Caller, kind: &'static str, every: Duration, life: u64, connect: &Connect<'_>) {
    each(caller, kind, every, life, connect, |line, _| {
        let target = format!("/api/orders/{}", number());
        let answer = line.ask("GET", &target, "", b"")?;
        Ok((judge(&answer, &app::order(&target)), answer))
    });
}

fn upload(caller: &Caller, kind: &'static str, connect: &Connect<'_>) {
    const LENGTHS: [usize; 5] = [0, 10, 20_000, 100_000, 500_000];
    let ask = |line: &mut Line, turn: u64| {
        let body = app::pattern(LENGTHS[turn as usize % LENGTHS.len()]);
        let answer = if turn.is_multiple_of(2) {
            line.ask("POST", "/soak/upload", &format!("Content-Length: {}\r\n", body.len()), &body)?
        } else {
            line.ask("POST", "/soak/upload", "Transfer-Encoding: chunked\r\n", &in_chunks(&body))?
        };
        Ok((judge(&answer, app::receipt(&body).as_bytes()), answer))
    };
    each(caller, kind, Duration::from_millis(300), 30, connect, ask);
}

/// Asks turn by turn, on connections that carry `life` requests each.
fn each(
    caller: &Caller,
    kind: &'static str,
    every: Duration,
    life: u64,
    connect: &Connect<'_>,
    ask: impl Fn(&mut Line, u64) -> io::Result<(Result<(), String>, Message)>,
) {
    let mut kept: Option<(Line, u64)> = None;
    for turn in caller.turns(every) {
        let begin = Instant::now();
        let (mut line, used) = match kept.take().map_or_else(|| connect().map(|line| (line, 0)), Ok) {
            Ok(line) => line,
            Err(error) => {
                caller.ledger.wrong(kind, format!("no connection: {error}"));
                continue;
            }
        };
        let (outcome, goes_on) = match ask(&mut line, turn) {
            Ok((outcome, answer)) => (outcome, !answer.closes()),
            Err(error) => (Err(format!("request {used} of its connection: {error}")), false),
        };
        // A POST must not be sent again, so it can meet the application's close.
        if outcome.as_ref().is_err_and(|what| what.starts_with("503"))
            && kind.contains("upload")
            && app::left_since(begin)
        {
            caller.ledger.unlucky(kind);
        } else {
            caller.ledger.note(kind, outcome);
        }
        if goes_on && used + 1 < life {
            kept = Some((line, used + 1));
        }
    }
}

/// Whether this is the one right answer.
pub(crate) fn judge(answer: &Message, body: &[u8]) -> Result<(), String> {
    if answer.status() != 200 {
        let text: String = answer.text().chars().take(120).collect();
        return Err(format!("{} {text}", answer.status()));
    }
    if answer.body != body {
        let text: String = answer.text().chars().take(60).collect();
        return Err(format!("the wrong answer: {} bytes instead of {}, {text:?}", answer.body.len(), body.len()));
    }
    Ok(())
}

fn in_chunks(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(7000) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
