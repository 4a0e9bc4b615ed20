//! This room's part of the door for `fuzz/`: a whole downstream connection, from the bytes behind the preface to the requests
//! as they would go on.
//!
//! The engine is the one of `server`, with its limits. There is no socket and no runtime: the bytes are all there, what is
//! written is counted and dropped, and whoever waits is polled again.

use super::{preface, server};
use crate::http::fuzzing::{self, Forwarded};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::{
    body::{Body, Incoming},
    rt::{Executor, Read, ReadBufCursor, Write},
    service::service_fn,
};
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// What became of a connection.
#[derive(Default)]
pub struct Served {
    /// Requests that were read, and those of them that would go on.
    pub requests: usize,
    /// As they would go on.
    pub forwarded: Vec<Forwarded>,
    /// Bytes of bodies and of what was answered.
    pub received: usize,
    /// Bytes that were sent.
    pub sent: usize,
    /// It came to its end; otherwise something waits for what can never come.
    pub ended: bool,
}

/// Whether bytes are how HTTP/2 begins; `None` while they do not decide.
pub fn begins(seen: &[u8]) -> Option<bool> {
    preface::judge(seen)
}

/// Serves the connection that begins with the preface, empty SETTINGS and these bytes, and then closes.
pub fn serve(bytes: &[u8]) -> Served {
    let served: Rc<RefCell<Served>> = Rc::default();
    let sent = Rc::new(Cell::new(0));
    let service = {
        let served = Rc::clone(&served);
        service_fn(move |request: Request<Incoming>| {
            let (parts, body) = request.into_parts();
            served.borrow_mut().requests += 1;
            let forwarded = fuzzing::http2(parts);
            let served = Rc::clone(&served);
            async move {
                served.borrow_mut().forwarded.extend(forwarded);
                read(body, &served).await;
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        })
    };
    let begin = [preface::PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let pipe = Pipe { left: Bytes::from([begin.as_slice(), bytes].concat()), sent: Rc::clone(&sent) };
    let tasks = Tasks::default();
    let mut connection = pin!(server::engine(tasks.clone()).serve_connection(pipe, service));
    let mut cx = Context::from_waker(Waker::noop());
    let mut ended = false;
    for _ in 0..ROUNDS {
        ended = ended || connection.as_mut().poll(&mut cx).is_ready();
        if ended {
            break;
        }
        tasks.poll(&mut cx);
    }
    let mut served = served.take();
    (served.ended, served.sent) = (ended, sent.get());
    served
}

/// How often everything is polled. The bytes are read with the first; each stream then takes a few.
const ROUNDS: usize = 1000;

async fn read(body: Incoming, served: &RefCell<Served>) {
    let mut body = pin!(body);
    while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        served.borrow_mut().received += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// The tasks of the streams.
#[derive(Clone, Default)]
struct Tasks(Rc<RefCell<Vec<Task>>>);

type Task = Pin<Box<dyn Future<Output = ()>>>;

impl Tasks {
    fn poll(&self, cx: &mut Context<'_>) {
        let mut tasks = self.0.take();
        tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        // Those that were added meanwhile come after.
        tasks.append(&mut self.0.borrow_mut());
        self.0.replace(tasks);
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Tasks {
    fn execute(&self, stream: F) {
        self.0.borrow_mut().push(Box::pin(stream));
    }
}

/// All bytes at once, then the end.
struct Pipe {
    left: Bytes,
    sent: Rc<Cell<usize>>,
}

impl Read for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let count = self.left.len().min(into.remaining());
        into.put_slice(&self.left.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl Write for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.sent.set(self.sent.get() + bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
