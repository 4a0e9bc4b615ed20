//! Who may import whom: the house plan, kept by reading the manifests and the `use` lines.
//!
//! Cargo keeps cycles away; it does not keep a room from reaching for a crate it has no business with. These tests do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each crate of ours and the others of ours that it may use.
const ROOMS: [(&str, &[&str]); 12] = [
    ("identity", &[]),
    ("policy", &["identity"]),
    ("config", &["identity", "policy"]),
    ("ca", &["identity"]),
    ("sys", &[]),
    ("wire", &[]),
    ("rpc", &["identity"]),
    ("agent", &["identity", "rpc", "wire"]),
    ("ca-server", &["ca", "config", "identity", "rpc", "wire"]),
    ("tap", &["identity", "sys"]),
    ("proxy", &["config", "identity", "policy", "tap"]),
    ("fuzz", &["ca", "config", "identity", "policy", "proxy", "sys", "tap"]),
];

/// Crates of others that belong to some rooms alone, and why.
const FENCED: [(&str, &[&str], &str); 14] = [
    ("libmimalloc-sys", &["sys"], "its calls are unsafe"),
    ("rcgen", &["ca", "agent"], "only the CA writes certificates; the agent writes requests for them"),
    ("x509-parser", &["identity", "ca"], "two readers of hostile DER are enough"),
    (
        "rustls",
        &["identity", "ca", "ca-server", "agent", "proxy", "rpc", "."],
        "TLS and its keys; in src, the demo's attacker, who skips the checks",
    ),
    ("tokio-rustls", &["proxy", "rpc"], "TLS over sockets"),
    ("webpki", &["identity"], "one path builder"),
    ("tokio", &["proxy", "rpc", "agent", "ca-server", "."], "everything that decides is synchronous"),
    ("hyper", &["proxy", "rpc", "ca-server"], "one HTTP engine, and under gRPC"),
    ("hyper-util", &["proxy", "rpc", "ca-server"], "one HTTP engine, and under gRPC"),
    ("h2", &["proxy"], "one HTTP engine"),
    ("toml", &["config"], "one place where text becomes meaning"),
    ("tonic", &["wire", "rpc", "agent", "ca-server"], "gRPC is control plane"),
    ("clap", &["."], "one command line"),
    ("annotate-snippets", &["config"], "one place that shows diagnostics"),
];

/// What a room must not reach for, by the text of a path.
const SILENT: [(&str, &[&str]); 6] = [
    // The clock and the randomness stand in one file, the sockets in `rpc`; the key never meets a file.
    ("agent", &["std::fs", "std::net", "tokio::net", "tokio::fs", "File::"]),
    ("identity", &["std::fs", "TcpStream", "TcpListener", "UdpSocket", "SystemTime::now", "Instant::now"]),
    ("policy", &["std::fs", "TcpStream", "TcpListener", "UdpSocket", "SystemTime::now", "Instant::now", "toml::"]),
    ("config", &["TcpStream", "TcpListener", "UdpSocket", "tokio::", "rustls::"]),
    ("ca", &["TcpStream", "TcpListener", "UdpSocket", "hyper::", "tokio::"]),
    // It is told how to secure a stream, by `tap::Connect`.
    ("tap", &["tokio::", "rustls::", "hyper::"]),
];

#[test]
fn every_room_depends_only_on_the_rooms_it_may() {
    for (room, allowed) in ROOMS {
        for dependency in dependencies(room) {
            let ours = ROOMS.iter().any(|(name, _)| *name == dependency) || dependency.starts_with("sekisho");
            assert!(!ours || allowed.contains(&dependency.as_str()), "{room}/Cargo.toml depends on {dependency}");
        }
    }
}

#[test]
fn every_use_line_keeps_the_directions() {
    for (room, allowed) in ROOMS {
        for (file, text) in sources(room) {
            for (other, _) in ROOMS {
                let reached = code(&text).any(|line| line.trim_start().starts_with(&format!("use {other}::")));
                let own = other == room || has_module(room, other);
                assert!(!reached || own || allowed.contains(&other), "{} uses {other}", file.display());
            }
        }
    }
}

#[test]
fn a_fenced_crate_is_used_only_where_it_belongs() {
    for (name, rooms, reason) in FENCED {
        for room in ROOMS.iter().map(|(room, _)| *room).chain(["."]) {
            let used = dependencies(room).contains(name);
            assert!(!used || rooms.contains(&room), "{room}/Cargo.toml depends on {name}: {reason}");
        }
    }
}

#[test]
fn rooms_that_decide_have_no_sockets_and_no_clock() {
    for (room, forbidden) in SILENT {
        for (file, text) in sources(room) {
            for line in code(&text) {
                for word in forbidden {
                    assert!(!line.contains(word), "{} reaches for {word}: {}", file.display(), line.trim());
                }
            }
        }
    }
}

/// What `fuzz/` needs to see is open to it alone: the product is built without.
#[test]
fn only_fuzz_opens_the_door_to_the_parsers() {
    for room in ROOMS.iter().map(|(room, _)| *room).chain(["."]) {
        let manifest = std::fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
        let opens = manifest.lines().any(|line| {
            line.contains("features") && ["\"fuzzing\"", "\"coverage\""].iter().any(|door| line.contains(door))
        });
        assert_eq!(opens, room == "fuzz", "{room}/Cargo.toml");
        assert!(!manifest.lines().any(|line| line.starts_with("default = ")), "{room} has default features");
    }
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let built_by_default = manifest.lines().find(|line| line.starts_with("default-members")).unwrap();
    assert!(!built_by_default.contains("fuzz"));
}

#[test]
fn unsafe_code_lives_in_one_room() {
    for room in ROOMS.iter().map(|(room, _)| *room).chain(["."]).filter(|room| *room != "sys") {
        for (file, text) in sources(room) {
            for line in code(&text) {
                assert!(!line.contains("unsafe {") && !line.contains("allow(unsafe_code)"), "{}", file.display());
            }
        }
    }
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in
        ["src", "agent", "identity", "policy", "config", "ca", "tap", "proxy", "rpc", "sys", "fuzz", "tests", "benches"]
    {
        collect(&root().join(folder), &mut files);
    }
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} does not begin with //!", file.display());
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, table) = text.split_once("[workspace.dependencies]").unwrap();
    let (table, _) = table.split_once("\n[").unwrap();
    for line in table.lines().filter(|line| line.contains('=') && !line.starts_with('#') && !line.contains("path =")) {
        assert!(line.contains(" # "), "no reason beside {line}");
    }
}

/// The names under `[dependencies]` of a room's manifest.
fn dependencies(room: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]" || line.starts_with("[target.");
        } else if inside && !line.starts_with('#') && !line.trim().is_empty() {
            names.insert(line.split(['.', '=', ' ']).next().unwrap().to_owned());
        }
    }
    names
}

fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    collect(&root().join(room).join("src"), &mut files);
    assert!(!files.is_empty(), "{room} has no sources");
    files.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

/// The lines before the unit tests, without comments: tests may open files and ask the clock.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| !line.starts_with("mod tests")).filter(|line| !line.trim_start().starts_with("//"))
}

/// Whether a crate has a room of the same name inside, which `use` lines may mean instead.
fn has_module(room: &str, name: &str) -> bool {
    let src = root().join(room).join("src");
    src.join(name).is_dir() || src.join(format!("{name}.rs")).exists()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, into);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
