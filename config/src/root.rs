//! The top of the file: reads every section in turn and puts the snapshot together.

use crate::agent;
use crate::codes;
use crate::cross;
use crate::identity_source;
use crate::names::Names;
use crate::paths;
use crate::problem::{Notebook, Report};
use crate::proxy;
use crate::reader::Table;
use crate::rules::{self, Rules};
use crate::schema::{Default, ROOT};
use crate::services;
use crate::snapshot::Snapshot;
use crate::taps;
use identity::{SpiffeId, TrustDomain};
use policy::{Direction, Mode, RuleSet};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// See [`crate::parse`].
pub(crate) fn parse(file: &str, text: &str, base: &Path) -> Result<Snapshot, Report> {
    let mut notes = Notebook::new(file, text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        notes.error(&codes::SYNTAX, error.span().unwrap_or(0..0), error.message());
    }
    let snapshot =
        if schema_is_known(document.get_ref(), &mut notes) { read(document.get_ref(), base, &mut notes) } else { None };
    match (snapshot, notes.has_errors()) {
        (Some(snapshot), false) => Ok(Snapshot { digest: digest(text), warnings: notes.finish(), ..snapshot }),
        _ => Err(Report { problems: notes.finish() }),
    }
}

/// `schema = 1` comes first. Whatever follows another number is written in another language.
pub(crate) fn schema_is_known(root: &DeTable<'_>, notes: &mut Notebook) -> bool {
    const HELP: &str = "begin the file with `schema = 1`";
    let Some((key, value)) = root.get_key_value("schema") else {
        notes.error(&codes::SCHEMA, 0..0, "`schema` is missing").help(HELP);
        return true;
    };
    match value.get_ref() {
        DeValue::Integer(n) if n.radix() == 10 && n.as_str() == "1" => {}
        DeValue::Integer(n) => {
            notes
                .error(&codes::SCHEMA, value.span(), format!("schema {n} is not known to this version"))
                .help("this version reads `schema = 1`");
            return false;
        }
        _ => {
            notes.error(&codes::SCHEMA, value.span(), "`schema` is a whole number").help(HELP);
            return true;
        }
    }
    let first = root.iter().map(|(key, _)| key.span()).min_by_key(|span| span.start);
    if let Some(first) = first.filter(|first| first.start < key.span().start) {
        notes
            .error(&codes::SCHEMA, key.span(), "`schema` is not the first key")
            .related(first, "this stands before it")
            .help(HELP);
    }
    true
}

/// `None` only when a problem was noted.
fn read(map: &DeTable<'_>, base: &Path, notes: &mut Notebook) -> Option<Snapshot> {
    let root = Table::open(map, 0..0, &ROOT, ROOT.called().to_owned(), notes);
    let trust_domain = read_trust_domain(&root, notes)?;
    let workload = read_workload(&root, &trust_domain, notes);
    let modes = [("observe", Mode::Observe), ("enforce", Mode::Enforce)];
    let mode = root.choice("mode", &modes, &["shadow"], notes);
    let identity = identity_source::read(root.table("identity", notes), &trust_domain, base, notes);
    let agent = agent::read(root.table("agent", notes), base, notes);
    let app = proxy::read_app(root.table("app", notes), notes);
    let proxy = proxy::read(root.table("proxy", notes), root.has("app"), notes);
    let log = proxy::read_log(root.table("log", notes), base, notes);
    let names = Names::read(root.table("identities", notes), trust_domain.clone(), notes);
    let services = services::read(root.tables("service", notes), proxy.settings.capture, &names, notes);
    let paths = paths::read(root.table("path", notes), notes);
    let mut rules = Rules::of(paths.unwrap_or_default());
    rules::read(root.tables("inbound", notes), Direction::Inbound, &names, &mut rules, notes);
    rules::read(root.tables("outbound", notes), Direction::Outbound, &names, &mut rules, notes);
    let taps = taps::read(root.tables("tap", notes), &names, &rules, notes);
    cross::check(&proxy, app.as_ref(), &services, &rules, notes);
    Some(Snapshot {
        workload: workload?,
        trust_domain,
        mode: mode?,
        identity: identity?,
        agent,
        proxy: proxy.settings,
        app: app.map(|(app, _)| app),
        log,
        services: services.list.into_iter().map(|(service, _)| service).collect(),
        identities: names.into_entries(),
        rules: RuleSet::reading(paths?, rules.inbound, rules.outbound),
        taps,
        digest: String::new(),
        warnings: Vec::new(),
    })
}

/// A trust domain that cannot be read is noted, and the default stands in so that the rest is still checked.
fn read_trust_domain(root: &Table<'_>, notes: &mut Notebook) -> Option<TrustDomain> {
    if let Some(text) = root.text("trust_domain", notes) {
        match TrustDomain::parse(text.value) {
            Ok(trust_domain) => return Some(trust_domain),
            Err(e) => {
                notes.error(&codes::BAD_VALUE, text.span, e.to_string());
            }
        }
    }
    match root.default("trust_domain") {
        Some(Default::Text(name)) => TrustDomain::parse(name).ok(),
        _ => None,
    }
}

fn read_workload(root: &Table<'_>, trust_domain: &TrustDomain, notes: &mut Notebook) -> Option<SpiffeId> {
    let text = root.required_text("workload", notes)?;
    let parsed = if text.value.starts_with("spiffe:") {
        SpiffeId::parse(text.value)
    } else {
        SpiffeId::workload(trust_domain, text.value)
    };
    let id = match parsed {
        Ok(id) => id,
        Err(e) => {
            notes
                .error(&codes::BAD_IDENTITY, text.span, e.to_string())
                .help("write `workload = \"namespace/service-account\"`, or a full SPIFFE ID");
            return None;
        }
    };
    if id.path().is_empty() {
        notes.error(&codes::BAD_IDENTITY, text.span, "this names a trust domain, not a workload");
        return None;
    }
    if id.trust_domain() != trust_domain.as_str() {
        notes
            .error(&codes::CONFLICT, text.span, format!("the workload is not of the trust domain `{trust_domain}`"))
            .help(format!("write `trust_domain = \"{}\"`", id.trust_domain()));
        return None;
    }
    Some(id)
}

fn digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
