//! Where a socket is, in the form of `SPIFFE_ENDPOINT_SOCKET` (SPIFFE Workload Endpoint §4).
//!
//! Accepted is `unix:///absolute/path`. Refused is `tcp://`, which the standard knows too: over TCP neither end can tell which
//! process is at the other, and the key would travel in the clear.

use std::fmt;
use std::path::{Path, PathBuf};

/// A unix socket's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

impl Endpoint {
    /// Reads the form `unix:///absolute/path`: no host, query, fragment or percent-encoding.
    ///
    /// # Errors
    /// It is of another form.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.starts_with("tcp:") {
            return Err(EndpointError::Tcp);
        }
        let path = text.strip_prefix("unix://").ok_or(EndpointError::Scheme)?;
        if !path.starts_with('/') {
            return Err(EndpointError::Host);
        }
        if path.len() > LONGEST || path.ends_with('/') {
            return Err(EndpointError::Path);
        }
        if path.contains(['?', '#', '%', '\0']) {
            return Err(EndpointError::Character);
        }
        Ok(Self(PathBuf::from(path)))
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

/// Why a text is no place of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// It is a TCP address.
    Tcp,
    /// It does not begin with `unix://`.
    Scheme,
    /// Something stands between `unix://` and the path.
    Host,
    /// The path names no file, or is longer than the kernel takes.
    Path,
    /// A query, a fragment or percent-encoding.
    Character,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "a socket over TCP is not supported, since nobody could tell who is at its other end; use `unix:///path`",
            Self::Scheme => "the socket is not of the form `unix:///path` (SPIFFE Workload Endpoint §4)",
            Self::Host => "the path after `unix://` is not absolute; three slashes are meant (SPIFFE Workload Endpoint §4)",
            Self::Path => "the path of the socket names no file, or is longer than 107 bytes (unix(7))",
            Self::Character => "the path of the socket holds one of `?`, `#`, `%` (SPIFFE Workload Endpoint §4)",
        })
    }
}

impl std::error::Error for EndpointError {}

/// `sun_path` with its closing zero is 108 bytes (unix(7)).
const LONGEST: usize = 107;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_unix_paths_are_places() {
        let good = Endpoint::parse("unix:///run/spire/agent.sock").unwrap();
        assert_eq!(good.path(), Path::new("/run/spire/agent.sock"));
        assert_eq!(good.to_string(), "unix:///run/spire/agent.sock");
        for (text, error) in [
            ("tcp://127.0.0.1:8000", EndpointError::Tcp),
            ("/run/agent.sock", EndpointError::Scheme),
            ("unix:/run/agent.sock", EndpointError::Scheme),
            ("UNIX:///run/agent.sock", EndpointError::Scheme),
            ("", EndpointError::Scheme),
            ("unix://run/agent.sock", EndpointError::Host),
            ("unix://", EndpointError::Host),
            ("unix:///run/", EndpointError::Path),
            ("unix:///", EndpointError::Path),
            ("unix:///run/a?b", EndpointError::Character),
            ("unix:///run/a#b", EndpointError::Character),
            ("unix:///run/a%20b", EndpointError::Character),
        ] {
            assert_eq!(Endpoint::parse(text), Err(error), "{text}");
        }
        assert_eq!(Endpoint::parse(&format!("unix:///{}", "a".repeat(107))), Err(EndpointError::Path));
        Endpoint::parse(&format!("unix:///{}", "a".repeat(106))).unwrap();
    }
}
