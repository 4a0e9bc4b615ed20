//! `[identity]`: where certificate, key and bundle come from.

use crate::codes;
use crate::problem::Notebook;
use crate::reader::Table;
use crate::schema::{Default, IDENTITY};
use crate::snapshot::IdentitySource;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

const PATHS: [&str; 3] = ["cert", "key", "bundle"];

/// Sources of the contract that this version refuses by name.
const LATER: [&str; 3] = ["ca", "workload-api", "sds"];

/// Reads the table, or takes the defaults; relative paths start at `base`.
pub(crate) fn read<'a>(
    table: Option<(&'a DeTable<'a>, Range<usize>)>,
    base: &Path,
    notes: &mut Notebook,
) -> Option<IdentitySource> {
    let empty = DeTable::new();
    let Some((map, span)) = table else {
        let table = Table::open(&empty, 0..0, &IDENTITY, IDENTITY.title.to_owned(), notes);
        return Some(files(&table, base, notes));
    };
    // The other sources have keys of their own; saying that these are unknown would only distract.
    let later = matches!(map.get("source").map(|v| v.get_ref()), Some(DeValue::String(s)) if LATER.contains(&&**s));
    let table = if later {
        Table::unchecked(map, span, &IDENTITY)
    } else {
        Table::open(map, span, &IDENTITY, IDENTITY.title.to_owned(), notes)
    };
    table.choice("source", &[("files", ())], &LATER, notes)?;
    let written: Vec<&str> = PATHS.into_iter().filter(|key| table.has(key)).collect();
    if let Some(first) = written.first() {
        for key in PATHS.into_iter().filter(|key| !written.contains(key)) {
            notes
                .error(&codes::MISSING_KEY, table.key_span(first), format!("`{first}` is written, but `{key}` is not"))
                .help("write all of `cert`, `key` and `bundle`, or none of them");
        }
    }
    Some(files(&table, base, notes))
}

fn files(table: &Table<'_>, base: &Path, notes: &mut Notebook) -> IdentitySource {
    let [cert, key, bundle] = PATHS.map(|name| path(table, name, base, notes));
    IdentitySource::Files { cert, key, bundle }
}

fn path(table: &Table<'_>, key: &str, base: &Path, notes: &mut Notebook) -> PathBuf {
    let written = table.owned(key, notes);
    match (written, table.default(key)) {
        (Some(path), _) => base.join(path),
        (None, Some(Default::Text(path))) => base.join(path),
        (None, _) => base.to_path_buf(),
    }
}
