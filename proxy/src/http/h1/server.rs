//! One downstream HTTP/1.1 connection: its requests one after the other, each answered before the next is looked at.
//!
//! A client may send requests before the answers to earlier ones (RFC 9112 §9.3.2): they wait here, as bytes, within a bound.
//! While nothing waits the connection holds no buffer.

use super::{
    client::Client,
    framing::{self, Decoder, Framing},
    head::{self, Field, RequestHead},
    over_http2,
    refused::Refused,
    relay::{Broken, Relay, Relayed},
    way, write,
};
use crate::{
    buffer::Buffer,
    connection::{Connection, Phase},
    http::{Asked, End, Exchange, Failure, Side, Wants},
    limits,
    observe::access_log,
    passage,
    stream::Stream,
    tap_records, tunnel,
    upstream::{self, Lease, Made, Upstream},
};
use http::{Response, Version};
use std::{
    borrow::Cow,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// A downstream connection.
pub(super) struct Server {
    pub(super) stream: Stream,
    pub(super) connection: Rc<Connection>,
    /// What was received and not yet used: a part of a head, of a body, or requests before their turn.
    pub(super) input: Buffer,
    /// The fields of the head at hand.
    pub(super) fields: Vec<Field>,
    /// The fields of trailers.
    pub(super) more_fields: Vec<Field>,
    /// How much of the input was looked at and is no whole head yet: one that trickles in is not read anew for each byte.
    looked: usize,
    /// The connection ends after this exchange.
    pub(super) close: bool,
    /// Part of the request has not been read, and will not be.
    pub(super) unread: bool,
}

/// What the other end has sent.
enum Received {
    Request(RequestHead, Framing),
    Refused(Refused),
    /// It has been silent for too long, or is not trusted any more.
    Closed,
    /// It has closed the connection itself, and waits for nothing.
    Gone,
}

/// What becomes of the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Next,
    Close,
    /// Close so that the other end sees that the message was cut.
    Reset,
    /// It became a tunnel, and that has ended.
    Done,
}

/// Serves requests until the connection ends, its timers run out, or the drain.
pub(crate) async fn serve(stream: Stream, connection: Rc<Connection>) {
    connection.cells().http1_connections.inc();
    let mut server = Server {
        stream,
        connection,
        input: Buffer::default(),
        fields: Vec::new(),
        more_fields: Vec::new(),
        looked: 0,
        close: false,
        unread: false,
    };
    loop {
        match poll_fn(|cx| server.poll_request(cx)).await {
            Received::Closed => break,
            // A farewell would reach nobody, and be answered with a reset.
            Received::Gone => return,
            Received::Refused(refused) => {
                Box::pin(server.refuse(refused)).await;
                break;
            }
            // Boxed: while the connection is idle its task is small.
            Received::Request(head, framing) => match Box::pin(server.exchange(&head, framing)).await {
                After::Next => {}
                After::Close => break,
                After::Reset => return server.stream.reset(),
                After::Done => return,
            },
        }
    }
    Box::pin(server.linger()).await;
}

impl Server {
    /// Waits for the next request head.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        loop {
            // A head can only have become complete, or wrong, by a new line.
            let fresh = self.input.filled().get(self.looked..).unwrap_or_default();
            let worth = self.looked == 0 || fresh.contains(&b'\n') || self.input.len() > limits::HEAD_BYTES;
            if worth && let Some(received) = self.look() {
                return Poll::Ready(received);
            }
            self.looked = self.input.len();
            let buffers = &self.connection.worker.buffers;
            if self.input.is_empty() {
                buffers.put(std::mem::replace(&mut self.input, buffers.take()));
            } else {
                self.input.unstow(buffers);
            }
            match self.stream.poll_fill(cx, &mut self.input, limits::READ) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    if self.connection.phase.get() == Phase::Idle {
                        self.connection.enter(Phase::Head);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Received::Gone),
                Poll::Pending => {
                    self.input.stow(buffers);
                    self.connection.worker.grows(self.input.len());
                    return self.poll_patience(cx);
                }
            }
        }
    }

    /// Reads the head at the front of what was received.
    fn look(&mut self) -> Option<Received> {
        let text = self.input.filled();
        if text.is_empty() {
            return None;
        }
        if self.fields.capacity() == 0 {
            self.fields = self.connection.worker.lists.take();
        }
        let head = match head::request(text, &mut self.fields) {
            Ok(None) => return None,
            Ok(Some(head)) => head,
            Err(refused) => return Some(Received::Refused(refused)),
        };
        Some(match framing::request(&self.fields, text) {
            Ok(framing) => Received::Request(head, framing),
            Err(refused) => Received::Refused(refused),
        })
    }

    /// Nothing can be read now: whether the wait must end.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        let connection = &self.connection;
        let worker = &connection.worker;
        let phase = connection.phase.get();
        if phase == Phase::Idle && !connection.is_trusted() {
            return Poll::Ready(Received::Closed);
        }
        // Once whole it would be refused anyway; until then it would hold its bytes.
        if phase == Phase::Head && worker.shared.overload.refuses() {
            return Poll::Ready(Received::Refused(Refused::Overloaded));
        }
        let timeouts = worker.live().snapshot.proxy.timeouts;
        let patience = match phase {
            Phase::Head => timeouts.head,
            _ if worker.keeps_no_idle() => limits::DRAIN_IDLE,
            _ => timeouts.downstream_idle,
        };
        if !worker.connections.wait(&connection.place, cx, patience) {
            return Poll::Pending;
        }
        if phase == Phase::Head {
            return Poll::Ready(Received::Refused(Refused::Timeout));
        }
        if !worker.keeps_no_idle() {
            connection.cells().idle_timeouts.inc();
        }
        Poll::Ready(Received::Closed)
    }

    /// Answers what cannot be read as a request.
    async fn refuse(&mut self, refused: Refused) {
        let cells = self.connection.cells();
        match refused {
            Refused::Timeout => cells.idle_timeouts.inc(),
            Refused::Overloaded => self.connection.worker.shared.overload.shed_request(),
            _ => cells.protocol_errors.inc(),
        }
        let failure = if refused == Refused::Overloaded { Failure::Overloaded } else { Failure::Unreadable(refused) };
        let reply = failure.reply();
        access_log::unread(&self.connection, reply.status.as_u16(), refused.flag(), refused.details());
        let response = reply.into_response(false, self.connection.worker.date());
        tap_records::unread_copied(&self.connection, self.input.filled(), &response);
        self.unread = true;
        let _ = self.send(&response, true).await;
    }

    /// Serves one request.
    async fn exchange(&mut self, head: &RequestHead, framing: Framing) -> After {
        self.connection.begin();
        let text = self.input.filled();
        let asked = Asked::http1(text, head, &self.fields);
        self.close = write::connection_lists(&self.fields, text, b"close");
        self.unread = framing != Framing::None;
        let fields = &self.fields;
        let live = self.connection.worker.live();
        let exchange = Exchange::begin(&self.connection, live, asked, &way::Listed { text, fields });
        self.input.consume(head.length);
        self.looked = 0;
        if framing == Framing::None {
            exchange.ended(Side::Request);
        }
        let after = match self.answer(&exchange, framing).await {
            Ok(after) => after,
            Err(failure) => self.reply(&exchange, &failure, framing).await,
        };
        drop(exchange);
        self.connection.worker.lists.put(std::mem::take(&mut self.fields));
        self.rest();
        if after == After::Next && (self.close || self.unread) { After::Close } else { after }
    }

    async fn answer(&mut self, exchange: &Rc<Exchange>, framing: Framing) -> Result<After, Failure> {
        let Some(decided) = self.unless_gone(passage::decide(exchange)).await else { return Ok(After::Reset) };
        let mut passage = decided?;
        let until = passage.route.timeout.and_then(|timeout| exchange.started.checked_add(timeout));
        let http = upstream::upstream_http(&passage.route, Version::HTTP_11);
        let mut fresh_only = false;
        loop {
            let mut deadline = until.map(|until| Box::pin(tokio::time::sleep_until(until.into())));
            let lease = match passage.lease.take() {
                Some(lease) => lease,
                None => {
                    let found = upstream::acquire_until(exchange, &passage.route, http, fresh_only, deadline.as_mut());
                    let Some(found) = self.unless_gone(found).await else { return Ok(After::Reset) };
                    found?
                }
            };
            exchange.sending_on(&lease.made);
            let Lease { upstream: Upstream::One(mut client), made, reused } = lease else {
                return Box::pin(over_http2::relay(self, exchange, &passage, lease, framing, deadline)).await;
            };
            let mut relay = Relay::new(self, &mut client, exchange, &passage, framing, reused, deadline.take());
            match poll_fn(|cx| relay.poll(cx)).await {
                Ok(Relayed::Whole { upstream_keeps }) => {
                    if upstream_keeps {
                        made.give_back(client);
                    }
                    return Ok(After::Next);
                }
                Ok(Relayed::Switched) => {
                    Box::pin(self.tunnel(exchange, &made, client)).await;
                    return Ok(After::Done);
                }
                Err(Broken::Stale) => fresh_only = true,
                Err(Broken::Failed(failure)) => return Err(failure),
                Err(Broken::Cut | Broken::Left) => return Ok(After::Reset),
            }
        }
    }

    /// Waits for what a request needs before it can be sent on; `None` when the client has left meanwhile. A connection that is
    /// dialled for nobody would hold two descriptors for as long as a callee may be silent.
    async fn unless_gone<T>(&mut self, needed: impl Future<Output = T>) -> Option<T> {
        let mut needed = pin!(needed);
        poll_fn(|cx| {
            if let Poll::Ready(found) = needed.as_mut().poll(cx) {
                return Poll::Ready(Some(found));
            }
            self.poll_gone(cx).map(|()| None)
        })
        .await
    }

    /// Ready when the client has left. What it sends meanwhile, its body or its next request, is kept as far as there is room.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < limits::READ {
            match self.poll_fill(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// The connection speaks another protocol from here on.
    async fn tunnel(&mut self, exchange: &Rc<Exchange>, made: &Made, mut client: Box<Client>) {
        let connection = Rc::clone(&self.connection);
        self.stream.put_back(self.input.take_bytes());
        client.stream.put_back(client.input.take_bytes());
        let judged = exchange.facts.borrow().judged.clone();
        let Some(judged) = judged else { return };
        let idle = exchange.live.snapshot.proxy.timeouts.downstream_idle;
        let mut copies = exchange.switched();
        let (end, passed) = tunnel::run(
            (&mut self.stream, &mut client.stream),
            &mut copies,
            &judged,
            Some(&exchange.asked),
            &connection,
            made.peer.as_ref(),
            idle,
        )
        .await;
        exchange.tunnelled(end, passed);
    }

    /// Answers in the upstream's place.
    async fn reply(&mut self, exchange: &Exchange, failure: &Failure, framing: Framing) -> After {
        self.skip(exchange, framing);
        // Who asked for another protocol may have begun to speak it: what follows is not read as requests.
        self.unread |= exchange.asked.wants != Wants::Nothing;
        let mut response: Response<Cow<'static, str>> = exchange.refuse(failure);
        let closes = response.headers().get(http::header::CONNECTION).is_some();
        if self.unread || (self.close && !closes) {
            response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        self.close |= closes;
        // A refusal in gRPC's words has no body and says no length; here the connection may stay, so it must.
        let length = response.body().len();
        response.headers_mut().entry(http::header::CONTENT_LENGTH).or_insert_with(|| length.into());
        let with_body = !exchange.asked.is_head();
        match self.send(&response, with_body).await {
            Ok(()) => After::Next,
            Err(_) => After::Reset,
        }
    }

    /// Passes over a body that nobody will get, if all of it is here already; otherwise the connection must end.
    fn skip(&mut self, exchange: &Exchange, framing: Framing) {
        if !self.unread || exchange.facts.borrow().request_complete || exchange.facts.borrow().bytes_received > 0 {
            return;
        }
        let mut decoder = Decoder::new(framing);
        let mut at = 0;
        loop {
            let rest = self.input.filled().get(at..).unwrap_or_default();
            match decoder.next(rest) {
                Ok(piece) if piece.end => {
                    self.input.consume(at + piece.framing + piece.data);
                    self.unread = false;
                    return exchange.ended(Side::Request);
                }
                Ok(piece) if piece.framing + piece.data > 0 => at += piece.framing + piece.data,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Sends a response of our own.
    async fn send(&mut self, response: &Response<Cow<'static, str>>, with_body: bool) -> io::Result<()> {
        let mut out = Buffer::default();
        write::response_from_map(out.tail(), response.status(), response.headers());
        if with_body {
            out.extend(response.body().as_bytes());
        }
        poll_fn(|cx| self.poll_send(cx, &mut out)).await
    }

    /// Lets a client that waits for it send its body (RFC 9110 §10.1.1), where nobody further up will.
    pub(super) async fn send_continue(&mut self) -> io::Result<()> {
        let mut out = Buffer::default();
        out.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
        poll_fn(|cx| self.poll_send(cx, &mut out)).await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Buffer) -> Poll<io::Result<()>> {
        loop {
            let polled = if out.is_empty() {
                Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0)
            } else {
                Pin::new(&mut self.stream).poll_write(cx, out.filled())
            };
            match polled {
                Poll::Ready(Ok(_)) if out.is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => out.consume(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let connection = &self.connection;
                    let patience = connection.worker.live().snapshot.proxy.timeouts.idle_stream;
                    if connection.worker.connections.wait(&connection.place, cx, patience) {
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Lets the other end read the last answer before the connection closes: what it still sends is thrown away for a while,
    /// because a close with unread bytes would be a reset, and a reset may overtake the answer (RFC 9112 §9.6).
    async fn linger(&mut self) {
        if !self.unread {
            let _ = poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await;
            return;
        }
        self.connection.worker.buffers.put(std::mem::take(&mut self.input));
        if self.connection.worker.shared.overload.refuses() {
            return;
        }
        self.connection.moved();
        let mut left = limits::LINGER_BYTES;
        poll_fn(|cx| {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).ok();
            let buffers = &self.connection.worker.buffers;
            let mut waste = buffers.take();
            loop {
                match self.stream.poll_fill(cx, &mut waste, limits::READ) {
                    Poll::Ready(Ok(count)) if count > 0 && count < left => {
                        left -= count;
                        waste.consume(count);
                    }
                    Poll::Ready(_) => break,
                    Poll::Pending => {
                        buffers.put(waste);
                        let connection = &self.connection;
                        if connection.worker.connections.wait(&connection.place, cx, limits::FAREWELL) {
                            return Poll::Ready(());
                        }
                        return Poll::Pending;
                    }
                }
            }
            buffers.put(waste);
            Poll::Ready(())
        })
        .await;
    }

    /// Reads more from the other end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            let buffers = &self.connection.worker.buffers;
            buffers.put(std::mem::replace(&mut self.input, buffers.take()));
        }
        // Never more than the bound in all: what is there may be requests before their turn.
        let most = limits::READ.saturating_sub(self.input.len()).max(1);
        self.stream.poll_fill(cx, &mut self.input, most)
    }

    /// Gives the buffer back while nothing is in it.
    pub(super) fn rest(&mut self) {
        if self.input.is_empty() {
            self.connection.worker.buffers.put(std::mem::take(&mut self.input));
        }
    }
}

/// The refusal of an exchange that had to end before its response began.
pub(super) fn ended(exchange: &Exchange, end: End) -> Failure {
    match end {
        End::Idle => Failure::IdleTimeout(exchange.facts.borrow().request_complete),
        End::Revoked => Failure::Revoked,
        End::Deadline => Failure::RequestTimeout,
    }
}
