//! `sekisho capture`: install is the same twice, show changes nothing, remove leaves the pod as it was.

use support::root;

use crate::manifest;
use crate::world::{ORDERS_V6, Place, SERVICE, World};

#[test]
fn remove_leaves_the_pod_as_it_was() {
    if !root::granted("remove_leaves_the_pod_as_it_was") {
        return;
    }
    let world = World::bare();
    let before = all_rules(&world);
    world.capture(Place::Web, &manifest::capture_arguments());
    assert_ne!(all_rules(&world), before);
    assert_eq!(world.curl(Place::Web, &["--max-time", "4", &format!("http://{SERVICE}/")]).0, "000");
    world.capture(Place::Web, &words("capture remove"));
    assert_eq!(all_rules(&world), before);
    assert_eq!(world.curl(Place::Web, &[&format!("http://{SERVICE}/")]).0, "200");
    assert_eq!(world.curl(Place::Web, &[&format!("http://[{ORDERS_V6}]:8080/")]).0, "200");
    // Removing what is not there is no error: a second try after a crash has to work.
    world.capture(Place::Web, &words("capture remove"));
}

#[test]
fn install_is_the_same_twice() {
    if !root::granted("install_is_the_same_twice") {
        return;
    }
    let world = World::bare();
    world.capture(Place::Web, &manifest::capture_arguments());
    let once = all_rules(&world);
    world.capture(Place::Web, &manifest::capture_arguments());
    assert_eq!(all_rules(&world), once);
}

#[test]
fn show_changes_nothing() {
    if !root::granted("show_changes_nothing") {
        return;
    }
    let world = World::bare();
    let before = all_rules(&world);
    assert!(world.capture(Place::Web, &words("capture show --render")).contains("15001"));
    assert_eq!(all_rules(&world), before);
    world.capture(Place::Web, &manifest::capture_arguments());
    let installed = all_rules(&world);
    assert!(world.capture(Place::Web, &words("capture show")).contains("15006"));
    assert_eq!(all_rules(&world), installed);
}

#[test]
fn other_peoples_rules_are_left_alone() {
    if !root::granted("other_peoples_rules_are_left_alone") {
        return;
    }
    let world = World::bare();
    let foreign = "iptables -t nat -N OTHERS && iptables -t nat -A OUTPUT -p tcp --dport 7 -j OTHERS";
    assert!(world.shell(Place::Web, foreign).0);
    let before = all_rules(&world);
    world.capture(Place::Web, &manifest::capture_arguments());
    assert!(all_rules(&world).contains("OTHERS"));
    world.capture(Place::Web, &words("capture remove"));
    assert_eq!(all_rules(&world), before);
}

/// Every rule and chain of the pod, without counters and comments.
fn all_rules(world: &World) -> String {
    let mut all = String::new();
    for tool in ["iptables-save", "ip6tables-save"] {
        let (_, text) = world.shell(Place::Web, tool);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            // `:CHAIN POLICY [packets:bytes]`
            all.push_str(line.split(" [").next().unwrap());
            all.push('\n');
        }
    }
    // Tables come into being when they are first looked at; an empty one is no rule.
    all.lines()
        .filter(|line| line.starts_with("-A") || line.starts_with(":") && line.ends_with('-'))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}
