//! The copy of one exchange for the taps, while it grows: selected and admitted at the head, offered at the end.
//!
//! Several taps share what is collected: one copy of each head, and of each body as much as the tap wants that wants most.
//! Each tap has its own place in its own queue, and gets its own part. A tap whose selectors look at the end of an exchange
//! holds a place without counting it; what would have dropped the exchange is kept too, and counts only if it was meant.

use super::{
    Asked,
    exchange::{Exchange, Side},
};
use crate::{
    connection::{Connection, Picked},
    guard::Judged,
    live::Live,
    observe::metrics::Verdict,
    tap_records::{Course, facts as facts_of},
    tap_selection::{Ending, Sampled, Selection},
    tap_streams::Streams,
    taps::Tapped,
    tunnel,
};
use config::{TapKind, TapVerdict};
use http::{Method, StatusCode, Version};
use policy::{Target, canonicalise};
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// The copy of one exchange, and the places reserved for it in the queues of the taps.
pub(super) struct TapCopy {
    entries: Vec<Entry>,
    /// Somebody still has a place.
    collecting: bool,
    request: tap::Message,
    response: Option<tap::Message>,
    /// Heads for the taps that mask something else than the first of them.
    others: Vec<Heads>,
    /// When the response's head was there.
    answered: Option<Instant>,
    /// The most that an entry wants of a body.
    most: usize,
    /// How the tunnel ended that followed the exchange.
    tunnel: Option<tunnel::End>,
    /// Where the packets of a connection that was switched lie, once they are on their way.
    place: Option<Arc<tap::Place>>,
}

/// The heads of both messages, as one way of masking leaves them.
struct Heads {
    request: tap::Message,
    response: Option<tap::Message>,
}

/// One tap's part.
struct Entry {
    /// Its place in the snapshot the exchange began under.
    tap: usize,
    body: usize,
    place: Place,
}

enum Place {
    /// Counted as matched.
    Taken(tap::Admission),
    /// The end will tell.
    Held(tap::Admission),
    /// The end will tell whether this counts.
    Lost(tap::Reason),
}

impl TapCopy {
    pub(super) fn admit(
        connection: &Connection,
        live: &Live,
        asked: &Asked,
        fields: &impl tap::Fields,
    ) -> Option<Box<Self>> {
        if live.taps.is_empty() {
            return None;
        }
        let picked = connection.picked(live);
        if picked.selected == 0 {
            return None;
        }
        let entries = entries(connection, live, asked, picked);
        if entries.is_empty() {
            return None;
        }
        connection.is_copied();
        let (path, authority) = (asked.path_text(), asked.authority_text());
        let method = Method::from_bytes(asked.method_bytes()).unwrap_or_default();
        let masked = |redaction| tap::Message::request(redaction, method.clone(), path, authority.as_deref(), fields);
        let mut redactions =
            entries.iter().filter_map(|entry| live.taps.get(entry.tap)).map(|tapped| tapped.tap.redaction());
        let first = redactions.next()?;
        let mut others: Vec<Heads> = Vec::new();
        for redaction in redactions.filter(|redaction| !Arc::ptr_eq(redaction, first)) {
            if !others.iter().any(|heads| Arc::ptr_eq(heads.request.redaction(), redaction)) {
                others.push(Heads { request: masked(redaction), response: None });
            }
        }
        let (request, response, answered) = (masked(first), None, None);
        let mut copy =
            Self { request, entries, collecting: true, response, others, answered, most: 0, tunnel: None, place: None };
        copy.look_again();
        Some(Box::new(copy))
    }

    /// The response head that goes down.
    pub(super) fn responding(&mut self, status: StatusCode, fields: &impl tap::Fields) {
        if self.collecting {
            self.response = Some(tap::Message::response(self.request.redaction(), status, fields));
            for heads in &mut self.others {
                heads.response = Some(tap::Message::response(heads.request.redaction(), status, fields));
            }
            self.answered = Some(Instant::now());
        }
    }

    pub(super) fn message(&mut self, side: Side) -> Option<&mut tap::Message> {
        match side {
            Side::Request => Some(&mut self.request),
            Side::Response => self.response.as_mut(),
        }
    }

    /// Copies what the taps may have of `data`; false when none of them has a place any more that will count, so that the
    /// whole copy is given up.
    pub(super) fn data(&mut self, side: Side, data: &[u8]) -> bool {
        let most = self.most;
        let Some(message) = self.message(side) else {
            return true;
        };
        message.body_len += u64::try_from(data.len()).unwrap_or(u64::MAX);
        let before = message.body.len();
        let taken = data.get(..most.saturating_sub(before).min(data.len())).unwrap_or_default();
        if taken.is_empty() {
            return true;
        }
        // Not doubled: the budget counts bytes, and there may be many that have to wait half full.
        if message.body.capacity() - before < taken.len() {
            message.body.reserve_exact(taken.len().max(message.body.capacity() / 4));
        }
        message.body.extend_from_slice(taken);
        let count = taken.len();
        let mut lost = false;
        self.entries.retain_mut(|entry| {
            let own = entry.body.saturating_sub(before).min(count);
            let (stays, still) = entry.grow(own);
            lost |= !still;
            stays
        });
        if lost {
            self.look_again();
        }
        !self.entries.is_empty()
    }

    /// What is worth collecting, now that somebody came or went.
    fn look_again(&mut self) {
        let living = self.entries.iter().filter(|entry| !matches!(entry.place, Place::Lost(_)));
        let most = living.map(|entry| entry.body).max();
        self.collecting = most.is_some();
        self.most = most.unwrap_or(0);
        if !self.collecting {
            (self.request.body, self.response) = (Vec::new(), None);
        }
        // Nobody's budget counts what only those wanted who have left.
        for message in [Some(&mut self.request), self.response.as_mut()].into_iter().flatten() {
            if message.body.len() > self.most {
                message.body.truncate(self.most);
                message.body.shrink_to_fit();
            }
        }
    }

    /// What followed the exchange, as bytes, is over.
    pub(super) fn tunnelled(&mut self, end: tunnel::End, passed: tunnel::Passed) {
        self.tunnel = Some(end);
        self.request.body_len = passed.up;
        if let Some(response) = &mut self.response {
            response.body_len = passed.down;
        }
    }

    /// All is over: each tap gets its part, if it was meant for it.
    pub(super) fn offer(self: Box<Self>, exchange: &Exchange, aborted: Option<Side>) {
        let broke = match self.tunnel {
            None | Some(tunnel::End::Closed) => None,
            Some(tunnel::End::DownstreamBroke) => Some(Side::Request),
            Some(tunnel::End::UpstreamBroke | tunnel::End::Idle | tunnel::End::Revoked) => Some(Side::Response),
        };
        let place = self.place.clone();
        let mut story =
            Story { tunnelled: self.tunnel.is_some(), place, ..Story::of(exchange, aborted.or(broke), self.answered) };
        let Self { entries, mut request, mut response, others, .. } = *self;
        request.complete = story.request_complete;
        if let Some(response) = &mut response {
            response.complete = story.response_complete;
        }
        let mut meant = story.settle(exchange, entries);
        let frames = meant.iter_mut().find(|(tapped, ..)| tapped.kind == TapKind::Frames);
        if let Some((_, admission, _)) = frames
            && exchange.live.has_records()
        {
            story.place = Some(admission.place());
        }
        let last = meant.pop();
        for (tapped, admission, body) in meant {
            let (request, response) = (part(&request, body), response.as_ref().map(|message| part(message, body)));
            story.offer(exchange, tapped, admission, story.record(exchange, tapped, &others, request, response));
        }
        let Some((tapped, admission, body)) = last else { return };
        request.body.truncate(body);
        if let Some(response) = &mut response {
            response.body.truncate(body);
        }
        story.offer(exchange, tapped, admission, story.record(exchange, tapped, &others, request, response));
    }

    /// The exchange is over as far as it is HTTP: what takes packets gets it now, and a stream follows. The rest waits.
    pub(super) fn switch(mut self: Box<Self>, exchange: &Exchange) -> (Streams, Option<Box<Self>>) {
        let mut streams = Streams::default();
        let taps = &exchange.live.taps;
        let is_frames = |entry: &Entry| taps.get(entry.tap).is_some_and(|tapped| tapped.kind == TapKind::Frames);
        let (now, later) = std::mem::take(&mut self.entries).into_iter().partition(is_frames);
        self.entries = later;
        (self.request.complete, self.request.body_len) = (true, 0);
        if let Some(response) = &mut self.response {
            response.complete = true;
        }
        let story = Story::of(exchange, None, self.answered);
        for (tapped, mut admission, _) in story.settle(exchange, now) {
            if self.place.is_none() && exchange.live.has_records() {
                self.place = Some(admission.place());
            }
            let response = self.response.as_ref().map(tap::Message::without_body);
            let record = story.record(exchange, tapped, &self.others, self.request.without_body(), response);
            streams.open(tapped, admission, tap::Opening::Switched(Box::new(record)));
        }
        let waits = !self.entries.is_empty();
        (streams, waits.then_some(self))
    }
}

/// What there is to tell of an exchange, to every tap the same.
struct Story {
    judged: Option<Judged>,
    status: u16,
    /// The ends of the connection that carried it on.
    wire: (SocketAddr, SocketAddr),
    answered: Option<Instant>,
    ended: Instant,
    aborted: Option<Side>,
    request_complete: bool,
    response_complete: bool,
    /// What passed are the bytes of a tunnel.
    tunnelled: bool,
    /// Where the first copy of packets lies.
    place: Option<Arc<tap::Place>>,
}

impl Story {
    fn of(exchange: &Exchange, aborted: Option<Side>, answered: Option<Instant>) -> Self {
        let facts = exchange.facts.borrow();
        let carried = facts.callee.as_ref().and_then(|made| made.wire);
        Self {
            judged: facts.judged.clone(),
            status: facts.status,
            wire: carried.unwrap_or_else(|| exchange.connection.wire()),
            answered,
            ended: Instant::now(),
            aborted,
            request_complete: facts.request_complete,
            response_complete: facts.response_complete,
            tunnelled: false,
            place: None,
        }
    }

    /// Gives a tap what is of its kind.
    fn offer(&self, exchange: &Exchange, tapped: &Tapped, admission: tap::Admission, record: tap::Record) {
        if tapped.kind != TapKind::Records {
            return tapped.tap.offer(admission, record);
        }
        let facts = exchange.facts.borrow();
        let course = Course {
            judged: self.judged.as_ref(),
            flags: facts.flag,
            details: facts.details.clone(),
            wire: self.wire,
            callee: facts.callee.as_ref().and_then(|made| made.peer.as_ref()),
            callee_tls: facts.callee.as_ref().and_then(|made| made.tls),
            number: exchange.number,
            protocol: match exchange.asked.version {
                Version::HTTP_2 => "h2",
                Version::HTTP_10 => "http/1.0",
                _ => "http/1.1",
            },
            asked: Some(&exchange.asked),
            body: if self.tunnelled { tapped.stream } else { tapped.shown },
            place: self.place.clone(),
        };
        let facts = facts_of(&exchange.connection, &exchange.live, course);
        tapped.tap.offer_record(admission, record, facts);
    }

    /// A request without a judgement was refused before one.
    fn verdict(&self) -> Verdict {
        self.judged.as_ref().map_or(Verdict::Deny, |judged| judged.verdict)
    }

    /// Those whose tap it was meant for, with how much of each body.
    fn settle<'a>(&self, exchange: &'a Exchange, entries: Vec<Entry>) -> Vec<(&'a Tapped, tap::Admission, usize)> {
        let judged = self.judged.as_ref();
        let ending = Ending {
            direction: exchange.connection.direction(),
            callee: judged.and_then(|judged| judged.question.party.peer()),
            rule: judged.and_then(|judged| judged.rule.as_deref()),
            verdict: selectable(self.verdict()),
            status: Some(self.status),
            wire: self.wire,
        };
        let settle = |entry: Entry| {
            let tapped = exchange.live.taps.get(entry.tap)?;
            entry.settle(tapped, &ending).map(|(admission, body)| (tapped, admission, body))
        };
        entries.into_iter().filter_map(settle).collect()
    }

    fn record(
        &self,
        exchange: &Exchange,
        tapped: &Tapped,
        others: &[Heads],
        mut request: tap::Message,
        mut response: Option<tap::Message>,
    ) -> tap::Record {
        let wanted = tapped.tap.redaction();
        if let Some(heads) = others.iter().find(|heads| Arc::ptr_eq(heads.request.redaction(), wanted)) {
            request = request.headed_as(&heads.request);
            // One without the other never left: the response came after the copy was given up.
            response = response.and_then(|response| Some(response.headed_as(heads.response.as_ref()?)));
        }
        let connection = &exchange.connection;
        tap::Record {
            connection: connection.id,
            client: connection.remote,
            server: tapped.server(connection, &exchange.live),
            http2: exchange.asked.version == Version::HTTP_2,
            request,
            response,
            started: exchange.started,
            answered: self.answered,
            ended: self.ended,
            aborted: self.aborted.map(|side| match side {
                Side::Request => tap::Side::Client,
                Side::Response => tap::Side::Server,
            }),
            verdict: told(self.verdict()),
            rule: self.judged.as_ref().and_then(|judged| judged.rule.clone()),
            last: false,
        }
    }
}

/// Asks every tap that the connection is for; one that has nothing to do with this request costs a few comparisons.
fn entries(connection: &Connection, live: &Live, asked: &Asked, picked: Picked) -> Vec<Entry> {
    let direction = connection.direction();
    let mut target = None;
    // Nearly always there is one.
    let mut entries = Vec::new();
    for (at, tapped) in live.taps.iter().enumerate() {
        let bit = 1 << at;
        if picked.selected & bit == 0 || !reads(&tapped.selection, live, asked, &mut target) {
            continue;
        }
        let sampled_out = picked.sampled_out & bit != 0;
        let place = if tapped.selection.is_late(direction, connection.callee(live)) {
            match if sampled_out { Err(tap::Reason::SampledOut) } else { tapped.tap.hold() } {
                Ok(admission) => Place::Held(admission),
                Err(reason) => Place::Lost(reason),
            }
        } else if sampled_out {
            tapped.tap.refuse(tap::Reason::SampledOut);
            continue;
        } else {
            match tapped.tap.admit() {
                Some(admission) => Place::Taken(admission),
                None => continue,
            }
        };
        if entries.is_empty() {
            entries.reserve_exact(1);
        }
        entries.push(Entry { tap: at, body: tapped.body, place });
    }
    entries
}

/// Whether a tap selects this request by its head. The canonical reading is made for the first tap that wants it.
fn reads<'a>(selection: &Selection, live: &Live, asked: &'a Asked, target: &mut Option<Option<Target<'a>>>) -> bool {
    if !selection.reads_requests() {
        return true;
    }
    if !selection.may_be(asked.method()) {
        return false;
    }
    let target = target.get_or_insert_with(|| {
        asked.raw().ok().and_then(|raw| canonicalise(live.snapshot.rules.path_options(), &raw).ok())
    });
    selection.of_request(target.as_ref())
}

impl Entry {
    /// Room for so many bytes more. Says whether the entry stays, and whether it still has a place.
    fn grow(&mut self, bytes: usize) -> (bool, bool) {
        match &mut self.place {
            _ if bytes == 0 => (true, true),
            Place::Taken(admission) => {
                let granted = admission.reserve(bytes);
                (granted, granted)
            }
            Place::Held(admission) => {
                let granted = admission.reserve(bytes);
                if !granted {
                    self.place = Place::Lost(tap::Reason::HoldOverflow);
                }
                (true, granted)
            }
            Place::Lost(_) => (true, true),
        }
    }

    /// Whether the end makes this tap's of it, and if so, the place and how much of the bodies.
    fn settle(self, tapped: &Tapped, ending: &Ending<'_>) -> Option<(tap::Admission, usize)> {
        let meant = || tapped.selection.of_end(ending);
        let outside = || tapped.selection.sampled(ending.wire) == Sampled::Out;
        match self.place {
            Place::Taken(admission) => Some((admission, self.body)),
            Place::Held(admission) if !meant() => {
                admission.forget();
                None
            }
            Place::Held(admission) if outside() => {
                admission.refuse(tap::Reason::SampledOut);
                None
            }
            Place::Held(admission) => Some((admission, self.body)),
            Place::Lost(reason) => {
                if meant() {
                    tapped.tap.refuse(reason);
                }
                None
            }
        }
    }
}

/// A message for a tap that is not the last to get it.
fn part(message: &tap::Message, body: usize) -> tap::Message {
    let mut copy = message.without_body();
    copy.body.extend_from_slice(message.body.get(..body.min(message.body.len())).unwrap_or_default());
    copy
}

/// A verdict as taps select it.
pub(crate) fn selectable(verdict: Verdict) -> TapVerdict {
    match verdict {
        Verdict::Allow => TapVerdict::Allow,
        Verdict::WouldDeny => TapVerdict::ShadowDeny,
        Verdict::Deny | Verdict::None => TapVerdict::Deny,
    }
}

pub(crate) fn told(verdict: Verdict) -> tap::Verdict {
    match verdict {
        Verdict::Allow => tap::Verdict::Allowed,
        Verdict::WouldDeny => tap::Verdict::WouldDeny,
        Verdict::Deny | Verdict::None => tap::Verdict::Denied,
    }
}
