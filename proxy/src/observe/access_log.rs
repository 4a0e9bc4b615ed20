//! One line per request, and per connection that never became one.
//!
//! Two formats: Envoy's default text, byte for byte in form, and versioned JSON, which adds what Envoy does not know: both
//! SPIFFE IDs, the rule, the verdict, and what `enforce` would have said. Values a peer chose are escaped: a line is a line.

use super::clock;
use crate::{connection::Connection, http::Exchange, live::Live, observe::metrics::Verdict, opaque::Outcome};
use config::{AccessSink, LogFormat};
use http::Version;
use serde_json::{Map, Value, json};
use std::{borrow::Cow, io::Write, time::SystemTime};

/// Version of the JSON line's shape; raised when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// The line of a finished exchange.
pub(crate) fn request(exchange: &Exchange) {
    let log = &exchange.live.snapshot.log;
    if log.access == AccessSink::Off {
        return;
    }
    let facts = exchange.facts.borrow();
    let duration = exchange.started.elapsed();
    let start = SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH);
    let asked = &exchange.asked;
    let path = asked.path();
    let service_time = facts.upstream_time.map(|time| time.as_millis());
    let mut line = Vec::with_capacity(512);
    match log.format {
        LogFormat::Envoy => envoy(
            &mut line,
            &EnvoyLine {
                start,
                method: Some(asked.method()),
                path: Some(path),
                protocol: Some(protocol(asked.version)),
                status: facts.status,
                flags: facts.flag,
                received: facts.bytes_received,
                sent: facts.bytes_sent,
                duration_ms: duration.as_millis(),
                service_time,
                forwarded_for: asked.forwarded_for().map(Cow::into_owned),
                user_agent: asked.user_agent().map(Cow::into_owned),
                request_id: exchange.request_id().map(Cow::into_owned),
                authority: asked.authority().map(Cow::into_owned),
                upstream: facts.upstream_address.map(|address| address.to_string()),
            },
        ),
        LogFormat::Json => {
            let mut object = common(&exchange.connection, start, duration.as_millis());
            let judged = facts.judged.as_ref();
            object.insert("method".into(), asked.method().into());
            object.insert("path".into(), path.into());
            object.insert("protocol".into(), protocol(asked.version).into());
            object.insert("grpc".into(), asked.grpc.into());
            object.insert("response_code".into(), facts.status.into());
            object.insert("response_flags".into(), facts.flag.into());
            object.insert("response_code_details".into(), facts.details.as_ref().into());
            object.insert("bytes_received".into(), facts.bytes_received.into());
            object.insert("bytes_sent".into(), facts.bytes_sent.into());
            object.insert("upstream_service_time".into(), service_time.map(saturate).into());
            object.insert("x_forwarded_for".into(), asked.forwarded_for().map(Cow::into_owned).into());
            object.insert("user_agent".into(), asked.user_agent().map(Cow::into_owned).into());
            object.insert("request_id".into(), exchange.request_id().map(Cow::into_owned).into());
            object.insert("authority".into(), asked.authority().map(Cow::into_owned).into());
            object.insert("upstream_host".into(), facts.upstream_address.map(|address| address.to_string()).into());
            object
                .insert("upstream_cluster".into(), facts.upstream.as_ref().map(|route| route.name.to_string()).into());
            verdict(&mut object, &exchange.connection, judged, &exchange.live);
            let _ = serde_json::to_writer(&mut line, &Value::Object(object));
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
    let start = SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut line = Vec::with_capacity(256);
    match log.format {
        LogFormat::Envoy => envoy(
            &mut line,
            &EnvoyLine {
                flags: outcome.flag,
                received: outcome.passed.up,
                sent: outcome.passed.down,
                duration_ms: duration.as_millis(),
                upstream: outcome.upstream_address.map(|address| address.to_string()),
                ..EnvoyLine::at(start)
            },
        ),
        LogFormat::Json => {
            let mut object = common(connection, start, duration.as_millis());
            object.insert("protocol".into(), "tcp".into());
            object.insert("response_code".into(), 0.into());
            object.insert("response_flags".into(), outcome.flag.into());
            object.insert("connection_termination_details".into(), outcome.details.as_str().into());
            object.insert("bytes_received".into(), outcome.passed.up.into());
            object.insert("bytes_sent".into(), outcome.passed.down.into());
            object.insert("upstream_host".into(), outcome.upstream_address.map(|address| address.to_string()).into());
            object.insert(
                "upstream_cluster".into(),
                outcome.upstream.as_ref().map(|route| route.name.to_string()).into(),
            );
            verdict(&mut object, connection, outcome.judged.as_ref(), &live);
            let _ = serde_json::to_writer(&mut line, &Value::Object(object));
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
    let start = SystemTime::now();
    let mut line = Vec::with_capacity(256);
    match log.format {
        LogFormat::Envoy => envoy(&mut line, &EnvoyLine { status, flags: flag, ..EnvoyLine::at(start) }),
        LogFormat::Json => {
            let mut object = common(connection, start, 0);
            object.insert("response_code".into(), status.into());
            object.insert("response_flags".into(), flag.into());
            object.insert("response_code_details".into(), details.into());
            verdict(&mut object, connection, None, &live);
            let _ = serde_json::to_writer(&mut line, &Value::Object(object));
        }
    }
    line.push(b'\n');
    connection.worker.access.write(&line);
}

/// The other end left before it said what it wanted.
pub(crate) fn connection_lost(connection: &Connection) {
    unread(connection, 0, "DC", "downstream_remote_disconnect");
}

fn common(connection: &Connection, start: SystemTime, duration_ms: u128) -> Map<String, Value> {
    let live = connection.worker.live();
    let mut object = Map::new();
    object.insert("schema".into(), SCHEMA.into());
    object.insert("start_time".into(), clock::text(start).into());
    object.insert("duration".into(), saturate(duration_ms).into());
    object.insert("direction".into(), connection.direction().as_str().into());
    object.insert("workload".into(), live.snapshot.workload.as_str().into());
    object.insert("downstream_remote_address".into(), connection.remote.to_string().into());
    object.insert("downstream_local_address".into(), connection.local.to_string().into());
    object.insert("original_dst".into(), connection.original_dst.map(|address| address.to_string()).into());
    object.insert("tls_version".into(), connection.tls.as_ref().map(|tls| tls.version).into());
    object.insert("tls_cipher".into(), connection.tls.as_ref().map(|tls| tls.cipher).into());
    object.insert("connection_id".into(), connection.id.into());
    object
}

fn verdict(
    object: &mut Map<String, Value>,
    connection: &Connection,
    judged: Option<&crate::guard::Judged>,
    live: &Live,
) {
    let own = live.snapshot.workload.as_str();
    let other = match judged {
        Some(judged) => judged.question.peer.as_ref().map(|id| id.as_str().to_owned()),
        None => connection.peer.as_ref().map(|peer| peer.id().as_str().to_owned()),
    };
    let (source, destination) =
        if connection.is_inbound() { (other, Some(own.to_owned())) } else { (Some(own.to_owned()), other) };
    object.insert("source_principal".into(), source.into());
    object.insert("destination_principal".into(), destination.into());
    object.insert("rule".into(), judged.and_then(|judged| judged.rule.as_deref()).map(str::to_owned).into());
    object.insert("verdict".into(), judged.map_or(Verdict::None, |judged| judged.verdict).as_str().into());
    object.insert("would_be_verdict".into(), judged.map_or(Verdict::None, |judged| judged.would).as_str().into());
    object.insert("policy_generation".into(), live.generation.into());
    object.insert("policy_digest".into(), json!(live.snapshot.digest));
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
    duration_ms: u128,
    service_time: Option<u128>,
    forwarded_for: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
    authority: Option<String>,
    upstream: Option<String>,
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
    line.push(b'[');
    clock::write(line, fields.start);
    line.extend_from_slice(b"] \"");
    escape(line, fields.method);
    line.push(b' ');
    escape(line, fields.path);
    line.push(b' ');
    escape(line, fields.protocol);
    let _ = write!(
        line,
        "\" {} {} {} {} {} ",
        fields.status, fields.flags, fields.received, fields.sent, fields.duration_ms
    );
    match fields.service_time {
        Some(ms) => {
            let _ = write!(line, "{ms}");
        }
        None => line.push(b'-'),
    }
    for value in [&fields.forwarded_for, &fields.user_agent, &fields.request_id, &fields.authority, &fields.upstream] {
        line.extend_from_slice(b" \"");
        escape(line, value.as_deref());
        line.push(b'"');
    }
}

/// Quotes, backslashes and everything that is not printable ASCII are written as escapes, so that no value can end its field
/// or its line, nor move a terminal's cursor.
fn escape(line: &mut Vec<u8>, value: Option<&str>) {
    let Some(value) = value else {
        return line.push(b'-');
    };
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => line.push(byte),
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
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
            user_agent: Some("curl/7.88.1".into()),
            request_id: Some("c4b99a00".into()),
            authority: Some("127.0.0.1:21001".into()),
            upstream: Some("127.0.0.1:22000".into()),
            ..EnvoyLine::at(UNIX_EPOCH + Duration::from_millis(1_795_316_274_082))
        };
        envoy(&mut line, &fields);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "[2026-11-22T02:57:54.082Z] \"GET /retry HTTP/1.1\" 503 URX 0 251 72 71 \"-\" \"curl/7.88.1\" \"c4b99a00\" \
             \"127.0.0.1:21001\" \"127.0.0.1:22000\""
        );
    }

    #[test]
    fn no_value_can_end_its_line() {
        let mut line = Vec::new();
        escape(&mut line, Some("a\r\nb\"c\x1b[2J"));
        assert_eq!(line, br#"a\x0d\x0ab\"c\x1b[2J"#);
    }
}
