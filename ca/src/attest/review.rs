//! What the API server says to a token (TokenReview, `authentication.k8s.io/v1`).
//!
//! In come a verified token's facts and the API server's answer; out comes agreement, or a refusal. Offline
//! verification cannot see that a pod was deleted; the API server can. Its answer is judged against the facts
//! of the token and never instead of them: an API server that names another pod has answered another question.

use serde_json::{Value, json};

use super::TokenEvidence;
use super::refusal::Refusal;
use crate::json;

/// The body to post to `/apis/authentication.k8s.io/v1/tokenreviews`. It holds the token: not for a log.
pub(super) fn request(compact: &str, audience: &str) -> String {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "spec": { "token": compact, "audiences": [audience] },
    })
    .to_string()
}

/// Judges the answer.
pub(super) fn judge(answer: &[u8], audience: &str, facts: &TokenEvidence, jti: &str) -> Result<(), Refusal> {
    if answer.len() > MAX_ANSWER {
        return Err(Refusal::ReviewMalformed);
    }
    let answer = json::object(answer).map_err(|_| Refusal::ReviewMalformed)?;
    if answer.get("apiVersion") != Some(&json!(API_VERSION)) || answer.get("kind") != Some(&json!(KIND)) {
        return Err(Refusal::ReviewMalformed);
    }
    let status = answer.get("status").filter(|status| status.is_object()).ok_or(Refusal::ReviewMalformed)?;
    let said = |pointer: &str| status.pointer(pointer);
    let failed = said("/error").is_some_and(|error| error != "");
    if failed || said("/authenticated") != Some(&Value::Bool(true)) {
        return Err(Refusal::ReviewUnauthenticated);
    }
    // An API server that does not know audiences leaves them out, and has judged the token for itself.
    if !contains(said("/audiences"), audience) {
        return Err(Refusal::ReviewAudience);
    }
    let user = format!("system:serviceaccount:{}:{}", facts.namespace, facts.service_account);
    if said("/user/username") != Some(&json!(user)) {
        return Err(Refusal::ReviewUser);
    }
    if !contains(said("/user/groups"), "system:serviceaccounts") {
        return Err(Refusal::ReviewGroup);
    }
    let extra = |name: &str| said("/user/extra").and_then(|extra| extra.get(format!("{EXTRA}{name}")));
    let is = |value: &Value, expected: &str| *value == json!([expected]);
    let pod = [("pod-name", &facts.pod_name), ("pod-uid", &facts.pod_uid)];
    if !pod.into_iter().all(|(name, expected)| extra(name).is_some_and(|value| is(value, expected))) {
        return Err(Refusal::ReviewPod);
    }
    // Node and token are named since Kubernetes 1.30; where they are, they must be the same.
    if let (Some(value), Some(node)) = (extra("node-name"), &facts.node)
        && !is(value, node)
    {
        return Err(Refusal::ReviewNode);
    }
    if extra("credential-id").is_some_and(|value| !is(value, &format!("JTI={jti}"))) {
        return Err(Refusal::ReviewTokenId);
    }
    Ok(())
}

fn contains(list: Option<&Value>, item: &str) -> bool {
    list.and_then(Value::as_array).is_some_and(|list| list.iter().any(|value| value == item))
}

const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenReview";
const EXTRA: &str = "authentication.kubernetes.io/";

/// An answer repeats the token and is about 3 KiB.
const MAX_ANSWER: usize = 64 << 10;
