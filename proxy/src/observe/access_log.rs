//! One line per request, and per connection that never became one.
//!
//! Two formats: Envoy's default text, byte for byte in form, and versioned JSON, which adds what Envoy does not know: both
//! SPIFFE IDs, the rule, the verdict, and what `enforce` would have said. Values a peer chose are escaped: a line is a line.
//! What is the same for all requests of a connection is written once and copied.

use super::{
    clock,
    line::{Fields, before_now, quoted},
};
use crate::{
    connection::Connection, decimal::Decimal, guard::Judged, http::Exchange, live::Live, observe::metrics::Verdict,
    opaque::Outcome,
};
use config::{AccessSink, LogFormat};
use http::Version;
use std::{
    borrow::Cow,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

/// The line of a finished exchange.
pub(crate) fn request(exchange: &Exchange) {
    let log = &exchange.live.snapshot.log;
    if log.access == AccessSink::Off {
        return;
    }
    let facts = exchange.facts.borrow();
    let duration = exchange.started.elapsed();
    let asked = &exchange.asked;
    let service_time = facts.upstream_time.map(millis);
    let (forwarded_for, user_agent) = (asked.forwarded_for(), asked.user_agent());
    let (request_id, authority) = (exchange.request_id(), asked.authority());
    let upstream = match (&facts.callee, facts.upstream_address) {
        (Some(made), _) => Some(Cow::Borrowed(&*made.address)),
        (None, address) => address.map(|address| Cow::Owned(address.to_string())),
    };
    let mut line = Vec::with_capacity(1024);
    match log.format {
        LogFormat::Envoy => envoy(
            &mut line,
            &EnvoyLine {
                start: before_now(duration),
                method: Some(asked.method()),
                path: Some(asked.path()),
                protocol: Some(protocol(asked.version)),
                status: facts.status,
                flags: facts.flag,
                received: facts.bytes_received,
                sent: facts.bytes_sent,
                duration_ms: millis(duration),
                service_time,
                forwarded_for: forwarded_for.as_deref(),
                user_agent: user_agent.as_deref(),
                request_id: request_id.as_deref(),
                authority: authority.as_deref(),
                upstream: upstream.as_deref(),
            },
        ),
        LogFormat::Json => {
            let mut fields = begin(&mut line, &exchange.connection, &exchange.live, duration);
            fields.text(r#","method":"#, Some(asked.method()));
            fields.text(r#","path":"#, Some(asked.path()));
            fields.text(r#","protocol":"#, Some(protocol(asked.version)));
            fields.truth(r#","grpc":"#, asked.grpc);
            fields.number(r#","response_code":"#, Some(facts.status.into()));
            fields.text(r#","response_flags":"#, Some(facts.flag));
            fields.text(r#","response_code_details":"#, Some(&facts.details));
            fields.number(r#","bytes_received":"#, Some(facts.bytes_received));
            fields.number(r#","bytes_sent":"#, Some(facts.bytes_sent));
            fields.number(r#","upstream_service_time":"#, service_time);
            fields.text(r#","x_forwarded_for":"#, forwarded_for.as_deref());
            fields.text(r#","user_agent":"#, user_agent.as_deref());
            fields.text(r#","request_id":"#, request_id.as_deref());
            fields.text(r#","authority":"#, authority.as_deref());
            fields.text(r#","upstream_host":"#, upstream.as_deref());
            fields.text(r#","upstream_cluster":"#, facts.upstream.as_ref().map(|route| &*route.name));
            verdict(&mut fields, &exchange.connection, facts.judged.as_ref(), &exchange.live);
        }
    }
    line.push(b'\n');
    exchange.connection.worker.access.write(&line);
}

/// The line of an opaque connection.
pub(crate) fn opaque(connection: &Connection, outcome: &Outcome) {
    let live = connection.worker.live();
    let log = &live.snapshot.log;
    if log.access == AccessSink::Off {
        return;
    }
    let duration = connection.started.elapsed();
    let upstream = outcome.upstream_address.map(|address| address.to_string());
    let mut line = Vec::with_capacity(512);
    match log.format {
        LogFormat::Envoy => envoy(
            &mut line,
            &EnvoyLine {
                flags: outcome.flag,
                received: outcome.passed.up,
                sent: outcome.passed.down,
                duration_ms: millis(duration),
                upstream: upstream.as_deref(),
                ..EnvoyLine::at(before_now(duration))
            },
        ),
        LogFormat::Json => {
            let mut fields = begin(&mut line, connection, &live, duration);
            fields.text(r#","protocol":"#, Some("tcp"));
            fields.number(r#","response_code":"#, Some(0));
            fields.text(r#","response_flags":"#, Some(outcome.flag));
            fields.text(r#","connection_termination_details":"#, Some(&outcome.details));
            fields.number(r#","bytes_received":"#, Some(outcome.passed.up));
            fields.number(r#","bytes_sent":"#, Some(outcome.passed.down));
            fields.text(r#","upstream_host":"#, upstream.as_deref());
            fields.text(r#","upstream_cluster":"#, outcome.upstream.as_ref().map(|route| &*route.name));
            verdict(&mut fields, connection, outcome.judged.as_ref(), &live);
        }
    }
    line.push(b'\n');
    connection.worker.access.write(&line);
}

/// The line of a request whose head could not be read: there is no exchange yet.
pub(crate) fn unread(connection: &Connection, status: u16, flag: &'static str, details: &'static str) {
    if status != 0 {
        super::refusal::unread(connection, status, details);
    }
    let live = connection.worker.live();
    let log = &live.snapshot.log;
    if log.access == AccessSink::Off {
        return;
    }
    let mut line = Vec::with_capacity(512);
    match log.format {
        LogFormat::Envoy => {
            envoy(&mut line, &EnvoyLine { status, flags: flag, ..EnvoyLine::at(before_now(Duration::ZERO)) });
        }
        LogFormat::Json => {
            let mut fields = begin(&mut line, connection, &live, Duration::ZERO);
            fields.number(r#","response_code":"#, Some(status.into()));
            fields.text(r#","response_flags":"#, Some(flag));
            fields.text(r#","response_code_details":"#, Some(details));
            verdict(&mut fields, connection, None, &live);
        }
    }
    line.push(b'\n');
    connection.worker.access.write(&line);
}

/// The other end left before it said what it wanted.
pub(crate) fn connection_lost(connection: &Connection) {
    unread(connection, 0, "DC", "downstream_remote_disconnect");
}

/// Begins a JSON line. `schema` is the version of its shape, raised when a field changes its meaning or goes away.
fn begin<'a>(line: &'a mut Vec<u8>, connection: &Connection, live: &Live, duration: Duration) -> Fields<'a> {
    let mut fields = Fields(line);
    fields.time(r#"{"schema":1,"start_time":"#, before_now(duration));
    fields.number(r#","duration":"#, Some(millis(duration)));
    connection.log_prefix(
        live,
        |prefix| of_connection(prefix, connection, live),
        |prefix| {
            fields.0.extend_from_slice(prefix);
        },
    );
    fields
}

/// What is the same for all lines of a connection under one generation of the rules.
fn of_connection(prefix: &mut Vec<u8>, connection: &Connection, live: &Live) {
    let address = |address: SocketAddr| Some(address.to_string());
    let mut fields = Fields(prefix);
    fields.text(r#","direction":"#, Some(connection.direction().as_str()));
    fields.text(r#","workload":"#, Some(live.snapshot.workload.as_str()));
    fields.text(r#","downstream_remote_address":"#, address(connection.remote).as_deref());
    fields.text(r#","downstream_local_address":"#, address(connection.local).as_deref());
    fields.text(r#","original_dst":"#, connection.original_dst.and_then(address).as_deref());
    fields.text(r#","tls_version":"#, connection.tls.as_ref().map(|tls| tls.version));
    fields.text(r#","tls_cipher":"#, connection.tls.as_ref().map(|tls| tls.cipher));
    fields.number(r#","connection_id":"#, Some(connection.id));
    fields.number(r#","policy_generation":"#, Some(live.generation));
    fields.text(r#","policy_digest":"#, Some(&live.snapshot.digest));
}

/// Who, and what the rules said; the end of the line.
fn verdict(fields: &mut Fields<'_>, connection: &Connection, judged: Option<&Judged>, live: &Live) {
    let own = Some(live.snapshot.workload.as_str());
    let other = match judged {
        Some(judged) => judged.question.party.peer().map(|id| id.as_str()),
        None => connection.peer.as_ref().map(|peer| peer.id().as_str()),
    };
    let (source, destination) = if connection.is_inbound() { (other, own) } else { (own, other) };
    fields.text(r#","source_principal":"#, source);
    fields.text(r#","destination_principal":"#, destination);
    fields.text(r#","rule":"#, judged.and_then(|judged| judged.rule.as_deref()));
    fields.text(r#","verdict":"#, Some(judged.map_or(Verdict::None, |judged| judged.verdict).as_str()));
    fields.text(r#","would_be_verdict":"#, Some(judged.map_or(Verdict::None, |judged| judged.would).as_str()));
    fields.0.push(b'}');
}

struct EnvoyLine<'a> {
    start: SystemTime,
    method: Option<&'a str>,
    path: Option<&'a str>,
    protocol: Option<&'a str>,
    status: u16,
    flags: &'a str,
    received: u64,
    sent: u64,
    duration_ms: u64,
    service_time: Option<u64>,
    forwarded_for: Option<&'a str>,
    user_agent: Option<&'a str>,
    request_id: Option<&'a str>,
    authority: Option<&'a str>,
    upstream: Option<&'a str>,
}

impl EnvoyLine<'_> {
    fn at(start: SystemTime) -> Self {
        Self {
            start,
            method: None,
            path: None,
            protocol: None,
            status: 0,
            flags: "-",
            received: 0,
            sent: 0,
            duration_ms: 0,
            service_time: None,
            forwarded_for: None,
            user_agent: None,
            request_id: None,
            authority: None,
            upstream: None,
        }
    }
}

/// Envoy's default format string.
fn envoy(line: &mut Vec<u8>, fields: &EnvoyLine<'_>) {
    let text = |line: &mut Vec<u8>, before: &str, value: Option<&str>| {
        line.extend_from_slice(before.as_bytes());
        quoted(line, value.unwrap_or("-"));
    };
    let number = |line: &mut Vec<u8>, value: u64| {
        line.push(b' ');
        line.extend_from_slice(&Decimal::of(value));
    };
    line.push(b'[');
    clock::write(line, fields.start);
    text(line, "] \"", fields.method);
    text(line, " ", fields.path);
    text(line, " ", fields.protocol);
    line.push(b'"');
    number(line, fields.status.into());
    line.push(b' ');
    line.extend_from_slice(fields.flags.as_bytes());
    number(line, fields.received);
    number(line, fields.sent);
    number(line, fields.duration_ms);
    match fields.service_time {
        Some(ms) => number(line, ms),
        None => line.extend_from_slice(b" -"),
    }
    text(line, " \"", fields.forwarded_for);
    for value in [fields.user_agent, fields.request_id, fields.authority, fields.upstream] {
        text(line, "\" \"", value);
    }
    line.push(b'"');
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn the_text_form_is_envoys() {
        let mut line = Vec::new();
        let fields = EnvoyLine {
            method: Some("GET"),
            path: Some("/retry"),
            protocol: Some("HTTP/1.1"),
            status: 503,
            flags: "URX",
            sent: 251,
            duration_ms: 72,
            service_time: Some(71),
            user_agent: Some("curl/7.88.1"),
            request_id: Some("c4b99a00"),
            authority: Some("127.0.0.1:21001"),
            upstream: Some("127.0.0.1:22000"),
            ..EnvoyLine::at(UNIX_EPOCH + Duration::from_millis(1_795_316_274_082))
        };
        envoy(&mut line, &fields);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "[2026-11-22T02:57:54.082Z] \"GET /retry HTTP/1.1\" 503 URX 0 251 72 71 \"-\" \"curl/7.88.1\" \"c4b99a00\" \
             \"127.0.0.1:21001\" \"127.0.0.1:22000\""
        );
    }
}
