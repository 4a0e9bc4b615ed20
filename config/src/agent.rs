//! `[agent]`: the socket for workloads that bring their own proxy.

use crate::problem::Notebook;
use crate::reader::{Table, number_of};
use crate::schema::{AGENT, Default};
use crate::snapshot::AgentSettings;
use std::ops::Range;
use std::path::Path;
use toml::de::DeTable;

/// Reads the table, or takes the defaults; a relative path starts at `base`.
pub(crate) fn read<'a>(
    table: Option<(&'a DeTable<'a>, Range<usize>)>,
    base: &Path,
    notes: &mut Notebook,
) -> AgentSettings {
    let empty = DeTable::new();
    let written = table.is_some();
    let (map, span) = table.unwrap_or((&empty, 0..0));
    let table = Table::open(map, span, &AGENT, AGENT.title.to_owned(), notes);
    let socket = match (table.owned("socket", notes), table.default("socket")) {
        (Some(path), _) => base.join(path),
        (None, Some(Default::Text(path))) => base.join(path),
        (None, _) => base.to_path_buf(),
    };
    let mut numbers = |key: &str| -> Vec<u32> {
        let values = table.values(key, notes);
        values.into_iter().filter_map(|value| number_of(value, key, 0..=u32::MAX - 1, notes)).collect()
    };
    let (users, groups) = (numbers("users"), numbers("groups"));
    AgentSettings { written, socket, users, groups }
}
