//! One connection to a CA, and a certificate through it.

use super::Broken;
use super::backoff::Patience;
use super::ca::FromCa;
use crate::material::Material;
use crate::text::printable;
use identity::{Bundle, CertificateDer, PrivateKey, SpiffeId, TrustDomain, stranger_to_identity, stranger_to_name};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rpc::{Channel, ConnectError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use wire::istio::v1::auth::IstioCertificateRequest;
use wire::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;

/// Who a CA must prove to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This SPIFFE ID.
    Id(SpiffeId),
    /// This DNS name (RFC 9525).
    Name(String),
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Call(Channel);

/// Why there is no certificate, or no connection.
pub(super) struct Refused {
    text: String,
    /// What the CA said.
    pub(super) code: Option<Code>,
    /// The handshake failed.
    pub(super) tls: bool,
}

impl From<Refused> for Broken {
    fn from(refused: Refused) -> Self {
        let patience = match refused.code {
            Some(Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented) => Patience::Long,
            _ => Patience::BackOff,
        };
        Self { text: refused.text, patience }
    }
}

impl Call {
    /// Without a certificate of our own.
    pub(super) async fn as_stranger(source: &FromCa) -> Result<Self, Refused> {
        let in_file = |error: String| plain(format!("the roots: {error}"));
        let pem = (source.roots)().map_err(in_file)?;
        let config = match &source.expected {
            Expected::Id(id) => {
                let domain = domain(&source.workload)?;
                let bundle = Bundle::from_pem(domain, &pem).map_err(|error| in_file(error.to_string()))?;
                stranger_to_identity(&bundle, Arc::new(id.clone()), &[b"h2"])
            }
            Expected::Name(_) => {
                let roots = identity::chain_from_pem(&pem).map_err(|error| in_file(error.to_string()))?;
                stranger_to_name(&roots, &[b"h2"])
            }
        };
        Self::open(source, config.map_err(|error| plain(error.to_string()))?).await
    }

    /// By the certificate that we hold. Only a CA with a SPIFFE ID can be met so.
    pub(super) async fn as_ourselves(source: &FromCa, material: &Material) -> Result<Self, Refused> {
        let Expected::Id(id) = &source.expected else {
            return Err(plain("a CA known by its name takes tokens only".to_owned()));
        };
        let config = material.credentials().client_config(Arc::new(id.clone()), &[b"h2"]);
        let config = config.map_err(|error| plain(error.to_string()))?;
        Self::open(source, Arc::unwrap_or_clone(config)).await
    }

    pub(super) fn channel(&self) -> Channel {
        self.0.clone()
    }

    async fn open(source: &FromCa, config: ClientConfig) -> Result<Self, Refused> {
        let host = match &source.expected {
            Expected::Name(name) => name.as_str(),
            // Not sent, and not compared.
            Expected::Id(_) => "ca.invalid",
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| plain(error.to_string()))?;
        let channel = Channel::tls(&source.address, name, Arc::new(config), CONNECT).await;
        channel.map(Self).map_err(|error| Refused {
            text: format!("{}: {error}", source.address),
            code: None,
            tls: matches!(error, ConnectError::Tls(_)),
        })
    }

    /// A new key, and a certificate for it; by a token, or by the certificate of this connection.
    pub(super) async fn certificate(self, source: &FromCa, token: Option<String>) -> Result<Material, Refused> {
        let (csr, key) = request_for(&source.workload)?;
        let validity_duration = source.ttl.map_or(0, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        let mut request = Request::new(IstioCertificateRequest { csr, validity_duration, metadata: None });
        if let Some(token) = token {
            let value = MetadataValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| plain("the token is no metadata value".to_owned()))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        if let Some(cluster) = &source.cluster {
            let value = MetadataValue::try_from(cluster.as_str());
            request.metadata_mut().insert("clusterid", value.map_err(|_| plain("`cluster` is no text".to_owned()))?);
        }
        let mut client = IstioCertificateServiceClient::new(self.0).max_decoding_message_size(MESSAGE);
        let answer = tokio::time::timeout(ANSWER, client.create_certificate(request)).await;
        let answer =
            answer.map_err(|_elapsed| plain("the CA does not answer".to_owned()))?.map_err(|status| Refused {
                text: format!("the CA: {:?}: {}", status.code(), printable(status.message())),
                code: Some(status.code()),
                tls: false,
            })?;
        material(source, &answer.into_inner().cert_chain, key)
    }
}

/// A fresh P-256 key, which stays here, and a request that proves it. The name in it tells the CA whom we believe to be: one that
/// would certify another says so instead.
fn request_for(workload: &SpiffeId) -> Result<(String, PrivateKey), Refused> {
    let failed = |error: rcgen::Error| plain(format!("no certificate request could be made: {error}"));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(workload.as_str().try_into().map_err(failed)?)];
    let csr = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
    Ok((csr, PrivateKey::from_pkcs8(key.serialize_der())))
}

/// The answer's shape: leaf and intermediates in strings of their own or together, the roots in the last.
fn material(source: &FromCa, chain: &[String], key: PrivateKey) -> Result<Material, Refused> {
    let Some((roots, chain)) = chain.split_last().filter(|(_, chain)| !chain.is_empty()) else {
        return Err(plain("the CA answered without a chain and roots".to_owned()));
    };
    let unusable = |error: &dyn std::fmt::Display| plain(format!("the CA's answer cannot be used: {error}"));
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    for pem in chain {
        certificates.extend(identity::chain_from_pem(pem.as_bytes()).map_err(|error| unusable(&error))?);
    }
    let bundle = Bundle::from_pem(domain(&source.workload)?, roots.as_bytes()).map_err(|error| unusable(&error))?;
    let now = source.surroundings.now();
    Material::new(certificates, key, bundle, &source.workload, now).map_err(|error| unusable(&error))
}

fn domain(workload: &SpiffeId) -> Result<TrustDomain, Refused> {
    TrustDomain::parse(workload.trust_domain()).map_err(|error| plain(error.to_string()))
}

fn plain(text: String) -> Refused {
    Refused { text, code: None, tls: false }
}

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of an answer: a chain and as many roots as a bundle may hold.
const MESSAGE: usize = 1 << 20;
