//! One HTTP/2 connection, within limits.

use crate::corked::Corked;
use crate::{Caller, Limits, Routes};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::body::Body;

/// Serves requests until the other end leaves, or until `stop` becomes true and the open ones have ended.
///
/// Errors of the connection end it and nothing else; what they were is of no use to anybody but the other end, which has been
/// told by a GOAWAY (RFC 9113 §5.4.1).
pub(crate) fn serve<IO>(
    io: IO,
    caller: Caller,
    routes: Routes,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller.clone());
        let answer = routes.answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let corked = Corked::new(io);
    // Made before there is a future, and in a box: in an async function each of these keeps a place for every time that it is moved.
    let mut connection = Box::pin(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.headers)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .keep_alive_interval(limits.ping_after)
            .keep_alive_timeout(limits.ping_answer)
            .serve_connection(TokioIo::new(corked.other()), service),
    );
    async move {
        tokio::select! {
            () = poll_fn(|context| poll_and_leave(connection.as_mut(), &corked, context)) => return,
            _ = stop.wait_for(|stop| *stop) => {}
        }
        connection.as_mut().graceful_shutdown();
        // A stream that never ends, such as a watch, ends here.
        let ending = poll_fn(|context| poll_and_leave(connection.as_mut(), &corked, context));
        let _ = tokio::time::timeout(limits.drain, ending).await;
    }
}

/// Polls a connection, then lets what it has written leave.
fn poll_and_leave<IO>(connection: Pin<&mut impl Future>, corked: &Corked<IO>, context: &mut Context<'_>) -> Poll<()>
where
    IO: AsyncWrite + Unpin,
{
    let over = connection.poll(context).is_ready();
    match corked.poll_leave(context) {
        // Nobody is there to be told.
        Poll::Ready(Err(_)) => Poll::Ready(()),
        _ if over => Poll::Ready(()),
        _ => Poll::Pending,
    }
}

/// Messages are small: a CSR, a chain, a bundle.
const WINDOW: u32 = 65_535;
const SEND_BUFFER: usize = 64 * 1024;
