//! Taking the identity from somebody else's socket: SPIRE's agent, another of ours, or whoever speaks the Workload API or SDS.
//!
//! A source connects, follows the stream, verifies what arrives and publishes it. What does not verify is not published, what was
//! published stays in force until something better comes, and a source that loses its socket comes back to it, with pauses
//! that grow and are never the same for two of a herd. How it stands is published as well, for readiness and metrics.

mod backoff;
mod ca;
mod ca_call;
mod endpoint;
mod sds;
mod status;
mod workload_api;

pub use backoff::{Patience, pause};
pub use ca::{FromCa, Paper, follow_ca};
pub use ca_call::Expected;
pub use endpoint::{Endpoint, EndpointError};
pub use sds::{SecretNames, follow_sds};
pub use status::{Fault, Status};
pub use workload_api::follow_workload_api;

use crate::material::Material;
use crate::surroundings::Surroundings;
use crate::text::printable;
use identity::SpiffeId;
use rpc::Channel;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tonic::Code;

/// What a source needs and publishes to.
#[derive(Debug)]
pub struct Source {
    /// Where the socket is.
    pub endpoint: Endpoint,
    /// The identity to take, where there are several, and the only one accepted. Without it, the first that is offered.
    pub expected: Option<SpiffeId>,
    /// Where the identity is published.
    pub identity: watch::Sender<Option<Arc<Material>>>,
    /// Where the source's state is published.
    pub status: watch::Sender<Status>,
    /// The clock and the randomness.
    pub surroundings: Surroundings,
}

/// One connection to a socket under some protocol, for as long as it lasts.
trait Session {
    /// Follows the socket; `delivered` says whether anything has been published on the way.
    fn run(&mut self, source: &Source, delivered: &mut bool) -> impl Future<Output = Broken> + Send;
}

impl Source {
    /// Follows the socket until dropped.
    async fn keep(&self, mut session: impl Session) {
        let mut attempt = 0;
        loop {
            let mut delivered = false;
            let broken = session.run(self, &mut delivered).await;
            self.fault(&broken.text);
            attempt = if delivered { 0 } else { attempt + 1 };
            let left = left(&self.identity, self.surroundings.now());
            tokio::time::sleep(pause(attempt, self.surroundings.random(), broken.patience, left)).await;
        }
    }

    async fn connect(&self) -> Result<Channel, Broken> {
        Channel::unix(self.endpoint.path(), CONNECT).await.map_err(|error| Broken::soon(error.to_string()))
    }

    /// Puts a verified identity in force, unless it is already.
    fn publish(&self, material: Material) {
        let now = self.surroundings.now();
        self.status.send_modify(|status| status.delivered(now));
        self.identity.send_if_modified(|published| {
            let same = published.as_ref().is_some_and(|old| old.version() == material.version());
            if !same {
                *published = Some(Arc::new(material));
            }
            !same
        });
    }

    fn fault(&self, text: &str) {
        let (text, now) = (printable(text), self.surroundings.now());
        self.status.send_modify(|status| status.failed(text, now));
    }
}

/// How long what is in force can still be shown; `None` where there is nothing, or nothing any more.
fn left(identity: &watch::Sender<Option<Arc<Material>>>, now: SystemTime) -> Option<Duration> {
    let expiry = identity.borrow().as_ref().map(|material| material.expiry());
    expiry.and_then(|expiry| expiry.duration_since(now).ok())
}

/// Why a connection came to its end.
#[derive(Debug)]
struct Broken {
    text: String,
    patience: Patience,
}

impl Broken {
    fn soon(text: String) -> Self {
        Self { text, patience: Patience::BackOff }
    }
}

impl From<tonic::Status> for Broken {
    /// `InvalidArgument` and `Unimplemented` are not to be retried (SPIFFE Workload Endpoint, Appendix A). A sidecar that gave up
    /// would have to be restarted by hand once the other end is mended, so it asks seldom instead.
    fn from(status: tonic::Status) -> Self {
        let patience = match status.code() {
            Code::InvalidArgument | Code::Unimplemented => Patience::Long,
            _ => Patience::BackOff,
        };
        Self { text: format!("{:?}: {}", status.code(), printable(status.message())), patience }
    }
}

/// How long a connection to the socket may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the first message of a Workload API may take, which comes "as soon as possible, without delay" (SPIFFE Workload
/// API §4.3).
const FIRST: Duration = Duration::from_secs(30);
/// Bytes of one message: a chain, a key, and as many roots as a bundle may hold.
const MESSAGE: usize = 4 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::papers::Pki;

    #[test]
    fn what_is_in_force_already_is_not_published_again() {
        let papers = Pki::new("example.org").papers("spiffe://example.org/ns/shop/sa/web");
        let read = || {
            let (chain, key, roots) = (papers.chain.as_bytes(), papers.key.as_bytes(), papers.roots.as_bytes());
            Material::from_pem(chain, key, roots, &papers.id, SystemTime::now()).unwrap()
        };
        let (identity, mut heard) = watch::channel(None);
        let source = Source {
            endpoint: Endpoint::parse("unix:///nowhere").unwrap(),
            expected: None,
            identity,
            status: watch::channel(Status::default()).0,
            surroundings: Surroundings::real(),
        };
        source.publish(read());
        assert!(heard.has_changed().unwrap() && heard.borrow_and_update().is_some());
        source.fault("away for a while");
        source.publish(read());
        // Nobody builds new TLS configurations for nothing, yet the fault is over.
        assert!(!heard.has_changed().unwrap());
        assert!(source.status.borrow().fault.is_none());
    }
}
