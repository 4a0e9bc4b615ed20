//! A generated service on a unix socket: who calls, what is not there, what ends when the server stops.

#![allow(clippy::unwrap_used, clippy::panic)] // a failure in here is a failed test

use rpc::{Caller, Channel, Limits, Process, Refused, Routes, Watcher, bind_unix, serve_unix};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status};
use wire::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use wire::istio::v1::auth::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use wire::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use wire::sekisho::ca::v1::trust_client::TrustClient;

const SOON: Duration = Duration::from_secs(20);

/// Answers with the user that it was told of.
struct Echo;

#[tonic::async_trait]
impl IstioCertificateService for Echo {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let caller = request.extensions().get::<Caller>().unwrap();
        assert!(caller.svid().is_none() && caller.address().is_none());
        let uid = caller.process().unwrap().uid.to_string();
        Ok(Response::new(IstioCertificateResponse { cert_chain: vec![uid, request.into_inner().csr] }))
    }
}

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    refused: AtomicUsize,
}

impl Watcher for Counts {
    fn refused(&self, address: Option<SocketAddr>, why: &Refused) {
        assert!(address.is_none() && matches!(why, Refused::Process(_)));
        self.refused.fetch_add(1, Ordering::SeqCst);
    }

    fn open(&self, connections: usize) {
        self.open.store(connections, Ordering::SeqCst);
    }
}

struct Scene {
    path: PathBuf,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn scene(admits: impl Fn(Process) -> Result<(), String> + Send + Sync + 'static) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = bind_unix(&path, 0o660).unwrap();
    let (stop, stopped) = watch::channel(false);
    let counts = Arc::new(Counts::default());
    let routes = Routes::default().with(IstioCertificateServiceServer::new(Echo));
    let server = tokio::spawn(serve_unix(
        listener,
        Arc::new(admits),
        routes,
        Limits::default(),
        Arc::clone(&counts) as Arc<dyn Watcher>,
        stopped,
    ));
    Scene { path, counts, stop, server, _folder: folder }
}

async fn call(path: &Path) -> Result<Vec<String>, Status> {
    let channel = Channel::unix(path, SOON).await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = IstioCertificateRequest { csr: "csr".to_owned(), ..Default::default() };
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
    Ok(answer.into_inner().cert_chain)
}

#[tokio::test]
async fn a_service_hears_which_process_calls() {
    let scene = scene(|_| Ok(()));
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    assert_eq!(call(&scene.path).await.unwrap(), [own.to_string(), "csr".to_owned()]);
    assert_eq!(std::fs::metadata(&scene.path).unwrap().permissions().mode() & 0o777, 0o660);
}

#[tokio::test]
async fn a_process_that_is_not_admitted_gets_no_answer() {
    let scene = scene(|process| Err(format!("not {}", process.uid)));
    assert_ne!(call(&scene.path).await.unwrap_err().code(), Code::Ok);
    assert_eq!(scene.counts.refused.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unimplemented() {
    let scene = scene(|_| Ok(()));
    let channel = Channel::unix(&scene.path, SOON).await.unwrap();
    let asked = TrustClient::new(channel).watch(tokio_stream_of_none()).await;
    assert_eq!(asked.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_the_server() {
    let scene = scene(|_| Ok(()));
    let channel = Channel::unix(&scene.path, SOON).await.unwrap();
    IstioCertificateServiceClient::new(channel.clone())
        .create_certificate(IstioCertificateRequest::default())
        .await
        .unwrap();
    assert_eq!(scene.counts.open.load(Ordering::SeqCst), 1);
    scene.stop.send(true).unwrap();
    tokio::time::timeout(SOON, scene.server).await.unwrap().unwrap();
    assert_eq!(scene.counts.open.load(Ordering::SeqCst), 0);
    tokio::time::timeout(SOON, async {
        while !channel.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[test]
fn a_file_in_the_way_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    std::fs::write(&path, "precious").unwrap();
    bind_unix(&path, 0o600).unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

fn tokio_stream_of_none() -> impl tonic::codegen::tokio_stream::Stream<Item = wire::sekisho::ca::v1::WatchRequest> {
    tonic::codegen::tokio_stream::empty()
}
