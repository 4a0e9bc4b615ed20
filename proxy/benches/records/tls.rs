//! The measurement. It stands in a room of this name because the record layer shows itself to no other.
//!
//! Both ends run on one thread; CPU is that thread's, kernel included, so it is the cost of sealing, sending, receiving and
//! opening together. Rounds are interleaved and the median is printed.

#[path = "../../src/tls/records/mod.rs"]
pub(crate) mod records;

use crate::buffer::Buffer;
use identity::{Credentials, SpiffeId};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use records::{Established, Handshake, Records};
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use std::{
    future::poll_fn,
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Engine {
    Rustls,
    Records,
}

/// One end of a connection.
enum End {
    Rustls(Box<TlsStream<TcpStream>>),
    Records(Box<Records>),
}

pub(crate) fn measure() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, server) = configurations();
    runtime.block_on(async {
        println!("CPU s/GB one way, both ends, median of {ROUNDS} rounds of {} MiB", VOLUME >> 20);
        for message in [1024, 1 << 20] {
            let mut costs = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (engine, costs) in [Engine::Rustls, Engine::Records].into_iter().zip(&mut costs) {
                    costs.push(transfer(engine, &client, &server, message).await);
                }
            }
            let [rustls, records] = costs.map(median);
            println!("{message:>8} B: rustls {rustls:.3}  records {records:.3}  ratio {:.2}", records / rustls);
        }
        println!("resident bytes per idle end, {CONNECTIONS} connections, after 1 KiB each way");
        for engine in [Engine::Records, Engine::Rustls] {
            println!("{engine:?}: {}", idle(engine, &client, &server).await);
        }
    });
}

/// CPU seconds per gigabyte.
async fn transfer(engine: Engine, client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, message: usize) -> f64 {
    let (mut client, mut server) = connected(engine, client, server).await;
    let bytes = vec![b'x'; message];
    let before = cpu();
    let sending = async {
        for _ in 0..VOLUME / message {
            client.write_all(&bytes).await;
        }
        client
    };
    let receiving = async {
        let (mut buffer, mut total) = (Buffer::default(), 0);
        while total < VOLUME {
            total += server.fill(&mut buffer).await;
            buffer.consume(buffer.len());
        }
    };
    let (client, ()) = tokio::join!(sending, receiving);
    let cost = (cpu() - before).as_secs_f64() / (VOLUME as f64 / 1e9);
    drop(client);
    cost
}

/// Resident bytes per end.
async fn idle(engine: Engine, client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> usize {
    let mut ends = Vec::with_capacity(2 * CONNECTIONS);
    // What any connection needs once is not counted.
    ends.push(connected(engine, client, server).await);
    let before = resident();
    for _ in 0..CONNECTIONS {
        let (mut client, mut server) = connected(engine, client, server).await;
        let mut buffer = Buffer::default();
        client.write_all(&[b'x'; 1024]).await;
        server.fill(&mut buffer).await;
        server.write_all(&[b'x'; 1024]).await;
        client.fill(&mut buffer).await;
        // A read that has to wait, as in an idle connection.
        let waiting = poll_fn(|cx| {
            assert!(client.poll_fill(cx, &mut buffer).is_pending());
            assert!(server.poll_fill(cx, &mut buffer).is_pending());
            std::task::Poll::Ready(())
        });
        waiting.await;
        ends.push((client, server));
    }
    (resident() - before) / (2 * CONNECTIONS)
}

async fn connected(engine: Engine, client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> (End, End) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let near = TcpStream::connect(address).await.unwrap();
    let far = listener.accept().await.unwrap().0;
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let (client, server) = (Arc::clone(client), Arc::clone(server));
    if engine == Engine::Rustls {
        let limited = 32 * 1024;
        let connector = TlsConnector::from(client);
        let acceptor = TlsAcceptor::from(server);
        let (near, far) = tokio::join!(
            connector.connect_with(name, near, |c| c.set_buffer_limit(Some(limited))),
            acceptor.accept_with(far, |c| c.set_buffer_limit(Some(limited)))
        );
        return (End::Rustls(Box::new(near.unwrap().into())), End::Rustls(Box::new(far.unwrap().into())));
    }
    let records = |handshake: Handshake| match handshake.finish().unwrap() {
        Established::Tls13(records) => records,
        Established::Tls12(_) => panic!("TLS 1.2"),
    };
    let (near, far) = tokio::join!(
        async {
            let mut near = records(Handshake::connect(near, client, name).await.unwrap());
            near.flush().await.unwrap();
            near
        },
        async { records(Handshake::accept(far, server).await.unwrap()) }
    );
    (End::Records(near), End::Records(far))
}

impl End {
    async fn write_all(&mut self, bytes: &[u8]) {
        let writer: Pin<&mut (dyn AsyncWrite + Unpin)> = match self {
            Self::Rustls(tls) => Pin::new(tls),
            Self::Records(records) => Pin::new(records),
        };
        let writer = writer.get_mut();
        writer.write_all(bytes).await.unwrap();
        writer.flush().await.unwrap();
    }

    async fn fill(&mut self, buffer: &mut Buffer) -> usize {
        poll_fn(|cx| self.poll_fill(cx, buffer)).await
    }

    fn poll_fill(&mut self, cx: &mut std::task::Context<'_>, buffer: &mut Buffer) -> std::task::Poll<usize> {
        match self {
            Self::Rustls(tls) => {
                let mut room = buffer.room(READ);
                let reading = tls.read_buf(&mut room);
                std::future::Future::poll(std::pin::pin!(reading), cx).map(Result::unwrap)
            }
            Self::Records(records) => records.poll_fill(cx, buffer, READ).map(Result::unwrap),
        }
    }
}

fn configurations() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let credentials = |name: &str| {
        let id = format!("spiffe://example.org/ns/shop/sa/{name}");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap().pem();
        let id = SpiffeId::parse(&id).unwrap();
        let key = key.serialize_pem();
        Credentials::from_pem(leaf.as_bytes(), key.as_bytes(), root.as_bytes(), &id, SystemTime::now()).unwrap()
    };
    let (web, orders) = (credentials("web"), credentials("orders"));
    let client = web.client_config(Arc::new(orders.svid().id().clone()), &[]).unwrap();
    let mut client = Arc::unwrap_or_clone(client);
    let mut server = Arc::unwrap_or_clone(orders.server_config(&[]).unwrap());
    client.enable_secret_extraction = true;
    server.enable_secret_extraction = true;
    (Arc::new(client), Arc::new(server))
}

/// The time this thread, the only one, has been on a CPU.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn median(mut costs: Vec<f64>) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap()
}

const ROUNDS: usize = 5;
const VOLUME: usize = 512 << 20;
const CONNECTIONS: usize = 3000;
/// What the data path asks for at once.
const READ: usize = 64 * 1024;
