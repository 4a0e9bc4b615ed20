//! An HTTP/1.1 connection to an upstream, for one request at a time.

use crate::{buffer::Buffer, stream::Stream};
use std::task::{Context, Poll};

/// The connection. Whoever holds it moves its bytes: nothing runs in the background.
pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// What was received and belongs to no response yet.
    pub(crate) input: Buffer,
    /// The last response may have been followed by bytes that nobody asked for: look before the next request goes out.
    pub(crate) suspect: bool,
}

impl Client {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, input: Buffer::default(), suspect: false }
    }

    /// Whether another request may be sent: the other end has sent nothing since the last response, its close included.
    /// Bytes that were not asked for would become the answer to the next request (RFC 9112 §9.2).
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let mut probe = Buffer::default();
        self.input.is_empty()
            && !(self.suspect && self.stream.has_unread())
            && matches!(self.stream.poll_fill(cx, &mut probe, PROBE), Poll::Pending)
    }
}

/// Bytes of a probe: enough to tell that there is something.
const PROBE: usize = 16;
