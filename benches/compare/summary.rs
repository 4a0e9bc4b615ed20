//! From raw runs to figures: per make and workload, the median over the rounds, with the lowest and the highest.
//!
//! One failed round makes a row invalid: a median over the rounds that happened to work would hide it.

use serde_json::Value;

use crate::makes::Make;

/// All records of a run.
pub(crate) struct Summary<'a> {
    records: &'a [Value],
}

/// What stands in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell {
    /// Nobody measured it.
    Absent,
    /// Somebody did, and at least once it went wrong.
    Invalid,
    Is(Figure),
}

/// Over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl<'a> Summary<'a> {
    pub(crate) fn of(records: &'a [Value]) -> Self {
        Self { records }
    }

    /// The figure that `value` takes from each record of a make and workload.
    pub(crate) fn cell(&self, make: Make, workload: &str, value: impl Fn(&Value) -> f64) -> Cell {
        self.named(make.name(), workload, value)
    }

    /// The same for whatever stands in place of a make.
    pub(crate) fn named(&self, make: &str, workload: &str, value: impl Fn(&Value) -> f64) -> Cell {
        let mut values = Vec::new();
        let mut invalid = false;
        for record in self.records.iter().filter(|record| record["make"] == make) {
            if record["error"].is_string() && record["workload"] == workload {
                invalid = true;
            } else if record["workload"] == workload {
                values.push(value(record));
            }
        }
        match (invalid, values.is_empty()) {
            (true, _) => Cell::Invalid,
            (false, true) => Cell::Absent,
            (false, false) if values.iter().all(|value| value.is_finite()) => Cell::Is(Figure::of(values)),
            (false, false) => Cell::Invalid,
        }
    }

    /// The errors of a run, each once: make, workload, what was said.
    pub(crate) fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for record in self.records {
            if let Some(error) = record["error"].as_str() {
                let word = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
                let line = error.lines().last().unwrap_or_default();
                errors.push(format!("{} {}, round {}: {line}", word("make"), word("workload"), record["round"]));
            }
        }
        errors
    }
}

impl Cell {
    pub(crate) fn median(self) -> Option<f64> {
        match self {
            Self::Is(figure) => Some(figure.median),
            _ => None,
        }
    }

    /// The same after `change`, which must keep the order of figures.
    pub(crate) fn map(self, change: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Is(Figure { median, low, high }) => {
                Self::Is(Figure { median: change(median), low: change(low), high: change(high) })
            }
            other => other,
        }
    }

    /// This as a multiple of another: invalid when either is.
    pub(crate) fn over(self, other: Self) -> Self {
        match (self, other) {
            (Self::Is(this), Self::Is(other)) if other.median > 0.0 => {
                Self::Is(Figure::of(vec![this.median / other.median]))
            }
            (Self::Absent, _) | (_, Self::Absent) => Self::Absent,
            _ => Self::Invalid,
        }
    }
}

impl Figure {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Self { median, low: values[0], high: values[values.len() - 1] }
    }
}
