//! One request and its response, from first byte to last: what happened is gathered here, and told when it is over.
//!
//! Everything that touches the exchange holds it by `Rc`: the handler, the request body on its way up, the response body on
//! its way down. When the last of them lets go, however that came about, [`Drop`] writes the access-log line, counts, and
//! hands the copy to the taps. So there is exactly one line per request, also for one that died.

use super::{
    Asked, Body,
    copy::TapCopy,
    respond::{Failure, Reply},
};
use crate::{
    connection::Connection,
    guard::Judged,
    live::Live,
    observe::{
        access_log,
        metrics::{Series, Verdict},
        refusal,
    },
    overload::Level,
    tap_streams::Streams,
    tunnel,
    upstream::{Made, Route},
    watch::Place,
    worker::Worker,
};
use http::{HeaderMap, StatusCode, Version};
use identity::Usage;
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// One request and its response.
pub(crate) struct Exchange {
    pub(crate) connection: Rc<Connection>,
    pub(crate) live: Rc<Live>,
    pub(crate) asked: Asked,
    pub(crate) started: Instant,
    /// Which one of its connection.
    pub(crate) number: u32,
    /// The `x-request-id` we gave it, when it brought none.
    made_id: OnceCell<[u8; 36]>,
    pub(crate) facts: RefCell<Facts>,
    /// Of the request and of the response.
    places: [Place; 2],
    /// When it was last judged.
    epoch: Cell<u64>,
    /// Set once: an exchange that has to end cannot go on again.
    end: Cell<Option<End>>,
}

/// Why an exchange that has to wait must end instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing moved for the stream idle timeout.
    Idle,
    /// Rules or credentials that came later forbid it.
    Revoked,
    /// The time for the whole request is over.
    Deadline,
}

/// What is known so far.
pub(crate) struct Facts {
    pub(crate) status: u16,
    pub(crate) flag: &'static str,
    pub(crate) details: Cow<'static, str>,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) judged: Option<Judged>,
    pub(crate) upstream: Option<Arc<Route>>,
    pub(crate) upstream_id: u32,
    pub(crate) upstream_time: Option<Duration>,
    /// The connection the request was sent on.
    pub(crate) callee: Option<Rc<Made>>,
    pub(crate) request_complete: bool,
    pub(super) response_complete: bool,
    failed: Option<Side>,
    copy: Option<Box<TapCopy>>,
}

impl Facts {
    fn tell(&mut self, flag: &'static str, details: &'static str) {
        self.flag = flag;
        self.details = Cow::Borrowed(details);
    }
}

impl Exchange {
    /// A request head has been read, with these fields.
    pub(crate) fn begin(
        connection: &Rc<Connection>,
        live: Rc<Live>,
        asked: Asked,
        fields: &impl tap::Fields,
    ) -> Rc<Self> {
        let cells = connection.cells();
        cells.requests.inc();
        cells.requests_active.inc();
        let copy = TapCopy::admit(connection, &live, &asked, fields);
        let started = Instant::now();
        connection.serves(started);
        Rc::new(Self {
            connection: Rc::clone(connection),
            live,
            asked,
            started,
            number: connection.number(),
            made_id: OnceCell::new(),
            facts: RefCell::new(Facts {
                status: 0,
                flag: "-",
                details: Cow::Borrowed("-"),
                bytes_received: 0,
                bytes_sent: 0,
                judged: None,
                upstream: None,
                upstream_id: 0,
                upstream_time: None,
                callee: None,
                request_complete: false,
                response_complete: false,
                failed: None,
                copy,
            }),
            places: Default::default(),
            end: Cell::new(None),
            epoch: Cell::new(connection.worker.watches.epoch()),
        })
    }

    /// The id of the request, its own or ours.
    pub(crate) fn request_id(&self) -> Option<&[u8]> {
        self.made_id.get().map(<[u8; 36]>::as_slice).or_else(|| self.asked.request_id())
    }

    /// The id to be added to the request, when it brought none; always the same.
    pub(crate) fn added_id(&self) -> Option<&[u8; 36]> {
        (!self.asked.has_request_id()).then(|| self.made_id.get_or_init(|| self.connection.worker.uuid()))
    }

    /// The rules have spoken.
    pub(crate) fn judged(&self, judged: Judged) {
        let cells = self.connection.cells();
        match judged.verdict {
            Verdict::Allow => cells.allowed.inc(),
            Verdict::Deny => cells.denied.inc(),
            Verdict::WouldDeny => {
                cells.allowed.inc();
                cells.would_deny.inc();
            }
            Verdict::None => {}
        }
        self.facts.borrow_mut().judged = Some(judged);
    }

    /// It is known where it goes.
    pub(crate) fn routed(&self, route: &Arc<Route>) {
        let mut facts = self.facts.borrow_mut();
        facts.upstream_id = route.name_id;
        facts.upstream = Some(Arc::clone(route));
    }

    /// A connection has been found for it.
    pub(crate) fn sending_on(&self, made: &Rc<Made>) {
        self.facts.borrow_mut().callee = Some(Rc::clone(made));
    }

    /// The connection becomes a tunnel. The taps that copy streams get the exchange now, and then what passes.
    pub(crate) fn switched(&self) -> Streams {
        let Some(copy) = self.facts.borrow_mut().copy.take() else {
            return Streams::default();
        };
        let (streams, rest) = copy.switch(self);
        self.facts.borrow_mut().copy = rest;
        streams
    }

    /// The connection became a tunnel, and that has ended.
    pub(crate) fn tunnelled(&self, end: tunnel::End, passed: tunnel::Passed) {
        let mut facts = self.facts.borrow_mut();
        facts.bytes_received += passed.up;
        facts.bytes_sent += passed.down;
        facts.response_complete = true;
        if let Some(copy) = &mut facts.copy {
            copy.tunnelled(end, passed);
        }
        match end {
            tunnel::End::Closed => {}
            tunnel::End::DownstreamBroke => facts.tell("DC", "downstream_remote_disconnect"),
            tunnel::End::UpstreamBroke => facts.tell("UC", "upstream_remote_disconnect"),
            tunnel::End::Idle => facts.tell("SI", "idle_timeout"),
            tunnel::End::Revoked => {
                facts.tell("-", "revoked_by_policy");
                drop(facts);
                refusal::revoked(self);
            }
        }
    }

    /// Body bytes passed.
    pub(crate) fn data(&self, side: Side, data: &[u8]) {
        let watches = &self.connection.worker.watches;
        watches.moved(self.place(Side::Request));
        watches.moved(self.place(Side::Response));
        self.connection.moved();
        let mut facts = self.facts.borrow_mut();
        let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match side {
            Side::Request => facts.bytes_received += count,
            Side::Response => facts.bytes_sent += count,
        }
        if let Some(copy) = &mut facts.copy
            && !copy.data(side, data)
        {
            facts.copy = None;
        }
    }

    /// Trailers passed.
    pub(crate) fn trailers(&self, side: Side, trailers: impl FnOnce() -> HeaderMap) {
        if let Some(copy) = &mut self.facts.borrow_mut().copy
            && let Some(message) = copy.message(side)
        {
            message.trailers = Some(trailers());
        }
    }

    /// A message came to its proper end.
    pub(crate) fn ended(&self, side: Side) {
        let mut facts = self.facts.borrow_mut();
        match side {
            Side::Request => facts.request_complete = true,
            Side::Response => facts.response_complete = true,
        }
    }

    /// A message broke off by the fault of its sender.
    pub(crate) fn failed(&self, side: Side) {
        let mut facts = self.facts.borrow_mut();
        facts.failed.get_or_insert(side);
        // What the tap got of it stays true: it ends with a reset there too.
    }

    /// The end of a story: the upstream's response, or our refusal, as it goes down.
    pub(crate) fn conclude(&self, answer: Result<http::Response<Body>, Failure>) -> http::Response<Body> {
        match answer {
            Ok(response) => {
                self.responding(response.status(), response.headers());
                response
            }
            Err(failure) => self.refuse(&failure),
        }
    }

    /// The response head that goes down, from the upstream or our own.
    pub(crate) fn responding(&self, status: StatusCode, fields: &impl tap::Fields) {
        let mut facts = self.facts.borrow_mut();
        facts.status = status.as_u16();
        if let Some(copy) = &mut facts.copy {
            copy.responding(status, fields);
        }
    }

    /// We answer ourselves. Writes the refusal line when it is one.
    pub(crate) fn refuse<B: From<Cow<'static, str>>>(&self, failure: &Failure) -> http::Response<B> {
        let mut reply: Reply = failure.reply();
        // Who waits for "100 Continue" may send the body after this answer or not: the connection ends the doubt.
        reply.close |= self.asked.expects || self.connection.says_goodbye();
        let cells = self.connection.cells();
        match failure {
            Failure::Malformed(_) | Failure::MissingHost | Failure::ConflictingHost => cells.path_refused.inc(),
            Failure::Unreadable(_) => cells.protocol_errors.inc(),
            Failure::IdleTimeout(_) => cells.idle_timeouts.inc(),
            Failure::Overflow => cells.overflow.inc(),
            _ => {}
        }
        let body_len = if self.asked.grpc { 0 } else { reply.body.len() };
        {
            let mut facts = self.facts.borrow_mut();
            facts.flag = reply.flag;
            facts.details = reply.details.clone();
            // The client left in the middle of its request: whatever the upstream made of that is not the upstream's fault.
            let left = facts.failed == Some(Side::Request) && !matches!(failure, Failure::Unreadable(_));
            if left {
                facts.flag = "DC";
                facts.details = Cow::Borrowed("downstream_remote_disconnect");
            }
            facts.bytes_sent = u64::try_from(body_len).unwrap_or(0);
            facts.response_complete = true;
        }
        if failure.is_refusal() {
            refusal::request(self, failure);
        }
        let copied = reply.body.clone();
        let http1 = self.asked.version < Version::HTTP_2;
        let close = reply.close && http1;
        reply.close = close;
        let response = reply.into_response(self.asked.grpc, self.connection.worker.date());
        self.responding(response.status(), response.headers());
        if self.facts.borrow().flag == "DC" {
            self.facts.borrow_mut().status = 0;
        }
        if !self.asked.grpc
            && let Some(copy) = &mut self.facts.borrow_mut().copy
        {
            copy.data(Side::Response, copied.as_bytes());
        }
        response
    }

    /// One side of the exchange has to wait. Says whether the exchange must end instead, and why; arranges for this side to
    /// be polled when that changes. Each side may be polled by a task of its own, so each has its own place.
    pub(crate) fn waits(&self, side: Side, cx: &Context<'_>) -> Option<End> {
        let worker = &self.connection.worker;
        let idle = worker.watches.wait(self.place(side), cx, self.live.snapshot.proxy.timeouts.idle_stream);
        let before = self.end.get();
        let end = self.must_end(idle);
        if before.is_none() && end.is_some() {
            // Both sides end: whichever is not being polled now must hear of it.
            worker.watches.wake(self.place(Side::Request));
            worker.watches.wake(self.place(Side::Response));
        }
        end
    }

    /// Whether a response is on its way down, the upstream's or our own.
    pub(crate) fn has_begun_to_answer(&self) -> bool {
        self.facts.borrow().status != 0
    }

    /// Whether the exchange must end instead of waiting on: nothing has moved for too long (`idle`), or what came into force
    /// since it was judged forbids it.
    pub(crate) fn must_end(&self, idle: bool) -> Option<End> {
        if self.end.get().is_none() {
            let worker = &self.connection.worker;
            let epoch = worker.watches.epoch();
            if idle {
                if worker.shared.overload.level() == Level::Cut {
                    worker.shared.overload.shed_stream();
                }
                self.end.set(Some(End::Idle));
            } else if epoch != self.epoch.get() {
                self.epoch.set(epoch);
                if self.is_revoked(worker) {
                    self.end.set(Some(End::Revoked));
                }
            }
        }
        self.end.get()
    }

    /// Why the exchange had to end, if it had to.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.get()
    }

    fn place(&self, side: Side) -> &Place {
        let [request, response] = &self.places;
        if side == Side::Request { request } else { response }
    }

    fn is_revoked(&self, worker: &Worker) -> bool {
        let facts = self.facts.borrow();
        let callee = facts.callee.as_ref().and_then(|made| made.peer.as_ref());
        if !self.connection.is_trusted()
            || callee.is_some_and(|peer| !peer.is_trusted_by(worker.identity().bundle(), Usage::Server))
        {
            return true;
        }
        let Some(judged) = &facts.judged else { return false };
        judged.still_allowed(&worker.live(), Some(&self.asked)) == Some(false)
    }

    /// The response broke off because the exchange may not go on.
    pub(crate) fn cut(&self, end: End) {
        let mut facts = self.facts.borrow_mut();
        match end {
            End::Idle => {
                facts.flag = "SI";
                facts.details = Cow::Borrowed("stream_idle_timeout");
            }
            End::Revoked => facts.details = Cow::Borrowed("revoked_by_policy"),
            End::Deadline => {
                facts.flag = "UT";
                facts.details = Cow::Borrowed("response_timeout");
            }
        }
        facts.failed.get_or_insert(Side::Response);
        drop(facts);
        match end {
            End::Idle => self.connection.cells().idle_timeouts.inc(),
            End::Revoked => refusal::revoked(self),
            End::Deadline => {}
        }
    }

    fn series(&self, facts: &Facts) -> Series {
        Series {
            inbound: self.connection.is_inbound(),
            rule: facts.judged.as_ref().map_or(0, |judged| judged.rule_id),
            upstream: facts.upstream_id,
            verdict: facts.judged.as_ref().map_or(Verdict::None, |judged| judged.verdict),
            status: facts.status,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let worker = Rc::clone(&self.connection.worker);
        worker.watches.leave(self.place(Side::Request));
        worker.watches.leave(self.place(Side::Response));
        {
            let mut facts = self.facts.borrow_mut();
            if !facts.response_complete {
                match facts.failed {
                    // The upstream broke off in the middle of its response.
                    Some(Side::Response) => {
                        if facts.details == "-" {
                            facts.flag = "UC";
                            facts.details =
                                Cow::Borrowed("upstream_reset_after_response_started{connection_termination}");
                        }
                    }
                    _ => {
                        facts.flag = "DC";
                        facts.details = Cow::Borrowed("downstream_remote_disconnect");
                    }
                }
            } else if facts.details == "-" {
                facts.details = Cow::Borrowed("via_upstream");
            }
        }
        let cells = self.connection.cells();
        cells.requests_active.dec();
        self.connection.end();
        let mut facts = self.facts.borrow_mut();
        cells.bytes_received.add(facts.bytes_received);
        cells.bytes_sent.add(facts.bytes_sent);
        worker.metrics.request(self.series(&facts), facts.upstream_time);
        let copy = facts.copy.take();
        let aborted = if facts.response_complete { None } else { Some(facts.failed.unwrap_or(Side::Request)) };
        drop(facts);
        access_log::request(self);
        if let Some(copy) = copy {
            copy.offer(self, aborted);
        }
    }
}
