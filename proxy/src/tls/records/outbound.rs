//! Plaintext to records: what we send after the handshake (RFC 8446 §5).
//!
//! In: slices of plaintext. Out: sealed records in one buffer, ready for one write. No sockets; what could not be sent yet is
//! kept here.

use super::{
    ALERT, APPLICATION_DATA, HANDSHAKE, HEADER, KEY_UPDATE, OVERHEAD, PLAINTEXT, TAG,
    key::{Exhausted, Key},
    scratch,
    source::Source,
};
use rustls::AlertDescription;
use std::io::IoSlice;

/// The writing half of a connection.
pub(super) struct Outbound {
    key: Key,
    /// Sealed, and sent up to `sent`.
    records: Vec<u8>,
    /// Invariant: `sent <= records.len()`, and both are 0 when everything has been sent.
    sent: usize,
    /// Records sealed under one key before the next key: a parameter for tests.
    limit: u64,
}

impl Outbound {
    /// `unsent` is what the handshake has left to send; it goes with the first records.
    pub(super) fn new(key: Key, unsent: Vec<u8>) -> Self {
        // An empty vector may still have its room.
        let records = if unsent.is_empty() { Vec::new() } else { unsent };
        Self { key, records, sent: 0, limit: RECORDS_PER_KEY }
    }

    #[cfg(test)]
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.records.capacity()
    }

    /// Seals plaintext from the front of `pieces`, as much as one write should carry, and returns how much that was.
    pub(super) fn data(&mut self, pieces: &[IoSlice<'_>], source: &mut Source) -> Result<usize, Exhausted> {
        let mut total = pieces.iter().map(|piece| piece.len()).sum::<usize>().min(MOST);
        let taken = total;
        self.make_room(total.div_ceil(PLAINTEXT) * OVERHEAD + total);
        let mut pieces = pieces.iter().map(|piece| &**piece);
        let mut piece: &[u8] = &[];
        while total > 0 {
            if self.key.sequence() >= self.limit {
                self.key_update(source)?;
            }
            let length = total.min(PLAINTEXT);
            total -= length;
            let begin = self.begin();
            let mut wanted = length;
            while wanted > 0 {
                if piece.is_empty() {
                    // There is a next piece: `total` was counted from them.
                    piece = pieces.next().unwrap_or_default();
                    continue;
                }
                let (now, later) = piece.split_at(wanted.min(piece.len()));
                self.records.extend_from_slice(now);
                wanted -= now.len();
                piece = later;
            }
            self.records.push(APPLICATION_DATA);
            self.finish(begin)?;
        }
        Ok(taken)
    }

    /// Seals a key update that asks for none in return, and goes over to the next key (RFC 8446 §4.6.3).
    pub(super) fn key_update(&mut self, source: &mut Source) -> Result<(), Exhausted> {
        self.record(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0])?;
        self.key = source.next_outbound().map_err(|_| Exhausted)?;
        Ok(())
    }

    /// Seals an alert (RFC 8446 §6): a close is a warning, all others are fatal.
    pub(super) fn alert(&mut self, description: AlertDescription) -> Result<(), Exhausted> {
        let level = if description == AlertDescription::CloseNotify { 1 } else { 2 };
        self.record(ALERT, &[level, description.into()])
    }

    /// What has not been sent.
    pub(super) fn unsent(&self) -> &[u8] {
        self.records.get(self.sent..).unwrap_or_default()
    }

    /// Marks `count` bytes of [`unsent`](Self::unsent) as sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.records.len());
        if self.sent == self.records.len() {
            self.sent = 0;
            scratch::put(std::mem::take(&mut self.records));
        }
    }

    /// Moves a small rest out of a large buffer: the socket is full, and nobody knows for how long.
    pub(super) fn wait(&mut self) {
        let unsent = self.unsent();
        if unsent.len() < self.records.capacity() / 2 {
            let rest = unsent.to_vec();
            self.sent = 0;
            scratch::put(std::mem::replace(&mut self.records, rest));
        }
    }

    fn record(&mut self, kind: u8, content: &[u8]) -> Result<(), Exhausted> {
        self.make_room(content.len() + OVERHEAD);
        let begin = self.begin();
        self.records.extend_from_slice(content);
        self.records.push(kind);
        self.finish(begin)
    }

    /// One record of content, content type and padding as given: what nobody should send.
    #[cfg(test)]
    pub(super) fn inner(&mut self, inner: &[u8]) -> Vec<u8> {
        let begin = self.begin();
        self.records.extend_from_slice(inner);
        assert!(self.finish(begin).is_ok());
        self.records.split_off(begin)
    }

    /// Leaves room for a header and returns where it is.
    fn begin(&mut self) -> usize {
        let begin = self.records.len();
        self.records.extend_from_slice(&[0; HEADER]);
        begin
    }

    /// Seals what stands after the header at `begin`. After an error nothing of it remains.
    fn finish(&mut self, begin: usize) -> Result<(), Exhausted> {
        match self.seal(begin) {
            Ok(tag) => {
                self.records.extend_from_slice(&tag);
                Ok(())
            }
            Err(exhausted) => {
                self.records.truncate(begin);
                Err(exhausted)
            }
        }
    }

    fn seal(&mut self, begin: usize) -> Result<[u8; TAG], Exhausted> {
        let record = self.records.get_mut(begin..).ok_or(Exhausted)?;
        let (header, body) = record.split_first_chunk_mut::<HEADER>().ok_or(Exhausted)?;
        let length = u16::try_from(body.len() + TAG).map_err(|_| Exhausted)?;
        let [high, low] = length.to_be_bytes();
        *header = [APPLICATION_DATA, 3, 3, high, low];
        self.key.seal(*header, body)
    }

    /// Takes a large buffer for records that do not fit into what there is.
    fn make_room(&mut self, length: usize) {
        if self.records.capacity() - self.records.len() >= length {
            return;
        }
        let mut large = scratch::take();
        large.extend_from_slice(self.unsent());
        self.sent = 0;
        scratch::put(std::mem::replace(&mut self.records, large));
    }
}

/// Plaintext one write takes in: four records of full size.
const MOST: usize = 4 * PLAINTEXT;

/// Records under one key: well below the 2^24.5 that AES-GCM allows (RFC 8446 §5.5). ChaCha20 allows more and needs none of it.
const RECORDS_PER_KEY: u64 = 1 << 24;
