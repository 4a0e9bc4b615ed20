//! Opaque connections: bytes carried both ways until both sides are done, or nothing moves, or the rules change.
//!
//! Half-close is passed on: the end of one direction leaves the other open (RFC 9293 §3.6). A direction that breaks off
//! instead of ending, a TLS stream without close_notify included (RFC 8446 §6.1), is passed on as a reset, so that nobody
//! takes a cut message for a whole one.

use crate::{
    connection::Connection, guard::Judged, http::Asked, limits, stream::Stream, tap_streams::Streams, tls::Peer,
    watch::Place,
};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How an opaque connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    /// One side broke off.
    DownstreamBroke,
    UpstreamBroke,
    Idle,
    Revoked,
}

/// Bytes that passed in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

/// Carries bytes until the end.
pub(crate) async fn run(
    (downstream, upstream): (&mut Stream, &mut Stream),
    copies: &mut Streams,
    judged: &Judged,
    asked: Option<&Asked>,
    connection: &Connection,
    callee: Option<&Peer>,
    idle: Duration,
) -> (End, Passed) {
    let worker = &connection.worker;
    let place = Place::default();
    let mut epoch = worker.watches.epoch();
    let mut up = Half::new(tap::Side::Client);
    let mut down = Half::new(tap::Side::Server);
    let end = poll_fn(|cx| {
        let before = up.passed + down.passed;
        let up_state = up.poll(cx, downstream, upstream, copies);
        let down_state = down.poll(cx, upstream, downstream, copies);
        if up.passed + down.passed != before {
            worker.watches.moved(&place);
        }
        match (up_state, down_state) {
            (Poll::Ready(Err(side)), _) => return Poll::Ready(broke(side, false)),
            (_, Poll::Ready(Err(side))) => return Poll::Ready(broke(side, true)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            _ => {}
        }
        if worker.watches.wait(&place, cx, idle) {
            return Poll::Ready(End::Idle);
        }
        if worker.watches.epoch() != epoch {
            epoch = worker.watches.epoch();
            let trusted = connection.is_trusted()
                && callee.is_none_or(|peer| peer.is_trusted_by(worker.identity().bundle(), identity::Usage::Server));
            if !trusted || judged.still_allowed(&worker.live(), asked) == Some(false) {
                return Poll::Ready(End::Revoked);
            }
        }
        Poll::Pending
    })
    .await;
    worker.watches.leave(&place);
    copies.end(end);
    if end != End::Closed {
        downstream.reset();
        upstream.reset();
    }
    (end, Passed { up: up.passed, down: down.passed })
}

/// Which side of a half failed.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Sink,
}

fn broke(side: Side, downwards: bool) -> End {
    match (side, downwards) {
        (Side::Source, false) | (Side::Sink, true) => End::DownstreamBroke,
        (Side::Source, true) | (Side::Sink, false) => End::UpstreamBroke,
    }
}

/// One direction.
struct Half {
    /// Whose bytes they are.
    sender: tap::Side,
    buffer: Vec<u8>,
    from: usize,
    until: usize,
    passed: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; what is buffered still has to go, then the end itself.
    Ending,
    Done,
}

impl Half {
    fn new(sender: tap::Side) -> Self {
        Self { sender, buffer: Vec::new(), from: 0, until: 0, passed: 0, state: State::Open }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
        copies: &mut Streams,
    ) -> Poll<Result<(), Side>> {
        loop {
            if self.state == State::Done {
                return Poll::Ready(Ok(()));
            }
            while self.from < self.until {
                let waiting = self.buffer.get(self.from..self.until).unwrap_or_default();
                let written = ready!(Pin::new(&mut *sink).poll_write(cx, waiting)).map_err(|_| Side::Sink)?;
                if written == 0 {
                    return Poll::Ready(Err(Side::Sink));
                }
                copies.passed(self.sender, waiting.get(..written).unwrap_or_default());
                self.from += written;
                self.passed += u64::try_from(written).unwrap_or(0);
            }
            if self.state == State::Ending {
                ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(|_| Side::Sink)?;
                copies.finished(self.sender);
                self.state = State::Done;
                self.buffer = Vec::new();
                continue;
            }
            if self.buffer.is_empty() {
                self.buffer = vec![0; limits::TUNNEL_BUFFER];
            }
            let mut read = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *source).poll_read(cx, &mut read) {
                Poll::Pending => {
                    // Nothing more for now: what was written must not wait in TLS.
                    ready!(Pin::new(&mut *sink).poll_flush(cx)).map_err(|_| Side::Sink)?;
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Side::Source)),
                Poll::Ready(Ok(())) => {
                    (self.from, self.until) = (0, read.filled().len());
                    if self.until == 0 {
                        self.state = State::Ending;
                    }
                }
            }
        }
    }
}
