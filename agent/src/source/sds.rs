//! Following a secret discovery service, as an Envoy would.
//!
//! Two secrets make an identity: the certificate with its key, and the roots. They may come in one answer or in two, and after
//! a rotation of the roots the one may not verify under the other until both are there; so each is kept as it comes, and
//! whatever pair verifies is published. An answer that leaves us without such a pair is rejected (a NACK, with the reason for
//! the other end's log); what is in force stays so.

use super::{Broken, MESSAGE, Session, Source};
use crate::material::{Material, MaterialError, trust_domain};
use crate::sds::{SECRET, VALIDATOR, VALIDATOR_CONFIG};
use crate::text::printable;
use identity::{Bundle, CertificateDer, PrivateKey, SpiffeId, Svid};
use std::fmt;
use std::time::SystemTime;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use wire::Message;
use wire::envoy::config::core::v3::{DataSource, Node, data_source};
use wire::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret,
};
use wire::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use wire::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use wire::google::rpc;

/// What to ask for, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretNames {
    /// The secret with certificate and key.
    pub certificate: String,
    /// The secret with the roots.
    pub roots: String,
    /// Our `node.id`, which some servers log.
    pub node: String,
}

impl Default for SecretNames {
    /// The names of SPIRE and Istio.
    fn default() -> Self {
        Self { certificate: "default".to_owned(), roots: "ROOTCA".to_owned(), node: "sekisho".to_owned() }
    }
}

/// Follows the secret discovery service of `source` until dropped.
pub async fn follow_sds(source: Source, names: SecretNames) {
    source.keep(Sds { names }).await;
}

struct Sds {
    names: SecretNames,
}

impl Session for Sds {
    async fn run(&mut self, source: &Source, delivered: &mut bool) -> Broken {
        match follow(source, &self.names, delivered).await {
            Ok(()) => Broken::soon("the other end has ended the stream".to_owned()),
            Err(broken) => broken,
        }
    }
}

/// A server may have nothing for us yet and keep the stream open until it has, so the first answer has no deadline; a server
/// that is gone is found out by the pings of the connection.
async fn follow(source: &Source, names: &SecretNames, delivered: &mut bool) -> Result<(), Broken> {
    let mut client = SecretDiscoveryServiceClient::new(source.connect().await?).max_decoding_message_size(MESSAGE);
    let (sender, requests) = mpsc::channel(1);
    send(&sender, names.request()).await?;
    let mut answers = client.stream_secrets(ReceiverStream::new(requests)).await?.into_inner();
    let mut pieces = Pieces::default();
    let mut in_use = String::new();
    while let Some(answer) = answers.message().await? {
        let (version, nonce) = (answer.version_info.clone(), answer.nonce.clone());
        let outcome = pieces
            .take(answer, names)
            .and_then(|()| pieces.material(source.expected.as_ref(), source.surroundings.now()));
        let error = match outcome {
            Ok(material) => {
                in_use = version;
                if let Some(material) = material {
                    source.publish(material);
                    *delivered = true;
                }
                None
            }
            Err(unusable) => {
                source.fault(&unusable.to_string());
                Some(rpc::Status {
                    code: Code::InvalidArgument as i32,
                    message: printable(&unusable.to_string()),
                    ..Default::default()
                })
            }
        };
        let reply = DiscoveryRequest {
            version_info: in_use.clone(),
            response_nonce: nonce,
            error_detail: error,
            ..names.request()
        };
        send(&sender, reply).await?;
    }
    Ok(())
}

async fn send(sender: &mpsc::Sender<DiscoveryRequest>, request: DiscoveryRequest) -> Result<(), Broken> {
    sender.send(request).await.map_err(|_closed| Broken::soon("the other end has ended the stream".to_owned()))
}

impl SecretNames {
    fn request(&self) -> DiscoveryRequest {
        DiscoveryRequest {
            node: Some(Node { id: self.node.clone(), user_agent_name: "sekisho".to_owned(), ..Default::default() }),
            resource_names: vec![self.certificate.clone(), self.roots.clone()],
            type_url: SECRET.to_owned(),
            ..Default::default()
        }
    }
}

/// What has come so far.
#[derive(Default)]
struct Pieces {
    certificate: Option<TlsCertificate>,
    roots: Option<CertificateValidationContext>,
}

impl Pieces {
    /// Keeps the secrets of an answer. A secret that is not among them stays as it is: state of the world means the answer, not
    /// the world, for everything but listeners and clusters.
    fn take(&mut self, answer: DiscoveryResponse, names: &SecretNames) -> Result<(), Unusable> {
        for resource in answer.resources {
            if resource.type_url != SECRET {
                return Err(Unusable::Type(printable(&resource.type_url)));
            }
            let secret = Secret::decode(resource.value.as_slice()).map_err(|_| Unusable::Unreadable)?;
            match secret.r#type {
                Some(secret::Type::TlsCertificate(certificate)) if secret.name == names.certificate => {
                    self.certificate = Some(certificate);
                }
                Some(secret::Type::ValidationContext(roots)) if secret.name == names.roots => self.roots = Some(roots),
                _ => return Err(Unusable::Secret(printable(&secret.name))),
            }
        }
        Ok(())
    }

    /// The identity that the pieces make; `None` while one is missing.
    fn material(&self, expected: Option<&SpiffeId>, now: SystemTime) -> Result<Option<Material>, Unusable> {
        let (Some(certificate), Some(roots)) = (&self.certificate, &self.roots) else {
            return Ok(None);
        };
        let chain = identity::chain_from_pem(inline(certificate.certificate_chain.as_ref())?)?;
        let leaf = chain.first().ok_or(Unusable::Missing)?;
        let key = PrivateKey::from_pem(inline(certificate.private_key.as_ref())?, leaf)?;
        let id = match expected {
            Some(expected) => expected.clone(),
            None => id_of(leaf)?,
        };
        let bundle = Bundle::from_pem(trust_domain(&id)?, &bundle(roots, &id)?).map_err(MaterialError::from)?;
        Ok(Some(Material::new(chain, key, bundle, &id, now)?))
    }
}

fn id_of(leaf: &CertificateDer<'_>) -> Result<SpiffeId, Unusable> {
    let svid = Svid::from_leaf(leaf).map_err(identity::CredentialsError::Certificate)?;
    Ok(svid.id().clone())
}

/// The PEM of the roots, in either form: by trust domain, of which ours is taken, or plain.
fn bundle(roots: &CertificateValidationContext, id: &SpiffeId) -> Result<Vec<u8>, Unusable> {
    let Some(validator) = &roots.custom_validator_config else {
        return Ok(inline(roots.trusted_ca.as_ref())?.to_vec());
    };
    let config = validator.typed_config.as_ref().ok_or(Unusable::Missing)?;
    if validator.name != VALIDATOR || config.type_url != VALIDATOR_CONFIG {
        return Err(Unusable::Type(printable(&config.type_url)));
    }
    let config = SpiffeCertValidatorConfig::decode(config.value.as_slice()).map_err(|_| Unusable::Unreadable)?;
    let mut ours = config.trust_domains.iter().filter(|domain| domain.name == id.trust_domain());
    match (ours.next(), ours.next()) {
        (Some(domain), None) => Ok(inline(domain.trust_bundle.as_ref())?.to_vec()),
        _ => Err(Unusable::NoRoots(id.trust_domain().to_owned())),
    }
}

/// The bytes of a source that holds them itself. A file that a server names is not opened.
fn inline(source: Option<&DataSource>) -> Result<&[u8], Unusable> {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(data_source::Specifier::InlineBytes(bytes)) => Ok(bytes),
        Some(data_source::Specifier::InlineString(text)) => Ok(text.as_bytes()),
        Some(_) => Err(Unusable::Elsewhere),
        None => Err(Unusable::Missing),
    }
}

/// Why an answer is rejected.
#[derive(Debug)]
enum Unusable {
    Type(String),
    Unreadable,
    Secret(String),
    Missing,
    Elsewhere,
    NoRoots(String),
    Material(MaterialError),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(got) => write!(f, "a resource of type `{got}` where a secret was asked for"),
            Self::Unreadable => f.write_str("a secret cannot be decoded"),
            Self::Secret(name) => write!(f, "the secret `{name}` was not asked for, or is of another kind"),
            Self::Missing => f.write_str("a secret lacks one of its parts"),
            Self::Elsewhere => f.write_str("a secret names a file or a variable instead of holding its bytes"),
            Self::NoRoots(domain) => write!(f, "there are no roots, or two sets of them, for trust domain `{domain}`"),
            Self::Material(error) => error.fmt(f),
        }
    }
}

impl<E: Into<MaterialError>> From<E> for Unusable {
    fn from(error: E) -> Self {
        Self::Material(error.into())
    }
}
