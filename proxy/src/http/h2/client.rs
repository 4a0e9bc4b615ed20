//! An HTTP/2 connection to an upstream, shared by the requests in flight on it.

use super::Local;
use crate::{
    http::{Body, Failure},
    limits,
    stream::Stream,
};
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::TokioIo;
use std::{error::Error, rc::Rc};

/// How many requests share a connection, and how much each may be sent before it reads. Either way the windows of all of them do
/// not use up the connection's own: a response that nobody reads holds up no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// The first connection of a worker to an endpoint: few requests, and windows that suit large responses.
    Wide,
    /// Every other one.
    Narrow,
}

impl Width {
    pub(crate) fn streams(self) -> usize {
        match self {
            Self::Wide => limits::H2_STREAMS_PER_WIDE_UPSTREAM,
            Self::Narrow => limits::H2_STREAMS_PER_UPSTREAM,
        }
    }

    fn window(self) -> u32 {
        match self {
            Self::Wide => limits::H2_STREAM_WINDOW,
            Self::Narrow => limits::H2_NARROW_WINDOW,
        }
    }
}

/// One handle to the connection. It closes when every handle is dropped, or when the other end closes.
#[derive(Clone)]
pub(crate) struct Client {
    sender: http2::SendRequest<Body>,
    handles: Rc<()>,
    width: Width,
}

/// Why no response came.
pub(crate) enum SendError {
    /// The request was not written: it may be sent again, whatever its method.
    Unsent(Box<Request<Body>>),
    Failed(Failure),
}

impl Client {
    /// Starts HTTP/2 on a stream.
    pub(crate) async fn start(stream: Stream, width: Width) -> Result<Self, Failure> {
        let (sender, connection) = http2::Builder::new(Local)
            .initial_stream_window_size(width.window())
            .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(limits::HEAD_BYTES).unwrap_or(u32::MAX))
            .max_send_buf_size(limits::H2_SEND_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failure(&error))?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, handles: Rc::new(()), width })
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    pub(crate) fn is_wide(&self) -> bool {
        self.width == Width::Wide
    }

    /// Whether one more request may share it.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight() < self.width.streams()
    }

    /// Handles besides one: requests in flight, as seen by who keeps a handle for later.
    pub(crate) fn in_flight(&self) -> usize {
        Rc::strong_count(&self.handles).saturating_sub(1)
    }

    /// Sends one request and waits for its response's head.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        self.sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Box::new(request)),
            None => SendError::Failed(failure(error.error())),
        })
    }
}

/// Envoy's words for what went wrong upstream.
fn failure(error: &hyper::Error) -> Failure {
    if error.is_parse() {
        return Failure::UpstreamProtocol;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return match (h2.is_reset(), h2.is_remote()) {
                (true, true) => Failure::UpstreamReset,
                _ if h2.is_io() || h2.is_go_away() => Failure::UpstreamClosed,
                _ => Failure::UpstreamProtocol,
            };
        }
        source = cause.source();
    }
    Failure::UpstreamClosed
}
