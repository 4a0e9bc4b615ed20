//! Noticing that files changed: the rule file and the certificates beside it.
//!
//! Kubernetes replaces a mounted volume by renaming a symlink (`..data`), which changes what the paths lead to without
//! touching them. So the file behind the path is looked at twice a second, by length, time and inode: cheaper than being
//! wrong about a watch that went stale.
//!
//! A file that somebody writes into in its place is whole only when they have finished, and what is there until then may be
//! valid and mean something else: rules without the denial that comes last. Such a file is read once it has looked the same
//! twice. One that was replaced is whole at once.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What a set of files looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen(Vec<Option<(u64, SystemTime, u64)>>);

impl Seen {
    /// Whether one of the files may still be being written: it is the file it was before, with another content, or it was not
    /// there before.
    pub(crate) fn is_unfinished_since(&self, before: &Self) -> bool {
        self.0.iter().zip(&before.0).any(|(now, before)| match (now, before) {
            (Some(now), Some(before)) => now != before && now.2 == before.2,
            (now, before) => now.is_some() && before.is_none(),
        })
    }
}

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
        let after = look(&paths);
        assert_ne!(before, after);
        assert!(!after.is_unfinished_since(&before), "replaced, and so whole");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_that_is_written_into_may_be_unfinished() {
        let dir = std::env::temp_dir().join(format!("sekisho-files-in-place-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let paths = [dir.join("f")];
        let absent = look(&paths);
        fs::write(dir.join("f"), "a").unwrap();
        let one = look(&paths);
        assert!(one.is_unfinished_since(&absent));
        assert!(!one.is_unfinished_since(&one));
        fs::write(dir.join("f"), "ab").unwrap();
        let two = look(&paths);
        assert!(two.is_unfinished_since(&one));
        fs::remove_file(dir.join("f")).unwrap();
        assert!(!look(&paths).is_unfinished_since(&two), "gone");
        fs::remove_dir_all(dir).unwrap();
    }
}
