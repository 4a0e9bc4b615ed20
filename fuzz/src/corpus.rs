//! Kept inputs as files, one folder per target. What broke a property is kept as `found-…`, and is tried for ever after.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The folder of all of them: `SEKISHO_FUZZ_CORPUS`, or that of the repository.
pub fn folder() -> PathBuf {
    match std::env::var_os("SEKISHO_FUZZ_CORPUS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"),
    }
}

/// The inputs of one target, by name.
///
/// # Errors
/// What the system says; that there is no such folder among it.
pub fn read(target: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder().join(target))?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), fs::read(path)?))).collect()
}

/// Keeps an input under a name made of its bytes.
///
/// # Errors
/// What the system says.
pub fn keep(target: &str, prefix: &str, input: &[u8]) -> io::Result<PathBuf> {
    let folder = folder().join(target);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{prefix}{:016x}", fingerprint(input)));
    fs::write(&path, input)?;
    Ok(path)
}

/// Whether an input was kept by a machine for what it reached: then its name is its fingerprint.
pub(crate) fn is_made(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() == 16 && name.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// FNV-1a: the same on every machine and with every compiler.
fn fingerprint(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
