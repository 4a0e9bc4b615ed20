//! The folder on a real disk.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::rotation::NewRoot;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

fn id() -> RootId {
    RootId::of_key(b"a key")
}

fn state() -> Rotation {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    Rotation::founded(NewRoot { id: id(), not_after: now + Duration::from_secs(1000) }, now)
}

fn found(dir: &Path, passphrase: Option<&[u8]>) -> Result<Folder, CaError> {
    let root = RootFiles { id: id(), pem: "a certificate", key: &[1, 2, 3], passphrase };
    Folder::found(dir, &TrustDomain::parse("example.org").unwrap(), &root, &state())
}

fn key(dir: &Path, passphrase: Option<&[u8]>) -> Result<Vec<u8>, CaError> {
    Folder::open(dir)?.key(id(), Keys { passphrase, secret: None })
}

fn key_path(dir: &Path) -> PathBuf {
    dir.join(ROOTS).join(id().to_string()).join(KEY)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_folder_is_closed_to_others() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("deep").join("ca");
    found(&dir, None).unwrap();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&key_path(&dir)), 0o600);
    assert_eq!(mode(&dir.join(ROOTS)), 0o700);
    assert_eq!(names(&dir), ["ca.json", "lock", "roots", "state.json"]);
    let back = Folder::open(&dir).unwrap();
    assert_eq!(key(&dir, None).unwrap(), [1, 2, 3]);
    assert_eq!(back.certificate(id()).unwrap(), "a certificate");
    assert_eq!(back.trust_domain().as_str(), "example.org");
    assert_eq!(back.state().unwrap(), state());
}

#[test]
fn nothing_is_ever_overwritten() {
    for (name, folder) in [(ABOUT, ""), (STATE, ""), ("other", ROOTS)] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        let path = dir.path().join(folder).join(name);
        fs::write(&path, "mine").unwrap();
        let error = found(dir.path(), None).unwrap_err();
        assert!(matches!(error, CaError::Exists(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
    let dir = tempfile::tempdir().unwrap();
    found(dir.path(), None).unwrap();
    assert!(matches!(found(dir.path(), None), Err(CaError::Exists(_))));
}

#[test]
fn a_key_others_may_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    found(dir.path(), None).unwrap();
    let path = key_path(dir.path());
    for open in [0o640, 0o604, 0o620, 0o601, 0o440, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
        let error = key(dir.path(), None).err().unwrap();
        assert!(matches!(error, CaError::KeyFileMode { mode, .. } if mode == open));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    key(dir.path(), None).unwrap();
}

#[test]
fn a_key_is_read_from_a_mounted_secret_through_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let folder = found(dir.path(), None).unwrap();
    let secret = tempfile::tempdir().unwrap();
    let name = format!("{}.key", id());
    let version = secret.path().join("..2027_01_15");
    fs::create_dir(&version).unwrap();
    fs::rename(key_path(dir.path()), version.join(&name)).unwrap();
    symlink("..2027_01_15", secret.path().join("..data")).unwrap();
    symlink(Path::new("..data").join(&name), secret.path().join(&name)).unwrap();
    let keys = Keys { passphrase: None, secret: Some(secret.path()) };
    assert_eq!(folder.key(id(), keys).unwrap(), [1, 2, 3]);
    assert!(folder.key(id(), Keys::default()).is_err());
    let absent = RootId::of_key(b"another");
    let error = folder.key(absent, keys).unwrap_err().to_string();
    assert!(error.contains(&format!("{absent}.key")) && error.contains("roots"), "{error}");
    let unmounted = secret.path().join("unmounted");
    let nowhere = Keys { secret: Some(&unmounted), ..keys };
    assert!(matches!(folder.key(id(), nowhere), Err(CaError::Io { path, .. }) if path == unmounted));
    // The default mode of a Secret is not enough for a root key.
    fs::set_permissions(version.join(&name), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(folder.key(id(), keys), Err(CaError::KeyFileMode { .. })));
}

#[test]
fn the_passphrase_must_fit_the_file() {
    let dir = tempfile::tempdir().unwrap();
    found(dir.path(), Some(b"open sesame")).unwrap();
    let text = fs::read_to_string(key_path(dir.path())).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    assert_eq!(key(dir.path(), Some(b"open sesame")).unwrap(), [1, 2, 3]);
    assert!(matches!(key(dir.path(), None), Err(CaError::PassphraseNeeded)));
    // Wrong padding, or by chance (1 in 256) a key that is not the root's.
    assert!(!matches!(key(dir.path(), Some(b"open barley")).as_deref(), Ok([1, 2, 3])));

    let plain = tempfile::tempdir().unwrap();
    found(plain.path(), None).unwrap();
    assert!(matches!(key(plain.path(), Some(b"x")), Err(CaError::PassphraseUnused)));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(found(empty.path(), Some(b"")), Err(CaError::PassphraseEmpty)));
    assert!(names(empty.path()).is_empty());
}

#[test]
fn the_description_is_a_closed_schema() {
    let dir = tempfile::tempdir().unwrap();
    found(dir.path(), None).unwrap();
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
        let error = Folder::open(dir.path()).err().unwrap();
        assert!(matches!(error, CaError::Malformed { .. }), "{text}");
    }
}

#[test]
fn missing_strange_and_giant_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Folder::open(dir.path()), Err(CaError::Io { .. })));
    found(dir.path(), None).unwrap();
    let path = key_path(dir.path());
    for text in ["", "junk", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(key(dir.path(), None), Err(CaError::Malformed { .. })));
    }
    fs::write(&path, vec![b'x'; MAX_FILE as usize + 1]).unwrap();
    assert!(matches!(key(dir.path(), None), Err(CaError::Malformed { .. })));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(key(dir.path(), None).is_err());
}

#[test]
fn founding_can_be_killed_at_every_step_and_tried_again() {
    let mut deaths = 0;
    loop {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("ca");
        kill_after(deaths);
        let first = found(&dir, None);
        if !revive() {
            first.unwrap();
            break;
        }
        deaths += 1;
        // No CA, or a whole one; and where there is none, one can be made.
        match Folder::open(&dir) {
            Err(_) => {
                // The next try has a key of its own, and leaves nothing of the first among the roots.
                let id = RootId::of_key(b"another");
                let root = RootFiles { id, pem: "a certificate", key: &[1, 2, 3], passphrase: None };
                let new = NewRoot { id, not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000) };
                let state = Rotation::founded(new, SystemTime::UNIX_EPOCH);
                Folder::found(&dir, &TrustDomain::parse("example.org").unwrap(), &root, &state).unwrap();
                assert_eq!(names(&dir.join(ROOTS)), [id.to_string()]);
                assert_eq!(Folder::open(&dir).unwrap().state().unwrap(), state);
            }
            Ok(folder) => {
                assert_eq!(folder.state().unwrap(), state());
                assert_eq!(key(&dir, None).unwrap(), [1, 2, 3]);
            }
        }
    }
    assert!(deaths > 20, "{deaths}");
}
