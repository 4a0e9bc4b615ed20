//! The seam behind which an HTTP engine sits: what turns bytes into requests and responses and back.
//!
//! The rest of the data path knows requests, responses and [`super::Body`]; it does not know who parsed them. An engine
//! serves a downstream connection and starts an upstream one. It is chosen at compile time, so that nothing on the path is a
//! virtual call.

use super::{Body, Failure, hyper};
use crate::{connection::Connection, stream::Stream};
use http::{Request, Response};
use std::{future::Future, rc::Rc, task::Context};

/// The engine in use.
pub(crate) type Chosen = hyper::Hyper;

/// The engine's body of a message being received.
pub(crate) type Incoming = <Chosen as Engine>::Incoming;

/// The engine's upstream connection.
pub(crate) type Upstream = <Chosen as Engine>::Upstream;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Http {
    One,
    Two,
}

/// An HTTP engine.
pub(crate) trait Engine {
    type Incoming: http_body::Body<Data = bytes::Bytes>;
    type Upstream: UpstreamConnection;

    /// Serves requests from `stream`, each by `story`, until the connection ends, its timers run out, or the drain.
    fn serve<F, R>(stream: Stream, http: Http, connection: Rc<Connection>, story: F) -> impl Future<Output = ()>
    where
        F: Fn(Rc<Connection>, Request<Self::Incoming>) -> R + Clone + 'static,
        R: Future<Output = Response<Body>> + 'static;

    /// Starts HTTP on a stream to an upstream.
    fn start(stream: Stream, http: Http) -> impl Future<Output = Result<Self::Upstream, Failure>>;
}

/// A connection to an upstream. Whoever holds it must drive it: nothing runs in the background for HTTP/1.1.
pub(crate) trait UpstreamConnection {
    /// Moves bytes in both directions as far as they go now.
    fn drive(&mut self, cx: &mut Context<'_>);

    /// Whether another request may be sent. Meaningful after [`Self::drive`].
    fn is_ready(&self) -> bool;

    /// Sends one request and waits for its response's head.
    fn send(&mut self, request: Request<Body>) -> impl Future<Output = Result<Response<Incoming>, SendError>>;

    /// Another handle to the same connection, if it carries several requests at once.
    fn share(&self) -> Option<Self>
    where
        Self: Sized;
}

/// Why no response came.
pub(crate) enum SendError {
    /// The request was not written: it may be sent again, whatever its method.
    Unsent(Box<Request<Body>>),
    Failed(Failure),
}
