//! `[[service]]`: a destination, its names, the one identity accepted from it, how to reach it.

use crate::codes;
use crate::names::Names;
use crate::problem::Notebook;
use crate::proxy::{Bound, protocol};
use crate::reader::{Table, checked};
use crate::schema::SERVICE;
use crate::snapshot::{Capture, Service};
use crate::values;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;
use toml::de::DeTable;

/// The services, and what the checks of the whole file need of them.
#[derive(Default)]
pub(crate) struct Services {
    /// Each with the place of its header.
    pub(crate) list: Vec<(Service, Range<usize>)>,
    pub(crate) bound: Vec<Bound>,
    seen: Seen,
}

/// What has to be unique over all services, with its first place.
#[derive(Default)]
struct Seen {
    names: HashMap<String, Range<usize>>,
    hosts: HashMap<String, Range<usize>>,
    addresses: HashMap<std::net::SocketAddr, Range<usize>>,
}

/// Reads every `[[service]]`.
pub(crate) fn read<'a>(
    tables: Vec<(&'a DeTable<'a>, Range<usize>)>,
    capture: Capture,
    names: &Names,
    notes: &mut Notebook,
) -> Services {
    let mut services = Services::default();
    for (map, span) in tables {
        let called = match map.get("name").and_then(|v| v.get_ref().as_str()) {
            Some(name) => format!("service `{name}`"),
            None => SERVICE.title.to_owned(),
        };
        let table = Table::open(map, span, &SERVICE, called, notes);
        services.add(&table, capture, names, notes);
    }
    services
}

impl Services {
    fn add(&mut self, table: &Table<'_>, capture: Capture, names: &Names, notes: &mut Notebook) {
        let name = table.required_text("name", notes);
        if let Some(name) = &name {
            check_name(name, "a service", notes);
            unique(&mut self.seen.names, name.value.to_owned(), name.span.clone(), "service", notes);
        }
        let identity = table.required_text("identity", notes).and_then(|text| names.exact(&text, "identity", notes));
        let hosts = self.hosts(table, notes);
        let (addresses, _) = table.addresses("addresses", notes);
        for address in &addresses {
            unique(&mut self.seen.addresses, *address, table.value_span("addresses"), "address", notes);
        }
        let (bind, _) = table.addresses("bind", notes);
        let key = format!("{} bind", table.called);
        let bound = |address| Bound { address, span: table.value_span("bind"), key: key.clone(), written: true };
        self.bound.extend(bind.iter().copied().map(bound));
        let endpoints: Vec<_> = table
            .texts("endpoints", notes)
            .iter()
            .filter_map(|text| checked(values::endpoint(text.value), text.span.clone(), notes))
            .collect();
        let protocol = protocol(table, notes);
        let timeout = table.duration("timeout", notes);
        let connect_timeout = table.duration("connect_timeout", notes);
        check_reach(table, capture, notes);
        if let (Some(name), Some(identity)) = (name, identity) {
            let name = name.value.to_owned();
            let service =
                Service { name, hosts, identity, endpoints, addresses, bind, protocol, timeout, connect_timeout };
            self.list.push((service, table.span.clone()));
        }
    }

    fn hosts(&mut self, table: &Table<'_>, notes: &mut Notebook) -> Vec<String> {
        let mut hosts = Vec::new();
        for text in table.texts("hosts", notes) {
            if let Some(host) = checked(values::host_name(text.value), text.span.clone(), notes) {
                unique(&mut self.seen.hosts, host.clone(), text.span, "host", notes);
                hosts.push(host);
            }
        }
        hosts
    }
}

/// There must be a way to the service, and a way for traffic to be recognised as meant for it.
fn check_reach(table: &Table<'_>, capture: Capture, notes: &mut Notebook) {
    if !table.has("endpoints") && (capture == Capture::None || table.has("bind")) {
        let why = if table.has("bind") { "needed by `bind`" } else { "needed with `capture = \"none\"`" };
        let message = format!("`endpoints` is missing in {}", table.called);
        notes
            .error(&codes::MISSING_KEY, table.span.clone(), message)
            .label(why)
            .help("write `endpoints = [\"host:port\"]`");
    }
    if !["hosts", "addresses", "bind"].iter().any(|key| table.has(key)) {
        notes
            .error(&codes::MISSING_KEY, table.span.clone(), format!("nothing leads to {}", table.called))
            .help("write at least one of `hosts`, `addresses` and `bind`");
    }
}

/// Notes a name that cannot stand in logs and metrics.
pub(crate) fn check_name(name: &crate::reader::Text<'_>, what: &str, notes: &mut Notebook) {
    if name.value.starts_with("builtin/") {
        let message = "names that begin with `builtin/` belong to the sidecar's own rules";
        notes.error(&codes::BAD_NAME, name.span.clone(), message);
    } else if !values::is_name(name.value) {
        notes
            .error(&codes::BAD_NAME, name.span.clone(), format!("`{}` cannot name {what}", name.value))
            .help("a name is letters, digits, `.`, `_` and `-`, at most 128, beginning with a letter or digit");
    }
}

/// Notes a second use of something that points to one entry.
pub(crate) fn unique<K: Hash + Eq + std::fmt::Display>(
    seen: &mut HashMap<K, Range<usize>>,
    value: K,
    span: Range<usize>,
    what: &str,
    notes: &mut Notebook,
) {
    match seen.get(&value) {
        Some(first) => {
            notes
                .error(&codes::DUPLICATE, span, format!("the {what} `{value}` is there twice"))
                .related(first.clone(), "first here");
        }
        None => {
            seen.insert(value, span);
        }
    }
}
