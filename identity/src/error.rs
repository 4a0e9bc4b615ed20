//! Every reason for which a certificate chain is not an acceptable identity.
//!
//! One enum serves peers and our own files: what a peer may not show, we may not hold. Each reason has a label
//! for metrics, which never carries text from the certificate, and a sentence that cites the clause it rests on.

use std::fmt;

use crate::id::{IdError, SpiffeId};
use crate::key::KeyError;

/// Why a chain was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SvidError {
    /// The chain is empty.
    NoCertificate,
    /// The bytes are not a DER X.509 v3 certificate.
    NotX509(String),
    /// The serial number is zero, negative, longer than 20 octets or not in its shortest form.
    Serial,
    /// An extension is there twice.
    DuplicateExtension,
    /// A critical extension is not understood.
    CriticalExtension,
    /// No URI among the subject alternative names.
    NoUriSan,
    /// More than one URI among the subject alternative names.
    SeveralUriSans,
    /// The URI is not a SPIFFE ID.
    NotSpiffe(IdError),
    /// The SPIFFE ID has no path: it names a trust domain, not a workload.
    EmptyPath,
    /// The subject is empty and the subject alternative name extension is not critical.
    SanNotCritical,
    /// A DNS name holds a character that no host name has.
    DnsName,
    /// The leaf is a CA certificate.
    IsCa,
    /// The leaf's basic constraints are absent or not an empty sequence.
    BasicConstraints(&'static str),
    /// The leaf's key usage is absent, not critical, or not that of a leaf.
    KeyUsage(&'static str),
    /// The leaf's extended key usage lacks client or server authentication.
    ExtKeyUsage,
    /// The public key is too weak or of a kind that is not accepted.
    WeakKey(KeyError),
    /// A signature of the chain uses SHA-1, MD5 or another algorithm that is not accepted.
    WeakSignature,
    /// The leaf begins to be valid later than now.
    NotYetValid,
    /// The leaf's validity is over.
    Expired,
    /// A certificate above the leaf begins to be valid later than now.
    IssuerNotYetValid,
    /// The validity of a certificate above the leaf is over.
    IssuerExpired,
    /// No root of the bundle has the name of the issuer.
    UnknownIssuer,
    /// A name fits, but the key of that name did not make the signature.
    BadSignature,
    /// The leaf belongs to a trust domain for which this is not the bundle.
    UntrustedDomain {
        /// The trust domain in the leaf.
        got: String,
        /// The trust domain of the bundle.
        trusted: String,
    },
    /// The identity is genuine, but not one that is accepted here.
    NotExpected {
        /// The verified identity.
        got: SpiffeId,
        /// What would have been accepted, in words.
        expected: String,
    },
    /// The certificate, its name or its key is on the deny list of its CA.
    Denied(SpiffeId),
    /// More certificates, or more work to connect them, than is allowed.
    ChainTooLong,
    /// A certificate above the leaf is no CA certificate.
    IssuerNotCa,
    /// A certificate above the leaf may not sign certificates, or not for this purpose.
    IssuerKeyUsage,
    /// A CA certificate has more CAs below it than its path length allows.
    PathLength,
    /// A name constraint is violated, or of the URI kind, which is always refused.
    NameConstraint,
    /// Another fault of the chain.
    Chain(String),
}

impl SvidError {
    /// A short label for metrics and log lines, from a fixed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::NotX509(_) => "not_x509",
            Self::Serial => "serial",
            Self::DuplicateExtension => "duplicate_extension",
            Self::CriticalExtension => "critical_extension",
            Self::NoUriSan => "no_uri_san",
            Self::SeveralUriSans => "two_uri_sans",
            Self::NotSpiffe(error) => error.reason(),
            Self::EmptyPath => "id_without_path",
            Self::SanNotCritical => "san_not_critical",
            Self::DnsName => "dns_name",
            Self::IsCa => "leaf_is_ca",
            Self::BasicConstraints(_) => "basic_constraints",
            Self::KeyUsage(_) => "key_usage",
            Self::ExtKeyUsage => "ext_key_usage",
            Self::WeakKey(_) => "weak_key",
            Self::WeakSignature => "weak_signature",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::IssuerNotYetValid => "issuer_not_yet_valid",
            Self::IssuerExpired => "issuer_expired",
            Self::UnknownIssuer => "unknown_issuer",
            Self::BadSignature => "bad_signature",
            Self::UntrustedDomain { .. } => "trust_domain",
            Self::NotExpected { .. } => "not_expected",
            Self::Denied(_) => "denied",
            Self::ChainTooLong => "chain_too_long",
            Self::IssuerNotCa => "issuer_not_ca",
            Self::IssuerKeyUsage => "issuer_key_usage",
            Self::PathLength => "path_length",
            Self::NameConstraint => "name_constraint",
            Self::Chain(_) => "chain",
        }
    }
}

impl fmt::Display for SvidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("no certificate was presented (X509-SVID §5)"),
            Self::NotX509(detail) => write!(
                f,
                "the certificate is not well-formed X.509 v3: {detail} (RFC 5280 §4.1)"
            ),
            Self::Serial => f.write_str(
                "the serial number is not a positive integer of at most 20 octets (RFC 5280 §4.1.2.2)",
            ),
            Self::DuplicateExtension => {
                f.write_str("the certificate holds an extension twice (RFC 5280 §4.2)")
            }
            Self::CriticalExtension => f.write_str(
                "a critical extension of the certificate is not understood (RFC 5280 §4.2)",
            ),
            Self::NoUriSan => f.write_str("the certificate holds no URI name (X509-SVID §2)"),
            Self::SeveralUriSans => {
                f.write_str("the certificate holds more than one URI name (X509-SVID §2)")
            }
            Self::NotSpiffe(error) => write!(f, "the URI name is not a SPIFFE ID: {error}"),
            Self::EmptyPath => f.write_str(
                "the SPIFFE ID of the leaf has no path, so it names no workload (X509-SVID §5.2)",
            ),
            Self::SanNotCritical => f.write_str(
                "the subject is empty, but the alternative names are not critical (RFC 5280 §4.2.1.6)",
            ),
            Self::DnsName => f.write_str(
                "a DNS name of the certificate holds a character that no host name has (RFC 5280 §4.2.1.6)",
            ),
            Self::IsCa => f.write_str(
                "the first certificate is a CA certificate, which is never a peer's own (X509-SVID §5.2)",
            ),
            Self::BasicConstraints(detail) => {
                write!(f, "the leaf's basic constraints {detail} (X509-SVID §4.1, X.690 §11.5)")
            }
            Self::KeyUsage(detail) => {
                write!(f, "the leaf's key usage {detail} (X509-SVID §4.3)")
            }
            Self::ExtKeyUsage => f.write_str(
                "the leaf's extended key usage lacks client or server authentication (X509-SVID §4.4)",
            ),
            Self::WeakKey(error) => write!(f, "the public key {error}"),
            Self::WeakSignature => f.write_str(
                "a signature of the chain uses an algorithm that is not accepted, such as SHA-1 (RFC 9155)",
            ),
            Self::NotYetValid => {
                f.write_str("the certificate is not yet valid; is the clock right? (RFC 5280 §4.1.2.5)")
            }
            Self::Expired => f.write_str("the certificate has expired (RFC 5280 §4.1.2.5)"),
            Self::IssuerNotYetValid => f.write_str(
                "a CA certificate above the leaf is not yet valid; is the clock right? (RFC 5280 §6.1.3)",
            ),
            Self::IssuerExpired => {
                f.write_str("a CA certificate above the leaf has expired (RFC 5280 §6.1.3)")
            }
            Self::UnknownIssuer => f.write_str(
                "no root of the trust bundle issued the certificate (X509-SVID §5.1, RFC 5280 §6.1)",
            ),
            Self::BadSignature => f.write_str(
                "a signature of the chain does not verify: a CA of that name is known, with another key (RFC 5280 §6.1.3)",
            ),
            Self::UntrustedDomain { got, trusted } => write!(
                f,
                "the certificate belongs to trust domain `{got}`, the bundle to `{trusted}` (X509-SVID §5.1)"
            ),
            Self::NotExpected { got, expected } => {
                write!(f, "the peer is `{got}`, accepted would be {expected}")
            }
            Self::Denied(id) => write!(f, "the certificate of `{id}` is on the deny list of its CA"),
            Self::ChainTooLong => f.write_str(
                "the chain is longer, or more entangled, than is looked at (RFC 5280 §6.1)",
            ),
            Self::IssuerNotCa => f.write_str(
                "a certificate above the leaf is not a CA certificate (RFC 5280 §6.1.4 (k))",
            ),
            Self::IssuerKeyUsage => f.write_str(
                "a CA certificate may not sign certificates for this purpose (RFC 5280 §6.1.4 (n))",
            ),
            Self::PathLength => f.write_str(
                "a CA certificate has more CAs below it than its path length allows (RFC 5280 §6.1.4 (m))",
            ),
            Self::NameConstraint => f.write_str(
                "a CA certificate holds a name constraint that is violated or of the URI kind, which is always refused (RFC 5280 §4.2.1.10)",
            ),
            Self::Chain(detail) => write!(f, "the chain is not acceptable: {detail} (RFC 5280 §6.1)"),
        }
    }
}

impl std::error::Error for SvidError {}

impl From<webpki::Error> for SvidError {
    /// For errors of path building. The leaf's own validity is checked before, so expiry here is an issuer's.
    #[allow(deprecated)] // the old variants stay in the enum; a reader of all of them stays right
    fn from(error: webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::UnknownIssuer => Self::UnknownIssuer,
            E::CertExpired { .. } => Self::IssuerExpired,
            E::CertNotValidYet { .. } => Self::IssuerNotYetValid,
            E::CaUsedAsEndEntity => Self::IsCa,
            E::EndEntityUsedAsCa => Self::IssuerNotCa,
            E::PathLenConstraintViolated => Self::PathLength,
            E::RequiredEkuNotFound | E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Self::IssuerKeyUsage,
            E::NameConstraintViolation
            | E::MalformedNameConstraint
            | E::InvalidNetworkMaskConstraint
            | E::MaximumNameConstraintComparisonsExceeded => Self::NameConstraint,
            E::UnsupportedCriticalExtension => Self::CriticalExtension,
            // A root of the right name with a key of another kind did not sign this chain either.
            E::InvalidSignatureForPublicKey
            | E::UnsupportedSignatureAlgorithmForPublicKey
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::BadSignature,
            E::UnsupportedSignatureAlgorithm | E::UnsupportedSignatureAlgorithmContext(_) => Self::WeakSignature,
            E::MaximumPathDepthExceeded | E::MaximumSignatureChecksExceeded | E::MaximumPathBuildCallsExceeded => {
                Self::ChainTooLong
            }
            other => Self::Chain(format!("{other:?}")),
        }
    }
}
