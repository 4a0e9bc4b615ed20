//! What is no exchange: a WebSocket after its switch, and opaque TCP. The copy holds the same bytes in the same order.

use std::io::{Read, Write};
use std::net::TcpStream;

use support::child::{Child, run};
use support::pair::{HOST, Setting};
use support::script::Scripted;
use support::{tools, wait};

use super::judge;
use crate::sensor::Sensor;

const OPAQUE: &str = "protocol = \"tcp\"\n";

#[test]
fn a_websocket_is_copied_from_its_handshake_to_its_close() {
    websocket(false);
}

#[test]
fn a_websocket_over_ipv6_is_copied_from_its_handshake_to_its_close() {
    websocket(true);
}

fn websocket(ipv6: bool) {
    let upgrade = "upgrade = [\"websocket\"]\n";
    let setting = super::families(Setting::new(), ipv6, ipv6)
        .client(|text| text.replace("to = \"shop/orders\"\n", &format!("to = \"shop/orders\"\n{upgrade}")))
        .server(|text| {
            text.replace(
                "[[tap]]",
                &format!(
                    "[[inbound]]\nname = \"live\"\nfrom = \"shop/web\"\nrequests = [\"GET /live\"]\n{upgrade}\n[[tap]]"
                ),
            )
        });
    let mut python = tools::python();
    python.arg(tools::script("ws_echo.py")).arg(setting.at.app.port().to_string());
    let mut app = Child::start(setting.dir.path(), "ws", &mut python);
    app.wait_for("ready");
    let sensor = Sensor::start(setting.at.sensor);
    let (_server, _client) = (setting.start_server(), setting.start_client());
    let mut python = tools::python();
    let said = run(python.args(["-c", TALK, &setting.at.entry.port().to_string(), HOST]));
    assert_eq!(said.lines().collect::<Vec<_>>(), ["True", "True", "True", "1000"]);

    let copy = sensor.settle(setting.dir.path());
    let talks = judge::agreed(&copy);
    assert!(talks.iter().all(|talk| talk.client.is_ipv6() == ipv6 && talk.server.is_ipv6() == ipv6));
    assert_eq!(talks.len(), 1, "the frames follow their handshake on the same connection");
    let (asked, answered) = (&talks[0].asked, &talks[0].answered);
    assert!(asked.starts_with(b"GET /live HTTP/1.1\r\n") && answered.starts_with(b"HTTP/1.1 101 "));
    let (sent, got) = (messages(behind_head(asked)), messages(behind_head(answered)));
    let long: Vec<u8> = (0..100_000).map(|at| (at * 7) as u8).collect();
    let expected = [b"text".to_vec(), long, b"x".repeat(70_000)];
    assert!(sent == expected, "what the client sent: {:?}", sent.iter().map(Vec::len).collect::<Vec<_>>());
    assert!(got[0] == b"hello" && got[1..] == expected, "what the server sent");
    // tshark reads the frames too, and takes off the mask.
    let texts =
        copy.fields("websocket.payload.text == \"text\" || websocket.payload.text == \"hello\"", &["frame.number"]);
    assert!(texts.len() >= 2, "{texts:?}");
}

#[test]
fn opaque_tcp_is_copied_byte_for_byte() {
    opaque(Setting::new());
}

#[test]
fn opaque_tcp_over_ipv6_is_copied_byte_for_byte() {
    opaque(super::moved(super::families(Setting::new(), true, true), |at| &mut at.app));
}

fn opaque(setting: Setting) {
    let ipv6 = setting.at.inbound.is_ipv6();
    let setting = setting
        .server(|text| {
            let text = text.replace("[app]\n", &format!("[app]\n{OPAQUE}"));
            text.replace("[[tap]]", &format!("[[inbound]]\nname = \"raw\"\nfrom = \"shop/web\"\n{OPAQUE}\n[[tap]]"))
                .replace("[[inbound]]\nname = \"web-reads-orders\"\nfrom = \"shop/web\"\nrequests = [\"GET,HEAD /api/orders\", \"GET,HEAD /api/orders/{id:uint}\"]\n", "")
        })
        .client(|text| {
            text.replace("[[service]]\n", &format!("[[service]]\n{OPAQUE}"))
                .replace("to = \"shop/orders\"\n", &format!("to = \"shop/orders\"\n{OPAQUE}"))
        });
    // Speaks first, answers each line, and sends much at the end.
    let app = Scripted::on(setting.at.app, |line| {
        line.send(BANNER)?;
        let heard = line.bytes(ASKED)?;
        line.send(heard.iter().rev().copied().collect::<Vec<_>>())?;
        line.send(pattern(ANSWERED))
    });
    let sensor = Sensor::start(setting.at.sensor);
    let (server, _client) = (setting.start_server(), setting.start_client());
    let mut stream = TcpStream::connect(setting.at.entry).unwrap();
    stream.set_read_timeout(Some(wait::SOON)).unwrap();
    let mut heard = vec![0; BANNER.len()];
    stream.read_exact(&mut heard).unwrap();
    let asked = pattern(ASKED);
    stream.write_all(&asked).unwrap();
    let mut rest = vec![0; ASKED + ANSWERED];
    stream.read_exact(&mut rest).unwrap();
    drop(stream);
    assert_eq!(app.connections(), 1);

    let _ = &server;
    let copy = sensor.settle(setting.dir.path());
    let talks = judge::agreed(&copy);
    assert!(talks.iter().all(|talk| talk.client.is_ipv6() == ipv6 && talk.server.is_ipv6() == ipv6));
    // More than one where the rollover came between.
    let all = |half: fn(&judge::Talk) -> &Vec<u8>| talks.iter().flat_map(|talk| half(talk).clone()).collect::<Vec<_>>();
    assert!(all(|talk| &talk.asked) == asked, "what the client said");
    heard.extend(rest);
    assert!(all(|talk| &talk.answered) == heard, "what the server said");
    assert!(talks.iter().all(|talk| talk.answered.len() <= 1024 * 1024), "past what an IDS reads");
}

const BANNER: &[u8] = b"220 speaks first\r\n";
const ASKED: usize = 30_000;
/// Past the rollover of 512 KiB.
const ANSWERED: usize = 700_000;

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn behind_head(bytes: &[u8]) -> &[u8] {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    &bytes[end + 4..]
}

/// The data messages of one side (RFC 6455 section 5.2), masks taken off; the last frame has to be a close.
fn messages(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut last = 0;
    while let [first, second, more @ ..] = rest {
        let (opcode, masked) = (first & 15, second & 0x80 != 0);
        let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let (length, more) = match second & 0x7f {
            126 => (number(&more[..2]), &more[2..]),
            127 => (number(&more[..8]), &more[8..]),
            short => (usize::from(short), more),
        };
        let (mask, more) = if masked { more.split_at(4) } else { (&[0; 4][..], more) };
        let payload: Vec<u8> = more[..length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        match opcode {
            0 => messages.last_mut().unwrap().extend(payload),
            1 | 2 => messages.push(payload),
            _ => {}
        }
        (rest, last) = (&more[length..], opcode);
    }
    assert_eq!(last, 8, "ends with a close");
    messages
}

/// A WebSocket client of other make.
const TALK: &str = "
import socket as sockets, sys
from websockets.sync.client import connect
line = sockets.create_connection(('127.0.0.1', int(sys.argv[1])))
with connect('ws://%s/live' % sys.argv[2], sock=line, max_size=None, compression=None) as socket:
    socket.recv()
    for message in ['text', bytes(at * 7 % 256 for at in range(100000)), 'x' * 70000]:
        socket.send(message)
        print(socket.recv() == message)
print(socket.close_code)
";
