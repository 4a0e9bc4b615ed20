//! The engine made of hyper, used thinly.
//!
//! Downstream, hyper serves the connection inside the connection's own task. Upstream, an HTTP/1.1 connection is not spawned:
//! whoever waits for its response or reads its body polls it, so a request needs no second task, no wake-up and no lock. An
//! HTTP/2 connection carries many requests and does have a task.
//!
//! hyper's own timer for request heads is off, because it also counts the time between requests; [`Serve`] tells the two
//! apart by the connection's [`Phase`].

use super::{
    Body, Failure,
    downstream::Downstream,
    engine::{Engine, Http, Incoming, SendError, UpstreamConnection},
    gate::Refused,
};
use crate::{
    connection::{Connection, Phase},
    limits,
    observe::access_log,
    stream::Stream,
};
use http::{Request, Response};
use hyper::{client, server};
use hyper_util::rt::TokioIo;
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// The engine.
pub(crate) struct Hyper;

impl Engine for Hyper {
    type Incoming = hyper::body::Incoming;
    type Upstream = Connected;

    async fn serve<F, R>(stream: Stream, http: Http, connection: Rc<Connection>, story: F)
    where
        F: Fn(Rc<Connection>, Request<Self::Incoming>) -> R + Clone + 'static,
        R: Future<Output = Response<Body>> + 'static,
    {
        let service = {
            let connection = Rc::clone(&connection);
            hyper::service::service_fn(move |request| {
                connection.begin();
                let answer = story(Rc::clone(&connection), request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            })
        };
        match http {
            Http::One => {
                let io = TokioIo::new(Downstream::http1(stream, Rc::clone(&connection)));
                connection.cells().http1_connections.inc();
                let serving = server::conn::http1::Builder::new()
                    .max_buf_size(limits::H1_BUFFER)
                    .max_header_size(limits::HEAD_BYTES)
                    .auto_date_header(false)
                    .serve_connection(io, service);
                let mut serve = Serve { serving, connection: Rc::clone(&connection), drained: false };
                match poll_fn(|cx| serve.poll(cx)).await {
                    Ended::Closed(Ok(())) | Ended::Stalled => {}
                    // What broke off in a body has been told by its exchange.
                    Ended::Closed(Err(_)) if connection.refused.get().is_some() => {}
                    Ended::Closed(Err(error)) => failed(&connection, &error),
                }
            }
            Http::Two => {
                let io = TokioIo::new(Downstream::http2(stream, Rc::clone(&connection)));
                connection.cells().http2_connections.inc();
                let serving = server::conn::http2::Builder::new(Local)
                    .initial_stream_window_size(limits::H2_STREAM_WINDOW)
                    .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
                    .max_concurrent_streams(limits::H2_STREAMS)
                    .max_header_list_size(u32::try_from(limits::HEAD_BYTES).unwrap_or(u32::MAX))
                    .max_send_buf_size(limits::H2_SEND_BUFFER)
                    .max_pending_accept_reset_streams(limits::H2_PENDING_RESETS)
                    .max_local_error_reset_streams(limits::H2_LOCAL_RESETS)
                    .auto_date_header(false)
                    .serve_connection(io, service);
                let mut serve = Serve { serving, connection: Rc::clone(&connection), drained: false };
                if let Ended::Closed(Err(error)) = poll_fn(|cx| serve.poll(cx)).await {
                    failed(&connection, &error);
                }
            }
        }
    }

    async fn start(stream: Stream, http: Http) -> Result<Connected, Failure> {
        let io = TokioIo::new(stream);
        match http {
            Http::One => {
                let (sender, connection) = client::conn::http1::Builder::new()
                    .max_buf_size(limits::H1_BUFFER)
                    .max_header_size(limits::HEAD_BYTES)
                    .handshake(io)
                    .await
                    .map_err(|error| failure(&error))?;
                Ok(Connected::One(Box::new(One { sender, connection: Some(connection) })))
            }
            Http::Two => {
                let (sender, connection) = client::conn::http2::Builder::new(Local)
                    .initial_stream_window_size(limits::H2_STREAM_WINDOW)
                    .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
                    .max_header_list_size(u32::try_from(limits::HEAD_BYTES).unwrap_or(u32::MAX))
                    .max_send_buf_size(limits::H2_SEND_BUFFER)
                    .handshake(io)
                    .await
                    .map_err(|error| failure(&error))?;
                // Ends when every handle is dropped, or when the other end closes.
                tokio::task::spawn_local(async move {
                    let _ = connection.await;
                });
                Ok(Connected::Two { sender, active: Rc::new(Cell::new(0)) })
            }
        }
    }
}

/// An upstream connection.
pub(crate) enum Connected {
    One(Box<One>),
    Two { sender: client::conn::http2::SendRequest<Body>, active: Rc<Cell<usize>> },
}

/// An HTTP/1.1 connection and the future that moves its bytes; `None` once that has ended.
pub(crate) struct One {
    sender: client::conn::http1::SendRequest<Body>,
    connection: Option<client::conn::http1::Connection<TokioIo<Stream>, Body>>,
}

impl One {
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            self.connection = None;
        }
    }
}

impl UpstreamConnection for Connected {
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Self::One(one) = self {
            one.drive(cx);
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Self::One(one) => one.connection.is_some() && one.sender.is_ready(),
            Self::Two { sender, .. } => sender.is_ready(),
        }
    }

    fn send(&mut self, request: Request<Body>) -> impl Future<Output = Result<Response<Incoming>, SendError>> {
        enum Sending<A, B> {
            One(A),
            Two(B),
        }
        // Handed over at once, so that the future to wait on does not hold the request.
        let (connection, sending) = match self {
            Self::One(one) => (Some(&mut one.connection), Sending::One(one.sender.try_send_request(request))),
            Self::Two { sender, .. } => (None, Sending::Two(sender.try_send_request(request))),
        };
        async move {
            let sent = match sending {
                Sending::Two(sending) => sending.await,
                Sending::One(sending) => {
                    let mut sending = std::pin::pin!(sending);
                    let mut connection = connection;
                    poll_fn(|cx| {
                        if let Some(connection) = &mut connection
                            && let Some(open) = connection
                            && Pin::new(open).poll(cx).is_ready()
                        {
                            **connection = None;
                        }
                        sending.as_mut().poll(cx)
                    })
                    .await
                }
            };
            sent.map_err(|mut error| match error.take_message() {
                Some(request) => SendError::Unsent(Box::new(request)),
                None => SendError::Failed(failure(error.error())),
            })
        }
    }

    fn share(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Two { sender, active } => Some(Self::Two { sender: sender.clone(), active: Rc::clone(active) }),
        }
    }
}

impl Connected {
    /// Handles to this connection besides the pool's own: requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two { active, .. } => Rc::strong_count(active).saturating_sub(1),
        }
    }
}

/// Envoy's words for what went wrong upstream.
fn failure(error: &hyper::Error) -> Failure {
    use std::error::Error;
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

/// A downstream connection ended by a fault of the other end that no request's log line can tell.
fn failed(connection: &Connection, error: &hyper::Error) {
    if error.is_parse() {
        connection.cells().protocol_errors.inc();
        let (status, details) =
            if error.is_parse_too_large() { (431, "http1.headers_too_large") } else { (400, "http1.codec_error") };
        access_log::unread(connection, status, "DPE", details);
    }
}

/// Serves one downstream connection, and ends it when its timers or the drain say so.
struct Serve<C> {
    serving: C,
    connection: Rc<Connection>,
    drained: bool,
}

enum Ended {
    Closed(Result<(), hyper::Error>),
    /// Nothing moved for too long in the middle of an exchange: there is nobody to finish it with.
    Stalled,
}

/// What [`Serve`] needs of either protocol's connection.
trait Serving: Future<Output = Result<(), hyper::Error>> + Unpin {
    fn finish(&mut self);
    /// HTTP/2 tells the other end at once (GOAWAY) and loses nothing by it; HTTP/1.1 would close an idle connection under a
    /// request that may be on its way.
    const FINISH_AT_ONCE: bool;
}

impl<C: Serving> Serve<C> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let worker = Rc::clone(&self.connection.worker);
        if C::FINISH_AT_ONCE && !self.drained && worker.is_draining() {
            self.drained = true;
            self.connection.moved();
            self.serving.finish();
        }
        if let Poll::Ready(ended) = Pin::new(&mut self.serving).poll(cx) {
            return Poll::Ready(Ended::Closed(ended));
        }
        let timeouts = worker.live().snapshot.proxy.timeouts;
        let phase = if self.connection.active.get() > 0 { Phase::Busy } else { self.connection.phase.get() };
        if phase == Phase::Idle && !self.drained && !self.connection.is_trusted() {
            self.drained = true;
            self.serving.finish();
            return Pin::new(&mut self.serving).poll(cx).map(Ended::Closed);
        }
        let patience = match phase {
            // Told to go, and nothing under way: a moment for the other end to see it.
            Phase::Idle | Phase::Head if self.drained => limits::FAREWELL,
            // The stream's own idle timer comes first; this one ends a connection whose reader has stopped reading.
            Phase::Busy => timeouts.idle_stream + limits::STALL_MARGIN,
            Phase::Head => timeouts.head,
            Phase::Idle if worker.is_draining() => limits::DRAIN_IDLE,
            Phase::Idle => timeouts.downstream_idle,
        };
        if !worker.connections.wait(&self.connection.place, cx, patience) {
            return Poll::Pending;
        }
        if !worker.is_draining() || phase == Phase::Busy {
            self.connection.cells().idle_timeouts.inc();
        }
        if phase == Phase::Busy || self.drained {
            return Poll::Ready(Ended::Stalled);
        }
        self.connection.moved();
        if phase == Phase::Head && !C::FINISH_AT_ONCE {
            // The engine answers in its turn; then the connection closes.
            self.drained = true;
            self.connection.refused.set(Some(Refused::Timeout));
        } else {
            self.drained = true;
            self.serving.finish();
        }
        Pin::new(&mut self.serving).poll(cx).map(Ended::Closed)
    }
}

impl<S, B> Serving for server::conn::http1::Connection<TokioIo<Downstream>, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Self: Unpin,
{
    const FINISH_AT_ONCE: bool = false;
    fn finish(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<S, B> Serving for server::conn::http2::Connection<TokioIo<Downstream>, S, Local>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Local: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
    Self: Future<Output = Result<(), hyper::Error>> + Unpin,
{
    const FINISH_AT_ONCE: bool = true;
    fn finish(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// Runs hyper's HTTP/2 tasks on the worker they belong to.
#[derive(Clone, Copy)]
pub(crate) struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
