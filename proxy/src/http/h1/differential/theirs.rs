//! hyper's HTTP/1.1 over the same bytes: the oracle.
//!
//! No runtime: the bytes are always there, in pieces, and whoever waits is polled again.

use super::{
    random::Random,
    seen::{Pair, Seen, grouped},
};
use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use hyper::{
    body::Incoming,
    client, ext,
    rt::{Read, ReadBufCursor, Write},
    server,
    service::service_fn,
};
use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Requests, as hyper's server hands them to a service that reads every body to its end.
pub(super) fn requests(text: &Bytes, seed: u64) -> Vec<Seen> {
    let seen: Rc<RefCell<Vec<Seen>>> = Rc::default();
    let service = {
        let seen = Rc::clone(&seen);
        service_fn(move |request: Request<Incoming>| {
            let seen = Rc::clone(&seen);
            let (parts, body) = request.into_parts();
            let at = seen.borrow().len();
            let start = (parts.method.as_str().as_bytes().to_vec(), parts.uri.to_string().into_bytes());
            seen.borrow_mut().push(Seen { start, fields: pairs(&parts.headers), ..Seen::default() });
            async move {
                read(body, &seen, at).await;
                // Neither a tunnel nor an upgrade is ever granted.
                let mut response = Response::new(Nothing);
                *response.status_mut() = StatusCode::NOT_FOUND;
                Ok::<_, Infallible>(response)
            }
        })
    };
    let stream = Pieces::new(text, seed, true);
    // The end of the stream says that no more requests come, not that nobody reads the answers.
    let _ = finish(server::conn::http1::Builder::new().half_close(true).serve_connection(stream, service));
    seen.take()
}

/// The final response, as hyper's client hands it over; `None` when it refuses.
pub(super) fn response(text: &Bytes, to_head: bool, seed: u64) -> Option<Seen> {
    let seen: Rc<RefCell<Vec<Seen>>> = Rc::default();
    let handshake = client::conn::http1::handshake::<_, Nothing>(Pieces::new(text, seed, false));
    let (mut sender, connection) = finish(handshake).ok()?;
    let mut request = Request::new(Nothing);
    *request.method_mut() = if to_head { Method::HEAD } else { Method::GET };
    let asking = {
        let seen = Rc::clone(&seen);
        async move {
            let Ok(response) = sender.send_request(request).await else { return };
            let (parts, body) = response.into_parts();
            let reason = match parts.extensions.get::<ext::ReasonPhrase>() {
                Some(reason) => reason.as_bytes().to_vec(),
                None => parts.status.canonical_reason().unwrap_or_default().as_bytes().to_vec(),
            };
            let start = (parts.status.as_str().as_bytes().to_vec(), reason);
            seen.borrow_mut().push(Seen { start, fields: pairs(&parts.headers), ..Seen::default() });
            read(body, &seen, 0).await;
        }
    };
    let (mut asking, mut connection) = (pin!(asking), pin!(connection));
    let mut ended = false;
    finish(poll_fn(|cx| {
        ended = ended || connection.as_mut().poll(cx).is_ready();
        asking.as_mut().poll(cx)
    }));
    seen.take().pop()
}

async fn read(body: Incoming, seen: &RefCell<Vec<Seen>>, at: usize) {
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(frame) = frame else { return };
        let message = &mut seen.borrow_mut()[at];
        match frame.into_data() {
            Ok(data) => message.body.extend_from_slice(&data),
            Err(frame) => message.trailers = pairs(frame.trailers_ref().unwrap()),
        }
    }
    seen.borrow_mut()[at].whole = true;
}

fn pairs(headers: &HeaderMap) -> Vec<Pair> {
    let fields = headers.iter().map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()));
    grouped(fields.collect())
}

/// Polls to the end. Every poll moves something, so a future that does not end is a fault of this test.
fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("hyper stands still");
}

/// The stream: what is written to it is dropped.
struct Pieces {
    left: Bytes,
    most: usize,
    sizes: Random,
    /// A client gets nothing before it has asked.
    open: bool,
}

impl Pieces {
    fn new(text: &Bytes, seed: u64, open: bool) -> Self {
        let mut sizes = Random::new(seed ^ 0x5eed);
        let most = if text.len() > 20_000 { 9000 } else { *sizes.of(&[1, 9, 200, 5000, 70_000]) };
        Self { left: text.clone(), most, sizes, open }
    }
}

impl Read for Pieces {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.open {
            return Poll::Pending;
        }
        let size = (1 + this.sizes.below(this.most)).min(this.left.len()).min(into.remaining());
        into.put_slice(&this.left[..size]);
        this.left.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl Write for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().open = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// No body.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
