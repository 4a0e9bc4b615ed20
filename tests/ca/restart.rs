//! The log is the only store: what the CA knew before it was stopped, or killed, it knows after.

use serde_json::json;
use support::wait;

use crate::setting::{Holder, Setting, WEB, whole};

#[test]
fn lineage_replay_and_used_tokens_survive_the_end_of_the_process() {
    let mut setting = Setting::new("[limits]\nkeys_per_token = 1\n");
    let join = setting.server.join_token("spiffe://example.org/vm/db-1");
    assert_eq!(setting.ask(&join, json!({}))["code"], "OK");
    let pod = setting.client.token("r1", json!({}));
    assert_eq!(setting.ask(&pod, json!({}))["code"], "OK");
    let mut holder = setting.holder("web", json!({}));

    for (round, killed) in [false, true].into_iter().enumerate() {
        if killed {
            setting.server.kill();
        } else {
            setting.server.stop();
        }
        setting.server.again();

        let name = format!("web{round}");
        let csr = setting.client.csr(json!({ "key_file": setting.dir.join(format!("{name}.key")) }));
        let renewed = setting.ask_for(&csr, holder.shown());
        assert_eq!(renewed["leaf"]["names"][0][1], WEB, "{renewed}");
        let records = setting.server.records();
        let of = |serial: &str| {
            records.iter().find(|record| record["event"] == "issued" && record["serial"] == serial).unwrap()
        };
        let next = Holder::keep(&setting.dir, &name, &renewed);
        assert_eq!(of(&next.serial)["lineage"], of(&holder.serial)["lineage"]);
        holder = next;

        for (token, word) in [(&join, "used"), (&pod, "with another key")] {
            let answer = setting.ask(token, json!({}));
            assert_eq!(answer["code"], "UNAUTHENTICATED", "{answer}");
            assert!(answer["details"].as_str().unwrap().contains(word), "{answer}");
        }
    }
    whole(&setting.server);
}

#[test]
fn a_token_is_held_to_its_key_for_longer_than_what_was_issued_for_it() {
    let mut setting = Setting::new("[issue]\nttl = \"5s\"\n[limits]\nkeys_per_token = 1\n");
    let token = setting.client.token("r1", json!({}));
    assert_eq!(setting.ask(&token, json!({}))["code"], "OK");
    wait::until("the certificate to end", wait::SOON, || {
        (setting.server.metrics().sum("sekisho_ca_certificates", &[]) == 0.0).then_some(())
    });
    setting.server.stop();
    setting.server.again();
    let answer = setting.ask(&token, json!({}));
    assert_eq!(answer["code"], "UNAUTHENTICATED", "{answer}");
    assert!(answer["details"].as_str().unwrap().contains("with another key"), "{answer}");
}
