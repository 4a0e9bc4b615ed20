//! A secret as Envoy reads it.
//!
//! Certificates go as PEM, leaf first, without the root. Roots go in the form of Envoy's SPIFFE validator, which holds every
//! root to its own trust domain; an Envoy that says it is older than that validator (1.18), or asks for it in its metadata,
//! gets them as plain trusted roots. There the trust domain of the roots is judged by nobody but the names it matches.

use super::names::Meaning;
use crate::material::Material;
use identity::CertificateDer;
use pem::{EncodeConfig, LineEnding, Pem};
use wire::envoy::config::core::v3::node::UserAgentVersionType;
use wire::envoy::config::core::v3::{DataSource, Node, TypedExtensionConfig, data_source};
use wire::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;
use wire::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret,
};
use wire::{Any, Message, value};

/// How an Envoy wants its roots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Each for its own trust domain.
    #[default]
    ByTrustDomain,
    /// All alike.
    Plain,
}

impl Roots {
    /// By what the node says of itself. SPIRE's key in the metadata has the last word, there as here.
    pub(crate) fn wanted_by(node: &Node) -> Self {
        let asked = node.metadata.as_ref().and_then(|metadata| metadata.fields.get(PLAIN)).and_then(truth);
        let plain = asked.unwrap_or_else(|| is_older_than_the_validator(node));
        if plain { Self::Plain } else { Self::ByTrustDomain }
    }
}

/// The secret of this name, packed.
pub(crate) fn packed(name: &str, meaning: Meaning, material: &Material, roots: Roots) -> Any {
    let kind = match (meaning, roots) {
        (Meaning::Certificate, _) => secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(pem("CERTIFICATE", material.chain().iter().map(CertificateDer::as_ref))),
            private_key: inline(pem("PRIVATE KEY", [material.key().pkcs8()])),
        }),
        // There is one trust domain, so all of them are that one.
        (Meaning::Roots | Meaning::AllRoots, Roots::ByTrustDomain) => {
            secret::Type::ValidationContext(CertificateValidationContext {
                custom_validator_config: Some(validator(material)),
                ..Default::default()
            })
        }
        (Meaning::Roots | Meaning::AllRoots, Roots::Plain) => {
            secret::Type::ValidationContext(CertificateValidationContext {
                trusted_ca: inline(bundle(material)),
                ..Default::default()
            })
        }
    };
    let secret = Secret { name: name.to_owned(), r#type: Some(kind) };
    Any { type_url: SECRET.to_owned(), value: secret.encode_to_vec() }
}

fn validator(material: &Material) -> TypedExtensionConfig {
    let name = material.bundle().trust_domain().as_str().to_owned();
    let config =
        SpiffeCertValidatorConfig { trust_domains: vec![TrustDomain { name, trust_bundle: inline(bundle(material)) }] };
    TypedExtensionConfig {
        name: VALIDATOR.to_owned(),
        typed_config: Some(Any { type_url: VALIDATOR_CONFIG.to_owned(), value: config.encode_to_vec() }),
    }
}

fn bundle(material: &Material) -> Vec<u8> {
    pem("CERTIFICATE", material.bundle().roots().iter().map(CertificateDer::as_ref))
}

fn pem<'a>(label: &str, sections: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    sections.into_iter().map(|der| pem::encode_config(&Pem::new(label, der), config)).collect::<String>().into_bytes()
}

fn inline(bytes: Vec<u8>) -> Option<DataSource> {
    Some(DataSource { specifier: Some(data_source::Specifier::InlineBytes(bytes)) })
}

fn truth(value: &wire::Value) -> Option<bool> {
    match value.kind.as_ref()? {
        value::Kind::BoolValue(truth) => Some(*truth),
        value::Kind::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}

/// Whoever does not say its version is taken for a new one.
fn is_older_than_the_validator(node: &Node) -> bool {
    match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            build.version.is_some_and(|version| (version.major_number, version.minor_number) < (1, 18))
        }
        Some(UserAgentVersionType::UserAgentVersion(_)) | None => false,
    }
}

pub(crate) const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
pub(crate) const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
pub(crate) const VALIDATOR_CONFIG: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
const PLAIN: &str = "disable_spiffe_cert_validation";

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Value;
    use wire::envoy::config::core::v3::{BuildVersion, SemanticVersion};

    fn node(version: Option<(u32, u32)>, metadata: Option<value::Kind>) -> Node {
        let version = version.map(|(major_number, minor_number)| {
            UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
                version: Some(SemanticVersion { major_number, minor_number, patch: 0 }),
                metadata: None,
            })
        });
        let metadata = metadata.map(|kind| wire::Struct {
            fields: [(PLAIN.to_owned(), Value { kind: Some(kind) })].into_iter().collect(),
        });
        Node { user_agent_version_type: version, metadata, ..Default::default() }
    }

    #[test]
    fn only_an_envoy_older_than_the_validator_or_one_that_asks_gets_plain_roots() {
        let text = |text: &str| Some(value::Kind::StringValue(text.to_owned()));
        for (node, roots) in [
            (node(None, None), Roots::ByTrustDomain),
            (node(Some((1, 40)), None), Roots::ByTrustDomain),
            (node(Some((1, 18)), None), Roots::ByTrustDomain),
            (node(Some((1, 17)), None), Roots::Plain),
            (node(Some((0, 99)), None), Roots::Plain),
            (node(Some((2, 0)), None), Roots::ByTrustDomain),
            (node(Some((1, 40)), Some(value::Kind::BoolValue(true))), Roots::Plain),
            (node(Some((1, 17)), Some(value::Kind::BoolValue(false))), Roots::ByTrustDomain),
            (node(None, text("true")), Roots::Plain),
            (node(None, text("yes")), Roots::ByTrustDomain),
            (node(None, Some(value::Kind::NumberValue(1.0))), Roots::ByTrustDomain),
        ] {
            assert_eq!(Roots::wanted_by(&node), roots, "{node:?}");
        }
    }
}
