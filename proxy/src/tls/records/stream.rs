//! Both halves on a socket.
//!
//! One read takes what the caller asks for, as records, and no more than that plus the rest of a record already begun: so
//! what is left over is part of one record, except when a record is larger than what the caller asked for. What waits
//! between two reads is kept in memory of its own size.

use super::{
    OVERHEAD, PLAINTEXT,
    inbound::{Inbound, Misbehaved, Opened, record_length},
    key::{Exhausted, Key},
    outbound::Outbound,
    scratch,
    source::{Source, unknown_suite},
};
use crate::buffer::Buffer;
use bytes::BufMut;
use rustls::{AlertDescription, ExtractedSecrets};
use std::{
    future::Future,
    io,
    ops::Range,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TLS 1.3 connection after its handshake.
pub(crate) struct Records {
    tcp: TcpStream,
    inbound: Inbound,
    outbound: Outbound,
    source: Source,
    /// Received and not taken yet. Invariant: `plain.start <= plain.end <= next <= received.len()`.
    received: Vec<u8>,
    /// Opened and not taken yet.
    plain: Range<usize>,
    /// Where the next record begins.
    next: usize,
    /// The length on the wire of the last record with data; senders of much data repeat it.
    last: usize,
    reading: Reading,
    /// Nothing may be sent after a close or a fatal alert (RFC 8446 §6).
    closed_for_writing: bool,
    /// The socket took less than it was given, and has not been asked since.
    full: bool,
}

enum Reading {
    Open,
    /// The peer has closed as it should.
    Closed,
    /// The peer did this; the connection is over in both directions (RFC 8446 §6.2).
    Failed(Misbehaved),
}

impl Records {
    /// `received` is what the handshake has read beyond its end, `unsent` what it has not sent yet.
    pub(super) fn new(
        tcp: TcpStream,
        secrets: ExtractedSecrets,
        source: Source,
        received: Vec<u8>,
        unsent: Vec<u8>,
    ) -> Result<Self, rustls::Error> {
        let inbound = Key::new(secrets.rx.0, secrets.rx.1).ok_or_else(unknown_suite)?;
        let outbound = Key::new(secrets.tx.0, secrets.tx.1).ok_or_else(unknown_suite)?;
        Ok(Self {
            tcp,
            inbound: Inbound::new(inbound),
            outbound: Outbound::new(outbound, unsent),
            source,
            received,
            plain: 0..0,
            next: 0,
            last: 0,
            reading: Reading::Open,
            closed_for_writing: false,
            full: false,
        })
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    #[cfg(test)]
    pub(super) fn halves(&mut self) -> (&mut Inbound, &mut Outbound, &mut Source) {
        (&mut self.inbound, &mut self.outbound, &mut self.source)
    }

    /// Bytes of memory held in buffers.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.received.capacity() + self.outbound.held()
    }

    /// Appends to `buffer` what can be read now, at most `most` bytes, and says how many. 0 is the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_plain(cx, most, &mut |bytes| buffer.room(bytes.len()).put_slice(bytes))
    }

    /// Gives `to` at most `most` bytes of plaintext and says how many. 0 is the end of the stream, if `most` is not 0.
    fn poll_plain(&mut self, cx: &mut Context<'_>, most: usize, to: &mut dyn FnMut(&[u8])) -> Poll<io::Result<usize>> {
        let given = self.poll_records(cx, most, to);
        self.settle();
        // Who waits has nothing left to say: the end of a client's handshake, for which the server waits, or a server's ticket.
        // With the first data they cost no packet of their own. What cannot be sent is said by the next write.
        if given.is_pending() && !self.outbound.unsent().is_empty() && !self.full {
            let _ = self.poll_send(cx);
        }
        given
    }

    fn poll_records(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        to: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut given = 0;
        loop {
            if let Some(plain) = self.received.get(self.plain.clone())
                && !plain.is_empty()
            {
                let (now, _) = plain.split_at(plain.len().min(most - given));
                to(now);
                given += now.len();
                self.plain.start += now.len();
            }
            if given >= most {
                return Poll::Ready(Ok(given));
            }
            match self.open_next() {
                Ok(Next::Opened) => {}
                Ok(Next::Incomplete(missing)) if given == 0 => {
                    if ready!(self.poll_receive(cx, most, missing))? == 0 {
                        return Poll::Ready(Err(truncated()));
                    }
                }
                // What comes after data that has been given away is said at the next call.
                Ok(Next::Incomplete(_) | Next::Closed) => return Poll::Ready(Ok(given)),
                Err(_) if given > 0 => return Poll::Ready(Ok(given)),
                Err(misbehaved) => {
                    let _ = self.poll_send(cx);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, misbehaved)));
                }
            }
        }
    }

    /// Opens the next record, if it is there.
    fn open_next(&mut self) -> Result<Next, Misbehaved> {
        match &self.reading {
            Reading::Open => {}
            Reading::Closed => return Ok(Next::Closed),
            Reading::Failed(misbehaved) => return Err(misbehaved.clone()),
        }
        let opened = self.open_received();
        if let Err(misbehaved) = &opened {
            self.fail(misbehaved.clone());
        }
        opened
    }

    fn open_received(&mut self) -> Result<Next, Misbehaved> {
        let waiting = self.received.get_mut(self.next..).unwrap_or_default();
        let Some(length) = record_length(waiting)? else {
            return Ok(Next::Incomplete(0));
        };
        let Some(record) = waiting.get_mut(..length) else {
            return Ok(Next::Incomplete(length - waiting.len()));
        };
        match self.inbound.open(record, &mut self.source)? {
            Opened::Data(place) => {
                self.plain = self.next + place.start..self.next + place.end;
                self.last = length;
            }
            Opened::Nothing => {}
            Opened::Closed => {
                self.reading = Reading::Closed;
                self.received = Vec::new();
                (self.plain, self.next) = (0..0, 0);
                return Ok(Next::Closed);
            }
        }
        self.next += length;
        Ok(Next::Opened)
    }

    /// Ends the connection in both directions, and says why to the peer.
    fn fail(&mut self, misbehaved: Misbehaved) {
        if let Some(alert) = misbehaved.alert()
            && !self.closed_for_writing
        {
            // Without a record left to say it in, the connection ends without a word.
            let _ = self.outbound.alert(alert);
        }
        self.closed_for_writing = true;
        self.received = Vec::new();
        (self.plain, self.next) = (0..0, 0);
        self.reading = Reading::Failed(misbehaved);
    }

    /// Reads from the socket: the `missing` rest of a record, and records for at most `most` bytes.
    fn poll_receive(&mut self, cx: &mut Context<'_>, most: usize, missing: usize) -> Poll<io::Result<usize>> {
        // Everything before `next` has been taken: `plain` is empty.
        let waiting = self.received.get(self.next..).unwrap_or_default();
        let mut large = scratch::take();
        large.extend_from_slice(waiting);
        self.received = large;
        (self.plain, self.next) = (0..0, 0);
        let room = self.room(most, missing).min(self.received.capacity() - self.received.len());
        let mut room = (&mut self.received).limit(room);
        let reading = self.tcp.read_buf(&mut room);
        pin!(reading).poll(cx)
    }

    /// How much to read at once. With records of one size it ends at the end of a record, so that no part of one has to be
    /// kept.
    fn room(&self, most: usize, missing: usize) -> usize {
        let wanted = most.clamp(PLAINTEXT, MOST);
        let Some(plain) = self.last.checked_sub(OVERHEAD).filter(|plain| *plain >= LARGE) else {
            return missing + wanted + OVERHEAD;
        };
        let records = (wanted / plain).max(1);
        if missing == 0 { records * self.last } else { missing + (records - 1) * self.last }
    }

    /// Gives the large buffer back, and keeps what has not been taken yet in memory of its own size.
    fn settle(&mut self) {
        if self.received.capacity() < scratch::CAPACITY {
            return;
        }
        let begin = if self.plain.is_empty() { self.next } else { self.plain.start };
        let rest = self.received.get(begin..).unwrap_or_default().to_vec();
        self.plain = self.plain.start.saturating_sub(begin)..self.plain.end.saturating_sub(begin);
        self.next -= begin;
        scratch::put(std::mem::replace(&mut self.received, rest));
    }

    /// Sends what has been sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let unsent = self.outbound.unsent();
            if unsent.is_empty() {
                self.full = false;
                return Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.tcp).poll_write(cx, unsent) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.outbound.sent(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.full = true;
                    self.outbound.wait();
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_seal(&mut self, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.closed_for_writing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.full {
            ready!(self.poll_send(cx))?;
        }
        if self.inbound.take_owed_key_update() {
            self.outbound.key_update(&mut self.source).map_err(exhausted)?;
        }
        let count = self.outbound.data(pieces, &mut self.source).map_err(exhausted)?;
        // What the socket does not take now waits for the next write or flush.
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
        }
    }
}

enum Next {
    /// A record was there.
    Opened,
    /// So many bytes of the record are missing, at least; 0 when not even its length is known.
    Incomplete(usize),
    Closed,
}

impl AsyncRead for Records {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = buf.remaining();
        self.get_mut().poll_plain(cx, most, &mut |bytes| buf.put_slice(bytes)).map_ok(|_| ())
    }
}

impl AsyncWrite for Records {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_seal(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_seal(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    /// Says that nothing more comes, and closes the sending half (RFC 8446 §6.1). Reading goes on.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let records = self.get_mut();
        if !records.closed_for_writing {
            records.closed_for_writing = true;
            records.outbound.alert(AlertDescription::CloseNotify).map_err(exhausted)?;
        }
        ready!(records.poll_send(cx))?;
        shut(&mut records.tcp, cx)
    }
}

/// Closes the sending half. That the peer has closed both already is no failure.
pub(super) fn shut(tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    match ready!(Pin::new(tcp).poll_shutdown(cx)) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
        done => Poll::Ready(done),
    }
}

/// The peer is gone without having said that it had said all: what came may not be the whole (RFC 8446 §6.1).
pub(super) fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "peer closed connection without sending TLS close_notify")
}

fn exhausted(_: Exhausted) -> io::Error {
    io::Error::other("no further TLS record can be sealed")
}

/// Plaintext asked for with one read, at most.
const MOST: usize = 4 * PLAINTEXT;

/// Records of at least this much plaintext are worth reading to their end.
const LARGE: usize = 4096;
