//! One downstream HTTP/2 connection, and the story of each of its requests.

use super::{
    account,
    forward::forward,
    paced::{Pace, Paced},
    preface::{self, NotBegun},
    streams::Streams,
};
use crate::{
    connection::Connection,
    http::{Asked, Body, Exchange, Failure, asked, h1::Refused, headers},
    limits,
    observe::access_log,
    passage,
    stream::Stream,
};
use http::{HeaderMap, Request, Response, request::Parts};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// Serves requests until the connection ends, its timers run out, or the drain.
pub(crate) async fn serve(mut stream: Stream, connection: Rc<Connection>) {
    connection.cells().http2_connections.inc();
    let patience = connection.worker.live().snapshot.proxy.timeouts.detect;
    match preface::expect(&mut stream, patience).await {
        Ok(()) => {}
        Err(NotBegun::Wrong) => return tell(&connection, "http2.bad_preface"),
        Err(NotBegun::Late) => return connection.cells().idle_timeouts.inc(),
        Err(NotBegun::Gone) => return access_log::connection_lost(&connection),
    }
    let (streams, pace) = (Streams::default(), Pace::new());
    let service = {
        let (connection, streams, pace) = (Rc::clone(&connection), streams.clone(), Rc::clone(&pace));
        service_fn(move |mut request: Request<Incoming>| {
            connection.begin();
            pace.earn(account::REQUEST);
            let few = has_few_fields(request.headers_mut());
            if !few {
                // Not kept until its turn comes, nor copied to the tap: with a hundred streams it would add up.
                *request.headers_mut() = HeaderMap::new();
                pace.pay(account::BROAD_HEAD);
            }
            let answer = exchange(Rc::clone(&connection), streams.clone(), request, few);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let serving = engine(streams).serve_connection(TokioIo::new(Paced::new(stream, Rc::clone(&pace))), service);
    let mut serve = Serve { serving, connection: Rc::clone(&connection), pace, told: false };
    if let Some(Err(error)) = poll_fn(|cx| serve.poll(cx)).await
        && let Some(fault) = fault(&error)
    {
        tell(&connection, fault);
    }
}

/// The engine with our limits.
pub(super) fn engine<E: Clone>(executor: E) -> http2::Builder<E> {
    let mut engine = http2::Builder::new(executor);
    engine
        .initial_stream_window_size(limits::H2_STREAM_WINDOW)
        .initial_connection_window_size(limits::H2_CONNECTION_WINDOW)
        .max_concurrent_streams(limits::H2_STREAMS)
        .max_header_list_size(u32::try_from(limits::HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buf_size(limits::H2_SEND_BUFFER)
        .max_pending_accept_reset_streams(limits::H2_PENDING_RESETS)
        .max_local_error_reset_streams(limits::H2_LOCAL_RESETS)
        .auto_date_header(false);
    engine
}

/// A fault of the other end that no request's log line can tell.
fn tell(connection: &Connection, fault: &'static str) {
    connection.cells().protocol_errors.inc();
    access_log::unanswered(connection, 400, "DPE", fault);
}

/// Why we closed the connection, when it was for what the other end sent: the code of our GOAWAY (RFC 9113 §7).
fn fault(error: &hyper::Error) -> Option<&'static str> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return if h2.is_library() { Some(name(h2.reason()?)) } else { None };
        }
        source = cause.source();
    }
    None
}

fn name(reason: h2::Reason) -> &'static str {
    match reason {
        h2::Reason::PROTOCOL_ERROR => "http2.protocol_error",
        h2::Reason::FLOW_CONTROL_ERROR => "http2.flow_control_error",
        h2::Reason::STREAM_CLOSED => "http2.stream_closed",
        h2::Reason::FRAME_SIZE_ERROR => "http2.frame_size_error",
        h2::Reason::COMPRESSION_ERROR => "http2.compression_error",
        h2::Reason::ENHANCE_YOUR_CALM => "http2.enhance_your_calm",
        _ => "http2.codec_error",
    }
}

/// Serves one request. One that has not `few` fields is refused.
async fn exchange(
    connection: Rc<Connection>,
    streams: Streams,
    request: Request<Incoming>,
    few: bool,
) -> Response<Body> {
    let live = connection.worker.live();
    let (parts, body) = request.into_parts();
    let exchange = Exchange::begin(&connection, live, Asked::http2(&parts), &parts.headers);
    streams.begin(&exchange);
    let answer = match few {
        true => answer(&exchange, parts, body).await,
        false => Err(Failure::Unreadable(Refused::TooLarge)),
    };
    exchange.conclude(answer)
}

async fn answer(exchange: &Rc<Exchange>, mut parts: Parts, body: Incoming) -> Result<Response<Body>, Failure> {
    let body = Body::request(body, Rc::clone(exchange));
    if !asked::has_clear_length(&parts.headers) || !asked::has_clear_scheme(&parts) || !asked::has_clear_method(&parts)
    {
        return Err(Failure::Unreadable(Refused::Syntax));
    }
    let passage = passage::decide(exchange).await?;
    headers::request(&mut parts.headers, exchange, crate::http::timeout_ms(&passage.route));
    // Boxed: the caller's future is copied when a request begins, and this would be most of it.
    Box::pin(forward(exchange, passage, parts, body)).await
}

/// Whether a head has no more fields than one of HTTP/1.1 may have. A cookie in pieces counts as one (RFC 9113 §8.2.3), and
/// is put together when there are many: each piece takes more room than it has bytes.
pub(in crate::http) fn has_few_fields(headers: &mut HeaderMap) -> bool {
    if headers.len() > limits::HEADER_FIELDS {
        super::join_cookies(headers);
    }
    headers.len() <= limits::HEADER_FIELDS
}

/// Serves one connection, and ends it when its timers or the drain say so.
struct Serve<C> {
    serving: C,
    connection: Rc<Connection>,
    pace: Rc<Pace>,
    /// The other end was told that no more requests are taken (GOAWAY).
    told: bool,
}

impl<S> Serve<http2::Connection<TokioIo<Paced>, S, Streams>>
where
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Streams: hyper::rt::bounds::Http2ServerConnExec<S::Future, Body>,
    http2::Connection<TokioIo<Paced>, S, Streams>: Future<Output = Result<(), hyper::Error>> + Unpin,
{
    /// `None`: nothing moved for too long in the middle of an exchange, and there is nobody to finish it with.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), hyper::Error>>> {
        self.pace.begin_turn();
        let worker = Rc::clone(&self.connection.worker);
        if !self.told && self.connection.says_goodbye() {
            self.connection.moved();
            self.finish();
        }
        if let Poll::Ready(ended) = Pin::new(&mut self.serving).poll(cx) {
            return Poll::Ready(Some(ended));
        }
        let timeouts = worker.live().snapshot.proxy.timeouts;
        let busy = self.connection.active.get() > 0;
        if !busy && !self.told && !self.connection.is_trusted() {
            self.finish();
            return Pin::new(&mut self.serving).poll(cx).map(Some);
        }
        let patience = match busy {
            // Told to go, and nothing under way: a moment for the other end to see it.
            false if self.told => limits::FAREWELL,
            false if worker.keeps_no_idle() => limits::DRAIN_IDLE,
            false => timeouts.downstream_idle,
            // The stream's own idle timer comes first; this one ends a connection whose reader has stopped reading.
            true => timeouts.idle_stream + limits::STALL_MARGIN,
        };
        if !worker.connections.wait(&self.connection.place, cx, patience) {
            return Poll::Pending;
        }
        if !worker.is_draining() || busy {
            self.connection.cells().idle_timeouts.inc();
        }
        if busy || self.told {
            return Poll::Ready(None);
        }
        self.connection.moved();
        self.finish();
        Pin::new(&mut self.serving).poll(cx).map(Some)
    }

    fn finish(&mut self) {
        self.told = true;
        Pin::new(&mut self.serving).graceful_shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn crumbs_of_a_cookie_are_one_field_and_others_are_counted() {
        let mut headers = HeaderMap::new();
        for _ in 0..1000 {
            headers.append("cookie", http::HeaderValue::from_static("a=1"));
        }
        assert!(has_few_fields(&mut headers));
        assert_eq!((headers.len(), headers.get("cookie").map(|cookie| cookie.len())), (1, Some(1000 * 5 - 2)));
        for _ in 0..limits::HEADER_FIELDS {
            headers.append("x", http::HeaderValue::from_static(""));
        }
        assert!(!has_few_fields(&mut headers));
    }

    #[test]
    fn the_future_of_a_request_stays_small() {
        // It is moved when a request begins: every kilobyte is copied for every request.
        let size = size_of_future(exchange);
        assert!(size < 2900, "{size}");
    }
}
