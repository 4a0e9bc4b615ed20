//! Any byte of the log that is changed is found, in the log of a CA that served.

use serde_json::json;
use support::ca_server::segments;

use crate::setting::{Setting, whole};

#[test]
fn a_changed_byte_at_any_place_of_the_log_is_found() {
    let mut setting = Setting::new("");
    let holder = setting.holder("web", json!({}));
    let csr = setting.client.csr(json!({}));
    assert_eq!(setting.ask_for(&csr, holder.shown())["code"], "OK");
    assert_eq!(setting.ask_for(&csr, json!({}))["code"], "UNAUTHENTICATED");
    setting.server.stop();
    let records = whole(&setting.server)["records"].as_u64().unwrap();
    assert!(records >= 6, "{records}");

    let log = setting.server.home().join("log");
    let mut files = segments(setting.server.home());
    files.extend(["head.json", "log.pub"].map(|name| log.join(name)));
    for file in files {
        let content = std::fs::read(&file).unwrap();
        // Both ends, and places between that fall into every kind of field.
        let step = (content.len() / 40).max(1);
        let places = (0..content.len()).step_by(step).chain([content.len() - 1]);
        for (count, place) in places.enumerate() {
            let mut changed = content.clone();
            changed[place] ^= 1 << (count % 7);
            std::fs::write(&file, &changed).unwrap();
            let output = setting.server.verify_log();
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{} byte {place}: {text}", file.display());
        }
        std::fs::write(&file, &content).unwrap();
    }
    whole(&setting.server);
}
