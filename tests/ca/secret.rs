//! Root keys in a mounted Secret: the server takes them from there, and says exactly what it will not take.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use support::ca_server::CaServer;
use support::pki;
use support::scratch::Scratch;

/// The Secret as the kubelet mounts it: a link to the version in force, and the key behind it.
struct Secret {
    folder: PathBuf,
    name: String,
}

impl Secret {
    /// With the key of the CA's only root, which leaves the CA's folder.
    fn mount(dir: &Path, home: &Path) -> Self {
        let root = pki::root(home);
        let folder = dir.join("secret");
        let secret = Self { name: format!("{}.key", root.file_name().unwrap().to_str().unwrap()), folder };
        fs::create_dir_all(secret.folder.join("..1")).unwrap();
        fs::rename(root.join("root.key"), secret.key()).unwrap();
        fs::set_permissions(secret.key(), Permissions::from_mode(0o400)).unwrap();
        symlink("..1", secret.folder.join("..data")).unwrap();
        symlink(Path::new("..data").join(&secret.name), secret.folder.join(&secret.name)).unwrap();
        secret
    }

    fn key(&self) -> PathBuf {
        self.folder.join("..1").join(&self.name)
    }
}

#[test]
fn a_server_with_its_root_key_in_a_mounted_secret_issues_and_rotates() {
    let dir = Scratch::new();
    let home = dir.join("ca");
    CaServer::init(&home);
    let root = pki::root(&home);
    let _secret = Secret::mount(dir.path(), &home);
    let mut server = CaServer::over(dir.path(), &home, "keys = \"secret\"\n", "");
    server.again();
    assert!(!root.join("root.key").exists(), "the key was written into the folder");
    // Both need the key: the second for the intermediate of the new root, and the first again for the rollback.
    server.step("prepare");
    server.step("rollback");
    server.stop();
}

#[test]
fn what_is_wrong_with_a_mounted_key_is_said_and_the_server_ends() {
    let dir = Scratch::new();
    let home = dir.join("ca");
    CaServer::init(&home);
    let secret = Secret::mount(dir.path(), &home);
    let mut server = CaServer::over(dir.path(), &home, &format!("keys = \"{}\"\n", secret.folder.display()), "");
    let key = secret.folder.join(&secret.name);
    let mut refused = |why: &str| {
        let (code, said) = server.refusal();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(why), "{said}");
    };

    let mode = |mode| fs::set_permissions(secret.key(), Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    refused(&format!("{} has mode 0644: others could read the root key", key.display()));
    mode(0o420);
    refused("has mode 0420: others could read the root key");
    mode(0o400);

    let good = fs::read(secret.key()).unwrap();
    let replace = |text: &[u8]| {
        let _ = fs::remove_file(secret.key());
        fs::write(secret.key(), text).unwrap();
        mode(0o400);
    };
    replace(b"not a key");
    refused(&format!("{} does not hold exactly one key", key.display()));
    let other = dir.join("other");
    CaServer::init(&other);
    replace(&fs::read(pki::root(&other).join("root.key")).unwrap());
    refused("does not belong to the root certificate");

    // The link leads nowhere, as after a Secret that lost an entry: it is there, and cannot be read.
    fs::remove_file(secret.key()).unwrap();
    refused(&format!("cannot read {}: No such file", key.display()));
    fs::remove_file(&key).unwrap();
    let own = pki::root(&home).join("root.key");
    refused(&format!("the root's key is neither {} nor {}", key.display(), own.display()));
    fs::rename(&secret.folder, dir.join("elsewhere")).unwrap();
    refused(&format!("cannot read {}: No such file", secret.folder.display()));
    fs::rename(dir.join("elsewhere"), &secret.folder).unwrap();
    // A key that is not in the Secret is taken from the folder, where the founding of a root puts it.
    fs::write(&own, good).unwrap();
    fs::set_permissions(&own, Permissions::from_mode(0o644)).unwrap();
    refused(&format!("{} has mode 0644", own.display()));
    fs::set_permissions(&own, Permissions::from_mode(0o600)).unwrap();
    server.again();
    server.stop();
}
