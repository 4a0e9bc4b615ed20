//! What a client of other make gets: the shape that Istio's agents expect, and a certificate that openssl takes.

use std::process::Command;
use std::sync::Barrier;

use serde_json::json;
use support::child::run;
use support::istio::IstioClient;
use support::tools;

use crate::setting::{Setting, WEB, of_event, whole};

#[test]
fn a_client_of_other_make_obtains_a_certificate_by_its_pods_token() {
    let mut setting = Setting::new("[issue]\nmax_ttl = \"24h\"\n");
    for (kid, ttl) in [("r1", 0), ("e1", 600)] {
        let token = setting.client.token(kid, json!({}));
        let made = setting.client.tell(&json!({ "do": "csr" }));
        let csr = made["csr"].as_str().unwrap();
        // Istio's agent always names a signer, by nothing where none was configured.
        let as_agent =
            json!({ "authorization": [format!("Bearer {token}")], "ttl": ttl, "metadata": { "CertSigner": "" } });
        let answer = setting.ask_for(csr, as_agent);
        assert_eq!(answer["code"], "OK", "{answer}");

        // The leaf, each intermediate in a string of its own, last all roots in one.
        let chain: Vec<&str> = answer["chain"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        assert_eq!(chain.len(), 3);
        assert!(chain.iter().all(|part| part.matches("BEGIN CERTIFICATE").count() == 1), "{chain:?}");
        assert_eq!(chain[2], std::fs::read_to_string(setting.server.root()).unwrap());

        let leaf = &answer["leaf"];
        assert_eq!(leaf["names"], json!([["UniformResourceIdentifier", WEB]]));
        assert_eq!((&leaf["subject"], &leaf["ca"]), (&json!(""), &json!(false)));
        assert_eq!((&leaf["usage_critical"], &leaf["usage"]), (&json!(true), &json!(["digital_signature"])));
        assert_eq!(leaf["extended"], json!(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]));
        assert_eq!(leaf["spki"], made["spki"]);
        // From a minute before it was made.
        let wanted = if ttl == 0 { 86_400 } else { ttl };
        let seconds = leaf["seconds"].as_i64().unwrap();
        assert!((wanted..=wanted + 61).contains(&seconds), "{seconds} s, asked for {wanted}");

        for (name, text) in [("leaf.pem", chain[0]), ("intermediate.pem", chain[1]), ("roots.pem", chain[2])] {
            setting.dir.write(name, text);
        }
        let verify = ["verify", "-x509_strict", "-CAfile", "roots.pem", "-untrusted", "intermediate.pem"];
        for purpose in ["sslserver", "sslclient"] {
            let mut openssl = tools::system("openssl", "openssl");
            run(openssl.args(verify).args(["-purpose", purpose, "leaf.pem"]).current_dir(setting.dir.path()));
        }

        let records = setting.server.records();
        let record = of_event(&records, "issued").last().unwrap();
        assert_eq!((&record["serial"], &record["id"], &record["spki"]), (&leaf["serial"], &json!(WEB), &made["spki"]));
        assert_eq!((&record["attestation"], &record["cluster"]), (&json!("kubernetes"), &json!("main")));
    }
    assert_eq!(setting.server.metrics().sum("sekisho_ca_issued_total", &[("evidence", "kubernetes")]), 2.0);
    whole(&setting.server);
}

#[test]
fn a_machine_joins_once_and_renews_by_its_certificate() {
    let mut setting = Setting::new("");
    let id = "spiffe://example.org/vm/db-1";
    let token = setting.server.join_token(id);
    let csr = setting.client.csr(json!({ "key_file": setting.dir.join("db.key") }));
    let joined = setting.ask_for(&csr, json!({ "authorization": [format!("Bearer {token}")] }));
    let holder = crate::setting::Holder::keep(&setting.dir, "db", &joined);
    let csr = setting.client.csr(json!({}));
    let renewed = setting.ask_for(&csr, holder.shown());
    assert_eq!(renewed["code"], "OK", "{renewed}");
    assert_eq!(renewed["leaf"]["names"], json!([["UniformResourceIdentifier", id]]));
    let records = setting.server.records();
    let issued: Vec<_> = of_event(&records, "issued").collect();
    assert_eq!(issued.len(), 2);
    assert_eq!((&issued[0]["attestation"], &issued[1]["attestation"]), (&json!("join-token"), &json!("renewal")));
    assert_eq!((&issued[1]["renewed"], &issued[1]["lineage"]), (&json!(holder.serial), &issued[0]["lineage"]));
}

#[test]
fn the_server_is_itself_by_its_names_and_no_other() {
    let mut setting = Setting::new("");
    let token = setting.client.token("e1", json!({}));
    let by_address = setting.server.address().to_string();
    let answer = setting.ask(&token, json!({ "address": by_address }));
    assert_eq!(answer["code"], "UNAVAILABLE", "an address is none of its names: {answer}");
    assert_eq!(setting.ask(&token, json!({}))["code"], "OK");
}

#[test]
fn the_file_is_checked_without_being_served() {
    let setting = Setting::new("");
    let check = |name: &str| {
        let arguments = ["ca", "check", "-c", name, "--format", "json"];
        Command::new(tools::sekisho()).args(arguments).current_dir(setting.dir.path()).output().unwrap()
    };
    assert_eq!(check("ca.toml").status.code(), Some(0));
    let text = setting.dir.read("ca.toml");
    setting.dir.write("wrong.toml", text.replace("issuer", "isuer"));
    let wrong = check("wrong.toml");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("isuer"), "{wrong:?}");
}

#[test]
fn of_many_who_bring_one_join_token_at_once_one_gets_a_certificate() {
    let mut setting = Setting::new("");
    let token = setting.server.join_token("spiffe://example.org/vm/db-1");
    let csr = setting.client.csr(json!({}));
    let create = json!({
        "do": "create", "address": setting.server.grpc(), "roots": setting.server.root(), "csr": csr,
        "authorization": [format!("Bearer {token}")],
    });
    let mut clients = [(); 6].map(|()| IstioClient::start(setting.dir.path()));
    let together = Barrier::new(clients.len());
    let codes: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let (together, create) = (&together, &create);
                scope.spawn(move || {
                    // Its stubs are made, and its libraries read, before the others are waited for.
                    client.csr(json!({}));
                    together.wait();
                    client.tell(create)["code"].clone()
                })
            })
            .collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == "OK").count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == "UNAUTHENTICATED").count(), 5, "{codes:?}");
    let records = setting.server.records();
    assert_eq!(of_event(&records, "issued").count(), 1);
}
