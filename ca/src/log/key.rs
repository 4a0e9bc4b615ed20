//! The key that signs heads: Ed25519 (RFC 8032), made with the log.
//!
//! `log.key` is at rest as a root key is: 0600, PKCS #8, encrypted when a passphrase is given. `log.pub` is the
//! public half as PEM. It is of no other use, so who steals it can forge this log and no certificate.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use super::error::{Finding, Flaw, LogError};
use super::folder::{self, KEY, PUBLIC};
use super::hash::Hash;
use crate::error::CaError;
use crate::{seal, store};

/// Signs heads.
pub struct LogKey {
    pair: Ed25519KeyPair,
    public: LogPublicKey,
}

/// Verifies heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPublicKey([u8; 32]);

impl LogKey {
    /// Opens the key of the log in the CA's folder `dir`, and checks it against its public half.
    ///
    /// # Errors
    /// A key that others may read, a passphrase that does not fit, a key of another log.
    pub fn load(dir: &Path, passphrase: Option<&[u8]>) -> Result<Self, LogError> {
        let folder = folder::of(dir)?;
        let der = store::load_key(&folder.join(KEY), store::Secrecy::Owner, passphrase)
            .map_err(|error| LogError::Key(Arc::new(error)))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| {
            // A wrong passphrase leaves valid padding once in 256 times; what comes out is no key then.
            let error = match passphrase {
                Some(_) => CaError::PassphraseWrong,
                None => CaError::Crypto("not an Ed25519 key".into()),
            };
            LogError::Key(Arc::new(error))
        })?;
        let key = Self::of(pair)?;
        if LogPublicKey::load(&folder)? != key.public {
            return Err(LogError::KeyMismatch);
        }
        Ok(key)
    }

    /// The public half.
    pub fn public(&self) -> LogPublicKey {
        self.public
    }

    pub(crate) fn generate() -> Result<Self, LogError> {
        Self::of(Ed25519KeyPair::generate().map_err(|_| LogError::Crypto)?)
    }

    /// The file, encrypted under a passphrase.
    pub(crate) fn at_rest(&self, passphrase: Option<&[u8]>) -> Result<String, LogError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| LogError::Crypto)?;
        Ok(match passphrase {
            None => encode("PRIVATE KEY", der.as_ref()),
            Some([]) => return Err(LogError::Key(Arc::new(CaError::PassphraseEmpty))),
            Some(passphrase) => {
                encode("ENCRYPTED PRIVATE KEY", &seal::seal(der.as_ref(), passphrase).ok_or(LogError::Crypto)?)
            }
        })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64], LogError> {
        let signature = self.pair.try_sign(message).map_err(|_| LogError::Crypto)?;
        signature.as_ref().try_into().map_err(|_| LogError::Crypto)
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, LogError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| LogError::Crypto)?;
        Ok(Self { pair, public: LogPublicKey(public) })
    }
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogKey({})", self.public.id())
    }
}

impl LogPublicKey {
    /// What the log and its heads call it: the hash of its DER SubjectPublicKeyInfo.
    pub fn id(&self) -> Hash {
        Hash::of(&self.spki())
    }

    /// As `openssl pkey -pubin` reads it.
    pub fn pem(&self) -> String {
        encode("PUBLIC KEY", &self.spki())
    }

    /// Reads `log.pub` of a log's folder. There is one spelling of a key, so that no byte of the file may change.
    pub(crate) fn load(folder: &Path) -> Result<Self, LogError> {
        let wrong = || LogError::Found(Finding::in_file(PUBLIC, Flaw::KeyForm));
        let text = folder::read_small(&folder.join(PUBLIC))?.ok_or_else(wrong)?;
        let pem = pem::parse(&text).map_err(|_| wrong())?;
        let key = pem.contents().strip_prefix(&SPKI).and_then(|key| key.try_into().ok()).map(Self);
        key.filter(|key| key.pem().as_bytes() == text).ok_or_else(wrong)
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }

    fn spki(&self) -> Vec<u8> {
        [&SPKI, self.0.as_slice()].concat()
    }
}

fn encode(tag: &str, der: &[u8]) -> String {
    pem::encode_config(&pem::Pem::new(tag, der), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

/// What stands before the 32 octets of a key in a SubjectPublicKeyInfo (RFC 8410 §4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
