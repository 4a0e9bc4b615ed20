//! Our own clients on our own sockets: what is taken, what is not, and how a lost socket is come back to.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod common;

use agent::source::{Endpoint, SecretNames, Source, Status, follow_sds, follow_workload_api};
use agent::{Material, Surroundings};
use common::papers::{Papers, Pki};
use common::{Socket, WEB, eventually, material};
use identity::SpiffeId;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug)]
enum Protocol {
    WorkloadApi,
    Sds,
}

const BOTH: [Protocol; 2] = [Protocol::WorkloadApi, Protocol::Sds];

struct Client {
    identity: watch::Receiver<Option<Arc<Material>>>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

impl Client {
    fn follow(protocol: Protocol, endpoint: &str, expected: Option<&str>) -> Self {
        // Half of every pause.
        let surroundings = Surroundings::new(SystemTime::now, || u64::MAX / 2);
        let (publish, identity) = watch::channel(None);
        let (tell, status) = watch::channel(Status::default());
        let source = Source {
            endpoint: Endpoint::parse(endpoint).unwrap(),
            expected: expected.map(|id| SpiffeId::parse(id).unwrap()),
            identity: publish,
            status: tell,
            surroundings,
        };
        let task = match protocol {
            Protocol::WorkloadApi => tokio::spawn(follow_workload_api(source)),
            Protocol::Sds => tokio::spawn(follow_sds(source, SecretNames::default())),
        };
        Self { identity, status, task }
    }

    async fn has(&self, papers: &Papers) {
        let version = material(papers).version().to_owned();
        eventually("the identity", || {
            self.identity.borrow().as_ref().is_some_and(|held| held.version() == version).then_some(())
        })
        .await;
    }

    async fn fault(&self, part: &str) {
        eventually(part, || {
            self.status.borrow().fault.as_ref().is_some_and(|fault| fault.text.contains(part)).then_some(())
        })
        .await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn rotations_of_leaf_and_root_are_followed_on_one_connection() {
    for protocol in BOTH {
        let mut pki = Pki::new("example.org");
        let first = pki.papers(WEB);
        let socket = Socket::serve(Some(&first));
        let client = Client::follow(protocol, &socket.endpoint(), Some(WEB));
        client.has(&first).await;
        for _ in 0..3 {
            let next = Pki::new("example.org");
            for papers in [
                pki.papers(WEB),
                pki.papers(WEB).and_roots(&[&next]),
                next.papers(WEB).and_roots(&[&pki]),
                next.papers(WEB),
            ] {
                socket.publish(&papers);
                client.has(&papers).await;
                let held = client.identity.borrow().clone().unwrap();
                assert_eq!(held.key().pkcs8(), material(&papers).key().pkcs8());
                assert_eq!(held.id().as_str(), WEB);
            }
            pki = next;
        }
        let status = client.status.borrow().clone();
        assert!(status.fault.is_none() && status.delivered.is_some(), "{protocol:?}: {status:?}");
        assert_eq!(socket.events.count("connections 1"), 1, "{protocol:?}: {:?}", socket.events.all());
        assert_eq!(socket.events.count("rejected"), 0);
    }
}

#[tokio::test]
async fn a_source_waits_for_an_identity_that_is_not_there_yet() {
    for protocol in BOTH {
        let papers = Pki::new("example.org").papers(WEB);
        let socket = Socket::serve(None);
        let client = Client::follow(protocol, &socket.endpoint(), None);
        if let Protocol::WorkloadApi = protocol {
            client.fault("Unavailable: there is no identity yet").await;
        }
        assert!(client.identity.borrow().is_none());
        socket.publish(&papers);
        client.has(&papers).await;
        assert!(client.status.borrow().fault.is_none());
    }
}

#[tokio::test]
async fn an_identity_that_is_not_the_expected_one_is_not_taken() {
    let pki = Pki::new("example.org");
    for (protocol, complaint) in [
        (Protocol::WorkloadApi, "is not among the identities offered"),
        (Protocol::Sds, "the workload is `spiffe://example.org/ns/shop/sa/web`"),
    ] {
        let good = pki.papers(WEB);
        let socket = Socket::serve(Some(&good));
        let client = Client::follow(protocol, &socket.endpoint(), Some(WEB));
        client.has(&good).await;
        socket.publish(&pki.papers("spiffe://example.org/ns/shop/sa/db"));
        client.fault(complaint).await;
        // The last good one stays, and what is good again is taken.
        client.has(&good).await;
        if let Protocol::Sds = protocol {
            socket.events.wait_for("rejected", 1).await;
        }
        let again = pki.papers(WEB);
        socket.publish(&again);
        client.has(&again).await;
        assert!(client.status.borrow().fault.is_none());
    }
}

#[tokio::test]
async fn a_lost_socket_leaves_the_last_identity_in_force_and_is_come_back_to() {
    for protocol in BOTH {
        let pki = Pki::new("example.org");
        let first = pki.papers(WEB);
        let socket = Socket::serve(Some(&first));
        let client = Client::follow(protocol, &socket.endpoint(), Some(WEB));
        client.has(&first).await;
        let path = socket.path.clone();
        socket.kill();
        client.fault("").await;
        client.has(&first).await;

        // Another server at the same place.
        let second = pki.papers(WEB);
        let other = Socket::serve(Some(&second));
        eventually("the place", || std::fs::rename(&other.path, &path).ok()).await;
        client.has(&second).await;
        assert!(client.status.borrow().fault.is_none());
    }
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("unix://{}/nothing", folder.path().display());
    let client = Client::follow(Protocol::WorkloadApi, &endpoint, None);
    client.fault("no connection to the socket").await;
    eventually("the second attempt", || {
        client.status.borrow().fault.as_ref().is_some_and(|fault| fault.times > 1).then_some(())
    })
    .await;
}
