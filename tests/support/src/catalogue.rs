//! The catalogue of faults as tables: what Sekisho made of each case, and beside it what another product made of it.
//!
//! A table is filled row by row, printed, kept as JSON lines in `target/faults/` and then judged: one case that Sekisho
//! passed on as it must not fails the test, and so does a table that lost its rows. What the other product did is printed
//! and never judged.

use std::fmt::{self, Write as _};

use serde_json::json;

use crate::tools;

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with an error, cut or ended by a timer, and nobody behind got a whole message: how, as `400` or `closed`.
    Refused(String),
    /// Passed on in a form that can be read in one way only: what was done, as `200` or `length dropped`.
    Cleaned(String),
    /// Passed on as it must not be, or not held within its bound: what was seen.
    Passed(String),
}

impl Outcome {
    /// Whether a checkpoint may do this.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        !matches!(self, Self::Passed(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(how) => write!(f, "refused: {how}"),
            Self::Cleaned(how) => write!(f, "cleaned: {how}"),
            Self::Passed(how) => write!(f, "PASSED: {how}"),
        }
    }
}

/// The rows of one part of the catalogue.
#[derive(Debug)]
pub struct Table {
    name: &'static str,
    classes: std::ops::RangeInclusive<u8>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    class: u8,
    case: String,
    ours: Outcome,
    other: Option<Outcome>,
}

impl Table {
    /// An empty table for classes `classes` of the catalogue. Its name is that of its file, such as `http1-framing`.
    #[must_use]
    pub fn new(name: &'static str, classes: std::ops::RangeInclusive<u8>) -> Self {
        Self { name, classes, rows: Vec::new() }
    }

    /// One case: what Sekisho made of it, and Envoy when it was asked.
    pub fn row(&mut self, class: u8, case: impl Into<String>, ours: Outcome, envoy: Option<Outcome>) {
        assert!(self.classes.contains(&class), "class {class} is not one of {:?}", self.classes);
        self.rows.push(Row { class, case: case.into(), ours, other: envoy });
    }

    /// Prints the table, keeps it, and panics when a case was passed on or when one of `expected` classes has no row.
    pub fn judge(self, expected: &[u8]) {
        println!("{self}");
        let folder = tools::repository().join("target/faults");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.jsonl", self.name)), self.lines()).unwrap();
        for class in expected {
            assert!(self.rows.iter().any(|row| row.class == *class), "{}: no case of class {class}", self.name);
        }
        let bad: Vec<&Row> = self.rows.iter().filter(|row| !row.ours.is_safe()).collect();
        assert!(bad.is_empty(), "{}: {} of {} cases passed: {bad:#?}", self.name, bad.len(), self.rows.len());
    }

    fn lines(&self) -> String {
        self.rows.iter().fold(String::new(), |mut lines, row| {
            let other = row.other.as_ref();
            let line = json!({
                "class": row.class,
                "case": row.case,
                "sekisho": row.ours.to_string(),
                "sekisho_safe": row.ours.is_safe(),
                "envoy": other.map(ToString::to_string),
                "envoy_safe": other.map(Outcome::is_safe),
            });
            let _ = writeln!(lines, "{line}");
            lines
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "== {}", self.name)?;
        for row in &self.rows {
            let other = row.other.as_ref().map_or_else(String::new, ToString::to_string);
            writeln!(f, "{:>3}  {:<52}  {:<34}  {other}", row.class, row.case, row.ours.to_string())?;
        }
        let (mut asked, mut passed) = (0, 0);
        for other in self.rows.iter().filter_map(|row| row.other.as_ref()) {
            asked += 1;
            passed += usize::from(!other.is_safe());
        }
        let ours = self.rows.iter().filter(|row| !row.ours.is_safe()).count();
        write!(f, "{} cases: passed by Sekisho {ours}; by Envoy {passed} of {asked}", self.rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "1 of 2 cases passed")]
    fn a_case_that_was_passed_on_fails_its_table() {
        let mut table = Table::new("self-test-passed", 1..=2);
        table.row(1, "good", Outcome::Refused("400".into()), Some(Outcome::Passed("200".into())));
        table.row(2, "bad", Outcome::Passed("200".into()), None);
        table.judge(&[1, 2]);
    }

    #[test]
    #[should_panic(expected = "no case of class 2")]
    fn a_class_without_a_case_fails_its_table() {
        let mut table = Table::new("self-test-missing", 1..=2);
        table.row(1, "good", Outcome::Cleaned("200".into()), None);
        table.judge(&[1, 2]);
    }
}
