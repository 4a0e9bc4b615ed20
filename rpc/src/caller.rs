//! Who is at the other end of a connection, as far as the connection proves it.

use identity::{Bundle, CertificateDer, Svid, SvidError, Usage};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The other end. Every request carries one among its extensions.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    address: Option<SocketAddr>,
    shown: Option<(Svid, Vec<CertificateDer<'static>>)>,
    /// The last time that it was verified again.
    verified: Mutex<Option<Verified>>,
    process: Option<Process>,
}

/// A verification that holds for as long as it would come out the same: under the same bundle, until something in it ends.
#[derive(Debug)]
struct Verified {
    bundle: Bundle,
    from: SystemTime,
    until: SystemTime,
}

/// The process that connected to a unix socket, as the kernel knew it at that moment (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The process, if it is visible from our own PID namespace.
    pub pid: Option<i32>,
}

impl Verified {
    /// A clock that was set back asks again.
    fn holds(&self, bundle: &Bundle, now: SystemTime) -> bool {
        self.bundle.is(bundle) && (self.from..self.until).contains(&now)
    }
}

impl Caller {
    /// Over TCP: the address, and the chain that the TLS handshake verified; empty if none was shown.
    pub(crate) fn over_tls(address: SocketAddr, chain: Vec<CertificateDer<'static>>) -> Result<Self, SvidError> {
        let shown = match chain.first() {
            None => None,
            Some(leaf) => Some((Svid::from_leaf(leaf)?, chain)),
        };
        Ok(Self(Arc::new(Facts { address: Some(address), shown, verified: Mutex::default(), process: None })))
    }

    pub(crate) fn over_unix(process: Process) -> Self {
        Self(Arc::new(Facts { address: None, shown: None, verified: Mutex::default(), process: Some(process) }))
    }

    /// Where the connection comes from; absent on a unix socket. Never an identity.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address
    }

    /// The SVID that the handshake verified against our bundle.
    pub fn svid(&self) -> Option<&Svid> {
        self.0.shown.as_ref().map(|(svid, _)| svid)
    }

    /// The chain behind [`svid`](Self::svid), leaf first; empty if none was shown. The handshake may be long ago.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.0.shown.as_ref().map_or(&[], |(_, chain)| chain)
    }

    /// The SVID, if it verifies now as well: the handshake may be older than `bundle`, and than the end of a certificate.
    ///
    /// One bundle's answer is kept until the first of the chain, the roots and the denials ends, so a connection that asks often
    /// costs a comparison.
    ///
    /// # Errors
    /// Those of [`identity::verify`]; [`SvidError::NoCertificate`] where none was shown.
    pub fn verified(&self, bundle: &Bundle, now: SystemTime) -> Result<&Svid, SvidError> {
        let (svid, chain) = self.0.shown.as_ref().ok_or(SvidError::NoCertificate)?;
        let mut verified = self.0.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if !verified.as_ref().is_some_and(|last| last.holds(bundle, now)) {
            *verified = None;
            identity::verify(chain, bundle, Usage::Client, now)?;
            let roots = bundle.expiries().filter(|end| *end >= now);
            let until = roots.fold(identity::expiry(chain)?, SystemTime::min);
            *verified = Some(Verified { bundle: bundle.clone(), from: now, until });
        }
        Ok(svid)
    }

    /// The process behind a unix socket.
    pub fn process(&self) -> Option<Process> {
        self.0.process
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use identity::TrustDomain;
    use std::time::Duration;

    #[test]
    fn a_verification_holds_for_one_bundle_and_one_time() {
        let bundle = || Bundle::from_pem(TrustDomain::parse("example.org").unwrap(), ROOT.as_bytes()).unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let ours = bundle();
        let verified = Verified { bundle: ours.clone(), from: at(10), until: at(20) };
        for (time, holds) in [(9, false), (10, true), (19, true), (20, false)] {
            assert_eq!(verified.holds(&ours.clone(), at(time)), holds, "{time}");
        }
        // The same roots, read again: they may have come with another deny list.
        assert!(!verified.holds(&bundle(), at(15)));
        assert!(!verified.holds(&ours.denying(identity::Denials::default()), at(15)));
    }

    const ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBsDCCAVegAwIBAgIQWTEFnqdXXmg7Hb11seGXmDAKBggqhkjOPQQDAjAoMSYw
JAYDVQQDDB1zZWtpc2hvIHJvb3QgN2M3NDUyYzA0ZGQ5ZjliZDAeFw0yNjExMjIx
OTAyNDdaFw0zNjExMjIwNzAzNDdaMCgxJjAkBgNVBAMMHXNla2lzaG8gcm9vdCA3
Yzc0NTJjMDRkZDlmOWJkMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAElhLzjNEg
72wl5ZT5iAjSjDIkc9GtBZiq2jTB8BqgRKMnNf/Ue+KL/cU6HLWrVQL2L2FqQJS4
RWDbXHC3ARJs0aNjMGEwHwYDVR0RBBgwFoYUc3BpZmZlOi8vZXhhbXBsZS5vcmcw
DgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBR8dFLATdn5vQbjdxYcCwRhvCCqxzAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIGdz/wDrA8Eb1QgTX221
2d+HCUo8KZfXkgBdqGjMiTyoAiAdJS0gJXi13617TADurauhpRoeev0tdwLMInaD
eBeiog==
-----END CERTIFICATE-----
";
}
