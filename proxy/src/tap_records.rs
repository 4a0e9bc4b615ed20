//! What a record of the tap tells of an exchange or a connection: the facts, gathered once it is over.

use crate::{
    connection::Connection,
    guard::Judged,
    http::{Asked, selectable, told},
    live::Live,
    observe::metrics::Verdict,
    opaque::Outcome,
    tap_selection::{Callee, Ending, Sampled},
    tls::{Negotiated, Peer},
};
use ::http::Response;
use config::TapKind;
use policy::canonicalise;
use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Instant};

/// How an exchange or a connection went.
pub(crate) struct Course<'a> {
    pub(crate) judged: Option<&'a Judged>,
    pub(crate) flags: &'static str,
    pub(crate) details: Cow<'static, str>,
    /// The ends of the connection between the two workloads.
    pub(crate) wire: (SocketAddr, SocketAddr),
    /// The callee, where it proved who it is.
    pub(crate) callee: Option<&'a Peer>,
    /// What was negotiated with it.
    pub(crate) callee_tls: Option<Negotiated>,
    /// Which exchange of its connection; 0 for the connection.
    pub(crate) number: u32,
    pub(crate) protocol: &'static str,
    pub(crate) asked: Option<&'a Asked>,
    /// Bytes of each body that a copy would show.
    pub(crate) body: u64,
    /// Where a tap of packets copies it to.
    pub(crate) place: Option<Arc<tap::Place>>,
}

/// The facts.
pub(crate) fn facts(connection: &Connection, live: &Live, course: Course<'_>) -> tap::Facts {
    let Course { judged, flags, details, wire, callee, callee_tls, number, protocol, asked, body, place } = course;
    let own = live.snapshot.workload.clone();
    let caller = connection.peer.as_ref();
    let other = match (connection.is_inbound(), judged) {
        (true, _) => caller.map(|peer| peer.id().clone()),
        (false, judged) => {
            callee.map(Peer::id).or_else(|| judged.and_then(|judged| judged.question.party.peer())).cloned()
        }
    };
    let (source, destination) = if connection.is_inbound() { (other, Some(own)) } else { (Some(own), other) };
    let peer = if connection.is_inbound() { caller } else { callee };
    let caller_tls =
        || connection.tls.as_ref().map(|facts| Negotiated { version: facts.version, cipher: facts.cipher });
    let negotiated = if connection.is_inbound() { caller_tls() } else { callee_tls };
    let tls = peer.map(|peer| tap::Tls {
        version: negotiated.map(|tls| tls.version),
        cipher: negotiated.map(|tls| tls.cipher),
        serial: Some(peer.svid().serial().into()),
    });
    tap::Facts {
        direction: connection.direction().as_str(),
        source,
        destination,
        decision: tap::Decision { connection: connection.id, exchange: number },
        template: asked.and_then(|asked| template(connection, live, judged?, asked)),
        flags,
        details,
        protocol,
        grpc: asked.is_some_and(|asked| asked.grpc),
        tls,
        wire,
        body,
        place,
    }
}

/// Which of the operations of the rule that decided this is, as the rule writes it.
fn template(connection: &Connection, live: &Live, judged: &Judged, asked: &Asked) -> Option<String> {
    let name = judged.rule.as_deref()?;
    let rules = &live.snapshot.rules;
    let rule = rules.rules(connection.direction()).iter().find(|rule| &*rule.name == name)?;
    let raw = asked.raw().ok()?;
    let target = canonicalise(rules.path_options(), &raw).ok()?;
    let call = rule.grpc.iter().filter(|_| asked.grpc).find(|pattern| pattern.matches(asked.path()));
    let request = || rule.requests.iter().find(|pattern| pattern.covers(&target, rules.path_options().case));
    call.map(ToString::to_string).or_else(|| request().map(ToString::to_string))
}

/// A connection that is not HTTP is over: every tap of records that it is meant for hears of it.
pub(crate) fn flow(connection: &Connection, outcome: &Outcome) {
    let aborted = match outcome.flag {
        "DC" => Some(tap::Side::Client),
        "-" if outcome.details == "-" => None,
        _ => Some(tap::Side::Server),
    };
    let course = || Course {
        judged: outcome.judged.as_ref(),
        flags: outcome.flag,
        details: Cow::Owned(outcome.details.clone()),
        wire: outcome.carried.unwrap_or_else(|| connection.wire()),
        callee: outcome.callee.as_ref(),
        callee_tls: outcome.callee_tls,
        number: 0,
        protocol: "tcp",
        asked: None,
        body: 0,
        place: outcome.place.clone(),
    };
    let bytes = (outcome.passed.up, outcome.passed.down);
    connection_told(connection, (TapKind::Records, Meant::Opaque), course, bytes, aborted, tap::Tap::offer_flow);
}

/// Whether an answer went down to what could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Yes,
    No,
}

/// A request could not even be read; the record has this status.
pub(crate) fn unread(
    connection: &Connection,
    status: u16,
    answered: Answered,
    flags: &'static str,
    details: &'static str,
) {
    let course = || unread_course(connection, flags, details);
    let offer = |tap: &tap::Tap, admission, flow| tap.offer_unread(admission, flow, status);
    let meant = if answered == Answered::Yes { Meant::Unread(Some(status)) } else { Meant::Unread(None) };
    connection_told(connection, (TapKind::Records, meant), course, (0, 0), None, offer);
}

/// The same for taps that copy packets: what came, and the answer it got.
pub(crate) fn unread_copied(connection: &Connection, raw: &[u8], response: &Response<Cow<'static, str>>) {
    let course = || unread_course(connection, "-", "-");
    let offer = |tap: &tap::Tap, admission, flow: tap::Flow| {
        let mut answer = tap::Message::response(tap.redaction(), response.status(), response.headers());
        answer.body = response.body().as_bytes().to_vec();
        answer.body_len = u64::try_from(answer.body.len()).unwrap_or(u64::MAX);
        answer.complete = true;
        let record = tap::Record {
            connection: connection.id,
            client: flow.client,
            server: flow.server,
            http2: false,
            request: tap::Message::unread(tap.redaction(), raw),
            response: Some(answer),
            started: flow.ended,
            answered: Some(flow.ended),
            ended: flow.ended,
            aborted: None,
            verdict: flow.verdict,
            rule: None,
            last: false,
        };
        tap.offer(admission, record);
    };
    let meant = Meant::Unread(Some(response.status().as_u16()));
    connection_told(connection, (TapKind::Frames, meant), course, (0, 0), None, offer);
}

/// Nothing is known of what could not be read.
fn unread_course(connection: &Connection, flags: &'static str, details: &'static str) -> Course<'static> {
    Course {
        judged: None,
        flags,
        details: Cow::Borrowed(details),
        wire: connection.wire(),
        callee: None,
        callee_tls: None,
        number: 0,
        protocol: "http/1.1",
        asked: None,
        body: 0,
        place: None,
    }
}

/// What is told of besides exchanges.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meant {
    /// A connection that is not HTTP.
    Opaque,
    /// A head that could not be read, and the status of the answer, if one was sent.
    Unread(Option<u16>),
}

fn connection_told<'a>(
    connection: &Connection,
    (kind, meant): (TapKind, Meant),
    course: impl Fn() -> Course<'a>,
    bytes: (u64, u64),
    aborted: Option<tap::Side>,
    offer: impl Fn(&tap::Tap, tap::Admission, tap::Flow),
) {
    let live = connection.worker.live();
    let picked = connection.picked(&live);
    if picked.selected == 0 {
        return;
    }
    let Course { judged, wire, .. } = course();
    let verdict = judged.map_or(Verdict::Deny, |judged| judged.verdict);
    let ending = Ending {
        direction: connection.direction(),
        callee: judged.and_then(|judged| judged.question.party.peer()).or(match connection.callee(&live) {
            Callee::Is(id) => id,
            Callee::Late => None,
        }),
        rule: judged.and_then(|judged| judged.rule.as_deref()),
        verdict: selectable(verdict),
        status: if let Meant::Unread(status) = meant { status } else { None },
        wire,
    };
    for (at, tapped) in live.taps.iter().enumerate().take(64) {
        let is_meant = picked.selected & 1 << at != 0
            && tapped.kind == kind
            && match meant {
                Meant::Opaque => tapped.selection.takes_opaque(),
                Meant::Unread(_) => !tapped.selection.reads_requests(),
            }
            && tapped.selection.of_end(&ending);
        if !is_meant {
            continue;
        }
        if tapped.selection.sampled(wire) == Sampled::Out {
            tapped.tap.refuse(tap::Reason::SampledOut);
            continue;
        }
        let Some(admission) = tapped.tap.admit() else { continue };
        let flow = tap::Flow {
            client: connection.remote,
            server: tapped.server(connection, &live),
            started: connection.started,
            ended: Instant::now(),
            verdict: told(verdict),
            rule: judged.and_then(|judged| judged.rule.clone()),
            bytes,
            aborted,
            facts: facts(connection, &live, course()),
        };
        offer(&tapped.tap, admission, flow);
    }
}
