//! Callers that leave, after every byte of a request, in order and by reset, plain and under TLS, many at once: no connection,
//! no request, no descriptor and no memory is left of them. A proxy leaks where somebody forgot that a wait may never end; here
//! every wait is left once.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::origin::Origin;
use support::pair::{HOST, Setting};
use support::pki::Cert;
use support::script::Scripted;
use support::{rest, tls, wait, wire};

use super::origin::{Failing, stuck};

/// How the caller goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Close,
    Reset,
    /// Says that nothing more will come, and stays for the answer.
    Half,
}

pub(crate) const EXITS: [Exit; 3] = [Exit::Close, Exit::Reset, Exit::Half];

/// Leaves by this exit.
pub(crate) fn leave(socket: &TcpStream, exit: Exit) {
    match exit {
        Exit::Close => {}
        Exit::Reset => wire::reset_when_closed(socket),
        Exit::Half => {
            let _ = socket.shutdown(Shutdown::Write);
            let _ = socket.set_read_timeout(Some(wait::SOON));
            let mut socket = socket;
            let mut waste = [0; 4096];
            while socket.read(&mut waste).is_ok_and(|count| count > 0) {}
        }
    }
}

/// Runs `one` for each number below `count`, on eight threads.
pub(crate) fn all(count: usize, one: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    one(number);
                }
            });
        }
    });
}

/// A request with every kind of byte: head, chunks, trailers.
fn request() -> Vec<u8> {
    let head =
        format!("POST /open/left HTTP/1.1\r\nHost: {HOST}\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n");
    (head + "5\r\nhello\r\n10;a=b\r\n0123456789abcdef\r\n0\r\nx-sum: 1\r\n\r\n").into_bytes()
}

fn plain(to: SocketAddr, bytes: &[u8], exit: Exit) {
    let mut stream = TcpStream::connect(to).unwrap();
    let _ = stream.write_all(bytes);
    leave(&stream, exit);
}

fn mutual(to: SocketAddr, cert: &Cert, bytes: &[u8], exit: Exit) {
    let mut stream = tls::connect(to, Some(cert), &["http/1.1"]).unwrap();
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    leave(&stream.sock, exit);
}

/// Bytes of a handshake, cut after the first `count`.
fn handshake(to: SocketAddr, cert: &Cert, count: usize, exit: Exit) {
    use rustls::ClientConnection;
    let config = tls::config(Some(tls::certified(cert)), &["http/1.1"]).unwrap();
    let name = "sekisho.test".try_into().unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(config.into(), name).unwrap().write_tls(&mut hello).unwrap();
    plain(to, &hello[..count.min(hello.len())], exit);
}

#[test]
fn callers_that_leave_after_any_byte_leave_nothing_behind() {
    const ROUNDS: usize = 3;
    let pair = super::setting().start();
    let (entry, inbound, cert) = (pair.entry(), pair.setting.at.inbound, &pair.setting.web);
    let request = request();
    let whole = wire::request(entry, &request).unwrap();
    assert_eq!(whole.status(), 200);
    let sidecars = [&pair.client, &pair.server];
    let bases = sidecars.map(rest::base);
    let lengths = request.len() + 1;
    let mut memory = Vec::new();
    for _ in 0..=ROUNDS {
        all(lengths * EXITS.len(), |number| {
            plain(entry, &request[..number / EXITS.len()], EXITS[number % EXITS.len()])
        });
        all(lengths * EXITS.len(), |number| {
            mutual(inbound, cert, &request[..number / EXITS.len()], EXITS[number % EXITS.len()]);
        });
        all(64 * EXITS.len(), |number| {
            handshake(inbound, cert, number / EXITS.len() * 8, EXITS[number % EXITS.len()]);
        });
        for (sidecar, base) in sidecars.into_iter().zip(bases) {
            rest::returned(sidecar, base);
        }
        memory.push(sidecars.map(rest::resident));
        assert_eq!(wire::request(entry, &request).unwrap().status(), 200);
    }
    let left = (ROUNDS + 1) * EXITS.len() * (2 * lengths + 64);
    println!("{left} callers left; resident memory of caller's and callee's sidecar after each round, KiB: {memory:?}");
    rest::assert_flat(&memory);
    // Whatever of a request arrived, the application was never told that it was whole.
    for seen in pair.origin.requests() {
        assert_eq!((seen.body.len(), seen.trailer("x-sum")), (21, Some("1")), "a cut request looked whole");
    }
}

/// With everything that would end an exchange by itself switched off for the time of a test.
pub(crate) fn patient() -> Setting {
    let patience = super::with("handshake_timeout = \"10m\"\nconnect_timeout = \"10m\"\nidle_timeout = \"10m\"");
    super::setting().server(&patience).client(&patience)
}

#[test]
fn callers_that_leave_a_stuck_application_leave_nothing_behind() {
    const CALLERS: usize = 60;
    let setting = patient();
    let mut app = Failing::on(setting.at.app);
    let (server, client) = (setting.start_server(), setting.start_client());
    let sidecars = [&client, &server];
    let bases = sidecars.map(rest::base);
    let (get, body) = (b"GET /open/a HTTP/1.1\r\nHost: orders.shop.svc\r\n\r\n", request());
    for (number, fault) in stuck() {
        app.tell(number);
        all(CALLERS, |caller| {
            // Left once the request is under way: at once, or after the application has come as far as it gets.
            let bytes = if caller % 3 == 0 { &get[..] } else { &body };
            let pause = Duration::from_millis(if caller % 2 == 0 { 0 } else { 100 });
            let exit = EXITS[caller % 2];
            if caller % 4 < 2 {
                let mut stream = TcpStream::connect(setting.at.entry).unwrap();
                let _ = stream.write_all(bytes);
                std::thread::sleep(pause);
                leave(&stream, exit);
            } else {
                let mut stream = tls::connect(setting.at.inbound, Some(&setting.web), &["http/1.1"]).unwrap();
                let _ = stream.write_all(bytes).and_then(|()| stream.flush());
                std::thread::sleep(pause);
                leave(&stream.sock, exit);
            }
        });
        for (sidecar, base) in sidecars.into_iter().zip(bases) {
            rest::returned(sidecar, base);
        }
        println!("{}: nothing is left of {CALLERS} callers", fault.name);
    }
    app.heal();
    assert_eq!(wire::get(setting.at.entry, HOST, "/open/a").unwrap().status(), 200);
}

#[test]
fn callers_that_leave_while_their_callee_does_not_answer_leave_nothing_behind() {
    let setting = patient();
    let client = setting.start_client();
    let base = rest::base(&client);
    let give_up = |what: &str| {
        all(40, |caller| {
            let mut stream = TcpStream::connect(setting.at.entry).unwrap();
            let _ = stream.write_all(b"GET /open/a HTTP/1.1\r\nHost: orders.shop.svc\r\n\r\n");
            std::thread::sleep(Duration::from_millis(if caller % 4 < 2 { 0 } else { 100 }));
            leave(&stream, EXITS[caller % 2]);
        });
        rest::returned(&client, base);
        println!("{what}: nothing is left");
    };
    // The handshake gets no answer.
    let silent = Scripted::on(setting.at.inbound, |line| {
        line.until_closed();
        Ok(())
    });
    give_up("a handshake without an answer");
    assert!(silent.connections() > 0);
    drop(silent);
    wait::until("the port to be free", wait::SOON, || TcpStream::connect(setting.at.inbound).is_err().then_some(()));
    // The connection gets none.
    let unanswering = wire::Unanswering::on(setting.at.inbound);
    give_up("a connection without an answer");
    drop(unanswering);
    // And then somebody is there.
    let (_origin, _server) = (Origin::on(setting.at.app), setting.start_server());
    wait::until("an answer", wait::SOON, || {
        wire::get(setting.at.entry, HOST, "/open/a").is_ok_and(|reply| reply.status() == 200).then_some(())
    });
}
