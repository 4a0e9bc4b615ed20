//! Classes 94 to 96 the other way round: what answers at a callee's address and does not shake hands as it should. The
//! caller's application gets a 503, whoever answered gets no byte of the request, and a stalled one is given up by
//! `handshake_timeout`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::catalogue::{Outcome, Table};
use support::pair::{HOST, Setting};
use support::wire;

/// What such a callee says, in pieces with 20 ms between them, once it has seen the hello.
type Answer = Vec<Vec<u8>>;

#[test]
fn a_callee_that_does_not_shake_hands_gets_no_request() {
    let limits = "[proxy]\nhandshake_timeout = \"2s\"\n";
    let setting = Setting::new().client(|text| text.replace("[proxy]\n", limits));
    let _client = setting.start_client();
    let listener = TcpListener::bind(setting.at.inbound).unwrap();
    let mut table = Table::new("tls-answers", 94..=96);
    for (class, case, answer) in answers() {
        let (send, received) = mpsc::channel();
        let listener = listener.try_clone().unwrap();
        let callee = std::thread::spawn(move || serve(listener.accept().unwrap().0, &answer, &send));
        let begin = Instant::now();
        let reply = wire::get(setting.at.entry, HOST, "/api/orders/42").unwrap();
        let lasted = begin.elapsed();
        callee.join().unwrap();
        let received: Vec<u8> = received.try_iter().flatten().collect();
        let told = received.windows(10).any(|part| part == b"/api/order");
        let outcome = match reply.status() {
            503 if !told && lasted < Duration::from_secs(12) => Outcome::Refused(format!(
                "503{}",
                if lasted > Duration::from_millis(1900) { ", by its timer" } else { "" }
            )),
            status => Outcome::Passed(format!("{status} after {lasted:?}, told: {told}")),
        };
        table.row(class, case, outcome, None);
    }
    table.judge(&[94, 95, 96]);
}

fn answers() -> Vec<(u8, &'static str, Answer)> {
    let http = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    // A ServerHello with nothing beyond its suite.
    let hello = |version: [u8; 2], suite: [u8; 2]| {
        let body = [&version[..], &[7; 32], &[0], &suite, &[0]].concat();
        let message = [&[2, 0, 0, body.len() as u8][..], &body].concat();
        [&[22, 3, 3, 0, message.len() as u8][..], &message].concat()
    };
    let good = hello([3, 3], [0xc0, 0x2b]);
    vec![
        (94, "TLS 1.0", vec![hello([3, 1], [0xc0, 0x09])]),
        (94, "TLS 1.1", vec![hello([3, 2], [0xc0, 0x09])]),
        (94, "SSL 3.0", vec![hello([3, 0], [0x00, 0x0a])]),
        (94, "a suite that was not offered", vec![hello([3, 3], [0x00, 0x05])]),
        (94, "a null suite", vec![hello([3, 3], [0x00, 0x00])]),
        (95, "HTTP without TLS", vec![http.to_vec()]),
        (95, "HTTP/2 without TLS", vec![b"\0\0\0\x04\0\0\0\0\0".to_vec()]),
        (95, "zeros", vec![vec![0; 4096]]),
        (95, "an alert", vec![vec![21, 3, 3, 0, 2, 2, 40]]),
        (95, "a close at once", vec![]),
        (95, "data before any key", vec![[&[23, 3, 3, 0, http.len() as u8][..], http].concat()]),
        (95, "our own hello", vec![b"echo".to_vec()]),
        (96, "silence", vec![vec![]; 500]),
        (96, "half a hello and silence", [vec![good[..20].to_vec()], vec![vec![]; 500]].concat()),
        (96, "a hello byte by byte and silence", {
            [good.iter().map(|byte| vec![*byte]).collect(), vec![vec![]; 500]].concat()
        }),
        (96, "a message of 16 MiB", {
            let piece = [&[22, 3, 3, 0x40, 0][..], &[11, 0xff, 0xff, 0xff], &vec![0; 0x4000 - 4]].concat();
            let more = [&[22, 3, 3, 0x40, 0][..], &vec![0; 0x4000]].concat();
            [vec![good.clone(), piece], vec![more; 20]].concat()
        }),
    ]
}

/// Reads the hello, says its pieces, and hands over whatever comes meanwhile and afterwards.
fn serve(mut stream: TcpStream, answer: &Answer, received: &mpsc::Sender<Vec<u8>>) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 65536];
    let count = stream.read(&mut buffer).unwrap_or(0);
    let hello = buffer[..count].to_vec();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for piece in answer {
        let piece = if piece == b"echo" { &hello } else { piece };
        if stream.write_all(piece).is_err() {
            return;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let _ = received.send(buffer[..count].to_vec());
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}
