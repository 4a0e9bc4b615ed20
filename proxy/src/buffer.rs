//! Byte buffers of the data path, and the worker's store of them.
//!
//! A connection holds a buffer only while bytes are in it: whoever has to wait with an empty buffer gives it back, so that an
//! idle connection costs none. Buffers are never zeroed; what lies beyond the filled part is never read.

use bytes::{BufMut, Bytes, buf::Limit};
use std::cell::RefCell;

/// Bytes waiting to be consumed from the front.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// What lies before this has been consumed.
    start: usize,
}

impl Buffer {
    /// The bytes that wait.
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start >= self.bytes.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// Takes `count` bytes off the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The vector itself, for writers that append to it.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Room for exactly `room` more bytes, to be read into; nothing is zeroed.
    pub(crate) fn room(&mut self, room: usize) -> Limit<&mut Vec<u8>> {
        if self.bytes.capacity() - self.bytes.len() < room {
            self.compact();
            self.bytes.reserve(room);
        }
        (&mut self.bytes).limit(room)
    }

    /// Moves the waiting bytes to the front, so that the consumed part can be used again.
    fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Exchanges a large store for a small one: for few bytes that may have to wait long.
    pub(crate) fn stow(&mut self, buffers: &Buffers) {
        let small = Self { bytes: self.filled().to_vec(), start: 0 };
        buffers.put(std::mem::replace(self, small));
    }

    /// The reverse of [`Self::stow`], before more is read.
    pub(crate) fn unstow(&mut self, buffers: &Buffers) {
        let mut large = buffers.take();
        large.extend(self.filled());
        *self = large;
    }

    /// The bytes that wait, out of the buffer.
    pub(crate) fn take_bytes(&mut self) -> Bytes {
        let bytes = Bytes::copy_from_slice(self.filled());
        self.clear();
        bytes
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}

/// Empty buffers of one worker, for whoever needs one next.
#[derive(Default)]
pub(crate) struct Buffers(RefCell<Vec<Buffer>>);

/// Buffers kept for the next user, and the largest that is kept.
const KEPT: usize = 16;
const KEPT_BYTES: usize = 128 * 1024;

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Buffer {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives up what is kept.
    pub(crate) fn shrink(&self) {
        *self.0.borrow_mut() = Vec::new();
    }

    /// Takes a buffer back, whatever is in it.
    pub(crate) fn put(&self, mut buffer: Buffer) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT && buffer.bytes.capacity() > 0 && buffer.bytes.capacity() <= KEPT_BYTES {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_consumed_from_the_front_and_room_is_reused() {
        let mut buffer = Buffer::default();
        buffer.extend(b"hello world");
        buffer.consume(6);
        assert_eq!(buffer.filled(), b"world");
        buffer.room(64).put_slice(b"!");
        assert_eq!(buffer.filled(), b"world!");
        buffer.consume(6);
        assert!(buffer.is_empty());
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn only_a_bounded_number_is_kept() {
        let buffers = Buffers::default();
        for _ in 0..KEPT + 5 {
            let mut buffer = Buffer::default();
            buffer.extend(b"x");
            buffers.put(buffer);
        }
        assert_eq!(buffers.0.borrow().len(), KEPT);
        assert!(buffers.take().is_empty());
    }
}
