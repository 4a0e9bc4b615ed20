//! One record as one line of JSON, schema `sekisho.tap/1`. The page that explains every field is `docs/tap-records.md`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::community;
use crate::counters::{Counters, Tally};
use crate::packet::Tuple;
use crate::record::text::Object;
use crate::record::{Side, Size, Told, What};

/// The version of the shape. Its number is raised when a field changes its meaning or goes away, not when one is added.
pub(crate) const SCHEMA: &str = "sekisho.tap/1";

/// What all records of a tap have in common.
pub(crate) struct Series {
    pub(crate) tap: String,
    pub(crate) workload: String,
    /// Tells the records of one run of the tap from those of another.
    pub(crate) run: String,
    /// Number of the last record.
    pub(crate) sequence: u64,
}

/// Instants as times of the clock, as it stands at the moment.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    now: Instant,
    since_1970: Duration,
}

impl Clock {
    pub(crate) fn now() -> Self {
        Self { now: Instant::now(), since_1970: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    pub(crate) fn since_1970(self) -> Duration {
        self.since_1970
    }

    fn at(self, instant: Instant) -> Duration {
        self.since_1970.saturating_sub(self.now.saturating_duration_since(instant))
    }
}

impl Series {
    /// The line of an exchange or of a flow, without its end, at most `most` bytes where that is possible.
    pub(crate) fn told(&mut self, told: &Told, totals: &Totals, clock: Clock, most: usize) -> String {
        let is_flow = matches!(told.what, What::Flow { .. });
        let mut object = self.begin(if is_flow { "flow" } else { "exchange" }, clock.at(told.started), totals);
        let facts = &told.facts;
        object.number("duration_ns", Some(nanos(told.ended.saturating_duration_since(told.started))));
        let decision = facts.decision;
        object.display("decision", format_args!("{}-{:x}-{:x}", self.run, decision.connection, decision.exchange));
        object.string("direction", facts.direction);
        object.string("verdict", told.verdict.as_str());
        object.optional("rule", told.rule.as_deref().map(str::as_bytes));
        object.optional("source", facts.source.as_ref().map(|id| id.as_str().as_bytes()));
        object.optional("destination", facts.destination.as_ref().map(|id| id.as_str().as_bytes()));
        object.string("trust_domain", trust_domain(&self.workload));
        object.string("protocol", facts.protocol);
        match &told.what {
            What::Flow { bytes } => {
                object.number("client_bytes", Some(bytes.0));
                object.number("server_bytes", Some(bytes.1));
            }
            What::Exchange { .. } => exchange(&mut object, told),
        }
        let aborted = told.aborted.map(|side| match side {
            Side::Client => "client",
            Side::Server => "server",
        });
        object.optional("aborted_by", aborted.map(str::as_bytes));
        object.string("response_flags", facts.flags);
        object.optional("response_code_details", Some(facts.details.as_bytes()));
        let tls = facts.tls.as_ref();
        object.optional("tls_version", tls.and_then(|tls| tls.version).map(str::as_bytes));
        object.optional("tls_cipher", tls.and_then(|tls| tls.cipher).map(str::as_bytes));
        object.optional("peer_serial", tls.and_then(|tls| tls.serial.as_deref()).map(str::as_bytes));
        let first = Tuple::new(told.client, told.server);
        object.display("client", first.client);
        object.display("server", first.server);
        let copied = facts.place.as_ref().and_then(|place| place.found());
        let copy = copied.map_or(first, |(_, tuple)| tuple);
        object.string("community_id", &community::id(copy.client, copy.server, 0));
        object.optional("copied_by", copied.map(|(tap, _)| tap.as_bytes()));
        let wire = Tuple::new(facts.wire.0, facts.wire.1);
        object.display("wire_client", wire.client);
        object.display("wire_server", wire.server);
        object.string("community_id_wire", &community::id(wire.client, wire.server, 0));
        object.end(most)
    }

    /// The line that tells of losses.
    pub(crate) fn loss(&mut self, counters: &Counters, totals: &Totals, clock: Clock) -> String {
        let mut object = self.begin("loss", clock.since_1970, totals);
        object.number("matched", Some(counters.matched));
        object.number("mirrored", Some(counters.mirrored));
        object.numbers("dropped", counters.dropped.iter().map(|(name, count)| (*name, *count)));
        object.number("built", Some(counters.packets_built));
        object.number("sent", Some(counters.packets_sent));
        object.numbers("send_errors", counters.send_errors.iter().map(|(name, count)| (*name, *count)));
        object.end(usize::MAX)
    }

    fn begin(&mut self, kind: &str, time: Duration, totals: &Totals) -> Object {
        self.sequence += 1;
        let mut object = Object::new();
        object.string("schema", SCHEMA);
        object.string("type", kind);
        object.string("tap", &self.tap);
        object.string("workload", &self.workload);
        object.string("run", &self.run);
        object.number("seq", Some(self.sequence));
        object.time("time", time);
        object.number("dropped_total", Some(totals.dropped));
        object.number("send_errors_total", Some(totals.send_errors));
        object
    }
}

/// Cumulative losses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) dropped: u64,
    pub(crate) send_errors: u64,
}

impl Totals {
    /// What a sample leaves out was never promised, and is no loss.
    pub(crate) fn of(tally: &Tally) -> Self {
        let (dropped, send_errors) = tally.losses();
        Self { dropped, send_errors }
    }
}

fn exchange(object: &mut Object, told: &Told) {
    let What::Exchange { head, status, request, response, masked } = &told.what else { return };
    let facts = &told.facts;
    object.truth("grpc", facts.grpc);
    let head = Head::of(head);
    object.optional("method", head.method);
    object.optional("host", head.host);
    object.optional("path", head.path);
    object.optional("template", facts.template.as_ref().map(String::as_bytes));
    object.number("status", status.map(u64::from));
    let answered = told.answered.map(|at| nanos(at.saturating_duration_since(told.started)));
    object.number("response_after_ns", answered);
    let mut truncated = false;
    for (names, size) in [(REQUEST, request), (RESPONSE, response)] {
        let Size { bytes, complete } = *size;
        let mirrored = bytes.min(facts.body);
        truncated |= mirrored < bytes;
        let [name_bytes, name_mirrored, name_complete] = names;
        object.number(name_bytes, Some(bytes));
        object.number(name_mirrored, Some(mirrored));
        object.truth(name_complete, complete);
    }
    object.truth("truncated", truncated);
    let counts = [
        ("headers", masked.headers),
        ("cookies", masked.cookies),
        ("parameters", masked.parameters),
        ("members", masked.members),
        ("stripped", masked.stripped),
    ];
    object.numbers("redacted", counts.into_iter().map(|(name, count)| (name, u64::from(count))));
    object.words("credentials", masked.credentials.names());
    object.optional("trace_id", head.trace_id);
    object.optional("request_id", head.request_id);
}

/// What a record takes out of a request's head.
#[derive(Default)]
struct Head<'a> {
    method: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    trace_id: Option<&'a [u8]>,
    request_id: Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut head = Self::default();
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        (head.method, head.path) = (words.next().filter(|word| !word.is_empty()), words.next());
        for line in lines {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = line.split_at(colon);
            let value = Some(value.get(1..).unwrap_or_default().trim_ascii());
            if name.eq_ignore_ascii_case(b"host") {
                head.host = value;
            } else if name.eq_ignore_ascii_case(b"x-request-id") {
                head.request_id = value;
            } else if name.eq_ignore_ascii_case(b"traceparent") {
                // W3C Trace Context section 3.2: version, trace, parent, flags.
                let trace = value.and_then(|value| value.split(|byte| *byte == b'-').nth(1));
                head.trace_id = trace.filter(|id| id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit));
            }
        }
        head
    }
}

const REQUEST: [&str; 3] = ["request_bytes", "request_bytes_mirrored", "request_complete"];
const RESPONSE: [&str; 3] = ["response_bytes", "response_bytes_mirrored", "response_complete"];

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The authority of a SPIFFE ID.
fn trust_domain(id: &str) -> &str {
    id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).unwrap_or_default()
}
