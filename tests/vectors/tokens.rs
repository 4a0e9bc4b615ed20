//! Tokens of service accounts: 42.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ca::attest::{Cluster, Clusters, Jwks, Refetch, Refusal, Template, TokenRules};
use identity::TrustDomain;
use serde_json::{Value, json};

use crate::{Vector, Verdict};

const ISSUER: &str = "https://kubernetes.default.svc";
const NOW: u64 = 1_800_000_000;

/// The cluster's key.
static KEY: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());

pub(crate) fn vectors() -> Vec<Vector> {
    let mut vectors = Vec::new();
    let mut add = |name: &str, label, token: String| vectors.push(Vector::new(42, name, (label, ""), judge(&token)));
    for (name, label, member, value) in [
        ("not signed", "token_alg_none", "alg", json!("none")),
        ("not signed, spelled otherwise", "token_alg_none", "alg", json!("nOnE")),
        ("the signature of another kind of key", "token_key_confusion", "alg", json!("RS256")),
        ("bringing its own key", "token_header_jwk", "jwk", jwk("k")),
        ("pointing to keys", "token_header_jku", "jku", json!("https://evil.example/keys")),
        ("pointing to certificates", "token_header_x5u", "x5u", json!("https://evil.example/cert")),
        ("a key nobody knows", "token_unknown_key", "kid", json!("other")),
    ] {
        let mut header = header();
        header[member] = value;
        add(name, label, seal(&header, &claims()));
    }
    let mut symmetric = header();
    symmetric["alg"] = json!("HS256");
    let signed = format!("{}.{}", part(&symmetric), part(&claims()));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, KEY.public_key().as_ref());
    let tag = hmac::sign(&secret, signed.as_bytes());
    add("signed with the public key as a secret", "token_alg_symmetric", format!("{signed}.{}", encode(tag.as_ref())));

    for (name, label, pointer, value) in [
        ("another issuer", "token_issuer", "/iss", Some(json!("https://evil.example"))),
        ("the issuer with a slash", "token_issuer_slash", "/iss", Some(json!(format!("{ISSUER}/")))),
        ("no audience", "token_no_audience", "/aud", None),
        ("another audience", "token_audience", "/aud", Some(json!(["istio-ca"]))),
        ("audiences without ours", "token_audience", "/aud", Some(json!(["istio-ca", "vault"]))),
        ("an audience that begins like ours", "token_audience", "/aud", Some(json!("sekisho-ca.evil"))),
        ("ours among other audiences", "token_audience_several", "/aud", Some(json!(["sekisho-ca", "vault"]))),
        ("no expiry", "token_no_expiry", "/exp", None),
        ("expired", "token_expired", "/exp", Some(json!(NOW - 61))),
        ("not yet valid", "token_not_yet_valid", "/nbf", Some(json!(NOW + 61))),
        (
            "another account than its claims",
            "token_subject_mismatch",
            "/sub",
            Some(json!("system:serviceaccount:shop:admin")),
        ),
        ("a subject of two parts", "token_subject", "/sub", Some(json!("system:serviceaccount"))),
        ("a subject of three parts", "token_subject", "/sub", Some(json!("system:serviceaccount:shop"))),
        ("a subject of five parts", "token_subject", "/sub", Some(json!("system:serviceaccount:shop:web:admin"))),
        ("no pod", "token_no_pod", "/kubernetes.io/pod", None),
        ("a Secret's token by its issuer", "token_legacy", "/iss", Some(json!("kubernetes/serviceaccount"))),
    ] {
        let mut claims = claims();
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => parent.insert(member.to_owned(), value),
            None => parent.remove(member),
        };
        add(name, label, seal(&header(), &claims));
    }
    let legacy = json!({
        "iss": ISSUER, "aud": "sekisho-ca", "sub": "system:serviceaccount:shop:web",
        "kubernetes.io/serviceaccount/secret.name": "web-token", "kubernetes.io/serviceaccount/namespace": "shop",
    });
    add("a Secret's token by its claims", "token_legacy", seal(&header(), &legacy));
    let (good, other) =
        (seal(&header(), &claims()), EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let forged = other.unwrap().sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    add("signed by another key than it names", "token_signature", format!("{signed}.{}", encode(forged.as_ref())));
    vectors
}

/// What a flood of invented key names does: nothing but one look at the keys in each interval.
#[test]
fn a_flood_of_unknown_keys_asks_for_the_keys_once() {
    let mut refetch = Refetch::new(Duration::from_secs(10));
    let clusters = clusters();
    let mut looks = 0;
    for i in 0..1000u32 {
        let mut header = header();
        header["kid"] = json!(format!("invented-{i}"));
        let token = seal(&header, &claims());
        assert_eq!(clusters.verify(&token, now()), Err(Refusal::UnknownKey));
        looks += usize::from(refetch.due(now() + Duration::from_millis(u64::from(i))));
    }
    assert_eq!(looks, 1);
}

#[test]
fn good_tokens_are_taken() {
    let accepted = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims();
        change(&mut claims);
        assert_eq!(judge(&seal(&header(), &claims)), Ok(()), "{claims}");
    };
    accepted(&|_| {});
    accepted(&|claims| claims["aud"] = json!("sekisho-ca"));
    accepted(&|claims| claims["exp"] = json!(NOW - 59));
    accepted(&|claims| claims["nbf"] = json!(NOW + 59));
    accepted(&|claims| claims["cloud"] = json!({ "zone": "a" }));
    accepted(&|claims| {
        claims["kubernetes.io"].as_object_mut().unwrap().remove("node");
    });
    let mut typed = header();
    typed["typ"] = json!("JWT");
    assert_eq!(judge(&seal(&typed, &claims())), Ok(()));
}

fn judge(token: &str) -> Verdict {
    let judged = clusters().verify(token, now()).and_then(|token| token.attest());
    judged.map(|_| ()).map_err(|refusal| (refusal.reason().to_owned(), refusal.to_string()))
}

fn clusters() -> Clusters {
    let keys = Jwks::parse(json!({ "keys": [jwk("k")] }).to_string().as_bytes()).unwrap();
    let cluster = Cluster {
        name: "main".into(),
        issuer: ISSUER.into(),
        audience: "sekisho-ca".into(),
        keys: Arc::new(keys),
        template: Template::default(),
        strict: false,
    };
    Clusters::new(TrustDomain::parse("example.org").unwrap(), TokenRules::default(), vec![cluster]).unwrap()
}

fn jwk(kid: &str) -> Value {
    let (x, y) = KEY.public_key().as_ref()[1..].split_at(32);
    json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": encode(x), "y": encode(y) })
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "k" })
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ["sekisho-ca"], "exp": NOW + 3000, "iat": NOW - 600, "nbf": NOW - 600,
        "jti": "5e2ab8c3-1d0b-4c0e-8f53-5bb6f1f6a001", "sub": "system:serviceaccount:shop:web",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": { "name": "web", "uid": "7c7f3c4e-0001-4000-8000-000000000001" },
            "pod": { "name": "web-0", "uid": "0b6dfd6d-5ab3-4d4e-9a4e-3f1c7a1d2c11" },
            "node": { "name": "node-1", "uid": "7c7f3c4e-0001-4000-8000-000000000002" },
        },
    })
}

fn seal(header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = KEY.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(signature.as_ref()))
}

fn part(value: &Value) -> String {
    encode(value.to_string().as_bytes())
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}
