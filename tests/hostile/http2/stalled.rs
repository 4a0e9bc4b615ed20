//! Class 67 in time: who stops reading is ended by the idle timer, one stream or all of them; who says nothing at all, by the
//! timer for the preface. Class 60 where it depends on the application. And class 59 and 69 as an operator sees them.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use support::origin::{Origin, Reply};
use support::pair::{HOST, Setting, json_log};
use support::wait;

use super::frames::{
    Client, DATA, END_HEADERS, Field, GOAWAY, HEADERS, Next, PREFACE, RST_STREAM, WHOLE, data, frame, headers,
    settings, window,
};
use super::{Door, open};

fn get(path: &str) -> Vec<Field<'_>> {
    vec![(b":method", b"GET"), (b":scheme", b"https"), (b":authority", HOST.as_bytes()), (b":path", path.as_bytes())]
}

/// Before an application with big answers.
fn big() -> (Setting, Origin) {
    let setting = open(Setting::new());
    let origin = Origin::with(setting.at.app, |request| {
        Reply::text(if request.target() == "/open/big" { vec![b'x'; 1 << 20] } else { b"small".to_vec() })
    });
    (setting, origin)
}

/// The same, with a callee's sidecar whose streams may stand still for a second.
fn impatient() -> (Setting, Origin) {
    let (setting, origin) = big();
    let setting = setting
        .server(json_log)
        .server(|text| text.replace("[proxy]\n", "[proxy]\nidle_timeout = \"1s\"\ndetect_timeout = \"1s\"\n"));
    (setting, origin)
}

#[test]
fn a_stream_that_nobody_reads_is_ended_while_others_of_its_connection_move() {
    let (setting, _origin) = impatient();
    let server = setting.start_server();
    let mut client = Client::with(Door::Mtls(setting.at.inbound, &setting.web), &[(4, 0)]);
    client.send(&headers(1, WHOLE, &get("/open/big"))).unwrap();
    let mut next = 3;
    let mut answered = 0;
    let ended = wait::within(wait::SOON, || {
        // Another stream is read; all the while the first one's window stays closed.
        client.send(&[headers(next, WHOLE, &get("/open/small")), window(next, 1000)].concat()).unwrap();
        next += 2;
        loop {
            match client.next(Duration::from_millis(100)) {
                Next::Frame(frame) if frame.kind == RST_STREAM => return Some(frame.stream),
                Next::Frame(frame) if frame.kind == HEADERS && frame.stream > 1 => answered += 1,
                Next::Frame(frame) => assert_ne!(frame.kind, GOAWAY, "the connection goes on"),
                Next::Quiet => return None,
                Next::Closed => panic!("the connection goes on"),
            }
        }
    });
    assert_eq!(ended, Some(1));
    assert!(answered > 5, "{answered}");
    server.logged(&["/open/big", "\"response_flags\":\"SI\"", "stream_idle_timeout"]);
    // And it does go on.
    client.send(&[headers(next, WHOLE, &get("/open/small")), window(next, 1000)].concat()).unwrap();
    wait::until("an answer", wait::SOON, || match client.next(Duration::from_secs(1)) {
        Next::Frame(frame) => (frame.kind == HEADERS && frame.stream == next).then_some(()),
        other => panic!("{other:?}"),
    });
}

#[test]
fn a_connection_whose_every_window_stays_closed_is_ended() {
    let (setting, _origin) = impatient();
    let server = setting.start_server();
    let mut client = Client::with(Door::Mtls(setting.at.inbound, &setting.web), &[(4, 0)]);
    let many: Vec<u8> = (0..50).flat_map(|one| headers(one * 2 + 1, WHOLE, &get("/open/big"))).collect();
    client.send(&many).unwrap();
    let mut resets = 0;
    let ended = wait::within(wait::SOON, || {
        loop {
            match client.next(Duration::from_millis(100)) {
                Next::Frame(frame) if frame.kind == RST_STREAM => resets += 1,
                Next::Frame(_) => {}
                Next::Quiet => return (resets == 50).then_some(()),
                Next::Closed => return Some(()),
            }
        }
    });
    assert!(ended.is_some(), "{resets} streams were ended");
    let active = || server.metrics().sum("envoy_http_downstream_rq_active", &[]);
    wait::until("no request under way", wait::SOON, || (active() == 0.0).then_some(()));
}

/// The windows of the streams of one upstream connection add up to its own window, so what nobody reads leaves room for who does.
#[test]
fn streams_that_nobody_reads_hold_up_no_other_client() {
    let (setting, _origin) = big();
    let setting = setting.client(|text| text.replace("[proxy]\n", "[proxy]\nworkers = 1\n"));
    let (_server, _client) = (setting.start_server(), setting.start_client());
    let mut idle = Client::with(Door::Plain(setting.at.entry), &[(4, 0)]);
    let mut answered = 0;
    // The first makes the upstream connection that the others share, and leaves room there for a few more.
    for (streams, all) in [(0..1, 1), (1..60, 60)] {
        let asked: Vec<u8> = streams.flat_map(|one| headers(one * 2 + 1, WHOLE, &get("/open/big"))).collect();
        idle.send(&asked).unwrap();
        wait::until("every answer begun", wait::SOON, || {
            while let Next::Frame(frame) = idle.next(Duration::from_millis(50)) {
                answered += usize::from(frame.kind == HEADERS);
            }
            (answered == all).then_some(())
        });
    }
    for _ in 0..3 {
        let mut client = Client::with(Door::Plain(setting.at.entry), &[(4, 1 << 24)]);
        client.send(&[window(0, 1 << 24), headers(1, WHOLE, &get("/open/big"))].concat()).unwrap();
        let mut got = 0;
        while got < 1 << 20 {
            match client.next(wait::SOON) {
                Next::Frame(frame) if frame.kind == DATA => got += frame.payload.len(),
                Next::Frame(frame) => assert_ne!(frame.kind, RST_STREAM, "after {got} bytes"),
                other => panic!("{other:?} after {got} bytes"),
            }
        }
    }
    assert!(matches!(idle.next(Duration::ZERO), Next::Quiet | Next::Frame(_)), "the streams are still there");
}

/// An application that takes connections and reads nothing, until the process ends.
fn deaf(at: SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
}

/// Class 60. While the application reads, a stream's window is widened again and again, and no amount of data is too much. One
/// that reads nothing ends that, after what the kernel's buffers hold.
#[test]
fn data_past_the_window_of_a_stream_is_refused_at_both_doors() {
    let setting = open(Setting::new());
    deaf(setting.at.app);
    let (_server, _client) = (setting.start_server(), setting.start_client());
    for door in [Door::Mtls(setting.at.inbound, &setting.web), Door::Plain(setting.at.entry)] {
        let mut client = Client::open(door);
        let fields = [&[(&b":method"[..], &b"POST"[..])], &get("/open/up")[1..]].concat();
        client.send(&headers(1, END_HEADERS, &fields)).unwrap();
        let piece = data(1, 0, &[b'a'; 16384]);
        let mut refused = None;
        // 128 MiB, three times what two sockets may hold.
        for _ in 0..8192 {
            let sent = client.send(&piece);
            while let Some(Some(frame)) = client.look() {
                match frame.kind {
                    GOAWAY | RST_STREAM => refused = Some(frame.code()),
                    HEADERS => panic!("answered: {}", frame.status()),
                    _ => {}
                }
            }
            if refused.is_some() || sent.is_err() {
                break;
            }
        }
        assert_eq!(refused, Some(3), "FLOW_CONTROL_ERROR (RFC 9113 §6.9.1)");
    }
}

#[test]
fn who_says_nothing_after_the_handshake_is_ended() {
    let (setting, _origin) = impatient();
    let _server = setting.start_server();
    for begin in [&b""[..], &PREFACE[..10], PREFACE] {
        let mut client = Client::silent(Door::Mtls(setting.at.inbound, &setting.web));
        client.send(begin).unwrap();
        assert!(matches!(client.next(wait::SOON), Next::Closed), "{begin:?}");
    }
}

#[test]
fn what_the_library_refuses_is_counted_and_told() {
    let (setting, _origin) = impatient();
    let server = setting.start_server();
    let door = Door::Mtls(setting.at.inbound, &setting.web);
    for (bytes, detail) in [
        ([PREFACE, &settings(&[]), &frame(6, 0, 1, &[0; 8])].concat(), "http2.protocol_error"),
        ([PREFACE, &settings(&[]), &window(0, 0x7fff_ffff)].concat(), "http2.flow_control_error"),
        ([PREFACE, &settings(&[]), &frame(0, 0, 1, &[0; 16385])].concat(), "http2.frame_size_error"),
        ([PREFACE, &headers(1, WHOLE, &get("/open/small"))].concat(), "http2.bad_preface"),
        ([PREFACE, &settings(&[]), &frame(0xbe, 0, 0, &[]).repeat(20_000)].concat(), "http2.enhance_your_calm"),
    ] {
        let counted = || server.metrics().sum("envoy_http_downstream_cx_protocol_error", &[]);
        let before = counted();
        let mut client = Client::silent(door);
        let _ = client.send(&bytes); // it may be closed before all has been said
        while let Next::Frame(_) = client.next(wait::SOON) {}
        server.logged(&["\"response_flags\":\"DPE\"", detail]);
        server.refused(detail);
        wait::until("the count", wait::SOON, || (counted() == before + 1.0).then_some(()));
    }
}
