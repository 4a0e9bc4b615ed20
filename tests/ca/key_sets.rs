//! A cluster's keys change while the CA runs: new ones count, old ones no more, and a broken file changes nothing.

use serde_json::json;
use support::wait;

use crate::setting::Setting;

#[test]
fn a_replaced_key_set_lets_new_keys_in_and_old_ones_out_without_restart() {
    let mut setting = Setting::new("");
    let id = setting.server.child().id();
    let code = |setting: &mut Setting, kid: &str| {
        let token = setting.client.token(kid, json!({}));
        let answer = setting.ask(&token, json!({}));
        let details = answer["details"].as_str().unwrap_or_default();
        (answer["code"].as_str().unwrap().to_owned(), details.contains("a key that its issuer does not have"))
    };
    let next = setting.client.cluster_key("ec", "e2");
    assert_eq!(code(&mut setting, "e1"), ("OK".to_owned(), false));
    assert_eq!(code(&mut setting, "e2"), ("UNAUTHENTICATED".to_owned(), true));

    setting.dir.write("jwks.json", json!({ "keys": [next] }).to_string());
    wait::until("the new key to count", wait::SOON, || (code(&mut setting, "e2").0 == "OK").then_some(()));
    assert_eq!(code(&mut setting, "e1"), ("UNAUTHENTICATED".to_owned(), true));

    let broken = ["{\"keys\":[", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\",\"kid\":\"x\"}]}"];
    for (index, text) in broken.into_iter().enumerate() {
        setting.dir.write("jwks.json", text);
        let told = || setting.server.child().stderr.text().matches("keys_rejected").count();
        wait::until("the broken file to be told of", wait::SOON, || (told() == index + 1).then_some(()));
        assert_eq!(code(&mut setting, "e2").0, "OK", "{text}");
    }
    std::fs::remove_file(setting.dir.join("jwks.json")).unwrap();
    wait::until("the missing file to be told of", wait::SOON, || {
        (setting.server.child().stderr.text().matches("keys_rejected").count() == broken.len() + 1).then_some(())
    });
    assert_eq!(code(&mut setting, "e2").0, "OK");

    let last = setting.client.cluster_key("rsa", "r3");
    setting.dir.write("jwks.json", json!({ "keys": [last] }).to_string());
    wait::until("a whole file to count again", wait::SOON, || (code(&mut setting, "r3").0 == "OK").then_some(()));
    assert_eq!(setting.server.child().id(), id);
    assert!(setting.server.is_running());
}
