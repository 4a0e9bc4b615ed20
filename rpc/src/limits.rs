//! Every bound of a server, with its reason.

use std::time::Duration;

/// What one server allows its callers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. Those above wait in the kernel's queue until one ends.
    pub connections: usize,
    /// TLS handshakes under way at once: each costs a signature, so more of them would only make all of them late.
    pub handshakes: usize,
    /// How long a handshake may take, its wait for a turn not counted.
    pub handshake: Duration,
    /// Requests at once on one connection (RFC 9113 §5.1.2).
    pub streams: u32,
    /// Bytes of a request's header list (RFC 9113 §6.5.2); a bearer token is the largest part.
    pub headers: u32,
    /// How long a connection may be silent before it is asked whether it still lives.
    pub ping_after: Duration,
    /// How long the answer to that may take.
    pub ping_answer: Duration,
    /// How long requests may take to end once the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshakes: 64,
            handshake: Duration::from_secs(5),
            streams: 32,
            headers: 24 * 1024,
            ping_after: Duration::from_secs(30),
            ping_answer: Duration::from_secs(20),
            drain: Duration::from_secs(5),
        }
    }
}
