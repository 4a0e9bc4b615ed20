//! One write for what is said at one time.
//!
//! HTTP/2 flushes each frame that does not fit beside the one before: an answer's head and message, then its trailers, each in a TLS
//! record and a system call of its own. Between the codec and the connection stands this: what is written gathers here while the
//! connection is polled, and leaves at the end of the poll. Nothing waits for more to come: a poll that has written is over when
//! the bytes are with the kernel, or when it will be woken as soon as they can be.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection's end for its codec, and the same end for [`Corked::poll_leave`]. Both are used by one task.
pub(crate) struct Corked<IO>(Arc<Mutex<Gathering<IO>>>);

struct Gathering<IO> {
    io: IO,
    /// What gathers. Gone when it has left: a connection that is silent keeps no memory for it.
    bytes: Vec<u8>,
    /// How much of it has left.
    left: usize,
}

impl<IO> Corked<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self(Arc::new(Mutex::new(Gathering { io, bytes: Vec::new(), left: 0 })))
    }

    /// The same end once more.
    pub(crate) fn other(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering<IO>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<IO: AsyncWrite + Unpin> Corked<IO> {
    /// Lets go what has gathered. `Ready` when all of it is with the kernel.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn poll_leave(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gathering().poll_leave(context)
    }
}

impl<IO: AsyncWrite + Unpin> Gathering<IO> {
    fn poll_leave(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.left..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.left += written,
            }
        }
        // TLS may hold what the socket would not take, or what it has to say itself.
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        drop(mem::take(&mut self.bytes));
        self.left = 0;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Corked<IO> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.gathering().io).poll_read(context, into)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Corked<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut gathering = self.gathering();
        if gathering.bytes.len() >= MOST {
            ready!(gathering.poll_leave(context))?;
        }
        let taken = bytes.get(..MOST).unwrap_or(bytes);
        if gathering.bytes.is_empty() {
            gathering.bytes.reserve_exact(taken.len().max(USUAL));
        }
        gathering.bytes.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    /// Says yes: the end of the poll is the flush.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.gathering();
        ready!(gathering.poll_leave(context))?;
        Pin::new(&mut gathering.io).poll_shutdown(context)
    }
}

/// What gathers before the connection is asked to take it: a TLS record (RFC 8446 §5.1). Whoever does not read makes his writer
/// wait from here on.
const MOST: usize = 16 * 1024;

/// A certificate with what belongs to it.
const USUAL: usize = 4 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// Counts writes.
    struct Counted<IO>(IO, Arc<Mutex<Vec<usize>>>);

    impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.0).poll_write(context, bytes))?;
            self.1.lock().unwrap().push(written);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    #[tokio::test]
    async fn what_is_written_in_one_poll_is_one_write() {
        let (near, mut far) = duplex(64 * 1024);
        let writes = Arc::default();
        let mut corked = Corked::new(Counted(near, Arc::clone(&writes)));
        let leaves = corked.other();
        for part in [&b"head, "[..], b"message, ", b"trailers"] {
            corked.write_all(part).await.unwrap();
            corked.flush().await.unwrap();
        }
        assert!(writes.lock().unwrap().is_empty());
        poll_fn(|context| leaves.poll_leave(context)).await.unwrap();
        assert_eq!(*writes.lock().unwrap(), [23]);
        assert_eq!(leaves.gathering().bytes.capacity(), 0);
        poll_fn(|context| leaves.poll_leave(context)).await.unwrap();
        corked.shutdown().await.unwrap();
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "head, message, trailers");
    }

    #[tokio::test]
    async fn the_end_takes_along_what_has_gathered() {
        let (near, mut far) = duplex(1024);
        let mut corked = Corked::new(near);
        corked.write_all(b"goodbye").await.unwrap();
        corked.shutdown().await.unwrap();
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "goodbye");
    }

    #[tokio::test]
    async fn whoever_does_not_read_makes_the_writer_wait() {
        let (near, mut far) = duplex(1000);
        let mut corked = Corked::new(near);
        let (all, mut written) = (vec![7; 100_000], 0);
        let stuck = poll_fn(|context| {
            while let Poll::Ready(more) = Pin::new(&mut corked).poll_write(context, &all) {
                written += more.unwrap();
            }
            Poll::Ready(written)
        });
        assert!(stuck.await <= MOST + 1000);
        assert!(corked.gathering().bytes.len() <= 2 * MOST);
        // It goes on, octet for octet, as the other end reads.
        let leaves = corked.other();
        let leaving = tokio::spawn(async move { poll_fn(|context| leaves.poll_leave(context)).await });
        let mut read = vec![0; written];
        far.read_exact(&mut read).await.unwrap();
        leaving.await.unwrap().unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
    }
}
