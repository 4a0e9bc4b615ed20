//! The committed code is what the definitions in `proto/` say.

#![allow(clippy::unwrap_used, clippy::panic)] // a failure in here is a failed test

use std::{collections::BTreeMap, fs, path::Path};

const FILES: [&str; 7] = [
    "envoy/core.proto",
    "envoy/discovery.proto",
    "envoy/secret.proto",
    "envoy/tls.proto",
    "istio/ca.proto",
    "sekisho/ca.proto",
    "spiffe/workload.proto",
];

#[test]
fn the_generated_code_is_current() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = home.join("src/generated");
    let made = tempfile::tempdir().unwrap();
    generate(&home.join("proto"), made.path());
    if std::env::var_os("SEKISHO_UPDATE").is_some() {
        let _ = fs::remove_dir_all(&committed);
        fs::create_dir_all(&committed).unwrap();
        for (name, text) in texts(made.path()) {
            fs::write(committed.join(name), text).unwrap();
        }
    }
    let (made, committed) = (texts(made.path()), texts(&committed));
    assert_eq!(made.keys().collect::<Vec<_>>(), committed.keys().collect::<Vec<_>>());
    for (name, text) in made {
        assert!(committed.get(&name) == Some(&text), "src/generated/{name} is not what proto/ says: SEKISHO_UPDATE=1");
    }
}

/// One file a package, formatted. The compiler of definitions is a Rust library: nothing to install.
fn generate(proto: &Path, out: &Path) {
    let descriptors = protox::compile(FILES, [proto]).unwrap();
    let mut config = prost_build::Config::new();
    config.default_package_filename("workload");
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::lean::Lean")
        .out_dir(out)
        .compile_fds_with_config(descriptors, config)
        .unwrap();
}

fn texts(folder: &Path) -> BTreeMap<String, String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect()
}
