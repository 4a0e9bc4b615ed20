//! The record of a certificate, from the certificate itself.

use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};
use identity::Svid;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::hash::{self, Hash};
use super::record::{Evidence, Issue, Lineage};
use super::stamp::Stamp;
use super::value::{Serial, Text};

impl Issue {
    /// What there is to say of a leaf. The name, number, key and date are those read in the certificate, not those that somebody
    /// meant to put there. `None` when its number is none of ours.
    pub fn of_svid(
        svid: &Svid,
        root: Text,
        evidence: Evidence,
        lineage: Lineage,
        holder: Text,
        caller: Option<SocketAddr>,
    ) -> Option<Self> {
        Some(Self {
            serial: Serial::parse(svid.serial())?,
            id: svid.id().clone(),
            spki: Hash::from_bytes(*svid.key_sha256()),
            certificate: Hash::from_bytes(*svid.hash()),
            not_after: Stamp::of(svid.not_after()),
            root,
            evidence,
            lineage,
            holder,
            caller,
        })
    }

    /// The same for the first certificate of a PEM chain and the PEM of its root.
    pub fn of_chain(
        chain_pem: &str,
        root_pem: &str,
        evidence: Evidence,
        lineage: Lineage,
        holder: Text,
        caller: Option<SocketAddr>,
    ) -> Option<Self> {
        let leaf = pem::parse(chain_pem).ok()?;
        let svid = Svid::from_leaf(leaf.contents()).ok()?;
        Self::of_svid(&svid, root_id(root_pem)?, evidence, lineage, holder, caller)
    }
}

/// The key id of a root, as its subject has it: the first 8 octets of the SHA-256 of its public key.
pub fn root_id(root_pem: &str) -> Option<Text> {
    let root = pem::parse(root_pem).ok()?;
    let (_, root) = X509Certificate::from_der(root.contents()).ok()?;
    let key = digest(&SHA256, &root.public_key().subject_public_key.data);
    let mut id = Vec::new();
    hash::push_hex(key.as_ref().first_chunk::<8>()?, &mut id);
    String::from_utf8(id).ok().map(|id| Text::bounded(&id))
}
