//! `[[inbound]]` and `[[outbound]]`: rules, checked key by key and for keys that contradict each other.

use crate::codes;
use crate::names::{ANYONE, Names};
use crate::problem::Notebook;
use crate::reader::{Table, Text, number_of, unknown_word};
use crate::schema::{INBOUND, OUTBOUND, Section};
use crate::services::{check_name, unique};
use identity::SpiffeId;
use policy::{
    Action, Cidr, Direction, GrpcPattern, HostPattern, IdPattern, Methods, PathOptions, PatternError, RequestPattern,
    Rule, RuleProtocol, UpgradePattern, Who,
};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use toml::de::DeTable;

/// The rules of both directions, and what the checks of the whole file need of them.
#[derive(Default)]
pub(crate) struct Rules {
    /// How the paths of both directions are compared.
    pub(crate) paths: PathOptions,
    pub(crate) inbound: Vec<Rule>,
    pub(crate) outbound: Vec<Rule>,
    /// Each word in `to` of an allow rule.
    pub(crate) destinations: Vec<Destination>,
    /// Where the first inbound rule stands.
    pub(crate) first_inbound: Option<Range<usize>>,
    /// The first allow rule whose ranges hold a metadata address, and where they stand.
    reaches_metadata: Option<(Arc<str>, Range<usize>)>,
}

impl Rules {
    /// None yet, of a file that compares paths in this way.
    pub(crate) fn of(paths: PathOptions) -> Self {
        Self { paths, ..Self::default() }
    }
}

/// One word in `to`.
pub(crate) struct Destination {
    patterns: Vec<IdPattern>,
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
}

impl Destination {
    /// Whether one of these identities is meant.
    pub(crate) fn is_among(&self, ids: &HashSet<&SpiffeId>) -> bool {
        self.patterns.iter().any(|pattern| match pattern.exact() {
            Some(id) => ids.contains(id),
            None => ids.iter().any(|id| pattern.matches(id)),
        })
    }
}

/// Reads the rules of one direction into `rules`.
pub(crate) fn read<'a>(
    tables: Vec<(&'a DeTable<'a>, Range<usize>)>,
    direction: Direction,
    names: &Names,
    rules: &mut Rules,
    notes: &mut Notebook,
) {
    let section = section_of(direction);
    let mut seen = HashMap::new();
    for (map, span) in tables {
        if direction == Direction::Inbound && rules.first_inbound.is_none() {
            rules.first_inbound = Some(span.clone());
        }
        let called = match map.get("name").and_then(|v| v.get_ref().as_str()) {
            Some(name) => format!("rule `{name}`"),
            None => section.title.to_owned(),
        };
        let table = Table::open(map, span, section, called, notes);
        let Some(rule) = read_rule(&table, direction, names, rules, &mut seen, notes) else {
            continue;
        };
        match direction {
            Direction::Inbound => rules.inbound.push(rule),
            Direction::Outbound => rules.outbound.push(rule),
        }
    }
    if direction == Direction::Outbound {
        guard_metadata(rules, notes);
    }
}

const fn section_of(direction: Direction) -> &'static Section {
    match direction {
        Direction::Inbound => &INBOUND,
        Direction::Outbound => &OUTBOUND,
    }
}

/// `None` only when a problem was noted.
fn read_rule(
    table: &Table<'_>,
    direction: Direction,
    names: &Names,
    rules: &mut Rules,
    seen: &mut HashMap<String, Range<usize>>,
    notes: &mut Notebook,
) -> Option<Rule> {
    let name = table.required_text("name", notes);
    if let Some(name) = &name {
        check_name(name, "a rule", notes);
        unique(seen, name.value.to_owned(), name.span.clone(), "rule", notes);
    }
    let actions = [("allow", Action::Allow), ("deny", Action::Deny)];
    let action = table.choice("action", &actions, &["tripwire"], notes);
    let who = match direction {
        Direction::Inbound => read_from(table, names, notes),
        Direction::Outbound => read_to(table, action, names, rules, notes),
    };
    let rule = Rule {
        not_who: if direction == Direction::Inbound { read_not_from(table, names, notes) } else { Vec::new() },
        cidrs: if direction == Direction::Outbound {
            patterns(table, "to_cidr", Cidr::parse, notes)
        } else {
            Vec::new()
        },
        hosts: patterns(table, "hosts", HostPattern::parse, notes),
        ports: read_ports(table, notes),
        protocol: read_protocol(table, notes),
        requests: patterns(table, "requests", |text| RequestPattern::parse_for(text, &rules.paths), notes),
        grpc: patterns(table, "grpc", GrpcPattern::parse, notes),
        upgrade: read_upgrade(table, notes),
        plaintext: direction == Direction::Inbound && table.flag("plaintext", notes),
        owner: table.owned("owner", notes),
        ticket: table.owned("ticket", notes),
        reason: table.owned("reason", notes),
        ..Rule::new(name.as_ref().map_or("", |n| n.value), action?, direction, who?)
    };
    check_together(table, &rule, notes);
    if rules.reaches_metadata.is_none() && rule.action == Action::Allow && reaches_metadata(&rule.cidrs) {
        rules.reaches_metadata = Some((rule.name.clone(), table.value_span("to_cidr")));
    }
    name.map(|_| rule)
}

fn read_from(table: &Table<'_>, names: &Names, notes: &mut Notebook) -> Option<Who> {
    if !table.has("from") {
        table.missing("from", notes);
        return None;
    }
    let texts = table.texts("from", notes);
    let anyone = anyone(&texts, "from", notes);
    let named = texts.iter().filter(|t| t.value != ANYONE);
    let ids = named.filter_map(|text| names.resolve(text, notes)).flatten().collect();
    Some(if anyone { Who::Anyone } else { Who::Ids(ids) })
}

fn read_not_from(table: &Table<'_>, names: &Names, notes: &mut Notebook) -> Vec<IdPattern> {
    let texts = table.texts("not_from", notes);
    if let Some(text) = texts.iter().find(|t| t.value == ANYONE) {
        notes.error(&codes::CONFLICT, text.span.clone(), "without `anyone` this rule is for nobody");
        return Vec::new();
    }
    texts.iter().filter_map(|text| names.resolve(text, notes)).flatten().collect()
}

fn read_to(
    table: &Table<'_>,
    action: Option<Action>,
    names: &Names,
    rules: &mut Rules,
    notes: &mut Notebook,
) -> Option<Who> {
    match (table.has("to"), table.has("to_cidr")) {
        // Already refused by name; saying that `to` is missing would only distract.
        (false, false) if table.mentions("to_dns") => return None,
        (false, false) => {
            notes
                .error(&codes::MISSING_KEY, table.span.clone(), format!("`to` is missing in {}", table.called))
                .help("write `to = \"namespace/service-account\"`, or `to_cidr` for addresses without an identity");
            return None;
        }
        (false, true) => return Some(Who::Anyone),
        (true, true) => {
            notes
                .error(
                    &codes::CONFLICT,
                    table.key_span("to_cidr"),
                    format!("`to` and `to_cidr` together in {}", table.called),
                )
                .related(table.key_span("to"), "`to` means a proven identity")
                .label("`to_cidr` means addresses without one")
                .help("write two rules");
        }
        (true, false) => {}
    }
    let texts = table.texts("to", notes);
    if anyone(&texts, "to", notes) {
        if action == Some(Action::Allow) {
            notes
                .error(&codes::CONFLICT, table.value_span("to"), "an allow rule names its destinations")
                .help("name identities in `to`, or addresses in `to_cidr`; `anyone` is for deny rules");
        }
        return Some(Who::Anyone);
    }
    let mut ids = Vec::new();
    for text in &texts {
        let Some(patterns) = names.resolve(text, notes) else {
            continue;
        };
        if action == Some(Action::Allow) {
            let (text, span) = (text.value.to_owned(), text.span.clone());
            rules.destinations.push(Destination { patterns: patterns.clone(), text, span });
        }
        ids.extend(patterns);
    }
    Some(Who::Ids(ids))
}

/// Whether the list is the word `anyone`, which stands alone.
fn anyone(texts: &[Text<'_>], key: &str, notes: &mut Notebook) -> bool {
    let Some(text) = texts.iter().find(|t| t.value == ANYONE) else {
        return false;
    };
    if texts.len() > 1 {
        notes
            .error(&codes::CONFLICT, text.span.clone(), format!("`anyone` already includes the others in `{key}`"))
            .help("let it stand alone, or remove it");
    }
    true
}

pub(crate) fn read_ports(table: &Table<'_>, notes: &mut Notebook) -> Vec<u16> {
    let values = table.values("ports", notes);
    let numbers = values.into_iter().filter_map(|v| number_of(v, "ports", 1..=65535, notes));
    numbers.filter_map(|n| u16::try_from(n).ok()).collect()
}

fn read_upgrade(table: &Table<'_>, notes: &mut Notebook) -> Vec<UpgradePattern> {
    let protocols = patterns(table, "upgrade", UpgradePattern::parse, notes);
    if let Some((_, twice)) = protocols.iter().enumerate().find(|(i, p)| protocols.iter().take(*i).any(|q| q == *p)) {
        notes.error(&codes::DUPLICATE, table.value_span("upgrade"), format!("`{twice}` is in `upgrade` twice"));
    }
    protocols
}

fn read_protocol(table: &Table<'_>, notes: &mut Notebook) -> Option<RuleProtocol> {
    let words = [("auto", None), ("http", Some(RuleProtocol::Http)), ("tcp", Some(RuleProtocol::Tcp))];
    if let Some(value) = table.value("protocol")
        && let Some(word @ ("http1" | "http2")) = value.get_ref().as_str()
    {
        let text = Text { value: word, span: value.span() };
        unknown_word(&text, "protocol", &["auto", "http", "tcp"], &[], notes);
        return None;
    }
    table.choice("protocol", &words, &[], notes).flatten()
}

/// One string or a list of them, each a pattern; the caret of a problem stands inside the string.
pub(crate) fn patterns<T>(
    table: &Table<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, PatternError>,
    notes: &mut Notebook,
) -> Vec<T> {
    let mut parsed = Vec::new();
    for text in table.texts(key, notes) {
        match parse(text.value) {
            Ok(pattern) => parsed.push(pattern),
            Err(e) => {
                let place = text.part(notes, e.offset, e.len);
                let code = if e.message.contains("not yet supported") { &codes::LATER } else { &codes::BAD_PATTERN };
                let problem = notes.error(code, place, e.message);
                if let Some(help) = e.help {
                    problem.help(help);
                }
            }
        }
    }
    parsed
}

/// Keys that contradict each other, so that the rule could never do what it says.
fn check_together(table: &Table<'_>, rule: &Rule, notes: &mut Notebook) {
    if rule.protocol == Some(RuleProtocol::Tcp) {
        for key in ["requests", "grpc", "hosts", "upgrade"].into_iter().filter(|key| table.has(key)) {
            notes
                .error(&codes::CONFLICT, table.key_span(key), format!("`{key}` in a rule with `protocol = \"tcp\"`"))
                .related(table.key_span("protocol"), "opaque bytes are not looked into")
                .label("only HTTP has this")
                .help(format!("remove `{key}` or `protocol`"));
        }
    }
    if table.has("requests") && table.has("grpc") {
        notes
            .error(
                &codes::CONFLICT,
                table.key_span("grpc"),
                format!("`requests` and `grpc` together in {}", table.called),
            )
            .related(table.key_span("requests"), "a request would have to match both")
            .help("write two rules");
    }
    if table.has("upgrade") && table.has("grpc") {
        notes
            .error(
                &codes::CONFLICT,
                table.key_span("upgrade"),
                format!("`upgrade` and `grpc` together in {}", table.called),
            )
            .related(table.key_span("grpc"), "a gRPC call never asks to switch protocols")
            .help("write two rules");
    }
    check_connect(table, rule, notes);
    if !rule.plaintext {
        return;
    }
    let span = table.key_span("plaintext");
    if rule.action == Action::Deny {
        notes
            .error(&codes::CONFLICT, span, "`plaintext` in a deny rule")
            .help("remove it: a deny rule holds with and without mutual TLS");
    } else if rule.who != Who::Anyone {
        notes
            .error(&codes::CONFLICT, span, "`plaintext` in a rule that names identities")
            .label("without mutual TLS there is no identity")
            .help("write `from = \"anyone\"`");
    }
}

/// CONNECT is named twice, as a method in `requests` and in `upgrade`; a rule with one of them alone looks as if it
/// spoke of tunnels, and does not.
fn check_connect(table: &Table<'_>, rule: &Rule, notes: &mut Notebook) {
    let written = rule.requests.iter().any(|r| r.methods != Methods::Any && r.methods.contains("CONNECT"));
    let covered = rule.requests.is_empty() || rule.requests.iter().any(|r| r.matches("CONNECT", "/"));
    let named = rule.upgrade.iter().any(UpgradePattern::is_connect);
    if written && !named && (rule.action == Action::Allow || !rule.upgrade.is_empty()) {
        notes
            .error(&codes::CONFLICT, table.key_span("requests"), "CONNECT in `requests` without `connect` in `upgrade`")
            .label("no tunnel would match")
            .help("write `upgrade = [\"connect\"]` as well");
    }
    if named && !covered {
        notes
            .error(
                &codes::CONFLICT,
                table.key_span("upgrade"),
                "`connect` in `upgrade`, but no operation in `requests` is CONNECT",
            )
            .related(table.key_span("requests"), "a tunnel would have to match one of these")
            .label("no tunnel would match")
            .help("add `\"CONNECT /\"` to `requests`, or write two rules");
    }
}

/// Where cloud metadata services hand out credentials: the address all clouds share, its IPv6 form, and the
/// addresses of task and pod credentials at Amazon.
const METADATA: [&str; 6] =
    ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"];

fn reaches_metadata(cidrs: &[Cidr]) -> bool {
    let addresses = METADATA.iter().filter_map(|a| a.parse::<IpAddr>().ok());
    addresses.into_iter().any(|a| cidrs.iter().any(|c| c.contains(a)))
}

/// Adds the sidecar's own deny rule where a range would reach a metadata address.
fn guard_metadata(rules: &mut Rules, notes: &mut Notebook) {
    let Some((name, span)) = rules.reaches_metadata.take() else {
        return;
    };
    rules.outbound.push(Rule {
        cidrs: METADATA.iter().filter_map(|a| Cidr::parse(a).ok()).collect(),
        reason: Some("cloud metadata services hand out credentials".to_owned()),
        ..Rule::new("builtin/metadata-deny", Action::Deny, Direction::Outbound, Who::Anyone)
    });
    notes
        .warning(&codes::METADATA, span, format!("rule `{name}` reaches a cloud metadata address"))
        .label("the rule `builtin/metadata-deny` refuses that part")
        .help("name narrower ranges");
}
