//! Certificate signatures that were found good, so that the same ones need not be computed again.
//!
//! Whether a key signed these bytes never changes: it is a pure function of algorithm, key, bytes and signature, and the
//! name of an entry is a digest of all four. Everything that can change is checked for every chain as before: dates,
//! names, purposes, path lengths, and whether the bundle in force has the root. Only successes are kept, so nobody can
//! put in anything but a signature that is good. Signatures of handshakes are never the same twice and do not come here.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// An algorithm with a memory, one per thread.
pub(crate) struct Remembering(&'static dyn SignatureVerificationAlgorithm);

impl Remembering {
    pub(crate) fn new(inner: &'static dyn SignatureVerificationAlgorithm) -> Self {
        Self(inner)
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let algorithms = [self.0.public_key_alg_id(), self.0.signature_alg_id()];
        let [key_algorithm, signature_algorithm] = &algorithms;
        let name = name(&[key_algorithm.as_ref(), signature_algorithm.as_ref(), public_key, message, signature]);
        if GOOD.with_borrow(|good| good.contains(&name)) {
            return Ok(());
        }
        self.0.verify_signature(public_key, message, signature)?;
        GOOD.with_borrow_mut(|good| {
            if good.len() >= KEPT {
                good.clear();
            }
            good.insert(name);
        });
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

impl fmt::Debug for Remembering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A digest from which every part, and where it ends, follows.
fn name(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// Signatures a thread remembers: 64 KiB. When there are more, all are forgotten and the next chains are computed again.
const KEPT: usize = 1024;

thread_local! {
    static GOOD: RefCell<HashSet<[u8; 32]>> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// Good is what is signed by repeating it.
    #[derive(Debug)]
    struct Repeat;
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    impl SignatureVerificationAlgorithm for Repeat {
        fn verify_signature(&self, _key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            ASKED.fetch_add(1, Relaxed);
            if message == signature { Ok(()) } else { Err(InvalidSignature) }
        }
        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(b"key")
        }
        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(b"signature")
        }
    }

    #[test]
    fn only_what_was_good_is_remembered_and_only_for_exactly_the_same() {
        let algorithm = Remembering::new(&Repeat);
        let ask = |key: &[u8], message: &[u8], signature: &[u8]| {
            let before = ASKED.load(Relaxed);
            let good = algorithm.verify_signature(key, message, signature).is_ok();
            (good, ASKED.load(Relaxed) > before)
        };
        assert_eq!(ask(b"k", b"m", b"m"), (true, true));
        assert_eq!(ask(b"k", b"m", b"m"), (true, false), "remembered");
        assert_eq!(ask(b"other", b"m", b"m"), (true, true), "another key");
        assert_eq!(ask(b"k", b"m", b"x"), (false, true), "another signature");
        assert_eq!(ask(b"k", b"m", b"x"), (false, true), "a failure is not kept");
        assert_eq!(ask(b"k", b"x", b"m"), (false, true), "another message");
        assert_eq!(ask(b"km", b"", b""), (true, true));
        assert_eq!(ask(b"k", b"m", b""), (false, true), "no part runs into the next");
        for number in 0..KEPT {
            let text = number.to_string();
            assert_eq!(ask(b"k", text.as_bytes(), text.as_bytes()), (true, true));
        }
        assert_eq!(ask(b"k", b"m", b"m"), (true, true), "the memory is bounded");
    }
}
