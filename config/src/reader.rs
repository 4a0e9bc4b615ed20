//! Typed access to one table of the file. Each getter notes what is wrong and goes on, so that one run
//! shows every problem; a key that was never asked for cannot be overlooked, because all keys of a table are
//! checked against the schema when it is opened.

use crate::codes;
use crate::problem::Notebook;
use crate::schema::{Default, SECTIONS, Section};
use crate::source;
use crate::suggest;
use crate::values::{self, BadValue};
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with its place.
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

/// One opened table.
pub(crate) struct Table<'a> {
    map: &'a DeTable<'a>,
    /// Of its header, or of the inline table.
    pub(crate) span: Range<usize>,
    section: &'static Section,
    /// How messages call it: `[proxy]`, ``rule `web` ``.
    pub(crate) called: String,
}

/// A string with its place.
#[derive(Clone)]
pub(crate) struct Text<'a> {
    pub(crate) value: &'a str,
    pub(crate) span: Range<usize>,
}

impl Text<'_> {
    /// The place of a part of the value.
    pub(crate) fn part(&self, notes: &Notebook, offset: usize, len: usize) -> Range<usize> {
        source::inside(notes.source(), &self.span, offset, len)
    }
}

impl<'a> Table<'a> {
    /// Opens a table and notes every key that does not belong into it.
    pub(crate) fn open(
        map: &'a DeTable<'a>,
        span: Range<usize>,
        section: &'static Section,
        called: String,
        notes: &mut Notebook,
    ) -> Self {
        let table = Self { map, span, section, called };
        for (key, _) in map.iter() {
            table.check_key(key.get_ref(), key.span(), notes);
        }
        table
    }

    fn check_key(&self, key: &str, span: Range<usize>, notes: &mut Notebook) {
        if self.section.key(key).is_some() {
            return;
        }
        let called = &self.called;
        if self.section.later.contains(&key) {
            notes
                .error(&codes::LATER, span, format!("`{key}` in {called} is not yet supported"))
                .label("this version does not implement it")
                .help("remove it; a condition that is not checked is refused rather than skipped");
            return;
        }
        let problem = notes.error(&codes::UNKNOWN_KEY, span, format!("unknown key `{key}` in {called}"));
        problem.label(format!("not a key of {}", self.section.called()));
        if let Some(near) = suggest::nearest(key, self.section.keys.iter().map(|k| k.name)) {
            problem.help(format!("did you mean `{near}`?"));
        } else if let Some(other) = SECTIONS.iter().find(|s| s.key(key).is_some()) {
            problem.help(format!("`{key}` is a key of {}", other.called()));
        } else {
            let keys: Vec<_> = self.section.keys.iter().map(|k| k.name).collect();
            problem.help(format!("the keys are {}", keys.join(", ")));
        }
    }

    /// Whether the key is written.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether a key is written that is not of this version.
    pub(crate) fn mentions(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value<'a>> {
        debug_assert!(self.section.key(key).is_some(), "{key} is not in the schema of {}", self.section.called());
        self.map.get(key)
    }

    /// Where a key stands; the table's own place when it is not written.
    pub(crate) fn key_span(&self, key: &str) -> Range<usize> {
        self.map.get_key_value(key).map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    /// Where a value stands; the table's own place when it is not written.
    pub(crate) fn value_span(&self, key: &str) -> Range<usize> {
        self.map.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Notes that a key without default is not there.
    pub(crate) fn missing(&self, key: &str, notes: &mut Notebook) {
        let kind = self.section.key(key).map_or("a value", |k| k.kind);
        notes
            .error(&codes::MISSING_KEY, self.span.clone(), format!("`{key}` is missing in {}", self.called))
            .help(format!("write `{key} = …` ({kind})"));
    }

    /// A string.
    pub(crate) fn text(&self, key: &str, notes: &mut Notebook) -> Option<Text<'a>> {
        text_of(self.value(key)?, key, notes)
    }

    /// A string that must be written.
    pub(crate) fn required_text(&self, key: &str, notes: &mut Notebook) -> Option<Text<'a>> {
        if !self.has(key) {
            self.missing(key, notes);
        }
        self.text(key, notes)
    }

    /// A string that is not empty.
    pub(crate) fn owned(&self, key: &str, notes: &mut Notebook) -> Option<String> {
        let text = self.text(key, notes)?;
        if text.value.trim().is_empty() {
            notes.error(&codes::BAD_VALUE, text.span, format!("`{key}` is empty"));
            return None;
        }
        Some(text.value.to_owned())
    }

    /// One value or a list of them. An empty list is noted: it matches nothing but looks like `any`.
    pub(crate) fn values(&self, key: &str, notes: &mut Notebook) -> Vec<&'a Value<'a>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        match value.get_ref() {
            DeValue::Array(items) if items.is_empty() => {
                notes
                    .error(&codes::EMPTY_LIST, value.span(), format!("`{key}` is an empty list"))
                    .help("remove the key, or name what is meant");
                Vec::new()
            }
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        }
    }

    /// One string or a list of them.
    pub(crate) fn texts(&self, key: &str, notes: &mut Notebook) -> Vec<Text<'a>> {
        let values = self.values(key, notes);
        values.into_iter().filter_map(|v| text_of(v, key, notes)).collect()
    }

    /// A boolean, or its default.
    pub(crate) fn flag(&self, key: &str, notes: &mut Notebook) -> bool {
        let default = matches!(self.default(key), Some(Default::Flag(true)));
        let Some(value) = self.value(key) else {
            return default;
        };
        match value.get_ref() {
            DeValue::Boolean(flag) => *flag,
            other => {
                wrong_type(notes, value.span(), key, "true or false", other);
                default
            }
        }
    }

    /// A whole number inside a range, or its default if it has one.
    pub(crate) fn number(&self, key: &str, range: RangeInclusive<u32>, notes: &mut Notebook) -> Option<u32> {
        match self.value(key) {
            Some(value) => number_of(value, key, range, notes),
            None => match self.default(key) {
                Some(Default::Number(n)) => Some(n),
                _ => None,
            },
        }
    }

    /// A duration, or its default if it has one.
    pub(crate) fn duration(&self, key: &str, notes: &mut Notebook) -> Option<Duration> {
        let Some(value) = self.value(key) else {
            return match self.default(key) {
                Some(Default::Text(text)) => values::duration(text).ok(),
                _ => None,
            };
        };
        if let DeValue::Integer(n) = value.get_ref() {
            notes
                .error(
                    &codes::WRONG_TYPE,
                    value.span(),
                    format!("`{key}` is a duration, which is a string with a unit"),
                )
                .help(format!("write `\"{n}s\"` for seconds"));
            return None;
        }
        let text = text_of(value, key, notes)?;
        checked(values::duration(text.value), text.span, notes)
    }

    /// A number of bytes, if there is one.
    pub(crate) fn size(&self, key: &str, notes: &mut Notebook) -> Option<u64> {
        let text = text_of(self.value(key)?, key, notes)?;
        checked(values::size(text.value), text.span, notes)
    }

    /// One address or a list of them, or the default; the flag says that it is the default.
    pub(crate) fn addresses(&self, key: &str, notes: &mut Notebook) -> (Vec<SocketAddr>, bool) {
        if !self.has(key) {
            let default = match self.default(key) {
                Some(Default::List(items)) => items.iter().filter_map(|i| values::address(i).ok()).collect(),
                _ => Vec::new(),
            };
            return (default, true);
        }
        let texts = self.texts(key, notes);
        let mut addresses = Vec::new();
        for text in texts {
            let Some(address) = checked(values::address(text.value), text.span.clone(), notes) else {
                continue;
            };
            if addresses.contains(&address) {
                notes.error(&codes::DUPLICATE, text.span, format!("`{address}` is in `{key}` twice"));
                continue;
            }
            addresses.push(address);
        }
        (addresses, false)
    }

    /// One of some words, or the default. `later` are words this version refuses by name.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&'static str, T)],
        later: &[&str],
        notes: &mut Notebook,
    ) -> Option<T> {
        let meaning = |word: &str| words.iter().find(|(w, _)| *w == word).map(|(_, t)| *t);
        if !self.has(key) {
            return match self.default(key) {
                Some(Default::Text(word)) => meaning(word),
                _ => None,
            };
        }
        let text = self.text(key, notes)?;
        let found = meaning(text.value);
        if found.is_none() {
            unknown_word(&text, key, &words.iter().map(|(w, _)| *w).collect::<Vec<_>>(), later, notes);
        }
        found
    }

    /// The tables of `[[key]]`, each with the place of its header.
    pub(crate) fn tables(&self, key: &str, notes: &mut Notebook) -> Vec<(&'a DeTable<'a>, Range<usize>)> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            let problem = notes.error(&codes::WRONG_TYPE, value.span(), format!("`{key}` is a list of tables"));
            problem.help(format!("write `[[{key}]]`, once for each"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(map) => tables.push((map, item.span())),
                other => wrong_type(notes, item.span(), key, "a table", other),
            }
        }
        tables
    }

    /// The table of `[key]`; `None` when it is not written.
    pub(crate) fn table(&self, key: &str, notes: &mut Notebook) -> Option<(&'a DeTable<'a>, Range<usize>)> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(map) => Some((map, value.span())),
            DeValue::Array(items) if items.iter().any(|i| i.get_ref().is_table()) => {
                notes
                    .error(&codes::WRONG_TYPE, value.span(), format!("`{key}` is one table, not a list"))
                    .help(format!("write `[{key}]`"));
                None
            }
            other => {
                wrong_type(notes, value.span(), key, "a table", other);
                None
            }
        }
    }

    /// The default of a key.
    pub(crate) fn default(&self, key: &str) -> Option<Default> {
        self.section.key(key).map(|k| k.default)
    }
}

/// A string, or a note that it is something else.
pub(crate) fn text_of<'a>(value: &'a Value<'a>, key: &str, notes: &mut Notebook) -> Option<Text<'a>> {
    match value.get_ref() {
        DeValue::String(text) => Some(Text { value: text, span: value.span() }),
        other => {
            wrong_type(notes, value.span(), key, "a string", other);
            None
        }
    }
}

/// A whole number inside a range, or a note.
pub(crate) fn number_of(value: &Value<'_>, key: &str, range: RangeInclusive<u32>, notes: &mut Notebook) -> Option<u32> {
    let DeValue::Integer(n) = value.get_ref() else {
        wrong_type(notes, value.span(), key, "a whole number", value.get_ref());
        return None;
    };
    let number = i64::from_str_radix(n.as_str(), n.radix()).ok().and_then(|n| u32::try_from(n).ok());
    let number = number.filter(|n| range.contains(n));
    if number.is_none() {
        let message = format!("`{key}` is {n}, but must be {} to {}", range.start(), range.end());
        notes.error(&codes::BAD_VALUE, value.span(), message);
    }
    number
}

/// The value, or a note of why it cannot be read.
pub(crate) fn checked<T>(result: Result<T, BadValue>, span: Range<usize>, notes: &mut Notebook) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(bad) => {
            let problem = notes.error(&codes::BAD_VALUE, span, bad.message);
            if let Some(help) = bad.help {
                problem.help(help);
            }
            None
        }
    }
}

/// Notes a word that is none of the legal ones.
pub(crate) fn unknown_word(text: &Text<'_>, key: &str, words: &[&str], later: &[&str], notes: &mut Notebook) {
    let value = text.value;
    if later.contains(&value) {
        notes
            .error(&codes::LATER, text.span.clone(), format!("`{key} = \"{value}\"` is not yet supported"))
            .help(format!("this version knows {}", quoted(words)));
        return;
    }
    let problem = notes.error(&codes::BAD_VALUE, text.span.clone(), format!("`{value}` is not a value of `{key}`"));
    match suggest::nearest(value, words.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("the values are {}", quoted(words))),
    };
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

fn wrong_type(notes: &mut Notebook, span: Range<usize>, key: &str, expected: &str, found: &DeValue<'_>) {
    let found = match found.type_str() {
        kind @ ("array" | "integer") => format!("an {kind}"),
        kind => format!("a {kind}"),
    };
    notes.error(&codes::WRONG_TYPE, span, format!("`{key}` takes {expected}, not {found}"));
}
