//! Every request that must be refused: each for its own reason, with its own code, counted and on record, and nothing issued.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::ca_server::CaServer;
use support::child::{Child, run};
use support::istio::with;
use support::pki::{Forged, Forger};
use support::scratch::Scratch;
use support::{pki, tools, wait};

use crate::setting::{CLUSTER, Holder, Setting, WEB, cluster, of_event, recorded, whole};

/// A request that is refused.
struct Case {
    name: &'static str,
    /// In the log and in the metric.
    reason: &'static str,
    code: &'static str,
    /// Makes the request ready, up to the parameters of `create`.
    ready: fn(&mut World) -> Value,
}

/// A token, and a good request beside it.
macro_rules! tokens {
    ($( $name:literal, $reason:literal, $kid:literal, $changes:tt; )+) => {
        &[$( Case {
            name: $name,
            reason: $reason,
            code: "UNAUTHENTICATED",
            ready: |world| {
                let token = world.setting.client.token($kid, json!($changes));
                world.by_token(&token)
            },
        }, )+]
    };
}

const TOKENS: &[Case] = tokens! {
    "another audience", "token_audience", "r1", { "claims": { "aud": ["istio-ca"] } };
    "an audience as text", "token_audience", "r1", { "claims": { "aud": "sekisho-ca.evil" } };
    "several audiences", "token_audience_several", "r1", { "claims": { "aud": ["sekisho-ca", "vault"] } };
    "no audience", "token_no_audience", "r1", { "claims": { "aud": null } };
    "expired", "token_expired", "r1", { "seconds": { "iat": -7200, "nbf": -7200, "exp": -120 } };
    "not yet valid", "token_not_yet_valid", "e1", { "seconds": { "nbf": 600 } };
    "issued in the future", "token_from_future", "e1", { "seconds": { "iat": 600 } };
    "no expiry", "token_no_expiry", "e1", { "claims": { "exp": null } };
    "living too long", "token_life", "e1", { "seconds": { "exp": 864_000 } };
    "of another issuer", "token_issuer", "r1", { "claims": { "iss": "https://evil.example" } };
    "of the issuer with a slash", "token_issuer_slash", "r1", { "claims": { "iss": "https://kubernetes.default.svc/" } };
    "not signed", "token_alg_none", "r1", { "header": { "alg": "none" } };
    "signed with the public key as a secret", "token_alg_symmetric", "r1", { "header": { "alg": "HS256" } };
    "signed for another kind of key", "token_key_confusion", "e1", { "header": { "alg": "RS256" } };
    "signed with an algorithm nobody took in", "token_alg_unknown", "r1", { "header": { "alg": "PS256" } };
    "bringing its own key", "token_header_jwk", "r1", { "header": { "jwk": { "kty": "oct" } } };
    "pointing to its own keys", "token_header_jku", "r1", { "header": { "jku": "https://evil.example/keys" } };
    "pointing to certificates", "token_header_x5u", "r1", { "header": { "x5u": "https://evil.example/c" } };
    "demanding extensions", "token_header_crit", "r1", { "header": { "crit": ["b64"], "b64": false } };
    "of a key that is not known", "token_unknown_key", "r1", { "header": { "kid": "r9" } };
    "of no key", "token_no_key_id", "r1", { "header": { "kid": null } };
    "signed by another than the key it names", "token_signature", "thief", { "header": { "kid": "r1" } };
    "bound to no pod", "token_no_pod", "r1", { "claims": { "kubernetes.io": { "pod": null } } };
    "without the claims of Kubernetes", "token_no_kubernetes_claim", "r1", { "claims": { "kubernetes.io": null } };
    "out of a Secret", "token_legacy", "r1", { "claims": { "iss": "kubernetes/serviceaccount" } };
    "bound to a Secret", "token_legacy", "r1", { "claims": { "kubernetes.io": { "secret": { "name": "x", "uid": "y" } } } };
    "whose subject is another account", "token_subject_mismatch", "r1", { "claims": { "sub": "system:serviceaccount:shop:admin" } };
    "whose subject is no account", "token_subject", "r1", { "claims": { "sub": "admin" } };
    "whose account is none", "token_claim_name", "r1", {
        "claims": {
            "sub": "system:serviceaccount:shop:../x",
            "kubernetes.io": { "serviceaccount": { "name": "../x", "uid": "1" } },
        },
    };
    "without a number of its own", "token_no_id", "r1", { "claims": { "jti": null } };
};

const OTHERS: &[Case] = &[
    Case { name: "nothing shown", reason: "no_evidence", code: "UNAUTHENTICATED", ready: |_| json!({}) },
    Case {
        name: "two tokens",
        reason: "authorization",
        code: "UNAUTHENTICATED",
        ready: |world| {
            let bearers = [(); 2].map(|()| format!("Bearer {}", world.setting.client.token("e1", json!({}))));
            json!({ "authorization": bearers })
        },
    },
    Case {
        name: "a password",
        reason: "authorization",
        code: "UNAUTHENTICATED",
        ready: |_| json!({ "authorization": ["Basic d2ViOndlYg=="] }),
    },
    Case {
        name: "speaking for another",
        reason: "metadata",
        code: "INVALID_ARGUMENT",
        ready: |world| with(world.by_good_token(), json!({ "metadata": { "ImpersonatedIdentity": WEB } })),
    },
    Case {
        name: "a lifetime that is too long",
        reason: "ttl",
        code: "INVALID_ARGUMENT",
        ready: |world| with(world.by_good_token(), json!({ "ttl": 7201 })),
    },
    Case {
        name: "the account that has the CA's own name",
        reason: "id_of_ca",
        code: "PERMISSION_DENIED",
        ready: |world| {
            let account = json!({ "serviceaccount": { "name": "authority", "uid": "1" } });
            let claims = json!({ "sub": "system:serviceaccount:shop:authority", "kubernetes.io": account });
            let token = world.setting.client.token("e1", json!({ "claims": claims }));
            world.by_token(&token)
        },
    },
    Case {
        name: "no join token",
        reason: "join_malformed",
        code: "UNAUTHENTICATED",
        ready: |world| world.by_token("sekisho-join-AAAA"),
    },
    Case {
        name: "a join token that nobody made",
        reason: "join_unknown",
        code: "UNAUTHENTICATED",
        ready: |world| world.by_token(&format!("sekisho-join-{}A", "A".repeat(42))),
    },
    Case {
        name: "a join token for the second time",
        reason: "join_used",
        code: "UNAUTHENTICATED",
        ready: |world| {
            let token = world.setting.server.join_token("spiffe://example.org/vm/db-1");
            world.issued(world.by_token(&token));
            world.by_token(&token)
        },
    },
    Case {
        name: "a join token that was taken back",
        reason: "join_unknown",
        code: "UNAUTHENTICATED",
        ready: |world| {
            let token = world.setting.server.join_token("spiffe://example.org/vm/db-2");
            let listed = world.ca(&["token"], &["list"]);
            let open = listed.lines().find(|line| line.ends_with("vm/db-2")).unwrap();
            world.ca(&["token"], &["revoke", open.split(' ').next().unwrap()]);
            world.by_token(&token)
        },
    },
    Case {
        name: "a join token that has ended",
        reason: "join_expired",
        code: "UNAUTHENTICATED",
        ready: |world| world.by_token(&world.old_token),
    },
    Case {
        name: "a request for the rights of a CA",
        reason: "csr_ca_rights",
        code: "INVALID_ARGUMENT",
        ready: |world| world.request(json!({ "ca": true })),
    },
    Case {
        name: "a request for another's name",
        reason: "csr_other_name",
        code: "INVALID_ARGUMENT",
        ready: |world| world.request(json!({ "uris": ["spiffe://example.org/ns/shop/sa/admin"] })),
    },
    Case {
        name: "a request for the own name and another's",
        reason: "csr_other_name",
        code: "INVALID_ARGUMENT",
        ready: |world| world.request(json!({ "uris": [WEB, "spiffe://other.example/x"] })),
    },
    Case {
        name: "a request for a DNS name",
        reason: "csr_extra_name",
        code: "INVALID_ARGUMENT",
        ready: |world| world.request(json!({ "uris": [WEB], "dns": ["bank.example"] })),
    },
    Case {
        name: "a request whose signature does not hold",
        reason: "csr_signature",
        code: "INVALID_ARGUMENT",
        ready: |world| world.request(json!({ "bad_signature": true })),
    },
    Case {
        name: "a request for a weak key",
        reason: "key_rsa_small",
        code: "INVALID_ARGUMENT",
        ready: |world| world.request(json!({ "key": "rsa1024" })),
    },
    Case {
        name: "no request",
        reason: "csr_malformed",
        code: "INVALID_ARGUMENT",
        ready: |world| with(world.by_good_token(), json!({ "csr": "please" })),
    },
    Case {
        name: "a request of 20 kB",
        reason: "csr_too_large",
        code: "INVALID_ARGUMENT",
        ready: |world| world.request(json!({ "padding": 15_000 })),
    },
    Case {
        name: "a request of 100 kB",
        reason: "message_too_large",
        code: "OUT_OF_RANGE",
        ready: |world| world.request(json!({ "padding": 75_000 })),
    },
    Case {
        name: "a token with one key too many",
        reason: "replay_other_key",
        code: "UNAUTHENTICATED",
        ready: |world| {
            let token = world.setting.client.token("r1", json!({}));
            for _ in 0..2 {
                let asked = world.by_token(&token);
                world.issued(asked);
            }
            world.by_token(&token)
        },
    },
    Case {
        name: "a name on the deny list",
        reason: "denied",
        code: "PERMISSION_DENIED",
        ready: |world| {
            world.deny(&["--id", "spiffe://example.org/ns/shop/sa/evil"]);
            let account = json!({ "serviceaccount": { "name": "evil", "uid": "1" } });
            let claims = json!({ "sub": "system:serviceaccount:shop:evil", "kubernetes.io": account });
            let token = world.setting.client.token("e1", json!({ "claims": claims }));
            world.by_token(&token)
        },
    },
    Case {
        name: "a key on the deny list",
        reason: "denied",
        code: "PERMISSION_DENIED",
        ready: |world| {
            let made = world.setting.client.tell(&json!({ "do": "csr" }));
            world.deny(&["--key", made["spki"].as_str().unwrap()]);
            with(world.by_good_token(), json!({ "csr": made["csr"] }))
        },
    },
    Case {
        name: "a renewal of a certificate on the deny list",
        reason: "denied",
        code: "PERMISSION_DENIED",
        ready: |world| {
            let holder = world.setting.holder("stolen", json!({}));
            world.deny(&["--serial", &holder.serial]);
            holder.shown()
        },
    },
    Case {
        name: "a renewal with the same key",
        reason: "renewal_same_key",
        code: "UNAUTHENTICATED",
        ready: |world| {
            let holder = world.setting.holder("same", json!({}));
            let csr = world.setting.client.csr(json!({ "key_file": holder.key }));
            with(holder.shown(), json!({ "csr": csr }))
        },
    },
    Case {
        name: "a renewal for longer than is allowed",
        reason: "renewal_lineage_ended",
        code: "UNAUTHENTICATED",
        ready: |world| json!({ "chain": world.setting.dir.join("old.pem"), "key": world.setting.dir.join("old.key") }),
    },
    Case {
        name: "a renewal of a certificate that is not on record",
        reason: "renewal_unknown_serial",
        code: "UNAUTHENTICATED",
        ready: |world| {
            let forger = Forger::of(&pki::root(world.setting.server.home()), world.setting.dir.path());
            let names = [format!("URI:{WEB}")];
            let cert = forger.leaf("forged", &Forged { names: &[&names[0]], ..Forged::default() });
            json!({ "chain": cert.chain, "key": cert.key })
        },
    },
];

/// What the key of a root can sign, under a number on record.
const FORGED: Case = Case {
    name: "a renewal of a certificate that is on record with another name",
    reason: "renewal_unknown_serial",
    code: "UNAUTHENTICATED",
    ready: |world| {
        let holder = world.setting.holder("known", json!({}));
        let forger = Forger::of(&pki::root(world.setting.server.home()), world.setting.dir.path());
        let names = ["URI:spiffe://example.org/ns/shop/sa/admin"];
        let cert = forger.leaf("twin", &Forged { names: &names, serial: Some(&holder.serial), ..Forged::default() });
        json!({ "chain": cert.chain, "key": cert.key })
    },
};

struct World {
    setting: Setting,
    /// Of an hour ago.
    old_token: String,
}

impl World {
    /// A certificate of half an hour's lineage too old lies in `old.pem`.
    fn new() -> Self {
        let dir = Scratch::new();
        let mut client = cluster(&dir);
        client.cluster_key("rsa", "thief");
        let init = ["ca", "init", "--dir", "ca", "--trust-domain", pki::TRUST_DOMAIN];
        run(earlier("-2h", dir.path()).args(init));
        let issue =
            ["ca", "issue", "--dir", "ca", "--id", "spiffe://example.org/vm/old", "--out", ".", "--name", "old"];
        run(earlier("-90m", dir.path()).args(issue));
        let create = ["token", "--dir", "ca", "create", "--id", "spiffe://example.org/vm/db-3", "--ttl", "10m"];
        let old_token = run(earlier("-1h", dir.path()).arg("ca").args(create)).trim().to_owned();
        let sections = "identity = \"ns/shop/sa/authority\"\n[issue]\nttl = \"1h\"\nmax_ttl = \"2h\"\nlineage = \"1h\"\n[limits]\nkeys_per_token = 2\n";
        let server = CaServer::start_over(dir.path(), &dir.join("ca"), &format!("{sections}{CLUSTER}"));
        Self { setting: Setting { client, server, dir }, old_token }
    }

    fn by_token(&self, token: &str) -> Value {
        json!({ "authorization": [format!("Bearer {token}")] })
    }

    fn by_good_token(&mut self) -> Value {
        let token = self.setting.client.token("e1", json!({}));
        self.by_token(&token)
    }

    /// A request of this kind, by a good token.
    fn request(&mut self, changes: Value) -> Value {
        let csr = self.setting.client.csr(changes);
        with(self.by_good_token(), json!({ "csr": csr }))
    }

    fn ask(&mut self, asked: Value) -> Value {
        let csr = self.setting.client.csr(json!({}));
        self.setting.ask_for(&csr, asked)
    }

    fn issued(&mut self, asked: Value) {
        let answer = self.ask(asked);
        assert_eq!(answer["code"], "OK", "{answer}");
    }

    fn ca(&self, command: &[&str], rest: &[&str]) -> String {
        let mut sekisho = Command::new(tools::sekisho());
        run(sekisho.arg("ca").args(command).arg("--dir").arg(self.setting.server.home()).args(rest))
    }

    /// Puts something on the deny list, and waits until the server has read it.
    fn deny(&self, what: &[&str]) {
        let told = || self.setting.server.child().stderr.text().matches("deny_list_changed").count();
        let before = told();
        self.ca(&["deny"], &[&["add", "--reason", "test"], what].concat());
        wait::until("the deny list to be read again", wait::SOON, || (told() > before).then_some(()));
    }

    fn is_refused(&mut self, case: &Case) {
        let Case { name, reason, code, ready } = case;
        let asked = ready(self);
        let refused =
            |world: &Self| world.setting.server.metrics().sum("sekisho_ca_refused_total", &[("reason", reason)]);
        let (count, records) = (refused(self), self.setting.server.records().len());
        let answer = self.ask(asked);
        assert_eq!(answer["code"], *code, "{name}: {answer}");
        let recorded = wait::within(wait::SOON, || {
            let now = self.setting.server.records();
            (now.len() > records).then_some(now)
        });
        let recorded = recorded.unwrap_or_else(|| panic!("{name}: not on record: {answer}"));
        let [record] = &recorded[records..] else { panic!("{name}: {:?}", &recorded[records..]) };
        assert_eq!((&record["event"], &record["reason"]), (&json!("refused"), &json!(reason)), "{name}: {record}");
        assert!(record["caller"].as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {record}");
        assert_eq!(refused(self), count + 1.0, "{name}: {reason} is not counted");
    }
}

#[test]
fn what_must_be_refused_is_for_its_own_reason_counted_on_record_and_nothing_is_issued() {
    let mut world = World::new();
    for case in TOKENS.iter().chain(OTHERS).chain([&FORGED]) {
        world.is_refused(case);
    }
    // The setting is one in which good requests are granted, from the first to the last.
    let asked = world.by_good_token();
    world.issued(asked);
    let records = world.setting.server.records();
    assert_eq!(of_event(&records, "refused").count(), TOKENS.len() + OTHERS.len() + 1);
    // By the operator, before the second use of a join token, of three that try to renew, two for one token, the last.
    assert_eq!(of_event(&records, "issued").count(), 8);
    assert!(records.iter().all(|record| !record.to_string().contains("sekisho-join-")), "a token in the log");
    whole(&world.setting.server);
    world.setting.server.stop();
    whole(&world.setting.server);
}

#[test]
fn a_certificate_of_another_ca_is_refused_by_tls() {
    let mut setting = Setting::new("");
    let forger = Forger::new_root(setting.dir.path(), "other", pki::TRUST_DOMAIN);
    let names = [format!("URI:{WEB}")];
    let cert = forger.leaf("other", &Forged { names: &[&names[0]], ..Forged::default() });
    let before = setting.server.records().len();

    let mut openssl = tools::system("openssl", "openssl");
    openssl.args(["s_client", "-ign_eof", "-alpn", "h2", "-connect", &setting.server.address().to_string(), "-cert"]);
    openssl.arg(&cert.chain).arg("-key").arg(&cert.key).arg("-CAfile").arg(setting.server.root());
    let mut client = Child::start(setting.dir.path(), "s_client", openssl.stdin(Stdio::null()));
    assert!(client.wait(wait::SOON).is_some(), "the connection stays open");
    let said = client.stderr.text();
    // RFC 8446 §6.2: unknown_ca.
    assert!(said.contains("alert number 48"), "{said}");

    // With a token beside it neither.
    let token = setting.client.token("e1", json!({}));
    let answer = setting.ask(&token, json!({ "chain": cert.chain, "key": cert.key }));
    assert_eq!(answer["code"], "UNAVAILABLE", "{answer}");
    let refused = setting.server.metrics().sum("sekisho_ca_connections_refused_total", &[("reason", "tls")]);
    assert!(refused >= 2.0, "{refused}");
    assert_eq!(setting.server.records().len(), before, "a connection that is refused asks for nothing");
}

#[test]
fn who_asks_too_often_is_told_when_to_come_again_and_nobody_else_is() {
    let mut setting = Setting::new("[limits]\nper_identity_per_hour = 2\nkeys_per_token = 16\n");
    let token = setting.client.token("e1", json!({}));
    for _ in 0..2 {
        assert_eq!(setting.ask(&token, json!({}))["code"], "OK");
    }
    let answer = setting.ask(&token, json!({}));
    assert_eq!(answer["code"], "UNAVAILABLE", "{answer}");
    let again: u64 = answer["trailers"]["retry-after"].as_str().unwrap().parse().unwrap();
    assert!((1..=1800).contains(&again), "{again}");
    assert_eq!(setting.server.metrics().sum("sekisho_ca_refused_total", &[("reason", "identity_rate")]), 1.0);
    let other: Holder = setting.holder("other", json!({}));
    recorded(&setting.server, "the other pod's record", |record| record["serial"] == other.serial.as_str());
    let records = setting.server.records();
    assert_eq!(of_event(&records, "refused").count(), 0, "what is shed is counted, and is not on record");
}

/// `sekisho` with its clock set back.
fn earlier(by: &str, dir: &Path) -> Command {
    let mut command = Command::new(tools::sekisho());
    command.envs(tools::faketime_by(by)).current_dir(dir);
    command
}
