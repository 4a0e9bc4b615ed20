//! The account: what the sidecar says it sent is what the sensor got, and a sensor that is not there delays nobody.

use std::net::UdpSocket;
use std::time::Duration;

use support::load::Load;
use support::pair::{HOST, Pair, Setting};
use support::prometheus::Scrape;
use support::sidecar::Sidecar;
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
        if number % 10 == 0 {
            sensor.catch_up(&pair.server, number + 1);
        }
    }
    let copy = sensor.settle(pair.setting.dir.path());
    copy.assert_faultless();
    let metrics = balanced(&pair.server, 200);
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
    wait::until("500 requests", Duration::from_secs(60), || {
        (pair.server.metrics().sum("sekisho_tap_matched_total", &TAP) >= 500.0).then_some(())
    });
    let total = load.stop();
    total.assert_clean(500);
    sensor.settle(pair.setting.dir.path());
    balanced(&pair.server, total.ok);
}

#[test]
fn a_sensor_that_is_not_there_delays_and_breaks_nothing() {
    let pair = Pair::start(); // nobody listens on the sensor's port
    for number in 0..100 {
        assert_eq!(wire::get(pair.entry(), HOST, &format!("/api/orders/{number}")).unwrap().status(), 200);
    }
    balanced(&pair.server, 100);
}

#[test]
fn a_sensor_that_dies_and_comes_back_is_sent_to_again() {
    let setting = Setting::new();
    let sensor = Sensor::start(setting.at.sensor);
    let pair = setting.start();
    let ask = |count: usize| {
        for number in 0..count {
            assert_eq!(wire::get(pair.entry(), HOST, &format!("/api/orders/{number}")).unwrap().status(), 200);
        }
    };
    ask(20);
    sensor.catch_up(&pair.server, 20);
    drop(sensor);
    wait::until("the sensor to be gone", wait::SOON, || UdpSocket::bind(pair.setting.at.sensor).ok());
    ask(50);
    balanced(&pair.server, 70);
    let sensor = Sensor::start(pair.setting.at.sensor);
    ask(20);
    wait::until("the copy to come again", wait::SOON, || (sensor.count() > 0).then_some(()));
    balanced(&pair.server, 90);
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

/// A scrape in which matched = mirrored + dropped and built = sent + errors, as the contract has it. That holds when the
/// tap is at rest; a packet that is built and not yet sent is waited for.
fn balanced(sidecar: &Sidecar, matched: u64) -> Scrape {
    let sum = |metrics: &Scrape, name: &str| metrics.sum(&format!("sekisho_tap_{name}_total"), &TAP) as u64;
    let mut last = Scrape::default();
    let found = wait::within(wait::SOON, || {
        last = sidecar.metrics();
        let transactions =
            sum(&last, "matched") == matched && matched == sum(&last, "mirrored") + sum(&last, "dropped");
        let packets = sum(&last, "packets_built") == sum(&last, "packets_sent") + sum(&last, "send_errors");
        (transactions && packets).then_some(())
    });
    let all: Vec<_> = last.samples().iter().filter(|sample| sample.name.starts_with("sekisho_tap_")).collect();
    assert!(found.is_some(), "no balance at {matched} matched: {all:#?}");
    last
}
