//! `[proxy]`: listeners, limits and timeouts. Also `[app]` and `[log]`, the two small tables beside it.

use crate::codes;
use crate::problem::Notebook;
use crate::reader::{Table, checked, unknown_word};
use crate::schema::{APP, LOG, PROXY};
use crate::snapshot::{AccessSink, App, Capture, Listen, LogFormat, LogSettings, Protocol, ProxySettings, Timeouts};
use crate::values;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use toml::de::DeTable;

/// A table that may not be written.
type Maybe<'a> = Option<(&'a DeTable<'a>, Range<usize>)>;

/// An address that the sidecar listens on, for the checks of the whole file.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    pub(crate) span: Range<usize>,
    /// Which key wants it.
    pub(crate) key: String,
    /// Whether it is written, not a default.
    pub(crate) written: bool,
}

/// `[proxy]` and what the checks of the whole file need of it.
pub(crate) struct Proxy {
    pub(crate) settings: ProxySettings,
    pub(crate) bound: Vec<Bound>,
    /// Where `inbound` is written, if it is.
    pub(crate) inbound_written: Option<Range<usize>>,
    pub(crate) app_written: bool,
}

/// Reads `[proxy]`; `app` says whether `[app]` is written.
pub(crate) fn read(table: Maybe<'_>, app: bool, notes: &mut Notebook) -> Proxy {
    let empty = DeTable::new();
    let (map, span) = table.unwrap_or((&empty, 0..0));
    let table = Table::open(map, span, &PROXY, PROXY.title.to_owned(), notes);
    let words = [("redirect", Capture::Redirect), ("none", Capture::None)];
    let capture = table.choice("capture", &words, &["tproxy"], notes).unwrap_or(Capture::Redirect);
    let mut bound = Vec::new();
    let mut listen = |key: &str, wanted: bool, notes: &mut Notebook| {
        let (addresses, defaulted) = table.addresses(key, notes);
        // A listener that is written always exists; a default one only where the capture needs it.
        if defaulted && !wanted {
            return Vec::new();
        }
        let span = table.value_span(key);
        bound.extend(addresses.iter().map(|a| Bound {
            address: *a,
            span: span.clone(),
            key: format!("[proxy] {key}"),
            written: !defaulted,
        }));
        addresses.into_iter().map(|addr| Listen { addr, defaulted }).collect()
    };
    let captured = capture == Capture::Redirect;
    let settings = ProxySettings {
        capture,
        inbound: listen("inbound", captured || app, notes),
        outbound: listen("outbound", captured, notes),
        admin: listen("admin", true, notes),
        health: listen("health", true, notes),
        metrics: listen("metrics", true, notes),
        workers: table.number("workers", 1..=1024, notes).map(|n| n as usize),
        admin_writes: table.flag("admin_writes", notes),
        timeouts: timeouts(&table, notes),
        max_connections: table.number("max_connections", 1..=1_000_000, notes).unwrap_or(1) as usize,
        max_connections_per_identity: table
            .number("max_connections_per_identity", 1..=1_000_000, notes)
            .map(|n| n as usize),
        memory_limit: table.size("memory_limit", notes),
    };
    let inbound_written = table.has("inbound").then(|| table.key_span("inbound"));
    Proxy { settings, bound, inbound_written, app_written: app }
}

fn timeouts(table: &Table<'_>, notes: &mut Notebook) -> Timeouts {
    // Every one has a default, so a missing value means a problem was noted and the result is not used.
    let mut get = |key: &str| table.duration(key, notes).unwrap_or(Duration::from_secs(1));
    Timeouts {
        connect: get("connect_timeout"),
        handshake: get("handshake_timeout"),
        head: get("head_timeout"),
        idle_stream: get("idle_timeout"),
        pool_idle: get("pool_idle_timeout"),
        drain: get("drain_timeout"),
        detect: get("detect_timeout"),
        revoke_within: get("revoke_within"),
        downstream_idle: get("downstream_idle_timeout"),
    }
}

/// Reads `[app]`.
pub(crate) fn read_app(table: Maybe<'_>, notes: &mut Notebook) -> Option<(App, Range<usize>)> {
    let (map, span) = table?;
    let table = Table::open(map, span, &APP, APP.title.to_owned(), notes);
    let protocol = protocol(&table, notes);
    let timeout = table.duration("timeout", notes);
    let text = table.required_text("address", notes)?;
    let address = checked(values::address(text.value), text.span.clone(), notes)?;
    Some((App { address, protocol, timeout }, text.span))
}

/// The `protocol` of an application or a service.
pub(crate) fn protocol(table: &Table<'_>, notes: &mut Notebook) -> Protocol {
    let words =
        [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2), ("tcp", Protocol::Tcp)];
    table.choice("protocol", &words, &[], notes).unwrap_or_default()
}

/// Reads `[log]`; a relative path starts at `base`.
pub(crate) fn read_log(table: Maybe<'_>, base: &Path, notes: &mut Notebook) -> LogSettings {
    let empty = DeTable::new();
    let (map, span) = table.unwrap_or((&empty, 0..0));
    let table = Table::open(map, span, &LOG, LOG.title.to_owned(), notes);
    LogSettings { access: access(&table, base, notes), format: format(&table, notes) }
}

fn access(table: &Table<'_>, base: &Path, notes: &mut Notebook) -> AccessSink {
    let Some(text) = table.text("access", notes) else {
        return AccessSink::Stdout;
    };
    match text.value {
        "stdout" => AccessSink::Stdout,
        "off" => AccessSink::Off,
        value => match value.strip_prefix("file:") {
            Some("") => {
                notes
                    .error(&codes::BAD_VALUE, text.span, "`file:` needs a path")
                    .help("write `file:/var/log/access.log`");
                AccessSink::Off
            }
            Some(path) => AccessSink::File(base.join(path)),
            None => {
                unknown_word(&text, "access", &["stdout", "off", "file:PATH"], &[], notes);
                AccessSink::Off
            }
        },
    }
}

fn format(table: &Table<'_>, notes: &mut Notebook) -> LogFormat {
    // A format of one's own is recognised by its operators, so that it is refused by name.
    if let Some(text) = table.value("format").and_then(|v| v.get_ref().as_str())
        && text.contains('%')
    {
        notes
            .error(&codes::LATER, table.value_span("format"), "a log format of one's own is not yet supported")
            .help("this version knows `envoy`, `json`");
        return LogFormat::Envoy;
    }
    let words = [("envoy", LogFormat::Envoy), ("json", LogFormat::Json)];
    table.choice("format", &words, &[], notes).unwrap_or(LogFormat::Envoy)
}
