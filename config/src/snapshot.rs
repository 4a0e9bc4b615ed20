//! What the file says once it is checked: plain immutable data, complete with defaults.

use crate::problem::Problem;
use crate::tap_settings::TapSettings;
use identity::{SpiffeId, TrustDomain};
use policy::{IdPattern, Mode, RuleSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One checked file.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Who this sidecar speaks for.
    pub workload: SpiffeId,
    /// The trust domain of the short identity forms; that of `workload`.
    pub trust_domain: TrustDomain,
    /// What happens to what the rules refuse.
    pub mode: Mode,
    /// Where certificate, key and bundle come from.
    pub identity: IdentitySource,
    /// `[agent]`.
    pub agent: AgentSettings,
    /// Listeners, limits and timeouts.
    pub proxy: ProxySettings,
    /// The own application.
    pub app: Option<App>,
    /// The access log.
    pub log: LogSettings,
    /// Known destinations.
    pub services: Vec<Service>,
    /// The named identities of `[identities]`, in the order of their names.
    pub identities: Vec<NamedIdentity>,
    /// The rules of both directions.
    pub rules: RuleSet,
    /// Copies of the traffic.
    pub taps: Vec<TapSettings>,
    /// SHA-256 of the text, lower-case hexadecimal.
    pub digest: String,
    /// What is legal but probably not meant; render with [`crate::Report`].
    pub warnings: Vec<Problem>,
}

/// `[identity]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// PEM files; relative paths are already resolved against the file's folder.
    Files {
        /// The chain, leaf first.
        cert: PathBuf,
        /// The private key of the leaf.
        key: PathBuf,
        /// The roots of the own trust domain.
        bundle: PathBuf,
    },
    /// A CA that speaks Istio's certificate service.
    Ca(CaSource),
    /// The unix socket of a SPIFFE Workload API.
    WorkloadApi {
        /// Where it is.
        socket: PathBuf,
    },
    /// The unix socket of an Envoy secret discovery service.
    Sds {
        /// Where it is.
        socket: PathBuf,
        /// The secret with certificate and key.
        certificate: String,
        /// The secret with the roots.
        validation: String,
    },
}

/// A CA over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaSource {
    /// `host:port`.
    pub address: String,
    /// Who it must be.
    pub expected: ExpectedCa,
    /// PEM of the roots by which it is known at first.
    pub roots: PathBuf,
    /// What proves us to it at first.
    pub token: PathBuf,
    /// Our cluster's name there.
    pub cluster: Option<String>,
    /// The lifetime to ask for.
    pub ttl: Option<Duration>,
}

/// Who a CA must prove to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedCa {
    /// This SPIFFE ID.
    Id(SpiffeId),
    /// This DNS name (RFC 9525).
    Name(String),
}

/// `[agent]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// The table is written.
    pub written: bool,
    /// Where the socket is.
    pub socket: PathBuf,
    /// Users that may call besides the own.
    pub users: Vec<u32>,
    /// Groups that may call.
    pub groups: Vec<u32>,
}

/// `[proxy]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// How connections reach the sidecar.
    pub capture: Capture,
    /// Where callers' sidecars arrive. Empty: no such listener.
    pub inbound: Vec<Listen>,
    /// Where the application's captured connections arrive. Empty: no such listener.
    pub outbound: Vec<Listen>,
    /// The admin interface.
    pub admin: Vec<Listen>,
    /// Readiness and liveness.
    pub health: Vec<Listen>,
    /// Metrics.
    pub metrics: Vec<Listen>,
    /// Worker threads; `None`: from the CPU quota.
    pub workers: Option<usize>,
    /// Whether the admin interface may change anything.
    pub admin_writes: bool,
    /// Every deadline.
    pub timeouts: Timeouts,
    /// Downstream connections at one time, all listeners together.
    pub max_connections: usize,
    /// Of these, the ones that one caller's identity may hold. `None`: no limit of its own.
    pub max_connections_per_identity: Option<usize>,
    /// Resident bytes from which load is shed; `None`: what the cgroup says.
    pub memory_limit: Option<u64>,
}

/// One address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listen {
    /// Where.
    pub addr: SocketAddr,
    /// It comes from a default, so it is skipped where the host lacks the address family.
    pub defaulted: bool,
}

/// How connections reach the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capture {
    /// Only by the listeners that are written down.
    None,
    /// By redirect rules of the pod; the original destination is asked of the kernel.
    Redirect,
}

/// The deadlines of `[proxy]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Dialling upstream (TCP).
    pub connect: Duration,
    /// A TLS handshake, either side.
    pub handshake: Duration,
    /// From the first byte of a request to the end of its head.
    pub head: Duration,
    /// A stream on which nothing moves.
    pub idle_stream: Duration,
    /// An upstream connection that nobody uses.
    pub pool_idle: Duration,
    /// From the stop signal to the hard end.
    pub drain: Duration,
    /// Waiting for the first bytes that tell the protocol.
    pub detect: Duration,
    /// How soon a stream ends that a new policy no longer allows.
    pub revoke_within: Duration,
    /// A downstream connection without any request.
    pub downstream_idle: Duration,
}

/// `[app]`: the own application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Where inbound traffic goes without capture.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The longest a whole request may take; `None`: no limit.
    pub timeout: Option<Duration>,
}

/// What an application or a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// Detect what comes in, speak the same out.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, gRPC included.
    Http2,
    /// Opaque bytes.
    Tcp,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Where access log lines go.
    pub access: AccessSink,
    /// What a line looks like.
    pub format: LogFormat,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessSink {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// Appended to a file.
    File(PathBuf),
}

/// What an access log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// Envoy's default text format.
    Envoy,
    /// One JSON object.
    Json,
}

/// `[[service]]`: a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique.
    pub name: String,
    /// The names it is called by, canonical: lower case, no trailing dot.
    pub hosts: Vec<String>,
    /// The one identity accepted from it.
    pub identity: SpiffeId,
    /// Where it is reached; empty under capture: at the original destination.
    pub endpoints: Vec<Endpoint>,
    /// Original destinations that mean this service.
    pub addresses: Vec<SocketAddr>,
    /// Local listeners of its own, for use without capture.
    pub bind: Vec<SocketAddr>,
    /// What it speaks.
    pub protocol: Protocol,
    /// The longest a whole request may take; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Dialling it; `None`: as `[proxy]` says.
    pub connect_timeout: Option<Duration>,
}

/// One way to reach a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An address.
    Socket(SocketAddr),
    /// A name to look up.
    Name {
        /// Canonical: lower case, no trailing dot.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
}

/// An entry of `[identities]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedIdentity {
    /// What rules call it.
    pub name: String,
    /// Who that is.
    pub ids: Vec<IdPattern>,
    /// What it is, such as `database`.
    pub kind: Option<String>,
    /// `low`, `medium` or `high`.
    pub criticality: Option<String>,
}
