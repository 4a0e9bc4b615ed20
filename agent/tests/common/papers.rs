//! Certificates for the tests, made by our own CA, in PEM.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test uses a part; a failure in here is a failed test

use identity::{SpiffeId, TrustDomain};
use std::time::{Duration, SystemTime};

/// A root with its issuer.
pub struct Pki {
    root: String,
    issuer: ca::Issuer,
}

/// What one workload holds.
#[derive(Clone, Debug)]
pub struct Papers {
    pub id: SpiffeId,
    pub chain: String,
    pub key: String,
    pub roots: String,
    /// Of the leaf, in lower-case hex.
    pub serial: String,
}

impl Pki {
    pub fn new(trust_domain: &str) -> Self {
        let now = SystemTime::now();
        let authority = ca::Authority::init(&TrustDomain::parse(trust_domain).unwrap(), now).unwrap();
        let issuer = authority.intermediate(now).unwrap();
        Self { root: authority.root_pem(), issuer }
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    /// An hour for `id`.
    pub fn papers(&self, id: &str) -> Papers {
        self.papers_for(id, Duration::from_secs(3600))
    }

    pub fn papers_for(&self, id: &str, ttl: Duration) -> Papers {
        let id = SpiffeId::parse(id).unwrap();
        let (issued, key) = self
            .issuer
            .issue_with_new_key(&ca::attest::Attested::by_operator(id.clone()), ttl, SystemTime::now())
            .unwrap();
        Papers { id, chain: issued.chain_pem(), key, roots: self.root.clone(), serial: issued.serial }
    }
}

impl Papers {
    /// The same with the roots of others as well.
    pub fn and_roots(mut self, others: &[&Pki]) -> Self {
        self.roots.extend(others.iter().map(|other| other.root()));
        self
    }
}
