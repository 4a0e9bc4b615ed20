//! Why somebody was not attested.
//!
//! One list for all kinds of evidence: its labels are the reasons of metrics and of the audit log, so each stands
//! once and means one thing. Nothing that a peer wrote is repeated in a refusal, save a name that has been read.

use std::fmt;

use identity::IdError;

/// Declares the variants with their labels and sentences side by side.
macro_rules! refusals {
    ($( $(#[doc = $doc:literal])+ $name:ident, $label:literal, $sentence:literal; )+) => {
        /// Why somebody was not attested.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $( $(#[doc = $doc])+ $name, )+
            /// The facts do not make a SPIFFE ID.
            Name(IdError),
            /// The folder of join tokens could not be used; nobody's fault but ours. What the system said.
            JoinStorage(String),
        }

        impl Refusal {
            /// Every label there is, in the order of the checks.
            pub const REASONS: &[&str] = &[$( $label, )+ "template_name", "join_storage"];

            /// A short label for metrics and log lines, from [`REASONS`](Self::REASONS).
            pub fn reason(&self) -> &'static str {
                match self {
                    $( Self::$name => $label, )+
                    Self::Name(_) => "template_name",
                    Self::JoinStorage(_) => "join_storage",
                }
            }
        }

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( Self::$name => f.write_str($sentence), )+
                    Self::Name(error) => write!(f, "the attested facts make no SPIFFE ID: {error}"),
                    Self::JoinStorage(error) => write!(f, "the folder of join tokens cannot be used: {error}"),
                }
            }
        }
    };
}

refusals! {
    /// More than `MAX_TOKEN` bytes.
    TokenTooLarge, "token_too_large", "the token is larger than a service-account token is";
    /// Not three parts between two dots.
    TokenParts, "token_parts", "the token does not have exactly three parts (RFC 7515 §7.1)";
    /// A part is not base64url without padding.
    TokenEncoding, "token_encoding", "a part of the token is not base64url without padding (RFC 7515 §2)";
    /// Header or claims are not a JSON object.
    TokenJson, "token_json", "header or claims of the token are not a JSON object (RFC 7519 §7.2)";
    /// A member of header or claims stands twice.
    TokenDuplicate, "token_duplicate_member", "a member of the token's header or claims stands twice (RFC 7515 §4, RFC 7519 §4)";
    /// The header brings a key along.
    HeaderJwk, "token_header_jwk", "the token's header brings its own key in `jwk`; keys come from configuration only (RFC 8725 §3.1)";
    /// The header points to keys.
    HeaderJku, "token_header_jku", "the token's header points to keys by `jku`; nothing is fetched for a token (RFC 8725 §3.10)";
    /// The header points to certificates.
    HeaderX5u, "token_header_x5u", "the token's header points to certificates by `x5u`; nothing is fetched for a token (RFC 8725 §3.10)";
    /// The header brings certificates along.
    HeaderX5c, "token_header_x5c", "the token's header brings certificates in `x5c`; keys come from configuration only (RFC 8725 §3.1)";
    /// The header names extensions that must be understood.
    HeaderCrit, "token_header_crit", "the token's header demands extensions by `crit`, of which none is known here (RFC 7515 §4.1.11)";
    /// The header has a member besides `alg`, `kid` and `typ`.
    HeaderUnknown, "token_header_unknown", "the token's header has a member besides `alg`, `kid` and `typ` (RFC 8725 §3.1)";
    /// `typ` is there and not `JWT`.
    TokenType, "token_type", "the token's `typ` is not `JWT` (RFC 8725 §3.11)";
    /// No `alg`.
    AlgMissing, "token_alg_missing", "the token's header names no algorithm (RFC 7515 §4.1.1)";
    /// `alg` is `none`.
    AlgNone, "token_alg_none", "the token is not signed: its `alg` is `none` (RFC 8725 §3.2)";
    /// `alg` is an HMAC.
    AlgSymmetric, "token_alg_symmetric", "the token's `alg` is an HMAC, for which a public key would be the secret (RFC 8725 §2.1)";
    /// `alg` is none of ours.
    AlgUnknown, "token_alg_unknown", "the token's `alg` is not one of RS256, RS384, RS512, ES256, ES384 and EdDSA (RFC 8725 §3.1)";
    /// No `kid`.
    NoKeyId, "token_no_key_id", "the token's header names no key (RFC 7515 §4.1.4)";
    /// A token without expiry, kept in a Secret.
    TokenLegacy, "token_legacy", "this is a service-account token from a Secret, which is bound to no pod and never ends; use a projected one";
    /// No `iss`.
    NoIssuer, "token_no_issuer", "the token names no issuer (RFC 7519 §4.1.1)";
    /// `iss` differs from a known issuer by a slash at the end.
    IssuerSlash, "token_issuer_slash", "the token's issuer differs from a configured one by a slash at its end; issuers are compared byte for byte (RFC 8725 §3.8)";
    /// `iss` is of no cluster here.
    UnknownIssuer, "token_issuer", "the token's issuer belongs to no configured cluster (RFC 8725 §3.8)";
    /// `kid` names no key of the issuer.
    UnknownKey, "token_unknown_key", "the token names a key that its issuer does not have here (RFC 7515 §4.1.4)";
    /// `alg` belongs to another kind of key.
    AlgOfOtherKey, "token_key_confusion", "the token's `alg` does not belong to the key it names (RFC 8725 §3.1)";
    /// No `aud`.
    NoAudience, "token_no_audience", "the token names no audience (RFC 8725 §3.9)";
    /// `aud` is not ours.
    OtherAudience, "token_audience", "the token is meant for another audience (RFC 8725 §3.9)";
    /// `aud` is ours and somebody else's.
    SeveralAudiences, "token_audience_several", "the token is meant for others besides us, any of which could have passed it on; project one with our audience alone (RFC 8725 §3.9)";
    /// No `exp`.
    NoExpiry, "token_no_expiry", "the token has no expiry (RFC 7519 §4.1.4)";
    /// No `iat`.
    NoIssuedAt, "token_no_issued_at", "the token does not say when it was issued (RFC 7519 §4.1.6)";
    /// A date is not a count of seconds.
    DateMalformed, "token_date", "a date of the token is not a whole number of seconds since 1970 (RFC 7519 §2)";
    /// `exp` has passed.
    TokenExpired, "token_expired", "the token has expired (RFC 7519 §4.1.4)";
    /// `nbf` is to come.
    TokenNotYetValid, "token_not_yet_valid", "the token is not valid yet; do the clocks agree? (RFC 7519 §4.1.5)";
    /// `iat` is to come.
    TokenFromFuture, "token_from_future", "the token was issued in the future; do the clocks agree? (RFC 7519 §4.1.6)";
    /// `exp` - `iat` is too long.
    TokenLife, "token_life", "the token lives longer than is allowed here, or ends before it was issued; lower `expirationSeconds` of its projection";
    /// The signature does not verify.
    TokenSignature, "token_signature", "the token's signature does not verify (RFC 7515 §5.2)";
    /// No `jti`.
    NoTokenId, "token_no_id", "the token has no `jti`, without which it cannot be held to one key (RFC 7519 §4.1.7)";
    /// `sub` does not have the four parts of a service account.
    TokenSubject, "token_subject", "the token's subject is not `system:serviceaccount:<namespace>:<name>`";
    /// No `kubernetes.io` claim, or a malformed one.
    NoKubernetesClaim, "token_no_kubernetes_claim", "the token has no well-formed `kubernetes.io` claim";
    /// The `kubernetes.io` claim lacks the pod.
    NoPod, "token_no_pod", "the token is bound to no pod; use a projected volume, not `kubectl create token`";
    /// A name in the claims is none by the rules of Kubernetes.
    ClaimName, "token_claim_name", "a name or UID in the token's claims is none by the rules of Kubernetes";
    /// `sub` and the `kubernetes.io` claim disagree.
    SubjectMismatch, "token_subject_mismatch", "the token's subject and its `kubernetes.io` claim name different accounts";
    /// The cluster is strict and nobody asked its API server.
    ReviewMissing, "review_missing", "this cluster's tokens count only when its API server has confirmed them (TokenReview)";
    /// The answer is not that to a TokenReview.
    ReviewMalformed, "review_malformed", "the API server's answer is not a well-formed TokenReview";
    /// The API server does not know the token.
    ReviewUnauthenticated, "review_unauthenticated", "the API server does not accept the token: pod, account or node may be gone";
    /// The API server judged it for another audience.
    ReviewAudience, "review_audience", "the API server did not judge the token for our audience (TokenReview status.audiences)";
    /// The API server names another user.
    ReviewUser, "review_user", "the API server names another user than the token";
    /// The user is not in the groups of service accounts.
    ReviewGroup, "review_group", "the API server does not count the user among the service accounts";
    /// The API server names another pod, or none.
    ReviewPod, "review_pod", "the API server names another pod than the token, or none";
    /// The API server names another node.
    ReviewNode, "review_node", "the API server names another node than the token";
    /// The API server judged another token.
    ReviewTokenId, "review_token_id", "the API server judged another token";
    /// The template wants the node and the token does not say.
    NoNode, "template_no_node", "the name of this cluster's workloads contains the node, which the token does not say (Kubernetes before 1.32)";
    /// The same token came with another key.
    Replayed, "replay_other_key", "this token has been used with another key; it may have been stolen";
    /// One pod has too many tokens.
    ReplayPod, "replay_pod_full", "this pod has more tokens alive than are remembered for one pod";
    /// Too many tokens are alive.
    ReplayFull, "replay_full", "more tokens are alive than can be remembered; try again when some have ended";
    /// Not of the form of a join token.
    JoinMalformed, "join_malformed", "this is not a join token";
    /// No such join token.
    JoinUnknown, "join_unknown", "there is no such join token, or no longer";
    /// The join token has ended.
    JoinExpired, "join_expired", "the join token has expired";
    /// The join token has been used.
    JoinUsed, "join_used", "the join token has been used; each is good for one machine, once";
    /// The certificate presented is not the one that was verified.
    RenewalOtherLeaf, "renewal_other_leaf", "the certificate is not the one that the connection was verified with";
    /// The certificate is of another trust domain.
    RenewalOtherDomain, "renewal_other_domain", "the certificate belongs to another trust domain, whose names are not ours to give (X509-SVID §5.1)";
    /// The certificate is not valid yet.
    RenewalNotYetValid, "renewal_not_yet_valid", "the certificate to renew is not valid yet (RFC 5280 §6.1.3)";
    /// The certificate has ended.
    RenewalExpired, "renewal_expired", "the certificate to renew has expired; attest anew (RFC 5280 §6.1.3)";
    /// No record of the certificate.
    RenewalUnknown, "renewal_unknown_serial", "there is no record of having issued the certificate to renew";
    /// The same key again.
    RenewalSameKey, "renewal_same_key", "a renewal takes a new key, so that a stolen one ends with its certificate";
    /// Renewed for too long.
    RenewalLineage, "renewal_lineage_ended", "certificates have been renewed from one another for as long as is allowed; attest anew";
}

impl Refusal {
    /// Whether the same evidence may be taken later without anybody doing something about it.
    pub fn may_pass_later(&self) -> bool {
        matches!(
            self,
            // Keys may have been rotated, and ours not read again yet.
            Self::UnknownKey
                | Self::TokenNotYetValid
                | Self::TokenFromFuture
                | Self::RenewalNotYetValid
                | Self::ReviewMalformed
                | Self::ReplayPod
                | Self::ReplayFull
                | Self::JoinStorage(_)
        )
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_is_one_reason() {
        let distinct: BTreeSet<_> = Refusal::REASONS.iter().collect();
        assert_eq!(distinct.len(), Refusal::REASONS.len());
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(Refusal::REASONS.iter().all(|reason| reason.chars().all(plain)));
    }
}
