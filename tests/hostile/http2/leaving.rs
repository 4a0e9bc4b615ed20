//! HTTP/2 callers that leave: after every frame of an exchange and in the middle of each, in order and by reset, and streams that
//! are reset at every step while their connection stays. Nothing is left of any of them.

use std::time::Duration;

use support::pair::HOST;
use support::rest;
use support::script::Scripted;

use super::Door;
use super::frames::{
    ACK, CONTINUATION, Client, END_HEADERS, END_STREAM, Field, HEADERS, Next, PING, PREFACE, RST_STREAM, SETTINGS,
    WHOLE, block, data, frame, headers, reset, settings, window,
};
use crate::drills::leaving::{EXITS, all, leave, patient};
use crate::drills::origin::{Failing, stuck};

fn post(path: &str) -> Vec<Field<'_>> {
    vec![
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", HOST.as_bytes()),
        (b":path", path.as_bytes()),
        (b"trailer", b"x-sum"),
    ]
}

/// The frames of a stream from its head in two pieces to its trailers.
fn stream(id: u32) -> Vec<Vec<u8>> {
    let block = block(&post("/open/left"));
    let (first, second) = block.split_at(block.len() / 2);
    vec![
        frame(HEADERS, 0, id, first),
        frame(CONTINUATION, END_HEADERS, id, second),
        data(id, 0, b"hello"),
        data(id, 0, b""),
        window(id, 1000),
        data(id, 0, &[b'x'; 1000]),
        headers(id, END_STREAM | END_HEADERS, &[(b"x-sum", b"1")]),
    ]
}

/// All frames of a connection with one stream.
fn connection() -> Vec<Vec<u8>> {
    let begin = [PREFACE.to_vec(), settings(&[(3, 10)]), frame(SETTINGS, ACK, 0, &[]), frame(PING, 0, 0, &[0; 8])];
    begin.into_iter().chain(stream(1)).collect()
}

/// Where to cut: after each frame and in the middle of each.
fn cuts() -> Vec<usize> {
    let mut at = 0;
    let mut cuts = vec![0];
    for frame in connection() {
        cuts.extend([at + 1, at + frame.len() / 2, at + frame.len()]);
        at += frame.len();
    }
    cuts
}

#[test]
fn http2_callers_that_leave_after_any_frame_leave_nothing_behind() {
    const ROUNDS: usize = 3;
    let pair = crate::drills::setting().start();
    let doors = [Door::outbound(&pair), Door::inbound(&pair)];
    let sidecars = [&pair.client, &pair.server];
    let bytes = connection().concat();
    let cuts = cuts();
    for door in doors {
        assert_eq!(answered(&mut Client::open(door), 1), 200);
    }
    let bases = sidecars.map(rest::base);
    let mut memory = Vec::new();
    for _ in 0..=ROUNDS {
        all(cuts.len() * EXITS.len() * doors.len() * 4, |number| {
            let (door, rest) = (doors[number % 2], number / 2);
            let (exit, rest) = (EXITS[rest % EXITS.len()], rest / EXITS.len());
            let mut client = Client::silent(door);
            let _ = client.send(&bytes[..cuts[rest % cuts.len()]]);
            leave(client.socket(), exit);
        });
        all(doors.len() * 8, |number| reset_streams(doors[number % 2]));
        for (sidecar, base) in sidecars.into_iter().zip(bases) {
            rest::returned(sidecar, base);
        }
        memory.push(sidecars.map(rest::resident));
        for door in doors {
            assert_eq!(answered(&mut Client::open(door), 1), 200);
        }
    }
    let left = (ROUNDS + 1) * cuts.len() * EXITS.len() * doors.len() * 4;
    println!("{left} callers left; resident memory of caller's and callee's sidecar after each round, KiB: {memory:?}");
    rest::assert_flat(&memory);
    for seen in pair.origin.requests_for("/open/left") {
        assert_eq!((seen.body.len(), seen.trailer("x-sum")), (1005, Some("1")), "a cut request looked whole");
    }
}

/// On one connection, streams that are reset after each of their frames, few enough not to count as a flood; then the
/// connection still serves.
fn reset_streams(door: Door<'_>) {
    let mut client = Client::open(door);
    let mut id = 1;
    for steps in 2..=stream(1).len() {
        let frames = stream(id);
        client.send(&frames[..steps].concat()).unwrap();
        client.send(&reset(id)).unwrap();
        id += 2;
    }
    assert_eq!(answered(&mut client, id), 200);
}

/// Asks on a new stream and gives the status.
fn answered(client: &mut Client, id: u32) -> u16 {
    let mut ask = post("/open/whole");
    ask[0].1 = b"GET";
    client.send(&headers(id, WHOLE, &ask)).unwrap();
    let (mut status, mut first) = (0, id == 1);
    loop {
        match client.next(support::wire::QUIET) {
            Next::Frame(frame) if frame.stream == id && frame.kind == HEADERS => {
                // The status of a later stream may stand in the table; that there is a head and an end says enough.
                status = if std::mem::take(&mut first) { frame.status() } else { 200 };
                if frame.flags & END_STREAM != 0 {
                    return status;
                }
            }
            Next::Frame(frame) if frame.stream == id && frame.kind == RST_STREAM => return 0,
            Next::Frame(frame) if frame.stream == id && frame.flags & END_STREAM != 0 => return status,
            Next::Frame(_) => {}
            other => panic!("no answer: {other:?}"),
        }
    }
}

#[test]
fn streams_that_are_reset_while_the_application_is_stuck_leave_nothing_behind() {
    let setting = patient();
    let mut app = Failing::on(setting.at.app);
    let (server, client) = (setting.start_server(), setting.start_client());
    let sidecars = [&client, &server];
    let doors = [Door::Plain(setting.at.entry), Door::Mtls(setting.at.inbound, &setting.web)];
    let bases = sidecars.map(rest::base);
    for (number, fault) in stuck() {
        app.tell(number);
        all(16, |caller| {
            // Few enough resets not to be a flood; the connection goes at the end, by reset or in order.
            let mut client = Client::open(doors[caller % 2]);
            for id in [1, 3, 5, 7] {
                client.send(&stream(id).concat()).unwrap();
                std::thread::sleep(Duration::from_millis(if id < 4 { 0 } else { 50 }));
                client.send(&reset(id)).unwrap();
            }
            client.send(&stream(9).concat()).unwrap();
            leave(client.socket(), EXITS[caller / 2 % 2]);
        });
        for (sidecar, base) in sidecars.into_iter().zip(bases) {
            rest::returned(sidecar, base);
        }
        println!("{}: nothing is left", fault.name);
    }
    app.heal();
    for door in doors {
        assert_eq!(answered(&mut Client::open(door), 1), 200);
    }
}

#[test]
fn streams_that_are_reset_while_their_callee_does_not_answer_leave_nothing_behind() {
    let setting = patient();
    let sidecar = setting.start_client();
    let base = rest::base(&sidecar);
    let silent = Scripted::on(setting.at.inbound, |line| {
        line.until_closed();
        Ok(())
    });
    all(16, |caller| {
        let mut client = Client::open(Door::Plain(setting.at.entry));
        for id in [1, 3, 5] {
            client.send(&stream(id).concat()).unwrap();
            std::thread::sleep(Duration::from_millis(if id == 1 { 0 } else { 50 }));
            client.send(&reset(id)).unwrap();
        }
        client.send(&stream(7).concat()).unwrap();
        leave(client.socket(), EXITS[caller % 2]);
    });
    rest::returned(&sidecar, base);
    assert!(silent.connections() > 0);
}
