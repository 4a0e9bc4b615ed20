//! Every file under `examples/`, and the rule file in README.md, is one that the binary accepts.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::scratch::Scratch;
use support::tools;

#[test]
fn every_example_is_a_valid_file() {
    let mut files = Vec::new();
    collect(&tools::repository().join("examples"), &mut files);
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        check(&file);
    }
}

#[test]
fn the_file_in_the_readme_is_valid() {
    let readme = std::fs::read_to_string(tools::repository().join("README.md")).expect("README.md is there");
    let text = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it shows a file");
    let dir = Scratch::new();
    check(&dir.write("readme.toml", text));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
}

fn check(file: &Path) {
    // The folder says whose file it is: the CA's is another language.
    let command: &[&str] =
        if file.parent().is_some_and(|folder| folder.ends_with("ca")) { &["ca", "check"] } else { &["check"] };
    let checked = Command::new(tools::sekisho()).args(command).arg("-c").arg(file).output().expect("the binary runs");
    assert!(checked.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&checked.stderr));
}
