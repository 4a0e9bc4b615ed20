//! From the claims of a projected service-account token to the facts of a pod.
//!
//! In come claims; out come namespace, account, pod and node. Refused are tokens for another audience or for
//! several, outside their dates, of longer life than the rules allow, not bound to a pod, and those whose parts
//! do not agree. Every name is held to the rules that Kubernetes has for it, since it may become part of a
//! SPIFFE ID. Claims that are not known are ignored, as RFC 7519 §4 demands; clusters add their own.
//!
//! The shape, from `kubernetes/pkg/serviceaccount/claims.go`:
//!
//! ```json
//! {"iss":"https://…","aud":["sekisho"],"exp":1,"iat":1,"nbf":1,"jti":"…","sub":"system:serviceaccount:shop:web",
//!  "kubernetes.io":{"namespace":"shop","serviceaccount":{"name":"web","uid":"…"},
//!                   "pod":{"name":"web-0","uid":"…"},"node":{"name":"node-1","uid":"…"}}}
//! ```

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use identity::{SpiffeId, TrustDomain};
use serde_json::{Map, Value};

use super::cluster::{Cluster, TokenRules};
use super::refusal::Refusal;
use super::{Attested, Evidence, Holder, TokenEvidence, review};

type Claims = Map<String, Value>;

/// A verified token of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct PodToken {
    evidence: TokenEvidence,
    id: SpiffeId,
    jti: String,
    audience: String,
    strict: bool,
}

impl PodToken {
    /// Whether the cluster's API server must confirm the token before it counts.
    pub fn needs_review(&self) -> bool {
        self.strict && !self.evidence.reviewed
    }

    /// The name it is good for, once it counts.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The name of the cluster, whose API server is to be asked.
    pub fn cluster(&self) -> &str {
        &self.evidence.cluster
    }

    /// The body of the TokenReview that asks for confirmation of `compact`, which is this token.
    pub fn review_request(&self, compact: &str) -> String {
        review::request(compact, &self.audience)
    }

    /// Takes the API server's answer to [`review_request`](Self::review_request); both must name the same pod.
    pub fn reviewed(mut self, answer: &[u8]) -> Result<Self, Refusal> {
        review::judge(answer, &self.audience, &self.evidence, &self.jti)?;
        self.evidence.reviewed = true;
        Ok(self)
    }

    /// The proof, unless a confirmation is missing.
    pub fn attest(self) -> Result<Attested, Refusal> {
        if self.needs_review() {
            return Err(Refusal::ReviewMissing);
        }
        let holder = Holder::Pod { cluster: self.evidence.cluster.clone(), uid: self.evidence.pod_uid.clone() };
        Ok(Attested { id: self.id, evidence: Evidence::Token(self.evidence), holder, lineage: None })
    }
}

/// The issuer, of a token that is not verified yet.
pub(super) fn issuer(claims: &Claims) -> Result<&str, Refusal> {
    let issuer = claims.get("iss").and_then(Value::as_str);
    if issuer == Some(LEGACY_ISSUER) || claims.keys().any(|claim| claim.starts_with("kubernetes.io/serviceaccount/")) {
        return Err(Refusal::TokenLegacy);
    }
    issuer.ok_or(Refusal::NoIssuer)
}

/// Exactly one audience, which is ours. A string stands for an array of one (RFC 7519 §4.1.3).
pub(super) fn check_audience(claims: &Claims, ours: &str) -> Result<(), Refusal> {
    match claims.get("aud") {
        None => Err(Refusal::NoAudience),
        Some(Value::String(audience)) if audience == ours => Ok(()),
        Some(Value::Array(audiences)) => match audiences.as_slice() {
            [] => Err(Refusal::NoAudience),
            [audience] if audience == ours => Ok(()),
            several if several.iter().any(|audience| audience == ours) => Err(Refusal::SeveralAudiences),
            _ => Err(Refusal::OtherAudience),
        },
        Some(_) => Err(Refusal::OtherAudience),
    }
}

/// Judges the dates and returns until when the token is taken.
pub(super) fn check_dates(claims: &Claims, rules: TokenRules, now: SystemTime) -> Result<SystemTime, Refusal> {
    let expires = date(claims, "exp")?.ok_or(Refusal::NoExpiry)?;
    let issued = date(claims, "iat")?.ok_or(Refusal::NoIssuedAt)?;
    let begins = date(claims, "nbf")?;
    let until = expires.checked_add(rules.skew).ok_or(Refusal::DateMalformed)?;
    let soon = now.checked_add(rules.skew).ok_or(Refusal::DateMalformed)?;
    // At `exp` itself it has ended (RFC 7519 §4.1.4).
    if now >= until {
        return Err(Refusal::TokenExpired);
    }
    if begins.is_some_and(|begins| begins > soon) {
        return Err(Refusal::TokenNotYetValid);
    }
    if issued > soon {
        return Err(Refusal::TokenFromFuture);
    }
    match expires.duration_since(issued) {
        Ok(life) if !life.is_zero() && life <= rules.max_life => Ok(until),
        _ => Err(Refusal::TokenLife),
    }
}

fn date(claims: &Claims, claim: &str) -> Result<Option<SystemTime>, Refusal> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    let seconds = value.as_u64().filter(|seconds| *seconds <= YEAR_9999).ok_or(Refusal::DateMalformed)?;
    Ok(SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
}

/// The facts of verified claims.
pub(super) fn facts(
    claims: &Claims,
    cluster: &Cluster,
    trust_domain: &TrustDomain,
    until: SystemTime,
) -> Result<PodToken, Refusal> {
    let (namespace, account) = subject(claims)?;
    let bound = claims.get("kubernetes.io").and_then(Value::as_object).ok_or(Refusal::NoKubernetesClaim)?;
    let own_namespace = bound.get("namespace").and_then(Value::as_str).ok_or(Refusal::NoKubernetesClaim)?;
    let (own_account, _) = reference(bound, "serviceaccount")?.ok_or(Refusal::NoKubernetesClaim)?;
    if bound.contains_key("secret") {
        return Err(Refusal::TokenLegacy);
    }
    let (pod_name, pod_uid) = reference(bound, "pod")?.ok_or(Refusal::NoPod)?;
    let node = reference(bound, "node")?.map(|(name, _)| name);
    if (namespace, account) != (own_namespace, own_account) {
        return Err(Refusal::SubjectMismatch);
    }
    let names = [account, pod_name].into_iter().chain(node);
    if !is_label(namespace) || !names.into_iter().all(is_subdomain) {
        return Err(Refusal::ClaimName);
    }
    let jti = claims.get("jti").and_then(Value::as_str).filter(|jti| !jti.is_empty() && jti.len() <= MAX_JTI);
    let jti = jti.ok_or(Refusal::NoTokenId)?;
    let evidence = TokenEvidence {
        cluster: cluster.name.clone(),
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
        pod_name: pod_name.to_owned(),
        pod_uid: pod_uid.to_owned(),
        node: node.map(str::to_owned),
        jti_hash: jti_hash(&cluster.name, jti),
        until,
        reviewed: false,
    };
    let id = cluster.template.name(trust_domain, &evidence)?;
    Ok(PodToken { evidence, id, jti: jti.to_owned(), audience: cluster.audience.clone(), strict: cluster.strict })
}

/// `system:serviceaccount:<namespace>:<name>`, four parts and no fifth.
fn subject(claims: &Claims) -> Result<(&str, &str), Refusal> {
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(Refusal::TokenSubject)?;
    let mut parts = subject.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("system"), Some("serviceaccount"), Some(namespace), Some(account), None) => Ok((namespace, account)),
        _ => Err(Refusal::TokenSubject),
    }
}

/// Name and UID of the object of this kind; `None` when the token is not bound to one.
fn reference<'a>(bound: &'a Claims, kind: &str) -> Result<Option<(&'a str, &'a str)>, Refusal> {
    let Some(object) = bound.get(kind) else { return Ok(None) };
    let text = |member: &str| object.get(member).and_then(Value::as_str);
    match (text("name"), text("uid")) {
        (Some(name), Some(uid)) if is_uid(uid) => Ok(Some((name, uid))),
        (Some(_), Some(_)) => Err(Refusal::ClaimName),
        _ => Err(Refusal::NoKubernetesClaim),
    }
}

/// The cluster is hashed in, so that no cluster can use up the identifiers of another.
fn jti_hash(cluster: &str, jti: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    let octets = [cluster.as_bytes(), &[0], jti.as_bytes()].concat();
    hash.copy_from_slice(digest::digest(&digest::SHA256, &octets).as_ref());
    hash
}

/// A DNS label (RFC 1123 §2.1): what Kubernetes calls a namespace, and we a cluster.
pub(super) fn is_label(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain && !text.is_empty() && text.len() <= 63 && !text.starts_with('-') && !text.ends_with('-')
}

/// A DNS subdomain: labels with dots between, 253 bytes in all. Names of accounts, pods and nodes.
fn is_subdomain(text: &str) -> bool {
    let is_part = |part: &str| {
        let plain = part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        plain && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// A UUID in all releases so far; held to its characters and a length.
pub(super) fn is_uid(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The `iss` of tokens in Secrets.
pub(super) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// A UUID has 36 bytes.
const MAX_JTI: usize = 256;

/// The last second that every calendar knows.
const YEAR_9999: u64 = 253_402_300_799;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_to_the_rules_of_kubernetes() {
        for good in ["a", "shop", "shop-1", "0", &"a".repeat(63)] {
            assert!(is_label(good) && is_subdomain(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a/b", "a:b", "é", "..", ".", "a.", ".a", "a..b", "a.-b", "a%b", "a b"]
        {
            assert!(!is_label(bad) && !is_subdomain(bad), "{bad}");
        }
        assert!(!is_label("a.b") && is_subdomain("a.b"));
        assert!(!is_label(&"a".repeat(64)) && is_subdomain(&"a".repeat(64)) && !is_subdomain(&"a".repeat(254)));
        assert!(is_uid("0b6dfd6d-5ab3-4d4e-9a4e-3f1c7a1d2c11"));
        assert!(!is_uid("") && !is_uid("a/b") && !is_uid(&"a".repeat(65)));
    }

    #[test]
    fn the_same_jti_of_two_clusters_is_two() {
        assert_ne!(jti_hash("east", "x"), jti_hash("west", "x"));
        assert_ne!(jti_hash("ea", "stx"), jti_hash("east", "x"));
    }
}
