//! Sends copied requests to a shadow service, and forgets the answers: Envoy's `request_mirror_policies`.
//!
//! In: requests from a tap's thread. Out: HTTP/1.1 over connections of its own, on a thread of its own; the tap hears of
//! each what became of it. Never in the way of anybody: what waits here stays within the tap's queue, which drops whole
//! exchanges at admission when it is full. At most [`FLYING`] requests are on their way at once, each for at most [`PATIENCE`].

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{HeaderValue, TRAILER, TRANSFER_ENCODING};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;
use tokio::time::timeout;

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Shadow {
    // Bounded by the tap's queue: every request holds its part of that.
    requests: UnboundedSender<(SocketAddr, tap::Repeated)>,
}

/// Requests on their way at once.
const FLYING: usize = 64;
/// Connections kept for the next request.
const KEPT: usize = 16;
/// How long one request may take, from dialling to the end of the answer: Envoy's default for a route.
const PATIENCE: Duration = Duration::from_secs(15);

impl Shadow {
    /// Starts the thread of the tap of this name. It ends with the last handle.
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let (requests, work) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            tap::lower_priority();
            LocalSet::new().block_on(&runtime, serve(work));
        };
        std::thread::Builder::new().name(format!("shadow-{name}")).spawn(run)?;
        Ok(Self { requests })
    }
}

impl tap::Repeat for Shadow {
    fn repeat(&self, to: SocketAddr, request: tap::Repeated) {
        // Refused only when the thread has ended; then the request counts itself as dropped.
        let _ = self.requests.send((to, request));
    }
}

async fn serve(mut work: UnboundedReceiver<(SocketAddr, tap::Repeated)>) {
    let flying = Arc::new(Semaphore::new(FLYING));
    let kept = Rc::new(Kept::default());
    while let Some((to, request)) = work.recv().await {
        let Ok(place) = Arc::clone(&flying).acquire_owned().await else { return };
        let kept = Rc::clone(&kept);
        tokio::task::spawn_local(async move {
            repeat(&kept, to, request).await;
            drop(place);
        });
    }
}

/// Sends one request and tells its tap.
async fn repeat(kept: &Kept, to: SocketAddr, mut request: tap::Repeated) {
    let message = message(&mut request);
    match timeout(PATIENCE, kept.exchange(to, message)).await {
        Ok(Ok(())) => request.sent(),
        Ok(Err(error)) => request.failed(&error),
        Err(_) => request.failed(&io::Error::from_raw_os_error(libc::ETIMEDOUT)),
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The request for the wire. It goes out chunked if it has trailers, else with its length.
fn message(request: &mut tap::Repeated) -> Request<Body> {
    let mut message = Request::new(());
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = request.target.clone();
    *message.headers_mut() = std::mem::take(&mut request.headers);
    let body = Full::new(Bytes::from(std::mem::take(&mut request.body)));
    let trailers = std::mem::take(&mut request.trailers);
    if trailers.is_empty() {
        return message.map(|()| body.boxed_unsync());
    }
    // hyper writes only those that were announced (RFC 9110 section 6.6.2), and those of a length known beforehand never.
    message.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    for name in trailers.keys() {
        message.headers_mut().append(TRAILER, HeaderValue::from(name.clone()));
    }
    message.map(|()| body.with_trailers(ready(Some(Ok(trailers)))).boxed_unsync())
}

/// Connections with nothing on them.
#[derive(Default)]
struct Kept(RefCell<Vec<(SocketAddr, SendRequest<Body>)>>);

impl Kept {
    /// Sends the request and reads its answer to the end.
    async fn exchange(&self, to: SocketAddr, request: Request<Body>) -> io::Result<()> {
        let mut sender = match self.take(to) {
            Some(sender) => sender,
            None => dial(to).await?,
        };
        let answer = sender.send_request(request).await.map_err(|error| cause(&error))?;
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| cause(&error))?;
        }
        let mut kept = self.0.borrow_mut();
        if sender.is_ready() && kept.len() < KEPT {
            kept.push((to, sender));
        }
        Ok(())
    }

    fn take(&self, to: SocketAddr) -> Option<SendRequest<Body>> {
        let mut kept = self.0.borrow_mut();
        kept.retain(|(address, sender)| *address == to && sender.is_ready());
        kept.pop().map(|(_, sender)| sender)
    }
}

async fn dial(to: SocketAddr) -> io::Result<SendRequest<Body>> {
    let stream = TcpStream::connect(to).await?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| cause(&error))?;
    // Its end is seen by whoever sends on it.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

/// What the system said, if it was the system; an answer that is no HTTP is EPROTO.
fn cause(error: &hyper::Error) -> io::Error {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(errno) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(errno);
        }
        source = inner.source();
    }
    let gone = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    io::Error::from_raw_os_error(if gone { libc::ECONNRESET } else { libc::EPROTO })
}
