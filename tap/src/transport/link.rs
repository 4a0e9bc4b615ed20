//! A byte stream to a receiver, as the tap sees it: never waits, and knows how much has arrived.
//!
//! [`Connect`] and [`Link`] are what a secured stream has to offer; who secures it, and how, is not known here.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;

/// Opens streams to a receiver.
pub trait Connect: Debug + Send + Sync {
    /// A new stream, its receiver checked. Called on the tap's thread, which may wait for it, but not for long: a few
    /// seconds at most.
    ///
    /// # Errors
    /// Why there is none. It is tried again later.
    fn connect(&self, to: SocketAddr) -> io::Result<Box<dyn Link>>;
}

/// An open stream. No call waits: what cannot be done now is `WouldBlock`.
pub trait Link: Debug + Send {
    /// Takes some bytes, at least one.
    ///
    /// # Errors
    /// `WouldBlock`: none now. Anything else: the stream is broken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Hands on what `write` has taken and still holds itself.
    ///
    /// # Errors
    /// As for `write`.
    fn flush(&mut self) -> io::Result<()>;

    /// How many of the bytes taken the receiver's host has acknowledged, and can read: a part of a record that it cannot
    /// open does not count. Still valid after an error.
    fn acknowledged(&mut self) -> u64;

    /// Looks whether the receiver has ended the stream. What it says otherwise is read and forgotten.
    ///
    /// # Errors
    /// `UnexpectedEof` or what broke the stream.
    fn listen(&mut self) -> io::Result<()>;

    /// Ends the stream: in order, so that what was handed on still arrives, or at once, so that nothing more does.
    fn close(&mut self, in_order: bool);
}
