//! A permitted request on its way up and its response on its way down, both over HTTP/1.1, moved by one task.
//!
//! Both directions move at once: a response may begin before the request has ended, and "100 Continue" or "103 Early Hints"
//! may come before it. Whoever leaves, breaks off or stands still ends the exchange for both sides; a broken message never
//! looks whole to the side that gets it.

use super::{
    client::Client,
    framing::{self, Framing},
    head::{self, ResponseHead},
    refused::Refused,
    server::Server,
    way::{self, Way},
    write::{self, Additions, Answer, Line},
};
use crate::{
    http::{End, Exchange, Failure, Side, Wants},
    limits,
    passage::Passage,
};
use http::StatusCode;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};
use tokio::time::Sleep;

/// One exchange over two HTTP/1.1 connections.
pub(super) struct Relay<'a> {
    server: &'a mut Server,
    client: &'a mut Client,
    exchange: &'a Exchange,
    request: Way,
    response: Way,
    state: State,
    /// The connection was used before: the other end may have closed it just now.
    reused: bool,
    /// The upstream takes no more of the request; its response may still come.
    deaf: bool,
    /// The request is still being written or read.
    sending: bool,
    informational: usize,
    keeps: bool,
    sent: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No final response head yet.
    Waiting,
    Body,
    /// The connection now speaks something else.
    Switched,
}

/// How an exchange came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relayed {
    /// The response was written whole.
    Whole {
        /// The upstream connection can carry another request.
        upstream_keeps: bool,
    },
    Switched,
}

/// Why it did not.
#[derive(Debug)]
pub(super) enum Broken {
    /// The upstream had closed the connection before the request reached it: another connection may be tried.
    Stale,
    /// No response has begun: the client gets this answer.
    Failed(Failure),
    /// The response had begun: all that is left is to break it off.
    Cut,
    /// The client is gone.
    Left,
}

impl<'a> Relay<'a> {
    /// Makes the head that goes up. The passage is the proof that it may.
    pub(super) fn new(
        server: &'a mut Server,
        client: &'a mut Client,
        exchange: &'a Exchange,
        passage: &'a Passage,
        framing: Framing,
        reused: bool,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let asked = &exchange.asked;
        let connection = &exchange.connection;
        let id = exchange.added_id();
        let line = Line {
            method: asked.method_bytes(),
            target: passage.request_target(asked),
            authority: passage.authority(asked),
        };
        let add = Additions {
            client_cert: connection.xfcc.as_ref().map(http::HeaderValue::as_bytes),
            forwarded_proto: (!asked.has_forwarded_proto()).then_some(if connection.tls.is_some() {
                "https"
            } else {
                "http"
            }),
            timeout_ms: crate::http::timeout_ms(&passage.route),
            request_id: id.map(<[u8; 36]>::as_slice),
            upgrade: asked.protocol(),
        };
        let mut request = Way::new(Side::Request, framing);
        let out = request.head(&connection.worker.buffers);
        write::request(out, asked.text(), &server.fields, &line, framing, &add);
        Self {
            server,
            client,
            exchange,
            request,
            response: Way::new(Side::Response, Framing::None),
            state: State::Waiting,
            reused,
            deaf: false,
            sending: true,
            informational: 0,
            keeps: true,
            // An idle connection was at hand: hardly any time has passed since.
            sent: if reused { exchange.started } else { Instant::now() },
            deadline,
        }
    }

    /// Moves both directions as far as they go.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Relayed, Broken>> {
        let mut polled = Poll::Pending;
        if self.sending
            && let Poll::Ready(Err(broken)) = self.poll_up(cx)
        {
            polled = Poll::Ready(Err(broken));
        }
        if polled.is_pending() {
            polled = self.poll_down(cx);
        }
        if polled.is_pending() && !self.sending {
            polled = self.poll_client(cx);
        }
        if polled.is_pending() {
            polled = self.poll_end(cx);
        }
        let buffers = &self.exchange.connection.worker.buffers;
        self.request.rest(buffers);
        self.response.rest(buffers);
        if polled.is_ready() {
            self.request.discard(&mut self.server.input);
            self.server.unread = !self.request.is_received();
        }
        self.server.rest();
        if self.client.input.is_empty() {
            buffers.put(std::mem::take(&mut self.client.input));
        }
        let held = self.server.input.len() + self.client.input.len();
        if held > 0 && polled.is_pending() {
            self.exchange.connection.worker.grows(held);
        }
        polled
    }

    /// The request's way up. Ready when all of it is written, or when it broke.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let fields = &mut self.server.more_fields;
            if let Err(refused) = self.request.take(&mut self.server.input, self.exchange, fields) {
                return Poll::Ready(Err(self.unreadable(refused)));
            }
            if !self.deaf {
                let writes = self.request.is_writing();
                match self.request.poll_write(cx, &mut self.server.input, &mut self.client.stream) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) if writes => self.server.connection.moved(),
                    Poll::Ready(Ok(())) => {}
                    // Its answer may be on the way, or already here: an early refusal, say.
                    Poll::Ready(Err(_)) => self.deaf = true,
                }
            }
            if self.deaf || self.request.is_received() {
                self.sending = false;
                return Poll::Ready(Ok(()));
            }
            // What was too much for one turn is taken in the next: nothing more may come that would wake this up.
            if !self.server.input.is_empty() {
                continue;
            }
            match self.server.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => self.server.connection.moved(),
                Poll::Ready(_) => {
                    self.exchange.failed(Side::Request);
                    return Poll::Ready(Err(Broken::Left));
                }
            }
        }
    }

    /// The response's way down.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<Relayed, Broken>> {
        loop {
            while self.state == State::Waiting && !self.client.input.is_empty() {
                let fields = &mut self.server.fields;
                let failure = match head::response(self.client.input.filled(), fields) {
                    Ok(None) => break,
                    Ok(Some(head)) => self.head(&head).err(),
                    Err(_) => Some(Failure::UpstreamProtocol),
                };
                if let Some(failure) = failure {
                    return Poll::Ready(Err(Broken::Failed(failure)));
                }
            }
            if self.state == State::Body {
                let fields = &mut self.server.more_fields;
                if self.response.take(&mut self.client.input, self.exchange, fields).is_err() {
                    return Poll::Ready(Err(self.cut(None)));
                }
            }
            if self.response.is_writing() {
                match self.response.poll_write(cx, &mut self.client.input, &mut self.server.stream) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => self.server.connection.moved(),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Left)),
                }
            }
            match self.state {
                State::Switched => return Poll::Ready(Ok(Relayed::Switched)),
                State::Body if self.response.is_received() => return Poll::Ready(Ok(self.whole())),
                State::Body | State::Waiting => {}
            }
            // As on the way up.
            if self.state == State::Body && !self.client.input.is_empty() {
                continue;
            }
            if self.client.input.is_empty() {
                let buffers = &self.exchange.connection.worker.buffers;
                buffers.put(std::mem::replace(&mut self.client.input, buffers.take()));
            }
            match self.client.stream.poll_fill(cx, &mut self.client.input, limits::READ) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => self.server.connection.moved(),
                Poll::Ready(Ok(_)) if self.state == State::Body && self.response.ends_with_connection() => {
                    let fields = &mut self.server.more_fields;
                    if self.response.end(self.exchange, fields).is_err() {
                        return Poll::Ready(Err(self.cut(None)));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Err(self.upstream_left())),
            }
        }
    }

    /// A response head has come.
    fn head(&mut self, head: &ResponseHead) -> Result<(), Failure> {
        let text = self.client.input.filled();
        let fields = &self.server.fields;
        let asked = &self.exchange.asked;
        let buffers = &self.exchange.connection.worker.buffers;
        let interim =
            Answer { framing: Framing::None, announces: false, service_time_ms: None, close: false, switches: false };
        let connects = asked.wants == Wants::Connect && (200..300).contains(&head.status);
        if head.status < 200 && head.status != 101 {
            self.informational += 1;
            if self.informational > limits::INFORMATIONAL {
                return Err(Failure::UpstreamProtocol);
            }
            write::response(self.response.head(buffers), text, head, fields, &interim);
            self.client.input.consume(head.length);
            return Ok(());
        }
        let elapsed = self.sent.elapsed();
        if head.status == 101 || connects {
            if head.status == 101 && !self.accepts_switch() {
                return Err(Failure::UpstreamProtocol);
            }
            let answer = Answer { switches: head.status == 101, ..interim };
            write::response(self.response.head(buffers), text, head, fields, &answer);
            self.state = State::Switched;
        } else {
            let to_head = asked.is_head();
            let framing =
                framing::response(head, fields, text, to_head, false).map_err(|_| Failure::UpstreamProtocol)?;
            let says_close = write::connection_lists(fields, text, b"close");
            let old = head.old && !write::connection_lists(fields, text, b"keep-alive");
            self.keeps = !says_close && !old && framing != Framing::Close;
            // A body where none may be is the classic way to answer the next request as well.
            self.client.suspect = framing == Framing::None && (to_head || matches!(head.status, 204 | 304));
            let behind = text.len() - head.length;
            let at_hand = match framing {
                Framing::None => true,
                Framing::Length(length) => usize::try_from(length).is_ok_and(|length| length <= behind),
                Framing::Chunked | Framing::Close => false,
            };
            // The whole answer is here and the request is not: its rest will not be read.
            self.server.close |= at_hand && !self.request.is_received();
            self.server.close |= self.exchange.connection.says_goodbye();
            // Who asked for another protocol may have begun to speak it: what follows is not read as requests.
            self.server.close |= asked.wants != Wants::Nothing;
            let answer = Answer {
                framing,
                announces: to_head || head.status == 304,
                service_time_ms: Some(elapsed.as_millis()),
                close: self.server.close,
                switches: false,
            };
            write::response(self.response.head(buffers), text, head, fields, &answer);
            self.response.begin(framing);
            self.state = State::Body;
        }
        let status = StatusCode::from_u16(head.status).map_err(|_| Failure::UpstreamProtocol)?;
        self.exchange.facts.borrow_mut().upstream_time = Some(elapsed);
        self.exchange.responding(status, &way::Listed { text, fields });
        if self.response.is_received() {
            self.exchange.ended(Side::Response);
        }
        self.client.input.consume(head.length);
        Ok(())
    }

    /// 101 is an answer only to a request that asked for it, and only with the protocol it asked for (RFC 9110 §15.2.2).
    fn accepts_switch(&self) -> bool {
        let text = self.client.input.filled();
        let fields = &self.server.fields;
        let Some(asked) = self.exchange.asked.protocol() else { return false };
        let mut named = fields.iter().filter(|field| field.known == crate::http::field::Name::Upgrade);
        let first = named.next().is_some_and(|field| field.value.of(text).eq_ignore_ascii_case(asked.as_bytes()));
        first
            && named.next().is_none()
            && self.request.is_received()
            && write::connection_lists(fields, text, b"upgrade")
    }

    fn whole(&self) -> Relayed {
        Relayed::Whole {
            upstream_keeps: self.keeps
                && !self.sending
                && !self.deaf
                && self.request.is_received()
                && self.client.input.is_empty(),
        }
    }

    /// While the response is awaited, the client may send its next request, or leave.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Result<Relayed, Broken>> {
        self.server.poll_gone(cx).map(|()| Err(Broken::Left))
    }

    /// Whether the time is over, or the rules have changed.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Relayed, Broken>> {
        let late = self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        let connection = &self.exchange.connection;
        let patience = self.exchange.live.snapshot.proxy.timeouts.idle_stream;
        let idle = connection.worker.connections.wait(&connection.place, cx, patience);
        let end = if late { Some(End::Deadline) } else { self.exchange.must_end(idle) };
        match end {
            None => Poll::Pending,
            Some(end) => Poll::Ready(Err(self.ended(end))),
        }
    }

    fn ended(&mut self, end: End) -> Broken {
        if self.state != State::Waiting {
            return self.cut(Some(end));
        }
        Broken::Failed(match end {
            End::Idle => Failure::IdleTimeout(self.request.is_received()),
            End::Revoked => Failure::Revoked,
            End::Deadline => Failure::RequestTimeout,
        })
    }

    fn unreadable(&mut self, refused: Refused) -> Broken {
        self.exchange.failed(Side::Request);
        if self.state == State::Waiting { Broken::Failed(Failure::Unreadable(refused)) } else { Broken::Cut }
    }

    fn upstream_left(&mut self) -> Broken {
        if self.state != State::Waiting {
            return self.cut(None);
        }
        // RFC 9110 §9.2.2: what may have been acted on is repeated only if that does no harm, and only if all of it is here.
        let repeatable = matches!(self.exchange.asked.method_bytes(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE");
        let untouched = self.client.input.is_empty() && self.informational == 0;
        let bodiless = self.exchange.facts.borrow().bytes_received == 0 && self.request.is_received();
        if self.reused && untouched && repeatable && bodiless {
            return Broken::Stale;
        }
        Broken::Failed(Failure::UpstreamClosed)
    }

    /// The response breaks off in the middle, by the upstream's fault or because it may not go on.
    fn cut(&mut self, end: Option<End>) -> Broken {
        match end {
            Some(end) => self.exchange.cut(end),
            None => self.exchange.failed(Side::Response),
        }
        Broken::Cut
    }
}
