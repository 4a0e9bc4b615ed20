//! One table per workload, and the gates.

use super::gates;
use super::table::{Table, percent, plain, ranged, sides, times};
use crate::figures::{self as of, agreed, held_mib, idle_mib, latency, loaded_mib, syscalls};
use crate::makes::Make;
use crate::options::{CONNECTIONS, Options, RATE};
use crate::round::{NOBODY, RULES_RATE};
use crate::summary::{Cell, Figure, Summary};
use crate::workloads::Workload;
use crate::{load, scale, tap};

/// In the order of the workloads; what was not measured is left out.
pub(crate) fn all(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let with = |workload, table: fn(&Summary<'_>, &Options) -> Vec<Table>| {
        if options.makes.iter().any(|make| options.wants(*make, workload)) {
            table(summary, options)
        } else {
            Vec::new()
        }
    };
    let mut tables = [
        with(Workload::W1, w1),
        with(Workload::W2, w2),
        with(Workload::W3, w3),
        with(Workload::W4, w4),
        with(Workload::W5, w5),
        with(Workload::W6, w6),
        with(Workload::Rules, rules),
        with(Workload::Tap, tap),
        with(Workload::Scale, scale),
        conditions(summary, options),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    tables.extend(gates::table(summary));
    tables
}

/// The makes of this run that take part in a workload.
fn makes(options: &Options, workload: Workload) -> impl Iterator<Item = Make> {
    options.makes.iter().copied().filter(move |make| options.wants(*make, workload))
}

fn w1(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let title = format!("W1 closed loop: HTTP/1.1, {CONNECTIONS} connections, 1 KiB responses, a rule enforced");
    let heads = [
        "pair",
        "CPU µs/req",
        "user",
        "system",
        "× Envoy",
        "× HAProxy",
        "req/s",
        "p50 µs",
        "p99 µs",
        "syscalls",
        "socket",
        "epoll",
    ];
    let mut table = Table::new(&title, &heads);
    for make in makes(options, Workload::W1) {
        let cell = |value: fn(&_) -> f64| summary.cell(make, "w1", value);
        let calls = |kind| plain(summary.cell(make, "w1-syscalls", syscalls(kind)), 2);
        let cpu = |make| summary.cell(make, "w1", of::cpu_us);
        table.rows.push(vec![
            make.title().into(),
            ranged(cell(of::cpu_us), 1),
            plain(cell(of::user_us), 1),
            plain(cell(of::system_us), 1),
            times(cpu(make).over(cpu(Make::Envoy))),
            times(cpu(make).over(cpu(Make::Haproxy))),
            plain(cell(of::requests_per_second), 0),
            plain(summary.cell(make, "w1", latency("p50")), 0),
            plain(summary.cell(make, "w1", latency("p99")), 0),
            calls("all"),
            calls("socket"),
            calls("epoll"),
        ]);
    }
    let bare = |value: &dyn Fn(&_) -> f64| plain(summary.named(NOBODY, "w1", value), 0);
    let mut row = vec!["no sidecars".to_owned()];
    row.resize(6, "–".into());
    row.extend([bare(&of::requests_per_second), bare(&latency("p50")), bare(&latency("p99"))]);
    row.resize(heads.len(), "–".into());
    table.rows.push(row);
    table.notes.push("System calls are per request and sidecar, counted by strace in a run of its own.".into());
    vec![table]
}

fn w2(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let title = format!("W2 open loop: {RATE} requests per second over {CONNECTIONS} connections");
    let heads = ["pair", "CPU µs/req", "× Envoy", "× HAProxy", "p50 µs", "p90 µs", "p99 µs", "RSS MiB"];
    let mut table = Table::new(&title, &heads);
    for make in makes(options, Workload::W2) {
        let cpu = |make| summary.cell(make, "w2", of::cpu_us);
        let quantile = |name| ranged(summary.cell(make, "w2", latency(name)), 0);
        table.rows.push(vec![
            make.title().into(),
            ranged(cpu(make), 1),
            times(cpu(make).over(cpu(Make::Envoy))),
            times(cpu(make).over(cpu(Make::Haproxy))),
            quantile("p50"),
            quantile("p90"),
            quantile("p99"),
            sides(["caller", "callee"].map(|side| summary.cell(make, "w2", loaded_mib(side))), 1),
        ]);
    }
    let bare = |name| ranged(summary.named(NOBODY, "w2", latency(name)), 0);
    let empty = || "–".to_owned();
    table.rows.push(vec![
        "no sidecars".into(),
        empty(),
        empty(),
        empty(),
        bare("p50"),
        bare("p90"),
        bare("p99"),
        empty(),
    ]);
    vec![table]
}

fn w3(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let (connections, streams) = (load::h2::CONNECTIONS, load::h2::STREAMS);
    let title = format!("W3 HTTP/2 end to end: {connections} connections with {streams} streams each, 1 KiB responses");
    let heads = ["pair", "CPU µs/req", "user", "system", "× Envoy h2", "× HAProxy", "req/s", "p50 µs"];
    let mut table = Table::new(&title, &heads);
    for make in makes(options, Workload::W3) {
        let cell = |value: fn(&_) -> f64| summary.cell(make, "w3", value);
        let cpu = |make| summary.cell(make, "w3", of::cpu_us);
        table.rows.push(vec![
            if make == Make::EnvoyH2 { "Envoy, h2".into() } else { make.title().into() },
            ranged(cell(of::cpu_us), 1),
            plain(cell(of::user_us), 1),
            plain(cell(of::system_us), 1),
            times(cpu(make).over(cpu(Make::EnvoyH2))),
            times(cpu(make).over(cpu(Make::Haproxy))),
            plain(cell(of::requests_per_second), 0),
            plain(summary.cell(make, "w3", latency("p50")), 0),
        ]);
    }
    table.notes.push("nginx takes no part: it speaks no HTTP/2 to an upstream.".into());
    vec![table]
}

fn w4(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let heads = [
        "pair",
        "1 conn: CPU s/GB",
        "× Envoy",
        "× HAProxy",
        "GB/s",
        "4 conns: CPU s/GB",
        "× Envoy",
        "× HAProxy",
        "GB/s",
    ];
    let mut table = Table::new("W4 bulk: 64 MiB responses over HTTP/1.1; a GB is 10⁹ bytes", &heads);
    for make in makes(options, Workload::W4) {
        let mut row = vec![make.title().into()];
        for workload in ["w4-1", "w4-4"] {
            let cpu = |make| summary.cell(make, workload, of::cpu_s_per_gb);
            row.extend([
                ranged(cpu(make), 2),
                times(cpu(make).over(cpu(Make::Envoy))),
                times(cpu(make).over(cpu(Make::Haproxy))),
                plain(summary.cell(make, workload, of::gb_per_second), 2),
            ]);
        }
        table.rows.push(row);
    }
    vec![table]
}

fn w5(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let heads = [
        "callee",
        "full: ms",
        "× Envoy",
        "× HAProxy",
        "with ticket: ms",
        "× Envoy",
        "× HAProxy",
        "resumed",
        "ML-KEM offered: ms",
        "agreed",
    ];
    let title = "W5 handshakes: mutual TLS 1.3 with X25519, one request, closed; CPU of the callee per connection";
    let mut table = Table::new(title, &heads);
    for make in makes(options, Workload::W5) {
        let mut row = vec![make.title().into()];
        for workload in ["w5-full", "w5-resumed"] {
            let cpu = |make| summary.cell(make, workload, of::callee_ms);
            row.extend([
                ranged(cpu(make), 2),
                times(cpu(make).over(cpu(Make::Envoy))),
                times(cpu(make).over(cpu(Make::Haproxy))),
            ]);
        }
        let resumed = summary.cell(make, "w5-resumed", agreed("resumed"));
        row.push(percent(resumed));
        row.push(ranged(summary.cell(make, "w5-mlkem", of::callee_ms), 2));
        row.push(percent(summary.cell(make, "w5-mlkem", agreed("post_quantum"))));
        if resumed.median().is_some_and(|share| share < 0.95) {
            table.notes.push(format!(
                "{} resumed {} of the connections that offered a ticket.",
                make.title(),
                percent(resumed)
            ));
        }
        table.rows.push(row);
    }
    vec![table]
}

fn w6(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let heads = [
        "pair",
        "idle MiB",
        "1000/s MiB",
        "caller: KiB each",
        "MiB before → with → after",
        "callee, mTLS: KiB each",
        "MiB before → with → after",
    ];
    let title = format!("W6 resident memory, caller / callee, and {} idle connections to either", options.idle);
    let mut table = Table::new(&title, &heads);
    let sides_of = ["caller", "callee"];
    for make in makes(options, Workload::W6) {
        let moment = |workload, side| {
            let at = |moment| plain(summary.cell(make, workload, held_mib(moment, side)), 1);
            format!("{} → {} → {}", at("before"), at("held"), at("closed"))
        };
        table.rows.push(vec![
            make.title().into(),
            sides(sides_of.map(|side| summary.cell(make, "w6", idle_mib(side))), 1),
            sides(sides_of.map(|side| summary.cell(make, "w2", loaded_mib(side))), 1),
            ranged(summary.cell(make, "w6-plain", of::idle_kib_each("caller")), 2),
            moment("w6-plain", "caller"),
            ranged(summary.cell(make, "w6-mtls", of::idle_kib_each("callee")), 2),
            moment("w6-mtls", "callee"),
        ]);
    }
    table.notes.push("Each connection had one answer before it went idle; after: 2 s after all were closed.".into());
    vec![table]
}

fn rules(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let heads = ["pair", "cores for that", "CPU µs/req", "RSS MB caller", "RSS MB callee", "req/s", "p50 µs", "p99 µs"];
    let title = "10,000 rules at the callee, 1,000 active connections, 5,000 requests per second";
    let mut table = Table::new(title, &heads);
    for make in makes(options, Workload::Rules) {
        let megabytes = |side| plain(summary.cell(make, "rules", move |run| loaded_mib(side)(run) * 1.048_576), 1);
        table.rows.push(vec![
            make.title().into(),
            ranged(summary.cell(make, "rules", of::cores_at(RULES_RATE)), 2),
            plain(summary.cell(make, "rules", of::cpu_us), 1),
            megabytes("caller"),
            megabytes("callee"),
            plain(summary.cell(make, "rules", of::requests_per_second), 0),
            plain(summary.cell(make, "rules", latency("p50")), 0),
            plain(summary.cell(make, "rules", latency("p99")), 0),
        ]);
    }
    vec![table]
}

fn tap(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let heads = ["pair", "tap off: CPU µs", "tap on: CPU µs", "extra µs", "extra", "copies lost"];
    let title = format!("Tap for all traffic: {} exchanges of 1 KiB per second, all threads counted", tap::RATE);
    let mut table = Table::new(&title, &heads);
    for make in makes(options, Workload::Tap) {
        let [off, on] = ["tap-off", "tap-on"].map(|workload| summary.cell(make, workload, of::cpu_us));
        let extra = gates::extra(summary, make);
        let ours = make == Make::Sekisho;
        let lost = if ours { plain(summary.cell(make, "tap-on", of::dropped), 0) } else { "not told".into() };
        let title = if ours { make.title() } else { "Envoy, request_mirror_policies (requests alone)" };
        table.rows.push(vec![
            title.into(),
            ranged(off, 1),
            ranged(on, 1),
            plain(extra, 1),
            percent(extra.over(off)),
            lost,
        ]);
    }
    vec![table, tap_kinds(summary)]
}

/// The application's latency and the callee's memory, whatever becomes of the copies.
fn tap_kinds(summary: &Summary<'_>) -> Table {
    let title = format!("Sekisho's tap before sensors of every kind, {} exchanges of 1 KiB per second", tap::RATE);
    let heads = ["", "CPU µs", "p50 µs", "p99 µs", "callee: most memory, MiB", "copies lost"];
    let mut table = Table::new(&title, &heads);
    for (name, what) in tap::OURS {
        let cell = |value: &dyn Fn(&_) -> f64| summary.cell(Make::Sekisho, name, value);
        table.rows.push(vec![
            what.into(),
            ranged(cell(&of::cpu_us), 1),
            ranged(cell(&latency("p50")), 0),
            ranged(cell(&latency("p99")), 0),
            ranged(cell(&of::callee_peak_mib), 1),
            plain(cell(&of::dropped), 0),
        ]);
    }
    table
}

fn scale(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    let tables = scale::AXES.map(|(axis, points)| {
        let rounds = options.scale_rounds;
        let title = format!("Scale: CPU µs/req at {} req/s against {axis} (rounds: {rounds})", scale::RATE);
        let measured = |make, point: usize| summary.cell(make, &format!("{axis}-{point}"), of::cpu_us);
        let points: Vec<usize> = points
            .into_iter()
            .filter(|point| makes(options, Workload::Scale).any(|make| measured(make, *point) != Cell::Absent))
            .collect();
        let heads: Vec<String> = points.iter().map(ToString::to_string).collect();
        let mut table = Table::new(&title, &[]);
        table.heads = [vec!["pair".to_owned()], heads, vec!["last × first".into(), "RSS MiB at last".into()]].concat();
        for make in makes(options, Workload::Scale) {
            let ends = [points[0], points[points.len() - 1]];
            let mut row = vec![make.title().into()];
            row.extend(points.iter().map(|point| plain(measured(make, *point), 0)));
            row.push(times(measured(make, ends[1]).over(measured(make, ends[0]))));
            let last = format!("{axis}-{}", ends[1]);
            row.push(plain(summary.cell(make, &last, of::larger_loaded_mib), 1));
            table.rows.push(row);
        }
        table
    });
    tables.into()
}

/// How far the figures can be trusted: whether the sidecars were what limited a closed loop, and who else was there.
fn conditions(summary: &Summary<'_>, options: &Options) -> Vec<Table> {
    const WORKLOADS: [&str; 6] = ["w1", "w2", "w3", "w4-1", "w4-4", "w5-full"];
    let title =
        "Use of the cores, %: sidecars on theirs / load and origin on theirs / most that others took of the sidecars'";
    let mut table = Table::new(title, &[&["pair"], WORKLOADS.as_slice()].concat());
    for make in &options.makes {
        let share = |workload: &&str| {
            let cell = |value: fn(&_) -> f64| summary.cell(*make, workload, value);
            let others = match cell(of::others_share) {
                Cell::Is(figure) => Cell::Is(Figure { median: figure.high, ..figure }),
                other => return plain(other, 0),
            };
            [cell(of::sidecars_share), cell(of::load_share), others]
                .map(|share| plain(share.map(|share| share * 100.0), 0))
                .join(" / ")
        };
        table.rows.push([vec![make.title().to_owned()], WORKLOADS.iter().map(share).collect()].concat());
    }
    table.rows.retain(|row| row[1..].iter().any(|cell| cell != "–"));
    if table.rows.is_empty() { Vec::new() } else { vec![table] }
}
