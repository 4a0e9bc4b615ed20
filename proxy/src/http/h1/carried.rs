//! A request that came over HTTP/2, carried to an upstream that speaks HTTP/1.1, and its response as a body to be read.
//!
//! Whoever waits for the response or reads its body moves the bytes of both directions.

use super::{
    client::Client,
    framing::{self, Decoder, Framing},
    head, way, write,
};
use crate::{
    buffer::Buffer,
    http::{Body, End, Exchange, Failure, Side, body::BodyError, h2::join_cookies, headers, waiting::Waiting},
    limits,
    passage::Passage,
    upstream::{Lease, Made, Upstream},
};
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::{io::AsyncWrite, time::Sleep};

/// Sends the request and waits for its response's head.
pub(crate) async fn carry(
    exchange: &Rc<Exchange>,
    passage: &Passage,
    headers: &mut HeaderMap,
    body: Body,
    lease: Lease,
) -> Result<Response<Body>, Failure> {
    let Lease { upstream: Upstream::One(client), made, .. } = lease else { return Err(Failure::UpstreamProtocol) };
    let asked = &exchange.asked;
    let framing = match (headers.get(header::CONTENT_LENGTH), body.is_end_stream()) {
        (Some(_), _) => Framing::None,
        (None, true) => Framing::None,
        (None, false) => Framing::Chunked,
    };
    // What declares a length keeps it: the HTTP/2 side has made sure that the data has it (RFC 9113 §8.1.1).
    if framing == Framing::Chunked {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    headers
        .insert(header::HOST, HeaderValue::from_bytes(passage.authority(asked)).map_err(|_| Failure::NotForwardable)?);
    join_cookies(headers);
    let mut out = Buffer::default();
    write::request_from_map(out.tail(), asked.method_bytes(), passage.target(asked), headers);
    // Written, and not to be held for as long as the response takes.
    *headers = HeaderMap::new();
    let until = passage.route.timeout.and_then(|timeout| exchange.started.checked_add(timeout));
    let mut carried = Box::new(Carried {
        client: Some(client),
        made,
        exchange: Rc::clone(exchange),
        upload: Upload { done: body.is_end_stream(), body, out, chunked: framing == Framing::Chunked },
        decoder: Decoder::Done,
        interim: 0,
        taken: 0,
        keeps: true,
        deadline: until.map(|until| Box::pin(tokio::time::sleep_until(until.into()))),
        waiting: Waiting::default(),
        trailers: None,
        ended: false,
    });
    let sent = Instant::now();
    let (status, mut headers, framing) = poll_fn(|cx| carried.poll_head(cx)).await?;
    let time = sent.elapsed();
    headers::downstream(&mut headers, time.as_millis());
    exchange.facts.borrow_mut().upstream_time = Some(time);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    carried.decoder = Decoder::new(framing);
    if carried.decoder.is_done() {
        carried.end();
    } else {
        *response.body_mut() = Body::Carried(carried);
    }
    Ok(response)
}

/// A response over HTTP/1.1, with what is left of its request.
pub(crate) struct Carried {
    /// Gone once the response has ended.
    client: Option<Box<Client>>,
    made: Rc<Made>,
    exchange: Rc<Exchange>,
    upload: Upload,
    decoder: Decoder,
    /// Interim responses that came before it.
    interim: usize,
    /// Bytes of its body that were taken.
    taken: usize,
    keeps: bool,
    deadline: Option<Pin<Box<Sleep>>>,
    waiting: Waiting,
    /// Those that follow the last data, which has gone.
    trailers: Option<HeaderMap>,
    ended: bool,
}

/// What is left of the request.
struct Upload {
    body: Body,
    out: Buffer,
    chunked: bool,
    done: bool,
}

impl Upload {
    /// Ready when the request is written whole; an error when its sender broke it off.
    fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<Result<(), ()>> {
        loop {
            while !self.out.is_empty() {
                match ready!(Pin::new(&mut client.stream).poll_write(cx, self.out.filled())) {
                    Ok(count) if count > 0 => self.out.consume(count),
                    // The response may be on its way: an early refusal, say.
                    Ok(_) | Err(_) => {
                        self.out = Buffer::default();
                        self.done = true;
                        client.suspect = true;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            if ready!(Pin::new(&mut client.stream).poll_flush(cx)).is_err() || self.done {
                self.done = true;
                self.out = Buffer::default();
                return Poll::Ready(Ok(()));
            }
            let Poll::Ready(piece) = Pin::new(&mut self.body).poll_frame(cx) else {
                // It has held a head, and a body may stay open for long.
                self.out = Buffer::default();
                return Poll::Pending;
            };
            match piece {
                None => self.finish(&HeaderMap::new()),
                Some(Err(_)) => return Poll::Ready(Err(())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => self.put(&mut data),
                    Err(frame) => self.finish(&frame.into_trailers().unwrap_or_default()),
                },
            }
        }
    }

    fn put(&mut self, data: &mut Bytes) {
        let out = self.out.tail();
        if self.chunked && data.has_remaining() {
            write::chunk_size(out, data.len());
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(data);
        }
    }

    fn finish(&mut self, trailers: &HeaderMap) {
        self.done = true;
        if self.chunked {
            write::last_chunk_from_map(self.out.tail(), trailers);
        }
    }
}

impl Carried {
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(StatusCode, HeaderMap, Framing), Failure>> {
        let Some(client) = &mut self.client else { return Poll::Ready(Err(Failure::UpstreamClosed)) };
        if let Poll::Ready(Err(())) = self.upload.poll(cx, client) {
            return Poll::Ready(Err(Failure::UpstreamClosed));
        }
        let mut fields = Vec::new();
        loop {
            while let Some(head) = match head::response(client.input.filled(), &mut fields) {
                Ok(head) => head,
                Err(_) => return Poll::Ready(Err(Failure::UpstreamProtocol)),
            } {
                // 1xx do not pass this way; 101 was not asked for.
                if head.status == 101 || self.interim == limits::INFORMATIONAL {
                    return Poll::Ready(Err(Failure::UpstreamProtocol));
                }
                if head.status < 200 {
                    self.interim += 1;
                    client.input.consume(head.length);
                    continue;
                }
                let text = client.input.filled();
                let to_head = self.exchange.asked.is_head();
                let framing =
                    framing::response(&head, &fields, text, to_head, false).map_err(|_| Failure::UpstreamProtocol)?;
                let old = head.old && !write::connection_lists(&fields, text, b"keep-alive");
                self.keeps = !write::connection_lists(&fields, text, b"close") && !old && framing != Framing::Close;
                client.suspect |= framing == Framing::None && (to_head || matches!(head.status, 204 | 304));
                let headers = way::map(text, &fields);
                let status = StatusCode::from_u16(head.status).map_err(|_| Failure::UpstreamProtocol)?;
                client.input.consume(head.length);
                return Poll::Ready(Ok((status, headers, framing)));
            }
            match ready!(poll_more(&self.exchange, client, limits::H2_PIECE, cx)) {
                Ok(count) if count > 0 => {}
                Ok(_) | Err(_) => return Poll::Ready(Err(Failure::UpstreamClosed)),
            }
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(client) = &mut self.client else { return Poll::Ready(None) };
        if let Poll::Ready(Err(())) = self.upload.poll(cx, client) {
            return self.broke(None);
        }
        if let Some(trailers) = self.trailers.take() {
            self.end();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if self.waiting.poll_ready(cx).is_pending() {
            return self.poll_end(cx);
        }
        let mut data = Vec::new();
        loop {
            let bytes = client.input.filled();
            let piece = match self.decoder.next(bytes) {
                Ok(piece) => piece,
                Err(_) => return self.broke(None),
            };
            let taken = piece.framing + piece.data;
            data.extend_from_slice(bytes.get(piece.framing..taken).unwrap_or_default());
            client.input.consume(taken);
            if client.input.is_empty() {
                // Whoever reads this body may take long to ask for more, and there are many streams on a connection.
                give_back(&self.exchange, client);
            }
            if piece.end {
                return Poll::Ready(self.last(data));
            }
            // Chunks that are at hand go down together: each piece has a price of its own, however short it is.
            if taken > 0 && !client.input.is_empty() {
                continue;
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(self.pass(data)))));
            }
            // Little at a time, until the other end has shown that it reads.
            let most = if self.taken < limits::H2_TRIED { limits::H2_PIECE } else { limits::READ };
            match poll_more(&self.exchange, client, most, cx) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(Ok(_)) if matches!(self.decoder, Decoder::Close) => return Poll::Ready(self.last(data)),
                Poll::Ready(_) => return self.broke(None),
                Poll::Pending => return self.poll_end(cx),
            }
        }
    }

    /// A piece of the body, on its way down.
    fn pass(&mut self, data: Vec<u8>) -> Bytes {
        self.taken = self.taken.saturating_add(data.len());
        self.exchange.data(Side::Response, &data);
        self.waiting.piece(&self.exchange, data)
    }

    /// The body is whole: its last data, and its trailers with it or after it.
    fn last(&mut self, data: Vec<u8>) -> Option<Result<Frame<Bytes>, BodyError>> {
        let trailers = self.decoder.finish();
        let mut fields = Vec::new();
        let trailers = match head::trailers(&trailers, &mut fields) {
            _ if trailers.is_empty() => None,
            Ok(()) => {
                let mut map = way::map(&trailers, &fields);
                headers::trailers(&mut map);
                Some(map)
            }
            Err(_) => {
                return match self.broke(None) {
                    Poll::Ready(broke) => broke,
                    Poll::Pending => None,
                };
            }
        };
        if let Some(trailers) = &trailers {
            self.exchange.trailers(Side::Response, || trailers.clone());
        }
        let data = (!data.is_empty()).then(|| self.pass(data));
        match (data, trailers) {
            (Some(data), Some(trailers)) => {
                self.trailers = Some(trailers);
                Some(Ok(Frame::data(data)))
            }
            (data, trailers) => {
                self.end();
                data.map(Frame::data).or_else(|| trailers.map(Frame::trailers)).map(Ok)
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.exchange.ended(Side::Response);
        if let Some(mut client) = self.client.take()
            && self.keeps
            && self.upload.done
            && self.upload.out.is_empty()
            && client.input.is_empty()
        {
            give_back(&self.exchange, &mut client);
            Rc::clone(&self.made).give_back(client);
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let late = self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        let end = if late { Some(End::Deadline) } else { self.exchange.waits(Side::Response, cx) };
        match end {
            None => Poll::Pending,
            Some(end) => self.broke(Some(end)),
        }
    }

    fn broke(&mut self, end: Option<End>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.client = None;
        match end {
            Some(end) => self.exchange.cut(end),
            None => self.exchange.failed(Side::Response),
        }
        Poll::Ready(Some(Err("the response broke off".into())))
    }
}

/// Reads at most so much more of a response. Who waits with nothing read holds no buffer.
fn poll_more(exchange: &Exchange, client: &mut Client, most: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    if client.input.is_empty() {
        client.input = exchange.connection.worker.buffers.take();
    }
    let read = client.stream.poll_fill(cx, &mut client.input, most);
    if client.input.is_empty() {
        give_back(exchange, client);
    }
    read
}

fn give_back(exchange: &Exchange, client: &mut Client) {
    exchange.connection.worker.buffers.put(std::mem::take(&mut client.input));
}
