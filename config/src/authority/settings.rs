//! What a CA works with: the file, checked.

use crate::problem::Problem;
use crate::snapshot::Listen;
use std::path::PathBuf;
use std::time::Duration;

/// The CA's file.
#[derive(Debug, Clone)]
pub struct CaSettings {
    /// The folder that `ca init` made.
    pub dir: PathBuf,
    /// Its first line opens the keys in the folder. Absent: they are not encrypted.
    pub passphrase_file: Option<PathBuf>,
    /// A folder with root keys, such as a mounted Secret; keys that are not in it are in `dir`.
    pub keys: Option<PathBuf>,
    /// The path of the CA's own SPIFFE ID, without the leading slash.
    pub identity: String,
    /// DNS names that the CA's own certificate carries for callers that compare names.
    pub names: Vec<String>,
    /// gRPC.
    pub listen: Vec<Listen>,
    /// Admin.
    pub admin: Vec<Listen>,
    /// Readiness and metrics.
    pub health: Vec<Listen>,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
    /// The signature of every leaf is verified before it leaves.
    pub verify_signatures: bool,
    /// How one root takes the place of another.
    pub rotation: RotationSettings,
    /// Whose tokens are accepted.
    pub clusters: Vec<ClusterSettings>,
    /// The most certificates one caller may get in an hour.
    pub per_identity_per_hour: u32,
    /// With how many keys one token may be used.
    pub keys_per_token: usize,
    /// The most requests one source address may make in a second.
    pub per_source_per_second: u32,
    /// Certificates being made at once; those above wait.
    pub signing: usize,
    /// Requests that may wait for that; those above are told to come again.
    pub waiting: usize,
    /// What is legal and probably not meant.
    pub warnings: Vec<Problem>,
}

/// How long certificates live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// What is issued when nothing is asked for.
    pub default: Duration,
    /// The most that may be asked for.
    pub longest: Duration,
    /// How long renewals by mutual TLS may go on from one attestation.
    pub lineage: Duration,
}

/// How one root takes the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationSettings {
    /// When a new root is prepared, in percent of the issuing one's life that are left; 0: never by itself.
    pub prepare_at_percent_left: u8,
    /// Over how long renewals are spread.
    pub splay: Duration,
    /// How far clocks of holders may be behind.
    pub skew: Duration,
}

/// One Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// What the placeholder `{cluster}` stands for, and its name in the log.
    pub name: String,
    /// The exact `iss` of its tokens (RFC 7519 §4.1.1).
    pub issuer: String,
    /// The exact `aud` of tokens for this CA (RFC 7519 §4.1.3).
    pub audience: String,
    /// The file with its public keys; without one they are asked of `api`.
    pub jwks: Option<PathBuf>,
    /// Its API server. There is one where there is no file, or where tokens must be confirmed.
    pub api: Option<ApiSettings>,
    /// Each token must be confirmed by it.
    pub strict: bool,
    /// The path of the SPIFFE IDs it may have, with placeholders; not yet parsed.
    pub template: String,
}

/// The API server of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// `host:port`; the host is the name in its certificate.
    pub address: String,
    /// PEM of the roots by which it is known.
    pub roots: PathBuf,
    /// Our token for it.
    pub token: PathBuf,
}
