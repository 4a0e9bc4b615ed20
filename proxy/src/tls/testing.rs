//! Two workloads of one root, for the tests of this room.
#![allow(clippy::unwrap_used)]

use identity::{Credentials, SpiffeId};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use std::{sync::Arc, time::SystemTime};

pub(super) const WEB: &str = "spiffe://example.org/ns/shop/sa/web";
pub(super) const ORDERS: &str = "spiffe://example.org/ns/shop/sa/orders";

/// A root that issues leaves.
pub(super) struct Root {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(super) struct Leaf {
    pub(super) id: SpiffeId,
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Root {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn leaf(&self, id: &str) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { id: SpiffeId::parse(id).unwrap(), certificate, key: key.serialize_pem() }
    }

    pub(super) fn credentials(&self, id: &str) -> Arc<Credentials> {
        self.credentials_of(&self.leaf(id))
    }

    pub(super) fn credentials_of(&self, leaf: &Leaf) -> Arc<Credentials> {
        let (certificate, key) = (leaf.certificate.as_bytes(), leaf.key.as_bytes());
        Credentials::from_pem(certificate, key, self.pem.as_bytes(), &leaf.id, SystemTime::now()).unwrap()
    }
}
