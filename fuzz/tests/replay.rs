//! Every kept input, once, in every ordinary test run: what was found stays mended.

#![allow(clippy::unwrap_used, clippy::panic)] // a failure in here is a failed test

use fuzz::{corpus, targets::TARGETS};
use std::{collections::BTreeSet, fs};

#[test]
fn every_kept_input_keeps_the_properties() {
    for target in TARGETS {
        let kept = corpus::read(target.name).unwrap_or_else(|error| panic!("corpus of {}: {error}", target.name));
        assert!(kept.len() > 1, "{} has no corpus", target.name);
        for (path, input) in kept {
            println!("{}", path.display());
            (target.run)(&input);
        }
    }
}

#[test]
fn every_folder_of_inputs_belongs_to_a_target() {
    let folders: BTreeSet<String> = fs::read_dir(corpus::folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, TARGETS.iter().map(|target| target.name.to_owned()).collect());
}
