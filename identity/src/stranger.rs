//! TLS towards a CA by somebody who has no certificate yet.
//!
//! In: the roots one was given beforehand, and who the CA is: a SPIFFE ID, or, for a CA of another make that serves under a DNS
//! name, that name. Out: a configuration that shows no certificate, resumes nothing and accepts that one server.

use crate::tls::{self, Accepts, PeerIsServer};
use crate::{Bundle, CertificateDer};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::sync::Arc;

/// A server with an SVID that `bundle` verifies and `expected` accepts.
///
/// # Errors
/// Those of rustls.
pub fn stranger_to_identity(
    bundle: &Bundle,
    expected: Arc<dyn Accepts>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, StrangerError> {
    let verifier = PeerIsServer { bundle: bundle.clone(), expected, sessions: None };
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(StrangerError)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(plain(config, alpn, false))
}

/// A server whose certificate names the DNS name that is asked for and chains to one of `roots` (RFC 9525). It is who the
/// operator says it is by that name alone; what it certifies is then verified as everywhere.
///
/// # Errors
/// A root that is none, or no root at all.
pub fn stranger_to_name(roots: &[CertificateDer<'_>], alpn: &[&[u8]]) -> Result<ClientConfig, StrangerError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone().into_owned()).map_err(StrangerError)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), tls::provider())
        .build()
        .map_err(|error| StrangerError(rustls::Error::General(error.to_string())))?;
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(StrangerError)?
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    Ok(plain(config, alpn, true))
}

/// Why no configuration could be made.
#[derive(Debug)]
pub struct StrangerError(rustls::Error);

impl fmt::Display for StrangerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS cannot be set up: {}", self.0)
    }
}

impl std::error::Error for StrangerError {}

fn plain(mut config: ClientConfig, alpn: &[&[u8]], names: bool) -> ClientConfig {
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_sni = names;
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    config
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::tls::testing::*;
    use crate::{SpiffeId, svid_error};

    const H2: &[&[u8]] = &[b"h2"];

    fn expecting(id: &str) -> Arc<SpiffeId> {
        Arc::new(SpiffeId::parse(id).unwrap())
    }

    #[test]
    fn without_a_certificate_the_reception_lets_in_and_everybody_else_does_not() {
        let ca = Ca::root("a");
        let server = credentials(&ca, ORDERS, &ca);
        let client = Arc::new(stranger_to_identity(server.bundle(), expecting(ORDERS), H2).unwrap());
        // The certificates of these tests live in a time of their own.
        let mut at_their_time = Arc::unwrap_or_clone(client);
        at_their_time.time_provider = Clock::at(NOW);
        let client = Arc::new(at_their_time);
        let mut reception = Arc::unwrap_or_clone(server.reception_config(H2).unwrap());
        reception.time_provider = Clock::at(NOW);

        let met = meet(&client, &Arc::new(reception));
        assert!(met.client_error.is_none() && met.server_error.is_none());
        assert!(met.server.peer_certificates().is_none());

        let strict = Arc::unwrap_or_clone(server.server_config_at(H2, Clock::at(NOW)).unwrap());
        assert!(meet(&client, &Arc::new(strict)).server_error.is_some());
    }

    #[test]
    fn a_certificate_that_is_shown_to_the_reception_must_verify() {
        let (ca, other) = (Ca::root("a"), Ca::root("b"));
        let server = credentials(&ca, ORDERS, &ca);
        let stranger = credentials(&other, WEB, &ca);
        let mut reception = Arc::unwrap_or_clone(server.reception_config(H2).unwrap());
        reception.time_provider = Clock::at(NOW);
        let met = meet(&Arc::new(client(&stranger, ORDERS)), &Arc::new(reception));
        assert!(met.server_error.is_some());
    }

    #[test]
    fn another_server_of_the_same_trust_domain_is_not_the_ca() {
        let ca = Ca::root("a");
        let orders = credentials(&ca, ORDERS, &ca);
        let mut config = stranger_to_identity(orders.bundle(), expecting(WEB), H2).unwrap();
        config.time_provider = Clock::at(NOW);
        let mut reception = Arc::unwrap_or_clone(orders.reception_config(H2).unwrap());
        reception.time_provider = Clock::at(NOW);
        let met = meet(&Arc::new(config), &Arc::new(reception));
        assert_eq!(svid_error(met.client_error.as_ref().unwrap()).unwrap().reason(), "not_expected");
    }
}
