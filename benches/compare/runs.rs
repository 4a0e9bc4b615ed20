//! The raw runs: one JSON line for the machine, then one per round, make and workload, written as they come.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::options::Options;

/// An open file of raw runs, and its records.
pub(crate) struct Runs {
    file: File,
    path: PathBuf,
    records: Vec<Value>,
}

impl Runs {
    /// `benches/runs/<date>-<commit>.jsonl`; for quick runs and parts, under `benches/runs/tmp/`, which git ignores.
    /// A second run of a day and commit is added to the first, behind a machine line of its own.
    pub(crate) fn create(options: &Options, machine: &Value) -> Self {
        let mut dir = support::tools::repository().join("benches/runs");
        if !options.is_complete() {
            dir.push("tmp");
        }
        std::fs::create_dir_all(&dir).unwrap();
        let date = machine["time"].as_str().unwrap().split('T').next().unwrap();
        let path = dir.join(format!("{date}-{}.jsonl", machine["commit"].as_str().unwrap()));
        let file = File::options().create(true).append(true).open(&path).unwrap();
        let mut runs = Self { file, path, records: Vec::new() };
        runs.write(&json!({ "machine": machine }));
        runs
    }

    pub(crate) fn add(&mut self, record: Value) {
        self.write(&record);
        self.records.push(record);
    }

    /// Puts what was measured in this run in the place of the same rows of an earlier one, whose other rows it takes over.
    /// Gives the machine line of that one, and a sentence about the rows that are newer.
    pub(crate) fn amend(&mut self, earlier: &Path, machine: &Value) -> (Value, String) {
        let text = std::fs::read_to_string(earlier).unwrap_or_else(|error| panic!("{}: {error}", earlier.display()));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let name = |record: &Value| {
            (record["make"].as_str().map(str::to_owned), record["workload"].as_str().map(str::to_owned))
        };
        let newer: BTreeSet<_> = self.records.iter().map(name).collect();
        let first = lines.iter().find(|line| line["machine"].is_object()).map(|line| line["machine"].clone()).unwrap();
        self.write(&json!({ "taken_over_from": earlier.file_name().unwrap_or_default().to_string_lossy() }));
        for record in lines {
            if record["make"].is_string() && !newer.contains(&name(&record)) {
                self.add(record);
            }
        }
        let rows: Vec<String> = newer
            .iter()
            .map(|(make, workload)| [make, workload].map(|word| word.clone().unwrap_or_default()).join(" "))
            .collect();
        let commit = machine["commit"].as_str().unwrap_or_default();
        (first, format!("Measured again at commit `{commit}`: {}.", rows.join(", ")))
    }

    pub(crate) fn all(&self) -> &[Value] {
        &self.records
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, line: &Value) {
        writeln!(self.file, "{line}").unwrap();
    }
}
