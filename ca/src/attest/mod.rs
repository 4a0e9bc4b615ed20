//! Who may have a certificate, and by which evidence.
//!
//! In come a service-account token, a join token, the certificate of a renewal, or the operator's own word; out
//! comes an [`Attested`], which nothing outside this folder can make and without which nothing is signed.
//! Refused is everything else, with a [`Refusal`] that cites the clause it rests on. The name is built from
//! attested facts by a [`Template`]; no name is ever taken from a signing request. There is no clock, no
//! socket and no file here: time, random bytes, keys and answers of an API server are parameters.
//!
//! | file | idea |
//! | --- | --- |
//! | `token` | a compact signed token, and whether a known key signed it |
//! | `jwks` | the keys a cluster signs with |
//! | `cluster` | the clusters whose word counts |
//! | `kubernetes` | from the claims of a token to the facts of a pod |
//! | `review` | what the API server says to the same token |
//! | `template` | from facts to a name |
//! | `replay` | one token, one key |
//! | `join` | tokens for plain machines |
//! | `renewal` | a certificate as evidence for the next |
//!
//! The order of one request by token: [`Clusters::verify`], [`PodToken::reviewed`] where the cluster is strict,
//! [`PodToken::attest`], the checks of the signing request, [`Replay::admit`].

mod cluster;
pub(crate) mod join;
mod jwks;
mod kubernetes;
mod refusal;
mod renewal;
mod replay;
mod review;
mod template;
mod token;

use std::fmt;
use std::time::SystemTime;

use identity::SpiffeId;

pub use cluster::{Cluster, ClusterError, Clusters, TokenRules};
pub use join::{Admission, JoinToken};
pub use jwks::{Algorithm, Jwks, JwksError, Refetch};
pub use kubernetes::PodToken;
pub use refusal::Refusal;
pub use renewal::{MAX_LINEAGE, renew};
pub use replay::{Replay, ReplayLimits, TokenUse};
pub use template::{Template, TemplateError};
pub use token::MAX_TOKEN;

/// Proof that somebody may have a certificate for one SPIFFE ID. Made in this folder only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Attested {
    id: SpiffeId,
    evidence: Evidence,
    holder: Holder,
    /// Invariant: there exactly when `evidence` is a renewal.
    lineage: Option<Lineage>,
}

impl Attested {
    /// The operator's word, for the offline command that issues from the CA's folder: who can read the root key
    /// needs no other evidence. Nothing that serves requests calls this.
    pub fn by_operator(id: SpiffeId) -> Self {
        let holder = Holder::Named(id.clone());
        Self { id, evidence: Evidence::Operator, holder, lineage: None }
    }

    /// The only name that may be issued for this proof.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// What it rests on.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Who holds the certificate, the same before and after a renewal.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The lineage that is continued; `None` where this is a first attestation, whose record begins one.
    pub fn lineage(&self) -> Option<&Lineage> {
        self.lineage.as_ref()
    }
}

/// What an attestation rests on. Nothing secret is in it: it is made to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A projected service-account token of Kubernetes.
    Token(TokenEvidence),
    /// A join token.
    Join {
        /// Its public name, 32 hex digits.
        token_id: String,
    },
    /// A certificate of ours that has not ended, presented over mutual TLS.
    Renewal {
        /// Its serial number in lower-case hex.
        serial: String,
        /// SHA-256 of its DER.
        certificate: [u8; 32],
    },
    /// The operator, offline.
    Operator,
}

impl Evidence {
    /// A short label for metrics and log lines.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "kubernetes",
            Self::Join { .. } => "join-token",
            Self::Renewal { .. } => "renewal",
            Self::Operator => "operator",
        }
    }
}

/// The verified facts of a pod's token. Names follow the rules of Kubernetes, so they are short and plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEvidence {
    /// The cluster's name in our configuration.
    pub cluster: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's service account.
    pub service_account: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's UID, which no other pod of this cluster ever has.
    pub pod_uid: String,
    /// The node's name; tokens before Kubernetes 1.32 do not say.
    pub node: Option<String>,
    /// SHA-256 over the cluster's name, a zero octet, and the `jti`.
    pub jti_hash: [u8; 32],
    /// Until when the token is taken: its expiry and the allowed skew.
    pub until: SystemTime,
    /// Whether the API server has confirmed it.
    pub reviewed: bool,
}

/// Who holds certificates: one pod, one machine, or whoever the operator gave one to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    /// A pod.
    Pod {
        /// Its cluster's name.
        cluster: String,
        /// Its UID.
        uid: String,
    },
    /// A machine, by the token it joined with.
    Machine {
        /// The token's public name.
        token_id: String,
    },
    /// Somebody the operator named.
    Named(SpiffeId),
}

impl Holder {
    /// Reads what `Display` wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/')?;
        match kind {
            "pod" => {
                let (cluster, uid) = rest.split_once('/')?;
                let plain = kubernetes::is_label(cluster) && kubernetes::is_uid(uid);
                plain.then(|| Self::Pod { cluster: cluster.to_owned(), uid: uid.to_owned() })
            }
            "machine" => join::is_token_id(rest).then(|| Self::Machine { token_id: rest.to_owned() }),
            "named" => SpiffeId::parse(rest).ok().map(Self::Named),
            _ => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { cluster, uid } => write!(f, "pod/{cluster}/{uid}"),
            Self::Machine { token_id } => write!(f, "machine/{token_id}"),
            Self::Named(id) => write!(f, "named/{id}"),
        }
    }
}

/// The chain of renewals that goes back to one first attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The sequence number of the record of the first attestation.
    pub record: u64,
    /// The time of that record.
    pub since: SystemTime,
    /// Who was attested then.
    pub holder: Holder,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_read_as_it_was_written() {
        let id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap();
        for holder in [
            Holder::Pod { cluster: "east".into(), uid: "0b6dfd6d-5ab3-4d4e-9a4e-3f1c7a1d2c11".into() },
            Holder::Machine { token_id: "00112233445566778899aabbccddeeff".into() },
            Holder::Named(id.clone()),
        ] {
            assert_eq!(Holder::parse(&holder.to_string()), Some(holder));
        }
        for text in ["", "pod", "pod/east", "pod//x", "pod/East/x", "pod/a/b/c", "machine/xyz", "named/x", "other/x"] {
            assert_eq!(Holder::parse(text), None, "{text}");
        }
        let attested = Attested::by_operator(id.clone());
        assert_eq!((attested.id(), attested.evidence().kind(), attested.lineage()), (&id, "operator", None));
    }
}
