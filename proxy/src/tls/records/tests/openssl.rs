//! Against OpenSSL's `s_client` and `s_server`, key updates and padding included.

use super::super::Handshake;
use crate::tls::{
    Engine, Peers, Secured, TlsFacts, accept,
    testing::{Leaf, ORDERS, Root, WEB},
};
use identity::SpiffeId;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use std::{net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

const TIMEOUT: Duration = Duration::from_secs(20);
const SUITES: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

struct Scene {
    root: Root,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { root: Root::new(), folder: tempfile::tempdir().unwrap() }
    }

    /// `openssl MODE` with the certificate of `leaf`.
    fn openssl(&self, mode: &str, leaf: &Leaf, arguments: &[&str]) -> Child {
        let file = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let version = if arguments.contains(&"-tls1_2") { None } else { Some("-tls1_3") };
        Command::new("openssl")
            .arg(mode)
            .args(version)
            .arg("-cert")
            .arg(file("leaf.pem", &leaf.certificate))
            .arg("-key")
            .arg(file("leaf.key", &leaf.key))
            .arg("-CAfile")
            .arg(file("root.pem", self.root.pem()))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("openssl is needed for this test")
    }

    /// A server of ours and an `s_client` that has connected to it.
    async fn s_client(&self, arguments: &[&str]) -> (Secured, Child) {
        let config = self.root.credentials(ORDERS).server_config(&[]).unwrap();
        let (stream, child, _) = self.s_client_to(config, &self.root.leaf(WEB), arguments).await;
        (stream, child)
    }

    /// The same with what was agreed.
    async fn s_client_to(
        &self,
        config: Arc<ServerConfig>,
        leaf: &Leaf,
        arguments: &[&str],
    ) -> (Secured, Child, TlsFacts) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let arguments = [&["-connect", &address][..], arguments].concat();
        let child = self.openssl("s_client", leaf, &arguments);
        let (tcp, _) = listener.accept().await.unwrap();
        let peers = Peers::default();
        let (stream, peer, facts) =
            accept(tcp, Engine::Records.server(config), TIMEOUT, &peers).await.unwrap_or_else(|r| panic!("{r:?}"));
        assert_eq!((peer.id().as_str(), facts.version), (WEB, "TLSv1.3"));
        assert!(matches!(stream, Secured::Records(_)));
        (stream, child, facts)
    }

    /// An `s_server` and a client of ours that has connected to it.
    async fn s_server(&self, arguments: &[&str]) -> (Secured, Child) {
        let address: SocketAddr = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap()
        };
        let place = address.to_string();
        let arguments = [&["-accept", &place, "-Verify", "1"][..], arguments].concat();
        let child = self.openssl("s_server", &self.root.leaf(ORDERS), &arguments);
        let expected = Arc::new(SpiffeId::parse(ORDERS).unwrap());
        let config = self.root.credentials(WEB).client_config(expected, &[]).unwrap();
        let (stream, _) = dial(address, &Engine::Records.client(config)).await;
        (stream, child)
    }
}

/// Connects with our records, once the server listens, and says what was agreed.
async fn dial(address: SocketAddr, config: &Arc<ClientConfig>) -> (Secured, TlsFacts) {
    let tcp = loop {
        match TcpStream::connect(address).await {
            Ok(tcp) => break tcp,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let name = ServerName::IpAddress(address.ip().into());
    let handshake = Handshake::connect(tcp, Arc::clone(config), name).await.unwrap();
    let facts = TlsFacts::of(handshake.facts());
    let stream = Secured::from(handshake.finish().unwrap());
    assert!(matches!(stream, Secured::Records(_)));
    (stream, facts)
}

/// Reads until what was read ends with `text`.
async fn until(from: &mut (impl tokio::io::AsyncRead + Unpin), text: &str) {
    let mut seen = Vec::new();
    let found = async {
        while !seen.ends_with(text.as_bytes()) {
            seen.push(from.read_u8().await.unwrap());
        }
    };
    if tokio::time::timeout(TIMEOUT, found).await.is_err() {
        panic!("no {text:?} in {:?}", String::from_utf8_lossy(&seen));
    }
}

/// Types `line`, as a person would: openssl takes a command only at the beginning of what it reads.
async fn enter(child: &mut Child, line: &str) {
    tokio::time::sleep(Duration::from_millis(100)).await;
    child.stdin.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn talk(stream: &mut Secured, child: &mut Child) {
    let mut stdout = child.stdout.take().unwrap();
    for round in 0..3 {
        // With a request for an update of ours, and without.
        for command in ["K\n", "k\n"] {
            enter(child, command).await;
            let line = format!("after {} {round}\n", command.trim());
            enter(child, &line).await;
            until(stream, &line).await;
            let answer = format!("answer {} {round}\n", command.trim());
            stream.write_all(answer.as_bytes()).await.unwrap();
            until(&mut stdout, &answer).await;
        }
    }
}

#[tokio::test]
async fn s_client_is_served_through_key_updates() {
    for suite in SUITES {
        let scene = Scene::new();
        let (mut stream, mut child) = scene.s_client(&["-ciphersuites", suite, "-record_padding", "64"]).await;
        talk(&mut stream, &mut child).await;
        enter(&mut child, "Q\n").await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn s_server_is_understood_through_key_updates() {
    for suite in SUITES {
        let scene = Scene::new();
        let (mut stream, mut child) = scene.s_server(&["-ciphersuites", suite, "-record_padding", "64"]).await;
        stream.flush().await.unwrap();
        talk(&mut stream, &mut child).await;
        enter(&mut child, "q\n").await;
        let mut rest = Vec::new();
        // s_server goes without a close.
        assert_eq!(stream.read_to_end(&mut rest).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn openssl_takes_much_data() {
    let scene = Scene::new();
    let (mut stream, mut child) = scene.s_client(&["-quiet"]).await;
    let bytes: Vec<u8> = (0..16_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut stdout = child.stdout.take().unwrap();
    let mut got = vec![0; bytes.len()];
    let sending = async {
        stream.write_all(&bytes).await.unwrap();
        // What the socket would not take with the last write.
        stream.flush().await.unwrap();
    };
    let (_, received) = tokio::join!(sending, stdout.read_exact(&mut got));
    received.unwrap();
    assert!(got == bytes);
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn openssl_gives_much_data() {
    for extra in [&["-split_send_frag", "5000"][..], &["-record_padding", "4096"], &["-max_send_frag", "512"]] {
        let scene = Scene::new();
        let bytes: Vec<u8> = (0..8_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(Path::new(scene.folder.path()).join("much"), &bytes).unwrap();
        let (mut stream, _child) = scene.s_server(&[&["-WWW"][..], extra].concat()).await;
        stream.write_all(b"GET /much HTTP/1.0\r\n\r\n").await.unwrap();
        let mut got = Vec::new();
        // s_server closes its side of the socket as it likes.
        let _ = stream.read_to_end(&mut got).await;
        assert!(got.ends_with(&bytes), "{} bytes", got.len());
    }
}

#[tokio::test]
async fn s_client_resumes_under_the_same_credentials_only() {
    let scene = Scene::new();
    let credentials = scene.root.credentials(ORDERS);
    let config = || credentials.server_config(&[]).unwrap();
    let (first, second) = (config(), config());
    let leaf = scene.root.leaf(WEB);
    for (config, arguments, resumed) in [
        (&first, &["-sess_out", "session"][..], false),
        (&first, &["-sess_in", "session"], true),
        // A configuration made again has other ticket keys.
        (&second, &["-sess_in", "session"], false),
        (&first, &["-sess_in", "session", "-sess_out", "session"], true),
        (&first, &["-sess_in", "session"], true),
    ] {
        let (mut stream, mut child, facts) = scene.s_client_to(Arc::clone(config), &leaf, arguments).await;
        assert_eq!(facts.resumed, resumed, "{arguments:?}");
        stream.write_all(b"the ticket comes before this\n").await.unwrap();
        until(child.stdout.as_mut().unwrap(), "the ticket comes before this\n").await;
        enter(&mut child, "Q\n").await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        child.wait().await.unwrap();
    }
}

#[tokio::test]
async fn s_server_resumes_with_us() {
    let scene = Scene::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let arguments = ["-accept", &address.to_string(), "-Verify", "1", "-verify_return_error"];
    let _child = scene.openssl("s_server", &scene.root.leaf(ORDERS), &arguments);
    let expected = || Arc::new(SpiffeId::parse(ORDERS).unwrap());
    let credentials = scene.root.credentials(WEB);
    let config = Engine::Records.client(credentials.client_config(expected(), &[]).unwrap());
    for resumed in [false, true, true] {
        let (mut stream, facts) = dial(address, &config).await;
        assert_eq!(facts.resumed, resumed);
        // Tickets come unasked, and are read by whoever waits for an answer.
        let waiting = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0; 8])).await;
        assert!(waiting.is_err());
        stream.shutdown().await.unwrap();
    }
    // The same expectation in another configuration: nothing to resume.
    let other = Engine::Records.client(credentials.client_config(expected(), &[]).unwrap());
    assert!(!dial(address, &other).await.1.resumed);
}

#[tokio::test]
async fn a_renegotiation_is_refused_at_once_though_nobody_writes() {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut child = scene.openssl("s_client", &scene.root.leaf(WEB), &["-tls1_2", "-connect", &address]);
    let (tcp, _) = listener.accept().await.unwrap();
    let config = Engine::Records.server(scene.root.credentials(ORDERS).server_config(&[]).unwrap());
    let (mut stream, _, facts) = accept(tcp, config, TIMEOUT, &Peers::default()).await.unwrap();
    assert_eq!(facts.version, "TLSv1.2");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"R\n").await.unwrap();
    // The client gives up when it is told no; until then this side only reads.
    let read = tokio::time::timeout(TIMEOUT, stream.read(&mut [0; 16])).await.expect("the client waits for an answer");
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}
