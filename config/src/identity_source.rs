//! `[identity]`: where certificate, key and bundle come from.

use crate::codes;
use crate::problem::Notebook;
use crate::reader::Table;
use crate::schema::{Default, IDENTITY};
use crate::snapshot::{CaSource, ExpectedCa, IdentitySource};
use crate::values;
use identity::{SpiffeId, TrustDomain};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Files,
    Ca,
    WorkloadApi,
    Sds,
}

const SOURCES: [(&str, Source); 4] =
    [("files", Source::Files), ("ca", Source::Ca), ("workload-api", Source::WorkloadApi), ("sds", Source::Sds)];

const FILES: [&str; 3] = ["cert", "key", "bundle"];

/// Which keys each source has. A key of another one would be read by nobody.
fn keys(source: Source) -> &'static [&'static str] {
    match source {
        Source::Files => &FILES,
        Source::Ca => &["address", "ca_id", "ca_name", "roots", "token", "cluster", "ttl"],
        Source::WorkloadApi => &["socket"],
        Source::Sds => &["socket", "certificate", "validation"],
    }
}

/// Reads the table, or takes the defaults; relative paths start at `base`.
pub(crate) fn read<'a>(
    table: Option<(&'a DeTable<'a>, Range<usize>)>,
    trust_domain: &TrustDomain,
    base: &Path,
    notes: &mut Notebook,
) -> Option<IdentitySource> {
    let empty = DeTable::new();
    let (map, span) = table.unwrap_or((&empty, 0..0));
    let table = Table::open(map, span, &IDENTITY, IDENTITY.title.to_owned(), notes);
    let source = table.choice("source", &SOURCES, &[], notes)?;
    strangers(&table, source, notes);
    match source {
        Source::Files => {
            all_or_none(&table, notes);
            let [cert, key, bundle] = FILES.map(|name| path(&table, name, base, notes));
            Some(IdentitySource::Files { cert, key, bundle })
        }
        Source::Ca => Some(IdentitySource::Ca(CaSource {
            address: address(&table, notes)?,
            expected: expected(&table, trust_domain, notes)?,
            roots: path(&table, "roots", base, notes),
            token: path(&table, "token", base, notes),
            cluster: table.owned("cluster", notes),
            ttl: table.duration("ttl", notes),
        })),
        Source::WorkloadApi => Some(IdentitySource::WorkloadApi { socket: path(&table, "socket", base, notes) }),
        Source::Sds => Some(IdentitySource::Sds {
            socket: path(&table, "socket", base, notes),
            certificate: text(&table, "certificate", notes)?,
            validation: text(&table, "validation", notes)?,
        }),
    }
}

fn strangers(table: &Table<'_>, source: Source, notes: &mut Notebook) {
    let word = SOURCES.iter().find(|(_, other)| *other == source).map_or("", |(word, _)| word);
    for key in IDENTITY.keys.iter().map(|key| key.name).filter(|key| *key != "source" && table.has(key)) {
        if keys(source).contains(&key) {
            continue;
        }
        let owners =
            SOURCES.iter().filter(|(_, other)| keys(*other).contains(&key)).map(|(word, _)| format!("`{word}`"));
        let owners = owners.collect::<Vec<_>>().join(" and ");
        notes
            .error(&codes::CONFLICT, table.key_span(key), format!("`{key}` means nothing with `source = \"{word}\"`"))
            .help(format!("it is a key of {owners}"));
    }
}

fn all_or_none(table: &Table<'_>, notes: &mut Notebook) {
    let written: Vec<&str> = FILES.into_iter().filter(|key| table.has(key)).collect();
    if let Some(first) = written.first() {
        for key in FILES.into_iter().filter(|key| !written.contains(key)) {
            notes
                .error(&codes::MISSING_KEY, table.key_span(first), format!("`{first}` is written, but `{key}` is not"))
                .help("write all of `cert`, `key` and `bundle`, or none of them");
        }
    }
}

fn address(table: &Table<'_>, notes: &mut Notebook) -> Option<String> {
    let text = text(table, "address", notes)?;
    match values::endpoint(&text) {
        Ok(_) => Some(text),
        Err(bad) => {
            notes
                .error(&codes::BAD_VALUE, table.value_span("address"), bad.message)
                .help("write the host and the port, `host:port`");
            None
        }
    }
}

/// A name or an identity, never both: two ways to be accepted would be one too many.
fn expected(table: &Table<'_>, trust_domain: &TrustDomain, notes: &mut Notebook) -> Option<ExpectedCa> {
    if table.has("ca_name") {
        if table.has("ca_id") {
            notes.error(&codes::CONFLICT, table.key_span("ca_name"), "`ca_id` and `ca_name` are both written").help(
                "`ca_id` is right for `sekisho ca serve`; `ca_name` is for a CA whose certificate names a host instead",
            );
        }
        let text = table.text("ca_name", notes)?;
        return match values::host_name(text.value) {
            Ok(name) if name == text.value && name.parse::<std::net::IpAddr>().is_err() => Some(ExpectedCa::Name(name)),
            _ => {
                let message = format!("`{}` is not a DNS name in lower case", text.value);
                notes.error(&codes::BAD_VALUE, text.span, message);
                None
            }
        };
    }
    let id = match table.text("ca_id", notes) {
        None if table.has("ca_id") => return None,
        None => SpiffeId::parse(&format!("spiffe://{trust_domain}/sekisho/ca")),
        Some(text) => {
            let parsed = SpiffeId::parse(text.value);
            if let Err(error) = &parsed {
                notes.error(&codes::BAD_VALUE, text.span, error.to_string());
            } else if parsed.as_ref().is_ok_and(|id| id.trust_domain() != trust_domain.as_str()) {
                let message = format!("`{}` is not of the trust domain `{trust_domain}`", text.value);
                notes
                    .error(&codes::CONFLICT, text.span, message)
                    .help("a CA certifies its own trust domain alone, and proves itself by a name in it");
            }
            parsed
        }
    };
    id.ok().map(ExpectedCa::Id)
}

fn text(table: &Table<'_>, key: &str, notes: &mut Notebook) -> Option<String> {
    if table.has(key) {
        return table.owned(key, notes);
    }
    match table.default(key) {
        Some(Default::Text(text)) => Some(text.to_owned()),
        _ => None,
    }
}

fn path(table: &Table<'_>, key: &str, base: &Path, notes: &mut Notebook) -> PathBuf {
    text(table, key, notes).map_or_else(|| base.to_path_buf(), |path| base.join(path))
}
