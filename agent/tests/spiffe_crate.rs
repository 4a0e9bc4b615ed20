//! The `spiffe` crate, a client by others, on our socket: it fetches, validates, and follows rotations on one stream.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod common;

use common::papers::Pki;
use common::{Socket, WEB, material, soon};
use spiffe::{TrustDomain, X509Source};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_spiffe_crate_fetches_validates_and_follows_three_rotations_of_the_root() {
    let mut pki = Pki::new("example.org");
    let first = pki.papers(WEB);
    let socket = Socket::serve(Some(&first));
    let source = soon(X509Source::builder().endpoint(socket.endpoint()).build()).await.unwrap();
    let mut updates = source.updated();
    assert_eq!(leaf(&source), material(&first).chain()[0].as_ref());
    assert_eq!(source.svid().unwrap().spiffe_id().to_string(), WEB);

    // The crate looks once before it stays, so its stream is counted from the first rotation on.
    let mut opened = None;
    for _ in 0..3 {
        let next = Pki::new("example.org");
        // Both roots, then the new issuer, then the old root goes.
        for (papers, roots) in
            [(pki.papers(WEB).and_roots(&[&next]), 2), (next.papers(WEB).and_roots(&[&pki]), 2), (next.papers(WEB), 1)]
        {
            socket.publish(&papers);
            soon(updates.changed()).await.unwrap();
            assert_eq!(leaf(&source), material(&papers).chain()[0].as_ref());
            let bundle = source.try_bundle_for_trust_domain(&TrustDomain::new("example.org").unwrap()).unwrap();
            assert_eq!(bundle.authorities().len(), roots);
            let now = (socket.events.count("streams x509_svid"), socket.events.count("connections"));
            assert_eq!(now, *opened.get_or_insert(now), "it came back instead of following: {:?}", socket.events.all());
        }
        pki = next;
    }
    source.shutdown().await;
}

fn leaf(source: &X509Source) -> Vec<u8> {
    source.svid().unwrap().cert_chain()[0].as_bytes().to_vec()
}
