//! A CA that is faulty: behind an address of its own it is the real one, or whatever a test says.
//!
//! It holds the real CA's root key, so that it can prove to be it and still answer nonsense: what a broken release, a broken host
//! or an intruder does. Some faults lie below TLS, some in the handshake, some in the answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use ca::attest::Attested;
use ca::{Authority, Issuer, Keys};
use identity::{Credentials, SpiffeId, TrustDomain};
use rpc::{Caller, Limits, Refused, Routes, Watcher};
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::istio::v1::auth::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use wire::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use wire::sekisho::ca::v1::trust_server::{Trust, TrustServer};
use wire::sekisho::ca::v1::{TrustState, WatchRequest};

use support::ports;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing wrong: connections lead to the real CA.
    None,
    /// It takes connections and says nothing.
    Silent,
    /// One byte a second.
    Drip,
    /// Random bytes for a handshake.
    Noise,
    /// It closes at once.
    Closed,
    /// A handshake of HTTP/1.1.
    OtherProtocol,
    /// The handshake of a CA with an unknown root.
    UnknownCa,
    /// A handshake by a workload of the same CA.
    AnotherWorkload,
    /// Its certificate has ended.
    Expired,
    /// A handshake in order, and silence.
    SilentGrpc,
    /// Watches are refused; certificates are issued in order.
    NoWatch,
    /// Watches are in order and demand a renewal; the answer to that is this.
    Answer(Answer),
}

/// A bad answer to a request for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// None, ever.
    Never,
    /// A status.
    Unavailable,
    /// Text that is no PEM.
    NoPem,
    /// PEM with random bytes in it.
    NoDer,
    /// A certificate for another key.
    AnotherKey,
    /// A certificate for another name.
    AnotherName,
    /// A certificate that has ended.
    Expired,
    /// A chain that leads to another root than those beside it.
    AnotherRoot,
    /// No roots.
    NoRoots,
    /// Nothing at all.
    Nothing,
    /// The roots of another trust domain.
    AnotherDomain,
}

/// The faulty CA. Its threads end with the test's process.
pub(super) struct FakeCa {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Fault>,
    /// The connections that are open: cut when the fault changes.
    open: Mutex<Vec<TcpStream>>,
    /// How many connections there were.
    times: Mutex<Vec<SystemTime>>,
    real: SocketAddr,
    /// By what they show: as the CA should, an unknown CA, a workload, an ended certificate.
    faces: [SocketAddr; 4],
}

impl FakeCa {
    /// In front of the CA that listens at `real`, over its folder `home`.
    pub(super) fn start(home: &Path, real: SocketAddr) -> Self {
        let faces = [ports::local(), ports::local(), ports::local(), ports::local()];
        let address = ports::local();
        let shared = Arc::new(Shared {
            fault: Mutex::new(Fault::None),
            open: Mutex::default(),
            times: Mutex::default(),
            real,
            faces,
        });
        let papers = Papers::of(home);
        let served = Arc::clone(&shared);
        thread::spawn(move || serve(faces, papers, served));
        let listener = TcpListener::bind(address).unwrap();
        let relayed = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                relayed.times.lock().unwrap().push(SystemTime::now());
                let fault = *relayed.fault.lock().unwrap();
                relayed.open.lock().unwrap().push(stream.try_clone().unwrap());
                let relayed = Arc::clone(&relayed);
                thread::spawn(move || relayed.answer(stream, fault));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, also for who is connected.
    pub(super) fn be(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        // The face that changes its protocol looks for that now and then: whoever is cut off below must find it changed.
        thread::sleep(4 * LOOK);
        self.shared.times.lock().unwrap().clear();
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// When connections came since then.
    pub(super) fn times(&self) -> Vec<SystemTime> {
        self.shared.times.lock().unwrap().clone()
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream, fault: Fault) {
        let [honest, unknown, workload, expired] = self.faces;
        match fault {
            Fault::None => relay(stream, self.real),
            Fault::Closed => drop(stream.shutdown(std::net::Shutdown::Both)),
            Fault::Silent => while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {},
            Fault::Drip => {
                // The head of a handshake record that never comes.
                for byte in [22, 3, 3, 0x20].into_iter().chain(std::iter::repeat(7)) {
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_secs(1));
                }
            }
            Fault::Noise => {
                let mut noise = [0; 4096];
                aws_lc_rs::rand::fill(&mut noise).unwrap();
                // Not by chance the beginning of a record.
                noise[0] = 0xa5;
                let _ = stream.write_all(&noise);
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
            Fault::UnknownCa => relay(stream, unknown),
            Fault::AnotherWorkload => relay(stream, workload),
            Fault::Expired => relay(stream, expired),
            Fault::OtherProtocol | Fault::SilentGrpc | Fault::NoWatch | Fault::Answer(_) => relay(stream, honest),
        }
    }
}

fn relay(stream: TcpStream, to: SocketAddr) {
    let Ok(other) = TcpStream::connect(to) else { return };
    let back = (other.try_clone().unwrap(), stream.try_clone().unwrap());
    thread::spawn(move || pump(back.0, back.1));
    pump(stream, other);
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    for end in [from, to] {
        let _ = end.shutdown(std::net::Shutdown::Both);
    }
}

/// What it shows and signs with.
struct Papers {
    issuer: Issuer,
    roots: Vec<Vec<u8>>,
    roots_pem: String,
    other: Issuer,
    foreign_roots: String,
    ca: Arc<Credentials>,
    unknown: Arc<Credentials>,
    workload: Arc<Credentials>,
    expired: Arc<Credentials>,
}

impl Papers {
    fn of(home: &Path) -> Self {
        let now = SystemTime::now();
        let domain = TrustDomain::parse("example.org").unwrap();
        let authority = Authority::open(home, Keys::default(), now).unwrap();
        let other = Authority::init(&domain, now).unwrap();
        let foreign = Authority::init(&TrustDomain::parse("partner.example").unwrap(), now).unwrap();
        let credentials = |authority: &Authority, id: &str, ttl: u64| {
            let id = SpiffeId::parse(id).unwrap();
            let issuer = authority.intermediate(now).unwrap();
            let (issued, key) = issuer.issue_own(&id, &[], Duration::from_secs(ttl), now).unwrap();
            let (chain, roots) = (issued.chain_pem(), authority.bundle_pem());
            Credentials::from_pem(chain.as_bytes(), key.as_bytes(), roots.as_bytes(), &id, now).unwrap()
        };
        let own = "spiffe://example.org/sekisho/ca";
        Self {
            issuer: authority.intermediate(now).unwrap(),
            roots: authority.bundle().roots().iter().map(|root| root.to_vec()).collect(),
            roots_pem: authority.bundle_pem().to_owned(),
            other: other.intermediate(now).unwrap(),
            foreign_roots: foreign.bundle_pem().to_owned(),
            ca: credentials(&authority, own, 3600),
            unknown: credentials(&other, own, 3600),
            workload: credentials(&authority, "spiffe://example.org/ns/shop/sa/evil", 3600),
            expired: credentials(&authority, own, 1),
        }
    }
}

/// The four faces that speak TLS.
fn serve(faces: [SocketAddr; 4], papers: Papers, shared: Arc<Shared>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let configs = [&papers.ca, &papers.unknown, &papers.workload, &papers.expired]
            .map(|credentials| credentials.reception_config(&[b"h2"]).unwrap());
        let plain = http1(&configs[0]);
        let service = Faulty { papers: Arc::new(papers), shared: Arc::clone(&shared) };
        let routes =
            Routes::default().with(IstioCertificateServiceServer::new(service.clone())).with(TrustServer::new(service));
        let (_stop, stopped) = watch::channel(false);
        let configs = configs.map(watch::channel);
        for (face, (_, config)) in faces.iter().zip(&configs) {
            let listener = tokio::net::TcpListener::bind(face).await.unwrap();
            let (config, routes, stopped) = (config.clone(), routes.clone(), stopped.clone());
            tokio::spawn(rpc::serve_tls(listener, config, routes, Limits::default(), Arc::new(Deaf), stopped));
        }
        let good = Arc::clone(&*configs[0].1.borrow());
        loop {
            // The first face speaks the other protocol for as long as that is the fault.
            let other = *shared.fault.lock().unwrap() == Fault::OtherProtocol;
            let wanted = if other { &plain } else { &good };
            configs[0].0.send_if_modified(|config| {
                let change = !Arc::ptr_eq(config, wanted);
                *config = Arc::clone(wanted);
                change
            });
            tokio::time::sleep(LOOK).await;
        }
    });
}

const LOOK: Duration = Duration::from_millis(50);

/// The same papers under another protocol.
fn http1(config: &Arc<ServerConfig>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

#[derive(Clone)]
struct Faulty {
    papers: Arc<Papers>,
    shared: Arc<Shared>,
}

impl Faulty {
    fn fault(&self) -> Fault {
        *self.shared.fault.lock().unwrap()
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Faulty {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let caller = request.extensions().get::<Caller>().and_then(|caller| caller.svid().cloned());
        let id = caller.map(|svid| svid.id().clone()).ok_or_else(|| Status::unauthenticated("by certificate only"))?;
        let spki = ca::parse_csr(request.get_ref().csr.as_bytes(), &id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?
            .spki()
            .to_vec();
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let (papers, by) = (&self.papers, |id: &SpiffeId| Attested::by_operator(id.clone()));
        let good = || papers.issuer.issue(&by(&id), &spki, hour, now).unwrap();
        let answer = |leaf: String, middle: String, roots: &str| vec![leaf, middle, roots.to_owned()];
        let of = |issued: ca::Issued, roots: &str| answer(issued.leaf_pem, issued.intermediate_pem, roots);
        let cert_chain = match self.fault() {
            Fault::Answer(Answer::Never) => std::future::pending().await,
            Fault::Answer(Answer::Unavailable) => return Err(Status::unavailable("the disk is full")),
            Fault::Answer(Answer::NoPem) => answer("\u{1}\u{2}garbage".into(), "more".into(), "of it"),
            Fault::Answer(Answer::NoDer) => {
                let noise = "-----BEGIN CERTIFICATE-----\nAAECAwQFBgcICQ==\n-----END CERTIFICATE-----\n";
                answer(noise.into(), noise.into(), &papers.roots_pem)
            }
            Fault::Answer(Answer::AnotherKey) => {
                let (issued, _) = papers.issuer.issue_with_new_key(&by(&id), hour, now).unwrap();
                of(issued, &papers.roots_pem)
            }
            Fault::Answer(Answer::AnotherName) => {
                let other = SpiffeId::parse("spiffe://example.org/ns/shop/sa/admin").unwrap();
                of(papers.issuer.issue(&by(&other), &spki, hour, now).unwrap(), &papers.roots_pem)
            }
            Fault::Answer(Answer::Expired) => {
                let issued = papers.issuer.issue(&by(&id), &spki, Duration::from_secs(1), now).unwrap();
                tokio::time::sleep(Duration::from_millis(2500)).await;
                of(issued, &papers.roots_pem)
            }
            Fault::Answer(Answer::AnotherRoot) => {
                of(papers.other.issue(&by(&id), &spki, hour, now).unwrap(), &papers.roots_pem)
            }
            Fault::Answer(Answer::NoRoots) => of(good(), ""),
            Fault::Answer(Answer::Nothing) => Vec::new(),
            Fault::Answer(Answer::AnotherDomain) => of(good(), &papers.foreign_roots),
            // As the real one, in the test that has this fault.
            _ => of(papers.issuer.issue(&by(&id), &spki, Duration::from_secs(10), now).unwrap(), &papers.roots_pem),
        };
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

#[tonic::async_trait]
impl Trust for Faulty {
    type WatchStream = Pin<Box<ReceiverStream<Result<TrustState, Status>>>>;

    async fn watch(
        &self,
        mut request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        match self.fault() {
            Fault::SilentGrpc => std::future::pending().await,
            Fault::NoWatch => return Err(Status::unavailable("too many watches")),
            _ => {}
        }
        let (say, hear) = mpsc::channel(4);
        let roots = self.papers.roots.clone();
        // The number is that of the real CA: nothing changes but that a renewal is due.
        let state = TrustState { sequence: 1, roots, denied: Vec::new(), renew_within: 1 };
        let _ = say.send(Ok(state)).await;
        tokio::spawn(async move {
            while let Ok(Some(_)) = request.get_mut().message().await {}
            drop(say);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(hear))))
    }
}

/// Nobody listens.
struct Deaf;

impl Watcher for Deaf {
    fn refused(&self, _: Option<SocketAddr>, _: &Refused) {}
    fn open(&self, _: usize) {}
}
