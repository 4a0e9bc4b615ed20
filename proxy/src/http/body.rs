//! The one body type of the data path: what the engine delivers, passed on with its bytes counted and offered to the tap.
//!
//! An enum rather than a trait object: polling a frame is a match, and a body costs at most one allocation.

use super::{
    exchange::{End, Exchange, Side},
    feed::Fed,
    h1::Carried,
    headers,
    waiting::Waiting,
};
use crate::upstream::Lease;
use bytes::Bytes;
use http::Version;
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
    /// A message that came over HTTP/2, passing through.
    Passing(Box<Passing>),
    /// A request body that comes over HTTP/1.1, on its way to an HTTP/2 upstream.
    Fed(Fed),
    /// A response body that comes over HTTP/1.1, on its way to an HTTP/2 downstream.
    Carried(Box<Carried>),
}

/// A body on its way from one side to the other.
pub(crate) struct Passing {
    inner: Incoming,
    side: Side,
    exchange: Rc<Exchange>,
    /// The share of the upstream connection the body comes from: it counts as in flight for as long.
    lease: Option<Lease>,
    /// When the time for the whole request is over; few routes have one.
    deadline: Option<Pin<Box<Sleep>>>,
    waiting: Waiting,
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
            waiting: Waiting::default(),
            ended: false,
        }))
    }

    /// The response's body, on its way down.
    pub(crate) fn response(inner: Incoming, exchange: Rc<Exchange>, lease: Lease, until: Option<Instant>) -> Self {
        let deadline = until.map(|until| Box::pin(tokio::time::sleep_until(until.into())));
        let lease = Some(lease);
        let waiting = Waiting::default();
        Self::Passing(Box::new(Passing {
            inner,
            side: Side::Response,
            exchange,
            lease,
            deadline,
            waiting,
            ended: false,
        }))
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
            Self::Fed(fed) => fed.poll_frame(cx),
            Self::Carried(carried) => carried.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Local(bytes) => bytes.is_none(),
            Self::Passing(passing) => passing.ended,
            Self::Fed(fed) => fed.is_ended(),
            Self::Carried(carried) => carried.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| u64::try_from(b.len()).unwrap_or(0)))
            }
            Self::Passing(passing) => passing.inner.size_hint(),
            Self::Fed(_) | Self::Carried(_) => SizeHint::default(),
        }
    }
}

impl Passing {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = match self.waiting.poll_ready(cx) {
            Poll::Ready(()) => Pin::new(&mut self.inner).poll_frame(cx),
            Poll::Pending => Poll::Pending,
        };
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
                    self.exchange.trailers(self.side, || trailers.clone());
                }
                // Nothing follows trailers, and the engine does not ask whether anything does.
                if frame.is_trailers() || self.inner.is_end_stream() {
                    self.end();
                }
                // On its way down over HTTP/1.1 it is written before the next one is asked for.
                if self.side == Side::Response && self.exchange.asked.version == Version::HTTP_2 {
                    frame = frame.map_data(|data| self.waiting.piece(&self.exchange, data));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.ended = true;
                self.exchange.failed(self.side);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.exchange.ended(self.side);
        self.lease = None;
    }
}
