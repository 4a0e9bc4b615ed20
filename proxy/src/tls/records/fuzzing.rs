//! This room's part of the door for `fuzz/`: bytes into a server's handshake, and sealed records into either end.
//!
//! Random bytes are never a record that opens, so those that ought to be are sealed here with the peer's key, whatever is in
//! them: a peer may send anything.

use super::{
    HANDSHAKE, HEADER, KEY_UPDATE, TAG,
    handshake::{Connection, Exchange, Waiting},
    inbound::{self, Inbound, Misbehaved, Opened},
    key::Key,
    source::Source,
};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, Error, ServerConfig,
    client::UnbufferedClientConnection,
    crypto::cipher::{AeadKey, Iv},
    pki_types::ServerName,
    server::UnbufferedServerConnection,
};
use std::{net::Ipv4Addr, sync::Arc};

/// A server's handshake.
pub struct Accepting(Exchange);

impl Accepting {
    /// Before the first byte.
    ///
    /// # Errors
    /// What rustls says against the configuration.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self(Exchange::new(Connection::Server(Box::new(UnbufferedServerConnection::new(config)?)))))
    }

    /// Takes what comes next; true once the handshake is complete.
    ///
    /// # Errors
    /// Why it has failed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, String> {
        self.0.input.extend_from_slice(bytes);
        self.0.go_on().map(|waiting| waiting == Waiting::Nothing).map_err(|error| error.to_string())
    }

    /// Bytes that wait to be read by rustls, and bytes to be sent.
    pub fn held(&self) -> (usize, usize) {
        (self.0.input.len(), self.0.output.len())
    }
}

/// The length of the record at the front of `bytes`; `None` while its header is incomplete.
///
/// # Errors
/// Why no such record is taken.
pub fn record_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    inbound::record_length(bytes).map_err(|misbehaved| misbehaved.to_string())
}

/// What a record was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Plaintext.
    Data(Vec<u8>),
    /// Something that has been dealt with.
    Nothing,
    /// The peer says no more.
    Closed,
    /// Why the connection is over.
    Misbehaved(String),
}

/// Both ends of a connection after its handshake. They serve any number of connections, one after the other: each begins
/// with a key of its own, and goes on with those of the one key schedule.
pub struct Ends {
    client: Source,
    server: Source,
}

impl Ends {
    /// Makes the handshake.
    ///
    /// # Errors
    /// Why there is none.
    pub fn new(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<Self, Error> {
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let client = UnbufferedClientConnection::new(client, name)?;
        let mut client = Exchange::new(Connection::Client(Box::new(client)));
        let mut server = Exchange::new(Connection::Server(Box::new(UnbufferedServerConnection::new(server)?)));
        loop {
            let waiting = (client.go_on()?, server.go_on()?);
            if waiting == (Waiting::Nothing, Waiting::Nothing) {
                break;
            }
            server.input.append(&mut client.output);
            client.input.append(&mut server.output);
        }
        Ok(Self { client: client.into_parts().0.into_source()?.1, server: server.into_parts().0.into_source()?.1 })
    }

    /// Opens these inner plaintexts (RFC 8446 §5.2: content, type, padding), each in a record, as this end would; up to the
    /// first that ends the connection.
    pub fn open<'a>(&mut self, by_client: bool, inners: impl Iterator<Item = &'a [u8]>) -> Vec<Said> {
        let (Some(opening), Some(mut sealing)) = (first_key(), first_key()) else { return Vec::new() };
        let (own, peer) = match by_client {
            true => (&mut self.client, &mut self.server),
            false => (&mut self.server, &mut self.client),
        };
        let mut inbound = Inbound::new(opening);
        let mut messages = Vec::new();
        let mut all = Vec::new();
        for inner in inners {
            let Some(mut record) = seal(&mut sealing, inner) else { break };
            let said = match inbound.open(&mut record, own) {
                Ok(Opened::Data(place)) => Said::Data(record.get(place).unwrap_or_default().to_vec()),
                Ok(Opened::Nothing) => Said::Nothing,
                Ok(Opened::Closed) => Said::Closed,
                Err(misbehaved) => Said::Misbehaved(misbehaved.to_string()),
            };
            let _ = inbound.take_owed_key_update();
            let goes_on = matches!(said, Said::Data(_) | Said::Nothing);
            // A key update is taken before records without data are counted: then too the next key is another.
            let was_taken = goes_on || said == Said::Misbehaved(Misbehaved::TooManyIdleRecords.to_string());
            all.push(said);
            if was_taken
                && updates(inner, &mut messages)
                && let Ok(next) = peer.next_outbound()
            {
                sealing = next;
            }
            if !goes_on {
                break;
            }
        }
        all
    }
}

/// Whether a record ends with a key update, given the messages before it that were not whole.
fn updates(inner: &[u8], messages: &mut Vec<u8>) -> bool {
    let end = inner.iter().rposition(|octet| *octet != 0).unwrap_or(0);
    if inner.get(end) != Some(&HANDSHAKE) {
        return false;
    }
    messages.extend_from_slice(inner.get(..end).unwrap_or_default());
    let mut updates = false;
    while let Some(&[kind, _, middle, low]) = messages.first_chunk::<4>() {
        let length = 4 + usize::from(u16::from_be_bytes([middle, low]));
        if messages.len() < length {
            break;
        }
        messages.drain(..length);
        updates = kind == KEY_UPDATE;
    }
    updates
}

/// A key that both ends know.
fn first_key() -> Option<Key> {
    let (key, iv) = (AeadKey::from([7; 32]), Iv::new([9; 12]));
    Key::new(0, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv })
}

/// A record of this inner plaintext, as long as one can be.
fn seal(key: &mut Key, inner: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(inner.len() + TAG).ok()?;
    let [high, low] = length.to_be_bytes();
    let header = [23, 3, 3, high, low];
    let mut record = header.to_vec();
    record.extend_from_slice(inner);
    let tag = key.seal(header, record.get_mut(HEADER..)?).ok()?;
    record.extend_from_slice(&tag);
    Some(record)
}
