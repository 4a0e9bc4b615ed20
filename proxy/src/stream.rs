//! A byte stream of the data path: TCP or TLS over TCP, with bytes put back that were looked at too early.

use crate::{buffer::Buffer, tls::Secured};
use bytes::{Buf, Bytes};
use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A byte stream. Reading yields first what was put back.
pub(crate) struct Stream {
    seen: Bytes,
    transport: Transport,
}

enum Transport {
    Plain(TcpStream),
    Tls(Secured),
}

impl Stream {
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Self { seen: Bytes::new(), transport: Transport::Plain(tcp) }
    }

    pub(crate) fn tls(tls: Secured) -> Self {
        Self { seen: Bytes::new(), transport: Transport::Tls(tls) }
    }

    /// Puts bytes back that were read to tell the protocol: before any others that were put back and not read again.
    pub(crate) fn put_back(&mut self, seen: Bytes) {
        self.seen = if self.seen.is_empty() { seen } else { [seen, std::mem::take(&mut self.seen)].concat().into() };
    }

    /// Appends to `buffer` what can be read now, at most `most` bytes, and says how many. 0 is the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if !self.seen.has_remaining()
            && let Transport::Tls(tls) = &mut self.transport
        {
            return tls.poll_fill(cx, buffer, most);
        }
        let mut room = buffer.room(most);
        let reading = self.read_buf(&mut room);
        pin!(reading).poll(cx)
    }

    /// Whether the kernel holds bytes, or the end, that were not read yet. Costs a system call.
    pub(crate) fn has_unread(&self) -> bool {
        let tcp = match &self.transport {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.tcp(),
        };
        let mut byte = [MaybeUninit::uninit()];
        match socket2::SockRef::from(tcp).peek(&mut byte) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Its own end and the other one, as the kernel knows them.
    pub(crate) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let tcp = match &self.transport {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.tcp(),
        };
        Some((tcp.local_addr().ok()?, tcp.peer_addr().ok()?))
    }

    /// Closes with a reset, so that the other end cannot take what it got for the whole.
    pub(crate) fn reset(&self) {
        // Only a hint to the kernel: if it fails, the connection is closed without one.
        let _ = match &self.transport {
            Transport::Plain(tcp) => tcp.set_zero_linger(),
            Transport::Tls(tls) => tls.tcp().set_zero_linger(),
        };
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.seen.has_remaining() {
            let count = self.seen.len().min(buf.remaining());
            buf.put_slice(&self.seen.split_to(count));
            if self.seen.is_empty() {
                // Even an empty part would keep the whole alive.
                self.seen = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }
}
