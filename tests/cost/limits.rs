//! The limits of `limits.toml`, and the table of what was measured beside them.
//!
//! A figure without a limit fails, and so does a limit without a figure: the file says all that is gated and nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use support::tools;

/// What one test measured, held against one section of the file.
pub(crate) struct Table {
    section: &'static str,
    limits: BTreeMap<String, f64>,
    rows: Vec<Row>,
}

struct Row {
    key: String,
    value: f64,
    decimals: usize,
    limit: Option<f64>,
}

impl Table {
    /// For the figures of `[section]`.
    pub(crate) fn new(section: &'static str) -> Self {
        let path = tools::repository().join("tests/cost/limits.toml");
        let limits = parse(&std::fs::read_to_string(path).unwrap(), section);
        Self { section, limits, rows: Vec::new() }
    }

    /// A figure that has a limit. It is rounded to `decimals` first, so that the limit can be exact.
    pub(crate) fn gate(&mut self, key: &str, value: f64, decimals: usize) {
        let limit = self.limits.get(key).copied();
        let limit = limit.unwrap_or_else(|| panic!("no limit for {key} under [{}] of limits.toml", self.section));
        self.row(key, value, decimals, Some(limit));
    }

    /// A figure that is only shown.
    pub(crate) fn note(&mut self, key: &str, value: f64, decimals: usize) {
        assert!(!self.limits.contains_key(key), "{key} has a limit under [{}] of limits.toml", self.section);
        self.row(key, value, decimals, None);
    }

    fn row(&mut self, key: &str, value: f64, decimals: usize, limit: Option<f64>) {
        let scale = 10_f64.powi(i32::try_from(decimals).unwrap());
        // Adding zero turns -0 into 0.
        let value = (value * scale).round() / scale + 0.0;
        self.rows.push(Row { key: key.to_owned(), value, decimals, limit });
    }

    /// Prints the table; panics when a figure is above its limit or a limit has no figure.
    pub(crate) fn check(self) {
        print!("{}", self.text());
        for key in self.limits.keys() {
            let measured = self.rows.iter().any(|row| row.key == *key);
            assert!(measured, "nothing was measured for {key} under [{}] of limits.toml", self.section);
        }
        let over: Vec<&str> = self.rows.iter().filter(|row| row.is_over()).map(|row| row.key.as_str()).collect();
        assert!(
            over.is_empty(),
            "above the limit under [{}] of tests/cost/limits.toml: {}",
            self.section,
            over.join(", ")
        );
    }

    fn text(&self) -> String {
        let width = self.rows.iter().map(|row| row.key.len()).max().unwrap_or(0);
        let mut text = format!("\n{:<width$}  {:>10}  {:>10}\n", format!("[{}]", self.section), "measured", "limit");
        for row in &self.rows {
            let decimals = row.decimals;
            let limit = row.limit.map_or("–".to_owned(), |limit| format!("{limit:.decimals$}"));
            let verdict = if row.is_over() { "  ABOVE" } else { "" };
            writeln!(text, "{:<width$}  {:>10.decimals$}  {limit:>10}{verdict}", row.key, row.value).unwrap();
        }
        text
    }
}

impl Row {
    fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.value > limit)
    }
}

/// The `key = number` lines of one section: as much of TOML as the file needs, and nothing else is accepted.
fn parse(text: &str, section: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut here = false;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        if let Some(title) = line.strip_prefix('[') {
            here = title.strip_suffix(']') == Some(section);
        } else if !line.is_empty() {
            let number = line
                .split_once('=')
                .and_then(|(key, value)| Some((key.trim(), value.trim().replace('_', "").parse().ok()?)));
            let (key, value) = number.unwrap_or_else(|| panic!("limits.toml: no `key = number`: {line:?}"));
            if here {
                assert!(found.insert(key.to_owned(), value).is_none(), "limits.toml: {key} is there twice");
            }
        }
    }
    assert!(!found.is_empty(), "limits.toml has no [{section}]");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        Table { section: "a", limits: parse(text, "a"), rows: Vec::new() }
    }

    #[test]
    fn a_figure_at_its_limit_passes() {
        let mut table = table("[a]\nx = 4.3 # why\n[b]\nx = 1\n");
        table.gate("x", 4.349, 1);
        table.note("y", 9.0, 0);
        table.check();
    }

    #[test]
    #[should_panic(expected = "above the limit under [a] of tests/cost/limits.toml: x")]
    fn a_figure_above_its_limit_fails() {
        let mut table = table("[a]\nx = 4.3\n");
        table.gate("x", 4.36, 1);
        table.check();
    }

    #[test]
    #[should_panic(expected = "nothing was measured for y")]
    fn a_limit_without_a_figure_fails() {
        let mut table = table("[a]\nx = 1\ny = 1\n");
        table.gate("x", 1.0, 0);
        table.check();
    }

    #[test]
    #[should_panic(expected = "no limit for y")]
    fn a_figure_without_a_limit_fails() {
        table("[a]\nx = 1\n").gate("y", 1.0, 0);
    }
}
