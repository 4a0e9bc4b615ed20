//! This room's part of the door for `fuzz/`: a server's handshake with whatever comes, and records after a real one.

use super::{Engine, records::fuzzing};
use identity::{Credentials, SpiffeId};

use std::sync::Arc;

pub use fuzzing::{Accepting, Ends, Said, record_length};
pub use rustls::{ClientConfig, ServerConfig};

/// The configuration of our server side, as workers have it.
///
/// # Errors
/// What rustls says against the credentials.
pub fn server(credentials: &Credentials) -> Result<Arc<ServerConfig>, rustls::Error> {
    Ok(Engine::Records.server(credentials.server_config(&[b"h2", b"http/1.1"])?))
}

/// The same of our client side, which expects this identity.
///
/// # Errors
/// What rustls says against the credentials.
pub fn client(credentials: &Credentials, expected: SpiffeId) -> Result<Arc<ClientConfig>, rustls::Error> {
    Ok(Engine::Records.client(credentials.client_config(Arc::new(expected), &[b"h2", b"http/1.1"])?))
}
