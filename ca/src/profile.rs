//! What our certificates look like.
//!
//! In come names, keys and times; out come complete parameters for `rcgen`. Every field is set here, since none
//! of its defaults is right for a CA: validity from 1975 to 4096, a fixed subject, no usages, and a serial
//! number made from the key, which repeats when a key is certified again.

use std::time::{Duration, SystemTime};

use identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use time::OffsetDateTime;

use crate::error::CaError;

/// From when to when, in whole seconds, both inclusive (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Validity {
    /// From a little before now, for peers whose clocks are behind, until `lifetime` from now.
    pub(crate) fn starting(now: SystemTime, lifetime: Duration) -> Result<Self, CaError> {
        let out_of_range = || CaError::Crypto("the time is out of range".into());
        let now = whole_seconds(now);
        Ok(Self {
            not_before: now.checked_sub(BACKDATE).ok_or_else(out_of_range)?,
            not_after: now.checked_add(lifetime).ok_or_else(out_of_range)?,
        })
    }

    /// The part of `self` inside `issuer`, refused when less than a tenth of the lifetime is left: a leaf
    /// that ends before its holder had time to renew it is an outage with a delay.
    pub(crate) fn within(self, issuer: Self, now: SystemTime) -> Result<Self, CaError> {
        issuer.check(now)?;
        let clamped = Self {
            not_before: self.not_before.max(issuer.not_before),
            not_after: self.not_after.min(issuer.not_after),
        };
        let left = clamped.not_after.duration_since(now).unwrap_or_default();
        let wanted = self.not_after.duration_since(now).unwrap_or_default();
        if left < wanted / 10 {
            return Err(CaError::TooShort { chain_ends: issuer.not_after });
        }
        Ok(clamped)
    }

    /// From the first second to the last.
    pub(crate) fn length(self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }

    /// Whether a CA with this validity may act now.
    pub(crate) fn check(self, now: SystemTime) -> Result<(), CaError> {
        let now = whole_seconds(now);
        if now < self.not_before {
            Err(CaError::NotYetValid(self.not_before))
        } else if now > self.not_after {
            Err(CaError::Expired(self.not_after))
        } else {
            Ok(())
        }
    }
}

/// The two kinds of CA certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaKind {
    /// Trusted by being in the bundle.
    Root,
    /// Signed by the root; issues leaves only.
    Intermediate,
}

/// A signing certificate (X509-SVID §3.2): the trust domain as its SPIFFE ID, without a path and without a slash.
///
/// The subject is unique to the key. Path builders try every CA of the issuer's name, and with equal names
/// some of them give up before they reach the right one (spiffe/spire#4415).
pub(crate) fn signing(
    kind: CaKind,
    trust_domain: &TrustDomain,
    key: &impl PublicKeyData,
    validity: Validity,
) -> Result<CertificateParams, CaError> {
    let mut params = base(validity)?;
    let (label, constraints) = match kind {
        CaKind::Root => ("root", BasicConstraints::Unconstrained),
        CaKind::Intermediate => ("intermediate", BasicConstraints::Constrained(0)),
    };
    let key_id: String = params.key_identifier(key).iter().take(8).map(|octet| format!("{octet:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("sekisho {label} {key_id}"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A root points at no issuer but itself (RFC 5280 §4.2.1.1).
    params.use_authority_key_identifier_extension = kind == CaKind::Intermediate;
    Ok(params)
}

/// A leaf (X509-SVID §4): one URI name, an empty subject, an empty basic constraints sequence, which strict
/// readers insist on, and both extended key usages. DNS names are for the CA's own server alone.
pub(crate) fn leaf(id: &SpiffeId, names: &[String], validity: Validity) -> Result<CertificateParams, CaError> {
    let mut params = base(validity)?;
    params.subject_alt_names = vec![uri(id.as_str())?];
    for name in names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The lifetime of a root: ten years of 365.25 days.
pub(crate) const ROOT_LIFETIME: Duration = Duration::from_secs(315_576_000);

/// The lifetime of an intermediate. It lives in one process; seven days bound what a stolen one can do.
pub(crate) const INTERMEDIATE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

fn base(validity: Validity) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.not_before = calendar(validity.not_before)?;
    params.not_after = calendar(validity.not_after)?;
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    params.key_identifier_method = KeyIdMethod::Sha256;
    Ok(params)
}

/// 16 random octets with the top bit clear. The first is not zero either, so that all are equally long.
fn serial() -> Result<SerialNumber, CaError> {
    loop {
        let mut octets = [0; 16];
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| CaError::Crypto("no random bytes".into()))?;
        let [high, ..] = &mut octets;
        *high &= 0x7f;
        if *high != 0 {
            return Ok(SerialNumber::from_slice(&octets));
        }
    }
}

/// A certificate's date. A clock beyond the year 9999 is an error, not a panic.
fn calendar(time: SystemTime) -> Result<OffsetDateTime, CaError> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or_else(|| CaError::Crypto("the time is out of range".into()))
}

fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(text.try_into()?))
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// How far before now a certificate begins: enough for ordinary clocks, too little to matter otherwise.
const BACKDATE: Duration = Duration::from_secs(60);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn validity_begins_a_minute_ago_and_has_whole_seconds() {
        let now = at(NOW) + Duration::from_millis(900);
        let validity = Validity::starting(now, Duration::from_secs(3600)).unwrap();
        assert_eq!(validity.not_before, at(NOW - 60));
        assert_eq!(validity.not_after, at(NOW + 3600));
    }

    #[test]
    fn a_leaf_never_outlives_its_issuer() {
        let issuer = Validity { not_before: at(NOW - 10), not_after: at(NOW + 1000) };
        let wanted = Validity::starting(at(NOW), Duration::from_secs(3600)).unwrap();
        assert_eq!(wanted.within(issuer, at(NOW)).unwrap(), issuer);
    }

    #[test]
    fn less_than_a_tenth_of_the_wanted_time_is_refused() {
        let within = |left: u64| {
            let issuer = Validity { not_before: at(0), not_after: at(NOW + left) };
            let wanted = Validity::starting(at(NOW), Duration::from_secs(1000)).unwrap();
            wanted.within(issuer, at(NOW))
        };
        assert!(within(100).is_ok());
        assert!(matches!(within(99), Err(CaError::TooShort { .. })));
    }

    #[test]
    fn an_issuer_outside_its_own_validity_does_not_act() {
        let issuer = Validity { not_before: at(NOW), not_after: at(NOW + 10) };
        assert!(issuer.check(at(NOW)).is_ok());
        assert!(issuer.check(at(NOW + 10)).is_ok());
        assert!(matches!(issuer.check(at(NOW - 1)), Err(CaError::NotYetValid(_))));
        assert!(matches!(issuer.check(at(NOW + 11)), Err(CaError::Expired(_))));
    }

    #[test]
    fn serial_numbers_are_sixteen_octets_positive_and_distinct() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let octets = serial().unwrap().to_bytes();
            assert_eq!(octets.len(), 16);
            assert!((1..0x80).contains(&octets[0]));
            assert!(seen.insert(octets));
        }
    }
}
