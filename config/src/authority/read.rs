//! Reads every section in turn and puts the settings together.

use super::schema::{CLUSTER, ISSUE, LIMITS, ROOT, ROTATION, SERVER};
use super::settings::{ApiSettings, CaSettings, ClusterSettings, Lifetimes, RotationSettings};
use crate::codes;
use crate::problem::{Notebook, Report};
use crate::reader::Table;
use crate::schema::{Default, Section};
use crate::services::{check_name, unique};
use crate::snapshot::{Endpoint, Listen};
use crate::values;
use identity::{SpiffeId, TrustDomain};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeTable;

/// See [`super::parse_ca`].
pub(crate) fn parse(file: &str, text: &str, base: &Path) -> Result<CaSettings, Report> {
    let mut notes = Notebook::new(file, text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        notes.error(&codes::SYNTAX, error.span().unwrap_or(0..0), error.message());
    }
    let known = crate::root::schema_is_known(document.get_ref(), &mut notes);
    let settings = if known { read(document.get_ref(), base, &mut notes) } else { None };
    match (settings, notes.has_errors()) {
        (Some(settings), false) => Ok(CaSettings { warnings: notes.finish(), ..settings }),
        _ => Err(Report { problems: notes.finish() }),
    }
}

/// `None` only when a problem was noted.
fn read(map: &DeTable<'_>, base: &Path, notes: &mut Notebook) -> Option<CaSettings> {
    let empty = DeTable::new();
    let root = Table::open(map, 0..0, &ROOT, ROOT.called().to_owned(), notes);
    let dir = path(&root, "dir", base, notes);
    let passphrase_file = if root.has("passphrase_file") { path(&root, "passphrase_file", base, notes) } else { None };
    let keys = if root.has("keys") { path(&root, "keys", base, notes) } else { None };
    let server = section(&root, "server", &SERVER, &empty, notes);
    let issue = section(&root, "issue", &ISSUE, &empty, notes);
    let rotation = section(&root, "rotation", &ROTATION, &empty, notes);
    let limits = section(&root, "limits", &LIMITS, &empty, notes);
    let identity = read_identity(&server, notes);
    let names = read_names(&server, notes);
    let lifetimes = read_lifetimes(&issue, notes);
    let verify_signatures = issue.flag("verify_signatures", notes);
    let rotation = read_rotation(&rotation, notes);
    let clusters = read_clusters(root.tables("cluster", notes), base, notes);
    let signing = match limits.has("signing") {
        true => limits.number("signing", 1..=1024, notes).map(|n| n as usize),
        false => Some(0),
    };
    Some(CaSettings {
        dir: dir?,
        passphrase_file,
        keys,
        identity: identity?,
        names,
        listen: listen(&server, "listen", notes),
        admin: listen(&server, "admin", notes),
        health: listen(&server, "health", notes),
        lifetimes: lifetimes?,
        verify_signatures,
        rotation: rotation?,
        clusters,
        per_identity_per_hour: limits.number("per_identity_per_hour", 1..=1_000_000, notes)?,
        keys_per_token: limits.number("keys_per_token", 1..=16, notes)? as usize,
        per_source_per_second: limits.number("per_source_per_second", 1..=1_000_000, notes)?,
        signing: signing?,
        waiting: limits.number("waiting", 1..=1_000_000, notes)? as usize,
        warnings: Vec::new(),
    })
}

fn section<'a>(
    root: &Table<'a>,
    key: &str,
    section: &'static Section,
    empty: &'a DeTable<'a>,
    notes: &mut Notebook,
) -> Table<'a> {
    let (map, span) = root.table(key, notes).unwrap_or((empty, 0..0));
    Table::open(map, span, section, section.title.to_owned(), notes)
}

/// The path of an ID, tried on a trust domain that is certainly legal.
fn read_identity(server: &Table<'_>, notes: &mut Notebook) -> Option<String> {
    let (text, span) = match server.text("identity", notes) {
        Some(text) => (text.value, text.span),
        None => match server.default("identity") {
            Some(Default::Text(text)) => (text, 0..0),
            _ => return None,
        },
    };
    match SpiffeId::parse(&format!("spiffe://example.org/{text}")) {
        Ok(_) => Some(text.to_owned()),
        Err(error) => {
            notes.error(&codes::BAD_VALUE, span, format!("`{text}` is not the path of a SPIFFE ID: {error}"));
            None
        }
    }
}

fn read_names(server: &Table<'_>, notes: &mut Notebook) -> Vec<String> {
    let mut seen = HashMap::new();
    let mut names = Vec::new();
    for text in server.texts("names", notes) {
        let plain = TrustDomain::parse(text.value).is_ok() && !text.value.contains('_') && text.value.len() <= 253;
        if !plain {
            notes
                .error(&codes::BAD_VALUE, text.span, format!("`{}` is not a DNS name", text.value))
                .help("a name is labels of lower-case letters, digits and `-`, with dots between them (RFC 1123 §2.1)");
            continue;
        }
        unique(&mut seen, text.value.to_owned(), text.span, "name", notes);
        names.push(text.value.to_owned());
    }
    names
}

fn read_lifetimes(issue: &Table<'_>, notes: &mut Notebook) -> Option<Lifetimes> {
    const WORDS: [(&str, Duration); 2] = [("default", DAY), ("strict", HOUR)];
    let profile = issue.choice("profile", &WORDS, &[], notes);
    let ttl = within(issue, "ttl", SHORTEST..LONGEST, notes);
    let longest = within(issue, "max_ttl", SHORTEST..LONGEST, notes);
    let lineage = within(issue, "lineage", HOUR..DAY * 366, notes)?;
    let default = ttl?.or(profile)?;
    let longest = longest?.unwrap_or(default);
    if longest < default {
        notes
            .error(&codes::CONFLICT, issue.value_span("max_ttl"), "`max_ttl` is shorter than what is issued unasked")
            .help("write `ttl` as well, not longer than `max_ttl`");
    }
    Some(Lifetimes { default, longest, lineage: lineage? })
}

fn read_rotation(rotation: &Table<'_>, notes: &mut Notebook) -> Option<RotationSettings> {
    let second = Duration::from_secs(1);
    let left = rotation.number("prepare_at_percent_left", 0..=90, notes);
    let splay = within(rotation, "splay", second..DAY, notes)?;
    let skew = within(rotation, "skew", second..DAY, notes)?;
    Some(RotationSettings { prepare_at_percent_left: u8::try_from(left?).ok()?, splay: splay?, skew: skew? })
}

/// The outer `None`: it is written and wrong. The inner: it is not written and has no default.
fn within(table: &Table<'_>, key: &str, range: Range<Duration>, notes: &mut Notebook) -> Option<Option<Duration>> {
    let duration = table.duration(key, notes);
    match duration {
        Some(value) if value < range.start || value > range.end => {
            let (least, most) = (range.start.as_secs(), range.end.as_secs() / 86_400);
            notes.error(
                &codes::BAD_VALUE,
                table.value_span(key),
                format!("`{key}` must be at least {least} s and at most {most} days"),
            );
            None
        }
        Some(value) => Some(Some(value)),
        None if table.has(key) => None,
        None => Some(None),
    }
}

fn read_clusters<'a>(
    tables: Vec<(&'a DeTable<'a>, Range<usize>)>,
    base: &Path,
    notes: &mut Notebook,
) -> Vec<ClusterSettings> {
    let mut seen = HashMap::new();
    let mut clusters = Vec::new();
    for (map, span) in tables {
        let called = match map.get("name").and_then(|v| v.get_ref().as_str()) {
            Some(name) => format!("cluster `{name}`"),
            None => CLUSTER.title.to_owned(),
        };
        let table = Table::open(map, span, &CLUSTER, called, notes);
        let name = table.required_text("name", notes);
        if let Some(name) = &name {
            check_name(name, "a cluster", notes);
            unique(&mut seen, name.value.to_owned(), name.span.clone(), "cluster", notes);
        }
        let issuer = required(&table, "issuer", notes);
        let audience = text_or_default(&table, "audience", notes);
        let template = text_or_default(&table, "id", notes);
        let jwks = if table.has("jwks") { path(&table, "jwks", base, notes) } else { None };
        let api = read_api(&table, base, notes);
        let strict = table.flag("strict", notes);
        if !table.has("api") {
            if !table.has("jwks") {
                table.missing("jwks", notes);
            }
            if strict {
                notes
                    .error(&codes::MISSING_KEY, table.key_span("strict"), "`strict` needs an `api` to ask")
                    .help("write `api = \"kubernetes.default.svc:443\"`");
            }
        }
        if let (Some(name), Some(issuer), Some(audience), Some(template)) = (name, issuer, audience, template) {
            let name = name.value.to_owned();
            clusters.push(ClusterSettings { name, issuer, audience, jwks, api, strict, template });
        }
    }
    clusters
}

fn read_api(table: &Table<'_>, base: &Path, notes: &mut Notebook) -> Option<ApiSettings> {
    let text = table.text("api", notes)?;
    let checked = match values::endpoint(text.value) {
        Ok(Endpoint::Name { .. }) => Ok(()),
        Ok(Endpoint::Socket(_)) => Err(format!("`{}` is an address; its certificate is known by a name", text.value)),
        Err(bad) => Err(bad.message),
    };
    if let Err(message) = checked {
        notes
            .error(&codes::BAD_VALUE, text.span, message)
            .help("write `host:port`, such as `kubernetes.default.svc:443`");
        return None;
    }
    let (roots, token) = (path(table, "api_roots", base, notes)?, path(table, "api_token", base, notes)?);
    Some(ApiSettings { address: text.value.to_owned(), roots, token })
}

fn required(table: &Table<'_>, key: &str, notes: &mut Notebook) -> Option<String> {
    if !table.has(key) {
        table.missing(key, notes);
    }
    table.owned(key, notes)
}

fn text_or_default(table: &Table<'_>, key: &str, notes: &mut Notebook) -> Option<String> {
    if table.has(key) {
        return table.owned(key, notes);
    }
    match table.default(key) {
        Some(Default::Text(text)) => Some(text.to_owned()),
        _ => None,
    }
}

fn path(table: &Table<'_>, key: &str, base: &Path, notes: &mut Notebook) -> Option<PathBuf> {
    text_or_default(table, key, notes).map(|path| base.join(path))
}

fn listen(table: &Table<'_>, key: &str, notes: &mut Notebook) -> Vec<Listen> {
    let (addresses, defaulted) = table.addresses(key, notes);
    addresses.into_iter().map(|addr| Listen { addr, defaulted }).collect()
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Below this, half of a lifetime is too short to renew in.
const SHORTEST: Duration = Duration::from_secs(5);
/// The lifetime of the intermediate that signs.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<CaSettings, Vec<String>> {
        parse("ca.toml", text, Path::new("/etc/ca"))
            .map_err(|report| report.problems.iter().map(|problem| problem.message.clone()).collect())
    }

    #[test]
    fn one_line_is_a_whole_file() {
        let settings = parsed("schema = 1").unwrap();
        assert_eq!(settings.dir, Path::new("/var/lib/sekisho-ca"));
        assert_eq!(settings.identity, "sekisho/ca");
        assert_eq!(settings.lifetimes, Lifetimes { default: DAY, longest: DAY, lineage: DAY * 30 });
        assert_eq!(settings.listen.len(), 2);
        assert!(!settings.verify_signatures);
        assert!(settings.clusters.is_empty() && settings.passphrase_file.is_none());
    }

    #[test]
    fn everything_that_is_written_is_taken() {
        let text = r#"
            schema = 1
            dir = "state"
            passphrase_file = "/run/secrets/pass"
            [server]
            listen = "127.0.0.1:15012"
            names = ["ca.sekisho.svc", "localhost"]
            identity = "infra/ca"
            [issue]
            profile = "strict"
            max_ttl = "2h"
            verify_signatures = true
            [limits]
            signing = 2
            [[cluster]]
            name = "main"
            issuer = "https://kubernetes.default.svc"
            jwks = "jwks.json"
        "#;
        let settings = parsed(text).unwrap();
        assert_eq!(settings.dir, Path::new("/etc/ca/state"));
        assert_eq!(settings.lifetimes, Lifetimes { default: HOUR, longest: HOUR * 2, lineage: DAY * 30 });
        assert_eq!(settings.names, ["ca.sekisho.svc", "localhost"]);
        assert_eq!(settings.signing, 2);
        assert!(settings.verify_signatures);
        let [cluster] = settings.clusters.as_slice() else { panic!() };
        assert_eq!(cluster.audience, "sekisho-ca");
        assert_eq!(cluster.jwks.as_deref(), Some(Path::new("/etc/ca/jwks.json")));
        assert_eq!(cluster.template, "ns/{namespace}/sa/{serviceaccount}");
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text = r#"
            schema = 1
            [server]
            identity = "/ca"
            names = "UPPER"
            [issue]
            ttl = "1s"
            [[cluster]]
            name = "a"
            [[cluster]]
            name = "a"
            issuer = "https://one"
            jwks = "x"
            token = "y"
        "#;
        let problems = parsed(text).unwrap_err();
        let about = |word: &str| assert!(problems.iter().any(|p| p.contains(word)), "{word}: {problems:#?}");
        for word in ["`/ca` is not the path", "`UPPER` is not a DNS name", "`ttl` must be", "`issuer` is missing"] {
            about(word);
        }
        for word in ["`jwks` is missing", "the cluster `a` is there twice", "unknown key `token`"] {
            about(word);
        }
    }

    #[test]
    fn keys_come_from_a_file_or_from_the_cluster_and_strictness_needs_the_cluster() {
        let cluster = |rest: &str| {
            parsed(&format!("schema = 1\n[[cluster]]\nname = \"a\"\nissuer = \"https://one\"\n{rest}"))
                .map(|settings| settings.clusters[0].clone())
        };
        let api = cluster("api = \"kubernetes.default.svc:443\"\nstrict = true").unwrap();
        assert!(api.strict && api.jwks.is_none());
        assert_eq!(api.api.unwrap().address, "kubernetes.default.svc:443");
        for (rest, message) in [
            ("", "`jwks` is missing"),
            ("jwks = \"j\"\nstrict = true", "`strict` needs an `api`"),
            ("api = \"10.0.0.1:443\"", "is an address"),
            ("api = \"kubernetes.default.svc\"", "has no port"),
        ] {
            let problems = cluster(rest).unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains(message)), "{rest}: {problems:#?}");
        }
    }

    #[test]
    fn what_is_issued_unasked_is_never_more_than_may_be_asked_for() {
        let problems = parsed("schema = 1\n[issue]\nttl = \"2h\"\nmax_ttl = \"1h\"").unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(parsed("schema = 1\n[issue]\nmax_ttl = \"1h\"").is_err(), "the profile's 24 h are more");
    }
}
