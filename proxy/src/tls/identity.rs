//! The workload's credentials in force, and the TLS configurations made from them.
//!
//! [`Identity`] is published whole; each worker keeps an [`IdentityCache`] beside it, because a client configuration is made
//! per expected callee and costs more than a lookup.

use super::Engine;
use crate::live::Live;
use identity::{Accepts, Credentials, SpiffeId};
use rustls::{ClientConfig, ServerConfig};
use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::SystemTime};

/// Credentials with the server side made from them.
pub(crate) struct Identity {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) since: SystemTime,
}

/// What we offer by ALPN (RFC 7301) when we dial another sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Alpn {
    Http1,
    Http2,
    /// Opaque: nothing is offered.
    None,
}

/// One worker's view of the identity.
pub(crate) struct IdentityCache {
    identity: Arc<Identity>,
    version: u64,
    clients: RefCell<HashMap<(SpiffeId, Alpn), Arc<ClientConfig>>>,
}

impl Identity {
    /// Makes the server side. Fails only if the credentials do not fit the provider, which [`Credentials`] has excluded.
    pub(crate) fn new(credentials: Arc<Credentials>) -> Result<Self, rustls::Error> {
        let server = credentials.server_config(&[b"h2", b"http/1.1"])?;
        let server = Engine::IN_USE.server(server);
        Ok(Self { credentials, server, since: SystemTime::now() })
    }
}

impl IdentityCache {
    pub(crate) fn new(identity: Arc<Identity>, version: u64) -> Self {
        Self { identity, version, clients: RefCell::default() }
    }

    pub(crate) fn id(&self) -> &SpiffeId {
        self.identity.credentials.svid().id()
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.identity.server)
    }

    /// The bundle that peers must be trusted by.
    pub(crate) fn bundle(&self) -> &identity::Bundle {
        self.identity.credentials.bundle()
    }

    /// Which credentials these are, for telling pooled connections of older ones apart.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The configuration for dialling a callee that must be exactly `expected`.
    pub(crate) fn client(&self, expected: &SpiffeId, alpn: Alpn) -> Result<Arc<ClientConfig>, rustls::Error> {
        let key = (expected.clone(), alpn);
        if let Some(config) = self.clients.borrow().get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = self.identity.credentials.client_config(Arc::new(expected.clone()), alpn.offered())?;
        let config = Engine::IN_USE.client(config);
        // Bounded: expected identities are those of the file's services.
        self.clients.borrow_mut().insert(key, Arc::clone(&config));
        Ok(config)
    }

    /// The configuration for dialling whoever answers at an original destination.
    pub(crate) fn client_named_by_rules(
        &self,
        named: NamedByRules,
        alpn: Alpn,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let config = self.identity.credentials.client_config(Arc::new(named), alpn.offered())?;
        Ok(Engine::IN_USE.client(config))
    }
}

impl Alpn {
    fn offered(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::None => &[],
        }
    }
}

/// Accepts a callee that some outbound allow rule for the port names.
pub(crate) struct NamedByRules {
    published: Arc<crate::live::Published>,
    port: u16,
}

impl NamedByRules {
    pub(crate) fn new(live: &Rc<Live>, port: u16) -> Self {
        Self { published: live.shared(), port }
    }
}

impl Accepts for NamedByRules {
    fn accepts(&self, id: &SpiffeId) -> bool {
        self.published.snapshot.rules.accepts_peer(self.port, id)
    }
    fn describe(&self) -> String {
        format!("an identity that an outbound rule for port {} names", self.port)
    }
}

impl std::fmt::Debug for NamedByRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}
