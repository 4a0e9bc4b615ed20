//! What is in force: the issuer, the bundle, and the server's own certificate. Made whole, replaced whole.

use ca::rotation::{RootId, Rotation};
use ca::{Authority, Issuer, Signatures};
use identity::{Bundle, Credentials, SpiffeId};
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The state that requests are answered from.
pub(crate) struct Standing {
    /// Signs leaves.
    pub(crate) issuer: Issuer,
    /// The root that all of its leaves chain to.
    pub(crate) root: RootId,
    /// Where the rotation of roots stands.
    pub(crate) rotation: Rotation,
    /// The roots, the one that issues first.
    pub(crate) bundle: Bundle,
    /// The same as PEM.
    pub(crate) bundle_pem: String,
    /// How long the issuing root is valid in all.
    pub(crate) root_life: Duration,
    /// The last second of the issuing root.
    pub(crate) root_not_after: SystemTime,
    /// For accepting connections: our own certificate, and the bundle for those of others.
    pub(crate) reception: Arc<ServerConfig>,
    /// Our own certificate's last second.
    pub(crate) own_not_after: SystemTime,
    /// When to make the next one of these.
    pub(crate) replace_at: SystemTime,
}

/// Who the server says it is.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) id: SpiffeId,
    pub(crate) names: Vec<String>,
}

impl Standing {
    /// A new intermediate, which verifies the `signatures` it makes, and a new certificate of our own.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) fn make(
        authority: &Authority,
        own: &Own,
        signatures: Signatures,
        now: SystemTime,
    ) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let issuer = authority.intermediate(now).map_err(|error| text(&error))?.verifying(signatures);
        let (issued, key) = issuer.issue_own(&own.id, &own.names, OWN_LIFETIME, now).map_err(|error| text(&error))?;
        let credentials = Credentials::from_pem(
            issued.chain_pem().as_bytes(),
            key.as_bytes(),
            authority.bundle_pem().as_bytes(),
            &own.id,
            now,
        )
        .map_err(|error| text(&error))?;
        let reception = credentials.reception_config(&[b"h2"]).map_err(|error| text(&error))?;
        let left = issued.not_after.duration_since(now).unwrap_or_default();
        Ok(Self {
            root: authority.root_id(),
            rotation: authority.rotation().clone(),
            bundle: authority.bundle().clone(),
            bundle_pem: authority.bundle_pem().to_owned(),
            root_life: authority.life(),
            root_not_after: authority.not_after(),
            reception,
            own_not_after: issued.not_after,
            replace_at: now + left / 2,
            issuer,
        })
    }
}

/// A day, like that of anybody else.
const OWN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
