//! One line per request, and per connection that never became one.
//!
//! Two formats: Envoy's default text, byte for byte in form, and versioned JSON, which adds what Envoy does not know: both
//! SPIFFE IDs, the rule, the verdict, and what `enforce` would have said. Values a peer chose are escaped: a line is a line.
//! Secret parameters and recognised credentials in a path are masked, as they are for the taps. What is the same for all requests of a connection is written once and copied.

use super::{
    clock::{Clock, before_now},
    line::{Fields, quoted},
};
use crate::{
    connection::Connection,
    decimal,
    guard::Judged,
    http::{Asked, Exchange},
    live::Live,
    observe::metrics::Verdict,
    opaque::Outcome,
    tap_records,
};
use config::{AccessSink, LogFormat};
use http::Version;
use identity::SpiffeId;
use std::{borrow::Cow, cell::RefCell, net::SocketAddr, sync::Arc, time::Duration};

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
    let upstream = facts.callee.as_ref().map(|made| &*made.address);
    let worker = &exchange.connection.worker;
    worker.access.append(|line| match log.format {
        LogFormat::Envoy => envoy(
            line,
            &worker.clock,
            &EnvoyLine {
                start: before_now(duration),
                method: Some(asked.method_bytes()),
                path: Some(asked.path_bytes()),
                protocol: protocol(asked.version),
                status: facts.status,
                flags: facts.flag,
                received: facts.bytes_received,
                sent: facts.bytes_sent,
                duration_ms: millis(duration),
                service_time,
                forwarded_for: asked.forwarded_for(),
                user_agent: asked.user_agent(),
                request_id: exchange.request_id(),
                authority: asked.host(),
                upstream,
            },
        ),
        LogFormat::Json => {
            let mut fields = begin(line, &exchange.connection, &exchange.live, duration);
            let method = asked.method_bytes();
            if is_common(method) {
                fields.plain(r#","method":"#, method);
            } else {
                fields.text(r#","method":"#, Some(method));
            }
            let path = asked.path_bytes();
            if tap::is_plain(path) {
                fields.plain(r#","path":"#, path);
            } else {
                fields.text(r#","path":"#, Some(&tap::without_secrets(path)));
            }
            match &facts.details {
                Cow::Borrowed(details) => {
                    worker.answered.write(&mut fields, Key::of(asked, facts.status, facts.flag, details))
                }
                Cow::Owned(made) => {
                    Key::of(asked, facts.status, facts.flag, "").write(&mut fields);
                    fields.text(r#","response_code_details":"#, Some(made.as_bytes()));
                }
            }
            fields.number(r#","bytes_received":"#, Some(facts.bytes_received));
            fields.number(r#","bytes_sent":"#, Some(facts.bytes_sent));
            fields.number(r#","upstream_service_time":"#, service_time);
            said(&mut fields, r#","x_forwarded_for":"#, asked.forwarded_for());
            said(&mut fields, r#","user_agent":"#, asked.user_agent());
            said(&mut fields, r#","request_id":"#, exchange.request_id());
            fields.text(r#","authority":"#, asked.host());
            match upstream {
                Some(address) => fields.word(r#","upstream_host":"#, address),
                None => fields.text(r#","upstream_host":"#, None),
            }
            let cluster = facts.upstream.as_ref().map(|route| &route.name);
            end(&mut fields, &exchange.connection, cluster, facts.judged.as_ref(), &exchange.live);
        }
    });
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
    connection.worker.access.append(|line| match log.format {
        LogFormat::Envoy => envoy(
            line,
            &connection.worker.clock,
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
            let mut fields = begin(line, connection, &live, duration);
            fields.word(r#","protocol":"#, "tcp");
            fields.number(r#","response_code":"#, Some(0));
            fields.word(r#","response_flags":"#, outcome.flag);
            fields.text(r#","connection_termination_details":"#, Some(outcome.details.as_bytes()));
            fields.number(r#","bytes_received":"#, Some(outcome.passed.up));
            fields.number(r#","bytes_sent":"#, Some(outcome.passed.down));
            fields.text(r#","upstream_host":"#, upstream.as_deref().map(str::as_bytes));
            cluster(&mut fields, outcome.upstream.as_ref().map(|route| &route.name));
            verdict(&mut fields, connection, outcome.judged.as_ref(), &live);
        }
    });
}

/// The line of a request whose head could not be read: there is no exchange yet. The answer has this status.
pub(crate) fn unread(connection: &Connection, status: u16, flag: &'static str, details: &'static str) {
    super::refusal::unread(connection, status, details);
    tap_records::unread(connection, status, tap_records::Answered::Yes, flag, details);
    unread_line(connection, status, flag, details);
}

/// The same where the connection was closed without an answer; `status` is only told.
pub(crate) fn unanswered(connection: &Connection, status: u16, flag: &'static str, details: &'static str) {
    super::refusal::unread(connection, status, details);
    tap_records::unread(connection, status, tap_records::Answered::No, flag, details);
    unread_line(connection, status, flag, details);
}

fn unread_line(connection: &Connection, status: u16, flag: &'static str, details: &'static str) {
    let live = connection.worker.live();
    let log = &live.snapshot.log;
    if log.access == AccessSink::Off {
        return;
    }
    connection.worker.access.append(|line| match log.format {
        LogFormat::Envoy => {
            let fields = EnvoyLine { status, flags: flag, ..EnvoyLine::at(before_now(Duration::ZERO)) };
            envoy(line, &connection.worker.clock, &fields);
        }
        LogFormat::Json => {
            let mut fields = begin(line, connection, &live, Duration::ZERO);
            fields.number(r#","response_code":"#, Some(status.into()));
            fields.word(r#","response_flags":"#, flag);
            fields.word(r#","response_code_details":"#, details);
            verdict(&mut fields, connection, None, &live);
        }
    });
}

/// The other end left before it said what it wanted.
pub(crate) fn connection_lost(connection: &Connection) {
    unread_line(connection, 0, "DC", "downstream_remote_disconnect");
}

/// Begins a JSON line. `schema` is the version of its shape, raised when a field changes its meaning or goes away.
fn begin<'a>(line: &'a mut Vec<u8>, connection: &Connection, live: &Live, duration: Duration) -> Fields<'a> {
    let mut fields = Fields(line);
    fields.time(r#"{"schema":1,"start_time":"#, &connection.worker.clock, before_now(duration));
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
    let mut fields = Fields(prefix);
    let address = |address: SocketAddr| Some(address.to_string().into_bytes());
    fields.word(r#","direction":"#, connection.direction().as_str());
    fields.text(r#","workload":"#, Some(live.snapshot.workload.as_str().as_bytes()));
    fields.text(r#","downstream_remote_address":"#, address(connection.remote).as_deref());
    fields.text(r#","downstream_local_address":"#, address(connection.local).as_deref());
    fields.text(r#","original_dst":"#, connection.original_dst.and_then(address).as_deref());
    fields.text(r#","tls_version":"#, connection.tls.as_ref().map(|tls| tls.version.as_bytes()));
    fields.text(r#","tls_cipher":"#, connection.tls.as_ref().map(|tls| tls.cipher.as_bytes()));
    fields.number(r#","connection_id":"#, Some(connection.id));
    fields.number(r#","policy_generation":"#, Some(live.generation));
    fields.text(r#","policy_digest":"#, Some(live.snapshot.digest.as_bytes()));
}

/// How the line of a connection's last request ended, and what that was made of: the next one mostly ends likewise.
pub(crate) struct Ending {
    generation: u64,
    cluster: Arc<str>,
    peer: Option<SpiffeId>,
    rule: Option<Arc<str>>,
    verdicts: [Verdict; 2],
    text: Box<[u8]>,
}

impl Ending {
    fn is_of(&self, cluster: &Arc<str>, judged: &Judged, live: &Live) -> bool {
        self.generation == live.generation
            && Arc::ptr_eq(&self.cluster, cluster)
            && self.rule.as_ref().map(Arc::as_ptr) == judged.rule.as_ref().map(Arc::as_ptr)
            && self.verdicts == [judged.verdict, judged.would]
            && self.peer.as_ref() == judged.question.party.peer()
    }
}

/// Where it went, who, and what the rules said; the end of a request's line.
fn end(fields: &mut Fields<'_>, connection: &Connection, to: Option<&Arc<str>>, judged: Option<&Judged>, live: &Live) {
    let (Some(to), Some(judged)) = (to, judged) else {
        cluster(fields, to);
        return verdict(fields, connection, judged, live);
    };
    let mut last = connection.log_ending.borrow_mut();
    match &*last {
        Some(last) if last.is_of(to, judged, live) => fields.0.extend_from_slice(&last.text),
        _ => {
            let start = fields.0.len();
            cluster(fields, Some(to));
            verdict(fields, connection, Some(judged), live);
            *last = Some(Box::new(Ending {
                generation: live.generation,
                cluster: Arc::clone(to),
                peer: judged.question.party.peer().cloned(),
                rule: judged.rule.clone(),
                verdicts: [judged.verdict, judged.would],
                text: fields.0.get(start..).unwrap_or_default().into(),
            }));
        }
    }
}

/// What the last line of a worker said of its answer: most say the same.
#[derive(Default)]
pub(crate) struct Answered(RefCell<(Option<Key>, Vec<u8>)>);

/// From the protocol to the details, all of it words of ours and a number.
struct Key {
    protocol: &'static str,
    grpc: bool,
    status: u16,
    flag: &'static str,
    details: &'static str,
}

impl Answered {
    fn write(&self, fields: &mut Fields<'_>, key: Key) {
        let (last, text) = &mut *self.0.borrow_mut();
        if !last.as_ref().is_some_and(|last| last.is(&key)) {
            let mut made = Fields(text);
            made.0.clear();
            key.write(&mut made);
            made.word(r#","response_code_details":"#, key.details);
            *last = Some(key);
        }
        fields.0.extend_from_slice(text);
    }
}

impl Key {
    fn of(asked: &Asked, status: u16, flag: &'static str, details: &'static str) -> Self {
        Self { protocol: protocol(asked.version), grpc: asked.grpc, status, flag, details }
    }

    /// The same words stand in the same places of memory; where they do not, they are written anew.
    fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.protocol, other.protocol)
            && (self.grpc, self.status) == (other.grpc, other.status)
            && std::ptr::eq(self.flag, other.flag)
            && std::ptr::eq(self.details, other.details)
    }

    /// All but the details, which may be somebody else's words.
    fn write(&self, fields: &mut Fields<'_>) {
        fields.word(r#","protocol":"#, self.protocol);
        fields.truth(r#","grpc":"#, self.grpc);
        fields.number(r#","response_code":"#, Some(self.status.into()));
        fields.word(r#","response_flags":"#, self.flag);
    }
}

fn cluster(fields: &mut Fields<'_>, name: Option<&Arc<str>>) {
    fields.text(r#","upstream_cluster":"#, name.map(|name| name.as_bytes()));
}

/// Who, and what the rules said; the end of the line.
fn verdict(fields: &mut Fields<'_>, connection: &Connection, judged: Option<&Judged>, live: &Live) {
    let own = Some(live.snapshot.workload.as_str().as_bytes());
    let other = match judged {
        Some(judged) => judged.question.party.peer(),
        None => connection.peer.as_ref().map(|peer| peer.id()),
    };
    let other = other.map(|id| id.as_str().as_bytes());
    let (source, destination) = if connection.is_inbound() { (other, own) } else { (own, other) };
    fields.text(r#","source_principal":"#, source);
    fields.text(r#","destination_principal":"#, destination);
    fields.text(r#","rule":"#, judged.and_then(|judged| judged.rule.as_deref()).map(str::as_bytes));
    fields.word(r#","verdict":"#, judged.map_or(Verdict::None, |judged| judged.verdict).as_str());
    fields.word(r#","would_be_verdict":"#, judged.map_or(Verdict::None, |judged| judged.would).as_str());
    fields.0.push(b'}');
}

struct EnvoyLine<'a> {
    /// Since 1970.
    start: Duration,
    method: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    protocol: &'static str,
    status: u16,
    flags: &'static str,
    received: u64,
    sent: u64,
    duration_ms: u64,
    service_time: Option<u64>,
    forwarded_for: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    request_id: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    /// An address, which needs no escape.
    upstream: Option<&'a str>,
}

impl EnvoyLine<'_> {
    fn at(start: Duration) -> Self {
        Self {
            start,
            method: None,
            path: None,
            protocol: "-",
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
fn envoy(line: &mut Vec<u8>, clock: &Clock, fields: &EnvoyLine<'_>) {
    let text = |line: &mut Vec<u8>, value: Option<&[u8]>| match value {
        Some(value) => quoted(line, value),
        None => line.push(b'-'),
    };
    line.push(b'[');
    clock.write(line, fields.start);
    line.extend_from_slice(b"] \"");
    match fields.method {
        Some(method) if is_common(method) => line.extend_from_slice(method),
        method => text(line, method),
    }
    line.push(b' ');
    match fields.path {
        Some(path) if tap::is_plain(path) => line.extend_from_slice(path),
        path => text(line, path.map(tap::without_secrets).as_deref()),
    }
    line.push(b' ');
    line.extend_from_slice(fields.protocol.as_bytes());
    line.extend_from_slice(b"\" ");
    decimal::write(line, fields.status.into());
    line.push(b' ');
    line.extend_from_slice(fields.flags.as_bytes());
    for number in [fields.received, fields.sent, fields.duration_ms] {
        line.push(b' ');
        decimal::write(line, number);
    }
    match fields.service_time {
        Some(ms) => {
            line.push(b' ');
            decimal::write(line, ms);
        }
        None => line.extend_from_slice(b" -"),
    }
    line.extend_from_slice(b" \"");
    for value in [fields.forwarded_for, fields.user_agent, fields.request_id] {
        match value {
            Some(value) if !value.is_empty() && tap::is_plain_field(value) => line.extend_from_slice(value),
            _ => text(line, shown(value).as_deref()),
        }
        line.extend_from_slice(b"\" \"");
    }
    text(line, fields.authority);
    line.extend_from_slice(b"\" \"");
    line.extend_from_slice(fields.upstream.unwrap_or("-").as_bytes());
    line.push(b'"');
}

/// What the caller said in a field.
#[inline(always)] // As what it calls: the name is known here.
fn said(fields: &mut Fields<'_>, name: &'static str, value: Option<&[u8]>) {
    match value {
        Some(value) if tap::is_plain_field(value) => fields.plain(name, value),
        _ => fields.text(name, shown(value).as_deref()),
    }
}

/// A caller may have written a credential into any field.
fn shown(value: Option<&[u8]>) -> Option<Cow<'_, [u8]>> {
    value.map(tap::field_without_credentials)
}

/// Whether it is one of the methods that nearly all requests have, in which nothing needs an escape.
fn is_common(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"PUT" | b"HEAD" | b"POST" | b"PATCH" | b"DELETE" | b"OPTIONS")
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn millis(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1000).saturating_add(time.subsec_millis().into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_envoys() {
        let mut line = Vec::new();
        let fields = EnvoyLine {
            method: Some(b"GET"),
            path: Some(b"/retry"),
            protocol: "HTTP/1.1",
            status: 503,
            flags: "URX",
            sent: 251,
            duration_ms: 72,
            service_time: Some(71),
            user_agent: Some(b"curl/7.88.1"),
            request_id: Some(b"c4b99a00"),
            authority: Some(b"127.0.0.1:21001"),
            upstream: Some("127.0.0.1:22000"),
            ..EnvoyLine::at(Duration::from_millis(1_795_316_274_082))
        };
        envoy(&mut line, &Clock::default(), &fields);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "[2026-11-22T02:57:54.082Z] \"GET /retry HTTP/1.1\" 503 URX 0 251 72 71 \"-\" \"curl/7.88.1\" \"c4b99a00\" \
             \"127.0.0.1:21001\" \"127.0.0.1:22000\""
        );
    }

    #[test]
    fn credentials_in_fields_are_not_written() {
        let jwt = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
        let mut line = Vec::new();
        let fields = EnvoyLine {
            user_agent: Some(jwt),
            request_id: Some(b"Bearer abcdefgh"),
            forwarded_for: Some(b"http://ann:hunter2@host"),
            ..EnvoyLine::at(Duration::ZERO)
        };
        envoy(&mut line, &Clock::default(), &fields);
        let line = String::from_utf8(line).unwrap();
        assert!(!line.contains("eyJ") && !line.contains("abcdefgh") && !line.contains("hunter2"), "{line}");
        assert!(line.contains("Bearer ********") && line.contains("http://ann:*******@host"), "{line}");
    }
}
