//! Why the CA would not do something, and what the operator can do about it.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use identity::{BundleError, KeyError, SpiffeId, SvidError};

use crate::denied::DenyError;
use crate::rotation::{Refused, RootId};

/// A refusal of the CA.
#[derive(Debug)]
pub enum CaError {
    /// A file or folder could not be used.
    Io {
        /// What was tried, as in "read".
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// A file of a CA is already there.
    Exists(PathBuf),
    /// Somebody else changes the folder.
    Locked(PathBuf),
    /// A step of a rotation is not possible now.
    Refused(Refused),
    /// The emergency deny list does not take the entry.
    Deny(DenyError),
    /// A root of the folder is not the one that the state names, or was changed.
    OtherRoot {
        /// The folder's name of it.
        named: RootId,
        /// What its certificate says.
        found: RootId,
    },
    /// Others than the owner may use the key file.
    KeyFileMode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file belongs to another user.
    KeyFileOwner(PathBuf),
    /// A file is not what it should be.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, continuing "the file".
        detail: String,
    },
    /// The key is encrypted and no passphrase was given.
    PassphraseNeeded,
    /// A passphrase was given, but the key is not encrypted.
    PassphraseUnused,
    /// The passphrase does not open the key.
    PassphraseWrong,
    /// The key of a root is neither where it was said to be nor in the CA's folder.
    KeyAbsent {
        /// Where it should be.
        secret: PathBuf,
        /// In the CA's folder.
        folder: PathBuf,
    },
    /// An empty passphrase protects nothing.
    PassphraseEmpty,
    /// The root certificate is not acceptable.
    Root(BundleError),
    /// The root key does not belong to the root certificate.
    RootKeyMismatch,
    /// The clock is before the validity of the CA's own certificate.
    NotYetValid(SystemTime),
    /// The CA's own certificate has expired.
    Expired(SystemTime),
    /// The chain ends so soon that less than a tenth of the wanted time would be left.
    TooShort {
        /// The end of the chain.
        chain_ends: SystemTime,
    },
    /// A lifetime below one second.
    ZeroTtl,
    /// The name belongs to another trust domain.
    OtherDomain {
        /// The name asked for.
        id: SpiffeId,
        /// The trust domain of this CA.
        trust_domain: String,
    },
    /// The name has no path, so it names no workload.
    NoPath(SpiffeId),
    /// The public key is not acceptable.
    Key(KeyError),
    /// The public key is well-formed but no valid key of its kind, such as a point off its curve.
    InvalidKey,
    /// The certificate that was made does not pass our own verifier. Nothing was issued.
    Lint(SvidError),
    /// The certificate that was made differs from what was asked for. Nothing was issued.
    LintMismatch(&'static str),
    /// A join token cannot be made or named so. Continues "a join token".
    JoinToken(&'static str),
    /// The crypto library failed.
    Crypto(String),
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { verb, path, error } => {
                write!(f, "cannot {verb} {}: {error}", path.display())
            }
            Self::Exists(path) => {
                write!(f, "{} is already there; a CA is never overwritten, choose another folder", path.display())
            }
            Self::Locked(dir) => write!(
                f,
                "{} is in use by another process, a server or a command; only one may change it at a time",
                dir.display()
            ),
            Self::Refused(refused) => refused.fmt(f),
            Self::Deny(error) => error.fmt(f),
            Self::OtherRoot { named, found } => {
                write!(f, "roots/{named} holds the certificate of root {found}")
            }
            Self::KeyFileMode { path, mode } => write!(
                f,
                "{} has mode {mode:04o}: others could read the root key; run `chmod 600` on it, and treat the key as known if others had access",
                path.display()
            ),
            Self::KeyFileOwner(path) => {
                write!(f, "{} belongs to another user", path.display())
            }
            Self::Malformed { path, detail } => write!(f, "{} {detail}", path.display()),
            Self::PassphraseNeeded => f.write_str("the root key is encrypted; give its passphrase"),
            Self::PassphraseUnused => f.write_str("a passphrase was given, but the root key is not encrypted"),
            Self::PassphraseWrong => {
                f.write_str("the passphrase does not open the root key, or the key file is damaged")
            }
            Self::PassphraseEmpty => f.write_str("the passphrase is empty"),
            Self::Root(error) => write!(f, "root.pem {error}"),
            Self::RootKeyMismatch => f.write_str("the root key does not belong to the root certificate"),
            Self::NotYetValid(from) => {
                write!(f, "the CA's certificate is valid only from {} on; is the clock right?", Utc(*from))
            }
            Self::Expired(until) => write!(f, "the CA's certificate expired at {}", Utc(*until)),
            Self::TooShort { chain_ends } => write!(
                f,
                "the CA's own certificate ends at {}, which leaves less than a tenth of the wanted lifetime; renew the CA or ask for less",
                Utc(*chain_ends)
            ),
            Self::ZeroTtl => f.write_str("the lifetime is shorter than one second"),
            Self::OtherDomain { id, trust_domain } => {
                write!(f, "`{id}` is not in trust domain `{trust_domain}`, the only one this CA speaks for")
            }
            Self::NoPath(id) => write!(f, "`{id}` has no path; a leaf names a workload (X509-SVID §5.2)"),
            Self::Key(error) => write!(f, "the public key {error}"),
            Self::InvalidKey => f.write_str("the public key is not a valid key of its kind"),
            Self::Lint(error) => write!(f, "refused to release what was made: {error}"),
            Self::LintMismatch(what) => {
                write!(f, "refused to release what was made: {what} differs from the request")
            }
            Self::JoinToken(detail) => write!(f, "a join token {detail}"),
            Self::KeyAbsent { secret, folder } => write!(
                f,
                "the root's key is neither {} nor {}; mount the Secret that holds it, under that name",
                secret.display(),
                folder.display()
            ),
            Self::Crypto(detail) => write!(f, "the crypto library failed: {detail}"),
        }
    }
}

impl std::error::Error for CaError {}

impl From<Refused> for CaError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<DenyError> for CaError {
    fn from(error: DenyError) -> Self {
        Self::Deny(error)
    }
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}

/// A time as `2027-01-15 08:00:00 UTC`.
pub(crate) struct Utc(pub(crate) SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let Ok(t) = time::OffsetDateTime::from_unix_timestamp(seconds) else {
            return f.write_str("a time beyond the calendar");
        };
        write!(
            f,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}
