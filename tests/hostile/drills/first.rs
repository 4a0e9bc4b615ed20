//! Class 105: a client that waits for the server to speak, on a port whose rules are about requests. Nobody can tell what it
//! wants, so after `detect_timeout` the connection is taken for an opaque one, which no rule allows: it ends, and the
//! application never hears of it. Where a rule says `protocol = "tcp"` nothing is waited for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::pair::Setting;
use support::script::Scripted;
use support::{tls, wait, wire};

const BANNER: &[u8] = b"220 speaks first\r\n";

fn speaking_first(setting: &Setting) -> Scripted {
    Scripted::on(setting.at.app, |line| {
        line.send(BANNER)?;
        let heard = line.bytes(5)?;
        line.send([b"250 ", &heard[..]].concat())
    })
}

#[test]
fn silence_where_rules_are_about_requests_reaches_nobody() {
    let short = super::with("detect_timeout = \"500ms\"");
    let setting = super::setting().server(&short).client(&short);
    let app = speaking_first(&setting);
    let (server, client) = (setting.start_server(), setting.start_client());
    let (received, end) = wire::exchange(setting.at.entry, b"", wait::SOON);
    assert_eq!(received, b"", "{}", received.escape_ascii());
    assert_ne!(end, wire::End::Quiet, "held open");
    client.logged(&["\"protocol\":\"tcp\""]);
    // Without ALPN nothing is known at the callee either.
    let mut stream = tls::connect(setting.at.inbound, Some(&setting.web), &[]).unwrap();
    let mut received = Vec::new();
    stream.sock.set_read_timeout(Some(wait::SOON)).unwrap();
    let _ = stream.read_to_end(&mut received);
    assert_eq!(received, b"", "{}", received.escape_ascii());
    server.logged(&["\"protocol\":\"tcp\""]);
    assert_eq!(app.connections(), 0, "the application was reached");
}

#[test]
fn a_server_that_speaks_first_is_heard_where_a_rule_says_so() {
    const TCP: &str = "protocol = \"tcp\"";
    let long = super::with("detect_timeout = \"60s\"");
    let setting = super::setting()
        .server(&long)
        .client(&long)
        .server(|text| text.replace("protocol = \"http1\"", TCP))
        .server(|text| {
            text.split("[[inbound]]").next().unwrap().to_owned()
                + &format!("[[inbound]]\nname = \"first\"\nfrom = \"shop/web\"\n{TCP}\n")
        })
        .client(|text| {
            text.replace("[[service]]\n", &format!("[[service]]\n{TCP}\n"))
                .replace("to = \"shop/orders\"\n", &format!("to = \"shop/orders\"\n{TCP}\n"))
        });
    let _app = speaking_first(&setting);
    let (_server, _client) = (setting.start_server(), setting.start_client());
    let begun = Instant::now();
    let mut stream = TcpStream::connect(setting.at.entry).unwrap();
    stream.set_read_timeout(Some(wait::SOON)).unwrap();
    let mut heard = [0; 18];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, BANNER);
    stream.write_all(b"hello").unwrap();
    let mut heard = [0; 9];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"250 hello");
    assert!(begun.elapsed() < Duration::from_secs(15), "the detection was waited for: {:?}", begun.elapsed());
}
