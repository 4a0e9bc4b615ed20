//! The Workload API over its socket, asked by the generated client: every code, and every push.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod common;

use agent::{Callers, Settings, Surroundings};
use common::papers::Pki;
use common::{Setting, Socket, WEB, eventually, material, own_user, soon};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status, Streaming};
use wire::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use wire::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509BundlesResponse,
    X509svidRequest, X509svidResponse,
};

fn with<T>(message: T, headers: &[&'static str]) -> Request<T> {
    let mut request = Request::new(message);
    for value in headers {
        request.metadata_mut().append("workload.spiffe.io", MetadataValue::<Ascii>::from_static(value));
    }
    request
}

async fn svids(socket: &Socket) -> Result<Streaming<X509svidResponse>, Status> {
    let mut client = SpiffeWorkloadApiClient::new(socket.channel().await);
    Ok(soon(client.fetch_x509svid(with(X509svidRequest {}, &["true"]))).await?.into_inner())
}

async fn bundles(socket: &Socket) -> Result<Streaming<X509BundlesResponse>, Status> {
    let mut client = SpiffeWorkloadApiClient::new(socket.channel().await);
    Ok(soon(client.fetch_x509_bundles(with(X509BundlesRequest {}, &["true"]))).await?.into_inner())
}

/// What each method answers to these headers, in the order of the service's definition.
async fn codes(socket: &Socket, headers: &[&'static str]) -> [Code; 5] {
    let mut client = SpiffeWorkloadApiClient::new(socket.channel().await);
    let code = |status: Option<Status>| status.map_or(Code::Ok, |status| status.code());
    [
        code(soon(client.fetch_x509svid(with(X509svidRequest {}, headers))).await.err()),
        code(soon(client.fetch_x509_bundles(with(X509BundlesRequest {}, headers))).await.err()),
        code(soon(client.fetch_jwtsvid(with(JwtsvidRequest::default(), headers))).await.err()),
        code(soon(client.fetch_jwt_bundles(with(JwtBundlesRequest {}, headers))).await.err()),
        code(soon(client.validate_jwtsvid(with(ValidateJwtsvidRequest::default(), headers))).await.err()),
    ]
}

#[tokio::test]
async fn every_method_needs_the_security_header_exactly() {
    let pki = Pki::new("example.org");
    let socket = Socket::serve(Some(&pki.papers(WEB)));
    for headers in [
        &[][..],
        &["True"],
        &["TRUE"],
        &["1"],
        &["false"],
        &["true "],
        &["true,true"],
        &["true", "true"],
        &["true", "false"],
        &[""],
    ] {
        assert_eq!(codes(&socket, headers).await, [Code::InvalidArgument; 5], "{headers:?}");
    }
    let [svid, bundle, jwt @ ..] = codes(&socket, &["true"]).await;
    assert_eq!([svid, bundle], [Code::Ok; 2]);
    assert_eq!(jwt, [Code::Unimplemented; 3]);
    assert_eq!(socket.events.count("refused jwt JWT-SVIDs are not served here"), 3);
}

#[tokio::test]
async fn the_first_message_is_the_full_state_at_once() {
    let (pki, other) = (Pki::new("example.org"), Pki::new("example.org"));
    let papers = pki.papers(WEB).and_roots(&[&other]);
    let socket = Socket::serve(Some(&papers));
    let own = material(&papers);

    let message = soon(svids(&socket).await.unwrap().message()).await.unwrap().unwrap();
    let [svid] = message.svids.as_slice() else { panic!("not one SVID") };
    assert_eq!(svid.spiffe_id, WEB);
    assert_eq!(identity::chain_from_der(&svid.x509_svid).unwrap(), own.chain());
    assert_eq!(svid.x509_svid_key, own.key().pkcs8());
    let roots: Vec<u8> = own.bundle().roots().iter().flat_map(|root| root.to_vec()).collect();
    assert_eq!(own.bundle().roots().len(), 2);
    assert_eq!(svid.bundle, roots);
    assert!(svid.hint.is_empty() && message.crl.is_empty() && message.federated_bundles.is_empty());

    let message = soon(bundles(&socket).await.unwrap().message()).await.unwrap().unwrap();
    assert_eq!(message.bundles, HashMap::from([("spiffe://example.org".to_owned(), roots)]));
}

#[tokio::test]
async fn before_there_is_an_identity_callers_are_told_to_come_back() {
    let pki = Pki::new("example.org");
    let socket = Socket::serve(None);
    assert_eq!(svids(&socket).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(bundles(&socket).await.unwrap_err().code(), Code::Unavailable);
    socket.publish(&pki.papers(WEB));
    soon(svids(&socket).await.unwrap().message()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_change_reaches_open_streams_and_a_bundle_that_stays_is_not_repeated() {
    let (pki, next) = (Pki::new("example.org"), Pki::new("example.org"));
    let first = pki.papers(WEB);
    let socket = Socket::serve(Some(&first));
    let (mut svids, mut bundles) = (svids(&socket).await.unwrap(), bundles(&socket).await.unwrap());
    soon(svids.message()).await.unwrap().unwrap();
    let before = soon(bundles.message()).await.unwrap().unwrap();

    // A new leaf: the stream of SVIDs hears of it.
    let second = pki.papers(WEB);
    socket.publish(&second);
    let message = soon(svids.message()).await.unwrap().unwrap();
    assert_eq!(identity::chain_from_der(&message.svids[0].x509_svid).unwrap(), material(&second).chain());
    let quiet = Duration::from_millis(300);
    tokio::time::timeout(quiet, bundles.message()).await.expect_err("the roots were the same");
    // The same once more: nobody hears of it.
    socket.publish(&second);
    tokio::time::timeout(quiet, svids.message()).await.expect_err("the leaf was the same");
    // Another root: both hear of it, and the stream of bundles of nothing before.
    let third = pki.papers(WEB).and_roots(&[&next]);
    socket.publish(&third);
    let message = soon(svids.message()).await.unwrap().unwrap();
    assert_eq!(identity::chain_from_der(&message.svids[0].x509_svid).unwrap(), material(&third).chain());
    let after = soon(bundles.message()).await.unwrap().unwrap();
    assert!(after.bundles["spiffe://example.org"].starts_with(&before.bundles["spiffe://example.org"]));
    assert!(after.bundles["spiffe://example.org"].len() > before.bundles["spiffe://example.org"].len());
    assert_eq!(socket.events.count("served x509_bundles"), 2);
    assert_eq!(socket.events.count("served x509_svid"), 3);
    assert_eq!(socket.events.count("connections 2"), 1);
}

#[tokio::test]
async fn what_has_expired_is_never_handed_out_and_ends_the_streams_that_hold_it() {
    let pki = Pki::new("example.org");
    // The clock stands still until it is set.
    let ahead = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&ahead);
    let began = SystemTime::now();
    let surroundings =
        Surroundings::new(move || began + Duration::from_secs(clock.load(Ordering::SeqCst)), || u64::MAX / 2);
    let socket = Socket::with(Some(&pki.papers(WEB)), Setting { surroundings, ..Setting::default() });
    let mut open = svids(&socket).await.unwrap();
    soon(open.message()).await.unwrap().unwrap();

    ahead.store(2 * 3600, Ordering::SeqCst);
    assert_eq!(svids(&socket).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(bundles(&socket).await.unwrap_err().code(), Code::Unavailable);
    // The stream that is open looks again when anything is published; expired things are no better for being published.
    socket.publish(&pki.papers(WEB));
    let end = soon(open.message()).await.unwrap_err();
    assert_eq!((end.code(), end.message().contains("expired")), (Code::Unavailable, true));
    assert_eq!(socket.events.count("served"), 1);
}

#[tokio::test]
async fn a_stream_whose_identity_expires_ends_by_itself() {
    let pki = Pki::new("example.org");
    let socket = Socket::serve(Some(&pki.papers_for(WEB, Duration::from_secs(3))));
    let mut open = svids(&socket).await.unwrap();
    soon(open.message()).await.unwrap().unwrap();
    assert_eq!(soon(open.message()).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn one_user_cannot_hold_streams_without_end() {
    let pki = Pki::new("example.org");
    let settings = Settings { streams_per_user: 3, ..Settings::default() };
    let socket = Socket::with(Some(&pki.papers(WEB)), Setting { settings, ..Setting::default() });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(svids(&socket).await.unwrap());
    }
    let refusal = bundles(&socket).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert!(refusal.message().contains("3 streams"), "{refusal}");
    drop(held.pop());
    socket.events.wait_for("streams x509_svid 2", 2).await;
    bundles(&socket).await.unwrap();
}

#[tokio::test]
async fn a_process_of_another_user_gets_no_answer() {
    let pki = Pki::new("example.org");
    let callers = Callers::only(own_user() + 1);
    let socket = Socket::with(Some(&pki.papers(WEB)), Setting { callers, ..Setting::default() });
    // The connection is cut: under the preface, or under the call.
    if let Ok(channel) = rpc::Channel::unix(&socket.path, common::SOON).await {
        let mut client = SpiffeWorkloadApiClient::new(channel);
        soon(client.fetch_x509svid(with(X509svidRequest {}, &["true"]))).await.unwrap_err();
    }
    eventually("the refusal", || (socket.events.count(&format!("user {} ", own_user())) > 0).then_some(())).await;
    assert_eq!(socket.events.count("served"), 0);
}
