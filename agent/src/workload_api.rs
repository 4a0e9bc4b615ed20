//! The server of the SPIFFE Workload API: X.509-SVIDs and X.509 bundles.
//!
//! Every message is the full state. The first comes at once, or the call fails with `UNAVAILABLE` while there is nothing to
//! give; later ones come when the identity changes. JWT-SVIDs are not served, which the standard lets an operator decide.
//! Refused is every call without the metadata that keeps other protocols from being talked into asking (SPIFFE Workload
//! Endpoint §3, the guard against server-side request forgery).

use crate::material::Material;
use crate::observer::Api;
use crate::pushes::Pushes;
use crate::streams::{Place, Streams};
use identity::{Bundle, CertificateDer};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::workload::spiffe_workload_api_server::SpiffeWorkloadApi;
use wire::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
};

/// Bytes of a request: a JWT-SVID to validate would be the largest, and is refused anyway.
pub(crate) const REQUEST: usize = 16 * 1024;

/// The service.
pub(crate) struct WorkloadApi {
    pushes: Pushes,
    streams: Streams,
}

impl WorkloadApi {
    pub(crate) fn new(pushes: Pushes, streams: Streams) -> Self {
        Self { pushes, streams }
    }

    /// A stream of the identity's states as `face` shows them.
    fn stream<M: Send + 'static>(&self, place: Place, face: Face<M>) -> Result<Messages<M>, Status> {
        let mut pushes = self.pushes.clone();
        let first = pushes.now().map_err(|absent| place.refuse(absent.into()))?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(follow(pushes, first, place, sender, face));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    /// Refuses a call without the metadata, and one without a process behind it.
    fn admit<T>(&self, api: Api, request: &Request<T>) -> Result<rpc::Process, Status> {
        let process = self.streams.process(api, request)?;
        let mut values = request.metadata().get_all(HEADER).iter();
        match (values.next(), values.next()) {
            (Some(value), None) if value == "true" => Ok(process),
            _ => Err(self.streams.refuse(api, Some(process), Status::invalid_argument(WITHOUT_HEADER))),
        }
    }

    fn no_jwt<T, U>(&self, request: &Request<T>) -> Result<U, Status> {
        let process = self.admit(Api::Jwt, request)?;
        Err(self.streams.refuse(Api::Jwt, Some(process), Status::unimplemented(NO_JWT)))
    }
}

type Messages<M> = Response<ReceiverStream<Result<M, Status>>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = ReceiverStream<Result<X509svidResponse, Status>>;
    type FetchX509BundlesStream = ReceiverStream<Result<X509BundlesResponse, Status>>;
    type FetchJWTBundlesStream = ReceiverStream<Result<JwtBundlesResponse, Status>>;

    async fn fetch_x509svid(&self, request: Request<X509svidRequest>) -> Result<Messages<X509svidResponse>, Status> {
        let process = self.admit(Api::X509Svid, &request)?;
        self.stream(self.streams.begin(Api::X509Svid, process)?, SVID)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Messages<X509BundlesResponse>, Status> {
        let process = self.admit(Api::X509Bundles, &request)?;
        self.stream(self.streams.begin(Api::X509Bundles, process)?, BUNDLES)
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        self.no_jwt(&request)
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        self.no_jwt(&request)
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        self.no_jwt(&request)
    }
}

/// What one method shows of an identity.
struct Face<M> {
    message: fn(&Material) -> M,
    /// Whether both look the same; then the second is not sent.
    same: fn(&Material, &Material) -> bool,
}

const SVID: Face<X509svidResponse> = Face { message: svid, same: |a, b| a.version() == b.version() };
const BUNDLES: Face<X509BundlesResponse> =
    Face { message: bundles, same: |a, b| a.bundle().roots() == b.bundle().roots() };

/// One stream, until its caller leaves or there is nothing more to give.
async fn follow<M>(
    mut pushes: Pushes,
    mut material: Arc<Material>,
    place: Place,
    sender: mpsc::Sender<Result<M, Status>>,
    face: Face<M>,
) {
    let clock = pushes.clone();
    let mut last: Option<Arc<Material>> = None;
    loop {
        if last.as_deref().is_none_or(|last| !(face.same)(last, &material)) {
            // A caller that has not taken the message before is waited for: the newest state is sent, not each.
            if sender.send(Ok((face.message)(&material))).await.is_err() {
                return;
            }
            place.served(material.version());
            last = Some(Arc::clone(&material));
        }
        place.has(material.version());
        tokio::select! {
            () = pushes.changed() => {}
            () = clock.expiry_of(&material) => {}
            () = sender.closed() => return,
        }
        material = match pushes.now() {
            Ok(material) => material,
            Err(absent) => {
                let _ = sender.send(Err(place.refuse(absent.into()))).await;
                return;
            }
        };
    }
}

fn svid(material: &Material) -> X509svidResponse {
    X509svidResponse {
        svids: vec![X509svid {
            spiffe_id: material.id().to_string(),
            x509_svid: row(material.chain()),
            x509_svid_key: material.key().pkcs8().to_vec(),
            bundle: row(material.bundle().roots()),
            hint: String::new(),
        }],
        ..Default::default()
    }
}

fn bundles(material: &Material) -> X509BundlesResponse {
    X509BundlesResponse {
        bundles: HashMap::from([(trust_domain_id(material.bundle()), row(material.bundle().roots()))]),
        ..Default::default()
    }
}

/// The SPIFFE ID of a bundle's trust domain.
pub(crate) fn trust_domain_id(bundle: &Bundle) -> String {
    format!("spiffe://{}", bundle.trust_domain())
}

fn row(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    certificates.iter().flat_map(|certificate| certificate.iter().copied()).collect()
}

/// SPIFFE Workload Endpoint §3: the key; its one value is `true`.
pub(crate) const HEADER: &str = "workload.spiffe.io";
const WITHOUT_HEADER: &str = "the metadata `workload.spiffe.io: true` is missing (SPIFFE Workload Endpoint, section 3)";
const NO_JWT: &str = "JWT-SVIDs are not served here; X.509-SVIDs are";
