//! Attestation: of all tokens only the good ones are believed, and no fact adds a level to a name.
//!
//! The keys of the issuer and two tokens that it signed stand in `papers/`; the private halves are gone, so no input can be a
//! token that ought to pass and is not one of them.

use crate::given::text;
use ca::attest::{Cluster, Clusters, Evidence, Jwks, Refusal, Template, TokenEvidence, TokenRules};
use identity::TrustDomain;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

pub(super) const TOKENS: &[&[u8]] = &[
    b".",
    b"..",
    b"=",
    b"-",
    b"_",
    b"eyJhbGciOiJub25lIn0",                    // {"alg":"none"}
    b"eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9",   // {"alg":"RS256","kid":"rsa"}
    b"eyJhbGciOiJFUzI1NiIsImtpZCI6InAyNTYifQ", // {"alg":"ES256","kid":"p256"}
    b"eyJhbGciOiJFUzI1NiIsImtpZCI6InJzYSJ9",   // {"alg":"ES256","kid":"rsa"}
    b"e30",                                    // {}
    b"W10",                                    // []
];

pub(super) const KEYS: &[&[u8]] = &[
    b"{\"keys\":[",
    b"]}",
    b"{\"kty\":\"RSA\",\"kid\":\"a\"",
    b"{\"kty\":\"EC\",\"crv\":\"P-256\"",
    b"{\"kty\":\"OKP\",\"crv\":\"Ed25519\"",
    b"\"alg\":\"RS256\"",
    b"\"use\":\"sig\"",
    b"\"use\":\"enc\"",
    b"\"key_ops\":[\"verify\"]",
    b"\"n\":\"",
    b"\"e\":\"AQAB\"",
    b"\"x\":\"",
    b"\"y\":\"",
    b"\"d\":\"AA\"",
    b"},{",
    b",",
    b"\\u0061",
];

pub(super) const TEMPLATES: &[&[u8]] = &[
    b"{namespace}",
    b"{serviceaccount}",
    b"{pod}",
    b"{node}",
    b"{cluster}",
    b"/",
    b"//",
    b"..",
    b"\n",
    b"%2f",
    b"{",
    b"}",
    b"ns/",
    b"/sa/",
];

pub(super) const REVIEWS: &[&[u8]] = &[
    b"\"authenticated\":true",
    b"\"authenticated\":false",
    b"\"audiences\":[\"sekisho\"]",
    b"\"error\":\"\"",
    b"\"groups\":[\"system:serviceaccounts\"]",
    b"\"username\":\"system:serviceaccount:shop:web\"",
    b"\"authentication.kubernetes.io/pod-name\":[\"web-0\"]",
    b"\"status\":{",
    b"\\u0061",
    b",",
    b"null",
    b"[]",
];

/// At which the tokens in `papers/` are valid.
const NOW: Duration = Duration::from_secs(1_800_000_000);

const GOOD: [&str; 2] = [include_str!("../../papers/token-rsa.jwt"), include_str!("../../papers/token-p256.jwt")];

static CLUSTERS: LazyLock<Clusters> =
    LazyLock::new(|| clusters(Jwks::parse(include_bytes!("../../papers/jwks.json")).unwrap()));

fn clusters(keys: Jwks) -> Clusters {
    let cluster = Cluster {
        name: "east".into(),
        issuer: "https://kubernetes.default.svc.cluster.local".into(),
        audience: "sekisho".into(),
        keys: Arc::new(keys),
        template: Template::default(),
        strict: true,
    };
    Clusters::new(TrustDomain::parse("example.org").unwrap(), TokenRules::default(), vec![cluster]).unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW
}

/// Header and claims, which are what a signature is about.
fn signed(token: &str) -> &str {
    token.rsplit_once('.').map_or(token, |(signed, _)| signed)
}

/// A compact token.
pub(super) fn token(input: &[u8]) {
    let text = text(input);
    match CLUSTERS.verify(text, now()) {
        Ok(token) => {
            assert!(GOOD.iter().any(|good| signed(good) == signed(text)), "a forged token is believed");
            assert!(token.needs_review());
            assert_eq!(token.attest(), Err(Refusal::ReviewMissing));
            assert!(CLUSTERS.verify(text, now() + Duration::from_secs(86_400)).is_err());
        }
        Err(refusal) => {
            assert!(Refusal::REASONS.contains(&refusal.reason()));
            assert!(!GOOD.contains(&text), "{refusal}");
        }
    }
    assert!(CLUSTERS.whose_keys(text).count() <= 1);
}

/// A JWK Set. With the keys of any set the good tokens are what they are or nothing.
pub(super) fn keys(input: &[u8]) {
    let Ok(keys) = Jwks::parse(input) else { return };
    let ids: BTreeSet<&str> = keys.key_ids().collect();
    assert_eq!(ids.len(), keys.key_ids().count());
    assert!((1..=32).contains(&(ids.len() + keys.left_out())));
    assert!(ids.iter().all(|id| (1..=256).contains(&id.len())));
    // A second reader sees no private half in any of them.
    let seen: Value = serde_json::from_slice(input).unwrap();
    for key in seen["keys"].as_array().unwrap() {
        assert!(["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().all(|member| key.get(member).is_none()));
    }
    let clusters = clusters(keys);
    for good in GOOD {
        let _ = clusters.verify(good, now()).map(|token| assert_eq!(token.cluster(), "east"));
    }
}

/// A template in the first line, and the facts of a pod in the next: every gap is one segment and holds its fact.
pub(super) fn template(input: &[u8]) {
    let mut lines = text(input).split('\n');
    let first = lines.next().unwrap_or_default();
    let Ok(template) = Template::parse(first) else { return };
    assert_eq!(template.to_string(), first);
    assert_eq!(Template::parse(&template.to_string()).as_ref(), Ok(&template));
    let mut fact = || lines.next().unwrap_or_default().to_owned();
    let facts = TokenEvidence {
        cluster: fact(),
        namespace: fact(),
        service_account: fact(),
        pod_name: fact(),
        pod_uid: String::new(),
        node: Some(fact()).filter(|node| !node.is_empty()),
        jti_hash: [0; 32],
        until: SystemTime::UNIX_EPOCH,
        reviewed: false,
    };
    let Ok(id) = template.name(&TrustDomain::parse("example.org").unwrap(), &facts) else { return };
    let expected: Vec<&str> = first
        .split('/')
        .map(|segment| match segment {
            "{cluster}" => &facts.cluster,
            "{namespace}" => &facts.namespace,
            "{serviceaccount}" => &facts.service_account,
            "{pod}" => &facts.pod_name,
            "{node}" => facts.node.as_deref().unwrap(),
            literal => literal,
        })
        .collect();
    assert_eq!(id.segments().collect::<Vec<_>>(), expected);
}

/// The API server's answer about a good token: one that confirms it says so to a second reader as well.
pub(super) fn review(input: &[u8]) {
    let token = CLUSTERS.verify(GOOD[0], now()).unwrap();
    let Ok(token) = token.reviewed(input) else { return };
    let attested = token.attest().unwrap();
    assert!(matches!(attested.evidence(), Evidence::Token(token) if token.reviewed));
    let answer: Value = serde_json::from_slice(input).unwrap();
    let status = &answer["status"];
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:shop:web");
    assert!(status["audiences"].as_array().unwrap().iter().any(|audience| audience == "sekisho"));
    let uid = &status["user"]["extra"]["authentication.kubernetes.io/pod-uid"];
    assert_eq!(*uid, serde_json::json!(["0b6dfd6d-5ab3-4d4e-9a4e-3f1c7a1d2c11"]));
}
