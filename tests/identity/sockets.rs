//! Identity from the socket of `sekisho agent`: by the Workload API and by SDS, through renewals and a rotation of roots.

use std::time::Duration;

use serde_json::{Value, json};
use support::child::run;
use support::pki::spiffe;
use support::sidecar::Sidecar;
use support::{tools, wait};

use super::rotation;
use super::world::{Agent, Stage, with_identity};

/// The callee takes its identity over `source`, the caller from the CA.
fn follows(source: &str) {
    let stage = Stage::new("6s");
    let agent = Agent::start(&stage, "orders");
    let socket = agent.socket.display().to_string();
    let stage = stage.change("server", |text| {
        with_identity(&text, &format!("[identity]\nsource = \"{source}\"\nsocket = \"{socket}\"\n"))
    });
    let mut world = stage.start();
    let load = world.load();
    let before = world.serials();
    world.renewed_since(&before, Duration::from_secs(12));
    let old = world.ca.roots();
    world.ca.step("prepare");
    let new = rotation::finished(&world, &old[0]);
    rotation::settled(&world, &new);
    let requests = load.stop_clean(50);
    println!("{source}: {requests} requests, 0 failed");
    world.assert_untroubled();
    assert_faultless(&world.server);
}

fn assert_faultless(sidecar: &Sidecar) {
    let faults: Vec<_> =
        sidecar.events().into_iter().filter(|event| event["event"] == "identity_source_failed").collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn the_workload_api_of_the_agent_feeds_a_sidecar_through_a_rotation() {
    follows("workload-api");
}

#[test]
fn the_sds_of_the_agent_feeds_a_sidecar_through_a_rotation() {
    follows("sds");
}

/// gRPC's C library names the socket by its path with escapes.
#[test]
fn a_client_of_grpcs_c_library_is_given_an_identity_and_each_that_follows() {
    let stage = Stage::new("6s");
    let agent = Agent::start(&stage, "orders");
    let mut client = tools::python();
    let told = run(client.arg(tools::script("spiffe_client.py")).arg(&agent.socket).arg("3"));
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    for one in told {
        assert_eq!((&one["id"], &one["roots"]), (&json!(spiffe("shop", "orders")), &json!(1)));
    }
}

#[test]
fn an_agent_that_starts_again_is_found_again_and_nobody_notices() {
    let stage = Stage::new("20s");
    let mut agent = Agent::start(&stage, "orders");
    let socket = agent.socket.display().to_string();
    let stage = stage.change("server", |text| {
        with_identity(&text, &format!("[identity]\nsource = \"workload-api\"\nsocket = \"{socket}\"\n"))
    });
    let mut world = stage.start();
    let load = world.load();
    let before = world.serials();
    agent.child.kill();
    // Its certificate was in its memory alone, and its token has been used: it comes with another.
    world.ca.token("orders-agent", "shop", "orders");
    let agent = Agent::again(agent);
    wait::until("the callee to have what the agent has now", wait::SOON, || {
        (world.serials()[1] != before[1]).then_some(())
    });
    load.stop_clean(50);
    world.assert_untroubled();
    drop(agent);
}
