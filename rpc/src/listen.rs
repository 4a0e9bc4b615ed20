//! Accepting connections: TCP with TLS, and unix sockets.

use crate::renamed::Renamed;
use crate::serve::serve;
use crate::{Caller, Limits, Process, Routes};
use rustls::ServerConfig;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Why a connection came to nothing.
#[derive(Debug)]
pub enum Refused {
    /// The TLS handshake failed; the alert has been sent.
    Handshake(io::Error),
    /// It took too long.
    TimedOut,
    /// The kernel could not say who connected, or the judge of callers said no.
    Process(String),
}

/// What hears of connections: for counters and log lines.
pub trait Watcher: Send + Sync + 'static {
    /// A connection came to nothing.
    fn refused(&self, address: Option<SocketAddr>, why: &Refused);
    /// So many connections are open now.
    fn open(&self, connections: usize);
}

/// Serves TLS connections until `stop` becomes true, each under the configuration that is in force when it begins.
///
/// It returns when the last connection has ended, at most [`Limits::drain`] later.
pub async fn serve_tls(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    routes: Routes,
    limits: Limits,
    watcher: Arc<dyn Watcher>,
    stop: watch::Receiver<bool>,
) {
    let places = Places::new(limits, Arc::clone(&watcher));
    let hands = Arc::new(Semaphore::new(limits.handshakes));
    accept_until(&listener, &stop, &places, |(tcp, address), place| {
        let (tls, routes, stop) = (Arc::clone(&tls.borrow()), routes.clone(), stop.clone());
        let (watcher, hands) = (Arc::clone(&watcher), Arc::clone(&hands));
        async move {
            let _place = place;
            // In boxes of their own: what the handshake needs is gone when it is over, and a connection may then last for months.
            let meeting = Box::pin(async move {
                let (stream, caller) = shake(tcp, address, tls, limits, &hands).await?;
                Ok(Box::pin(serve(stream, caller, routes, limits, stop)))
            });
            match meeting.await {
                Ok(serving) => serving.await,
                Err(why) => watcher.refused(Some(address), &why),
            }
        }
    })
    .await;
    // Whoever comes now is refused at once, rather than let wait for nobody.
    drop(listener);
    places.emptied(limits.drain).await;
}

/// Serves connections of a unix socket whose process `admits`, until `stop` becomes true.
///
/// The sentence of a refusal is for the log; the other end sees the connection closed.
pub async fn serve_unix(
    listener: UnixListener,
    admits: Arc<dyn Fn(Process) -> Result<(), String> + Send + Sync>,
    routes: Routes,
    limits: Limits,
    watcher: Arc<dyn Watcher>,
    stop: watch::Receiver<bool>,
) {
    let places = Places::new(limits, Arc::clone(&watcher));
    accept_until(&listener, &stop, &places, |stream, place| {
        let (routes, stop) = (routes.clone(), stop.clone());
        let (watcher, admits) = (Arc::clone(&watcher), Arc::clone(&admits));
        async move {
            let _place = place;
            match process(&stream).and_then(|process| admits(process).map(|()| process)) {
                Ok(process) => serve(Renamed::new(stream), Caller::over_unix(process), routes, limits, stop).await,
                Err(why) => watcher.refused(None, &Refused::Process(why)),
            }
        }
    })
    .await;
    // Whoever comes now is refused at once, rather than let wait for nobody.
    drop(listener);
    places.emptied(limits.drain).await;
}

/// Binds a TCP socket for accepting, with a queue long enough for a herd. One for IPv6 takes IPv6 only, so that the same port of
/// both families can be had.
///
/// # Errors
/// The address cannot be had.
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether binding failed because the host lacks the address family.
pub fn family_is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(AFNOSUPPORT | ADDRNOTAVAIL))
}

/// errno(3) on Linux.
const AFNOSUPPORT: i32 = 97;
const ADDRNOTAVAIL: i32 = 99;
const BACKLOG: i32 = 4096;

/// Binds a unix socket at `path` with `mode`. What an earlier run left there is removed, if it is a socket.
///
/// # Errors
/// The path holds something else, or cannot be bound.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

async fn shake(
    tcp: TcpStream,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    limits: Limits,
    hands: &Semaphore,
) -> Result<(tokio_rustls::server::TlsStream<TcpStream>, Caller), Refused> {
    let gone = |error: &str| Refused::Handshake(io::Error::other(error.to_owned()));
    let _turn = hands.acquire().await.map_err(|_closed| gone("the server stops"))?;
    // In a herd the turn may come after the caller's patience has ended, and a handshake with nobody costs two signatures too.
    if has_left(&tcp).await {
        return Err(gone("the other end left before its turn"));
    }
    let stream = tokio::time::timeout(limits.handshake, TlsAcceptor::from(tls).accept(tcp))
        .await
        .map_err(|_elapsed| Refused::TimedOut)?
        .map_err(Refused::Handshake)?;
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let caller = Caller::over_tls(address, chain).map_err(|error| gone(&error.to_string()))?;
    Ok((stream, caller))
}

/// Whether the other end has closed the connection, as far as is known. An open one can be written to, so this does not wait.
async fn has_left(tcp: &TcpStream) -> bool {
    tcp.ready(Interest::READABLE | Interest::WRITABLE).await.is_ok_and(|ready| ready.is_read_closed())
}

fn process(stream: &UnixStream) -> Result<Process, String> {
    let who = stream.peer_cred().map_err(|error| format!("SO_PEERCRED: {error}"))?;
    Ok(Process { uid: who.uid(), gid: who.gid(), pid: who.pid() })
}

/// Accepts while there are places. An accept that fails, for want of a descriptor above all, is tried again a little later:
/// without the pause it would fail again at once, and for ever.
async fn accept_until<L: Accept, Connection>(
    listener: &L,
    stop: &watch::Receiver<bool>,
    places: &Places,
    begin: impl Fn(L::Accepted, Place) -> Connection,
) where
    Connection: Future<Output = ()> + Send + 'static,
{
    let mut stop = stop.clone();
    let accepting = async {
        loop {
            let permit = places.wait().await;
            match listener.next().await {
                Ok(accepted) => drop(tokio::spawn(begin(accepted, places.take(permit)))),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// A socket that connections come from.
trait Accept: Sync {
    type Accepted;

    fn next(&self) -> impl Future<Output = io::Result<Self::Accepted>> + Send;
}

impl Accept for TcpListener {
    type Accepted = (TcpStream, SocketAddr);

    async fn next(&self) -> io::Result<Self::Accepted> {
        let (tcp, address) = self.accept().await?;
        tcp.set_nodelay(true)?;
        Ok((tcp, address))
    }
}

impl Accept for UnixListener {
    type Accepted = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

const PAUSE: Duration = Duration::from_millis(50);

/// How many connections there may be, and are.
struct Places {
    free: Arc<Semaphore>,
    taken: Arc<AtomicUsize>,
    limits: Limits,
    watcher: Arc<dyn Watcher>,
}

impl Places {
    fn new(limits: Limits, watcher: Arc<dyn Watcher>) -> Self {
        Self { free: Arc::new(Semaphore::new(limits.connections)), taken: Arc::default(), limits, watcher }
    }

    /// Waits for a free place. The semaphore is never closed.
    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    fn take(&self, permit: Option<OwnedSemaphorePermit>) -> Place {
        self.watcher.open(self.taken.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        Place { permit, taken: Arc::clone(&self.taken), watcher: Arc::clone(&self.watcher) }
    }

    /// Waits until every connection has ended, at most `longest` and a little.
    async fn emptied(&self, longest: Duration) {
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(longest + PAUSE, self.free.acquire_many(all)).await;
    }
}

/// One connection's place, given back when dropped.
struct Place {
    permit: Option<OwnedSemaphorePermit>,
    taken: Arc<AtomicUsize>,
    watcher: Arc<dyn Watcher>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watcher.open(self.taken.fetch_sub(1, Ordering::Relaxed).saturating_sub(1));
        drop(self.permit.take());
    }
}
