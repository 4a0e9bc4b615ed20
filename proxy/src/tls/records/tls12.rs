//! A peer that speaks TLS 1.2 only: rustls' own records, on the connection that the handshake began.
//!
//! Mesh peers speak TLS 1.3. What is here is not made fast, only correct: it lets a client find out that its server is an old
//! one without dialling again.

use super::{
    PLAINTEXT,
    handshake::{Act, Connection, Next},
};
use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TLS 1.2 connection after its handshake.
pub(crate) struct Tls12 {
    tcp: TcpStream,
    connection: Connection,
    /// Received, and not yet taken by rustls.
    input: Vec<u8>,
    /// Opened, and taken up to `taken`.
    plain: Vec<u8>,
    taken: usize,
    /// Sealed, and sent up to `sent`.
    output: Vec<u8>,
    sent: usize,
    /// The peer has closed as it should.
    closed: bool,
    closed_for_writing: bool,
}

impl Tls12 {
    pub(super) fn new(tcp: TcpStream, connection: Connection, input: Vec<u8>) -> Self {
        Self {
            tcp,
            connection,
            input,
            plain: Vec::new(),
            taken: 0,
            output: Vec::new(),
            sent: 0,
            closed: false,
            closed_for_writing: false,
        }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Lets rustls take what has been received, and then do `act`.
    fn go_on(&mut self, mut act: Act<'_>) -> io::Result<()> {
        loop {
            let (discard, next) =
                self.connection.process(&mut self.input, &mut self.output, Some(&mut self.plain), &mut act);
            self.input.drain(..discard.min(self.input.len()));
            match next {
                Ok(Next::Again) => {}
                Ok(Next::PeerClosed) => self.closed = true,
                Ok(Next::Ready | Next::NeedsInput | Next::Closed) => break,
                Err(error) => {
                    self.connection.last_words(&mut self.input, &mut self.output);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(())
    }

    /// Sends what the socket takes now. A fault of the socket shows at the next read or write.
    fn try_send(&mut self) {
        while let Some(unsent) = self.output.get(self.sent..).filter(|unsent| !unsent.is_empty()) {
            match self.tcp.try_write(unsent) {
                Ok(count) if count > 0 => self.sent += count,
                _ => return,
            }
        }
        (self.output, self.sent) = (Vec::new(), 0);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(unsent) = self.output.get(self.sent..).filter(|unsent| !unsent.is_empty()) {
            match ready!(Pin::new(&mut self.tcp).poll_write(cx, unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        (self.output, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Tls12 {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(plain) = this.plain.get(this.taken..).filter(|plain| !plain.is_empty()) {
                let (now, _) = plain.split_at(plain.len().min(buf.remaining()));
                buf.put_slice(now);
                this.taken += now.len();
                return Poll::Ready(Ok(()));
            }
            (this.plain, this.taken) = (Vec::new(), 0);
            let gone_on = this.go_on(Act::Nothing);
            // An alert, or the no to a renegotiation (RFC 5246 §7.2.2): nobody may ever write here again.
            this.try_send();
            gone_on?;
            if !this.plain.is_empty() {
                continue;
            }
            if this.closed {
                return Poll::Ready(Ok(()));
            }
            this.input.reserve(READ);
            let reading = this.tcp.read_buf(&mut this.input);
            if ready!(pin!(reading).poll(cx))? == 0 {
                return Poll::Ready(Err(super::stream::truncated()));
            }
        }
    }
}

impl AsyncWrite for Tls12 {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.closed_for_writing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // What was sealed before goes first, so at most one record waits.
        ready!(this.poll_send(cx))?;
        let (now, _) = buf.split_at(buf.len().min(PLAINTEXT));
        if !now.is_empty() {
            this.go_on(Act::Seal(now))?;
        }
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(now.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed_for_writing {
            this.closed_for_writing = true;
            this.go_on(Act::Close)?;
        }
        ready!(this.poll_send(cx))?;
        super::stream::shut(&mut this.tcp, cx)
    }
}

/// Bytes asked for with one read.
const READ: usize = 4096;
