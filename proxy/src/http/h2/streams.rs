//! The tasks of one downstream connection's streams, and an end to those whose reader has stopped reading.
//!
//! hyper asks a body for its next piece only once the piece before it could be sent. A stream whose window stays closed
//! (RFC 9113 §5.2) would therefore never come to look at its own timer, for as long as other streams keep the connection
//! moving. So the task around the stream looks at it instead, each time the stream has to wait.

use crate::http::{Exchange, Side};
use pin_project_lite::pin_project;
use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
};

/// Runs the streams of one connection on the worker it belongs to.
#[derive(Clone, Default)]
pub(super) struct Streams {
    /// The exchange that the stream being polled has just begun. A worker polls one task at a time.
    begun: Rc<RefCell<Weak<Exchange>>>,
}

impl Streams {
    /// The stream that is being polled is this exchange.
    pub(super) fn begin(&self, exchange: &Rc<Exchange>) {
        *self.begun.borrow_mut() = Rc::downgrade(exchange);
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(Watched { stream, streams: self.clone(), exchange: Weak::new() });
    }
}

pin_project! {
    /// One stream. Dropped before its end, it is reset (CANCEL), and what was queued for it is let go.
    struct Watched<F> {
        #[pin]
        stream: F,
        streams: Streams,
        // Weak: the exchange is told when its last holder lets go, and this one holds nothing of it.
        exchange: Weak<Exchange>,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let begun = this.streams.begun.take();
        if begun.strong_count() > 0 {
            *this.exchange = begun;
        }
        let Some(exchange) = this.exchange.upgrade() else { return Poll::Pending };
        // Before the response begins, the exchange has its own timers, which end in an answer.
        if !exchange.has_begun_to_answer() {
            return Poll::Pending;
        }
        let Some(end) = exchange.waits(Side::Response, cx) else { return Poll::Pending };
        exchange.cut(end);
        Poll::Ready(())
    }
}
