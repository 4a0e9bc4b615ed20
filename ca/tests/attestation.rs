//! Tokens that must not be believed, each refused for its own reason, and the ones that must.
//!
//! Every token is made here with real keys and a library that signs, from one good token spoilt in one place.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{self as lc, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::{hmac, rand::SystemRandom, rsa::KeySize};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ca::attest::{
    Attested, Cluster, ClusterError, Clusters, Evidence, Holder, Jwks, JwksError, Refetch, Refusal, Replay,
    ReplayLimits, Template, TokenRules,
};
use identity::TrustDomain;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const POD: &str = "0b6dfd6d-5ab3-4d4e-9a4e-3f1c7a1d2c11";
const JTI: &str = "5e2ab8c3-1d0b-4c0e-8f53-5bb6f1f6a001";

fn now() -> SystemTime {
    at(NOW)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// From a message to its signature.
type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A key that signs as the issuer, and how it is published.
struct Signer {
    kid: &'static str,
    alg: &'static str,
    sign: Sign,
    jwk: Value,
}

impl Signer {
    fn rsa(kid: &'static str, alg: &'static str, size: KeySize) -> Self {
        let key = RsaKeyPair::generate(size).unwrap();
        let public = key.public_key();
        // RSAPublicKey, in which n stands before e = 65537 (02 03 01 00 01).
        let der = public.as_ref();
        let n = &der[der.len() - 5 - key.public_modulus_len()..der.len() - 5];
        let jwk = json!({"kty": "RSA", "use": "sig", "alg": alg, "kid": kid, "n": b64(n), "e": "AQAB"});
        let padding: &'static dyn lc::RsaEncoding = match alg {
            "RS384" => &lc::RSA_PKCS1_SHA384,
            "RS512" => &lc::RSA_PKCS1_SHA512,
            _ => &lc::RSA_PKCS1_SHA256,
        };
        let sign = move |message: &[u8]| {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        };
        Self { kid, alg, sign: Box::new(sign), jwk }
    }

    fn elliptic(kid: &'static str, alg: &'static str) -> Self {
        let (algorithm, curve) = match alg {
            "ES256" => (&lc::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            _ => (&lc::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
        };
        let key = EcdsaKeyPair::generate(algorithm).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "kid": kid, "x": b64(x), "y": b64(y)});
        let sign = move |message: &[u8]| key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        Self { kid, alg, sign: Box::new(sign), jwk }
    }

    fn edwards(kid: &'static str) -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(key.public_key().as_ref())});
        Self { kid, alg: "EdDSA", sign: Box::new(move |message| key.sign(message).as_ref().to_vec()), jwk }
    }

    fn header(&self) -> Value {
        json!({"alg": self.alg, "kid": self.kid})
    }

    /// Signs texts as they are, well-formed or not.
    fn seal(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = b64((self.sign)(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn token(&self, claims: &Value) -> String {
        self.seal(&self.header().to_string(), &claims.to_string())
    }
}

static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::rsa("rsa", "RS256", KeySize::Rsa2048));
static P256: LazyLock<Signer> = LazyLock::new(|| Signer::elliptic("p256", "ES256"));
static STRANGER: LazyLock<Signer> = LazyLock::new(|| Signer::rsa("rsa", "RS256", KeySize::Rsa2048));

fn jwks(keys: &[&Signer]) -> Jwks {
    let keys: Vec<&Value> = keys.iter().map(|signer| &signer.jwk).collect();
    Jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn cluster(name: &str, keys: &[&Signer]) -> Cluster {
    Cluster {
        name: name.into(),
        issuer: ISSUER.into(),
        audience: "sekisho".into(),
        keys: Arc::new(jwks(keys)),
        template: Template::default(),
        strict: false,
    }
}

fn clusters_of(clusters: Vec<Cluster>) -> Result<Clusters, ClusterError> {
    Clusters::new(TrustDomain::parse("example.org").unwrap(), TokenRules::default(), clusters)
}

fn east() -> Clusters {
    clusters_of(vec![cluster("east", &[&RSA, &P256])]).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": ["sekisho"],
        "exp": NOW + 3000,
        "iat": NOW - 600,
        "nbf": NOW - 600,
        "jti": JTI,
        "sub": "system:serviceaccount:shop:web",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": {"name": "web", "uid": "7c7f3c4e-0001-4000-8000-000000000001"},
            "pod": {"name": "web-0", "uid": POD},
            "node": {"name": "node-1.example.internal", "uid": "7c7f3c4e-0001-4000-8000-000000000002"},
            "warnafter": NOW + 2000,
        },
    })
}

fn spoilt(spoil: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims();
    spoil(&mut claims);
    claims
}

fn without(pointer: &str) -> Value {
    spoilt(|claims| {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        claims.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    })
}

fn with(pointer: &str, value: Value) -> Value {
    spoilt(|claims| {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        claims.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.into(), value);
    })
}

fn judge(token: &str) -> Result<Attested, Refusal> {
    east().verify(token, now())?.attest()
}

fn reason(token: &str) -> &'static str {
    match judge(token) {
        Ok(_) => "accepted",
        Err(refusal) => {
            assert!(Refusal::REASONS.contains(&refusal.reason()));
            assert!(!refusal.to_string().is_empty());
            refusal.reason()
        }
    }
}

#[test]
fn a_good_token_attests_its_pod() {
    for signer in [&*RSA, &*P256] {
        let attested = judge(&signer.token(&claims())).unwrap();
        assert_eq!(attested.id().as_str(), "spiffe://example.org/ns/shop/sa/web");
        assert_eq!(*attested.holder(), Holder::Pod { cluster: "east".into(), uid: POD.into() });
        assert_eq!(attested.lineage(), None);
        let Evidence::Token(token) = attested.evidence() else { panic!("{attested:?}") };
        assert_eq!((token.namespace.as_str(), token.service_account.as_str()), ("shop", "web"));
        assert_eq!((token.pod_name.as_str(), token.node.as_deref()), ("web-0", Some("node-1.example.internal")));
        assert_eq!(token.until, at(NOW + 3000 + 60));
        assert!(!token.reviewed);
    }
    // Also as clusters before 1.32 write it, with one audience as a string, and with claims of others.
    assert_eq!(reason(&RSA.token(&without("/kubernetes.io/node"))), "accepted");
    assert_eq!(reason(&RSA.token(&without("/nbf"))), "accepted");
    assert_eq!(reason(&RSA.token(&with("/aud", json!("sekisho")))), "accepted");
    assert_eq!(reason(&RSA.token(&with("/cloud", json!({"zone": "a"})))), "accepted");
    let header = json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}).to_string();
    assert_eq!(reason(&RSA.seal(&header, &claims().to_string())), "accepted");
}

#[test]
fn every_algorithm_is_taken_with_its_own_key() {
    for signer in [
        Signer::rsa("k", "RS384", KeySize::Rsa2048),
        Signer::rsa("k", "RS512", KeySize::Rsa2048),
        Signer::elliptic("k", "ES384"),
        Signer::edwards("k"),
    ] {
        let own = clusters_of(vec![cluster("east", &[&signer])]).unwrap();
        assert!(own.verify(&signer.token(&claims()), now()).unwrap().attest().is_ok());
        for other in ["RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"] {
            if other != signer.alg {
                let header = json!({"alg": other, "kid": "k"}).to_string();
                let refused = own.verify(&signer.seal(&header, &claims().to_string()), now());
                assert_eq!(refused, Err(Refusal::AlgOfOtherKey), "{} as {other}", signer.alg);
            }
        }
    }
}

/// Row 42 of the list of vectors that must be rejected, and what belongs beside it.
#[test]
fn every_bad_token_is_refused_for_its_own_reason() {
    let good = claims().to_string();
    let header = |header: Value| RSA.seal(&header.to_string(), &good);
    let with_header = |member: &str, value: Value| {
        let mut all = RSA.header();
        all[member] = value;
        header(all)
    };
    let signed = |claims: Value| RSA.token(&claims);
    let hs256 = {
        // The attack of RFC 8725 §2.1: the public key, as everybody can read it, as the secret of an HMAC.
        let secret = hmac::Key::new(hmac::HMAC_SHA256, RSA.jwk["n"].as_str().unwrap().as_bytes());
        let signed = format!("{}.{}", b64(r#"{"alg":"HS256","kid":"rsa"}"#), b64(&good));
        let tag = hmac::sign(&secret, signed.as_bytes());
        format!("{signed}.{}", b64(tag))
    };
    let none = format!("{}.{}.", b64(r#"{"alg":"none","kid":"rsa"}"#), b64(&good));
    let parts: Vec<String> = RSA.token(&claims()).split('.').map(str::to_owned).collect();
    let altered =
        format!("{}.{}.{}", parts[0], b64(with("/sub", json!("system:serviceaccount:shop:db")).to_string()), parts[2]);
    let legacy = json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "shop",
        "kubernetes.io/serviceaccount/secret.name": "web-token-x",
        "kubernetes.io/serviceaccount/service-account.name": "web",
        "sub": "system:serviceaccount:shop:web",
    });
    let table: Vec<(&str, String, &str)> = vec![
        // the form
        ("giant", "a".repeat(8193), "token_too_large"),
        ("empty", String::new(), "token_parts"),
        ("two parts", format!("{}.{}", parts[0], parts[1]), "token_parts"),
        ("five parts, as of an encrypted one", "a.b.c.d.e".into(), "token_parts"),
        ("padded", format!("{}=.{}.{}", parts[0], parts[1], parts[2]), "token_encoding"),
        ("standard alphabet", format!("+/+/.{}.{}", parts[1], parts[2]), "token_encoding"),
        ("space before", format!(" {}", parts.join(".")), "token_encoding"),
        ("padded signature", format!("{}=", parts.join(".")), "token_encoding"),
        ("claims no JSON", RSA.seal(&RSA.header().to_string(), "x"), "token_json"),
        ("claims an array", RSA.seal(&RSA.header().to_string(), "[]"), "token_json"),
        ("header no JSON", RSA.seal("x", &good), "token_json"),
        ("alg twice", RSA.seal(r#"{"alg":"RS256","alg":"none","kid":"rsa"}"#, &good), "token_duplicate_member"),
        (
            "sub twice",
            RSA.seal(&RSA.header().to_string(), &good.replacen('{', r#"{"sub":"system:serviceaccount:a:b","#, 1)),
            "token_duplicate_member",
        ),
        (
            "pod twice",
            RSA.seal(&RSA.header().to_string(), &good.replacen(r#""pod":"#, r#""pod":{},"pod":"#, 1)),
            "token_duplicate_member",
        ),
        // the header
        ("alg none", none, "token_alg_none"),
        ("alg nOnE", header(json!({"alg": "nOnE", "kid": "rsa"})), "token_alg_none"),
        ("HS256 with the public key as secret", hs256, "token_alg_symmetric"),
        ("PS256", header(json!({"alg": "PS256", "kid": "rsa"})), "token_alg_unknown"),
        ("alg a number", header(json!({"alg": 256, "kid": "rsa"})), "token_alg_unknown"),
        ("no alg", header(json!({"kid": "rsa"})), "token_alg_missing"),
        ("jwk", with_header("jwk", STRANGER.jwk.clone()), "token_header_jwk"),
        ("jku", with_header("jku", json!("https://evil.example/jwks")), "token_header_jku"),
        ("x5u", with_header("x5u", json!("https://evil.example/cert")), "token_header_x5u"),
        ("x5c", with_header("x5c", json!(["MIIB"])), "token_header_x5c"),
        ("crit", with_header("crit", json!(["exp"])), "token_header_crit"),
        ("unknown member", with_header("b64", json!(false)), "token_header_unknown"),
        ("nested token", with_header("cty", json!("JWT")), "token_header_unknown"),
        ("typ of another use", with_header("typ", json!("at+jwt")), "token_type"),
        ("no kid", header(json!({"alg": "RS256"})), "token_no_key_id"),
        ("empty kid", header(json!({"alg": "RS256", "kid": ""})), "token_no_key_id"),
        ("unknown kid", header(json!({"alg": "RS256", "kid": "../../etc/passwd"})), "token_unknown_key"),
        ("ES256 for the RSA key", header(json!({"alg": "ES256", "kid": "rsa"})), "token_key_confusion"),
        ("RS512 for the RS256 key", header(json!({"alg": "RS512", "kid": "rsa"})), "token_key_confusion"),
        // the signature
        ("a stranger's, under a known kid", STRANGER.token(&claims()), "token_signature"),
        ("of other claims", altered, "token_signature"),
        ("none at all", format!("{}.{}.", parts[0], parts[1]), "token_signature"),
        ("cut", format!("{}.{}.{}", parts[0], parts[1], &parts[2][..336]), "token_signature"),
        // issuer and audience
        ("no issuer", signed(without("/iss")), "token_no_issuer"),
        ("another issuer", signed(with("/iss", json!("https://other.example"))), "token_issuer"),
        ("issuer with a slash", signed(with("/iss", json!(format!("{ISSUER}/")))), "token_issuer_slash"),
        ("issuer in upper case", signed(with("/iss", json!(ISSUER.to_uppercase()))), "token_issuer"),
        ("no audience", signed(without("/aud")), "token_no_audience"),
        ("empty audience", signed(with("/aud", json!([]))), "token_no_audience"),
        ("another audience", signed(with("/aud", json!(["vault"]))), "token_audience"),
        ("another audience as a string", signed(with("/aud", json!("sekisho2"))), "token_audience"),
        ("array lacking ours", signed(with("/aud", json!(["vault", ISSUER]))), "token_audience"),
        ("array with ours and another", signed(with("/aud", json!(["sekisho", "vault"]))), "token_audience_several"),
        // dates
        ("no expiry", signed(without("/exp")), "token_no_expiry"),
        ("expired", signed(with("/exp", json!(NOW - 60))), "token_expired"),
        ("not yet", signed(with("/nbf", json!(NOW + 61))), "token_not_yet_valid"),
        ("no iat", signed(without("/iat")), "token_no_issued_at"),
        ("issued in the future", signed(with("/iat", json!(NOW + 61))), "token_from_future"),
        ("longer than a day", signed(with("/exp", json!(NOW - 600 + 86_401))), "token_life"),
        ("a date in text", signed(with("/exp", json!("1800003000"))), "token_date"),
        ("a date with a fraction", signed(with("/iat", json!(1_799_999_400.5))), "token_date"),
        ("a date before 1970", signed(with("/nbf", json!(-1))), "token_date"),
        ("a date beyond the calendar", signed(with("/exp", json!(u64::MAX))), "token_date"),
        // the subject and the pod
        ("no subject", signed(without("/sub")), "token_subject"),
        ("two parts", signed(with("/sub", json!("system:serviceaccount"))), "token_subject"),
        ("three parts", signed(with("/sub", json!("system:serviceaccount:shop"))), "token_subject"),
        ("five parts", signed(with("/sub", json!("system:serviceaccount:shop:web:x"))), "token_subject"),
        ("a node", signed(with("/sub", json!("system:node:shop:web"))), "token_subject"),
        (
            "subject of another account",
            signed(with("/sub", json!("system:serviceaccount:shop:db"))),
            "token_subject_mismatch",
        ),
        (
            "claims of another namespace",
            signed(with("/kubernetes.io/namespace", json!("bank"))),
            "token_subject_mismatch",
        ),
        ("no claims of Kubernetes", signed(without("/kubernetes.io")), "token_no_kubernetes_claim"),
        ("no namespace", signed(without("/kubernetes.io/namespace")), "token_no_kubernetes_claim"),
        ("no account", signed(without("/kubernetes.io/serviceaccount")), "token_no_kubernetes_claim"),
        ("pod without UID", signed(without("/kubernetes.io/pod/uid")), "token_no_kubernetes_claim"),
        ("pod is no object", signed(with("/kubernetes.io/pod", json!("web-0"))), "token_no_kubernetes_claim"),
        ("no pod", signed(without("/kubernetes.io/pod")), "token_no_pod"),
        ("pod name with a slash", signed(with("/kubernetes.io/pod/name", json!("../x"))), "token_claim_name"),
        ("giant UID", signed(with("/kubernetes.io/pod/uid", json!("a".repeat(65)))), "token_claim_name"),
        ("node with a colon", signed(with("/kubernetes.io/node/name", json!("a:b"))), "token_claim_name"),
        (
            "namespace with a slash, in both",
            signed(spoilt(|c| {
                c["sub"] = json!("system:serviceaccount:a/b:web");
                c["kubernetes.io"]["namespace"] = json!("a/b");
            })),
            "token_claim_name",
        ),
        (
            "account in upper case, in both",
            signed(spoilt(|c| {
                c["sub"] = json!("system:serviceaccount:shop:Web");
                c["kubernetes.io"]["serviceaccount"]["name"] = json!("Web");
            })),
            "token_claim_name",
        ),
        ("no jti", signed(without("/jti")), "token_no_id"),
        ("empty jti", signed(with("/jti", json!(""))), "token_no_id"),
        // tokens of Secrets
        ("legacy", signed(legacy), "token_legacy"),
        ("bound to a Secret", signed(with("/kubernetes.io/secret", json!({"name": "s", "uid": "u"}))), "token_legacy"),
    ];
    let wrong: Vec<String> = table
        .iter()
        .filter(|(_, token, expected)| reason(token) != *expected)
        .map(|(vector, token, expected)| format!("{vector}: {} instead of {expected}", reason(token)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_legacy_claim_under_our_issuer_is_legacy_still() {
    let mut claims = claims();
    claims["kubernetes.io/serviceaccount/secret.name"] = json!("web-token");
    assert_eq!(reason(&RSA.token(&claims)), "token_legacy");
}

#[test]
fn dates_are_judged_to_the_second() {
    let clusters = east();
    let token = RSA.token(&claims());
    let at_second = |second: u64| clusters.verify(&token, at(second)).err().map(|refusal| refusal.reason());
    assert_eq!(at_second(NOW + 3059), None);
    assert_eq!(at_second(NOW + 3060), Some("token_expired"));
    assert_eq!(at_second(NOW - 660), None);
    assert_eq!(at_second(NOW - 661), Some("token_not_yet_valid"));
    assert_eq!(at_second(0), Some("token_not_yet_valid"));
    assert_eq!(reason(&RSA.token(&with("/exp", json!(NOW - 600 + 86_400)))), "accepted");
    assert_eq!(reason(&RSA.token(&with("/iat", json!(NOW + 60)))), "accepted");
    let reversed = spoilt(|c| (c["exp"], c["iat"]) = (json!(NOW), json!(NOW + 1)));
    assert_eq!(reason(&RSA.token(&reversed)), "token_life");
    assert_eq!(reason(&RSA.token(&spoilt(|c| (c["exp"], c["iat"]) = (json!(NOW), json!(NOW))))), "token_life");
}

#[test]
fn keys_are_rotated_by_a_new_set() {
    let clusters = east();
    let next = Signer::elliptic("next", "ES256");
    let token = next.token(&claims());
    assert_eq!(clusters.verify(&token, now()), Err(Refusal::UnknownKey));
    assert!(Refusal::UnknownKey.may_pass_later());
    assert_eq!(clusters.whose_keys(&token).collect::<Vec<_>>(), ["east"]);
    let rotated = clusters.with_keys("east", jwks(&[&next, &P256])).unwrap();
    for token in [token.as_str(), &P256.token(&claims())] {
        assert!(rotated.verify(token, now()).unwrap().attest().is_ok());
    }
    assert_eq!(rotated.verify(&RSA.token(&claims()), now()), Err(Refusal::UnknownKey));
    assert!(matches!(clusters.with_keys("west", jwks(&[&next])), Err(ClusterError::Unknown(_))));
    let other = next.token(&with("/iss", json!("https://other.example")));
    assert_eq!(clusters.whose_keys(&other).count(), 0);
}

#[test]
fn a_flood_of_unknown_keys_makes_one_reading_each_interval() {
    let clusters = east();
    let mut refetch = Refetch::new(Duration::from_secs(30));
    let mut readings = 0;
    for second in 0..300 {
        let header = json!({"alg": "RS256", "kid": format!("invented-{second}")}).to_string();
        let token = RSA.seal(&header, &claims().to_string());
        assert_eq!(clusters.verify(&token, at(NOW + second)), Err(Refusal::UnknownKey));
        if refetch.due(at(NOW + second)) {
            readings += 1;
        }
    }
    assert_eq!(readings, 10);
    // A clock that was set back does not end the readings.
    assert!(refetch.due(at(NOW - 10_000)));
    assert!(!refetch.due(at(NOW - 9_999)));
}

#[test]
fn clusters_must_be_told_apart() {
    let refuse = |clusters: Vec<Cluster>| clusters_of(clusters).unwrap_err();
    let prefixed = |name: &str, keys: &[&Signer]| Cluster {
        template: Template::parse("{cluster}/ns/{namespace}/sa/{serviceaccount}").unwrap(),
        ..cluster(name, keys)
    };
    let both = || ("east".to_owned(), "west".to_owned());
    let (one, two) = both();
    assert_eq!(refuse(vec![prefixed("east", &[&RSA]), prefixed("west", &[&RSA])]), ClusterError::SameIssuer(one, two));
    // Another key under the same `kid` is no better: the token names the key by it.
    let (one, two) = both();
    assert_eq!(
        refuse(vec![prefixed("east", &[&RSA]), prefixed("west", &[&STRANGER])]),
        ClusterError::SameIssuer(one, two)
    );
    let (one, two) = both();
    assert_eq!(
        refuse(vec![cluster("east", &[&RSA]), cluster("west", &[&P256])]),
        ClusterError::SameIdentities(one, two)
    );
    assert_eq!(
        refuse(vec![cluster("east", &[&RSA]), cluster("east", &[&P256])]),
        ClusterError::SameName("east".into())
    );

    // One issuer, no key in common: each token goes to the cluster that has its key.
    let apart = clusters_of(vec![prefixed("east", &[&RSA]), prefixed("west", &[&P256])]).unwrap();
    for (signer, name) in [(&*RSA, "east"), (&*P256, "west")] {
        let attested = apart.verify(&signer.token(&claims()), now()).unwrap().attest().unwrap();
        assert_eq!(attested.id().as_str(), format!("spiffe://example.org/{name}/ns/shop/sa/web"));
    }
    // Nor can a rotation bring them together.
    assert!(matches!(apart.with_keys("west", jwks(&[&RSA])), Err(ClusterError::SameIssuer(..))));
}

#[test]
fn a_cluster_is_described_well() {
    let refuse = |spoil: fn(&mut Cluster)| {
        let mut spoilt = cluster("east", &[&RSA]);
        spoil(&mut spoilt);
        clusters_of(vec![spoilt]).unwrap_err()
    };
    assert!(matches!(refuse(|c| c.name = "East".into()), ClusterError::Name(_)));
    assert!(matches!(refuse(|c| c.name = String::new()), ClusterError::Name(_)));
    assert!(matches!(refuse(|c| c.issuer = String::new()), ClusterError::Issuer(_)));
    assert!(matches!(refuse(|c| c.issuer = "kubernetes/serviceaccount".into()), ClusterError::Issuer(_)));
    assert!(matches!(refuse(|c| c.audience = String::new()), ClusterError::Audience(_)));
    assert!(matches!(refuse(|c| c.audience = "a b".into()), ClusterError::Audience(_)));
    assert!(matches!(refuse(|c| c.audience = ISSUER.into()), ClusterError::AudienceOfApiServer(_)));
    let domain = || TrustDomain::parse("example.org").unwrap();
    let rules = |skew, life| TokenRules { skew: Duration::from_secs(skew), max_life: Duration::from_secs(life) };
    for rules in [rules(601, 60), rules(0, 0), rules(0, 367 * 86_400)] {
        assert_eq!(Clusters::new(domain(), rules, vec![]).unwrap_err(), ClusterError::Rules);
    }
    // With no cluster no token counts.
    let none = Clusters::new(domain(), TokenRules::default(), vec![]).unwrap();
    assert_eq!(none.verify(&RSA.token(&claims()), now()), Err(Refusal::UnknownIssuer));
}

#[test]
fn key_sets_are_read_strictly() {
    let judge = |text: &str| match Jwks::parse(text.as_bytes()) {
        Ok(set) => format!("{} and {} left out", set.key_ids().count(), set.left_out()),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            match error {
                JwksError::Key { fault, .. } => format!("{fault:?}"),
                other => format!("{other:?}"),
            }
        }
    };
    let set = |keys: Value| judge(&json!({ "keys": keys }).to_string());
    let (rsa, p256) = (RSA.jwk.clone(), P256.jwk.clone());
    let altered = |jwk: &Value, member: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[member] = value;
        jwk
    };
    let one = |jwk: &Value, member: &str, value: Value| set(json!([altered(jwk, member, value)]));

    assert_eq!(set(json!([rsa, p256])), "2 and 0 left out");
    assert_eq!(judge(r#"{"keys":[]}"#), "NoKey");
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[]}x"#] {
        assert_eq!(judge(text), "Malformed", "{text}");
    }
    assert_eq!(judge(r#"{"keys":[],"keys":[]}"#), "DuplicateMember");
    assert_eq!(
        judge(&format!(r#"{{"keys":[{}]}}"#, rsa.to_string().replacen('{', r#"{"n":"AQAB","#, 1))),
        "DuplicateMember"
    );
    assert_eq!(judge(&" ".repeat((64 << 10) + 1)), "TooLarge");
    assert_eq!(set(json!(vec![json!({"kty": "x"}); 33])), "TooManyKeys");

    // Left out: for another use, of another kind, for another algorithm.
    assert_eq!(set(json!([rsa, altered(&p256, "use", json!("enc"))])), "1 and 1 left out");
    assert_eq!(set(json!([rsa, altered(&p256, "key_ops", json!(["deriveKey"]))])), "1 and 1 left out");
    assert_eq!(set(json!([rsa, altered(&p256, "crv", json!("secp256k1"))])), "1 and 1 left out");
    assert_eq!(set(json!([rsa, altered(&STRANGER.jwk, "alg", json!("PS256"))])), "1 and 1 left out");
    assert_eq!(set(json!([rsa, {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}])), "1 and 1 left out");
    assert_eq!(one(&rsa, "use", json!("enc")), "NoKey");
    assert_eq!(one(&rsa, "x5c", json!(["MIIB"])), "1 and 0 left out");

    // Refused: what we would use and cannot rely on.
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert_eq!(one(&rsa, member, json!("AQAB")), "Private", "{member}");
    }
    assert_eq!(set(json!([rsa, {"kty": "oct", "k": "AAAA"}])), "Private");
    assert_eq!(one(&rsa, "kid", json!("")), "NoId");
    assert_eq!(one(&rsa, "kid", json!("a".repeat(257))), "NoId");
    assert_eq!(set(json!([rsa, altered(&p256, "kid", json!("rsa"))])), "DuplicateId");
    assert_eq!(set(json!([rsa, altered(&rsa, "kid", json!("again"))])), "DuplicateKey");
    assert_eq!(one(&rsa, "alg", json!("ES256")), "Algorithm");
    assert_eq!(one(&p256, "alg", json!("ES384")), "Algorithm");
    assert_eq!(one(&p256, "alg", json!("RS256")), "Algorithm");
    for (member, value) in
        [("kid", json!(1)), ("kty", json!(null)), ("use", json!(["sig"])), ("key_ops", json!("verify"))]
    {
        assert_eq!(one(&rsa, member, value), "Malformed", "{member}");
    }
    assert_eq!(one(&rsa, "n", json!(format!("{}=", rsa["n"].as_str().unwrap()))), "Malformed");
    assert_eq!(one(&rsa, "n", json!("")), "Malformed");
    assert_eq!(one(&p256, "x", json!(b64([1; 31]))), "Malformed");
    assert_eq!(one(&p256, "x", json!(b64([1; 32]))), "Weak");
    assert_eq!(one(&rsa, "n", json!(b64([0xc1; 128]))), "Weak");
    assert_eq!(one(&rsa, "n", json!(b64([0xc1; 1025]))), "Weak");
    assert_eq!(one(&rsa, "n", json!(b64([&[0][..], &[0xc1; 256]].concat()))), "Weak");
    assert_eq!(one(&rsa, "n", json!(b64([0xc0; 256]))), "Weak");
    for exponent in [&[1][..], &[2], &[0, 1, 0, 1], &[0xff; 5], &[1; 6]] {
        assert_eq!(one(&rsa, "e", json!(b64(exponent))), "Weak", "{exponent:?}");
    }
    assert_eq!(set(json!([{"kty": "EC", "kid": "a"}])), "Malformed");
    assert_eq!(set(json!([{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": b64([1; 31])}])), "Malformed");
    let jwk = STANDARD.encode(URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap());
    assert_eq!(one(&rsa, "n", json!(jwk)), "Malformed");
}

/// The answer of an API server to the good token.
fn answer() -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {"creationTimestamp": null},
        "spec": {"token": "…", "audiences": ["sekisho"]},
        "status": {
            "authenticated": true,
            "user": {
                "username": "system:serviceaccount:shop:web",
                "uid": "7c7f3c4e-0001-4000-8000-000000000001",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
                "extra": {
                    "authentication.kubernetes.io/credential-id": [format!("JTI={JTI}")],
                    "authentication.kubernetes.io/node-name": ["node-1.example.internal"],
                    "authentication.kubernetes.io/pod-name": ["web-0"],
                    "authentication.kubernetes.io/pod-uid": [POD],
                },
            },
            "audiences": ["sekisho"],
        },
    })
}

fn strict() -> Clusters {
    clusters_of(vec![Cluster { strict: true, ..cluster("east", &[&RSA]) }]).unwrap()
}

#[test]
fn a_strict_cluster_wants_its_api_server_asked() {
    let compact = RSA.token(&claims());
    let token = strict().verify(&compact, now()).unwrap();
    assert!(token.needs_review());
    assert_eq!(token.cluster(), "east");
    let request: Value = serde_json::from_str(&token.review_request(&compact)).unwrap();
    assert_eq!(request["spec"], json!({"token": compact, "audiences": ["sekisho"]}));
    assert_eq!(request["kind"], "TokenReview");
    assert_eq!(token.clone().attest(), Err(Refusal::ReviewMissing));
    let attested = token.reviewed(answer().to_string().as_bytes()).unwrap().attest().unwrap();
    assert!(matches!(attested.evidence(), Evidence::Token(token) if token.reviewed));
}

#[test]
fn the_api_servers_answer_must_agree_with_the_token() {
    let token = strict().verify(&RSA.token(&claims()), now()).unwrap();
    let judge = |spoil: &dyn Fn(&mut Value)| {
        let mut answer = answer();
        spoil(&mut answer);
        match token.clone().reviewed(answer.to_string().as_bytes()) {
            Ok(_) => "accepted",
            Err(refusal) => refusal.reason(),
        }
    };
    let remove = |pointer: &'static str| {
        judge(&move |answer| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            answer.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(&name.replace("~1", "/")).unwrap();
        })
    };
    let set = |pointer: &str, value: Value| judge(&|answer| *answer.pointer_mut(pointer).unwrap() = value.clone());
    const EXTRA: &str = "/status/user/extra/authentication.kubernetes.io~1";
    assert_eq!(remove("/status"), "review_malformed");
    assert_eq!(set("/kind", json!("Status")), "review_malformed");
    assert_eq!(set("/apiVersion", json!("authentication.k8s.io/v1beta1")), "review_malformed");
    assert_eq!(set("/status/authenticated", json!(false)), "review_unauthenticated");
    assert_eq!(set("/status/authenticated", json!("true")), "review_unauthenticated");
    assert_eq!(remove("/status/authenticated"), "review_unauthenticated");
    assert_eq!(judge(&|answer| answer["status"]["error"] = json!("pod has been deleted")), "review_unauthenticated");
    assert_eq!(remove("/status/audiences"), "review_audience");
    assert_eq!(set("/status/audiences", json!(["vault"])), "review_audience");
    assert_eq!(set("/status/audiences", json!("sekisho")), "review_audience");
    assert_eq!(set("/status/user/username", json!("system:serviceaccount:shop:db")), "review_user");
    assert_eq!(set("/status/user/groups", json!(["system:authenticated"])), "review_group");
    assert_eq!(remove("/status/user/groups"), "review_group");
    assert_eq!(set(&format!("{EXTRA}pod-name"), json!(["web-1"])), "review_pod");
    assert_eq!(set(&format!("{EXTRA}pod-uid"), json!(["other"])), "review_pod");
    assert_eq!(set(&format!("{EXTRA}pod-uid"), json!([POD, "other"])), "review_pod");
    assert_eq!(set(&format!("{EXTRA}pod-uid"), json!(POD)), "review_pod");
    assert_eq!(remove("/status/user/extra"), "review_pod");
    assert_eq!(remove("/status/user/extra/authentication.kubernetes.io~1pod-uid"), "review_pod");
    assert_eq!(set(&format!("{EXTRA}node-name"), json!(["node-2"])), "review_node");
    assert_eq!(set(&format!("{EXTRA}credential-id"), json!(["JTI=other"])), "review_token_id");
    assert_eq!(remove("/status/user/extra/authentication.kubernetes.io~1node-name"), "accepted");
    assert_eq!(remove("/status/user/extra/authentication.kubernetes.io~1credential-id"), "accepted");
    let twice =
        answer().to_string().replacen(r#""authenticated":true"#, r#""authenticated":false,"authenticated":true"#, 1);
    assert_eq!(token.clone().reviewed(twice.as_bytes()), Err(Refusal::ReviewMalformed));
    assert_eq!(token.clone().reviewed(&vec![b' '; (64 << 10) + 1]), Err(Refusal::ReviewMalformed));
    assert_eq!(token.reviewed(b""), Err(Refusal::ReviewMalformed));
}

#[test]
fn a_stolen_token_with_another_key_is_refused_and_the_same_key_is_not() {
    let mut replay = Replay::new(ReplayLimits::default());
    let first = judge(&RSA.token(&claims())).unwrap();
    replay.admit(&first, &[1; 32], now()).unwrap();
    // The same `jti` in another dress: signed again, with another key of the issuer.
    let again = judge(&P256.token(&claims())).unwrap();
    assert_eq!(replay.admit(&again, &[2; 32], now()), Err(Refusal::Replayed));
    replay.admit(&again, &[1; 32], now()).unwrap();
    let next = judge(&RSA.token(&with("/jti", json!("another")))).unwrap();
    replay.admit(&next, &[2; 32], now()).unwrap();
    assert_eq!(replay.len(), 2);
}

#[test]
fn a_secret_is_in_no_debug_text() {
    let token = RSA.token(&claims());
    let signature = token.rsplit('.').next().unwrap();
    let verified = east().verify(&token, now()).unwrap();
    let shown = format!("{verified:?} {:?}", verified.clone().attest());
    assert!(!shown.contains(signature) && !shown.contains(&token));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_text_is_a_token(text in "\\PC{0,200}") {
        prop_assert!(east().verify(&text, now()).is_err());
    }

    #[test]
    fn a_token_changed_anywhere_is_no_token(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_=. -]") {
        static GOOD: LazyLock<String> = LazyLock::new(|| RSA.token(&claims()));
        let index = at.index(GOOD.len());
        let mut spoilt = GOOD.clone();
        spoilt.replace_range(index..=index, &to);
        prop_assert_eq!(east().verify(&spoilt, now()).is_ok(), spoilt == *GOOD);
    }

    /// Whatever stands in the claims, a name that comes out is the one of both places and has four segments.
    #[test]
    fn claims_of_any_kind_make_their_own_name_or_none(
        namespace in prop_oneof!["[a-z0-9.-]{1,5}", "\\PC{0,5}"],
        account in prop_oneof!["[a-z0-9.-]{1,5}", "\\PC{0,5}"],
    ) {
        let claims = spoilt(|c| {
            c["sub"] = json!(format!("system:serviceaccount:{namespace}:{account}"));
            c["kubernetes.io"]["namespace"] = json!(namespace);
            c["kubernetes.io"]["serviceaccount"]["name"] = json!(account);
        });
        if let Ok(attested) = judge(&P256.token(&claims)) {
            prop_assert_eq!(attested.id().namespace(), Some(namespace.as_str()));
            prop_assert_eq!(attested.id().service_account(), Some(account.as_str()));
        }
    }
}
