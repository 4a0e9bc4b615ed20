//! Who is speaking: SPIFFE IDs, X.509-SVIDs, trust bundles, and the TLS configurations made of them.
//!
//! In come bytes: PEM files of our own, certificate chains of peers. Out come proofs: a [`SpiffeId`] that can
//! only be well formed, an [`Svid`] that keeps the X.509-SVID profile, and [`Credentials`] whose certificate,
//! key and bundle were verified together. Refused is everything else, with a reason that names the clause.
//! There is no socket and no clock here: the time is a parameter, in TLS the one that rustls hands over.
//!
//! Sources: the SPIFFE standards "SPIFFE-ID" and "X509-SVID"; RFC 5280 for certificates; RFC 8446 for TLS 1.3.

mod base64;
mod bundle;
mod bundle_document;
mod credentials;
mod denied;
mod der;
mod error;
mod id;
mod json;
mod key;
mod pem;
mod private_key;
mod remembered;
mod sessions;
mod stranger;
mod subject;
mod svid;
mod tls;
mod verify;
mod x509;

#[cfg(test)]
mod testing;

pub use bundle::{Bundle, BundleError, RootFault};
pub use bundle_document::{BundleDocument, DocumentError};
pub use credentials::{Credentials, CredentialsError, chain_from_pem};
pub use denied::{Denial, Denials};
pub use error::SvidError;
pub use id::{IdError, SpiffeId, TrustDomain};
pub use key::{KeyError, KeyKind, PublicKey};
pub use private_key::PrivateKey;
pub use sessions::{LIFETIME as SESSION_LIFETIME, expiry};
pub use stranger::{StrangerError, stranger_to_identity, stranger_to_name};
pub use svid::Svid;
pub use tls::{Accepts, provider, svid_error};
pub use verify::{MAX_CHAIN, Usage, chain_from_der, verify};

pub use rustls_pki_types::CertificateDer;
