//! What a pair must refuse before it is measured: a make that lets everything through would be cheap.
//!
//! The rule by method and path; at the callee whoever comes without mutual TLS, with a certificate of another root, or, from
//! makes that can read SPIFFE IDs, with another identity; at the caller a callee whose certificate is of another root or,
//! from makes that can tell, of somebody else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::{ports, wait, wire};

use crate::load::origin::BODY;
use crate::load::tls::{Connection, Offer, client};
use crate::makes::Make;
use crate::pair::Pair;
use crate::setup::HOST;
use crate::world::World;

/// Panics with what was let through.
pub(crate) fn callee(world: &World, pair: &Pair) {
    let name = pair.make.name();
    if !pair.shape.h2 {
        for start in ["GET /api/admin", "GET /", "POST /api/orders/42"] {
            let request = format!("{start} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let reply = wire::request(pair.entry, request.as_bytes()).unwrap();
            assert_eq!(reply.status(), 403, "{name} answered {start} with {}", reply.status());
        }
        let plain = wire::get(pair.inbound, HOST, "/api/orders/42");
        assert!(!plain.is_ok_and(|reply| reply.status() == 200), "{name} took plain HTTP from outside");
        let passes = |certificate: Option<&str>| asks(world, certificate, pair.inbound);
        // Envoy's callee then speaks HTTP/2 only, which this client does not.
        if pair.make != Make::EnvoyH2 {
            assert_eq!(passes(Some("web")), Ok(()), "{name} refused the right client");
            assert!(passes(None).is_err(), "{name} took a client without certificate");
            assert!(passes(Some("other/web")).is_err(), "{name} took a certificate of another root");
            let reads_ids = matches!(pair.make, Make::Sekisho | Make::Envoy);
            assert!(!reads_ids || passes(Some("stranger")).is_err(), "{name} took another identity");
        }
    }
    if matches!(pair.make, Make::Envoy | Make::EnvoyH2) {
        let stats = wire::get(pair.callee_admin, "localhost", "/stats?usedonly&filter=ssl").unwrap().text();
        for name in ["versions.TLSv1.3", "ciphers.TLS_AES_128_GCM_SHA256", "curves.X25519"] {
            assert!(stats.contains(&format!("ssl.{name}: ")), "no {name} in:\n{stats}");
        }
    }
}

fn asks(world: &World, certificate: Option<&str>, to: SocketAddr) -> Result<(), String> {
    let config = client(world.path(), certificate, Offer { post_quantum: false, resume: false });
    Connection::open(to, &config).map_err(|error| error.to_string())?.exchange()
}

/// Panics when the caller talks to a wrong callee, or not even to the right one.
pub(crate) fn caller(world: &World, make: Make) {
    if make == Make::EnvoyH2 {
        return; // the same file as Envoy's but for the protocol
    }
    let right = if make == Make::Nginx { "named" } else { "orders" };
    // HAProxy believes whomever the root vouches for.
    let same_root = (make != Make::Haproxy).then_some(("web", false));
    for (certificate, passes) in [(right, true), ("other/web", false)].into_iter().chain(same_root) {
        let server = Server::start(world, certificate);
        let (_sidecar, entry) = Pair::caller_of(world, make, server.address);
        let reply = wait::within(Duration::from_secs(10), || wire::get(entry, HOST, "/api/orders/42").ok());
        let reply = reply.unwrap_or_else(|| panic!("the caller of {} did not answer", make.name()));
        let passed = reply.status() == 200;
        assert_eq!(passed, passes, "{} and a callee with {certificate}.pem: {}", make.name(), reply.status());
    }
}

/// A TLS server that answers everything with 200, whoever asks.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start(world: &World, certificate: &str) -> Self {
        let file = |ending: &str| world.dir.join(format!("{certificate}.{ending}"));
        let chain = CertificateDer::pem_file_iter(file("pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (config, address, stop) = (Arc::new(config), ports::local(), Arc::new(AtomicBool::new(false)));
        let listener = TcpListener::bind(address).unwrap();
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let _ = answer(stream, &config);
            }
        });
        Self { address, stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // wakes it
    }
}

fn answer(mut stream: TcpStream, config: &Arc<ServerConfig>) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut tls = rustls::ServerConnection::new(Arc::clone(config))?;
    let mut stream = rustls::Stream::new(&mut tls, &mut stream);
    if stream.read(&mut [0; 4096])? > 0 {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\nconnection: close\r\n\r\n{}", "x".repeat(BODY))?;
    }
    Ok(())
}
