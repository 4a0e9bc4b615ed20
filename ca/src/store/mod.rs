//! The CA's folder.
//!
//! ```text
//! ca/                     0700
//!   ca.json               {"schema":1,"trust_domain":"example.org"}; written last: a folder with it is complete
//!   state.json            the rotation's state: which roots are in the bundle, which issues
//!   roots/<root id>/      0700, one folder a root
//!     root.pem            the certificate
//!     root.key            0600, PKCS #8, encrypted when a passphrase was given
//!   retired/<root id>/    roots that the state does not name any more
//!   denied.json           who is denied in an emergency
//!   lock                  held by the one who changes the folder, denied.lock by the one who changes the list
//! ```
//! In comes a folder; out come its parts. Refused are a folder that already holds a CA, a key file that others
//! may use or that belongs to someone else, and any form we did not write. `state.json` decides: a step of a
//! rotation is one replacement of it, what the step needs is written before, and what it leaves behind is put
//! aside after.

mod durable;
mod lock;
mod read;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use identity::TrustDomain;

pub use lock::Lock;

use crate::error::CaError;
use crate::rotation::{RootId, Rotation};
use crate::seal::{self, OpenError};
pub(crate) use read::Secrecy;
use read::read;

#[cfg(test)]
pub(crate) use durable::{kill_after, revive};

/// Where keys are, and what opens them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys<'a> {
    /// The passphrase, byte for byte; a caller who reads it from a file takes the line end off.
    pub passphrase: Option<&'a [u8]>,
    /// A folder that holds `<root id>.key` for some of the roots, such as a mounted Secret. A key that is there is
    /// taken from there; it may also be readable for one group of ours, if root owns it.
    pub secret: Option<&'a Path>,
}

/// A folder that holds a CA.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    trust_domain: TrustDomain,
}

impl Folder {
    /// Makes a new CA in a new folder, or in an existing one that holds none. What a killed `found` left is put
    /// aside.
    pub(crate) fn found(
        dir: &Path,
        trust_domain: &TrustDomain,
        root: &RootFiles<'_>,
        state: &Rotation,
    ) -> Result<Self, CaError> {
        let key = root.seal_key()?;
        // An existing folder keeps its mode: it may be shared on purpose, and the key's own mode is what counts.
        durable::ensure_folder(dir).map_err(|error| io_error("create", dir, error))?;
        let lock = Lock::take(dir)?;
        let about = dir.join(ABOUT);
        if fs::symlink_metadata(&about).is_ok() {
            return Err(CaError::Exists(about));
        }
        let folder = Self { dir: dir.to_owned(), trust_domain: trust_domain.clone() };
        folder.check_unfinished()?;
        folder.write_root(&lock, root, &key)?;
        folder.write_state(&lock, state)?;
        folder.sweep(&lock, state)?;
        let text = serde_json::json!({ "schema": SCHEMA, "trust_domain": trust_domain.as_str() });
        // The description comes last: a folder with one is complete.
        durable::create(dir, ABOUT, 0o644, format!("{text}\n").as_bytes())
            .map_err(|error| write_error(&about, error))?;
        Ok(folder)
    }

    /// Opens a folder that [`found`](Self::found) has finished.
    pub(crate) fn open(dir: &Path) -> Result<Self, CaError> {
        let trust_domain = load_about(&dir.join(ABOUT))?;
        Ok(Self { dir: dir.to_owned(), trust_domain })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub(crate) fn state(&self) -> Result<Rotation, CaError> {
        let path = self.dir.join(STATE);
        Rotation::from_json(&read(&path, Secrecy::Public, MAX_FILE)?).map_err(|detail| malformed(&path, &detail))
    }

    /// A root's certificate as PEM.
    pub(crate) fn certificate(&self, root: RootId) -> Result<String, CaError> {
        let path = self.root(root).join(ROOT);
        String::from_utf8(read(&path, Secrecy::Public, MAX_FILE)?).map_err(|_| malformed(&path, "is not text"))
    }

    /// A root's key as PKCS #8 DER.
    pub(crate) fn key(&self, root: RootId, keys: Keys<'_>) -> Result<Vec<u8>, CaError> {
        let own = self.root(root).join(KEY);
        let Some(secret) = keys.secret else { return load_key(&own, Secrecy::Owner, keys.passphrase) };
        // A mount that is not there is an error of its own, whatever else there is.
        fs::read_dir(secret).map_err(|error| io_error("read", secret, error))?;
        let mounted = secret.join(format!("{root}.key"));
        if fs::symlink_metadata(&mounted).is_ok() {
            return load_key(&mounted, Secrecy::MountedSecret, keys.passphrase);
        }
        load_key(&own, Secrecy::Owner, keys.passphrase).map_err(|error| match error {
            CaError::Io { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                CaError::KeyAbsent { secret: mounted, folder: own }
            }
            other => other,
        })
    }

    /// Puts a root into the folder, where it means nothing until the state names it.
    pub(crate) fn add_root(&self, lock: &Lock, root: &RootFiles<'_>) -> Result<(), CaError> {
        let key = root.seal_key()?;
        self.write_root(lock, root, &key)
    }

    /// Replaces the state. This is the moment at which a step of a rotation has happened.
    pub(crate) fn write_state(&self, _: &Lock, state: &Rotation) -> Result<(), CaError> {
        let text = state.to_json() + "\n";
        durable::replace(&self.dir, STATE, 0o644, text.as_bytes())
            .map_err(|error| io_error("write", &self.dir.join(STATE), error))
    }

    /// Puts roots that the state does not name into `retired/`, and takes away what a killed write left. Nobody
    /// needs them; they are kept, since a key that is deleted in error is gone.
    pub(crate) fn sweep(&self, _: &Lock, state: &Rotation) -> Result<(), CaError> {
        let roots = self.dir.join(ROOTS);
        let named = state.bundle();
        let fail = |error| io_error("clear up", &roots, error);
        for entry in fs::read_dir(&roots).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if durable::is_left_over(name) {
                durable::remove_tree(&roots.join(name)).map_err(fail)?;
            } else if RootId::parse(name).is_some_and(|root| !named.contains(&root)) {
                durable::move_into(&roots, name, &self.dir.join(RETIRED)).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// The emergency deny list's text; `None` where there is none.
    pub(crate) fn denied(&self) -> Result<Option<Vec<u8>>, CaError> {
        let path = self.dir.join(DENIED);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => read(&path, Secrecy::Public, MAX_DENIED).map(Some),
        }
    }

    /// Replaces the emergency deny list.
    pub(crate) fn write_denied(&self, _: &Lock, text: &[u8]) -> Result<(), CaError> {
        durable::replace(&self.dir, DENIED, 0o644, text)
            .map_err(|error| io_error("write", &self.dir.join(DENIED), error))
    }

    fn root(&self, root: RootId) -> PathBuf {
        self.dir.join(ROOTS).join(root.to_string())
    }

    fn write_root(&self, _: &Lock, root: &RootFiles<'_>, key: &str) -> Result<(), CaError> {
        let roots = self.dir.join(ROOTS);
        let files = [(ROOT, 0o644, root.pem.as_bytes()), (KEY, 0o600, key.as_bytes())];
        durable::ensure_folder(&roots)
            .and_then(|()| durable::create_folder(&roots, &root.id.to_string(), &files))
            .map_err(|error| io_error("write", &self.root(root.id), error))
    }

    /// A folder without a description is a new one, or one where `found` was killed. Anything else that has our
    /// names is not ours to replace.
    fn check_unfinished(&self) -> Result<(), CaError> {
        let state = self.dir.join(STATE);
        if fs::symlink_metadata(&state).is_ok() && self.state().is_err() {
            return Err(CaError::Exists(state));
        }
        let roots = self.dir.join(ROOTS);
        for entry in fs::read_dir(&roots).into_iter().flatten() {
            let name = entry.map_err(|error| io_error("read", &roots, error))?.file_name();
            let ours = name.to_str().is_some_and(|name| durable::is_left_over(name) || RootId::parse(name).is_some());
            if !ours {
                return Err(CaError::Exists(roots.join(name)));
            }
        }
        Ok(())
    }
}

/// A new root on its way into the folder.
pub(crate) struct RootFiles<'a> {
    pub(crate) id: RootId,
    pub(crate) pem: &'a str,
    /// PKCS #8 DER, in the clear.
    pub(crate) key: &'a [u8],
    pub(crate) passphrase: Option<&'a [u8]>,
}

impl RootFiles<'_> {
    fn seal_key(&self) -> Result<String, CaError> {
        let key = match self.passphrase {
            None => pem::Pem::new("PRIVATE KEY", self.key),
            Some([]) => return Err(CaError::PassphraseEmpty),
            Some(passphrase) => {
                let sealed = seal::seal(self.key, passphrase)
                    .ok_or_else(|| CaError::Crypto("the key could not be encrypted".into()))?;
                pem::Pem::new("ENCRYPTED PRIVATE KEY", sealed)
            }
        };
        let lf = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Ok(pem::encode_config(&key, lf))
    }
}

fn load_about(path: &Path) -> Result<TrustDomain, CaError> {
    let about: serde_json::Value = serde_json::from_slice(&read(path, Secrecy::Public, MAX_FILE)?)
        .map_err(|error| malformed(path, &format!("is not JSON: {error}")))?;
    let fields = about.as_object().ok_or_else(|| malformed(path, "is not a JSON object"))?;
    if let Some(key) = fields.keys().find(|key| !matches!(key.as_str(), "schema" | "trust_domain")) {
        return Err(malformed(path, &format!("holds the unknown key {key:?}")));
    }
    if fields.get("schema") != Some(&serde_json::json!(SCHEMA)) {
        return Err(malformed(path, "was written by another version (`schema`)"));
    }
    let trust_domain = fields
        .get("trust_domain")
        .and_then(serde_json::Value::as_str)
        .ok_or_else(|| malformed(path, "lacks `trust_domain`"))?;
    TrustDomain::parse(trust_domain).map_err(|error| malformed(path, &format!("is wrong: {error}")))
}

pub(crate) fn load_key(path: &Path, secrecy: Secrecy, passphrase: Option<&[u8]>) -> Result<Vec<u8>, CaError> {
    let sections =
        pem::parse_many(read(path, secrecy, MAX_FILE)?).map_err(|_| malformed(path, "is not well-formed PEM"))?;
    let [section] = sections.as_slice() else {
        return Err(malformed(path, "does not hold exactly one key"));
    };
    match (section.tag(), passphrase) {
        ("PRIVATE KEY", None) => Ok(section.contents().to_vec()),
        // The operator believes the key to be protected. It is not, and they should hear of it.
        ("PRIVATE KEY", Some(_)) => Err(CaError::PassphraseUnused),
        ("ENCRYPTED PRIVATE KEY", None) => Err(CaError::PassphraseNeeded),
        ("ENCRYPTED PRIVATE KEY", Some(passphrase)) => {
            seal::open(section.contents(), passphrase).map_err(|error| match error {
                OpenError::Wrong => CaError::PassphraseWrong,
                OpenError::Unsupported => {
                    malformed(path, "is encrypted in another way than PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC")
                }
            })
        }
        (tag, _) => Err(malformed(path, &format!("holds {tag:?}, not a PKCS #8 key"))),
    }
}

fn write_error(path: &Path, error: io::Error) -> CaError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => CaError::Exists(path.to_owned()),
        _ => io_error("write", path, error),
    }
}

fn io_error(verb: &'static str, path: &Path, error: io::Error) -> CaError {
    CaError::Io { verb, path: path.to_owned(), error }
}

fn malformed(path: &Path, detail: &str) -> CaError {
    CaError::Malformed { path: PathBuf::from(path), detail: detail.to_owned() }
}

const ABOUT: &str = "ca.json";
const STATE: &str = "state.json";
const ROOTS: &str = "roots";
const RETIRED: &str = "retired";
const DENIED: &str = "denied.json";
const ROOT: &str = "root.pem";
const KEY: &str = "root.key";
const SCHEMA: u32 = 1;

/// Certificates, keys and the description are below 4 KiB; a state that names who was left out is below 48.
const MAX_FILE: u64 = 64 << 10;

/// The deny list is bounded by its entries; this is above the longest.
const MAX_DENIED: u64 = 64 << 20;

#[cfg(test)]
mod tests;
