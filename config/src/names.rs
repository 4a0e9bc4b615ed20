//! `[identities]`: names for "who", and what a rule's word for "who" means.

use crate::codes;
use crate::problem::Notebook;
use crate::reader::{Table, Text, Value, text_of};
use crate::schema::IDENTITIES;
use crate::snapshot::NamedIdentity;
use crate::suggest;
use crate::values;
use identity::{SpiffeId, TrustDomain};
use policy::IdPattern;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// The names, and the trust domain in which short identities are read.
pub(crate) struct Names {
    own: TrustDomain,
    /// A name whose identities could not be read is here with those that could.
    entries: BTreeMap<String, NamedIdentity>,
    /// How many identities the words of rules may still stand for; `None` once that was said.
    left: Cell<Option<usize>>,
}

/// How many identities all words of all rules may stand for together. A name of [identities] stands for all of its own
/// wherever it is used, so a short file could otherwise ask for any amount of memory.
const MOST_IDENTITIES: usize = 100_000;

/// The word for everyone, with or without an identity.
pub(crate) const ANYONE: &str = "anyone";

impl Names {
    pub(crate) fn read(table: Option<(&DeTable<'_>, Range<usize>)>, own: TrustDomain, notes: &mut Notebook) -> Self {
        let mut names = Self { own, entries: BTreeMap::new(), left: Cell::new(Some(MOST_IDENTITIES)) };
        for (key, value) in table.iter().flat_map(|(map, _)| map.iter()) {
            let name = key.get_ref().as_ref();
            if !values::is_name(name) || name == ANYONE {
                notes
                    .error(&codes::BAD_NAME, key.span(), format!("`{name}` cannot name an identity"))
                    .help("a name is letters, digits, `.`, `_` and `-`, and not `anyone`");
            }
            let entry = names.entry(name, value, notes);
            names.entries.insert(name.to_owned(), entry);
        }
        names
    }

    /// The names in order, for the snapshot.
    pub(crate) fn into_entries(self) -> Vec<NamedIdentity> {
        self.entries.into_values().collect()
    }

    /// What one word of a rule means: a name, or a pattern. `anyone` is not for this function.
    pub(crate) fn resolve(&self, text: &Text<'_>, notes: &mut Notebook) -> Option<Vec<IdPattern>> {
        if text.value.contains(['/', ':']) {
            self.take(1, text, notes)?;
            return self.pattern(text, notes).map(|p| vec![p]);
        }
        if let Some(entry) = self.entries.get(text.value) {
            self.take(entry.ids.len(), text, notes)?;
            return Some(entry.ids.clone());
        }
        let problem =
            notes.error(&codes::UNKNOWN_IDENTITY, text.span.clone(), format!("unknown identity `{}`", text.value));
        problem.label("not a name of [identities]");
        match suggest::nearest(text.value, self.entries.keys().map(String::as_str).chain([ANYONE])) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help("write `namespace/service-account`, or add the name to [identities]"),
        };
        None
    }

    /// Counts what a word stands for. `None`, and a note the first time, when that is more than is left.
    fn take(&self, count: usize, text: &Text<'_>, notes: &mut Notebook) -> Option<()> {
        let left = self.left.get()?;
        self.left.set(left.checked_sub(count));
        if self.left.get().is_none() {
            let message = format!("the rules of this file stand for more than {MOST_IDENTITIES} identities");
            notes
                .error(&codes::TOO_MANY, text.span.clone(), message)
                .label("up to here")
                .help("write a pattern, such as `ns:shop` or `batch-*/*`, instead of a list");
        }
        self.left.get().map(|_| ())
    }

    /// What one word means where exactly one identity is wanted.
    pub(crate) fn exact(&self, text: &Text<'_>, key: &str, notes: &mut Notebook) -> Option<SpiffeId> {
        let patterns = self.resolve(text, notes)?;
        if let [one] = patterns.as_slice()
            && let Some(id) = one.exact()
        {
            return Some(id.clone());
        }
        if !patterns.is_empty() {
            notes
                .error(&codes::BAD_IDENTITY, text.span.clone(), format!("`{key}` names exactly one identity"))
                .help("write `namespace/service-account` or a full SPIFFE ID, without `*`");
        }
        None
    }

    fn entry(&self, name: &str, value: &Value<'_>, notes: &mut Notebook) -> NamedIdentity {
        let mut entry = NamedIdentity { name: name.to_owned(), ids: Vec::new(), kind: None, criticality: None };
        let texts = match value.get_ref() {
            DeValue::Table(map) => {
                let table = Table::open(map, value.span(), &IDENTITIES, format!("identity `{name}`"), notes);
                entry.kind = table.owned("kind", notes);
                let levels = [("low", "low"), ("medium", "medium"), ("high", "high")];
                entry.criticality = table.choice("criticality", &levels, &[], notes).map(str::to_owned);
                if !table.has("id") {
                    table.missing("id", notes);
                }
                table.texts("id", notes)
            }
            DeValue::Array(items) if items.is_empty() => {
                notes.error(&codes::EMPTY_LIST, value.span(), format!("identity `{name}` is an empty list"));
                Vec::new()
            }
            DeValue::Array(items) => items.iter().filter_map(|item| text_of(item, name, notes)).collect(),
            _ => text_of(value, name, notes).into_iter().collect(),
        };
        entry.ids = texts.iter().filter_map(|text| self.pattern(text, notes)).collect();
        entry
    }

    fn pattern(&self, text: &Text<'_>, notes: &mut Notebook) -> Option<IdPattern> {
        match IdPattern::parse(text.value, &self.own) {
            Ok(pattern) => Some(pattern),
            Err(e) => {
                let place = text.part(notes, e.offset, e.len);
                let problem = notes.error(&codes::BAD_IDENTITY, place, e.message);
                if let Some(help) = e.help {
                    problem.help(help);
                }
                None
            }
        }
    }
}
