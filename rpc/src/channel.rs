//! The client's side: one HTTP/2 connection that a generated client calls through.

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use identity::svid_error;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tower::Service;

/// An open connection. Clones share it; it ends when the last of them is dropped.
#[derive(Clone, Debug)]
pub struct Channel {
    send: SendRequest<Body>,
    /// What stands before the path of every request (RFC 9113 §8.3.1).
    scheme: Scheme,
    authority: Authority,
}

impl Channel {
    /// Connects to `address` (`host:port`; each address of the name is tried in turn) and shakes hands under `tls`, which says
    /// who is accepted there. `name` is what `tls` compares, where it compares names, and is sent only if `tls` says so.
    ///
    /// # Errors
    /// Which step failed, or that all of them together took longer than `timeout`.
    pub async fn tls(
        address: &str,
        name: ServerName<'static>,
        tls: Arc<ClientConfig>,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        within(timeout, async {
            let authority = Authority::try_from(address).map_err(|error| ConnectError::Http(error.to_string()))?;
            let tcp = TcpStream::connect(address).await.map_err(ConnectError::Tcp)?;
            tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
            let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(ConnectError::Tls)?;
            Self::over(stream, Scheme::HTTPS, authority).await
        })
        .await
    }

    /// Connects to the unix socket at `path`.
    ///
    /// # Errors
    /// As for [`tls`](Self::tls).
    pub async fn unix(path: &Path, timeout: Duration) -> Result<Self, ConnectError> {
        within(timeout, async {
            let stream = UnixStream::connect(path).await.map_err(ConnectError::Unix)?;
            Self::over(stream, Scheme::HTTP, Authority::from_static("localhost")).await
        })
        .await
    }

    /// Whether the other end, or an error, has ended the connection.
    pub fn is_closed(&self) -> bool {
        self.send.is_closed()
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        scheme: Scheme,
        authority: Authority,
    ) -> Result<Self, ConnectError> {
        let (send, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADERS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Http(error.to_string()))?;
        // It ends with the last clone of the channel; how is told to every request that was on it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { send, scheme, authority })
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.send.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        // Made of valid parts with a path, which generated clients always give; without one it would be refused by the engine.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        Box::pin(self.send.send_request(request))
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// No TCP connection, or the name of the host leads nowhere.
    Tcp(io::Error),
    /// The TLS handshake: the other end is not who was expected, or refuses us.
    Tls(io::Error),
    /// No connection to a unix socket.
    Unix(io::Error),
    /// The HTTP/2 preface.
    Http(String),
    /// Together they took too long.
    TimedOut,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(error) => write!(f, "no connection: {error}"),
            // Of a refusal of ours the reason, not the name it has among alerts.
            Self::Tls(error) => match error.get_ref().and_then(|cause| cause.downcast_ref()).and_then(svid_error) {
                Some(refusal) => write!(f, "no TLS: {refusal}"),
                None => write!(f, "no TLS: {error}"),
            },
            Self::Unix(error) => write!(f, "no connection to the socket: {error}"),
            Self::Http(error) => write!(f, "no HTTP/2: {error}"),
            Self::TimedOut => f.write_str("connecting took too long"),
        }
    }
}

impl std::error::Error for ConnectError {}

async fn within<T>(
    timeout: Duration,
    connecting: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    tokio::time::timeout(timeout, connecting).await.unwrap_or(Err(ConnectError::TimedOut))
}

const WINDOW: u32 = 65_535;
const SEND_BUFFER: usize = 64 * 1024;
const HEADERS: u32 = 16 * 1024;
const PING: Duration = Duration::from_secs(20);
