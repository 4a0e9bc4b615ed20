//! Reading the folder's files, and who may have access to a key.
//!
//! In comes a path; out come its bytes. Refused are files that are not regular, are too large, and keys that
//! others could use. Symbolic links are followed, as Kubernetes mounts are made of them (`..data`); the checks
//! are made on the open file, so it cannot be exchanged in between.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::CaError;

/// Who may have access to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Everybody.
    Public,
    /// Its owner alone, who is this process' user or root.
    Owner,
    /// As `Owner`; or, as the kubelet writes a Secret for a pod with `fsGroup`, root and for reading one group of
    /// this process.
    MountedSecret,
}

/// Reads a file of at most `most` bytes.
pub(crate) fn read(path: &Path, secrecy: Secrecy, most: u64) -> Result<Vec<u8>, CaError> {
    let file = File::open(path).map_err(|error| super::io_error("read", path, error))?;
    let about = file.metadata().map_err(|error| super::io_error("read", path, error))?;
    if !about.is_file() {
        return Err(super::malformed(path, "is not a regular file"));
    }
    if secrecy != Secrecy::Public {
        let owner = Access { mode: about.mode() & 0o7777, user: about.uid(), group: about.gid() };
        owner.check(path, secrecy, &Process::own())?;
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| super::io_error("read", path, error))?;
    if bytes.len() as u64 > most {
        return Err(super::malformed(path, "is too large"));
    }
    Ok(bytes)
}

/// Who may do what with a file.
struct Access {
    mode: u32,
    user: u32,
    group: u32,
}

impl Access {
    fn check(&self, path: &Path, secrecy: Secrecy, process: &Process) -> Result<(), CaError> {
        let group_reads = secrecy == Secrecy::MountedSecret
            && self.mode & 0o077 == 0o040
            && self.user == 0
            && process.groups.contains(&self.group);
        if self.mode & 0o077 != 0 && !group_reads {
            return Err(CaError::KeyFileMode { path: path.to_owned(), mode: self.mode });
        }
        if self.user != 0 && Some(self.user) != process.user {
            return Err(CaError::KeyFileOwner(path.to_owned()));
        }
        Ok(())
    }
}

/// The user and groups we run as.
struct Process {
    user: Option<u32>,
    groups: Vec<u32>,
}

impl Process {
    /// From `/proc`; the standard library has no call for it.
    fn own() -> Self {
        let user = fs::metadata("/proc/self").ok().map(|about| about.uid());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let groups = status
            .lines()
            .filter_map(|line| line.strip_prefix("Groups:").or_else(|| line.strip_prefix("Gid:")))
            .flat_map(str::split_whitespace)
            .filter_map(|group| group.parse().ok())
            .collect();
        Self { user, groups }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn verdict(mode: u32, user: u32, group: u32, secrecy: Secrecy) -> bool {
        let process = Process { user: Some(1000), groups: vec![1000, 2000] };
        Access { mode, user, group }.check(Path::new("k"), secrecy, &process).is_ok()
    }

    #[test]
    fn a_mounted_secret_may_be_read_by_our_group_if_root_owns_it_and_by_nobody_else() {
        let secret = |mode, user, group| verdict(mode, user, group, Secrecy::MountedSecret);
        assert!(secret(0o440, 0, 2000), "fsGroup");
        assert!(secret(0o400, 0, 0));
        assert!(secret(0o600, 1000, 1000));
        assert!(!secret(0o440, 0, 3000), "a group we are not in");
        assert!(!secret(0o440, 1000, 2000), "not root's");
        assert!(!secret(0o444, 0, 2000), "the default mode of a Secret");
        assert!(!secret(0o460, 0, 2000));
        assert!(!secret(0o450, 0, 2000));
        assert!(!secret(0o400, 3000, 2000));
    }

    #[test]
    fn elsewhere_the_owner_alone_may() {
        let owner = |mode, user| verdict(mode, user, 2000, Secrecy::Owner);
        assert!(owner(0o600, 1000));
        assert!(owner(0o400, 0));
        assert!(!owner(0o440, 0));
        assert!(!owner(0o600, 1001));
    }

    #[test]
    fn the_own_user_and_groups_are_known() {
        let process = Process::own();
        assert!(process.user.is_some());
        assert!(!process.groups.is_empty());
    }
}
