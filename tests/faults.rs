//! The page of faults says of every class of the catalogue which test shows it, and those tests exist.
//!
//! `SEKISHO_UPDATE=1` writes the figures of the last run of the tables into it (`just faults` does both).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

const CLASSES: std::ops::RangeInclusive<u16> = 1..=116;
/// What belongs to parts that do not exist yet.
const LATER: [&str; 1] = ["112"];
const BEGIN: &str = "<!-- figures: written by `just faults` -->\n";
const END: &str = "<!-- end of figures -->\n";

#[test]
fn every_class_has_a_row_and_every_row_a_test_that_exists() {
    let page = std::fs::read_to_string(page()).unwrap();
    let tests: BTreeMap<&str, &str> = rows(&page, 2).map(|row| (row[0], row[1].trim_matches('`'))).collect();
    for (name, test) in tests.iter().filter(|(name, _)| **name != "name") {
        assert!(exists(test), "{name}: there is no test {test}");
    }
    let mut seen = BTreeMap::new();
    for row in rows(&page, 5).filter(|row| row[0] != "class") {
        for class in row[0].split(", ") {
            let class: u16 = class.parse().unwrap_or_else(|_| panic!("class {class:?}"));
            assert!(seen.insert(class, row[4]).is_none(), "class {class} stands twice");
        }
        if row[4] == "later" {
            assert!(LATER.contains(&row[0]), "class {} is not one that belongs to a later part", row[0]);
            continue;
        }
        for name in row[4].split(", ") {
            assert!(tests.contains_key(name), "class {}: {name:?} is no short name of a test", row[0]);
        }
    }
    let missing: Vec<u16> = CLASSES.filter(|class| !seen.contains_key(class)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert_eq!(seen.len(), CLASSES.count());
}

#[test]
fn the_figures_stand_between_their_marks() {
    let text = std::fs::read_to_string(page()).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark where figures begin");
    let (_, after) = rest.split_once(END).expect("the mark where figures end");
    if std::env::var_os("SEKISHO_UPDATE").is_some() {
        std::fs::write(page(), format!("{before}{BEGIN}{}{END}{after}", figures())).unwrap();
    }
}

/// What the last run of every table has left in `target/faults`.
fn figures() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/faults");
    let mut tables = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("self-test") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            tables.insert(name, rows);
        }
    }
    let mut text = String::from(
        "\n| table | cases | passed by Sekisho | passed by Envoy, of those it was asked |\n| --- | ---: | ---: | ---: |\n",
    );
    let mut sums = [0; 4];
    for (name, rows) in &tables {
        let count = |key: &str, value: bool| rows.iter().filter(|row| row[key] == value).count();
        let asked = count("envoy_safe", true) + count("envoy_safe", false);
        let figures = [rows.len(), count("sekisho_safe", false), count("envoy_safe", false), asked];
        text.push_str(&line(name, figures));
        for (sum, figure) in sums.iter_mut().zip(figures) {
            *sum += figure;
        }
    }
    text.push_str(&line("all", sums));
    text.push('\n');
    text
}

fn line(name: &str, [cases, ours, envoy, asked]: [usize; 4]) -> String {
    let other = if asked == 0 { "–".to_owned() } else { format!("{envoy} of {asked}") };
    format!("| {name} | {cases} | {ours} | {other} |\n")
}

/// The rows of tables with so many columns, cell by cell; without the line under the head.
fn rows(page: &str, columns: usize) -> impl Iterator<Item = Vec<&str>> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").collect::<Vec<_>>())
        .filter(move |cells| cells.len() == columns && !cells[0].starts_with("---"))
}

/// Whether `binary::module::function` is a function with that name in that module's file.
fn exists(test: &str) -> bool {
    let (module, function) = test.rsplit_once("::").unwrap();
    let path = module.replace("::", "/");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A black-box test, or a unit test `crate::file::tests::name`.
    let unit = path.split_once('/').map(|(room, rest)| format!("{room}/src/{}", rest.trim_end_matches("/tests")));
    // What needs root may stand in a module of that name inside the file.
    let inside = path.trim_end_matches("/root");
    let files = [path.as_str(), inside]
        .into_iter()
        .flat_map(|path| [format!("tests/{path}.rs"), format!("tests/{path}/mod.rs"), format!("tests/{path}/main.rs")]);
    let units = unit.into_iter().flat_map(|unit| [format!("{unit}.rs"), format!("{unit}/mod.rs")]);
    files.chain(units).any(|file| {
        std::fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(&format!("fn {function}(")))
    })
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md")
}
