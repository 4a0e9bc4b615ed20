//! The roots of one trust domain.
//!
//! In comes a PEM file and the trust domain it is for (a bundle does not name its own, so the two travel
//! together and are never pooled); out come the roots, ready for path building. Refused: an empty file,
//! anything beside CA certificates, a CA that may not sign certificates, a root that names another trust
//! domain, and URI name constraints, which the path builder refuses in every chain (RUSTSEC-2026-0098).

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::X509Certificate;

use crate::denied::Denials;
use crate::der::{self, Reader};
use crate::error::SvidError;
use crate::id::TrustDomain;
use crate::pem;
use crate::x509;

/// The root certificates of one trust domain; at least one. Cloning shares them.
#[derive(Clone)]
pub struct Bundle(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    trust_domain: TrustDomain,
    denials: Denials,
    roots: Vec<CertificateDer<'static>>,
    /// Invariant: `anchors[i]` and `limits[i]` are made from `roots[i]`.
    anchors: Vec<TrustAnchor<'static>>,
    limits: Vec<Limits>,
}

/// What path building must hold a root to and `webpki` does not read from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) path_length: Option<u32>,
}

impl Bundle {
    /// Reads every root of a PEM file for `trust_domain`. Dates are not judged here: a root that is not yet
    /// valid, or no longer, stays in the bundle and issues nothing.
    pub fn from_pem(trust_domain: TrustDomain, pem: &[u8]) -> Result<Self, BundleError> {
        let sections = pem::sections(pem).map_err(|error| BundleError::Pem(error.to_string()))?;
        if sections.len() > MAX_ROOTS {
            return Err(BundleError::TooMany);
        }
        let mut roots = Vec::new();
        for (index, (kind, der)) in sections.into_iter().enumerate() {
            if kind != SectionKind::Certificate {
                return Err(BundleError::NotACertificate { index: index + 1 });
            }
            roots.push(CertificateDer::from(der));
        }
        Self::of(trust_domain, roots)
    }

    /// Reads roots that stand in DER one after the other, as the SPIFFE Workload API sends them. Dates are not judged here
    /// either.
    ///
    /// # Errors
    /// There is none, there are too many, or one cannot be a root of `trust_domain`.
    pub fn from_der(trust_domain: TrustDomain, der: &[u8]) -> Result<Self, BundleError> {
        let roots = x509::split(der, MAX_ROOTS).map_err(BundleError::Der)?;
        Self::of(trust_domain, roots)
    }

    fn of(trust_domain: TrustDomain, roots: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        let mut inner = Inner {
            trust_domain,
            denials: Denials::default(),
            roots: Vec::new(),
            anchors: Vec::new(),
            limits: Vec::new(),
        };
        for (index, root) in roots.into_iter().enumerate() {
            inner.add(root).map_err(|fault| BundleError::Root { index: index + 1, fault })?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The roots of DER certificates, under the same rules; `None` of none, since an empty bundle trusts nobody and
    /// is said in another way.
    pub fn from_roots(
        trust_domain: TrustDomain,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Option<Self>, BundleError> {
        let mut inner = Inner {
            trust_domain,
            denials: Denials::default(),
            roots: Vec::new(),
            anchors: Vec::new(),
            limits: Vec::new(),
        };
        for (index, der) in roots.into_iter().enumerate() {
            if index >= MAX_ROOTS {
                return Err(BundleError::TooMany);
            }
            inner.add(der).map_err(|fault| BundleError::Root { index: index + 1, fault })?;
        }
        Ok((!inner.roots.is_empty()).then(|| Self(Arc::new(inner))))
    }

    /// The same roots, and these certificates refused although they lead to one of them.
    pub fn denying(&self, denials: Denials) -> Self {
        Self(Arc::new(Inner { denials, ..Inner::clone(&self.0) }))
    }

    /// What is refused although it verifies.
    pub fn denials(&self) -> &Denials {
        &self.0.denials
    }

    /// Whether this is that very bundle, or a clone of it; another with the same content is not.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The trust domain these roots speak for, and the only one.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// The roots in file order.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.0.roots
    }

    /// The last second of validity of each root, in file order.
    pub fn expiries(&self) -> impl Iterator<Item = SystemTime> {
        self.0.limits.iter().map(|limits| limits.not_after)
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.0.anchors
    }

    /// The limits of one of our [`anchors`](Self::anchors), found by its place in memory: two roots may share
    /// name and key (a root re-signed with a later expiry) and differ in exactly these limits.
    pub(crate) fn limits(&self, anchor: &TrustAnchor<'_>) -> Option<&Limits> {
        let address = std::ptr::from_ref(anchor).cast::<()>();
        let index =
            self.anchors().iter().position(|candidate| std::ptr::from_ref(candidate).cast::<()>() == address)?;
        self.0.limits.get(index)
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("trust_domain", &self.0.trust_domain)
            .field("roots", &self.0.roots.len())
            .finish()
    }
}

impl Inner {
    fn add(&mut self, der: CertificateDer<'static>) -> Result<(), RootFault> {
        let certificate = x509::parse(&der).map_err(RootFault::Certificate)?;
        let path_length = check_issuer(&certificate).map_err(RootFault::Certificate)?;
        self.check_own_name(&certificate)?;
        let limits = Limits {
            not_before: x509::time(certificate.validity().not_before.timestamp()),
            not_after: x509::time(certificate.validity().not_after.timestamp()),
            path_length,
        };
        let anchor =
            webpki::anchor_from_trusted_cert(&der).map_err(|error| RootFault::Certificate(error.into()))?.to_owned();
        self.limits.push(limits);
        self.anchors.push(anchor);
        self.roots.push(der);
        Ok(())
    }

    /// A signing certificate may carry a SPIFFE ID: its trust domain without a path (X509-SVID §3.2). Examples
    /// in the standard end it with a slash, so one is let pass.
    fn check_own_name(&self, certificate: &X509Certificate<'_>) -> Result<(), RootFault> {
        let names = x509::alternative_names(certificate).map_err(RootFault::Certificate)?;
        for uri in names.uris {
            let Some(rest) = uri.strip_prefix("spiffe://") else {
                continue;
            };
            let domain = rest.split('/').next().unwrap_or_default();
            if domain != self.trust_domain.as_str() {
                return Err(RootFault::OtherDomain(domain.to_owned()));
            }
        }
        Ok(())
    }
}

/// Checks what RFC 5280 §6.1.4 asks of a CA certificate and returns its path length limit.
///
/// `webpki` checks `cA` and path lengths of intermediates too, but neither key usages nor anything of a root.
pub(crate) fn check_issuer(certificate: &X509Certificate<'_>) -> Result<Option<u32>, SvidError> {
    let constraints = x509::extension(certificate, x509::BASIC_CONSTRAINTS)
        .and_then(|extension| ca_constraints(extension.value))
        .ok_or(SvidError::IssuerNotCa)?;
    let usage =
        x509::extension(certificate, x509::KEY_USAGE).and_then(x509::key_usage).ok_or(SvidError::IssuerKeyUsage)?;
    if usage & x509::KEY_CERT_SIGN == 0 {
        return Err(SvidError::IssuerKeyUsage);
    }
    if let Some(constraints) = x509::extension(certificate, NAME_CONSTRAINTS)
        && has_uri_constraint(constraints.value) != Some(false)
    {
        return Err(SvidError::NameConstraint);
    }
    Ok(constraints)
}

/// `Some(path length)` of basic constraints with `cA TRUE`; `None` for anything else.
fn ca_constraints(value: &[u8]) -> Option<Option<u32>> {
    let mut fields = Reader::new(der::whole(der::SEQUENCE, value)?);
    if fields.expect(der::BOOLEAN)? != [0xff] {
        return None;
    }
    if fields.is_empty() {
        return Some(None);
    }
    let length = fields.expect(der::INTEGER)?;
    if !fields.is_empty() {
        return None;
    }
    match length {
        [small] if small & 0x80 == 0 => Some(Some(u32::from(*small))),
        // A limit of 128 or more never binds: longer chains are refused anyway.
        [high, _, ..] if high & 0x80 == 0 => Some(None),
        _ => None,
    }
}

/// Whether a name constraint of URI kind is among them; `None` when the extension is malformed.
fn has_uri_constraint(value: &[u8]) -> Option<bool> {
    let mut fields = Reader::new(der::whole(der::SEQUENCE, value)?);
    while !fields.is_empty() {
        let (_, subtrees) = fields.next()?;
        let mut subtrees = Reader::new(subtrees);
        while !subtrees.is_empty() {
            let (base, _) = Reader::new(subtrees.expect(der::SEQUENCE)?).next()?;
            if base == x509::URI {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// Why a bundle was refused. Displays as the end of a sentence that begins with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// The file is not PEM, is empty or too large.
    Pem(String),
    /// It is not a row of DER certificates.
    Der(&'static str),
    /// More than 100 roots.
    TooMany,
    /// A section that is not a certificate.
    NotACertificate {
        /// Which section, from 1.
        index: usize,
    },
    /// A certificate that cannot be a root here.
    Root {
        /// Which certificate, from 1.
        index: usize,
        /// What is wrong with it.
        fault: RootFault,
    },
}

/// What is wrong with one certificate of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootFault {
    /// It is not an acceptable CA certificate.
    Certificate(SvidError),
    /// It carries the SPIFFE ID of another trust domain.
    OtherDomain(String),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(detail) => f.write_str(detail),
            Self::Der(detail) => f.write_str(detail),
            Self::TooMany => write!(f, "holds more than {MAX_ROOTS} roots"),
            Self::NotACertificate { index } => write!(
                f,
                "holds something else than a certificate (section {index}); a bundle is public and holds CA certificates only"
            ),
            Self::Root { index, fault } => match fault {
                RootFault::Certificate(SvidError::IssuerNotCa) => write!(
                    f,
                    "certificate {index} is not a CA certificate (RFC 5280 §4.2.1.9); a bundle holds roots only"
                ),
                RootFault::Certificate(SvidError::IssuerKeyUsage) => {
                    write!(f, "certificate {index} has no key usage keyCertSign (RFC 5280 §4.2.1.3)")
                }
                RootFault::Certificate(error) => write!(f, "certificate {index}: {error}"),
                RootFault::OtherDomain(domain) => {
                    write!(f, "certificate {index} is a root of trust domain `{domain}` (X509-SVID §3.2)")
                }
            },
        }
    }
}

impl std::error::Error for BundleError {}

/// The path builder gives up after 100 signature checks; with more roots of one name it might not reach all.
const MAX_ROOTS: usize = 100;

pub(crate) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn read(file: &str) -> Result<Bundle, BundleError> {
        Bundle::from_pem(TrustDomain::parse("example.org").unwrap(), file.as_bytes())
    }

    #[test]
    fn several_roots_are_kept_in_order() {
        let (a, b) = (Ca::root("a"), Ca::root("b"));
        let bundle = read(&pem(&[a.der.clone(), b.der.clone()])).unwrap();
        assert_eq!(bundle.roots(), [a.der, b.der]);
        assert_eq!(bundle.expiries().count(), 2);
        assert_eq!(bundle.trust_domain().as_str(), "example.org");
    }

    #[test]
    fn roots_may_stand_in_der_one_after_the_other() {
        let (a, b) = (Ca::root("a"), Ca::root("b"));
        let read = |der: &[u8]| Bundle::from_der(TrustDomain::parse("example.org").unwrap(), der);
        let both = [a.der.as_ref(), b.der.as_ref()].concat();
        assert_eq!(read(&both).unwrap().roots(), [a.der.clone(), b.der]);
        assert!(matches!(read(&[]), Err(BundleError::Der(_))));
        assert!(matches!(read(&both[..both.len() - 1]), Err(BundleError::Der(_))));
        assert!(matches!(read(&[&both[..], &[0]].concat()), Err(BundleError::Der(_))));
        assert!(matches!(read(&a.der.repeat(MAX_ROOTS + 1)), Err(BundleError::Der(_))));
        let (leaf, _) = a.leaf("spiffe://example.org/x");
        assert!(matches!(read(&[&both[..], &leaf].concat()), Err(BundleError::Root { index: 3, .. })));
    }

    #[test]
    fn an_empty_file_is_not_an_empty_bundle() {
        assert!(matches!(read(""), Err(BundleError::Pem(_))));
        assert!(matches!(read("# roots\n"), Err(BundleError::Pem(_))));
    }

    #[test]
    fn anything_beside_ca_certificates_is_refused() {
        let root = Ca::root("a");
        let (leaf, key) = root.leaf("spiffe://example.org/x");
        let file = pem(&[root.der.clone(), leaf]);
        assert_eq!(
            read(&file).unwrap_err(),
            BundleError::Root { index: 2, fault: RootFault::Certificate(SvidError::IssuerNotCa) }
        );
        let file = pem(&[root.der]) + &section("PRIVATE KEY", key.serialized_der());
        assert_eq!(read(&file).unwrap_err(), BundleError::NotACertificate { index: 2 });
    }

    #[test]
    fn a_root_that_may_not_sign_certificates_is_refused() {
        let root = Ca::root_with("a", |spec| {
            spec.get(KEY_USAGE).value = vec![0x03, 0x02, 0x07, 0x80];
        });
        assert!(matches!(
            read(&pem(&[root.der])),
            Err(BundleError::Root { fault: RootFault::Certificate(SvidError::IssuerKeyUsage), .. })
        ));
    }

    #[test]
    fn a_root_that_names_another_domain_is_refused() {
        let named = |name: &str| {
            let name = sequence(&[uri(name)]);
            let root = Ca::root_with("a", |spec| {
                spec.extensions.push(extension(SAN, false, name));
            });
            read(&pem(&[root.der]))
        };
        assert!(named("spiffe://example.org").is_ok());
        assert!(named("spiffe://example.org/").is_ok());
        assert!(named("https://pki.example.com/").is_ok());
        assert!(matches!(
            named("spiffe://example.com").unwrap_err(),
            BundleError::Root { fault: RootFault::OtherDomain(_), .. }
        ));
    }

    #[test]
    fn path_lengths_are_read() {
        let value = |length: &[u8]| sequence(&[element(0x01, &[0xff]), element(0x02, length)]);
        assert_eq!(ca_constraints(&value(&[0])), Some(Some(0)));
        assert_eq!(ca_constraints(&value(&[7])), Some(Some(7)));
        assert_eq!(ca_constraints(&value(&[0, 0x80])), Some(None));
        assert_eq!(ca_constraints(&value(&[0xff])), None);
        assert_eq!(ca_constraints(&value(&[])), None);
        assert_eq!(ca_constraints(&sequence(&[element(0x01, &[1])])), None);
        assert_eq!(ca_constraints(&sequence(&[])), None);
    }
}
