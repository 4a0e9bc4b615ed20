//! Whole connections over loopback: ours with ours, ours with rustls, and with a peer that breaks off or breaks the rules.

use super::{Pair, name};
use crate::{
    buffer::Buffer,
    tls::{
        Peer, Peers, Secured, accept, connect,
        records::{Handshake, Records, inbound::Misbehaved},
        testing::{ORDERS, WEB},
    },
};
use aws_lc_rs::digest::{self, SHA256};
use identity::SvidError;
use rustls::{AlertDescription, CipherSuite, ServerConfig};
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A client and a server that have shaken hands, each with the engine its configuration names.
async fn connected(client: &Pair, server: &Pair) -> (Secured, Secured) {
    let (near, far, address) = tcp().await;
    let (client, server) = (Arc::clone(&client.client), Arc::clone(&server.server));
    let peers = Peers::default();
    let (client, server) = tokio::join!(
        async {
            let mut client = connect(near, address, client, TIMEOUT, &peers).await.unwrap().0;
            // Nothing is written here: the end of the handshake must not wait for it.
            client.flush().await.unwrap();
            client
        },
        async { accept(far, server, TIMEOUT, &peers).await.unwrap().0 },
    );
    (client, server)
}

async fn tcp() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far, address)
}

fn records(secured: &mut Secured) -> &mut Records {
    match secured {
        Secured::Records(records) => records,
        _ => panic!("not our records"),
    }
}

async fn fill(stream: &mut Secured, buffer: &mut Buffer, most: usize) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_fill(cx, buffer, most)).await
}

/// Sizes and bytes that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }
}

/// Writes at least `total` bytes in pieces of random number and size, and returns their hash.
async fn send(stream: &mut Secured, total: usize, seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let bytes: Vec<u8> = (0..(1 << 18) + 7).map(|_| dice.roll() as u8).collect();
    let mut hash = digest::Context::new(&SHA256);
    let mut left = total;
    while left > 0 {
        let mut piece = || {
            let length = match dice.roll() % 4 {
                0 => dice.roll() % 64,
                1 => dice.roll() % 2000,
                _ => dice.roll() % 100_000,
            };
            let at = dice.roll() % (bytes.len() - length);
            IoSlice::new(&bytes[at..at + length])
        };
        let pieces = if piece().is_empty() { vec![piece()] } else { vec![piece(), piece(), piece()] };
        let count = stream.write_vectored(&pieces).await.unwrap();
        let mut hashed = count;
        for piece in &pieces {
            let now = piece.len().min(hashed);
            hash.update(&piece[..now]);
            hashed -= now;
        }
        left = left.saturating_sub(count);
    }
    stream.shutdown().await.unwrap();
    hash.finish().as_ref().to_vec()
}

/// Reads to the end, in three ways and with requests of random size, and returns length and hash.
async fn receive(stream: &mut Secured, seed: u64) -> (usize, Vec<u8>) {
    let mut dice = Dice(seed);
    let mut hash = digest::Context::new(&SHA256);
    let (mut total, mut buffer, mut place) = (0, Buffer::default(), vec![0; 70_000]);
    loop {
        let most = 1 + dice.roll() % if dice.roll().is_multiple_of(3) { 100 } else { 70_000 };
        let count = if dice.roll().is_multiple_of(2) {
            let count = fill(stream, &mut buffer, most).await.unwrap();
            assert_eq!(buffer.len(), count);
            hash.update(buffer.filled());
            buffer.consume(count);
            count
        } else {
            let count = stream.read(&mut place[..most]).await.unwrap();
            hash.update(&place[..count]);
            count
        };
        assert!(count <= most);
        if count == 0 {
            return (total, hash.finish().as_ref().to_vec());
        }
        total += count;
    }
}

/// At least `total` bytes one way and then the other.
async fn exchange(client: &mut Secured, server: &mut Secured, total: usize) {
    let (sent, received) = tokio::join!(send(client, total, 7), receive(server, 9));
    assert!(received.0 >= total);
    assert_eq!(sent, received.1);
    let (sent, received) = tokio::join!(send(server, total, 11), receive(client, 13));
    assert!(received.0 >= total);
    assert_eq!(sent, received.1);
}

#[tokio::test]
async fn sixty_four_mebibytes_arrive_as_sent() {
    let pair = Pair::new();
    let (mut client, mut server) = connected(&pair, &pair).await;
    exchange(&mut client, &mut server, 64 << 20).await;
}

#[tokio::test]
async fn rustls_understands_us_and_we_rustls() {
    let pair = Pair::new();
    let (mut client, mut server) = connected(&pair.for_rustls(), &pair).await;
    assert!(matches!((&client, &server), (Secured::Rustls(_), Secured::Records(_))));
    exchange(&mut client, &mut server, 8 << 20).await;
    let (mut client, mut server) = connected(&pair, &pair.for_rustls()).await;
    assert!(matches!((&client, &server), (Secured::Records(_), Secured::Rustls(_))));
    exchange(&mut client, &mut server, 8 << 20).await;
}

#[tokio::test]
async fn every_suite_is_understood_by_rustls() {
    for suite in [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256] {
        let pair = Pair::new().with_suite(suite);
        let (mut client, mut server) = connected(&pair, &pair.for_rustls()).await;
        exchange(&mut client, &mut server, 1 << 20).await;
        let (mut client, mut server) = connected(&pair.for_rustls(), &pair).await;
        exchange(&mut client, &mut server, 1 << 20).await;
    }
}

#[tokio::test]
async fn keys_change_under_way() {
    let pair = Pair::new();
    let (mut client, mut server) = connected(&pair, &pair).await;
    records(&mut client).halves().1.set_limit(5);
    records(&mut server).halves().1.set_limit(3);
    exchange(&mut client, &mut server, 2 << 20).await;
}

#[tokio::test]
async fn a_key_update_that_rustls_asks_for_is_answered() {
    let pair = Pair::new();
    for ours_is_client in [true, false] {
        let (client, server) = if ours_is_client {
            connected(&pair, &pair.for_rustls()).await
        } else {
            connected(&pair.for_rustls(), &pair).await
        };
        let (mut ours, mut theirs) = if ours_is_client { (client, server) } else { (server, client) };
        for round in 0..5_u8 {
            let Secured::Rustls(rustls) = &mut theirs else { panic!("not rustls") };
            match rustls.as_mut() {
                tokio_rustls::TlsStream::Client(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
                tokio_rustls::TlsStream::Server(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
            }
            theirs.write_all(&[round; 100]).await.unwrap();
            theirs.flush().await.unwrap();
            let mut place = [0; 100];
            ours.read_exact(&mut place).await.unwrap();
            assert_eq!(place, [round; 100]);
            // rustls takes no data under the old key after its request.
            ours.write_all(&place).await.unwrap();
            theirs.read_exact(&mut place).await.unwrap();
            assert_eq!(place, [round; 100]);
        }
    }
}

#[tokio::test]
async fn bytes_may_come_one_at_a_time() {
    let pair = Pair::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, middle, _) = tcp().await;
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let server_tcp = listener.accept().await.unwrap().0;
    far.set_nodelay(true).unwrap();
    server_tcp.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = middle.into_split();
    let (mut from_server, mut to_server) = far.into_split();
    let dribble = tokio::spawn(async move {
        while let Ok(byte) = from_client.read_u8().await {
            to_server.write_u8(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
        to_server.shutdown().await.unwrap();
    });
    let dribble_back = tokio::spawn(async move {
        while let Ok(byte) = from_server.read_u8().await {
            to_client.write_u8(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
        to_client.shutdown().await.unwrap();
    });
    let peers = Peers::default();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(
        async {
            let (mut client, _, _) = connect(near, address, Arc::clone(&pair.client), TIMEOUT, &peers).await.unwrap();
            client.write_all(b"at once with the end of the handshake").await.unwrap();
            client
        },
        accept(server_tcp, Arc::clone(&pair.server), TIMEOUT, &peers),
    );
    let (mut client, mut server) = (client, server.unwrap().0);
    let mut text = [0; 37];
    server.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"at once with the end of the handshake");
    exchange(&mut client, &mut server, 40_000).await;
    dribble.await.unwrap();
    dribble_back.await.unwrap();
}

#[tokio::test]
async fn one_direction_may_close_before_the_other() {
    let pair = Pair::new();
    for (client, server) in [(&pair, &pair), (&pair.for_rustls(), &pair), (&pair, &pair.for_rustls())] {
        let (mut client, mut server) = connected(client, server).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(client.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_end_without_close_is_an_error_after_the_data() {
    let pair = Pair::new();
    let (mut client, mut server) = connected(&pair, &pair).await;
    client.write_all(b"half of it").await.unwrap();
    drop(client);
    let mut text = Vec::new();
    let error = server.read_to_end(&mut text).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(text, b"half of it");
    // rustls says the same.
    let (mut client, mut server) = connected(&pair, &pair.for_rustls()).await;
    // A ticket left unread would make the kernel reset the connection.
    let waiting = tokio::time::timeout(Duration::from_millis(50), client.read(&mut [0; 8])).await;
    assert!(waiting.is_err());
    drop(client);
    assert_eq!(server.read_to_end(&mut text).await.unwrap_err().to_string().split('\n').next(), Some(ERROR));
    const ERROR: &str = "peer closed connection without sending TLS close_notify: \
        https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof";
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_is_told_so() {
    let pair = Pair::new();
    for (bytes, expected, alert) in [
        (&b"\x14\x03\x03\x00\x01\x01"[..], Misbehaved::UnprotectedRecord(20), AlertDescription::UnexpectedMessage),
        (b"\x17\x03\x03\x41\x01", Misbehaved::RecordTooLong, AlertDescription::RecordOverflow),
        (
            b"\x17\x03\x03\x00\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            Misbehaved::BadRecord,
            AlertDescription::BadRecordMac,
        ),
    ] {
        for theirs in [pair.clone(), pair.for_rustls()] {
            let (mut client, mut server) = connected(&theirs, &pair).await;
            client.write_all(b"data").await.unwrap();
            client.flush().await.unwrap();
            client.tcp().try_write(bytes).unwrap();
            let mut text = [0; 4];
            server.read_exact(&mut text).await.unwrap();
            for _ in 0..2 {
                let error = server.read(&mut text).await.unwrap_err();
                let misbehaved = error.get_ref().unwrap().downcast_ref::<Misbehaved>().unwrap();
                assert_eq!(*misbehaved, expected);
            }
            assert_eq!(server.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            let error = client.read(&mut text).await.unwrap_err();
            assert_eq!(error.to_string(), rustls::Error::AlertReceived(alert).to_string());
        }
    }
}

#[tokio::test]
async fn what_is_not_tls_is_refused_without_waiting_for_more() {
    let pair = Pair::new();
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\xff\xff", b"\x17\x03\x03\x00\x01\x00"] {
        let (mut near, far, _) = tcp().await;
        near.write_all(bytes).await.unwrap();
        let peers = Peers::default();
        let refused = accept(far, Arc::clone(&pair.server), TIMEOUT, &peers).await.err().unwrap();
        assert_eq!(refused.reason(), "tls_protocol");
        // The alert has been sent, and nothing else.
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer[..5], [21, 3, 3, 0, 2]);
        assert_eq!(answer.len(), 7);
    }
}

#[tokio::test]
async fn a_silent_or_vanished_peer_ends_the_handshake() {
    let pair = Pair::new();
    let peers = Peers::default();
    let (near, far, _) = tcp().await;
    let refused = accept(far, Arc::clone(&pair.server), Duration::from_millis(20), &peers).await.err().unwrap();
    assert_eq!(refused.reason(), "tls_handshake_timeout");
    drop(near);
    let (near, far, _) = tcp().await;
    drop(near);
    let refused = accept(far, Arc::clone(&pair.server), TIMEOUT, &peers).await.err().unwrap();
    assert_eq!(refused.reason(), "tls_connection_closed");
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let pair = Pair::new();
    let (mut client, mut server) = connected(&pair, &pair).await;
    let mut buffer = Buffer::default();
    for length in [10, 100_000] {
        let bytes = vec![b'x'; length];
        tokio::join!(async { client.write_all(&bytes).await.unwrap() }, async {
            while buffer.len() < length {
                fill(&mut server, &mut buffer, 4096).await.unwrap();
            }
        });
        client.flush().await.unwrap();
        // Waiting, as an idle connection does.
        let waiting = tokio::time::timeout(Duration::from_millis(5), fill(&mut server, &mut buffer, 4096)).await;
        assert!(waiting.is_err());
        assert_eq!((records(&mut client).held(), records(&mut server).held()), (0, 0));
        buffer.consume(length);
    }
    assert!(size_of::<Records>() <= 400, "{}", size_of::<Records>());
    assert!(size_of::<Secured>() <= 16);
}

#[tokio::test]
async fn the_beginning_of_a_record_is_held_in_its_own_size() {
    let pair = Pair::new();
    let (mut client, mut server) = connected(&pair, &pair).await;
    client.tcp().try_write(b"\x17\x03\x03\x10\x00 and a little").unwrap();
    let mut buffer = Buffer::default();
    let waiting = tokio::time::timeout(Duration::from_millis(50), fill(&mut server, &mut buffer, 4096)).await;
    assert!(waiting.is_err());
    assert_eq!(records(&mut server).held(), 18);
    drop(client.shutdown().await);
}

#[tokio::test]
async fn a_full_socket_stops_the_writer_and_loses_nothing() {
    let pair = Pair::new();
    let (mut client, mut server) = connected(&pair, &pair).await;
    let bytes = vec![b'y'; 1 << 16];
    let mut written = 0;
    while let Ok(count) = tokio::time::timeout(Duration::from_millis(50), client.write(&bytes)).await {
        written += count.unwrap();
        assert!(written < 100 << 20, "the writer is never stopped");
    }
    assert!(records(&mut client).held() <= 96 * 1024);
    let (_, received) = tokio::join!(client.shutdown(), receive(&mut server, 5));
    assert_eq!(received.0, written);
}

#[tokio::test]
async fn tls12_peers_are_served_by_rustls_records() {
    let pair = Pair::new();
    let old = pair.clone().with_tls12();
    let (mut client, mut server) = connected(&old.for_rustls(), &pair).await;
    assert!(matches!(server, Secured::Tls12(_)));
    exchange(&mut client, &mut server, 300_000).await;

    let mut old = ServerConfig::builder_with_provider(identity::provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&pair.server.cert_resolver));
    old.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    let (near, far, _) = tcp().await;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(old));
    let (client, server) = tokio::join!(
        async {
            let handshake = Handshake::connect(near, Arc::clone(&pair.client), name()).await.unwrap();
            Secured::from(handshake.finish().unwrap())
        },
        acceptor.accept(far)
    );
    let (mut client, mut server) = (client, Secured::Rustls(Box::new(server.unwrap().into())));
    assert!(matches!(client, Secured::Tls12(_)));
    exchange(&mut client, &mut server, 300_000).await;
}

#[tokio::test]
async fn sessions_are_resumed_by_either_engine() {
    for (rustls_client, rustls_server) in [(false, false), (true, false), (false, true), (true, true)] {
        let pair = Pair::new();
        let engine = |rustls| if rustls { pair.for_rustls() } else { pair.clone() };
        let (client, server) = (engine(rustls_client), engine(rustls_server));
        for round in 0..3 {
            let (near, far, address) = tcp().await;
            let peers = Peers::default();
            let (mut client, (mut server, peer, facts)) = tokio::join!(
                async {
                    let (mut stream, peer, _) =
                        connect(near, address, Arc::clone(&client.client), TIMEOUT, &peers).await.unwrap();
                    assert_eq!(peer.id().as_str(), ORDERS);
                    stream.flush().await.unwrap();
                    stream
                },
                async { accept(far, Arc::clone(&server.server), TIMEOUT, &peers).await.unwrap() },
            );
            assert_eq!(peer.id().as_str(), WEB);
            assert_eq!(facts.resumed, round > 0);
            server.write_all(b"after the ticket").await.unwrap();
            server.flush().await.unwrap();
            let mut text = [0; 16];
            client.read_exact(&mut text).await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(server.read(&mut text).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn a_resumed_session_that_rests_on_an_expired_certificate_is_no_peer() {
    let pair = Pair::new();
    // The certificates of these tests are good until the year 4096.
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(70_000_000_000);
    for resumed in [false, true] {
        let (near, far, _) = tcp().await;
        let (client, server) = tokio::join!(
            async {
                let client = Handshake::connect(near, Arc::clone(&pair.client), name()).await.unwrap();
                let peers = Peers::default();
                let judged = Peer::of_finished_handshake(client.facts(), &peers, late);
                assert_eq!(judged.err(), resumed.then_some(SvidError::Expired));
                let early = Peer::of_finished_handshake(client.facts(), &peers, SystemTime::UNIX_EPOCH);
                assert_eq!(early.err(), resumed.then_some(SvidError::NotYetValid));
                assert!(Peer::of_finished_handshake(client.facts(), &peers, SystemTime::now()).is_ok());
                let mut client = Secured::from(client.finish().unwrap());
                client.write_all(b"x").await.unwrap();
                client
            },
            async {
                let server = Handshake::accept(far, Arc::clone(&pair.server)).await.unwrap();
                let peers = Peers::default();
                let judged = Peer::of_finished_handshake(server.facts(), &peers, late);
                assert_eq!(judged.err(), resumed.then_some(SvidError::Expired));
                let mut server = Secured::from(server.finish().unwrap());
                server.write_all(b"after the ticket").await.unwrap();
                server
            }
        );
        let (mut client, _server) = (client, server);
        client.read_exact(&mut [0; 16]).await.unwrap();
    }
}
