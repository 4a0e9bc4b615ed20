//! Who hears of what happened on the socket: counters and log lines are made elsewhere.

use rpc::Process;

/// What hears of the socket's life. Texts that come from a caller are cut and printable.
pub trait Observer: Send + Sync + 'static {
    /// So many streams of this method are open now.
    fn streams(&self, api: Api, open: usize);
    /// An answer, or a change, was handed to a caller.
    fn served(&self, api: Api, process: Process, version: &str);
    /// A request was refused.
    fn refused(&self, api: Api, process: Option<Process>, why: &str);
    /// A caller could not use what it was handed (a NACK of xDS). It is not sent again until it changes.
    fn rejected(&self, process: Process, version: &str, why: &str);
    /// A caller answered something older than the last message, and was not heard (xDS: a stale nonce).
    fn stale(&self, process: Process);
}

/// The methods of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// `FetchX509SVID`.
    X509Svid,
    /// `FetchX509Bundles`.
    X509Bundles,
    /// The methods about JWT-SVIDs.
    Jwt,
    /// `StreamSecrets` and `FetchSecrets`.
    Secrets,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::X509Svid, Self::X509Bundles, Self::Jwt, Self::Secrets];

    /// A label for metrics and log lines.
    pub fn label(self) -> &'static str {
        match self {
            Self::X509Svid => "x509_svid",
            Self::X509Bundles => "x509_bundles",
            Self::Jwt => "jwt",
            Self::Secrets => "secrets",
        }
    }
}
