//! The stream under a downstream HTTP/2 connection, read in turns.
//!
//! The library goes on for as long as there is something to read, and a frame can be nine bytes of work for nothing, or one
//! byte a field. After so many bytes the worker's other connections come first.

use crate::{limits, stream::Stream};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that lets others come first.
pub(super) struct Paced {
    stream: Stream,
    /// Bytes read since it last had to wait.
    taken: usize,
}

impl Paced {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, taken: 0 }
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.taken >= limits::H2_TURN {
            self.taken = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            self.taken = 0;
        }
        ready!(read)?;
        self.taken += buf.filled().len().saturating_sub(before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::{future::poll_fn, task::Waker};
    use tokio::{io::AsyncWriteExt, net};

    #[tokio::test]
    async fn a_turn_ends_after_its_bytes_and_another_follows() {
        let listener = net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let mut near = Paced::new(Stream::plain(near));
        far.write_all(&vec![7; limits::H2_TURN]).await.unwrap();
        drop(far);
        let mut bytes = vec![0; limits::H2_TURN];
        let mut total = 0;
        while total < limits::H2_TURN {
            total += poll_fn(|cx| {
                let mut buf = ReadBuf::new(&mut bytes);
                ready!(Pin::new(&mut near).poll_read(cx, &mut buf)).unwrap();
                Poll::Ready(buf.filled().len())
            })
            .await;
        }
        // Made to look like one turn, however the bytes came.
        near.taken = limits::H2_TURN;
        let mut buf = ReadBuf::new(&mut bytes);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut near).poll_read(&mut cx, &mut buf).is_pending(), "others first");
        poll_fn(|cx| Pin::new(&mut near).poll_read(cx, &mut buf)).await.unwrap();
        assert_eq!(buf.filled().len(), 0, "the end, which was there all the time");
    }
}
