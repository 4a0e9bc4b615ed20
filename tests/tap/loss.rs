//! The account: what the sidecar says it sent is what the sensor got, and a sensor that is not there delays nobody.

use std::time::Duration;

use support::load::Load;
use support::pair::{HOST, Pair, Setting};
use support::prometheus::Scrape;
use support::{wait, wire};

use crate::sensor::Sensor;

const TAP: [(&str, &str); 1] = [("tap", "ids")];

#[test]
fn the_counters_are_the_packets_of_the_sensor_exactly() {
    let setting = Setting::new();
    let sensor = Sensor::start(setting.at.sensor);
    let pair = setting.start();
    for number in 0..200 {
        let path = if number % 3 == 0 { "/refused".to_owned() } else { format!("/api/orders/{number}") };
        wire::get(pair.entry(), HOST, &path).unwrap();
    }
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    let metrics = pair.server.metrics();
    assert_eq!(metrics.sum("sekisho_tap_matched_total", &TAP), 200.0);
    assert_balanced(&metrics);
    assert_eq!(metrics.sum("sekisho_tap_dropped_total", &TAP), 0.0);
    assert_eq!(metrics.sum("sekisho_tap_packets_sent_total", &TAP) as usize, copy.packets);
    assert_eq!(copy.requests().len(), 200);
}

#[test]
fn under_load_every_loss_is_counted_and_what_came_is_faultless() {
    let setting = Setting::new();
    let sensor = Sensor::start(setting.at.sensor);
    let pair = setting.start();
    let load = Load::start(pair.entry(), HOST, "/api/orders/42", 8);
    std::thread::sleep(Duration::from_secs(3));
    let total = load.stop();
    total.assert_clean(500);
    sensor.settle(pair.setting.dir.path());
    let metrics = pair.server.metrics();
    assert_eq!(metrics.sum("sekisho_tap_matched_total", &TAP) as u64, total.ok);
    assert_balanced(&metrics);
}

#[test]
fn a_sensor_that_is_not_there_delays_and_breaks_nothing() {
    let pair = Pair::start(); // nobody listens on the sensor's port
    for number in 0..100 {
        assert_eq!(wire::get(pair.entry(), HOST, &format!("/api/orders/{number}")).unwrap().status(), 200);
    }
    let metrics = wait::until("the tap to have sent or dropped everything", wait::SOON, || {
        let metrics = pair.server.metrics();
        let done = metrics.sum("sekisho_tap_mirrored_total", &TAP) + metrics.sum("sekisho_tap_dropped_total", &TAP);
        (done >= 100.0).then_some(metrics)
    });
    assert_eq!(metrics.sum("sekisho_tap_matched_total", &TAP), 100.0);
    assert_balanced(&metrics);
}

#[test]
fn a_file_without_a_tap_copies_nothing() {
    let without = |text: String| text.split("[[tap]]").next().unwrap().to_owned();
    let setting = Setting::new().server(without);
    let sensor = Sensor::start(setting.at.sensor);
    let pair = setting.start();
    assert_eq!(wire::get(pair.entry(), HOST, "/api/orders/42").unwrap().status(), 200);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(sensor.count(), 0);
}

/// matched = mirrored + dropped, and built = sent + errors, as the contract has it.
fn assert_balanced(metrics: &Scrape) {
    let sum = |name: &str| metrics.sum(&format!("sekisho_tap_{name}_total"), &TAP);
    assert_eq!(sum("matched"), sum("mirrored") + sum("dropped"));
    assert_eq!(sum("packets_built"), sum("packets_sent") + sum("send_errors"));
}
