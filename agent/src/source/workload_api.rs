//! Following a SPIFFE Workload API.
//!
//! Each message is the full state (§4.3). Of several SVIDs the expected one is taken, or the first, which is the default identity
//! (§5.3). A message without a field that is mandatory, or without our identity, is reported and passed over (§4.5), and so is
//! `PermissionDenied`: what is in force stays so until it expires, since an agent that has lost its registrations for a while
//! must not stop the traffic. Whoever wants it to end at once removes the rules that allow it.

use super::{Broken, FIRST, MESSAGE, Session, Source};
use crate::material::{Material, MaterialError};
use crate::text::printable;
use crate::workload_api::HEADER;
use identity::{IdError, SpiffeId};
use std::fmt;
use std::time::SystemTime;
use tonic::Request;
use tonic::metadata::MetadataValue;
use wire::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use wire::workload::{X509svid, X509svidRequest, X509svidResponse};

/// Follows the Workload API of `source` until dropped.
pub async fn follow_workload_api(source: Source) {
    source.keep(WorkloadApi).await;
}

struct WorkloadApi;

impl Session for WorkloadApi {
    async fn run(&mut self, source: &Source, delivered: &mut bool) -> Broken {
        match follow(source, delivered).await {
            Ok(()) => Broken::soon("the other end has ended the stream".to_owned()),
            Err(broken) => broken,
        }
    }
}

async fn follow(source: &Source, delivered: &mut bool) -> Result<(), Broken> {
    let mut client = SpiffeWorkloadApiClient::new(source.connect().await?).max_decoding_message_size(MESSAGE);
    let mut request = Request::new(X509svidRequest {});
    request.metadata_mut().insert(HEADER, MetadataValue::from_static("true"));
    let late = |_elapsed| Broken::soon(format!("nothing came within {} s", FIRST.as_secs()));
    let mut messages = tokio::time::timeout(FIRST, client.fetch_x509svid(request)).await.map_err(late)??.into_inner();
    let mut message = tokio::time::timeout(FIRST, messages.message()).await.map_err(late)??;
    while let Some(state) = message {
        match chosen(state, source.expected.as_ref(), source.surroundings.now()) {
            Ok(material) => {
                source.publish(material);
                *delivered = true;
            }
            Err(unusable) => source.fault(&unusable.to_string()),
        }
        message = messages.message().await?;
    }
    Ok(())
}

/// The identity that we take from a message.
fn chosen(state: X509svidResponse, expected: Option<&SpiffeId>, now: SystemTime) -> Result<Material, Unusable> {
    let ours = |svid: &X509svid| expected.is_none_or(|expected| svid.spiffe_id == expected.as_str());
    let svid = state.svids.into_iter().find(ours).ok_or_else(|| Unusable::NotOffered(expected.cloned()))?;
    let id =
        SpiffeId::parse(&svid.spiffe_id).map_err(|error| Unusable::Name { text: printable(&svid.spiffe_id), error })?;
    Material::from_der(&svid.x509_svid, svid.x509_svid_key, &svid.bundle, &id, now).map_err(Unusable::Material)
}

/// Why a message is passed over.
#[derive(Debug)]
enum Unusable {
    NotOffered(Option<SpiffeId>),
    Name { text: String, error: IdError },
    Material(MaterialError),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOffered(None) => f.write_str("no identity is offered (SPIFFE Workload API §5.2.1)"),
            Self::NotOffered(Some(expected)) => write!(f, "`{expected}` is not among the identities offered"),
            Self::Name { text, error } => write!(f, "`{text}` is offered, which is no SPIFFE ID: {error}"),
            Self::Material(error) => error.fmt(f),
        }
    }
}
