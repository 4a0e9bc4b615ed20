//! Why bytes are not read as HTTP/1.1.

use std::{error::Error, fmt};

/// Why a message is refused. Each says the status and Envoy's detail for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not the grammar of RFC 9112 §2.1: line ends, spaces, names, controls.
    Syntax,
    /// HTTP/1.0 or below: no `Host`, no chunks, no way to tell the end of a message safely.
    Version,
    /// A request line longer than the bound on heads.
    TargetTooLong,
    /// More bytes or more fields than the bound.
    TooLarge,
    /// `Content-Length` together with `Transfer-Encoding` (RFC 9112 §6.1).
    Length,
    /// A transfer coding other than exactly `chunked` (RFC 9112 §6.1).
    Coding,
    /// The head did not come to its end in its time.
    Timeout,
    /// Memory runs short, and the head is not whole yet.
    Overloaded,
    /// Chunk framing that is not exactly RFC 9112 §7.1.
    Chunk,
}

impl Refused {
    pub(crate) fn status(self) -> (u16, &'static str) {
        match self {
            Self::Syntax | Self::Length | Self::Chunk => (400, "Bad Request"),
            Self::Timeout => (408, "Request Timeout"),
            Self::TargetTooLong => (414, "URI Too Long"),
            Self::Version => (426, "Upgrade Required"),
            Self::TooLarge => (431, "Request Header Fields Too Large"),
            Self::Coding => (501, "Not Implemented"),
            Self::Overloaded => (503, "Service Unavailable"),
        }
    }

    /// Envoy's response flag.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Timeout => "SI",
            Self::Overloaded => "OM",
            _ => "DPE",
        }
    }

    pub(crate) fn details(self) -> &'static str {
        match self {
            Self::Syntax | Self::Chunk => "http1.codec_error",
            Self::Timeout => "stream_idle_timeout",
            Self::TargetTooLong => "http1.target_too_long",
            Self::Version => "low_version",
            Self::TooLarge => "http1.headers_too_large",
            Self::Length => "http1.content_length_and_chunked_not_allowed",
            Self::Coding => "http1.invalid_transfer_encoding",
            Self::Overloaded => "overload",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.details())
    }
}

impl Error for Refused {}
