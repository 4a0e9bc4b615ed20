//! The record of a certificate, from the certificate itself.

use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};
use identity::Svid;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::hash::{self, Hash};
use super::record::{Evidence, Issue, Lineage, Serial, Text};
use super::stamp::Stamp;

impl Issue {
    /// What there is to say of the leaf `der`. The name, number, key and date are those in the certificate, not
    /// those that somebody meant to put there. `None` when it is no X.509-SVID.
    pub fn of_leaf(
        der: &[u8],
        root: Text,
        evidence: Evidence,
        lineage: Lineage,
        holder: Text,
        caller: Option<SocketAddr>,
    ) -> Option<Self> {
        let svid = Svid::from_leaf(der).ok()?;
        let (_, leaf) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            serial: Serial::parse(svid.serial())?,
            id: svid.id().clone(),
            spki: Hash::of(leaf.public_key().raw),
            certificate: Hash::of(der),
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
        Self::of_leaf(leaf.contents(), root_id(root_pem)?, evidence, lineage, holder, caller)
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
