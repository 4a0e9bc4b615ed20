//! One JSON line on stderr for everything that was refused, whatever the access log's format: what, why, by which rule, whom.
//!
//! Fields: `event` (`request_refused`, `handshake_refused`, `connection_refused`, `stream_revoked`), `reason` (a fixed word),
//! `rule` (the rule's name or `no rule`), `peer` (the proved SPIFFE ID, or null), `detail` (a sentence).

use super::{clock, line::document};
use crate::{
    connection::Connection,
    http::{Asked, Exchange, Failure},
    opaque::Outcome,
    tls::Refused,
    worker::Worker,
};
use identity::SpiffeId;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::SystemTime};

const NO_RULE: &str = "no rule";

/// A request was refused.
pub(crate) fn request(exchange: &Exchange, failure: &Failure) {
    let facts = exchange.facts.borrow();
    let judged = facts.judged.as_ref();
    let asked = &exchange.asked;
    let mut detail = format!("{} {}: {}", asked.method(), path(asked), facts.details);
    if let Some(hint) = judged.and_then(|judged| judged.hint) {
        detail.push_str("; ");
        detail.push_str(hint);
    }
    let line = json!({
        "event": "request_refused",
        "time": clock::text(SystemTime::now()),
        "direction": exchange.connection.direction().as_str(),
        "reason": failure.reason(),
        // The rule that allowed it when it began is not the one that refuses it now.
        "rule": match failure {
            Failure::Revoked => NO_RULE,
            _ => judged.and_then(|judged| judged.rule.as_deref()).unwrap_or(NO_RULE),
        },
        // Where the callee did not prove who it is, the expected identity must not stand for it.
        "peer": if matches!(failure, Failure::Tls(_)) { None } else { peer(&exchange.connection, judged) },
        "detail": detail,
        "code": facts.details,
        "authority": asked.authority(),
        "remote": exchange.connection.remote.to_string(),
        "original_dst": exchange.connection.original_dst.map(|address| address.to_string()),
        "request_id": exchange.request_id().map(request_id),
        "decision": format!("{:x}-{:x}", exchange.connection.id, exchange.number),
        "generation": exchange.live.generation,
    });
    emit(&exchange.connection.worker, exchange.connection.is_inbound(), failure.reason(), &line);
}

/// An open stream was ended because rules that came later forbid it.
pub(crate) fn revoked(exchange: &Exchange) {
    let facts = exchange.facts.borrow();
    let line = json!({
        "event": "stream_revoked",
        "time": clock::text(SystemTime::now()),
        "direction": exchange.connection.direction().as_str(),
        "reason": "revoked_by_policy",
        "rule": NO_RULE,
        "peer": peer(&exchange.connection, facts.judged.as_ref()),
        "detail": format!("{} {}: allowed when it began, not by the rules now in force", exchange.asked.method(), path(&exchange.asked)),
        "remote": exchange.connection.remote.to_string(),
    });
    emit(&exchange.connection.worker, exchange.connection.is_inbound(), "revoked_by_policy", &line);
}

/// A TLS handshake was refused.
pub(crate) fn handshake(
    worker: &Worker,
    inbound: bool,
    remote: SocketAddr,
    original_dst: Option<SocketAddr>,
    refused: &Refused,
) {
    let line = json!({
        "event": "handshake_refused",
        "time": clock::text(SystemTime::now()),
        "direction": if inbound { "inbound" } else { "outbound" },
        "reason": refused.reason(),
        "rule": NO_RULE,
        "peer": Value::Null,
        "detail": refused.detail(),
        "remote": remote.to_string(),
        "original_dst": original_dst.map(|address| address.to_string()),
    });
    emit(worker, inbound, refused.reason(), &line);
}

/// A connection was refused before anything was read.
pub(crate) fn connection(
    worker: &Worker,
    inbound: bool,
    remote: SocketAddr,
    original_dst: Option<SocketAddr>,
    reason: &'static str,
    detail: &str,
) {
    let line = json!({
        "event": "connection_refused",
        "time": clock::text(SystemTime::now()),
        "direction": if inbound { "inbound" } else { "outbound" },
        "reason": reason,
        "rule": NO_RULE,
        "peer": Value::Null,
        "detail": detail,
        "remote": remote.to_string(),
        "original_dst": original_dst.map(|address| address.to_string()),
    });
    emit(worker, inbound, reason, &line);
}

/// A connection was refused because its caller holds its share of them already.
pub(crate) fn over_share(worker: &Worker, remote: SocketAddr, original_dst: Option<SocketAddr>, peer: &SpiffeId) {
    const REASON: &str = "max_connections_per_identity";
    let line = json!({
        "event": "connection_refused",
        "time": clock::text(SystemTime::now()),
        "direction": "inbound",
        "reason": REASON,
        "rule": NO_RULE,
        "peer": peer.as_str(),
        "detail": "the bound on connections of one identity is reached",
        "remote": remote.to_string(),
        "original_dst": original_dst.map(|address| address.to_string()),
    });
    emit(worker, true, REASON, &line);
}

/// A request could not even be read.
pub(crate) fn unread(connection: &Connection, status: u16, details: &'static str) {
    let line = json!({
        "event": "request_refused",
        "time": clock::text(SystemTime::now()),
        "direction": connection.direction().as_str(),
        "reason": "unreadable",
        "rule": NO_RULE,
        "peer": peer(connection, None),
        "detail": format!("the request head could not be read: {status} {details}"),
        "code": details,
        "remote": connection.remote.to_string(),
        "original_dst": connection.original_dst.map(|address| address.to_string()),
    });
    emit(&connection.worker, connection.is_inbound(), "unreadable", &line);
}

/// An opaque connection was refused.
pub(crate) fn opaque(connection: &Connection, outcome: &Outcome) {
    let judged = outcome.judged.as_ref();
    let reason = if outcome.details == "revoked_by_policy" {
        "revoked_by_policy"
    } else if outcome.flag.starts_with("UF") {
        "upstream_tls"
    } else {
        "rbac_access_denied"
    };
    let line = json!({
        "event": "connection_refused",
        "time": clock::text(SystemTime::now()),
        "direction": connection.direction().as_str(),
        "reason": reason,
        "rule": judged.and_then(|judged| judged.rule.as_deref()).unwrap_or(NO_RULE),
        "peer": if reason == "upstream_tls" { None } else { peer(connection, judged) },
        "detail": format!("opaque connection to port {}: {}", connection.rule_port(), outcome.details),
        "code": outcome.details,
        "remote": connection.remote.to_string(),
        "original_dst": connection.original_dst.map(|address| address.to_string()),
    });
    emit(&connection.worker, connection.is_inbound(), reason, &line);
}

/// The caller's name for the request, which may be anything.
fn request_id(id: &[u8]) -> String {
    String::from_utf8_lossy(&tap::field_without_credentials(id)).into_owned()
}

/// The path as it may be written down.
fn path(asked: &Asked) -> String {
    String::from_utf8_lossy(&tap::without_secrets(asked.path_bytes())).into_owned()
}

fn peer(connection: &Connection, judged: Option<&crate::guard::Judged>) -> Option<String> {
    judged
        .and_then(|judged| judged.question.party.peer())
        .or_else(|| connection.peer.as_ref().map(|peer| peer.id()))
        .map(|id| id.as_str().to_owned())
}

fn emit(worker: &Worker, inbound: bool, reason: &'static str, line: &Value) {
    worker.metrics.refused(inbound, reason);
    let text = line.to_string();
    worker.refusals.append(|out| document(out, &text));
}
