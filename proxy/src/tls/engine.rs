//! Which record layer a TLS connection has after its handshake, and the connection with either.
//!
//! The handshake is rustls' in both cases. The configuration is the switch: our own records need its permission to take the
//! secrets out, and no other configuration has it.

use super::records::{Established, Records, Tls12};
use crate::buffer::Buffer;
use rustls::{ClientConfig, ServerConfig};
use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

/// A record layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// rustls' own, by way of tokio-rustls.
    #[allow(dead_code)] // until a key of the file chooses
    Rustls,
    /// Ours for TLS 1.3, rustls' for TLS 1.2.
    Records,
}

impl Engine {
    pub(crate) const IN_USE: Self = Self::Records;

    /// The configuration for accepting with this engine.
    pub(super) fn server(self, config: Arc<ServerConfig>) -> Arc<ServerConfig> {
        let mut config = Arc::unwrap_or_clone(config);
        config.enable_secret_extraction = self == Self::Records;
        Arc::new(config)
    }

    /// The configuration for connecting with this engine.
    pub(super) fn client(self, config: Arc<ClientConfig>) -> Arc<ClientConfig> {
        let mut config = Arc::unwrap_or_clone(config);
        config.enable_secret_extraction = self == Self::Records;
        Arc::new(config)
    }

    pub(super) fn of_server(config: &ServerConfig) -> Self {
        if config.enable_secret_extraction { Self::Records } else { Self::Rustls }
    }

    pub(super) fn of_client(config: &ClientConfig) -> Self {
        if config.enable_secret_extraction { Self::Records } else { Self::Rustls }
    }
}

/// A TLS connection after its handshake.
///
/// What has been written is sent for certain only by a flush, or by the next write.
pub(crate) enum Secured {
    Rustls(Box<TlsStream<TcpStream>>),
    Records(Box<Records>),
    Tls12(Box<Tls12>),
}

impl From<Established> for Secured {
    fn from(established: Established) -> Self {
        match established {
            Established::Tls13(records) => Self::Records(records),
            Established::Tls12(tls12) => Self::Tls12(tls12),
        }
    }
}

impl Secured {
    /// Appends to `buffer` what can be read now, at most `most` bytes, and says how many. 0 is the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if let Self::Records(records) = self {
            return records.poll_fill(cx, buffer, most);
        }
        let mut room = buffer.room(most);
        let reading = self.read_buf(&mut room);
        pin!(reading).poll(cx)
    }

    /// The connection under it.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Rustls(tls) => tls.get_ref().0,
            Self::Records(records) => records.tcp(),
            Self::Tls12(tls) => tls.tcp(),
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Rustls(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Records(records) => Pin::new(records).poll_read(cx, buf),
            Self::Tls12(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Rustls(tls) => Pin::new(tls).poll_write(cx, buf),
            Self::Records(records) => Pin::new(records).poll_write(cx, buf),
            Self::Tls12(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Rustls(tls) => Pin::new(tls).poll_flush(cx),
            Self::Records(records) => Pin::new(records).poll_flush(cx),
            Self::Tls12(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Rustls(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Records(records) => Pin::new(records).poll_shutdown(cx),
            Self::Tls12(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Rustls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            Self::Records(records) => Pin::new(records).poll_write_vectored(cx, bufs),
            Self::Tls12(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Rustls(tls) => tls.is_write_vectored(),
            Self::Records(records) => records.is_write_vectored(),
            Self::Tls12(tls) => tls.is_write_vectored(),
        }
    }
}
