//! Reading the workload's certificate, key and bundle from where the file says they are.

use config::IdentitySource;
use identity::{Credentials, SpiffeId};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// The largest certificate, key or bundle file that is read: a bundle of many roots stays far below.
const LIMIT: u64 = 1024 * 1024;

/// Reads and verifies.
///
/// # Errors
/// A sentence for the operator: which file, what is wrong with it.
pub(crate) fn load(
    [cert, key, bundle]: &[PathBuf; 3],
    workload: &SpiffeId,
    now: SystemTime,
) -> Result<Arc<Credentials>, String> {
    let (cert_pem, key_pem, bundle_pem) = (read(cert)?, read(key)?, read(bundle)?);
    Credentials::from_pem(&cert_pem, &key_pem, &bundle_pem, workload, now).map_err(|error| {
        format!("{error} (cert {}, key {}, bundle {})", cert.display(), key.display(), bundle.display())
    })
}

/// The files that credentials are read from, if it is files.
pub(crate) fn paths(source: &IdentitySource) -> Option<[PathBuf; 3]> {
    match source {
        IdentitySource::Files { cert, key, bundle } => Some([cert.clone(), key.clone(), bundle.clone()]),
        IdentitySource::Ca(_) | IdentitySource::WorkloadApi { .. } | IdentitySource::Sds { .. } => None,
    }
}

/// One byte more than the limit tells a file that is too large, whatever its length was said to be.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("{}: larger than {LIMIT} bytes", path.display()));
    }
    Ok(bytes)
}
