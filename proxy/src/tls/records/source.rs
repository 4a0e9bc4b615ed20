//! Where the keys after the first come from: rustls' key schedule, kept after the handshake.

use super::key::Key;
use rustls::{Error, client::ClientConnectionData, kernel::KernelConnection, server::ServerConnectionData};

/// The key schedule of one connection, by our role in it.
pub(super) enum Source {
    Server(Box<KernelConnection<ServerConnectionData>>),
    Client(Box<KernelConnection<ClientConnectionData>>),
}

impl Source {
    /// The next key for what we send (RFC 8446 §7.2).
    pub(super) fn next_outbound(&mut self) -> Result<Key, Error> {
        let (sequence, secrets) = match self {
            Self::Server(kernel) => kernel.update_tx_secret(),
            Self::Client(kernel) => kernel.update_tx_secret(),
        }?;
        Key::new(sequence, secrets).ok_or_else(unknown_suite)
    }

    /// The next key for what we receive (RFC 8446 §7.2).
    pub(super) fn next_inbound(&mut self) -> Result<Key, Error> {
        let (sequence, secrets) = match self {
            Self::Server(kernel) => kernel.update_rx_secret(),
            Self::Client(kernel) => kernel.update_rx_secret(),
        }?;
        Key::new(sequence, secrets).ok_or_else(unknown_suite)
    }

    /// Keeps a ticket for a later connection, as the configuration says. `None`: servers are sent none (RFC 8446 §4.6.1).
    pub(super) fn keep_ticket(&mut self, message: &[u8]) -> Option<Result<(), Error>> {
        match self {
            Self::Server(_) => None,
            Self::Client(kernel) => Some(kernel.handle_new_session_ticket(message)),
        }
    }
}

pub(super) fn unknown_suite() -> Error {
    Error::General("a cipher suite without a record layer was negotiated".to_owned())
}
