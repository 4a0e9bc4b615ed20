//! The key of one direction: seals or opens one record after the other (RFC 8446 §5.2, §5.3).
//!
//! A key expanded for use takes 600 bytes, the key itself 32. So a connection keeps the key, and each worker a bounded store of
//! expanded ones: a busy connection finds its own there, an idle one costs nothing, and after a burst of connections the
//! store is as small as before. Expanding again costs less than a microsecond.

use super::{HEADER, TAG};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    ConnectionTrafficSecrets,
    crypto::cipher::{self, AeadKey, Iv},
};
use std::{
    cell::RefCell,
    sync::atomic::{AtomicU64, Ordering},
};

/// One direction's key and the number of its next record.
pub(super) struct Key {
    algorithm: &'static Algorithm,
    /// Erased by rustls when dropped.
    key: AeadKey,
    iv: Iv,
    /// Invariant: no two records are sealed under one key with one number.
    sequence: u64,
    /// Names this key in the stores of expanded keys. No two keys of this process have one name.
    name: u64,
}

/// The record is not what the holder of the key sealed, or no number is left to open it with.
#[derive(Debug)]
pub(super) struct NotOpened;

/// No record can be sealed any more.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Key {
    /// `None` for a cipher suite that is not one of TLS 1.3's three in our provider.
    pub(super) fn new(sequence: u64, secrets: ConnectionTrafficSecrets) -> Option<Self> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        Some(Self { algorithm, key, iv, sequence, name: NAMES.fetch_add(1, Ordering::Relaxed) })
    }

    /// Records sealed or opened so far.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Opens the body of a record in place; what is returned is the plaintext with its content type and padding.
    pub(super) fn open<'a>(&mut self, header: [u8; HEADER], body: &'a mut [u8]) -> Result<&'a mut [u8], NotOpened> {
        let nonce = self.take_nonce().ok_or(NotOpened)?;
        self.expanded(|key| key.open_in_place(nonce, Aad::from(header), body)).ok_or(NotOpened)?.map_err(|_| NotOpened)
    }

    /// Seals `body`, plaintext with its content type, in place and returns the tag that goes after it.
    pub(super) fn seal(&mut self, header: [u8; HEADER], body: &mut [u8]) -> Result<[u8; TAG], Exhausted> {
        let nonce = self.take_nonce().ok_or(Exhausted)?;
        let sealed = self.expanded(|key| key.seal_in_place_separate_tag(nonce, Aad::from(header), body));
        let tag = sealed.ok_or(Exhausted)?.map_err(|_| Exhausted)?;
        tag.as_ref().try_into().map_err(|_| Exhausted)
    }

    /// The nonce of the next record (RFC 8446 §5.3). A number is used up even if its record turns out bad.
    fn take_nonce(&mut self) -> Option<Nonce> {
        let nonce = cipher::Nonce::new(&self.iv, self.sequence).0;
        self.sequence = self.sequence.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// Runs `with` on the expanded key, from this worker's store or made anew.
    fn expanded<T>(&self, with: impl FnOnce(&LessSafeKey) -> T) -> Option<T> {
        EXPANDED.with_borrow_mut(|store| {
            if store.is_empty() {
                store.resize_with(STORED as usize, || None);
            }
            let place = store.get_mut((self.name % STORED) as usize)?;
            let known = place.take().filter(|stored| stored.name == self.name);
            let stored = match known {
                Some(stored) => stored,
                None => {
                    let key = UnboundKey::new(self.algorithm, self.key.as_ref()).ok()?;
                    Expanded { name: self.name, key: LessSafeKey::new(key) }
                }
            };
            Some(with(&place.insert(stored).key))
        })
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // Without the store (a thread that ends) there is nothing to forget.
        let _ = EXPANDED.try_with(|store| {
            if let Ok(mut store) = store.try_borrow_mut()
                && let Some(place) = store.get_mut((self.name % STORED) as usize)
            {
                place.take_if(|stored| stored.name == self.name);
            }
        });
    }
}

/// An expanded key, erased by aws-lc when dropped.
struct Expanded {
    name: u64,
    key: LessSafeKey,
}

/// Expanded keys one worker holds: both directions of 256 connections, about 320 KiB.
const STORED: u64 = 512;

static NAMES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static EXPANDED: RefCell<Vec<Option<Expanded>>> = const { RefCell::new(Vec::new()) };
}
