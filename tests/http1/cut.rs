//! Messages that are cut, or that end with their connection: what is not whole never looks whole, on either side.

use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use support::child::Child;
use support::pair::HOST;
use support::wire::{Connection, exchange};
use support::{tools, wait, wire};

use super::open::{get, head, setting, staged};

#[test]
fn a_body_that_ends_with_its_connection_becomes_chunked() {
    for start in ["HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"] {
        let stage = staged(move |line| {
            line.head()?;
            line.send(start)?;
            line.send("all ")?;
            line.send("of it")
        });
        let mut connection = stage.connect();
        for _ in 0..2 {
            connection.send(&get("a")).unwrap();
            let reply = connection.receive().unwrap();
            assert_eq!((reply.text().as_str(), reply.chunked), ("all of it", true));
            assert!(reply.start.starts_with("HTTP/1.1 200"), "{}", reply.start);
        }
        assert_eq!(stage.origin.connections(), 2);
    }
}

#[test]
fn pythons_own_http_server_is_an_ordinary_application() {
    let setting = setting();
    let folder = setting.dir.path().join("www/open");
    std::fs::create_dir_all(&folder).unwrap();
    let body = vec![b'y'; 300_000];
    std::fs::write(folder.join("file"), &body).unwrap();
    let mut python = tools::python();
    python.args(["-m", "http.server", "--bind", "127.0.0.1", &setting.at.app.port().to_string()]);
    python.current_dir(setting.dir.path().join("www"));
    let _origin = Child::start(setting.dir.path(), "http-server", &mut python);
    wait::until("Python's server", wait::SOON, || TcpStream::connect(setting.at.app).ok());
    let (_server, _client) = (setting.start_server(), setting.start_client());
    let mut connection = Connection::open(setting.at.entry).unwrap();
    for _ in 0..3 {
        connection.send(&get("file")).unwrap();
        assert!(connection.receive().unwrap().body == body);
        connection.send(head("HEAD", "file", "").as_bytes()).unwrap();
        assert_eq!(connection.receive_head().unwrap().header("content-length"), Some("300000"));
        connection.send(&get("none")).unwrap();
        assert_eq!(connection.receive().unwrap().status(), 404);
    }
}

#[test]
fn a_body_cut_short_never_looks_whole() {
    for (start, sent) in [
        ("content-length: 10", "01234"),
        ("transfer-encoding: chunked", "5\r\n01234\r\n"),
        ("transfer-encoding: chunked", "a\r\n01234"),
        ("transfer-encoding: chunked", "5\r\n01234\r\n0\r\n"),
        ("transfer-encoding: chunked", "5\r\n01234\r\n0\r\nx-sum: 1\r\n"),
        ("transfer-encoding: chunked", "5\r\n01234\r\nx\r\n"),
        ("transfer-encoding: chunked", "5\r\n01234\n0\r\n\r\n"),
    ] {
        let stage = staged(move |line| {
            line.head()?;
            line.send(format!("HTTP/1.1 200 OK\r\n{start}\r\n\r\n{sent}"))
        });
        let mut connection = stage.connect();
        connection.send(&get("a")).unwrap();
        // Whoever saw the fault before the head had gone on may still answer by itself.
        let reply = connection.receive();
        assert!(
            reply.as_ref().map_or(true, |reply| matches!(reply.status(), 502 | 503)),
            "{start}: {sent:?}: {reply:?}"
        );
        stage.client.logged(&["\"response_flags\":\"UC\"", "\"path\":\"/open/a\""]);
        stage.server.logged(&["\"response_flags\":\"UC\"", "\"path\":\"/open/a\""]);
    }
}

/// Ends a TLS connection in order, or cuts the TCP connection under it.
const UNTIL_CLOSE: &str = "
import os, socket, ssl, sys
port, cert, key, bundle = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
context.load_verify_locations(bundle)
context.verify_mode = ssl.CERT_REQUIRED
context.set_alpn_protocols(['http/1.1'])
listener = socket.create_server(('127.0.0.1', port))
print('ready', flush=True)
while True:
    plain, _ = listener.accept()
    try:
        tls = context.wrap_socket(plain, server_side=True)
        head = b''
        while b'\\r\\n\\r\\n' not in head:
            head += tls.recv(65536)
        tls.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\nhalf of it')
        if b'/orderly ' in head:
            tls.unwrap().close()
        else:
            os.close(tls.detach())
    except OSError as error:
        print(error, flush=True)
";

#[test]
fn a_body_that_ends_with_a_cut_tls_connection_is_not_whole() {
    let setting = setting();
    let mut python = tools::python();
    python.args(["-c", UNTIL_CLOSE, &setting.at.inbound.port().to_string()]);
    python.args([&setting.orders.chain, &setting.orders.key, &setting.orders.bundle]);
    let mut callee = Child::start(setting.dir.path(), "callee", &mut python);
    callee.wait_for("ready");
    let client = setting.start_client();
    let whole = wire::get(setting.at.entry, HOST, "/open/orderly");
    assert_eq!(whole.unwrap().text(), "half of it");
    for _ in 0..10 {
        assert!(wire::get(setting.at.entry, HOST, "/open/cut").is_err(), "a cut body must not look whole");
    }
    client.logged(&["\"response_flags\":\"UC\"", "/open/cut"]);
}

#[test]
fn a_request_cut_short_never_looks_whole_to_the_application() {
    for text in [
        head("POST", "a", "Content-Length: 10\r\n") + "01234",
        head("POST", "a", "Transfer-Encoding: chunked\r\n") + "5\r\n01234\r\n",
        head("POST", "a", "Transfer-Encoding: chunked\r\n") + "5\r\n01234\r\n0\r\n",
        head("POST", "a", "Transfer-Encoding: chunked\r\n") + "5\r\n01234\n0\r\n\r\n",
        head("POST", "a", "Transfer-Encoding: chunked\r\n") + "5\r\n012345\r\n0\r\n\r\n",
        head("POST", "a", "Transfer-Encoding: chunked\r\n") + "5\r\n01234\r\n0x0\r\n\r\n",
    ] {
        let stage = staged(|line| match line.request() {
            Ok(Some(_)) => line.answer("whole"),
            other => other.map(drop),
        });
        let mut connection = stage.connect();
        connection.send(text.as_bytes()).unwrap();
        connection.writer().shutdown(Shutdown::Write).unwrap();
        let answer = connection.rest().0;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{text:?}: {}", answer.escape_ascii());
        stage.client.logged(&["/open/a", "\"response_flags\":\"D"]);
        let opened = stage.origin.connections();
        wait::until("the end at the application", wait::SOON, || (stage.origin.ended() == opened).then_some(()));
    }
}

#[test]
fn half_a_request_and_silence_is_ended_by_a_timer() {
    let setting = super::open::setting_with("idle_timeout = \"1s\"");
    let stage = super::open::staged_in(setting, |line| {
        line.request()?;
        line.answer("never")
    });
    let text = head("POST", "a", "Content-Length: 10\r\n") + "01234";
    let (received, _) = exchange(stage.setting.at.entry, text.as_bytes(), Duration::from_secs(10));
    let text = String::from_utf8_lossy(&received);
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("connection: close"), "{text}");
    wait::until("the application's connection to end", wait::SOON, || (stage.origin.ended() == 1).then_some(()));
}
