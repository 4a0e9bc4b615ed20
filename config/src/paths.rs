//! `[path]`: how the paths of requests are read and compared.

use crate::problem::Notebook;
use crate::reader::Table;
use crate::schema::PATH;
use policy::{PathCase, PathOptions};
use std::ops::Range;
use toml::de::DeTable;

/// `None` only when a problem was noted.
pub(crate) fn read(table: Option<(&DeTable<'_>, Range<usize>)>, notes: &mut Notebook) -> Option<PathOptions> {
    let empty = DeTable::new();
    let (map, span) = table.unwrap_or((&empty, 0..0));
    let table = Table::open(map, span, &PATH, PATH.title.to_owned(), notes);
    let cases = [("sensitive", PathCase::Sensitive), ("insensitive", PathCase::Insensitive)];
    Some(PathOptions { case: table.choice("case", &cases, &[], notes)? })
}
