//! Answers that come before the request has been sent: they are read, and the two connections end.

use std::io::Write;

use support::pair::HOST;
use support::wire;

use super::open::{head, staged};

const UPLOAD: usize = 50 << 20;

#[test]
fn an_early_413_is_read_while_fifty_megabytes_are_on_their_way() {
    assert_early("HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\n\r\ntoo large", 413, "too large");
}

#[test]
fn an_early_413_whose_application_says_close_is_read_too() {
    assert_early(
        "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 9\r\n\r\ntoo large",
        413,
        "too large",
    );
}

#[test]
fn an_upload_that_the_application_never_reads_ends_with_its_answer() {
    assert_early("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n", 200, "fine");
}

/// The application answers the head and reads nothing more.
fn assert_early(answer: &'static str, status: u16, text: &str) {
    let stage = staged(move |line| {
        if line.number > 0 {
            line.head()?;
            return line.answer("next");
        }
        line.head()?;
        line.send(answer)?;
        // Neither reads nor closes before the proxy does.
        line.hold();
        Ok(())
    });
    let mut connection = stage.connect();
    connection.send(head("POST", "a", &format!("Content-Length: {UPLOAD}\r\n")).as_bytes()).unwrap();
    let mut writer = connection.writer();
    let uploading = std::thread::spawn(move || {
        let piece = vec![b'x'; 1 << 16];
        let mut sent = 0;
        while sent < UPLOAD && writer.write_all(&piece).is_ok() {
            sent += piece.len();
        }
        sent
    });
    let reply = connection.receive_any().unwrap();
    assert_eq!((reply.status(), reply.text().as_str()), (status, text));
    let (rest, end) = connection.rest();
    assert!(rest.is_empty() && end != wire::End::Quiet, "{end:?}");
    let sent = uploading.join().unwrap();
    assert!(sent < UPLOAD, "all of it was taken");
    assert_eq!(wire::get(stage.setting.at.entry, HOST, "/open/b").unwrap().text(), "next");
    assert_eq!(stage.origin.connections(), 2);
}
