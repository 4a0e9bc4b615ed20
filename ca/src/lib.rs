//! The certificate authority: a root at rest, short-lived intermediates in memory, leaves for workloads.
//!
//! In come a trust domain, a folder, SPIFFE IDs, public keys and the time; out come certificates that this
//! house's own verifier has accepted before they leave. Refused are names outside the trust domain, weak or
//! foreign keys, requests that ask for more than a key may have, and a root key that others could read.
//! Who may have which name is decided in [`attest`], from facts and never from a request; there are no sockets here.
//!
//! Hierarchy: [`Authority`] (the root, ten years) → [`Issuer`] (seven days, path length 0, never written down)
//! → leaf. The bundle holds roots only, so issuers come and go without a change of trust. How one root takes the
//! place of another: [`rotation`], and [`RotatingFolder`] for its persisted form.

pub mod attest;
mod authority;
mod csr;
pub mod denied;
mod error;
mod issuer;
mod json;
pub mod log;
mod profile;
mod root;
mod rotating;
pub mod rotation;
mod seal;
mod signature;
mod store;
mod tokens;

pub use authority::Authority;
pub use csr::{CsrError, Ignored, Requested, parse_csr};
pub use error::CaError;
pub use issuer::{Issued, Issuer, Signatures};
pub use rotating::{Recovery, Report, RotatingFolder};
pub use store::{Keys, Lock};
pub use tokens::{Created, Listed, Tokens};
