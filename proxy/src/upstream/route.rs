//! Where something goes (Envoy: a cluster): its endpoints, how to speak to them, and who they must prove to be.

use config::Protocol;
use identity::SpiffeId;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// A destination.
pub(crate) struct Route {
    /// The name in logs and metrics.
    pub(crate) name: Arc<str>,
    pub(crate) name_id: u32,
    pub(crate) targets: Vec<Target>,
    pub(crate) security: Security,
    /// What the other side speaks; `auto`: what came in.
    pub(crate) protocol: Protocol,
    /// Time for the whole request; none by default.
    pub(crate) timeout: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    /// Our own address on the connection, when it matters (the redirect rules let this one through to the application).
    pub(crate) source: Option<IpAddr>,
}

impl Route {
    /// The one identity the callee must prove, if it is one.
    pub(crate) fn expected(&self) -> Option<&SpiffeId> {
        match &self.security {
            Security::Mtls(Expect::Identity(id)) => Some(id),
            Security::Mtls(Expect::NamedByRules(_)) | Security::Plain => None,
        }
    }

    /// The same destination at the address the application dialled; for a service whose endpoints the file does not list.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self {
            name: Arc::clone(&self.name),
            name_id: self.name_id,
            targets: vec![Target::Socket(address)],
            security: self.security.clone(),
            protocol: self.protocol,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            source: self.source,
        }
    }
}

/// One endpoint.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Socket(SocketAddr),
    Name(Arc<str>, u16),
}

/// How a connection is protected.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    /// Plain: our own application, or a destination that a rule names by address.
    Plain,
    Mtls(Expect),
}

/// Who the callee must prove to be.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    Identity(SpiffeId),
    /// Whoever an outbound allow rule for this port names.
    NamedByRules(u16),
}
