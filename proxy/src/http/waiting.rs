//! How much of the responses of one HTTP/2 connection waits to be written, and who may add to it.
//!
//! The library queues pieces of a response without asking whether its reader reads, and each of a hundred streams has one in its
//! queue and one at hand. Up to a bound for the whole connection they may. Above it a stream is read on only once all of its own
//! has been written: none starves, and who reads nothing makes us hold one piece a stream.

use super::Exchange;
use crate::limits;
use bytes::Bytes;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

/// What waits on one connection, in bytes.
pub(crate) type Total = Arc<AtomicUsize>;

/// What waits of one stream's response.
#[derive(Default)]
pub(super) struct Waiting {
    /// Its first piece has come.
    begun: bool,
    counted: Option<Arc<Counted>>,
}

/// A piece is [`Bytes`], which could go to any thread, so this could as well.
struct Counted {
    own: AtomicUsize,
    total: Total,
    reader: Mutex<Option<Waker>>,
}

/// A piece that counts until the library has written it, or let it go.
struct Piece<B> {
    bytes: B,
    weight: usize,
    of: Arc<Counted>,
}

impl Waiting {
    /// Ready when more of the response may be read.
    pub(super) fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let Some(counted) = &self.counted else { return Poll::Ready(()) };
        if counted.total.load(Relaxed) <= limits::H2_WAITING || counted.own.load(Relaxed) == 0 {
            return Poll::Ready(());
        }
        *counted.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        Poll::Pending
    }

    /// A piece of the response, counted from now on. A small one at its beginning, often all of it, is not worth counting:
    /// there are only as many of these as streams.
    pub(super) fn piece<B>(&mut self, exchange: &Exchange, bytes: B) -> Bytes
    where
        B: AsRef<[u8]> + Into<Bytes> + Send + 'static,
    {
        if !std::mem::replace(&mut self.begun, true) && bytes.as_ref().len() < limits::H2_UNCOUNTED {
            return bytes.into();
        }
        self.count(exchange.connection.waiting.get_or_init(Total::default), bytes)
    }

    fn count<B: AsRef<[u8]> + Send + 'static>(&mut self, total: &Total, bytes: B) -> Bytes {
        let new = || Arc::new(Counted { own: AtomicUsize::new(0), total: Arc::clone(total), reader: Mutex::default() });
        let of = Arc::clone(self.counted.get_or_insert_with(new));
        let weight = bytes.as_ref().len().saturating_add(limits::H2_FRAME_WEIGHT);
        of.own.fetch_add(weight, Relaxed);
        of.total.fetch_add(weight, Relaxed);
        Bytes::from_owner(Piece { bytes, weight, of })
    }
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Piece<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl<B> Drop for Piece<B> {
    fn drop(&mut self) {
        self.of.total.fetch_sub(self.weight, Relaxed);
        if self.of.own.fetch_sub(self.weight, Relaxed) == self.weight {
            let reader = self.of.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn above_the_bound_a_stream_goes_on_when_its_own_has_gone() {
        let (woken, total) = (Arc::new(Woken::default()), Total::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let (mut one, mut other) = (Waiting::default(), Waiting::default());
        let small = one.count(&total, vec![0; 10]);
        let second = one.count(&total, vec![0; 10]);
        assert!(one.poll_ready(&cx).is_ready(), "below the bound each may have several");
        let large = other.count(&total, vec![0; limits::H2_WAITING]);
        assert!(one.poll_ready(&cx).is_pending());
        assert!(Waiting::default().poll_ready(&cx).is_ready(), "who has nothing waiting may begin");
        let part = small.slice(3..5);
        drop((small, second));
        assert_eq!(woken.0.load(Relaxed), 0, "a part of a piece holds all of it");
        drop(part);
        assert_eq!(woken.0.load(Relaxed), 1);
        assert!(one.poll_ready(&cx).is_ready());
        drop(large);
        assert_eq!(total.load(Relaxed), 0);
    }

    #[test]
    fn empty_pieces_have_weight() {
        let total = Total::default();
        let mut waiting = Waiting::default();
        let pieces: Vec<_> =
            (0..limits::H2_WAITING / limits::H2_FRAME_WEIGHT + 1).map(|_| waiting.count(&total, [0; 1])).collect();
        assert!(waiting.poll_ready(&Context::from_waker(Waker::noop())).is_pending());
        drop(pieces);
        assert!(waiting.poll_ready(&Context::from_waker(Waker::noop())).is_ready());
    }
}
