//! Secret discovery over its socket, asked by the generated client: names, nonces, refusals, pushes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod common;

use agent::Material;
use common::papers::Pki;
use common::{Socket, WEB, material, soon};
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use wire::envoy::config::core::v3::node::UserAgentVersionType;
use wire::envoy::config::core::v3::{BuildVersion, DataSource, Node, SemanticVersion, data_source};
use wire::envoy::extensions::transport_sockets::tls::v3::{Secret, SpiffeCertValidatorConfig, secret};
use wire::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use wire::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use wire::{Message, google};

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// One stream, as an Envoy holds it.
struct Envoy {
    requests: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Envoy {
    async fn open(socket: &Socket) -> Self {
        let (requests, received) = mpsc::channel(8);
        let mut client = SecretDiscoveryServiceClient::new(socket.channel().await);
        let answers = soon(client.stream_secrets(ReceiverStream::new(received))).await.unwrap().into_inner();
        Self { requests, answers }
    }

    async fn ask(&self, request: DiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn answer(&mut self) -> Result<DiscoveryResponse, Status> {
        soon(self.answers.message()).await.map(|answer| answer.expect("the stream has ended"))
    }

    /// Whether nothing comes while a later answer, to other names, could have.
    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.answers.message()).await.is_err()
    }
}

fn wants(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: SECRET.to_owned(),
        ..Default::default()
    }
}

fn after(answer: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest { version_info: answer.version_info.clone(), response_nonce: answer.nonce.clone(), ..wants(names) }
}

fn nack(answer: &DiscoveryResponse, names: &[&str], why: &str) -> DiscoveryRequest {
    let error_detail = Some(google::rpc::Status { code: 13, message: why.to_owned(), ..Default::default() });
    DiscoveryRequest { version_info: String::new(), error_detail, ..after(answer, names) }
}

fn secrets(answer: &DiscoveryResponse) -> Vec<(String, secret::Type)> {
    assert_eq!(answer.type_url, SECRET);
    let open = |any: &wire::Any| {
        assert_eq!(any.type_url, SECRET);
        let secret = Secret::decode(any.value.as_slice()).unwrap();
        (secret.name, secret.r#type.unwrap())
    };
    answer.resources.iter().map(open).collect()
}

fn text(source: Option<&DataSource>) -> String {
    match &source.unwrap().specifier {
        Some(data_source::Specifier::InlineBytes(bytes)) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Trust domain and PEM of roots in the form of the SPIFFE validator.
fn by_trust_domain(kind: &secret::Type) -> (String, String) {
    let secret::Type::ValidationContext(context) = kind else { panic!("{kind:?}") };
    assert!(context.trusted_ca.is_none());
    let config = context.custom_validator_config.as_ref().unwrap();
    assert_eq!(config.name, "envoy.tls.cert_validator.spiffe");
    let any = config.typed_config.as_ref().unwrap();
    assert!(any.type_url.ends_with("tls.v3.SPIFFECertValidatorConfig"));
    let config = SpiffeCertValidatorConfig::decode(any.value.as_slice()).unwrap();
    let [domain] = config.trust_domains.as_slice() else { panic!("{config:?}") };
    (domain.name.clone(), text(domain.trust_bundle.as_ref()))
}

fn is_certificate_of(kind: &secret::Type, own: &Material) -> bool {
    let secret::Type::TlsCertificate(certificate) = kind else { return false };
    let chain = identity::chain_from_pem(text(certificate.certificate_chain.as_ref()).as_bytes()).unwrap();
    let key = identity::PrivateKey::from_pem(text(certificate.private_key.as_ref()).as_bytes(), &chain[0]).unwrap();
    chain == own.chain() && key.pkcs8() == own.key().pkcs8()
}

#[tokio::test]
async fn each_name_means_what_it_means_to_spires_agent() {
    let papers = Pki::new("example.org").papers(WEB);
    let (socket, own) = (Socket::serve(Some(&papers)), material(&papers));
    let names = ["default", WEB, "ROOTCA", "spiffe://example.org", "ALL"];
    let mut envoy = Envoy::open(&socket).await;
    envoy.ask(wants(&names)).await;
    let answer = envoy.answer().await.unwrap();
    let secrets = secrets(&answer);
    assert_eq!(secrets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
    for (name, kind) in &secrets {
        if *name == "default" || name == WEB {
            assert!(is_certificate_of(kind, &own), "{name}");
        } else {
            assert_eq!(by_trust_domain(kind), ("example.org".to_owned(), papers.roots.clone()), "{name}");
        }
    }
    assert_eq!(answer.version_info, own.version());
    // The same by the call that is no stream.
    let mut client = SecretDiscoveryServiceClient::new(socket.channel().await);
    let fetched = soon(client.fetch_secrets(wants(&names))).await.unwrap().into_inner();
    assert_eq!(fetched.resources, answer.resources);
}

#[tokio::test]
async fn an_old_envoy_gets_plain_roots() {
    let papers = Pki::new("example.org").papers(WEB);
    let socket = Socket::serve(Some(&papers));
    let version = Some(SemanticVersion { major_number: 1, minor_number: 17, patch: 4 });
    let build = UserAgentVersionType::UserAgentBuildVersion(BuildVersion { version, metadata: None });
    let node = Some(Node { user_agent_version_type: Some(build), ..Default::default() });
    let mut envoy = Envoy::open(&socket).await;
    envoy.ask(DiscoveryRequest { node, ..wants(&["ROOTCA"]) }).await;
    let secrets = secrets(&envoy.answer().await.unwrap());
    let secret::Type::ValidationContext(context) = &secrets[0].1 else { panic!("{secrets:?}") };
    assert!(context.custom_validator_config.is_none());
    assert_eq!(text(context.trusted_ca.as_ref()), papers.roots);
}

#[tokio::test]
async fn one_name_that_is_not_ours_refuses_the_whole_request() {
    let socket = Socket::serve(Some(&Pki::new("example.org").papers(WEB)));
    let many: Vec<String> = (0..17).map(|i| format!("n{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(2049);
    for names in [
        &["nobody"][..],
        &["default", "nobody"],
        &["spiffe://example.org/ns/shop/sa/db"],
        &["spiffe://example.com"],
        &["spiffe://example.org/"],
        &["DEFAULT"],
        &["rootca"],
        &[""],
        &[],
        &many,
        &[&long],
        &["file-cert:/etc/passwd"],
    ] {
        let mut envoy = Envoy::open(&socket).await;
        envoy.ask(wants(names)).await;
        assert_eq!(envoy.answer().await.unwrap_err().code(), Code::InvalidArgument, "{names:?}");
        let mut client = SecretDiscoveryServiceClient::new(socket.channel().await);
        let refusal = soon(client.fetch_secrets(wants(names))).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{names:?}");
    }
    let mut envoy = Envoy::open(&socket).await;
    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    envoy.ask(DiscoveryRequest { type_url, ..wants(&["default"]) }).await;
    assert_eq!(envoy.answer().await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(socket.events.count("served secrets"), 0);
}

#[tokio::test]
async fn a_rotation_is_pushed_to_each_stream_with_what_it_subscribed_to() {
    let pki = Pki::new("example.org");
    let socket = Socket::serve(Some(&pki.papers(WEB)));
    let (mut cert, mut roots) = (Envoy::open(&socket).await, Envoy::open(&socket).await);
    cert.ask(wants(&["default"])).await;
    roots.ask(wants(&["ROOTCA"])).await;
    let (first, first_roots) = (cert.answer().await.unwrap(), roots.answer().await.unwrap());
    cert.ask(after(&first, &["default"])).await;
    roots.ask(after(&first_roots, &["ROOTCA"])).await;

    let next = Pki::new("example.org");
    let papers = next.papers(WEB).and_roots(&[&pki]);
    socket.publish(&papers);
    let (second, second_roots) = (cert.answer().await.unwrap(), roots.answer().await.unwrap());
    assert_ne!(second.version_info, first.version_info);
    assert_ne!(second.nonce, first.nonce);
    let pushed = secrets(&second);
    assert_eq!((pushed.len(), pushed[0].0.as_str()), (1, "default"));
    assert!(is_certificate_of(&pushed[0].1, &material(&papers)));
    assert_eq!(by_trust_domain(&secrets(&second_roots)[0].1).1, papers.roots);
}

#[tokio::test]
async fn a_rejection_is_told_and_not_answered_until_something_changes() {
    let pki = Pki::new("example.org");
    let socket = Socket::serve(Some(&pki.papers(WEB)));
    let mut envoy = Envoy::open(&socket).await;
    envoy.ask(wants(&["default"])).await;
    let answer = envoy.answer().await.unwrap();
    envoy.ask(nack(&answer, &["default"], "no\nuse")).await;
    socket.events.wait_for(&format!("rejected {} no?use", answer.version_info), 1).await;
    assert!(envoy.is_silent().await);
    socket.publish(&pki.papers(WEB));
    let next = envoy.answer().await.unwrap();
    assert_ne!(next.version_info, answer.version_info);
    // A rejection that asks for something else is answered for that.
    envoy.ask(nack(&next, &["ROOTCA"], "not this either")).await;
    assert_eq!(secrets(&envoy.answer().await.unwrap())[0].0, "ROOTCA");
}

#[tokio::test]
async fn an_old_nonce_is_not_heard() {
    let pki = Pki::new("example.org");
    let socket = Socket::serve(Some(&pki.papers(WEB)));
    let mut envoy = Envoy::open(&socket).await;
    envoy.ask(wants(&["default"])).await;
    let first = envoy.answer().await.unwrap();
    socket.publish(&pki.papers(WEB));
    let second = envoy.answer().await.unwrap();
    // What it says about the first answer crossed the second; not even other names count.
    envoy.ask(after(&first, &["nobody"])).await;
    socket.events.wait_for("stale", 1).await;
    assert!(envoy.is_silent().await);
    envoy.ask(after(&second, &["ALL"])).await;
    assert_eq!(secrets(&envoy.answer().await.unwrap())[0].0, "ALL");
}

#[tokio::test]
async fn other_names_on_the_stream_are_answered_and_none_are_an_end_of_subscription() {
    let pki = Pki::new("example.org");
    let socket = Socket::serve(Some(&pki.papers(WEB)));
    let mut envoy = Envoy::open(&socket).await;
    envoy.ask(wants(&["default"])).await;
    let answer = envoy.answer().await.unwrap();
    envoy.ask(after(&answer, &["default"])).await;
    envoy.ask(after(&answer, &["default", "ROOTCA", "ROOTCA"])).await;
    let both = envoy.answer().await.unwrap();
    assert_eq!(secrets(&both).len(), 2);
    envoy.ask(after(&both, &[])).await;
    // The next push would have to come within the splay.
    tokio::time::sleep(Duration::from_millis(100)).await;
    socket.publish(&pki.papers(WEB));
    assert!(envoy.is_silent().await);
    envoy.ask(after(&both, &["default"])).await;
    assert_eq!(secrets(&envoy.answer().await.unwrap()).len(), 1);
}

#[tokio::test]
async fn a_stream_opened_before_there_is_an_identity_is_answered_when_there_is_one() {
    let papers = Pki::new("example.org").papers(WEB);
    let socket = Socket::serve(None);
    let mut envoy = Envoy::open(&socket).await;
    envoy.ask(wants(&[WEB])).await;
    assert!(envoy.is_silent().await);
    let mut client = SecretDiscoveryServiceClient::new(socket.channel().await);
    assert_eq!(soon(client.fetch_secrets(wants(&[WEB]))).await.unwrap_err().code(), Code::Unavailable);
    socket.publish(&papers);
    assert!(is_certificate_of(&secrets(&envoy.answer().await.unwrap())[0].1, &material(&papers)));
}

#[tokio::test]
async fn what_has_expired_is_not_handed_out() {
    let pki = Pki::new("example.org");
    let socket = Socket::serve(Some(&pki.papers_for(WEB, Duration::from_secs(2))));
    let expiry = socket.identity.borrow().as_ref().unwrap().expiry();
    while socket.identity.borrow().as_ref().unwrap().is_current(std::time::SystemTime::now()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(std::time::SystemTime::now() > expiry);
    let mut envoy = Envoy::open(&socket).await;
    envoy.ask(wants(&["default"])).await;
    assert!(envoy.is_silent().await);
    socket.publish(&pki.papers(WEB));
    envoy.answer().await.unwrap();
}
