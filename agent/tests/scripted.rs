//! Our clients on sockets that say what a test wants: lies, halves, codes, and the forms that other servers use.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod common;

use agent::source::{Endpoint, SecretNames, Source, Status as State, follow_sds, follow_workload_api};
use agent::{Material, Surroundings};
use common::papers::{Papers, Pki};
use common::{Events, WEB, eventually, material};
use identity::SpiffeId;
use rpc::{Limits, Routes};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::sync::{mpsc, watch};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::envoy::config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier};
use wire::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;
use wire::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret,
};
use wire::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use wire::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use wire::workload::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use wire::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
};
use wire::{Any, Message};

const DB: &str = "spiffe://example.org/ns/shop/sa/db";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// What is said on one call: messages, or a refusal.
type Answer = Result<Vec<X509svidResponse>, Status>;

/// Says of each call in turn what it is told, and keeps the metadata it was asked with.
#[derive(Clone, Default)]
struct Scripted {
    calls: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn of(calls: impl IntoIterator<Item = Answer>) -> Self {
        Self { calls: Arc::new(Mutex::new(calls.into_iter().collect())), ..Self::default() }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The messages, and then nothing; the stream stays open.
fn stay<M: Send + 'static>(messages: Vec<M>) -> ReceiverStream<Result<M, Status>> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        for message in messages {
            let _ = sender.send(Ok(message)).await;
        }
        sender.closed().await;
    });
    ReceiverStream::new(receiver)
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Scripted {
    type FetchX509SVIDStream = ReceiverStream<Result<X509svidResponse, Status>>;
    type FetchX509BundlesStream = ReceiverStream<Result<X509BundlesResponse, Status>>;
    type FetchJWTBundlesStream = ReceiverStream<Result<JwtBundlesResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let values: Vec<_> = request.metadata().get_all("workload.spiffe.io").iter().collect();
        self.asked.lock().unwrap().push(format!("{values:?}"));
        let next = self.calls.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Ok(Vec::new())).map(|messages| Response::new(stay(messages)))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        unreachable!()
    }

    async fn fetch_jwtsvid(&self, _: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        unreachable!()
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        unreachable!()
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        unreachable!()
    }
}

/// Answers each request with the next of its answers, and keeps the requests.
#[derive(Clone, Default)]
struct ScriptedSds {
    answers: Arc<Mutex<VecDeque<Vec<Secret>>>>,
    requests: Arc<Mutex<Vec<DiscoveryRequest>>>,
}

#[tonic::async_trait]
impl SecretDiscoveryService for ScriptedSds {
    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        let (script, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let mut count = 0;
            while let Ok(Some(request)) = requests.message().await {
                script.requests.lock().unwrap().push(request);
                let answer = script.answers.lock().unwrap().pop_front();
                let Some(secrets) = answer else { continue };
                count += 1;
                let pack = |secret: Secret| Any { type_url: SECRET.to_owned(), value: secret.encode_to_vec() };
                let answer = DiscoveryResponse {
                    version_info: format!("v{count}"),
                    nonce: format!("n{count}"),
                    type_url: SECRET.to_owned(),
                    resources: secrets.into_iter().map(pack).collect(),
                    control_plane: None,
                };
                let _ = sender.send(Ok(answer)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        unreachable!()
    }
}

struct Scene {
    identity: watch::Receiver<Option<Arc<Material>>>,
    state: watch::Receiver<State>,
    _stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

fn serve(routes: Routes) -> (PathBuf, watch::Sender<bool>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(rpc::serve_unix(
        rpc::bind_unix(&path, 0o600).unwrap(),
        Arc::new(|_| Ok(())),
        routes,
        Limits::default(),
        Arc::new(Events::default()),
        stopped,
    ));
    (path, stop, folder)
}

impl Scene {
    fn workload_api(script: &Scripted, expected: Option<&str>) -> Self {
        Self::new(Routes::default().with(SpiffeWorkloadApiServer::new(script.clone())), expected, |source| {
            tokio::spawn(follow_workload_api(source));
        })
    }

    fn sds(script: &ScriptedSds, expected: Option<&str>) -> Self {
        Self::new(Routes::default().with(SecretDiscoveryServiceServer::new(script.clone())), expected, |source| {
            tokio::spawn(follow_sds(source, SecretNames::default()));
        })
    }

    fn new(routes: Routes, expected: Option<&str>, follow: impl FnOnce(Source)) -> Self {
        let (path, stop, folder) = serve(routes);
        let (publish, identity) = watch::channel(None);
        let (tell, state) = watch::channel(State::default());
        follow(Source {
            endpoint: Endpoint::parse(&format!("unix://{}", path.display())).unwrap(),
            expected: expected.map(|id| SpiffeId::parse(id).unwrap()),
            identity: publish,
            status: tell,
            // The shortest of pauses.
            surroundings: Surroundings::new(SystemTime::now, || 0),
        });
        Self { identity, state, _stop: stop, _folder: folder }
    }

    async fn fault(&self, part: &str) {
        eventually(part, || {
            self.state.borrow().fault.as_ref().is_some_and(|fault| fault.text.contains(part)).then_some(())
        })
        .await;
    }

    async fn has(&self, papers: &Papers) {
        let version = material(papers).version().to_owned();
        eventually(&format!("{}; {:?}", papers.id, self.state), || {
            self.identity.borrow().as_ref().is_some_and(|held| held.version() == version).then_some(())
        })
        .await;
    }
}

fn svid(papers: &Papers) -> X509svid {
    let own = material(papers);
    let row = |der: &[identity::CertificateDer<'_>]| der.iter().flat_map(|der| der.to_vec()).collect();
    X509svid {
        spiffe_id: papers.id.to_string(),
        x509_svid: row(own.chain()),
        x509_svid_key: own.key().pkcs8().to_vec(),
        bundle: row(own.bundle().roots()),
        hint: String::new(),
    }
}

fn message(svids: impl IntoIterator<Item = X509svid>) -> X509svidResponse {
    X509svidResponse { svids: svids.into_iter().collect(), ..Default::default() }
}

#[tokio::test]
async fn what_does_not_verify_is_reported_and_never_published() {
    let (pki, other) = (Pki::new("example.org"), Pki::new("example.org"));
    let (web, db) = (svid(&pki.papers(WEB)), svid(&pki.papers(DB)));
    let spoilt = |spoil: fn(&mut X509svid, &X509svid)| {
        let mut svid = web.clone();
        spoil(&mut svid, &db);
        svid
    };
    let foreign = svid(&other.papers(WEB));
    for (svids, complaint) in [
        (vec![], "no identity is offered"),
        (vec![spoilt(|svid, other| svid.spiffe_id.clone_from(&other.spiffe_id))], "the workload is `spiffe://"),
        (vec![spoilt(|svid, _| svid.spiffe_id.clear())], "which is no SPIFFE ID"),
        (vec![spoilt(|svid, _| svid.spiffe_id = "https://x/\u{1b}[2J".to_owned())], "`https://x/?[2J` is offered"),
        (vec![spoilt(|svid, _| svid.spiffe_id = "spiffe://example.com/a".to_owned())], "the bundle"),
        (vec![spoilt(|svid, _| svid.x509_svid.clear())], "the certificate chain: no certificate"),
        (vec![spoilt(|svid, _| svid.x509_svid.push(0))], "the certificate chain"),
        (vec![spoilt(|svid, _| svid.x509_svid.truncate(100))], "the certificate chain"),
        (vec![spoilt(|svid, _| svid.x509_svid = svid.x509_svid.repeat(4))], "more certificates than"),
        (vec![spoilt(|svid, _| svid.x509_svid_key.clear())], "the private key is not usable"),
        (vec![spoilt(|svid, other| svid.x509_svid_key.clone_from(&other.x509_svid_key))], "does not belong"),
        (vec![spoilt(|svid, _| svid.bundle.clear())], "the bundle holds no certificate"),
        (vec![spoilt(|svid, _| svid.bundle.clone_from(&svid.x509_svid))], "the bundle"),
        (vec![X509svid { bundle: foreign.bundle.clone(), ..web.clone() }], "no root of the trust bundle"),
    ] {
        let script = Scripted::of([Ok(vec![message(svids)])]);
        let scene = Scene::workload_api(&script, None);
        scene.fault(complaint).await;
        assert!(scene.identity.borrow().is_none(), "{complaint}");
        assert!(scene.state.borrow().delivered.is_none());
    }
}

#[tokio::test]
async fn of_several_identities_the_expected_one_is_taken_or_the_first() {
    let pki = Pki::new("example.org");
    let (web, db) = (pki.papers(WEB), pki.papers(DB));
    let script = || Scripted::of([Ok(vec![message([svid(&db), svid(&web)])])]);
    Scene::workload_api(&script(), Some(WEB)).has(&web).await;
    Scene::workload_api(&script(), None).has(&db).await;
    Scene::workload_api(&script(), Some("spiffe://example.org/x")).fault("is not among the identities offered").await;
}

#[tokio::test]
async fn what_may_pass_is_asked_for_again_with_the_header_each_time() {
    let papers = Pki::new("example.org").papers(WEB);
    let refusals = [Status::unavailable("soon"), Status::permission_denied("not yet"), Status::internal("x")];
    let script = Scripted::of(refusals.into_iter().map(Err).chain([Ok(vec![message([svid(&papers)])])]));
    let scene = Scene::workload_api(&script, Some(WEB));
    scene.has(&papers).await;
    assert_eq!(script.asked(), vec!["[\"true\"]"; 4]);
    assert!(scene.state.borrow().fault.is_none());
}

#[tokio::test]
async fn what_needs_mending_is_not_asked_for_again_at_once() {
    for refusal in [Status::invalid_argument("header"), Status::unimplemented("nothing here")] {
        let name = format!("{:?}", refusal.code());
        let papers = Pki::new("example.org").papers(WEB);
        let script = Scripted::of([Err(refusal), Ok(vec![message([svid(&papers)])])]);
        let scene = Scene::workload_api(&script, Some(WEB));
        scene.fault(&name).await;
        // The shortest pause after anything else is none at all.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(script.asked().len(), 1);
    }
}

fn inline(text: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineString(text.to_owned())) })
}

fn certificate(papers: &Papers) -> Secret {
    let certificate = TlsCertificate { certificate_chain: inline(&papers.chain), private_key: inline(&papers.key) };
    Secret { name: "default".to_owned(), r#type: Some(secret::Type::TlsCertificate(certificate)) }
}

fn roots(context: CertificateValidationContext) -> Secret {
    Secret { name: "ROOTCA".to_owned(), r#type: Some(secret::Type::ValidationContext(context)) }
}

fn plain(papers: &Papers) -> Secret {
    roots(CertificateValidationContext { trusted_ca: inline(&papers.roots), ..Default::default() })
}

fn by_trust_domain(domains: &[(&str, &str)]) -> Secret {
    let trust_domains = domains
        .iter()
        .map(|(name, roots)| TrustDomain { name: (*name).to_owned(), trust_bundle: inline(roots) })
        .collect();
    let type_url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
    let config = SpiffeCertValidatorConfig { trust_domains }.encode_to_vec();
    roots(CertificateValidationContext {
        custom_validator_config: Some(TypedExtensionConfig {
            name: "envoy.tls.cert_validator.spiffe".to_owned(),
            typed_config: Some(Any { type_url: type_url.to_owned(), value: config }),
        }),
        ..Default::default()
    })
}

fn sds(answers: impl IntoIterator<Item = Vec<Secret>>) -> ScriptedSds {
    ScriptedSds { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Default::default() }
}

#[tokio::test]
async fn the_two_secrets_may_come_in_either_order_and_either_form() {
    let (pki, foreign) = (Pki::new("example.org"), Pki::new("example.com"));
    let papers = pki.papers(WEB);
    let both = by_trust_domain(&[("example.com", foreign.root()), ("example.org", &papers.roots)]);
    for answers in [
        vec![vec![certificate(&papers), plain(&papers)]],
        vec![vec![certificate(&papers)], vec![plain(&papers)]],
        vec![vec![plain(&papers)], vec![certificate(&papers)]],
        vec![vec![both.clone()], vec![certificate(&papers)]],
    ] {
        let count = answers.len();
        let script = sds(answers);
        let scene = Scene::sds(&script, Some(WEB));
        scene.has(&papers).await;
        // Each answer was acknowledged, under its version and nonce.
        eventually("the acknowledgement", || (script.requests.lock().unwrap().len() > count).then_some(())).await;
        let requests = script.requests.lock().unwrap().clone();
        let last = requests.last().unwrap();
        assert_eq!(
            (last.version_info.clone(), last.response_nonce.clone()),
            (format!("v{count}"), format!("n{count}"))
        );
        assert!(requests.iter().all(|request| request.error_detail.is_none() && request.type_url == SECRET));
        assert!(requests.iter().all(|request| request.resource_names == ["default", "ROOTCA"]));
        assert_eq!((requests[0].version_info.as_str(), requests[0].response_nonce.as_str()), ("", ""));
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_identity_is_rejected_and_the_last_good_one_stays() {
    let (pki, other) = (Pki::new("example.org"), Pki::new("example.org"));
    let (papers, db, next) = (pki.papers(WEB), pki.papers(DB), other.papers(WEB));
    let file = Some(DataSource { specifier: Some(Specifier::Filename("/etc/passwd".to_owned())) });
    let stranger = Secret { name: "other".to_owned(), ..certificate(&papers) };
    let swapped = Secret { name: "ROOTCA".to_owned(), ..certificate(&papers) };
    let mixed = Papers { key: db.key.clone(), ..papers.clone() };
    for (bad, complaint) in [
        (certificate(&db), "the workload is"),
        (certificate(&mixed), "does not belong"),
        (certificate(&next), "no root of the trust bundle"),
        (stranger, "was not asked for"),
        (swapped, "is of another kind"),
        (roots(CertificateValidationContext { trusted_ca: file, ..Default::default() }), "names a file"),
        (roots(CertificateValidationContext::default()), "lacks one of its parts"),
        (by_trust_domain(&[("example.com", &papers.roots)]), "there are no roots"),
        (by_trust_domain(&[("example.org", &papers.roots), ("example.org", other.root())]), "two sets"),
        (Secret { name: "default".to_owned(), r#type: None }, "is of another kind"),
    ] {
        let script = sds([vec![certificate(&papers), plain(&papers)], vec![bad]]);
        let scene = Scene::sds(&script, Some(WEB));
        scene.fault(complaint).await;
        scene.has(&papers).await;
        eventually("the rejection", || (script.requests.lock().unwrap().len() == 3).then_some(())).await;
        let rejection = script.requests.lock().unwrap()[2].clone();
        // What is in use is the first answer still; the nonce says which one is rejected.
        assert_eq!((rejection.version_info.as_str(), rejection.response_nonce.as_str()), ("v1", "n2"), "{complaint}");
        assert!(rejection.error_detail.unwrap().message.contains(complaint));
    }
}

#[tokio::test]
async fn a_new_certificate_that_comes_before_its_root_waits_for_it() {
    let (pki, next) = (Pki::new("example.org"), Pki::new("example.org"));
    let (before, after) = (pki.papers(WEB), next.papers(WEB).and_roots(&[&pki]));
    let script = sds([vec![certificate(&before), plain(&before)], vec![certificate(&after)], vec![plain(&after)]]);
    let scene = Scene::sds(&script, Some(WEB));
    scene.has(&after).await;
    let rejected: Vec<_> =
        script.requests.lock().unwrap().iter().map(|request| request.error_detail.is_some()).collect();
    assert_eq!(rejected[..3], [false, false, true]);
}
