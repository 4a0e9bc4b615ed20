//! A TLS server in the place of a callee, which shows whatever papers it was given last and answers every request.
//!
//! It is a thread of the test. It keeps what each connection sent it in application data, which must be nothing when its
//! papers are not those of the callee.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::x509::Papers;

/// The server. Its thread ends with the test's process.
#[derive(Debug)]
pub struct Rogue {
    addr: SocketAddr,
    shown: Arc<Shown>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What came of one connection.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Application data.
    pub received: Vec<u8>,
    /// Why the handshake or the reading ended, when it was not in order.
    pub error: Option<String>,
}

impl Rogue {
    /// Listens at `addr`.
    #[must_use]
    pub fn start(addr: SocketAddr, papers: &Papers) -> Self {
        let shown = Arc::new(Shown(Mutex::new(papers.certified())));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // No session: each connection is judged by the papers of its own handshake.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        let listener = TcpListener::bind(addr).unwrap();
        let keep = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, keep) = (Arc::clone(&config), Arc::clone(&keep));
                std::thread::spawn(move || {
                    let one = serve(stream, config);
                    keep.lock().unwrap().push(one);
                });
            }
        });
        Self { addr, shown, seen }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The papers of the next connections.
    pub fn show(&self, papers: &Papers) {
        *self.shown.0.lock().unwrap() = papers.certified();
    }

    /// What came of each connection that has ended.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

#[derive(Debug)]
struct Shown(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> Seen {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let mut received = Vec::new();
    let mut buffer = vec![0; 65536];
    let error = match tls.read(&mut buffer) {
        Ok(count) => {
            received.extend_from_slice(&buffer[..count]);
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nrogue");
            tls.conn.send_close_notify();
            let _ = tls.flush();
            None
        }
        Err(error) => Some(error.to_string()),
    };
    Seen { received, error }
}
