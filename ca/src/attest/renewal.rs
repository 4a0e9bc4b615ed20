//! A certificate as evidence for the next.
//!
//! In come the verified certificate of a mutual TLS connection, the key that is to be certified, and what the log
//! knows of the old certificate's origin; out comes a proof for the same name. Refused are a key that has been
//! certified just before, certificates that are not ours or have ended while the connection lasted, and
//! renewals of renewals for longer than the rules allow: a stolen key can be renewed, but not for ever. The
//! deny list is not asked here; the caller has it.

use std::time::{Duration, SystemTime};

use identity::{Svid, TrustDomain};

use super::refusal::Refusal;
use super::{Attested, Evidence, Lineage};
use crate::log::Hash;

/// Attests the peer for its own name again.
///
/// `peer` is what the handshake verified and `leaf` the DER it verified, `new_spki` the DER SubjectPublicKeyInfo
/// of the signing request, `lineage` what the log has under the serial of `peer`, `max_age` how long after its
/// first attestation a lineage may be continued, [`MAX_LINEAGE`] unless configured.
pub fn renew(
    peer: &Svid,
    leaf: &[u8],
    new_spki: &[u8],
    lineage: Option<&Lineage>,
    trust_domain: &TrustDomain,
    max_age: Duration,
    now: SystemTime,
) -> Result<Attested, Refusal> {
    if Svid::hash_of(leaf) != *peer.hash() {
        return Err(Refusal::RenewalOtherLeaf);
    }
    if peer.id().trust_domain() != trust_domain.as_str() {
        return Err(Refusal::RenewalOtherDomain);
    }
    // The handshake may be long ago.
    if now < peer.not_before() {
        return Err(Refusal::RenewalNotYetValid);
    }
    if now > peer.not_after() {
        return Err(Refusal::RenewalExpired);
    }
    if Hash::of(new_spki).as_bytes() == peer.key_sha256() {
        return Err(Refusal::RenewalSameKey);
    }
    let lineage = lineage.ok_or(Refusal::RenewalUnknown)?;
    // A clock that was set back makes a lineage young, not old.
    if now.duration_since(lineage.since).is_ok_and(|age| age > max_age) {
        return Err(Refusal::RenewalLineage);
    }
    Ok(Attested {
        id: peer.id().clone(),
        evidence: Evidence::Renewal { serial: peer.serial().to_owned(), certificate: *peer.hash() },
        holder: lineage.holder.clone(),
        lineage: Some(lineage.clone()),
    })
}

/// 30 days.
pub const MAX_LINEAGE: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::Authority;
    use crate::attest::Holder;
    use identity::SpiffeId;
    use rcgen::{KeyPair, PublicKeyData};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn domain() -> TrustDomain {
        TrustDomain::parse("example.org").unwrap()
    }

    fn spki() -> Vec<u8> {
        KeyPair::generate().unwrap().subject_public_key_info()
    }

    /// A leaf of one day from now on, for this key.
    fn leaf(spki: &[u8]) -> (Svid, Vec<u8>) {
        let issuer = Authority::init(&domain(), now()).unwrap().intermediate(now()).unwrap();
        let id = SpiffeId::parse("spiffe://example.org/ns/shop/sa/web").unwrap();
        let issued = issuer.issue(&Attested::by_operator(id.clone()), spki, DAY, now()).unwrap();
        let der = pem::parse_many(issued.chain_pem()).unwrap()[0].contents().to_vec();
        (Svid::from_leaf(&der).unwrap(), der)
    }

    fn lineage(since: SystemTime) -> Lineage {
        let holder = Holder::Pod { cluster: "east".into(), uid: "u".into() };
        Lineage { record: 7, since, holder }
    }

    #[test]
    fn a_certificate_attests_its_own_name_with_a_new_key() {
        let (svid, der) = leaf(&spki());
        let first = lineage(now() - DAY);
        let attested = renew(&svid, &der, &spki(), Some(&first), &domain(), MAX_LINEAGE, now()).unwrap();
        assert_eq!(attested.id(), svid.id());
        assert_eq!(attested.holder(), &first.holder);
        assert_eq!(attested.lineage(), Some(&first));
        let evidence = Evidence::Renewal { serial: svid.serial().to_owned(), certificate: *svid.hash() };
        assert_eq!(attested.evidence(), &evidence);
    }

    #[test]
    fn every_bad_renewal_is_refused_for_its_own_reason() {
        let old = spki();
        let (svid, der) = leaf(&old);
        let (_, other) = leaf(&spki());
        let known = lineage(now());
        let refuse = |leaf: &[u8], new: &[u8], lineage: Option<&Lineage>, at: SystemTime| {
            renew(&svid, leaf, new, lineage, &domain(), MAX_LINEAGE, at).map(|_| ()).unwrap_err()
        };
        assert_eq!(refuse(&der, &old, Some(&known), now()), Refusal::RenewalSameKey);
        assert_eq!(refuse(&other, &spki(), Some(&known), now()), Refusal::RenewalOtherLeaf);
        assert_eq!(refuse(&der, &spki(), None, now()), Refusal::RenewalUnknown);
        let second = Duration::from_secs(1);
        assert_eq!(refuse(&der, &spki(), Some(&known), svid.not_after() + second), Refusal::RenewalExpired);
        assert_eq!(refuse(&der, &spki(), Some(&known), svid.not_before() - second), Refusal::RenewalNotYetValid);
        assert_eq!(refuse(&der, &spki(), Some(&lineage(now() - MAX_LINEAGE - second)), now()), Refusal::RenewalLineage);
        let elsewhere = TrustDomain::parse("example.com").unwrap();
        let refused = renew(&svid, &der, &spki(), Some(&known), &elsewhere, MAX_LINEAGE, now());
        assert_eq!(refused, Err(Refusal::RenewalOtherDomain));
    }

    #[test]
    fn bounds_are_inside() {
        let (svid, der) = leaf(&spki());
        let passes = |since, at| renew(&svid, &der, &spki(), Some(&lineage(since)), &domain(), MAX_LINEAGE, at).is_ok();
        assert!(passes(now() - MAX_LINEAGE, now()));
        assert!(passes(now(), svid.not_after()));
        assert!(passes(now(), svid.not_before()));
        assert!(passes(now() + DAY, now()));
    }
}
