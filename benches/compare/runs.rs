//! The raw runs: one JSON line for the machine, then one per round, make and workload, written as they come.

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
