//! The workload's own identity, served on one unix socket, and taken from such a socket.
//!
//! In comes a [`Material`] (certificate chain, key, roots; verified together) whenever it changes. Out it goes to the processes
//! of the pod: as the SPIFFE Workload API, and as Envoy's secret discovery. The sources are the other way round: they follow
//! somebody else's socket and publish what they hear once it is verified. Nothing is written to disk, and nothing that has
//! expired is handed out. Which process may connect at all is said by [`Callers`].
//!
//! | file | idea |
//! | --- | --- |
//! | `material` | chain, key and roots as one verified value |
//! | `callers` | which processes may connect |
//! | `streams` | how many streams one user may hold |
//! | `pushes` | when a change is handed on: spread over time, and never when it has expired |
//! | `readers` | whether all who take the identity from here have the one in force |
//! | `workload_api` | the server of the SPIFFE Workload API |
//! | `sds` | the server of Envoy's secret discovery |
//! | `source` | the client's side of both: follow, verify, publish, come back after a fault |
//! | `observer` | who hears of what happened |
//! | `surroundings` | the clock and the randomness |
//!
//! Sources: the SPIFFE standards "Workload API" and "Workload Endpoint"; the xDS protocol of Envoy, state of the world.

mod callers;
mod material;
mod observer;
mod pushes;
mod readers;
mod sds;
pub mod source;
mod streams;
mod surroundings;
mod text;
mod workload_api;

#[cfg(test)]
#[path = "../tests/common/papers.rs"]
mod papers;

pub use callers::Callers;
pub use material::{Material, MaterialError};
pub use observer::{Api, Observer};
pub use readers::Readers;
pub use surroundings::Surroundings;

use pushes::Pushes;
use rpc::Routes;
use sds::Sds;
use std::sync::Arc;
use std::time::Duration;
use streams::Streams;
use tokio::sync::watch;
use wire::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use wire::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use workload_api::WorkloadApi;

/// How the socket serves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Each stream hears of a change after a random part of this, so that the processes of a pod do not all shake hands anew
    /// in the same instant.
    pub splay: Duration,
    /// Streams that the processes of one user may hold at once. An Envoy holds one for each secret it names.
    pub streams_per_user: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { splay: Duration::from_millis(500), streams_per_user: 256 }
    }
}

/// The services of the socket, to be served by [`rpc::serve_unix`]. Over anything but a unix socket they refuse every request:
/// whoever reads an answer holds the key.
///
/// `identity` is `None` while there is no identity yet. `readers` are those of whoever publishes it.
pub fn routes(
    identity: watch::Receiver<Option<Arc<Material>>>,
    settings: Settings,
    surroundings: Surroundings,
    observer: Arc<dyn Observer>,
    readers: &Readers,
) -> Routes {
    let pushes = Pushes::new(identity, settings.splay, surroundings);
    let streams = Streams::new(settings.streams_per_user, observer, readers.clone());
    let workload_api = WorkloadApi::new(pushes.clone(), streams.clone());
    let sds = Sds::new(pushes, streams);
    Routes::default()
        .with(SpiffeWorkloadApiServer::new(workload_api).max_decoding_message_size(workload_api::REQUEST))
        .with(SecretDiscoveryServiceServer::new(sds).max_decoding_message_size(sds::REQUEST))
}
