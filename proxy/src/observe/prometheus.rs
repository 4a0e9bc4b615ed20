//! The metrics page: Envoy's names for what Envoy counts too, `sekisho_` for the rest.
//!
//! Form (Envoy's): `# TYPE` lines without `# HELP`, labels prefixed `envoy_`, no `_total` added to Envoy's counters.

use super::{
    metrics::{BUCKETS_MS, DirectionCells, Series, Upstream, Verdict},
    status,
};
use crate::{overload::Level, worker::Shared};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::atomic::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

/// Renders the page.
pub(crate) fn render(shared: &Shared) -> String {
    let mut page = Page::default();
    directions(&mut page, shared);
    tables(&mut page, shared);
    taps(&mut page, shared);
    server(&mut page, shared);
    page.finish()
}

/// Samples gathered by metric, so that each metric's lines stand together as the format demands.
#[derive(Default)]
struct Page {
    metrics: BTreeMap<&'static str, (&'static str, String)>,
}

impl Page {
    fn sample(
        &mut self,
        kind: &'static str,
        name: &'static str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        self.suffixed(kind, name, "", labels, value);
    }

    fn suffixed(
        &mut self,
        kind: &'static str,
        name: &'static str,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        let (_, out) = self.metrics.entry(name).or_insert_with(|| (kind, String::new()));
        let _ = write!(out, "{name}{suffix}{{");
        for (index, (label, text)) in labels.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(out, "{comma}{label}=\"{}\"", escaped(text));
        }
        let _ = writeln!(out, "}} {value}");
    }

    fn finish(self) -> String {
        let mut out = String::new();
        for (name, (kind, lines)) in self.metrics {
            let _ = writeln!(out, "# TYPE {name} {kind}");
            out.push_str(&lines);
        }
        out
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn directions(page: &mut Page, shared: &Shared) {
    for (prefix, inbound) in [("inbound", true), ("outbound", false)] {
        let sum = |cell: fn(&DirectionCells) -> u64| -> u64 {
            shared.metrics.iter().map(|worker| cell(worker.direction(inbound))).sum()
        };
        let http = [("envoy_http_conn_manager_prefix", prefix)];
        let listener = [("envoy_listener_address", prefix)];
        let mut counter = |name, labels: &[(&str, &str)], cell| page.sample("counter", name, labels, sum(cell));
        counter("envoy_http_downstream_cx_total", &http, |cells| cells.connections.get());
        counter("envoy_http_downstream_cx_http1_total", &http, |cells| cells.http1_connections.get());
        counter("envoy_http_downstream_cx_http2_total", &http, |cells| cells.http2_connections.get());
        counter("envoy_http_downstream_cx_ssl_total", &http, |cells| cells.tls_handshakes.get());
        counter("envoy_http_downstream_cx_protocol_error", &http, |cells| cells.protocol_errors.get());
        counter("envoy_http_downstream_cx_rx_bytes_total", &http, |cells| cells.bytes_received.get());
        counter("envoy_http_downstream_cx_tx_bytes_total", &http, |cells| cells.bytes_sent.get());
        counter("envoy_http_downstream_rq_total", &http, |cells| cells.requests.get());
        counter("envoy_http_downstream_rq_idle_timeout", &http, |cells| cells.idle_timeouts.get());
        counter("envoy_http_downstream_rq_failed_path_normalization", &http, |cells| cells.path_refused.get());
        counter("envoy_http_rbac_allowed", &http, |cells| cells.allowed.get());
        counter("envoy_http_rbac_denied", &http, |cells| cells.denied.get());
        counter("envoy_http_rbac_shadow_denied", &http, |cells| cells.would_deny.get() + cells.denied.get());
        counter("envoy_tcp_downstream_cx_total", &[("envoy_tcp_prefix", prefix)], |cells| cells.tcp_connections.get());
        counter("envoy_listener_downstream_cx_overflow", &listener, |cells| cells.overflow.get());
        counter("envoy_listener_ssl_handshake", &listener, |cells| cells.tls_handshakes.get());
        counter("envoy_listener_ssl_session_reused", &listener, |cells| cells.tls_resumed.get());
        counter("envoy_listener_ssl_connection_error", &listener, |cells| cells.tls_connection_error.get());
        counter("envoy_listener_ssl_fail_verify_no_cert", &listener, |cells| cells.tls_no_certificate.get());
        counter("envoy_listener_ssl_fail_verify_error", &listener, |cells| cells.tls_verify_error.get());
        counter("envoy_listener_ssl_fail_verify_san", &listener, |cells| cells.tls_verify_san.get());
        page.sample("gauge", "envoy_http_downstream_cx_active", &http, sum(|cells| cells.connections_active.get()));
        if inbound {
            page.sample("gauge", "sekisho_tls_handshakes_active", &[], sum(|cells| cells.tls_handshakes_active.get()));
        }
        page.sample("gauge", "envoy_http_downstream_rq_active", &http, sum(|cells| cells.requests_active.get()));
    }
}

fn tables(page: &mut Page, shared: &Shared) {
    let mut requests: BTreeMap<(bool, u32, u32, &'static str, u16), u64> = BTreeMap::new();
    let mut upstreams: BTreeMap<u32, Upstream> = BTreeMap::new();
    let mut refusals: BTreeMap<(bool, &'static str), u64> = BTreeMap::new();
    for worker in &shared.metrics {
        let tables = worker.tables();
        for (packed, count) in &tables.requests {
            let Series { inbound, rule, upstream, verdict, status } = Series::unpack(*packed);
            *requests.entry((inbound, rule, upstream, verdict.as_str(), status)).or_default() += count;
        }
        for (id, one) in &tables.upstreams {
            let sum = upstreams.entry(*id).or_default();
            sum.requests += one.requests;
            sum.connections += one.connections;
            sum.connections_closed += one.connections_closed;
            sum.connect_failures += one.connect_failures;
            sum.time_sum_ms += one.time_sum_ms;
            for (total, count) in sum.time_buckets.iter_mut().zip(one.time_buckets) {
                *total += count;
            }
        }
        for (key, count) in &tables.refusals {
            *refusals.entry(*key).or_default() += count;
        }
    }
    let mut classes: BTreeMap<(bool, u16), u64> = BTreeMap::new();
    let mut codes: BTreeMap<(u32, u16), u64> = BTreeMap::new();
    for ((inbound, rule, upstream, verdict, status), count) in requests {
        *classes.entry((inbound, status / 100)).or_default() += count;
        if upstream != 0 && verdict != Verdict::Deny.as_str() {
            *codes.entry((upstream, status)).or_default() += count;
        }
        let rule = if rule == 0 { "no rule".to_owned() } else { shared.names.name(rule) };
        let labels = [
            ("direction", direction(inbound)),
            ("rule", rule.as_str()),
            ("verdict", verdict),
            ("service", &shared.names.name(upstream)),
            ("response_code", &status.to_string()),
        ];
        page.sample("counter", "sekisho_requests_total", &labels, count);
    }
    for ((inbound, class), count) in classes {
        let labels = [
            ("envoy_response_code_class", class.to_string()),
            ("envoy_http_conn_manager_prefix", direction(inbound).to_owned()),
        ];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        page.sample("counter", "envoy_http_downstream_rq_xx", &labels, count);
    }
    for ((upstream, status), count) in codes {
        let (name, code) = (shared.names.name(upstream), status.to_string());
        let labels = [("envoy_response_code", code.as_str()), ("envoy_cluster_name", name.as_str())];
        page.sample("counter", "envoy_cluster_upstream_rq", &labels, count);
    }
    for (id, upstream) in upstreams {
        let name = shared.names.name(id);
        let labels = [("envoy_cluster_name", name.as_str())];
        page.sample("counter", "envoy_cluster_upstream_rq_total", &labels, upstream.requests);
        page.sample("counter", "envoy_cluster_upstream_cx_total", &labels, upstream.connections);
        page.sample("counter", "envoy_cluster_upstream_cx_connect_fail", &labels, upstream.connect_failures);
        let active = upstream.connections.saturating_sub(upstream.connections_closed);
        page.sample("gauge", "envoy_cluster_upstream_cx_active", &labels, active);
        let mut below = 0;
        let metric = "envoy_cluster_upstream_rq_time";
        for (at, count) in upstream.time_buckets.iter().enumerate() {
            below += count;
            let bound = BUCKETS_MS.get(at).map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound}"));
            let labels = [("envoy_cluster_name", name.as_str()), ("le", bound.as_str())];
            page.suffixed("histogram", metric, "_bucket", &labels, below);
        }
        page.suffixed("histogram", metric, "_sum", &labels, upstream.time_sum_ms);
        page.suffixed("histogram", metric, "_count", &labels, below);
    }
    for ((inbound, reason), count) in refusals {
        let labels = [("direction", direction(inbound)), ("reason", reason)];
        page.sample("counter", "sekisho_refused_total", &labels, count);
    }
}

fn taps(page: &mut Page, shared: &Shared) {
    for tap in shared.live.load().taps.iter().map(|tapped| &tapped.tap) {
        let counters = tap.counters();
        let labels = [("tap", tap.name())];
        page.sample("counter", "sekisho_tap_matched_total", &labels, counters.matched);
        page.sample("counter", "sekisho_tap_mirrored_total", &labels, counters.mirrored);
        page.sample("counter", "sekisho_tap_truncated_total", &labels, counters.truncated);
        page.sample("counter", "sekisho_tap_streams_cut_total", &labels, counters.streams_cut);
        page.sample("counter", "sekisho_tap_packets_built_total", &labels, counters.packets_built);
        page.sample("counter", "sekisho_tap_packets_sent_total", &labels, counters.packets_sent);
        page.sample("counter", "sekisho_tap_streams_broken_total", &labels, counters.streams_broken);
        page.sample("gauge", "sekisho_tap_queue_bytes", &labels, counters.queue_bytes);
        for (reason, count) in &counters.dropped {
            page.sample("counter", "sekisho_tap_dropped_total", &[("tap", tap.name()), ("reason", reason)], count);
        }
        for (kind, count) in &counters.credentials {
            page.sample("counter", "sekisho_tap_credentials_total", &[("tap", tap.name()), ("kind", kind)], count);
        }
        for (errno, count) in &counters.send_errors {
            page.sample("counter", "sekisho_tap_send_errors_total", &[("tap", tap.name()), ("errno", errno)], count);
        }
    }
}

fn server(page: &mut Page, shared: &Shared) {
    let published = shared.live.load();
    let gauge = |page: &mut Page, name, value: u64| page.sample("gauge", name, &[], value);
    let draining = shared.draining.load(Ordering::Relaxed);
    gauge(page, "envoy_server_live", u64::from(status::readiness(shared).is_ok()));
    gauge(page, "envoy_server_state", u64::from(draining));
    gauge(page, "envoy_server_uptime", shared.started.elapsed().as_secs());
    gauge(page, "envoy_server_concurrency", u64::try_from(shared.metrics.len()).unwrap_or(0));
    gauge(
        page,
        "envoy_server_total_connections",
        u64::try_from(shared.connections.load(Ordering::Relaxed)).unwrap_or(0),
    );
    let tasks: usize = shared.metrics.iter().map(|worker| worker.tasks()).sum();
    gauge(page, "sekisho_tasks_active", u64::try_from(tasks).unwrap_or(0));
    gauge(page, "sekisho_policy_generation", published.generation);
    gauge(page, "sekisho_policy_stale", u64::from(shared.failures.is_policy_stale()));
    gauge(page, "sekisho_credentials_stale", u64::from(shared.failures.is_credentials_stale()));
    page.sample("gauge", "sekisho_policy_mode", &[("mode", published.snapshot.mode.as_str())], 1);
    page.sample("counter", "sekisho_policy_rejected_total", &[], shared.failures.rejected());
    page.sample("counter", "sekisho_log_dropped_total", &[], shared.sink.dropped());
    page.sample("counter", "sekisho_accept_pauses_total", &[], shared.accept_pauses.load(Ordering::Relaxed));
    let resident = shared.overload.resident();
    if let Some(resident) = resident {
        gauge(page, "envoy_server_memory_physical_size", resident);
    }
    if let Some(limit) = shared.overload.limit() {
        let percent = resident.unwrap_or(0).saturating_mul(100).checked_div(limit).unwrap_or(0);
        gauge(page, "envoy_overload_envoy_resource_monitors_fixed_heap_pressure", percent);
        gauge(page, "sekisho_memory_limit_bytes", limit);
    }
    let level = shared.overload.level();
    for (name, from) in [
        ("envoy_overload_envoy_overload_actions_shrink_heap_active", Level::Shrink),
        ("envoy_overload_envoy_overload_actions_stop_accepting_connections_active", Level::Refuse),
        ("envoy_overload_envoy_overload_actions_stop_accepting_requests_active", Level::Refuse),
        ("envoy_overload_envoy_overload_actions_reduce_timeouts_active", Level::Cut),
    ] {
        gauge(page, name, u64::from(level >= from));
    }
    for (what, count) in shared.overload.shed() {
        page.sample("counter", "sekisho_shed_total", &[("what", what)], count);
    }
    let svid = shared.identity.load();
    let not_after = svid.credentials.svid().not_after();
    let seconds = not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = not_after.duration_since(SystemTime::now()).unwrap_or_default().as_secs() / 86_400;
    let labels = [("envoy_tls_certificate", "default"), ("envoy_listener_address", "inbound")];
    page.sample("gauge", "envoy_listener_ssl_certificate_expiration_unix_time_seconds", &labels, seconds);
    gauge(page, "envoy_server_days_until_first_cert_expiring", days);
}

fn direction(inbound: bool) -> &'static str {
    if inbound { "inbound" } else { "outbound" }
}
