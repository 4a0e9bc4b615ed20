//! Certificates of seconds, renewed under load: how often, when, and with what.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::child::run;
use support::tls;

use super::count;
use super::world::{Stage, World};

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

/// By the CA's log, which has the time, the key and the evidence of each.
#[test]
fn a_certificate_is_renewed_at_half_of_its_life_with_another_key_by_the_one_before() {
    /// How long a busy machine may take from the moment on which a sidecar has settled.
    const BUSY: f64 = 3.0;
    let mut world = Stage::new("40s").start();
    let load = world.load();
    let (first, first_key) = (world.serials(), shown_key(&world));
    let second = world.renewed_since(&first, Duration::from_secs(60));
    let second_key = shown_key(&world);
    let requests = load.stop_clean(100);
    let records = world.ca.records();
    for (before, after) in first.iter().zip(&second) {
        let [before, after] = [before, after].map(|serial| issued(&records, serial));
        assert_eq!(
            (&before["attestation"], &after["attestation"]),
            (&"join-token".into(), &"renewal".into()),
            "{after}"
        );
        assert_eq!(after["renewed"], before["serial"], "not by the one before: {after}");
        assert_eq!(after["id"], before["id"]);
        assert_ne!(after["spki"], before["spki"], "the key is the one of before: {after}");
        // What a renewal is timed by is the life that was left when the certificate came.
        let life = seconds_between(before, "time", before, "not_after");
        let age = seconds_between(before, "time", after, "time");
        println!("{}: renewed after {age:.1} s of {life:.1} s", after["id"]);
        assert!((life * 0.45..life * 0.55 + BUSY).contains(&age), "after {age} s of {life} s");
    }
    // The callee shows what the log says of it, and has the key to it: the handshakes went well.
    assert_eq!(first_key, issued(&records, &first[1])["spki"].as_str().unwrap());
    assert_eq!(second_key, issued(&records, &second[1])["spki"].as_str().unwrap());
    println!("{requests} requests, 0 failed");
    world.assert_untroubled();
}

/// SHA-256 of the public key of the certificate that the callee shows.
fn shown_key(world: &World) -> String {
    let stream = tls::connect(world.at.inbound, None, &["http/1.1"]).unwrap();
    let leaf = world.ca.home().with_file_name("shown.der");
    std::fs::write(&leaf, &stream.conn.peer_certificates().unwrap()[0]).unwrap();
    let pipe = "openssl x509 -inform DER -in \"$0\" -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r";
    let said = run(Command::new("sh").args(["-c", pipe]).arg(&leaf));
    said.split(' ').next().unwrap().to_owned()
}

/// The record of issuing the certificate with this serial number.
fn issued<'a>(records: &'a [Value], serial: &str) -> &'a Value {
    let fits = |record: &&Value| record["event"] == "issued" && record["serial"] == serial;
    records.iter().find(fits).unwrap_or_else(|| panic!("{serial} is not on record"))
}

/// From one time of the log to a later one, less than a day apart.
fn seconds_between(from: &Value, this: &str, to: &Value, that: &str) -> f64 {
    // `2027-01-15T08:00:00.000Z`: what follows the day.
    let of_day = |record: &Value, name: &str| {
        let text = record[name].as_str().unwrap();
        let parts = text[11..].trim_end_matches('Z').split(':').map(|part| part.parse::<f64>().unwrap());
        parts.fold(0.0, |sum, part| sum * 60.0 + part)
    };
    (of_day(to, that) - of_day(from, this)).rem_euclid(86_400.0)
}
