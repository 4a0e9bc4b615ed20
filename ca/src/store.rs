//! The CA's folder.
//!
//! ```text
//! ca/            0700
//!   root.key     0600, PKCS #8, encrypted when a passphrase was given
//!   root.pem     the root certificate, which is also the bundle
//!   ca.json      {"schema":1,"trust_domain":"example.org"}
//! ```
//! In comes a folder; out come its three files as one value. Refused are a folder that already holds one of
//! them, a key file that others may use or that belongs to someone else, and any form we did not write. Files
//! are written beside their place, flushed and moved, so a crash leaves no half of a file under its own name.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use identity::TrustDomain;

use crate::error::CaError;
use crate::seal::{self, OpenError};

/// What the folder holds.
pub(crate) struct Stored {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) root_pem: String,
    /// PKCS #8 DER, in the clear.
    pub(crate) key: Vec<u8>,
}

/// Writes a new folder, or into an existing one that holds no CA yet.
pub(crate) fn save(dir: &Path, stored: &Stored, passphrase: Option<&[u8]>) -> Result<(), CaError> {
    let key = match passphrase {
        None => pem::Pem::new("PRIVATE KEY", stored.key.clone()),
        Some([]) => return Err(CaError::PassphraseEmpty),
        Some(passphrase) => {
            let sealed = seal::seal(&stored.key, passphrase)
                .ok_or_else(|| CaError::Crypto("the key could not be encrypted".into()))?;
            pem::Pem::new("ENCRYPTED PRIVATE KEY", sealed)
        }
    };
    let about = serde_json::json!({
        "schema": SCHEMA,
        "trust_domain": stored.trust_domain.as_str(),
    });

    // An existing folder keeps its mode: it may be shared on purpose, and the key's own mode is what counts.
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| io_error("create", dir, error))?;
    for name in [KEY, ROOT, ABOUT] {
        let path = dir.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(CaError::Exists(path));
        }
    }
    // The key comes last: a folder with a key is a complete one.
    write(dir, ABOUT, 0o644, format!("{about}\n").as_bytes())?;
    write(dir, ROOT, 0o644, stored.root_pem.as_bytes())?;
    let lf = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    write(dir, KEY, 0o600, pem::encode_config(&key, lf).as_bytes())
}

/// Reads a folder that [`save`] has written.
pub(crate) fn load(dir: &Path, passphrase: Option<&[u8]>) -> Result<Stored, CaError> {
    let trust_domain = load_about(&dir.join(ABOUT))?;
    let path = dir.join(ROOT);
    let root_pem = String::from_utf8(read(&path, false)?).map_err(|_| malformed(&path, "is not text"))?;
    let key = load_key(&dir.join(KEY), passphrase)?;
    Ok(Stored { trust_domain, root_pem, key })
}

fn load_about(path: &Path) -> Result<TrustDomain, CaError> {
    let about: serde_json::Value = serde_json::from_slice(&read(path, false)?)
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

pub(crate) fn load_key(path: &Path, passphrase: Option<&[u8]>) -> Result<Vec<u8>, CaError> {
    let sections = pem::parse_many(read(path, true)?).map_err(|_| malformed(path, "is not well-formed PEM"))?;
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

/// Reads a small file. A secret one must be ours, or root's, and closed to everybody else; the checks are made
/// on the open file, so it cannot be exchanged in between.
fn read(path: &Path, secret: bool) -> Result<Vec<u8>, CaError> {
    let file = File::open(path).map_err(|error| io_error("read", path, error))?;
    let about = file.metadata().map_err(|error| io_error("read", path, error))?;
    if !about.is_file() {
        return Err(malformed(path, "is not a regular file"));
    }
    if secret {
        let mode = about.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(CaError::KeyFileMode { path: path.to_owned(), mode });
        }
        if about.uid() != 0 && Some(about.uid()) != own_uid() {
            return Err(CaError::KeyFileOwner(path.to_owned()));
        }
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| io_error("read", path, error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(malformed(path, "is too large"));
    }
    Ok(bytes)
}

/// The user we run as, from the owner of our own entry in `/proc`; the standard library has no call for it.
fn own_uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|about| about.uid())
}

fn write(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> Result<(), CaError> {
    let beside = dir.join(format!(".{name}.new"));
    let path = dir.join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .map_err(|error| write_error(&beside, error))?;
    // From here on the file beside is ours to remove, whatever happens.
    let result = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        // A hard link fails where a rename would overwrite: two `init` at once cannot undo each other.
        .and_then(|()| fs::hard_link(&beside, &path));
    let removed = fs::remove_file(&beside);
    result.and(removed).and_then(|()| File::open(dir)?.sync_all()).map_err(|error| write_error(&path, error))
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

const KEY: &str = "root.key";
const ROOT: &str = "root.pem";
const ABOUT: &str = "ca.json";
const SCHEMA: u32 = 1;

/// Each of the three files is below 4 KiB.
const MAX_FILE: u64 = 64 << 10;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn stored() -> Stored {
        Stored {
            trust_domain: TrustDomain::parse("example.org").unwrap(),
            root_pem: "a certificate".into(),
            key: vec![1, 2, 3],
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_folder_is_closed_to_others() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("deep").join("ca");
        save(&dir, &stored(), None).unwrap();
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join(KEY)), 0o600);
        let mut names: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["ca.json", "root.key", "root.pem"]);
        let back = load(&dir, None).unwrap();
        assert_eq!(back.key, [1, 2, 3]);
        assert_eq!(back.root_pem, "a certificate");
        assert_eq!(back.trust_domain.as_str(), "example.org");
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        for name in [KEY, ROOT, ABOUT] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "mine").unwrap();
            let error = save(dir.path(), &stored(), None).unwrap_err();
            assert!(matches!(error, CaError::Exists(_)), "{error}");
            assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"mine");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_file_left_by_a_crash_is_reported_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(".root.pem.new");
        fs::write(&left, "half").unwrap();
        let error = save(dir.path(), &stored(), None).unwrap_err();
        assert!(matches!(error, CaError::Exists(path) if path == left));
        assert_eq!(fs::read(&left).unwrap(), b"half");
        assert!(!dir.path().join(KEY).exists());
    }

    #[test]
    fn a_key_others_may_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &stored(), None).unwrap();
        let path = dir.path().join(KEY);
        for open in [0o640, 0o604, 0o620, 0o601, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let error = load(dir.path(), None).err().unwrap();
            assert!(matches!(error, CaError::KeyFileMode { mode, .. } if mode == open));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        load(dir.path(), None).unwrap();
    }

    #[test]
    fn the_passphrase_must_fit_the_file() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &stored(), Some(b"open sesame")).unwrap();
        let text = fs::read_to_string(dir.path().join(KEY)).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        assert_eq!(load(dir.path(), Some(b"open sesame")).unwrap().key, [1, 2, 3]);
        let refusal = |passphrase: Option<&[u8]>| load(dir.path(), passphrase).err();
        assert!(matches!(refusal(None), Some(CaError::PassphraseNeeded)));
        // Wrong padding, or by chance (1 in 256) a key that is not the root's.
        let wrong = load(dir.path(), Some(b"open barley")).map(|stored| stored.key);
        assert!(!matches!(wrong.as_deref(), Ok([1, 2, 3])));

        let plain = tempfile::tempdir().unwrap();
        save(plain.path(), &stored(), None).unwrap();
        assert!(matches!(load(plain.path(), Some(b"x")).err(), Some(CaError::PassphraseUnused)));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(save(empty.path(), &stored(), Some(b"")), Err(CaError::PassphraseEmpty)));
    }

    #[test]
    fn the_description_is_a_closed_schema() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &stored(), None).unwrap();
        for text in [
            "",
            "[]",
            r#"{"trust_domain":"example.org"}"#,
            r#"{"schema":2,"trust_domain":"example.org"}"#,
            r#"{"schema":1}"#,
            r#"{"schema":1,"trust_domain":"Example.org"}"#,
            r#"{"schema":1,"trust_domain":"example.org","x":0}"#,
        ] {
            fs::write(dir.path().join(ABOUT), text).unwrap();
            let error = load(dir.path(), None).err().unwrap();
            assert!(matches!(error, CaError::Malformed { .. }), "{text}");
        }
    }

    #[test]
    fn missing_strange_and_giant_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path(), None), Err(CaError::Io { .. })));
        save(dir.path(), &stored(), None).unwrap();
        let key = dir.path().join(KEY);
        for text in ["", "junk", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"] {
            fs::write(&key, text).unwrap();
            assert!(matches!(load(dir.path(), None), Err(CaError::Malformed { .. })));
        }
        fs::write(&key, vec![b'x'; MAX_FILE as usize + 1]).unwrap();
        assert!(matches!(load(dir.path(), None), Err(CaError::Malformed { .. })));
        fs::remove_file(&key).unwrap();
        fs::create_dir(&key).unwrap();
        assert!(load(dir.path(), None).is_err());
    }
}
