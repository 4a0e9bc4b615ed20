//! A downstream's bytes on their way to the engine: through the [`Gate`], and with the connection's timers told.
//!
//! Bytes that pass are read straight into the engine's buffer. Only what must wait is copied: the beginning of a head, and a
//! request sent before the one in front of it has been answered, which is let in when its turn comes.

use super::gate::{Gate, Pass, Refused};
use crate::{
    connection::{Connection, Phase},
    stream::Stream,
};
use bytes::{Buf, BytesMut};
use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream of a downstream connection, as the engine reads and writes it.
pub(super) struct Downstream {
    stream: Stream,
    connection: Rc<Connection>,
    /// Absent for HTTP/2, whose frames leave no room for doubt.
    gate: Option<Gate>,
    waiting: BytesMut,
    /// How many of the waiting bytes may go through.
    cleared: usize,
    refused: Option<Refused>,
    /// The engine has been given the last request of this connection.
    spoken: bool,
}

/// Stands for a request that cannot be read. It never leaves this process.
const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

impl Downstream {
    pub(super) fn http1(stream: Stream, connection: Rc<Connection>) -> Self {
        Self {
            stream,
            connection,
            gate: Some(Gate::default()),
            waiting: BytesMut::new(),
            cleared: 0,
            refused: None,
            spoken: false,
        }
    }

    pub(super) fn http2(stream: Stream, connection: Rc<Connection>) -> Self {
        Self { stream, connection, gate: None, waiting: BytesMut::new(), cleared: 0, refused: None, spoken: false }
    }

    fn told(&self, count: usize) {
        match self.connection.phase.get() {
            _ if count == 0 => {}
            // HTTP/2 has frames that are no request; a connection that sends only those is idle.
            Phase::Idle if self.gate.is_some() => self.connection.enter(Phase::Head),
            // Nor do they keep a stream alive on which nothing moves.
            Phase::Busy if self.gate.is_some() => self.connection.moved(),
            Phase::Idle | Phase::Busy => {}
            // The whole head has one deadline, however its bytes come.
            Phase::Head => {}
        }
    }

    /// Lets through what of `bytes` may go now: its length. The rest must wait.
    fn let_in(&mut self, bytes: &[u8]) -> usize {
        let Some(gate) = &mut self.gate else { return bytes.len() };
        let mut passed = 0;
        let mut heads = self.connection.active.get();
        while self.refused.is_none() && passed < bytes.len() {
            // One request at a time: the next head waits until the one before has been answered.
            if gate.is_at_head() && heads > 0 {
                break;
            }
            heads += usize::from(gate.is_at_head());
            let connection = &self.connection;
            let looked = gate.look(bytes.get(passed..).unwrap_or_default(), |target| {
                connection.fragment.set(target.contains(&b'#'));
            });
            match looked {
                Ok(Pass::Bytes(count)) => passed += count,
                Ok(Pass::More) => break,
                Err(refused) => self.refused = Some(refused),
            }
        }
        passed
    }
}

impl AsyncRead for Downstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.cleared == 0 && !this.waiting.is_empty() && this.refused.is_none() {
                let waiting = std::mem::take(&mut this.waiting);
                this.cleared = this.let_in(&waiting);
                this.waiting = waiting;
            }
            if !this.waiting.is_empty() && this.connection.phase.get() == Phase::Idle {
                // Part of a head came with the message before it: its time begins now.
                this.connection.enter(Phase::Head);
            }
            if this.cleared > 0 {
                let count = this.cleared.min(buf.remaining());
                buf.put_slice(this.waiting.get(..count).unwrap_or_default());
                this.waiting.advance(count);
                this.cleared -= count;
                return Poll::Ready(Ok(()));
            }
            if let Some(refused) = this.refused.or(this.connection.refused.get()) {
                let in_body = this.gate.as_ref().is_some_and(|gate| !gate.is_at_head());
                if in_body {
                    this.connection.refused.set(Some(refused));
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refused)));
                }
                if this.connection.active.get() > 0 || this.spoken || buf.remaining() < LAST_REQUEST.len() {
                    this.connection.hold(cx.waker());
                    return Poll::Pending;
                }
                // The engine knows when the answers before are written: it gets a request in the place of the one that
                // cannot be read, and the story answers that with the refusal.
                this.spoken = true;
                this.connection.refused.set(Some(refused));
                buf.put_slice(LAST_REQUEST);
                return Poll::Ready(Ok(()));
            }
            if !this.waiting.is_empty() && this.connection.active.get() > 0 {
                // A request before its turn. No more is read until then: the sender waits, not our memory.
                this.connection.hold(cx.waker());
                return Poll::Pending;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let read = buf.filled().len() - before;
            this.told(read);
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.waiting.is_empty() {
                let count = this.let_in(buf.filled().get(before..).unwrap_or_default());
                this.waiting.extend_from_slice(buf.filled().get(before + count..).unwrap_or_default());
                buf.set_filled(before + count);
                if count > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                this.waiting.extend_from_slice(buf.filled().get(before..).unwrap_or_default());
                buf.set_filled(before);
            }
        }
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        if self.gate.is_some() {
            self.connection.moved();
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        if self.gate.is_some() {
            self.connection.moved();
        }
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
