//! An exchange whose client speaks HTTP/1.1 and whose upstream speaks HTTP/2.
//!
//! The task of the client's connection moves both bodies: the request's into a [`Feeder`] that the upstream connection reads,
//! the response's out of hyper's body.

use super::{
    framing::{Decoder, Framing},
    head,
    server::{After, Server, ended},
    way, write,
};
use crate::{
    buffer::Buffer,
    http::{
        Body, End, Exchange, Failure, Side, Wants,
        feed::{Feeder, feed},
        h1::Refused,
        h2, headers,
    },
    limits,
    passage::Passage,
    upstream::{Lease, Upstream},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header, response};
use http_body::{Body as _, Frame};
use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::{io::AsyncWrite, time::Sleep};

/// Sends the request and writes its response.
pub(super) async fn relay(
    server: &mut Server,
    exchange: &Rc<Exchange>,
    passage: &Passage,
    mut lease: Lease,
    framing: Framing,
    mut deadline: Option<Pin<Box<Sleep>>>,
) -> Result<After, Failure> {
    let Upstream::Two(client) = &mut lease.upstream else { return Err(Failure::UpstreamProtocol) };
    let (mut upload, body) = Upload::new(framing);
    let request = request(server, exchange, passage, body)?;
    // The upstream is not told of the expectation, so that it does not have to be waited for. Whose body is here does not wait.
    if exchange.asked.expects
        && framing != Framing::None
        && server.input.is_empty()
        && server.send_continue().await.is_err()
    {
        exchange.failed(Side::Request);
        return Ok(After::Reset);
    }
    let sent = Instant::now();
    let response = {
        let mut sending = pin!(client.send(request));
        poll_fn(|cx| {
            if let Poll::Ready(Err(failure)) = upload.poll(cx, server, exchange) {
                return Poll::Ready(Err(failure));
            }
            match sending.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(h2::SendError::Unsent(_))) => Poll::Ready(Err(Failure::UpstreamClosed)),
                Poll::Ready(Err(h2::SendError::Failed(failure))) => Poll::Ready(Err(failure)),
                Poll::Pending => match waits(server, exchange, &mut deadline, cx) {
                    None => Poll::Pending,
                    Some(end) => Poll::Ready(Err(ended(exchange, end))),
                },
            }
        })
        .await
    };
    server.unread = !upload.decoder.is_done();
    let response = h2::received(exchange, &passage.route, response?, lease, sent.elapsed())?;
    exchange.responding(response.status(), response.headers());
    let (parts, body) = response.into_parts();
    let mut download = Download::new(server, exchange, parts, body);
    let written = poll_fn(|cx| {
        if let Poll::Ready(Err(_)) = upload.poll(cx, server, exchange) {
            return Poll::Ready(Err(()));
        }
        match download.poll(cx, server) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(())),
            // The response's own body ends with the deadline, the idle time and a change of rules.
            Poll::Pending => match waits(server, exchange, &mut None, cx) {
                Some(_) if download.is_writing() => Poll::Ready(Err(())),
                _ => Poll::Pending,
            },
        }
    })
    .await;
    server.unread = !upload.decoder.is_done();
    Ok(if written.is_ok() { After::Next } else { After::Reset })
}

/// The request as HTTP/2 wants it.
fn request(server: &Server, exchange: &Rc<Exchange>, passage: &Passage, body: Body) -> Result<Request<Body>, Failure> {
    let asked = &exchange.asked;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(asked.method_bytes()).map_err(|_| Failure::NotForwardable)?;
    parts.headers = way::map(asked.text(), &server.fields);
    headers::request(&mut parts.headers, exchange, crate::http::timeout_ms(&passage.route));
    h2::prepare(&mut parts, passage.target(asked), passage.authority(asked), &passage.route)?;
    Ok(Request::from_parts(parts, body))
}

fn waits(
    server: &Server,
    exchange: &Exchange,
    deadline: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Option<End> {
    if deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
        return Some(End::Deadline);
    }
    let connection = &server.connection;
    let patience = exchange.live.snapshot.proxy.timeouts.idle_stream;
    let idle = connection.worker.connections.wait(&connection.place, cx, patience);
    exchange.must_end(idle)
}

/// The request's body.
struct Upload {
    decoder: Decoder,
    feeder: Option<Feeder>,
}

impl Upload {
    fn new(framing: Framing) -> (Self, Body) {
        if framing == Framing::None {
            return (Self { decoder: Decoder::Done, feeder: None }, Body::empty());
        }
        let (feeder, fed) = feed();
        (Self { decoder: Decoder::new(framing), feeder: Some(feeder) }, Body::Fed(fed))
    }

    /// Ready when there is nothing more to hand over, or when the request broke off.
    fn poll(&mut self, cx: &mut Context<'_>, server: &mut Server, exchange: &Exchange) -> Poll<Result<(), Failure>> {
        loop {
            let Some(feeder) = &self.feeder else { return self.poll_client(cx, server, exchange) };
            if ready!(feeder.poll_ready(cx)).is_err() {
                // The upstream wants no more of it; its response says why.
                self.feeder = None;
                return Poll::Ready(Ok(()));
            }
            let bytes = server.input.filled();
            let piece = match self.decoder.next(bytes) {
                Ok(piece) => piece,
                Err(refused) => return Poll::Ready(Err(self.broke(exchange, refused))),
            };
            let data = bytes.get(piece.framing..piece.framing + piece.data).unwrap_or_default();
            if !data.is_empty() {
                exchange.data(Side::Request, data);
                feeder.put(Frame::data(Bytes::copy_from_slice(data)));
            }
            server.input.consume(piece.framing + piece.data);
            if piece.end {
                let trailers = self.decoder.finish();
                if !trailers.is_empty() {
                    let mut fields = Vec::new();
                    if let Err(refused) = head::trailers(&trailers, &mut fields) {
                        return Poll::Ready(Err(self.broke(exchange, refused)));
                    }
                    let mut map = way::map(&trailers, &fields);
                    headers::trailers(&mut map);
                    exchange.trailers(Side::Request, || map.clone());
                    feeder.put(Frame::trailers(map));
                }
                feeder.finish();
                self.feeder = None;
                exchange.ended(Side::Request);
                continue;
            }
            if piece.framing + piece.data > 0 {
                continue;
            }
            match ready!(server.poll_fill(cx)) {
                Ok(count) if count > 0 => {}
                Ok(_) | Err(_) => {
                    exchange.failed(Side::Request);
                    self.feeder = None;
                    return Poll::Ready(Err(Failure::UpstreamClosed));
                }
            }
        }
    }

    /// While the response is awaited, the client may send its next request, or leave.
    fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Server,
        exchange: &Exchange,
    ) -> Poll<Result<(), Failure>> {
        while server.input.len() < limits::READ {
            match server.poll_fill(cx) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => {
                    exchange.failed(Side::Request);
                    return Poll::Ready(Err(Failure::UpstreamClosed));
                }
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    fn broke(&mut self, exchange: &Exchange, refused: Refused) -> Failure {
        self.feeder = None;
        exchange.failed(Side::Request);
        Failure::Unreadable(refused)
    }
}

/// The response.
struct Download {
    out: Buffer,
    body: Body,
    /// No byte of a body may follow the head (RFC 9112 §6.3 item 1): HTTP/2 lets one come, and here it would be the beginning
    /// of the next response.
    bodiless: bool,
    chunked: bool,
    done: bool,
}

impl Download {
    fn new(server: &mut Server, exchange: &Exchange, mut parts: response::Parts, body: Body) -> Self {
        let bodiless = exchange.asked.is_head() || matches!(parts.status.as_u16(), 204 | 304);
        let ended = body.is_end_stream();
        if parts.status == 204 {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let chunked = !bodiless && !parts.headers.contains_key(header::CONTENT_LENGTH);
        if chunked {
            parts.headers.insert(header::TRANSFER_ENCODING, http::HeaderValue::from_static("chunked"));
        }
        server.close |= exchange.connection.says_goodbye() || (ended && server.unread);
        // As in the relay: who asked for another protocol may have begun to speak it.
        server.close |= exchange.asked.wants != Wants::Nothing;
        if server.close {
            parts.headers.insert(header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        let mut out = Buffer::default();
        let response = Response::from_parts(parts, ());
        write::response_from_map(out.tail(), response.status(), response.headers());
        let mut download = Self { out, body, bodiless, chunked, done: false };
        if ended {
            download.finish(&HeaderMap::new());
        }
        download
    }

    fn is_writing(&self) -> bool {
        !self.out.is_empty()
    }

    fn poll(&mut self, cx: &mut Context<'_>, server: &mut Server) -> Poll<io::Result<()>> {
        loop {
            while !self.out.is_empty() {
                let written = ready!(Pin::new(&mut server.stream).poll_write(cx, self.out.filled()))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                server.connection.moved();
                self.out.consume(written);
            }
            ready!(Pin::new(&mut server.stream).poll_flush(cx))?;
            if self.done {
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.finish(&HeaderMap::new()),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() || self.bodiless => {}
                    Ok(data) if self.chunked => {
                        write::chunk_size(self.out.tail(), data.len());
                        self.out.extend(&data);
                        self.out.extend(b"\r\n");
                    }
                    Ok(data) => self.out.extend(&data),
                    Err(frame) => self.finish(&frame.into_trailers().unwrap_or_default()),
                },
            }
        }
    }

    fn finish(&mut self, trailers: &HeaderMap) {
        self.done = true;
        if self.chunked {
            write::last_chunk_from_map(self.out.tail(), trailers);
        }
    }
}
