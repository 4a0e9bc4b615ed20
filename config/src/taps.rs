//! `[[tap]]`: where decrypted copies go, what of the traffic is copied, and how much of it. Keys that a sensor or a
//! direction has no use for are errors.

use crate::codes;
use crate::names::{ANYONE, Names};
use crate::problem::Notebook;
use crate::reader::{Table, Text, checked};
use crate::rules::{self, Rules};
use crate::schema::TAP;
use crate::sensor;
use crate::services::{check_name, unique};
use crate::suggest;
use crate::tap_settings::{
    Extent, Redaction, Sample, Sensor, StatusPattern, TapDirection, TapHttp, TapKind, TapSelection, TapSettings,
    TapVerdict,
};
use crate::values;
use policy::{HostPattern, IdPattern, RequestPattern};
use std::collections::HashMap;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Reads every `[[tap]]`.
pub(crate) fn read<'a>(
    tables: Vec<(&'a DeTable<'a>, Range<usize>)>,
    names: &Names,
    rules: &Rules,
    notes: &mut Notebook,
) -> Vec<TapSettings> {
    let mut seen = HashMap::new();
    let mut owned = HashMap::new();
    let mut taps = Vec::new();
    for (place, (map, span)) in tables.into_iter().enumerate() {
        if place == MOST_TAPS {
            notes
                .error(&codes::CONFLICT, span.clone(), format!("there are more than {MOST_TAPS} taps"))
                .help("every tap has a thread and a queue of its own; let one sensor pass copies on");
        }
        let called = match map.get("name").and_then(|v| v.get_ref().as_str()) {
            Some(name) => format!("tap `{name}`"),
            None => TAP.title.to_owned(),
        };
        let table = Table::open(map, span, &TAP, called, notes);
        let name = table.required_text("name", notes);
        if let Some(name) = &name {
            check_name(name, "a tap", notes);
            unique(&mut seen, name.value.to_owned(), name.span.clone(), "tap", notes);
        }
        let sensor = table.required_text("to_sensor", notes).and_then(|text| sensor::read(&text, names, notes));
        if let Some(place) = sensor.as_ref().and_then(owned_place) {
            unique(&mut owned, place, table.value_span("to_sensor"), "place of a tap", notes);
        }
        taps.extend(read_tap(&table, name, sensor, names, rules, notes));
    }
    taps
}

/// What two taps cannot share.
fn owned_place(sensor: &Sensor) -> Option<String> {
    match sensor {
        Sensor::PcapListen { address } => Some(address.to_string()),
        Sensor::Pcapng { folder, .. } => Some(folder.display().to_string()),
        Sensor::JsonFile { path } => Some(path.display().to_string()),
        _ => None,
    }
}

/// `None` only when a problem was noted.
fn read_tap(
    table: &Table<'_>,
    name: Option<Text<'_>>,
    sensor: Option<Sensor>,
    names: &Names,
    rules: &Rules,
    notes: &mut Notebook,
) -> Option<TapSettings> {
    let allow_plaintext = table.flag("allow_plaintext_tap", notes);
    let mut select = read_selection(table, names, rules, notes);
    let mut body = extent(table, "body", notes);
    let mut stream = extent(table, "stream", notes);
    let queue = size(table, "queue", notes);
    let rate_cap = table.text("rate_cap", notes).and_then(|text| checked(values::rate(text.value), text.span, notes));
    let mtu = table.number("mtu", MTU, notes).and_then(|n| u16::try_from(n).ok());
    let port = table.number("port", 1..=65535, notes).and_then(|n| u16::try_from(n).ok());
    let vlan = table.number("vlan", 1..=4094, notes).and_then(|n| u16::try_from(n).ok());
    let mappings = [("http1", TapHttp::Http1), ("h2c", TapHttp::H2c)];
    let http = table.choice("http", &mappings, &[], notes).unwrap_or_default();
    let redact = redactions(table, "redact", notes);
    let pass = redactions(table, "pass", notes);
    check_redaction(table, &redact, &pass, notes);
    // Nothing in a stream is masked: whoever names members of JSON and nothing about streams would send them in the clear.
    if redact.iter().any(|name| matches!(name, Redaction::Json(_))) && !table.has("stream") {
        stream = Some(Extent::None);
    }
    if let Some(sensor) = &sensor {
        check_plaintext(table, sensor, allow_plaintext, notes);
        check_kind(table, sensor, notes);
    }
    check_selection(table, &select, notes);
    if matches!(sensor, Some(Sensor::Shadow { .. })) {
        as_envoy_mirrors(table, &mut select, &mut body);
    }
    if let (Some(Extent::First(body)), Some(queue)) = (body, queue)
        && body > queue
    {
        notes
            .error(&codes::CONFLICT, table.value_span("body"), "a body of this length would never fit into the queue")
            .related(table.value_span("queue"), "this much is kept for the sensor")
            .help("write a larger `queue`, or less in `body`");
    }
    let name = name?.value.to_owned();
    let (sensor, body, stream, queue, mtu) = (sensor?, body?, stream?, queue?, mtu?);
    let settings = TapSettings {
        name,
        sensor,
        allow_plaintext,
        select,
        body,
        stream,
        rate_cap,
        queue,
        mtu,
        port,
        vlan,
        http,
        redact,
        pass,
    };
    Some(settings)
}

/// A shadow gets what Envoy's gets unless the file says otherwise: what the rules let through, with its whole body.
fn as_envoy_mirrors(table: &Table<'_>, select: &mut TapSelection, body: &mut Option<Extent>) {
    if !table.has("verdicts") {
        select.verdicts = vec![TapVerdict::Allow, TapVerdict::ShadowDeny];
    }
    if !table.has("body") {
        *body = Some(Extent::All);
    }
}

fn read_selection(table: &Table<'_>, names: &Names, rules: &Rules, notes: &mut Notebook) -> TapSelection {
    let directions =
        [("inbound", TapDirection::Inbound), ("outbound", TapDirection::Outbound), ("both", TapDirection::Both)];
    let direction = table.choice("direction", &directions, &[], notes).unwrap_or_default();
    TapSelection {
        direction,
        from: identities(table, "from", names, notes),
        to: identities(table, "to", names, notes),
        requests: rules::patterns(
            table,
            "requests",
            |text| RequestPattern::parse_for(text, &rules.paths).map(|pattern| pattern.comparing(rules.paths.case)),
            notes,
        ),
        hosts: rules::patterns(table, "hosts", HostPattern::parse, notes),
        ports: rules::read_ports(table, notes),
        rules: read_rules(table, direction, rules, notes),
        verdicts: words(table, "verdicts", notes),
        status: read_status(table, notes),
        sample: read_sample(table, notes),
    }
}

fn identities(table: &Table<'_>, key: &str, names: &Names, notes: &mut Notebook) -> Vec<IdPattern> {
    let texts = table.texts(key, notes);
    if let Some(text) = texts.iter().find(|t| t.value == ANYONE) {
        notes
            .error(
                &codes::CONFLICT,
                text.span.clone(),
                format!("`anyone` in `{key}` of {} selects nothing", table.called),
            )
            .help(format!("remove `{key}`: without it everybody is meant"));
        return Vec::new();
    }
    texts.iter().filter_map(|text| names.resolve(text, notes)).flatten().collect()
}

/// The names of rules of the direction looked at. A name that no rule has would select nothing, silently.
fn read_rules(table: &Table<'_>, direction: TapDirection, rules: &Rules, notes: &mut Notebook) -> Vec<String> {
    let inbound = rules.inbound.iter().filter(|_| direction != TapDirection::Outbound);
    let outbound = rules.outbound.iter().filter(|_| direction != TapDirection::Inbound);
    let known: Vec<&str> = inbound.chain(outbound).map(|rule| &*rule.name).collect();
    let mut names = Vec::new();
    for text in table.texts("rules", notes) {
        if known.contains(&text.value) {
            names.push(text.value.to_owned());
            continue;
        }
        let message = format!("no rule of the direction of {} is called `{}`", table.called, text.value);
        let problem = notes.error(&codes::UNKNOWN_RULE, text.span, message);
        if let Some(near) = suggest::nearest(text.value, known.iter().copied()) {
            problem.help(format!("did you mean `{near}`?"));
        }
    }
    names
}

fn words(table: &Table<'_>, key: &str, notes: &mut Notebook) -> Vec<TapVerdict> {
    let words = [("allow", TapVerdict::Allow), ("deny", TapVerdict::Deny), ("shadow-deny", TapVerdict::ShadowDeny)];
    let mut verdicts = Vec::new();
    for text in table.texts(key, notes) {
        match words.iter().find(|(word, _)| *word == text.value) {
            Some((_, verdict)) => verdicts.push(*verdict),
            None => crate::reader::unknown_word(&text, key, &words.map(|(word, _)| word), &["tripwire"], notes),
        }
    }
    verdicts
}

fn read_status(table: &Table<'_>, notes: &mut Notebook) -> Vec<StatusPattern> {
    let mut patterns = Vec::new();
    for text in table.texts("status", notes) {
        match StatusPattern::parse(text.value) {
            Some(pattern) => patterns.push(pattern),
            None => {
                notes
                    .error(&codes::BAD_VALUE, text.span, format!("`{}` is not a status", text.value))
                    .help("write three digits, `\"404\"`, or a class, `\"5xx\"`");
            }
        }
    }
    patterns
}

fn read_sample(table: &Table<'_>, notes: &mut Notebook) -> Sample {
    let Some(value) = table.value("sample") else {
        return Sample::ALL;
    };
    let share = match value.get_ref() {
        DeValue::Float(share) => share.as_str().parse::<f64>().ok(),
        DeValue::Integer(share) => share.as_str().parse::<f64>().ok(),
        _ => {
            notes
                .error(&codes::WRONG_TYPE, value.span(), "`sample` takes a number")
                .help("write `sample = 0.01` for one connection in a hundred");
            return Sample::ALL;
        }
    };
    share.and_then(Sample::of).unwrap_or_else(|| {
        notes
            .error(&codes::BAD_VALUE, value.span(), "`sample` is a share above 0 and at most 1")
            .help("write `sample = 0.01` for one connection in a hundred");
        Sample::ALL
    })
}

/// `all`, `none` or `first SIZE`, or the default.
fn extent(table: &Table<'_>, key: &str, notes: &mut Notebook) -> Option<Extent> {
    let (text, span) = written_or_default(table, key, notes)?;
    checked(values::extent(text), span, notes)
}

fn size(table: &Table<'_>, key: &str, notes: &mut Notebook) -> Option<u64> {
    let (text, span) = written_or_default(table, key, notes)?;
    let size = checked(values::size(text), span.clone(), notes)?;
    if size > MOST_QUEUE {
        notes.error(&codes::BAD_VALUE, span, format!("`{key}` is at most 1GiB"));
        return None;
    }
    Some(size)
}

fn written_or_default<'a>(table: &Table<'a>, key: &str, notes: &mut Notebook) -> Option<(&'a str, Range<usize>)> {
    if table.has(key) {
        return table.text(key, notes).map(|text| (text.value, text.span));
    }
    match table.default(key) {
        Some(crate::schema::Default::Text(text)) => Some((text, table.span.clone())),
        _ => None,
    }
}

fn redactions(table: &Table<'_>, key: &str, notes: &mut Notebook) -> Vec<Redaction> {
    let mut found = Vec::new();
    for text in table.texts(key, notes) {
        match Redaction::parse(text.value) {
            Ok(redaction) if found.contains(&redaction) => {
                notes.error(&codes::DUPLICATE, text.span, format!("`{}` is in `{key}` twice", text.value));
            }
            Ok(redaction) => found.push(redaction),
            Err(why) => {
                notes
                    .error(&codes::BAD_VALUE, text.span, format!("`{}` cannot be masked: {why}", text.value))
                    .help("write a header as `x-secret`, or `cookie:name`, `query:name`, `json:name`");
            }
        }
    }
    found.sort();
    found
}

fn check_redaction(table: &Table<'_>, redact: &[Redaction], pass: &[Redaction], notes: &mut Notebook) {
    if redact.iter().any(|name| pass.contains(name)) {
        notes
            .error(&codes::CONFLICT, table.value_span("pass"), "the same name in `redact` and in `pass`")
            .related(table.value_span("redact"), "masked by this")
            .help("remove it from one of them");
    }
    if pass.iter().any(|name| matches!(name, Redaction::Json(_))) {
        notes
            .error(&codes::CONFLICT, table.value_span("pass"), "no field of JSON is masked unless `redact` names it")
            .help("remove it");
    }
}

/// Decrypted copies do not cross the network in the clear by mistake.
fn check_plaintext(table: &Table<'_>, sensor: &Sensor, allowed: bool, notes: &mut Notebook) {
    let crosses = sensor::crosses_unencrypted(sensor);
    if crosses && !allowed {
        notes
            .error(
                &codes::CONFLICT,
                table.value_span("to_sensor"),
                format!("{} would cross the network unencrypted", table.called),
            )
            .label("not on this host")
            .help("write `allow_plaintext_tap = true` if that is acceptable, send to a sensor on this host, or use `pcap+mtls`");
    }
    let never = matches!(sensor, Sensor::PcapMtls { .. }) || sensor.remote().is_none() && !listens(sensor);
    if allowed && never {
        notes
            .error(
                &codes::CONFLICT,
                table.key_span("allow_plaintext_tap"),
                format!("`allow_plaintext_tap` with a sensor of `{}`", sensor.scheme()),
            )
            .label("nothing leaves this host in the clear")
            .help("remove it");
    }
}

fn listens(sensor: &Sensor) -> bool {
    matches!(sensor, Sensor::PcapListen { .. })
}

/// Keys that only some kinds of sensors have a use for.
fn check_kind(table: &Table<'_>, sensor: &Sensor, notes: &mut Notebook) {
    if sensor.kind() == TapKind::Frames {
        return;
    }
    for key in ["mtu", "vlan", "port", "http", "stream"].into_iter().filter(|key| table.has(key)) {
        notes
            .error(&codes::CONFLICT, table.key_span(key), format!("`{key}` with a sensor of `{}`", sensor.scheme()))
            .related(table.value_span("to_sensor"), "takes no packets")
            .label("only packets have this")
            .help(format!("remove `{key}`"));
    }
}

/// Selectors that would never, or always, hold.
fn check_selection(table: &Table<'_>, select: &TapSelection, notes: &mut Notebook) {
    let own = match select.direction {
        TapDirection::Inbound => Some(("to", "what comes in is always for this workload")),
        TapDirection::Outbound => Some(("from", "what goes out is always from this workload")),
        TapDirection::Both => None,
    };
    if let Some((key, why)) = own.filter(|(key, _)| table.has(key)) {
        notes
            .error(&codes::CONFLICT, table.key_span(key), format!("`{key}` selects nothing in {}", table.called))
            .label(why)
            .help(format!("remove `{key}`, or write another `direction`"));
    }
}

/// What a packet can be built with: the least any path carries whole in IPv4 (RFC 791 §3.1), and the most IP has.
const MTU: std::ops::RangeInclusive<u32> = 576..=65535;
const MOST_QUEUE: u64 = 1 << 30;
/// The data path keeps one bit for each.
const MOST_TAPS: usize = 64;
