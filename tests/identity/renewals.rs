//! Certificates of six seconds, renewed under load.

use std::time::{Duration, Instant};

use super::count;
use super::world::Stage;

#[test]
fn certificates_of_six_seconds_are_renewed_under_load_without_a_failed_request() {
    let mut world = Stage::new("6s").start();
    let load = world.load();
    let renewals = count("SEKISHO_RENEWALS", 5);
    let begun = Instant::now();
    let mut serials = world.serials();
    for _ in 0..renewals {
        serials = world.renewed_since(&serials, Duration::from_secs(12));
        assert!(world.client.is_ready() && world.server.is_ready());
    }
    let every = begun.elapsed() / renewals;
    let requests = load.stop_clean(50);
    println!("{renewals} renewals of both, one each {every:?}; {requests} requests, 0 failed");
    world.assert_untroubled();
    // A certificate each at first, and those renewals; by the CA's count.
    let scrape = world.ca.metrics();
    let renewed = scrape.sum("sekisho_ca_issued_total", &[("evidence", "renewal")]);
    assert!(renewed >= f64::from(2 * renewals), "the CA counts {renewed}");
}
