//! Reading the workload's certificate, key and bundle from where the file says they are.

use config::IdentitySource;
use identity::{Credentials, SpiffeId};
use std::{
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
pub(crate) fn load(source: &IdentitySource, workload: &SpiffeId, now: SystemTime) -> Result<Arc<Credentials>, String> {
    let IdentitySource::Files { cert, key, bundle } = source;
    let (cert_pem, key_pem, bundle_pem) = (read(cert)?, read(key)?, read(bundle)?);
    Credentials::from_pem(&cert_pem, &key_pem, &bundle_pem, workload, now).map_err(|error| {
        format!("{error} (cert {}, key {}, bundle {})", cert.display(), key.display(), bundle.display())
    })
}

/// The files that credentials are read from.
pub(crate) fn paths(source: &IdentitySource) -> Vec<PathBuf> {
    let IdentitySource::Files { cert, key, bundle } = source;
    vec![cert.clone(), key.clone(), bundle.clone()]
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.len();
    if size > LIMIT {
        return Err(format!("{}: larger than {LIMIT} bytes", path.display()));
    }
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
