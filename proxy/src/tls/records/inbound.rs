//! Records to plaintext: what a peer may send after the handshake, and nothing else (RFC 8446 §5, §4.6, §6).
//!
//! In: one whole record. Out: where its plaintext lies, that it asked for nothing of the caller, or that the peer has said all.
//! No sockets and no buffers: whoever has bytes asks [`record_length`] whether they hold a record and gives it to
//! [`Inbound::open`].

use super::{
    ALERT, APPLICATION_DATA, HANDSHAKE, HEADER, KEY_UPDATE, NEW_SESSION_TICKET, PLAINTEXT, TAG, key::Key,
    source::Source,
};
use rustls::AlertDescription;
use std::{fmt, ops::Range};

/// What a record was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Plaintext, at this place of the record; it may be empty.
    Data(Range<usize>),
    /// Something that has been dealt with.
    Nothing,
    /// The peer sends nothing more (RFC 8446 §6.1).
    Closed,
}

/// The reading half of a connection.
pub(super) struct Inbound {
    key: Key,
    /// A handshake message of which only the beginning has come.
    partial: Vec<u8>,
    /// Records in a row without data.
    idle: u8,
    /// The peer asked for a key update of ours: to be sent before our next data (RFC 8446 §4.6.3).
    owes_key_update: bool,
}

/// What the peer did that ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misbehaved {
    /// It sent this fatal alert, which is its right.
    SentAlert(AlertDescription),
    /// A record of a type that is not allowed unprotected any more; a change cipher spec among them (RFC 8446 §5).
    UnprotectedRecord(u8),
    /// A record whose version is not the one all records have (RFC 8446 §5.2).
    RecordVersion,
    /// A record longer than RFC 8446 §5.2 allows, or plaintext longer than §5.4 does.
    RecordTooLong,
    /// A record too short for its tag and content type.
    RecordTooShort,
    /// A record that was not sealed by the peer's key.
    BadRecord,
    /// A record of padding alone (RFC 8446 §5.4).
    NoContentType,
    /// A protected record of this type, which nobody may send now.
    ContentType(u8),
    /// More records in a row without data than anyone needs.
    TooManyIdleRecords,
    /// A handshake record without a byte (RFC 8446 §5.1).
    EmptyHandshakeRecord,
    /// Another record between the parts of a handshake message (RFC 8446 §5.1).
    Interleaved,
    /// A handshake message of this type, which this side does not take after the handshake.
    Handshake(u8),
    /// A handshake message longer than we read.
    MessageTooLong,
    /// A key update that is not one octet of 0 or 1 (RFC 8446 §4.6.3).
    KeyUpdateForm,
    /// More handshake bytes after a key update in its record: they would be under the old key (RFC 8446 §5.1).
    KeyUpdateNotAligned,
    /// A ticket that rustls does not accept.
    Ticket,
    /// An alert that is not two octets of known meaning (RFC 8446 §6).
    AlertForm,
    /// Our key schedule refused to go on.
    KeySchedule,
}

/// The length of the record at the front of `bytes`, header included; `None` while the header is incomplete.
///
/// Refused at once, before its bytes are waited for: a type or version that no record has now, a length out of bounds.
pub(super) fn record_length(bytes: &[u8]) -> Result<Option<usize>, Misbehaved> {
    let Some(&[kind, major, minor, high, low]) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    if kind != APPLICATION_DATA {
        return Err(Misbehaved::UnprotectedRecord(kind));
    }
    if [major, minor] != VERSION {
        return Err(Misbehaved::RecordVersion);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > CIPHERTEXT {
        return Err(Misbehaved::RecordTooLong);
    }
    if length <= TAG {
        return Err(Misbehaved::RecordTooShort);
    }
    Ok(Some(HEADER + length))
}

impl Inbound {
    pub(super) fn new(key: Key) -> Self {
        Self { key, partial: Vec::new(), idle: 0, owes_key_update: false }
    }

    /// Opens one record in place. `record` is exactly as long as [`record_length`] said.
    ///
    /// After an error the connection is over: the caller must not ask again.
    pub(super) fn open(&mut self, record: &mut [u8], source: &mut Source) -> Result<Opened, Misbehaved> {
        let Some((header, body)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(Misbehaved::RecordTooShort);
        };
        let inner = self.key.open(*header, body).map_err(|_| Misbehaved::BadRecord)?;
        // The content type is the last octet that is not padding (RFC 8446 §5.4).
        let end = inner.iter().rposition(|octet| *octet != 0).ok_or(Misbehaved::NoContentType)?;
        let (content, rest) = inner.split_at(end);
        let kind = rest.first().copied().unwrap_or_default();
        // "The presence of padding does not change the overall record size limitations" (RFC 8446 §5.4).
        if inner.len() > PLAINTEXT + 1 {
            return Err(Misbehaved::RecordTooLong);
        }
        if kind != HANDSHAKE && !self.partial.is_empty() {
            return Err(Misbehaved::Interleaved);
        }
        match kind {
            APPLICATION_DATA if !content.is_empty() => {
                self.idle = 0;
                Ok(Opened::Data(HEADER..HEADER + end))
            }
            APPLICATION_DATA => self.without_data(),
            HANDSHAKE => {
                self.messages(content, source)?;
                self.without_data()
            }
            ALERT => match alert(content)? {
                Said::Close => Ok(Opened::Closed),
                Said::Nothing => self.without_data(),
            },
            other => Err(Misbehaved::ContentType(other)),
        }
    }

    /// Whether a key update of ours is owed; asking settles it.
    pub(super) fn take_owed_key_update(&mut self) -> bool {
        std::mem::take(&mut self.owes_key_update)
    }

    fn without_data(&mut self) -> Result<Opened, Misbehaved> {
        self.idle =
            self.idle.checked_add(1).filter(|idle| *idle <= IDLE_RECORDS).ok_or(Misbehaved::TooManyIdleRecords)?;
        Ok(Opened::Nothing)
    }

    /// The messages of one handshake record, with what earlier records began.
    fn messages(&mut self, content: &[u8], source: &mut Source) -> Result<(), Misbehaved> {
        if content.is_empty() {
            return Err(Misbehaved::EmptyHandshakeRecord);
        }
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(content);
        let mut rest = bytes.as_slice();
        while let Some(message) = Message::first(rest)? {
            rest = message.after;
            self.message(&message, source)?;
        }
        self.partial = rest.to_vec();
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>, source: &mut Source) -> Result<(), Misbehaved> {
        match message.kind {
            KEY_UPDATE => {
                let requested = match message.body {
                    [0] => false,
                    [1] => true,
                    _ => return Err(Misbehaved::KeyUpdateForm),
                };
                if !message.after.is_empty() {
                    return Err(Misbehaved::KeyUpdateNotAligned);
                }
                self.key = source.next_inbound().map_err(|_| Misbehaved::KeySchedule)?;
                self.owes_key_update |= requested;
                Ok(())
            }
            NEW_SESSION_TICKET => match source.keep_ticket(message.body) {
                Some(kept) => kept.map_err(|_| Misbehaved::Ticket),
                None => Err(Misbehaved::Handshake(message.kind)),
            },
            other => Err(Misbehaved::Handshake(other)),
        }
    }
}

/// A handshake message, and what follows it.
struct Message<'a> {
    kind: u8,
    body: &'a [u8],
    after: &'a [u8],
}

impl<'a> Message<'a> {
    /// The message at the front of `bytes`; `None` while it is incomplete.
    ///
    /// A message nobody may send now is refused by its first octet, so that its body is not gathered.
    fn first(bytes: &'a [u8]) -> Result<Option<Self>, Misbehaved> {
        let Some(kind) = bytes.first().copied() else {
            return Ok(None);
        };
        if kind != KEY_UPDATE && kind != NEW_SESSION_TICKET {
            return Err(Misbehaved::Handshake(kind));
        }
        let Some((&[_, high, middle, low], rest)) = bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([middle, low]));
        // A ticket may be longer by its grammar (RFC 8446 §4.6.1). rustls stops here too.
        if high != 0 {
            return Err(Misbehaved::MessageTooLong);
        }
        Ok(rest.split_at_checked(length).map(|(body, after)| Self { kind, body, after }))
    }
}

enum Said {
    Close,
    Nothing,
}

/// Reads an alert. The level says nothing in TLS 1.3 (RFC 8446 §6), but it must be one of the two.
fn alert(content: &[u8]) -> Result<Said, Misbehaved> {
    let &[1 | 2, description] = content else {
        return Err(Misbehaved::AlertForm);
    };
    match AlertDescription::from(description) {
        AlertDescription::CloseNotify => Ok(Said::Close),
        // A notice that a close follows (RFC 8446 §6.1).
        AlertDescription::UserCanceled => Ok(Said::Nothing),
        other => Err(Misbehaved::SentAlert(other)),
    }
}

impl Misbehaved {
    /// The alert that answers it (RFC 8446 §6.2), or `None` where the peer has ended the connection itself.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        Some(match self {
            Self::SentAlert(_) => return None,
            Self::UnprotectedRecord(_)
            | Self::NoContentType
            | Self::ContentType(_)
            | Self::TooManyIdleRecords
            | Self::EmptyHandshakeRecord
            | Self::Interleaved
            | Self::Handshake(_)
            | Self::KeyUpdateNotAligned => AlertDescription::UnexpectedMessage,
            Self::RecordTooLong => AlertDescription::RecordOverflow,
            Self::BadRecord => AlertDescription::BadRecordMac,
            Self::RecordVersion | Self::RecordTooShort | Self::MessageTooLong | Self::Ticket | Self::AlertForm => {
                AlertDescription::DecodeError
            }
            Self::KeyUpdateForm => AlertDescription::IllegalParameter,
            Self::KeySchedule => AlertDescription::InternalError,
        })
    }
}

impl fmt::Display for Misbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // rustls' words, which users of both record layers may look for.
            Self::SentAlert(alert) => rustls::Error::AlertReceived(*alert).fmt(f),
            Self::UnprotectedRecord(kind) => write!(f, "an unprotected TLS record of type {kind}"),
            Self::RecordVersion => f.write_str("a TLS record of another version"),
            Self::RecordTooLong => f.write_str("a TLS record that is too long"),
            Self::RecordTooShort => f.write_str("a TLS record that is too short"),
            Self::BadRecord => f.write_str("a TLS record that the peer's key did not seal"),
            Self::NoContentType => f.write_str("a TLS record of padding alone"),
            Self::ContentType(kind) => write!(f, "a protected TLS record of type {kind}"),
            Self::TooManyIdleRecords => f.write_str("too many TLS records without data"),
            Self::EmptyHandshakeRecord => f.write_str("an empty TLS handshake record"),
            Self::Interleaved => f.write_str("a TLS record between the parts of a handshake message"),
            Self::Handshake(kind) => write!(f, "a TLS handshake message of type {kind} after the handshake"),
            Self::MessageTooLong => f.write_str("a TLS handshake message that is too long"),
            Self::KeyUpdateForm => f.write_str("a malformed TLS key update"),
            Self::KeyUpdateNotAligned => f.write_str("a TLS key update that does not end its record"),
            Self::Ticket => f.write_str("a malformed TLS session ticket"),
            Self::AlertForm => f.write_str("a malformed TLS alert"),
            Self::KeySchedule => f.write_str("no further TLS key can be made"),
        }
    }
}

impl std::error::Error for Misbehaved {}

/// The version in every record of TLS 1.3 (RFC 8446 §5.2).
const VERSION: [u8; 2] = [3, 3];

/// The longest protected record (RFC 8446 §5.2).
const CIPHERTEXT: usize = PLAINTEXT + 256;

/// Records in a row that may carry no data: tickets, key updates, empty ones. rustls and BoringSSL allow 32 key updates.
const IDLE_RECORDS: u8 = 32;
