//! The clusters whose word counts.
//!
//! In comes what the operator configured: for each cluster its issuer, our audience, its keys and the template of
//! its names; out comes one value that verifies tokens. Refused are clusters that cannot be told apart: one name
//! for two, one issuer with a key in common, or templates by which two accounts could get one name. A token
//! chooses among these clusters and can add none.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::TrustDomain;
use serde_json::Value;

use super::jwks::Jwks;
use super::kubernetes::{self, PodToken};
use super::refusal::Refusal;
use super::template::Template;
use super::token::Unverified;

/// One Kubernetes cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Our name for it, a DNS label.
    pub name: String,
    /// The `iss` of its tokens, compared byte for byte (`--service-account-issuer` of its API server).
    pub issuer: String,
    /// The `audience` of the projected volumes that are meant for us.
    pub audience: String,
    /// The keys it signs with.
    pub keys: Arc<Jwks>,
    /// How its workloads are named.
    pub template: Template,
    /// Whether each token must be confirmed by the API server. Renewals go by certificate and never ask it, so
    /// it is asked about once in the life of a sidecar.
    pub strict: bool,
}

/// How tokens are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// How far the clocks may be apart.
    pub skew: Duration,
    /// The longest life of a token, from `iat` to `exp`.
    pub max_life: Duration,
}

impl Default for TokenRules {
    /// One minute, and 24 hours, after which kubelet replaces any token.
    fn default() -> Self {
        Self { skew: Duration::from_secs(60), max_life: Duration::from_secs(24 * 3600) }
    }
}

/// All clusters of one trust domain. Never changed: new keys make a new value, which the caller publishes.
#[derive(Clone, Debug)]
pub struct Clusters {
    trust_domain: TrustDomain,
    rules: TokenRules,
    /// Invariant: names are distinct, no two match one token, no two can give one name.
    clusters: Vec<Cluster>,
}

impl Clusters {
    /// Checks that the clusters are well described and can be told apart. There may be none: no token counts then.
    pub fn new(trust_domain: TrustDomain, rules: TokenRules, clusters: Vec<Cluster>) -> Result<Self, ClusterError> {
        if clusters.len() > MAX_CLUSTERS {
            return Err(ClusterError::TooMany);
        }
        if rules.skew > MAX_SKEW || rules.max_life.is_zero() || rules.max_life > MAX_LIFE {
            return Err(ClusterError::Rules);
        }
        for (index, cluster) in clusters.iter().enumerate() {
            check(cluster)?;
            clusters.iter().skip(index + 1).try_for_each(|other| tell_apart(cluster, other))?;
        }
        Ok(Self { trust_domain, rules, clusters })
    }

    /// The same clusters, one with new keys.
    pub fn with_keys(&self, name: &str, keys: Jwks) -> Result<Self, ClusterError> {
        let mut clusters = self.clusters.clone();
        let cluster = clusters.iter_mut().find(|cluster| cluster.name == name);
        cluster.ok_or_else(|| ClusterError::Unknown(name.to_owned()))?.keys = Arc::new(keys);
        Self::new(self.trust_domain.clone(), self.rules, clusters)
    }

    /// The clusters, in the order of configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.iter()
    }

    /// The clusters whose keys should be read again when this token was refused for [`Refusal::UnknownKey`]. The
    /// token is not verified, so this is a hint and to be held back by a [`Refetch`](super::Refetch).
    pub fn whose_keys(&self, compact: &str) -> impl Iterator<Item = &str> {
        let issuer = Unverified::read(compact).ok().and_then(|token| match token.claims.get("iss") {
            Some(Value::String(issuer)) => Some(issuer.clone()),
            _ => None,
        });
        let of_issuer = self.clusters.iter().filter(move |cluster| Some(&cluster.issuer) == issuer.as_ref());
        of_issuer.map(|cluster| cluster.name.as_str())
    }

    /// Verifies a compact token at the time `now`. From cheap to dear: size, form, header, issuer, key, audience
    /// and dates, and only then the signature; then the facts.
    pub fn verify(&self, compact: &str, now: SystemTime) -> Result<PodToken, Refusal> {
        let token = Unverified::read(compact)?;
        let cluster = self.of(&token)?;
        kubernetes::check_audience(&token.claims, &cluster.audience)?;
        let until = kubernetes::check_dates(&token.claims, self.rules, now)?;
        token.verify(&cluster.keys)?;
        kubernetes::facts(&token.claims, cluster, &self.trust_domain, until)
    }

    fn of(&self, token: &Unverified<'_>) -> Result<&Cluster, Refusal> {
        let issuer = kubernetes::issuer(&token.claims)?;
        let mut of_issuer = self.clusters.iter().filter(|cluster| cluster.issuer == issuer).peekable();
        if of_issuer.peek().is_none() {
            let bare = |text: &str| text.strip_suffix('/').unwrap_or(text).to_owned();
            let near = self.clusters.iter().any(|cluster| bare(&cluster.issuer) == bare(issuer));
            return Err(if near { Refusal::IssuerSlash } else { Refusal::UnknownIssuer });
        }
        // Clusters of one issuer have no key and no name of a key in common, so at most one has it.
        of_issuer.find(|cluster| cluster.keys.key(token.key_id()).is_some()).ok_or(Refusal::UnknownKey)
    }
}

/// What is wrong with the description of clusters. Displays as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterError {
    /// More than 64.
    TooMany,
    /// A skew above 10 minutes, or a life of nothing or above a year.
    Rules,
    /// The name is no DNS label.
    Name(String),
    /// The issuer is empty, too long, not printable ASCII, or that of tokens in Secrets.
    Issuer(String),
    /// The audience is empty, too long, or not printable ASCII.
    Audience(String),
    /// The audience is the issuer, which is that of the API server itself.
    AudienceOfApiServer(String),
    /// Two clusters have this name.
    SameName(String),
    /// Two clusters could have signed the same token.
    SameIssuer(String, String),
    /// Accounts of two clusters could get one name.
    SameIdentities(String, String),
    /// There is no cluster of this name.
    Unknown(String),
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "there are more than {MAX_CLUSTERS} clusters"),
            Self::Rules => f.write_str("clocks may be 10 minutes apart and tokens live a year, not more, and not 0"),
            Self::Name(name) => write!(f, "the cluster's name {name:?} is no DNS label (RFC 1123 §2.1)"),
            Self::Issuer(name) => write!(
                f,
                "the issuer of cluster `{name}` must be 1 to {MAX_TEXT} printable characters, and not that of tokens in Secrets"
            ),
            Self::Audience(name) => {
                write!(f, "the audience of cluster `{name}` must be 1 to {MAX_TEXT} printable characters")
            }
            Self::AudienceOfApiServer(name) => write!(
                f,
                "the audience of cluster `{name}` is its issuer, the audience of every pod's token for the API server; choose one of our own"
            ),
            Self::SameName(name) => write!(f, "two clusters are called `{name}`"),
            Self::SameIssuer(one, two) => write!(
                f,
                "clusters `{one}` and `{two}` have the same issuer and a key, or the `kid` of one, in common: their tokens cannot be told apart"
            ),
            Self::SameIdentities(one, two) => write!(
                f,
                "accounts of clusters `{one}` and `{two}` could get one name; put {{cluster}} or a literal of its own into their templates"
            ),
            Self::Unknown(name) => write!(f, "there is no cluster `{name}`"),
        }
    }
}

impl std::error::Error for ClusterError {}

fn check(cluster: &Cluster) -> Result<(), ClusterError> {
    let printable =
        |text: &str| !text.is_empty() && text.len() <= MAX_TEXT && text.bytes().all(|b| b.is_ascii_graphic());
    if !kubernetes::is_label(&cluster.name) {
        return Err(ClusterError::Name(cluster.name.clone()));
    }
    if !printable(&cluster.issuer) || cluster.issuer == kubernetes::LEGACY_ISSUER {
        return Err(ClusterError::Issuer(cluster.name.clone()));
    }
    if !printable(&cluster.audience) {
        return Err(ClusterError::Audience(cluster.name.clone()));
    }
    if cluster.audience == cluster.issuer {
        return Err(ClusterError::AudienceOfApiServer(cluster.name.clone()));
    }
    Ok(())
}

fn tell_apart(one: &Cluster, two: &Cluster) -> Result<(), ClusterError> {
    let both = || (one.name.clone(), two.name.clone());
    if one.name == two.name {
        return Err(ClusterError::SameName(one.name.clone()));
    }
    if one.issuer == two.issuer && one.keys.meets(&two.keys) {
        let (one, two) = both();
        return Err(ClusterError::SameIssuer(one, two));
    }
    if one.template.meets(&one.name, &two.template, &two.name) {
        let (one, two) = both();
        return Err(ClusterError::SameIdentities(one, two));
    }
    Ok(())
}

const MAX_CLUSTERS: usize = 64;
const MAX_TEXT: usize = 512;
const MAX_SKEW: Duration = Duration::from_secs(600);
const MAX_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);
