//! Is this chain an identity of our trust domain, now?
//!
//! In come a chain as presented, the bundle of one trust domain, the role of the presenter and the time; out
//! comes the leaf's [`Svid`]. The order of the checks is chosen for cost and clarity: length of the chain,
//! profile of the leaf, trust domain, dates of the leaf, CA certificates, and only then signatures. A chain
//! that nobody vouches for costs a parse, not a signature.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext,
    VerifiedPath,
};

use crate::bundle::{self, Bundle};
use crate::error::SvidError;
use crate::svid::Svid;
use crate::tls;
use crate::x509;

/// The role in which the presenter of a chain speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It opened the connection.
    Client,
    /// It accepted the connection.
    Server,
    /// Either, as it comes: whatever a holder of this chain may be later, no peer refuses it. One look instead of two.
    Both,
}

/// The most certificates looked at in one chain, leaf included. Leaf, intermediate and root are three.
pub const MAX_CHAIN: usize = 6;

/// The certificates of a chain that stand in DER one after the other, as the SPIFFE Workload API sends them.
///
/// # Errors
/// There is none, there are more than [`MAX_CHAIN`], or the bytes are not a row of DER elements.
pub fn chain_from_der(der: &[u8]) -> Result<Vec<CertificateDer<'static>>, SvidError> {
    if der.is_empty() {
        return Err(SvidError::NoCertificate);
    }
    x509::split(der, MAX_CHAIN).map_err(|detail| SvidError::NotX509(format!("the chain {detail}")))
}

/// Verifies a chain, leaf first, against the bundle of its own trust domain (X509-SVID §5, RFC 5280 §6.1).
///
/// `now` is cut to whole seconds: a certificate is good until the end of its last second.
pub fn verify(chain: &[CertificateDer<'_>], bundle: &Bundle, usage: Usage, now: SystemTime) -> Result<Svid, SvidError> {
    let (leaf, intermediates) = chain.split_first().ok_or(SvidError::NoCertificate)?;
    // A clock before 1970 reads as 1970, when nothing is valid yet.
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(now);
    verify_parts(leaf, intermediates, bundle, usage, now).map(|verified| verified.svid)
}

/// A chain that has been verified.
pub(crate) struct Verified {
    pub(crate) svid: Svid,
    /// When the first of its certificates expires.
    pub(crate) expiry: SystemTime,
}

/// [`verify`] in the shape in which rustls hands over a chain.
pub(crate) fn verify_parts(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &Bundle,
    usage: Usage,
    now: UnixTime,
) -> Result<Verified, SvidError> {
    if intermediates.len() >= MAX_CHAIN {
        return Err(SvidError::ChainTooLong);
    }
    let svid = Svid::from_leaf(leaf)?;
    check_trust_domain(&svid, bundle)?;
    check_dates(&svid, now)?;
    if bundle.denials().covers(&svid, SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs())) {
        return Err(SvidError::Denied(svid.id().clone()));
    }
    let mut expiry = svid.not_after();
    for intermediate in intermediates {
        expiry = expiry.min(issuer_expiry(intermediate)?);
    }
    check_path(leaf, intermediates, bundle, usage, now)?;
    Ok(Verified { svid, expiry })
}

/// What a CA certificate must be (RFC 5280 §6.1.4) and when it expires: of the bytes alone, so whoever has been read need not be
/// read again. A whole mesh shows a handful of intermediates.
fn issuer_expiry(der: &CertificateDer<'_>) -> Result<SystemTime, SvidError> {
    if let Some(expiry) = ISSUERS.with_borrow(|known| known.get(der.as_ref()).copied()) {
        return Ok(expiry);
    }
    let certificate = x509::parse(der)?;
    bundle::check_issuer(&certificate)?;
    let expiry = x509::time(certificate.validity().not_after.timestamp());
    ISSUERS.with_borrow_mut(|known| {
        if known.len() >= KNOWN_ISSUERS {
            known.clear();
        }
        known.insert(der.as_ref().into(), expiry);
    });
    Ok(expiry)
}

thread_local! {
    static ISSUERS: RefCell<HashMap<Box<[u8]>, SystemTime>> = RefCell::default();
}

/// Intermediates a thread remembers: at most 16 KiB each, some 700 octets in practice.
const KNOWN_ISSUERS: usize = 16;

fn check_trust_domain(svid: &Svid, bundle: &Bundle) -> Result<(), SvidError> {
    let (got, trusted) = (svid.id().trust_domain(), bundle.trust_domain().as_str());
    if got == trusted {
        Ok(())
    } else {
        Err(SvidError::UntrustedDomain { got: got.to_owned(), trusted: trusted.to_owned() })
    }
}

fn check_dates(svid: &Svid, now: UnixTime) -> Result<(), SvidError> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    if now < svid.not_before() {
        Err(SvidError::NotYetValid)
    } else if now > svid.not_after() {
        Err(SvidError::Expired)
    } else {
        Ok(())
    }
}

fn check_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &Bundle,
    usage: Usage,
    now: UnixTime,
) -> Result<(), SvidError> {
    let leaf = EndEntityCert::try_from(leaf)?;
    leaf.verify_for_usage(
        tls::signature_algorithms(),
        bundle.anchors(),
        intermediates,
        now,
        usage,
        None,
        Some(&|path| check_anchor(path, bundle, now)),
    )?;
    Ok(())
}

/// Holds the root to its own dates and path length: to `webpki` a root is a name and a key, nothing more.
fn check_anchor(path: &VerifiedPath<'_>, bundle: &Bundle, now: UnixTime) -> Result<(), webpki::Error> {
    let limits = bundle.limits(path.anchor()).ok_or(webpki::Error::UnknownIssuer)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    if time < limits.not_before {
        return Err(webpki::Error::CertNotValidYet { time: now, not_before: unix(limits.not_before) });
    }
    if time > limits.not_after {
        return Err(webpki::Error::CertExpired { time: now, not_after: unix(limits.not_after) });
    }
    let below = path.intermediate_certificates().count();
    match limits.path_length {
        Some(limit) if below > limit as usize => Err(webpki::Error::PathLenConstraintViolated),
        _ => Ok(()),
    }
}

/// A certificate without extended key usages is acceptable; one that has them must name the role.
impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        match self {
            Self::Client => KeyUsage::client_auth().validate(purposes),
            Self::Server => KeyUsage::server_auth().validate(purposes),
            Self::Both => both(purposes),
        }
    }
}

fn both(purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
    let purposes = purposes.collect::<Result<Vec<_>, _>>()?;
    let missing = [(x509::CLIENT_AUTH, KeyUsage::client_auth()), (x509::SERVER_AUTH, KeyUsage::server_auth())]
        .into_iter()
        .find(|(name, _)| !purposes.contains(&KeyPurposeId::new(name)));
    match missing {
        Some((_, required)) if !purposes.is_empty() => {
            let present = purposes.iter().map(KeyPurposeId::to_decoded_oid).collect();
            Err(webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
        }
        _ => Ok(()),
    }
}

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::testing::*;
    use rcgen::KeyPair;

    const ID: &str = "spiffe://example.org/ns/shop/sa/web";

    fn judge(chain: &[CertificateDer<'_>], bundle: &Bundle) -> &'static str {
        judge_at(chain, bundle, NOW)
    }

    fn judge_at(chain: &[CertificateDer<'_>], bundle: &Bundle, seconds: i64) -> &'static str {
        let server = verify(chain, bundle, Usage::Server, at(seconds));
        let client = verify(chain, bundle, Usage::Client, at(seconds));
        assert_eq!(server.is_ok(), client.is_ok());
        assert_eq!(verify(chain, bundle, Usage::Both, at(seconds)).is_ok(), client.is_ok());
        match client {
            Ok(svid) => {
                assert_eq!(svid.id().as_str(), ID);
                "accepted"
            }
            Err(error) => error.reason(),
        }
    }

    #[test]
    fn chains_to_the_right_root_are_accepted() {
        let root = Ca::root("root");
        let bundle = root.bundle("example.org");
        let (leaf, _) = root.leaf(ID);
        assert_eq!(judge(std::slice::from_ref(&leaf), &bundle), "accepted");
        // The root may come along; it is not needed and does no harm.
        assert_eq!(judge(&[leaf, root.der.clone()], &bundle), "accepted");
        let middle = root.intermediate("middle");
        let (leaf, _) = middle.leaf(ID);
        assert_eq!(judge(&[leaf, middle.der], &bundle), "accepted");
    }

    #[test]
    fn no_certificate_has_its_own_reason() {
        assert_eq!(judge(&[], &Ca::root("root").bundle("example.org")), "no_certificate");
    }

    #[test]
    fn the_trust_domain_is_compared_before_anything_is_built() {
        let root = Ca::root("root");
        let (leaf, _) = root.leaf(ID);
        for other in ["example.com", "xample.org", "example.org.evil", "example.or", "ns"] {
            assert_eq!(judge(std::slice::from_ref(&leaf), &root.bundle(other)), "trust_domain");
        }
    }

    #[test]
    fn a_root_of_another_domain_cannot_vouch_for_ours() {
        let ours = Ca::root("ours").bundle("example.org");
        let (forged, _) = Ca::root("theirs").leaf(ID);
        assert_eq!(judge(&[forged], &ours), "unknown_issuer");
        // Presenting the foreign root as an intermediate does not help.
        let theirs = Ca::root("theirs");
        let (forged, _) = theirs.leaf(ID);
        assert_eq!(judge(&[forged, theirs.der], &ours), "unknown_issuer");
    }

    #[test]
    fn a_root_of_the_same_name_is_told_apart_by_its_key() {
        let ours = Ca::root("root").bundle("example.org");
        let (forged, _) = Ca::root("root").leaf(ID);
        assert_eq!(judge(&[forged], &ours), "bad_signature");
    }

    #[test]
    fn an_altered_leaf_is_refused() {
        let root = Ca::root("root");
        let (leaf, _) = root.leaf(ID);
        let mut bytes = leaf.to_vec();
        let at = bytes.windows(3).position(|w| w == b"web").unwrap();
        bytes[at] = b'v';
        assert_eq!(judge(&[bytes.into()], &root.bundle("example.org")), "bad_signature");
    }

    #[test]
    fn dates_hold_to_the_second() {
        let root = Ca::root("root");
        let bundle = root.bundle("example.org");
        let chain = [root.leaf(ID).0];
        assert_eq!(judge_at(&chain, &bundle, NOW - HOUR), "accepted");
        assert_eq!(judge_at(&chain, &bundle, NOW - HOUR - 1), "not_yet_valid");
        assert_eq!(judge_at(&chain, &bundle, NOW + HOUR), "accepted");
        assert_eq!(judge_at(&chain, &bundle, NOW + HOUR + 1), "expired");
        let last = at(NOW + HOUR) + Duration::from_millis(999);
        assert!(verify(&chain, &bundle, Usage::Client, last).is_ok());
        let before_1970 = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(verify(&chain, &bundle, Usage::Client, before_1970).unwrap_err(), SvidError::NotYetValid);
    }

    #[test]
    fn dates_of_cas_hold_too() {
        let spoil =
            [(NOW - 2 * HOUR, NOW - HOUR, "issuer_expired"), (NOW + HOUR, NOW + 2 * HOUR, "issuer_not_yet_valid")];
        for (not_before, not_after, reason) in spoil {
            let dated = |spec: &mut Spec| {
                spec.not_before = not_before;
                spec.not_after = not_after;
            };
            let root = Ca::root_with("root", dated);
            let (leaf, _) = root.leaf(ID);
            assert_eq!(judge(&[leaf], &root.bundle("example.org")), reason);

            let root = Ca::root("root");
            let middle = root.intermediate_with("middle", dated);
            let (leaf, _) = middle.leaf(ID);
            assert_eq!(judge(&[leaf, middle.der], &root.bundle("example.org")), reason);
        }
    }

    #[test]
    fn a_root_signed_again_with_a_later_expiry_takes_over() {
        let old = Ca::root_with("root", |spec| spec.not_after = NOW - HOUR);
        let mut renewed = Spec::ca("root", &old.key);
        renewed.issuer = old.name.clone();
        let renewed = renewed.sign(&old.key);
        let file = pem(&[old.der.clone(), renewed]);
        let domain = crate::TrustDomain::parse("example.org").unwrap();
        let bundle = Bundle::from_pem(domain, file.as_bytes()).unwrap();
        assert_eq!(judge(&[old.leaf(ID).0], &bundle), "accepted");
    }

    #[test]
    fn only_cas_issue() {
        let root = Ca::root("root");
        let bundle = root.bundle("example.org");

        // A leaf that signs for another identity.
        let key = KeyPair::generate().unwrap();
        let mut spec = Spec::leaf("spiffe://example.org/ns/shop/sa/evil", &key);
        spec.subject = common_name("evil");
        let evil = Ca { der: root.issue(spec.clone()), name: spec.subject, key };
        let (leaf, _) = evil.leaf(ID);
        assert_eq!(judge(&[leaf, evil.der], &bundle), "issuer_not_ca");

        let explicit_false = root.intermediate_with("middle", |spec| {
            spec.get(BASIC_CONSTRAINTS).value = sequence(&[element(0x01, &[0])]);
        });
        let (leaf, _) = explicit_false.leaf(ID);
        assert_eq!(judge(&[leaf, explicit_false.der], &bundle), "issuer_not_ca");

        for bits in [[7, 0x80], [1, 0x02]] {
            let no_sign = root.intermediate_with("middle", |spec| {
                spec.get(KEY_USAGE).value = element(0x03, &bits);
            });
            let (leaf, _) = no_sign.leaf(ID);
            assert_eq!(judge(&[leaf, no_sign.der], &bundle), "issuer_key_usage");
        }

        let no_usage = root.intermediate_with("middle", |spec| {
            *spec = spec.clone().without(KEY_USAGE);
        });
        let (leaf, _) = no_usage.leaf(ID);
        assert_eq!(judge(&[leaf, no_usage.der], &bundle), "issuer_key_usage");
    }

    #[test]
    fn a_missing_intermediate_is_an_unknown_issuer() {
        let root = Ca::root("root");
        let middle = root.intermediate("middle");
        let (leaf, _) = middle.leaf(ID);
        assert_eq!(judge(&[leaf], &root.bundle("example.org")), "unknown_issuer");
    }

    #[test]
    fn path_lengths_bind_roots_and_intermediates() {
        let limit = |spec: &mut Spec| {
            spec.get(BASIC_CONSTRAINTS).value = sequence(&[element(0x01, &[0xff]), element(0x02, &[0])]);
        };
        let root = Ca::root_with("root", limit);
        let bundle = root.bundle("example.org");
        assert_eq!(judge(&[root.leaf(ID).0], &bundle), "accepted");
        let middle = root.intermediate("middle");
        let (leaf, _) = middle.leaf(ID);
        assert_eq!(judge(&[leaf, middle.der], &bundle), "path_length");

        let root = Ca::root("root");
        let upper = root.intermediate_with("upper", limit);
        let lower = upper.intermediate("lower");
        let (leaf, _) = lower.leaf(ID);
        assert_eq!(judge(&[leaf, lower.der, upper.der], &root.bundle("example.org")), "path_length");
    }

    #[test]
    fn a_signing_certificate_is_nobodys_own() {
        let root = Ca::root_with("root", |spec| {
            let name = sequence(&[uri("spiffe://example.org")]);
            spec.extensions.push(extension(SAN, false, name));
        });
        let bundle = root.bundle("example.org");
        assert_eq!(judge(std::slice::from_ref(&root.der), &bundle), "leaf_is_ca");
    }

    #[test]
    fn uri_name_constraints_are_refused_in_every_place() {
        let subtree = sequence(&[uri("example.org")]);
        for tag in [0xa0, 0xa1] {
            let value = sequence(&[element(tag, &subtree)]);
            let constrained = |spec: &mut Spec| {
                spec.extensions.push(extension(NAME_CONSTRAINTS, true, value.clone()));
            };
            let root = Ca::root("root");
            let middle = root.intermediate_with("middle", constrained);
            let (leaf, _) = middle.leaf(ID);
            assert_eq!(judge(&[leaf, middle.der], &root.bundle("example.org")), "name_constraint");
            let root = Ca::root_with("root", constrained);
            let domain = crate::TrustDomain::parse("example.org").unwrap();
            assert!(Bundle::from_pem(domain, pem(&[root.der]).as_bytes()).is_err());
        }
    }

    #[test]
    fn an_intermediate_for_one_role_only_serves_that_role() {
        let root = Ca::root("root");
        let middle = root.intermediate_with("middle", |spec| {
            let purposes = sequence(&[element(0x06, SERVER_AUTH)]);
            spec.extensions.push(extension(EXT_KEY_USAGE, false, purposes));
        });
        let bundle = root.bundle("example.org");
        let chain = [middle.leaf(ID).0, middle.der];
        assert!(verify(&chain, &bundle, Usage::Server, now()).is_ok());
        for refused in [Usage::Client, Usage::Both] {
            assert_eq!(verify(&chain, &bundle, refused, now()).unwrap_err(), SvidError::IssuerKeyUsage);
        }
    }

    #[test]
    fn an_unknown_critical_extension_of_a_ca_is_refused() {
        let root = Ca::root("root");
        let middle = root.intermediate_with("middle", |spec| {
            spec.extensions.push(extension(&[0x2a, 0x03], true, vec![0x05, 0x00]));
        });
        let (leaf, _) = middle.leaf(ID);
        assert_eq!(judge(&[leaf, middle.der], &root.bundle("example.org")), "critical_extension");
    }

    #[test]
    fn a_sha1_signature_above_the_leaf_is_refused() {
        let root = Ca::root("root");
        let middle = root.intermediate_with("middle", |spec| {
            spec.algorithm = ECDSA_SHA1.to_vec();
        });
        let (leaf, _) = middle.leaf(ID);
        assert_eq!(judge(&[leaf, middle.der], &root.bundle("example.org")), "weak_signature");
    }

    #[test]
    fn the_longest_chain_is_six_and_longer_ones_are_not_even_read() {
        let root = Ca::root("root");
        let mut cas = vec![root.intermediate("1")];
        for name in ["2", "3", "4", "5", "6"] {
            let next = cas.last().unwrap().intermediate(name);
            cas.push(next);
        }
        let chain_of = |n: usize| {
            let mut chain = vec![cas[n - 1].leaf(ID).0];
            chain.extend(cas[..n].iter().rev().map(|ca| ca.der.clone()));
            chain
        };
        let bundle = root.bundle("example.org");
        assert_eq!(judge(&chain_of(5), &bundle), "accepted");
        assert_eq!(judge(&chain_of(6), &bundle), "chain_too_long");
        let junk = vec![CertificateDer::from(vec![0u8; 10]); 200];
        assert_eq!(judge(&junk, &bundle), "chain_too_long");
    }

    #[test]
    fn entangled_chains_are_bounded_in_work() {
        // Five CAs of one name that all seem to issue each other, and a root of that name that issued none.
        let root = Ca::root("same");
        let other = Ca::root("same");
        let mut chain = vec![other.leaf(ID).0];
        for _ in 0..5 {
            chain.push(other.intermediate("same").der);
        }
        let begun = std::time::Instant::now();
        let reason = judge(&chain, &root.bundle("example.org"));
        assert!(matches!(reason, "bad_signature" | "chain_too_long"), "{reason}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}
