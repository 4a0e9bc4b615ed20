//! Calls of the Workload API without the metadata that keeps other protocols out: 43.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent::{Api, Callers, Material, Observer, Settings, Surroundings};
use identity::SpiffeId;
use rpc::{Channel, Limits, Process, Refused, Watcher};
use support::pki::Cert;
use support::scratch::Scratch;
use support::x509::Authority;
use tokio::sync::watch;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};
use wire::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use wire::workload::{JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509svidRequest};

use crate::{Vector, Verdict};

const ID: &str = "spiffe://example.org/ns/shop/sa/web";
const METHODS: [&str; 5] = ["FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"];

pub(crate) fn vectors() -> Vec<Vector> {
    let headers = [("no header", None), ("True", Some("True")), ("TRUE", Some("TRUE")), ("1", Some("1"))];
    let answers = ask(&headers.map(|(_, value)| value));
    let mut vectors = Vec::new();
    for ((name, _), answers) in headers.iter().zip(answers) {
        for (method, verdict) in METHODS.iter().zip(answers) {
            let name = format!("{name} to {method}");
            vectors.push(Vector::new(43, name, ("InvalidArgument", "workload.spiffe.io"), verdict));
        }
    }
    vectors
}

#[test]
fn with_the_header_identities_and_bundles_are_given() {
    let [svid, bundles, jwt @ ..] = &ask(&[Some("true")])[0];
    assert_eq!((svid, bundles), (&Ok(()), &Ok(())));
    for refused in jwt {
        assert_eq!(refused.as_ref().unwrap_err().0, "Unimplemented");
    }
}

/// What each method answers to each of these values of the header.
fn ask(headers: &[Option<&'static str>]) -> Vec<[Verdict; 5]> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let scratch = Scratch::new();
        let socket = scratch.join("agent.sock");
        let (_identity, published) = watch::channel(Some(material(&scratch)));
        let (_stop, stopped) = watch::channel(false);
        let routes = agent::routes(
            published,
            Settings::default(),
            Surroundings::real(),
            Arc::new(Deaf),
            &agent::Readers::default(),
        );
        let callers = Callers::only(std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()));
        let admit = Arc::new(move |process| callers.admit(process));
        let listener = rpc::bind_unix(&socket, 0o600).unwrap();
        let server = tokio::spawn(rpc::serve_unix(listener, admit, routes, Limits::default(), Arc::new(Deaf), stopped));
        let mut answers = Vec::new();
        for header in headers {
            let channel = Channel::unix(&socket, Duration::from_secs(20)).await.unwrap();
            let mut client = SpiffeWorkloadApiClient::new(channel);
            answers.push([
                verdict(client.fetch_x509svid(with(X509svidRequest {}, *header)).await.err()),
                verdict(client.fetch_x509_bundles(with(X509BundlesRequest {}, *header)).await.err()),
                verdict(client.fetch_jwtsvid(with(JwtsvidRequest::default(), *header)).await.err()),
                verdict(client.fetch_jwt_bundles(with(JwtBundlesRequest {}, *header)).await.err()),
                verdict(client.validate_jwtsvid(with(ValidateJwtsvidRequest::default(), *header)).await.err()),
            ]);
        }
        server.abort();
        answers
    })
}

fn with<T>(message: T, header: Option<&'static str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = header {
        request.metadata_mut().append("workload.spiffe.io", MetadataValue::<Ascii>::from_static(value));
    }
    request
}

fn verdict(refused: Option<Status>) -> Verdict {
    let Some(status) = refused else { return Ok(()) };
    let code: Code = status.code();
    Err((format!("{code:?}"), status.message().to_owned()))
}

fn material(scratch: &Scratch) -> Arc<Material> {
    let root = Authority::root("root");
    let files =
        Cert { chain: scratch.join("web.pem"), key: scratch.join("web.key"), bundle: scratch.join("roots.pem") };
    root.leaf(ID, |leaf| leaf).write(&files, &[&root]);
    let read = |path| fs::read(path).unwrap();
    let (chain, key, roots) = (read(&files.chain), read(&files.key), read(&files.bundle));
    Arc::new(Material::from_pem(&chain, &key, &roots, &SpiffeId::parse(ID).unwrap(), SystemTime::now()).unwrap())
}

/// Nobody listens.
struct Deaf;

impl Observer for Deaf {
    fn streams(&self, _: Api, _: usize) {}
    fn served(&self, _: Api, _: Process, _: &str) {}
    fn refused(&self, _: Api, _: Option<Process>, _: &str) {}
    fn rejected(&self, _: Process, _: &str, _: &str) {}
    fn stale(&self, _: Process) {}
}

impl Watcher for Deaf {
    fn refused(&self, _: Option<SocketAddr>, _: &Refused) {}
    fn open(&self, _: usize) {}
}
