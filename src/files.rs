//! Noticing that files changed: the rule file and the certificates beside it.
//!
//! Kubernetes replaces a mounted volume by renaming a symlink (`..data`), which changes what the paths lead to without
//! touching them. So the file behind the path is looked at twice a second, by length, time and inode: cheaper than being
//! wrong about a watch that went stale.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What a set of files looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen(Vec<Option<(u64, SystemTime, u64)>>);

/// Looks at the files: length, time and inode behind symlinks. Absent files count as such.
pub(crate) fn look(paths: &[PathBuf]) -> Seen {
    use std::os::unix::fs::MetadataExt;
    let one = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?, metadata.ino()))
    };
    Seen(paths.iter().map(|path| one(path)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_symlink_is_a_change() {
        let dir = std::env::temp_dir().join(format!("sekisho-files-{}", std::process::id()));
        fs::create_dir_all(dir.join("one")).unwrap();
        fs::create_dir_all(dir.join("two")).unwrap();
        fs::write(dir.join("one/f"), "a").unwrap();
        fs::write(dir.join("two/f"), "b").unwrap();
        std::os::unix::fs::symlink("one", dir.join("..data")).unwrap();
        let paths = [dir.join("..data/f")];
        let before = look(&paths);
        assert_eq!(before, look(&paths));
        std::os::unix::fs::symlink("two", dir.join("..new")).unwrap();
        fs::rename(dir.join("..new"), dir.join("..data")).unwrap();
        assert_ne!(before, look(&paths));
        fs::remove_dir_all(dir).unwrap();
    }
}
