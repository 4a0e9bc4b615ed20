//! The stream under a downstream HTTP/2 connection: read in turns, and only as long as its frames are paid for.
//!
//! The library goes on for as long as there is something to read, and a frame can be nine bytes of work for nothing, or one
//! byte a field. After so many bytes the worker's other connections, and the requests that this one has begun, come first.

use super::{
    account::{self, Account},
    preface::FRAME_HEADER,
    walk::{Kind, Walk},
};
use crate::{limits, stream::Stream};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How far one connection may go; held by its stream, by who polls it, and by its requests.
pub(super) struct Pace {
    /// Bytes left of this turn.
    left: Cell<usize>,
    account: RefCell<Account>,
}

impl Pace {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { left: Cell::new(limits::H2_TURN), account: RefCell::new(Account::open(Instant::now())) })
    }

    /// A turn begins. Only who polls the connection can know: within one poll the library tries to read again for every
    /// request it hands out.
    pub(super) fn begin_turn(&self) {
        self.left.set(limits::H2_TURN);
    }

    /// A request is begun.
    pub(super) fn earn(&self, income: u32) {
        self.account.borrow_mut().earn(income);
    }

    pub(super) fn pay(&self, price: u32) {
        self.account.borrow_mut().pay(price, Instant::now);
    }
}

/// A stream that lets others come first, and that ends when its account is overdrawn.
pub(super) struct Paced {
    stream: Stream,
    pace: Rc<Pace>,
    walk: Walk,
    /// What is read instead of the peer's bytes, once it was cut off.
    instead: Option<&'static [u8]>,
}

impl Paced {
    /// A stream of which nothing was read, the preface neither.
    pub(super) fn new(stream: Stream, pace: Rc<Pace>) -> Self {
        Self { stream, pace, walk: Walk::new(), instead: None }
    }

    /// How many of these bytes may pass: all, or those until the account was found overdrawn.
    fn passing(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut account = self.pace.account.borrow_mut();
        let mut left = bytes;
        loop {
            if self.walk.finish(&mut left) && account.is_overdrawn() {
                return Some(bytes.len() - left.len());
            }
            let price = match self.walk.begin(&mut left)? {
                Kind::Content => continue,
                Kind::Reset => account::RESET,
                Kind::Other => account::FRAME,
            };
            account.pay(price, Instant::now);
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.instead.is_none() {
            let left = this.pace.left.get();
            if left == 0 {
                // Woken at once, it would come again some sixty times before anybody looks at what came on other sockets.
                let others_first = pin!(tokio::task::yield_now());
                let _ = others_first.poll(cx); // pending, and to be woken after the others
                return Poll::Pending;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let read = buf.filled().get(before..).unwrap_or_default();
            this.pace.left.set(left.saturating_sub(read.len()));
            match this.passing(read) {
                Some(passing) => {
                    this.instead = Some(ENOUGH);
                    buf.set_filled(before + passing);
                    if passing > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        if let Some(instead) = &mut this.instead {
            let (now, later) = instead.split_at(instead.len().min(buf.remaining()));
            buf.put_slice(now);
            *instead = later;
        }
        Poll::Ready(Ok(()))
    }
}

/// What the library takes for a flood of CONTINUATION: a head that goes on and on without a byte. It is the way to have the
/// library end a connection in good order, with GOAWAY and ENHANCE_YOUR_CALM (RFC 9113 §7), which no interface of hyper offers.
/// Inside a header block it is a PROTOCOL_ERROR, and ends it as well.
const ENOUGH: &[u8] = {
    const HEADERS: [u8; FRAME_HEADER] = [0, 0, 0, 1, 0, 0, 0, 0, 1];
    const CONTINUATION: [u8; FRAME_HEADER] = [0, 0, 0, 9, 0, 0, 0, 0, 1];
    const { &[HEADERS, CONTINUATION, CONTINUATION, CONTINUATION, CONTINUATION, CONTINUATION, CONTINUATION] }
        .as_flattened()
};

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.pace.account.borrow_mut().wrote(written);
        Poll::Ready(Ok(written))
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
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.pace.account.borrow_mut().wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::preface::PREFACE;
    use super::*;
    use std::{future::poll_fn, task::Waker};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net,
    };

    async fn connection() -> (Paced, Rc<Pace>, net::TcpStream) {
        let listener = net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let pace = Pace::new();
        (Paced::new(Stream::plain(near), Rc::clone(&pace)), pace, far)
    }

    /// Reads until a turn is over, and says how much that was.
    async fn turn(near: &mut Paced, waiting: usize) -> usize {
        let mut bytes = vec![0; 4096];
        let mut total = 0;
        while total < waiting {
            let count = poll_fn(|cx| {
                let mut buf = ReadBuf::new(&mut bytes);
                if near.pace.left.get() == 0 {
                    return Poll::Ready(0);
                }
                ready!(Pin::new(&mut *near).poll_read(cx, &mut buf)).unwrap();
                Poll::Ready(buf.filled().len())
            })
            .await;
            if count == 0 {
                break;
            }
            total += count;
        }
        total
    }

    #[tokio::test]
    async fn a_turn_ends_after_its_bytes_and_no_other_begins_by_itself() {
        let (mut near, pace, mut far) = connection().await;
        let frame = [&[0x00, 0x40, 0x00, 0, 0, 0, 0, 0, 1][..], &[7; 16384]].concat();
        let bytes = [PREFACE, &frame.repeat(5)].concat();
        far.write_all(&bytes).await.unwrap();
        let first = turn(&mut near, bytes.len()).await;
        assert!((limits::H2_TURN..limits::H2_TURN + 4096).contains(&first), "{first}");
        let mut bytes_left = [0; 16];
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let mut buf = ReadBuf::new(&mut bytes_left);
            assert!(Pin::new(&mut near).poll_read(&mut cx, &mut buf).is_pending(), "however often the library asks");
        }
        pace.begin_turn();
        assert!(turn(&mut near, bytes.len() - first).await > 0);
    }

    #[tokio::test]
    async fn who_cannot_pay_is_cut_off_between_two_frames() {
        let (mut near, pace, mut far) = connection().await;
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let allowed = usize::try_from(limits::H2_ALLOWANCE).unwrap();
        let bytes = [PREFACE, &ping.repeat(allowed + 1)].concat();
        far.write_all(&bytes).await.unwrap();
        let mut got = vec![0; bytes.len()];
        for part in got.chunks_mut(1000) {
            pace.begin_turn();
            near.read_exact(part).await.unwrap();
        }
        assert_eq!(got, bytes, "the frame that could not be paid passes");
        // Nothing of what follows, but the library's own end.
        far.write_all(&ping.repeat(allowed)).await.unwrap();
        pace.begin_turn();
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        // The clock may have paid for some more.
        let pings = rest.len() - ENOUGH.len();
        assert_eq!((&rest[pings..], pings % ping.len()), (ENOUGH, 0));
        assert!(pings / ping.len() < allowed);
    }
}
