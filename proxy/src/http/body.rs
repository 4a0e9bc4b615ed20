//! The one body type of the data path: what the engine delivers, passed on with its bytes counted and offered to the tap.
//!
//! An enum rather than a trait object: polling a frame is a match, and a body costs at most one allocation.

use super::{
    exchange::{End, Exchange, Side},
    headers,
};
use crate::upstream::Lease;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    borrow::Cow,
    error::Error as StdError,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};
use tokio::time::Sleep;

/// Why a body ended before its end.
pub(crate) type BodyError = Box<dyn StdError + Send + Sync>;

/// A request or response body.
pub(crate) enum Body {
    /// Bytes of our own: a local reply. `None` once taken.
    Local(Option<Bytes>),
    /// A message passing through.
    Passing(Box<Passing>),
}

/// A body on its way from one side to the other.
pub(crate) struct Passing {
    inner: Incoming,
    side: Side,
    exchange: Rc<Exchange>,
    /// The upstream connection the body comes from, while it must be driven by whoever reads the body.
    lease: Option<Lease>,
    /// When the time for the whole request is over; few routes have one.
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::Local(None)
    }

    /// The request's body, on its way up.
    pub(crate) fn request(inner: Incoming, exchange: Rc<Exchange>) -> Self {
        if inner.is_end_stream() {
            exchange.ended(Side::Request);
            return Self::empty();
        }
        Self::Passing(Box::new(Passing {
            inner,
            side: Side::Request,
            exchange,
            lease: None,
            deadline: None,
            ended: false,
        }))
    }

    /// The response's body, on its way down. The lease is given back to the pool when the body has ended well.
    pub(crate) fn response(inner: Incoming, exchange: Rc<Exchange>, lease: Lease, until: Option<Instant>) -> Self {
        let deadline = until.map(|until| Box::pin(tokio::time::sleep_until(until.into())));
        let lease = Some(lease);
        Self::Passing(Box::new(Passing { inner, side: Side::Response, exchange, lease, deadline, ended: false }))
    }
}

impl From<Cow<'static, str>> for Body {
    fn from(text: Cow<'static, str>) -> Self {
        Self::Local(match text {
            Cow::Borrowed("") => None,
            Cow::Borrowed(text) => Some(Bytes::from_static(text.as_bytes())),
            Cow::Owned(text) => Some(Bytes::from(text)),
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Local(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passing(passing) => passing.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Local(bytes) => bytes.is_none(),
            // A response is only over once it has been polled to its end: that is when its connection is given back.
            Self::Passing(passing) => passing.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| u64::try_from(b.len()).unwrap_or(0)))
            }
            Self::Passing(passing) => passing.inner.size_hint(),
        }
    }
}

impl Passing {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(lease) = &mut self.lease {
            lease.drive(cx);
        }
        let mut polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_pending()
            && let Some(lease) = &mut self.lease
        {
            // The first poll of a body tells the connection that somebody wants it; driving once more reads what is there.
            lease.drive(cx);
            polled = Pin::new(&mut self.inner).poll_frame(cx);
        }
        match polled {
            Poll::Pending => {
                let late = self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
                let end = if late { Some(End::Deadline) } else { self.exchange.waits(self.side, cx) };
                let Some(end) = end else { return Poll::Pending };
                self.ended = true;
                if self.side == Side::Response {
                    self.exchange.cut(end);
                }
                Poll::Ready(Some(Err("the stream was ended by the proxy".into())))
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::trailers(trailers);
                }
                if let Some(data) = frame.data_ref() {
                    self.exchange.data(self.side, data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.exchange.trailers(self.side, trailers);
                }
                // Nothing follows trailers, and the engine does not ask whether anything does.
                if frame.is_trailers() || self.inner.is_end_stream() {
                    self.end(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.ended = true;
                self.exchange.failed(self.side);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.end(cx);
                Poll::Ready(None)
            }
        }
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        self.ended = true;
        self.exchange.ended(self.side);
        if let Some(lease) = self.lease.take() {
            lease.give_back(cx);
        }
    }
}
