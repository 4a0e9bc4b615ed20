//! What the example manifest says: the arguments of its init container and the file of its ConfigMap.
//!
//! The tests run these and nothing they made up, so that the example cannot drift away from what works.

use support::tools;

/// The arguments of the init container `capture`.
pub(crate) fn capture_arguments() -> Vec<String> {
    arguments("capture")
}

/// The arguments of the container `sekisho`.
pub(crate) fn proxy_arguments() -> Vec<String> {
    arguments("sekisho")
}

/// `sekisho.toml` of the ConfigMap.
pub(crate) fn rules() -> String {
    let text = text();
    let (_, after) = text.split_once("  sekisho.toml: |\n").unwrap();
    let inside = after.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    inside.map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned() + "\n").collect()
}

fn arguments(container: &str) -> Vec<String> {
    let text = text();
    let (_, after) = text.split_once(&format!("  - name: {container}\n")).unwrap();
    let line = after.lines().find_map(|line| line.trim().strip_prefix("args: ")).unwrap();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("args of {container}: {error}: {line}"))
}

fn text() -> String {
    std::fs::read_to_string(tools::repository().join("examples/kubernetes/pod.yaml")).unwrap()
}

#[test]
fn the_manifest_is_read_as_it_is_written() {
    assert_eq!(capture_arguments()[..2], ["capture", "install"]);
    assert_eq!(proxy_arguments()[..2], ["proxy", "-c"]);
    assert!(rules().starts_with("schema = 1\n") && rules().contains("web-reads-orders"));
}
