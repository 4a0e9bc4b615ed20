//! A cluster whose API server gives its keys and its word on tokens.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ca_server::Server;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use identity::{Credentials, SpiffeId, TrustDomain, stranger_to_identity};
use rpc::{Channel, Limits, Refused, Routes, Watcher};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;
use wire::istio::v1::auth::IstioCertificateRequest;
use wire::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_the_cluster_and_new_ones_when_a_token_names_them() {
    let scene = Scene::begin(false).await;
    let first = Key::new("first");
    scene.cluster.publish(&[&first]);
    scene.until_issued(&first, "a").await;
    assert_eq!(scene.cluster.asked("/apis/"), 0);

    // Nobody asks again for minutes, were it not for the token.
    let second = Key::new("second");
    scene.cluster.publish(&[&second]);
    scene.until_issued(&second, "b").await;
    assert_eq!(scene.issue(&first, "c").await.unwrap_err().code(), Code::Unauthenticated);
    assert!(scene.cluster.bearers().iter().all(|bearer| bearer == "Bearer of the CA"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_cluster_is_asked_about_every_token_and_not_believed_about_another() {
    let scene = Scene::begin(true).await;
    let key = Key::new("first");
    scene.cluster.publish(&[&key]);
    scene.cluster.confirm(|pod| Some(pod.to_owned()));
    scene.until_issued(&key, "a").await;
    assert!(scene.cluster.asked("/apis/") > 0);

    scene.cluster.confirm(|_| None);
    let gone = scene.issue(&key, "b").await.unwrap_err();
    assert_eq!(gone.code(), Code::Unauthenticated, "{gone:?}");

    scene.cluster.confirm(|_| Some("6f1f0a5e-0000-4000-8000-00000000ffff".to_owned()));
    assert_eq!(scene.issue(&key, "c").await.unwrap_err().code(), Code::Unauthenticated);

    scene.cluster.stop.send(true).unwrap();
    let away = scene.until(&key, "d", Code::Unavailable).await;
    assert!(away.metadata().contains_key("retry-after"));
    scene.end().await;
}

/// A CA in this process, and the cluster beside it.
struct Scene {
    address: String,
    roots: identity::Bundle,
    cluster: Cluster,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn begin(strict: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let cluster = Cluster::start(dir).await;
        let (domain, now) = (TrustDomain::parse("example.org").unwrap(), SystemTime::now());
        let authority = ca::Authority::init(&domain, now).unwrap();
        authority.save(&dir.join("ca"), None).unwrap();
        ca::log::create(&dir.join("ca"), &domain, None, now).unwrap();
        let [port, admin, health] = ports().await;
        let text = format!(
            "schema = 1\ndir = \"ca\"\n[server]\nlisten = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{admin}\"\nhealth = \"127.0.0.1:{health}\"\n\
             [[cluster]]\nname = \"main\"\nissuer = \"https://cluster\"\napi = \"localhost:{}\"\napi_roots = \"api.pem\"\napi_token = \"own\"\nstrict = {strict}\n",
            cluster.port
        );
        fs::write(dir.join("own"), "of the CA\n").unwrap();
        let settings = config::parse_ca("ca.toml", &text, dir).unwrap_or_else(|report| panic!("{report}"));
        let server = Server::open(&settings, None, Arc::new(|_, _| {}), now).unwrap();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(async move { server.run(None, stopped).await.unwrap() });
        let roots = authority.bundle().clone();
        Self { address: format!("127.0.0.1:{port}"), roots, cluster, stop, running, _folder: folder }
    }

    async fn issue(&self, key: &Key, pod: &str) -> Result<Vec<String>, Status> {
        let ca = Arc::new(SpiffeId::parse("spiffe://example.org/sekisho/ca").unwrap());
        let config = Arc::new(stranger_to_identity(&self.roots, ca, &[b"h2"]).unwrap());
        let name = "ca.invalid".try_into().unwrap();
        let channel = Channel::tls(&self.address, name, config, SOON).await;
        let channel = channel.map_err(|error| Status::aborted(error.to_string()))?;
        let csr = rcgen::CertificateParams::default().serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let message = IstioCertificateRequest { csr: csr.pem().unwrap(), ..IstioCertificateRequest::default() };
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", key.token(pod)).parse().unwrap());
        let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
        Ok(answer.into_inner().cert_chain)
    }

    async fn until_issued(&self, key: &Key, pod: &str) {
        let begin = SystemTime::now();
        loop {
            match self.issue(key, pod).await {
                Ok(chain) => return assert_eq!(chain.len(), 3),
                Err(status) => assert!(begin.elapsed().unwrap() < SOON, "{status:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until(&self, key: &Key, pod: &str, code: Code) -> Status {
        let begin = SystemTime::now();
        loop {
            let answer = self.issue(key, pod).await;
            match answer {
                Err(status) if status.code() == code => return status,
                other => assert!(begin.elapsed().unwrap() < SOON, "{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(SOON, self.running).await.unwrap().unwrap();
    }
}

/// Three ports that were free a moment ago.
async fn ports() -> [u16; 3] {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listeners = [bind().await, bind().await, bind().await];
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A key that signs tokens.
struct Key(&'static str, EcdsaKeyPair);

impl Key {
    fn new(name: &'static str) -> Self {
        Self(name, EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.1.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.0, "alg": "ES256", "use": "sig", "x": text(&point[1..33]), "y": text(&point[33..]) })
    }

    fn token(&self, pod: &str) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": "https://cluster", "aud": ["sekisho-ca"], "sub": "system:serviceaccount:shop:web",
            "iat": now, "nbf": now, "exp": now + 600, "jti": format!("jti-{pod}"),
            "kubernetes.io": {
                "namespace": "shop",
                "serviceaccount": { "name": "web", "uid": "6f1f0a5e-0000-4000-8000-000000000001" },
                "pod": { "name": format!("web-{pod}"), "uid": uid(pod) },
            },
        });
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(&json!({ "alg": "ES256", "kid": self.0 })), text(&claims));
        let signature = self.1.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn uid(pod: &str) -> String {
    format!("6f1f0a5e-0000-4000-8000-{:012x}", u64::from(pod.as_bytes()[0]))
}

/// What a cluster would answer, and what it was asked.
#[derive(Default)]
struct Words {
    jwks: String,
    confirms: Option<fn(&str) -> Option<String>>,
    asked: Vec<(String, String)>,
}

struct Cluster {
    port: u16,
    words: Arc<Mutex<Words>>,
    stop: watch::Sender<bool>,
}

impl Cluster {
    async fn start(dir: &Path) -> Self {
        let (domain, now) = (TrustDomain::parse("cluster.test").unwrap(), SystemTime::now());
        let authority = ca::Authority::init(&domain, now).unwrap();
        fs::write(dir.join("api.pem"), authority.root_pem()).unwrap();
        let id = SpiffeId::parse("spiffe://cluster.test/api").unwrap();
        let names = ["localhost".to_owned()];
        let (issued, key) = authority.intermediate(now).unwrap().issue_own(&id, &names, SOON * 100, now).unwrap();
        let credentials = Credentials::from_pem(
            issued.chain_pem().as_bytes(),
            key.as_bytes(),
            authority.root_pem().as_bytes(),
            &id,
            now,
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let words = Arc::new(Mutex::new(Words { jwks: json!({ "keys": [] }).to_string(), ..Words::default() }));
        let routes =
            Routes::default().with(OpenId(Answers(Arc::clone(&words)))).with(Apis(Answers(Arc::clone(&words))));
        let (_, tls) = watch::channel(credentials.reception_config(&[b"h2"]).unwrap());
        let (stop, stopped) = watch::channel(false);
        let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
        tokio::spawn(rpc::serve_tls(listener, tls, routes, limits, Arc::new(Deaf), stopped));
        Self { port, words, stop }
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.words.lock().unwrap().jwks = json!({ "keys": keys }).to_string();
    }

    /// What pod a review names; none: the token does not hold.
    fn confirm(&self, confirms: fn(&str) -> Option<String>) {
        self.words.lock().unwrap().confirms = Some(confirms);
    }

    fn asked(&self, prefix: &str) -> usize {
        self.words.lock().unwrap().asked.iter().filter(|(path, _)| path.starts_with(prefix)).count()
    }

    fn bearers(&self) -> Vec<String> {
        self.words.lock().unwrap().asked.iter().map(|(_, bearer)| bearer.clone()).collect()
    }
}

struct Deaf;

impl Watcher for Deaf {
    fn refused(&self, _: Option<SocketAddr>, _: &Refused) {}
    fn open(&self, _: usize) {}
}

#[derive(Clone)]
struct Answers(Arc<Mutex<Words>>);

impl Answers {
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let bearer = request.headers()["authorization"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut words = self.0.lock().unwrap();
        words.asked.push((path.clone(), bearer));
        let text = match path.as_str() {
            "/openid/v1/jwks" => words.jwks.clone(),
            "/apis/authentication.k8s.io/v1/tokenreviews" => {
                let asked: Value = serde_json::from_slice(&body).unwrap();
                let token = asked["spec"]["token"].as_str().unwrap();
                let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
                let claims: Value = serde_json::from_slice(&claims).unwrap();
                let pod = &claims["kubernetes.io"]["pod"];
                let named = words.confirms.and_then(|confirms| confirms(pod["uid"].as_str().unwrap()));
                let user = |uid: String| {
                    json!({
                        "username": claims["sub"], "uid": "6f1f0a5e-0000-4000-8000-000000000001",
                        "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
                        "extra": {
                            "authentication.kubernetes.io/pod-name": [pod["name"]],
                            "authentication.kubernetes.io/pod-uid": [uid],
                            "authentication.kubernetes.io/credential-id": [format!("JTI={}", claims["jti"].as_str().unwrap())],
                        },
                    })
                };
                let status = match named {
                    Some(uid) => {
                        json!({ "authenticated": true, "audiences": asked["spec"]["audiences"], "user": user(uid) })
                    }
                    None => json!({ "authenticated": false, "error": "pod not found" }),
                };
                json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": asked["spec"], "status": status }).to_string()
            }
            other => panic!("{other}"),
        };
        Response::new(Body::new(Full::new(Bytes::from(text))))
    }
}

macro_rules! mounted {
    ($name:ident at $at:literal) => {
        #[derive(Clone)]
        struct $name(Answers);

        impl NamedService for $name {
            const NAME: &'static str = $at;
        }

        impl Service<Request<Body>> for $name {
            type Response = Response<Body>;
            type Error = Infallible;
            type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<Body>) -> Self::Future {
                let answers = self.0.clone();
                Box::pin(async move { Ok(answers.answer(request).await) })
            }
        }
    };
}

mounted!(OpenId at "openid");
mounted!(Apis at "apis");
