//! Class 104 through HTTP/2: an application that fails at every step is an error of its stream alone.

use support::catalogue::{Outcome, Table};
use support::pair::{HOST, Setting};
use support::rest;
use support::wire::QUIET;

use super::Door;
use super::frames::{Client, DATA, END_STREAM, Field, GOAWAY, HEADERS, Next, RST_STREAM, WHOLE, headers};
use crate::drills::origin::{FAULTS, Failing, Fault, judged, setting, worst};

fn get() -> Vec<Field<'static>> {
    vec![(b":method", b"GET"), (b":scheme", b"https"), (b":authority", HOST.as_bytes()), (b":path", b"/open/a")]
}

/// One request on a new stream: how it ended.
fn ask(client: &mut Client, stream: u32) -> Result<(u16, usize), String> {
    client.send(&headers(stream, WHOLE, &get())).map_err(|error| error.to_string())?;
    let (mut status, mut body) = (None, 0);
    loop {
        let frame = match client.next(QUIET) {
            Next::Frame(frame) => frame,
            Next::Closed => return Err("closed".into()),
            Next::Quiet => return Err("held open".into()),
        };
        match frame.kind {
            GOAWAY => return Err("GOAWAY".into()),
            RST_STREAM if frame.stream == stream => return Err(format!("RST_STREAM {}", frame.code())),
            // A status after the first one of a connection may stand in the table: here each has a connection of its own.
            HEADERS if frame.stream == stream && status.is_none_or(|status| status < 200) => {
                status = Some(frame.status())
            }
            DATA if frame.stream == stream => body += frame.payload.len(),
            _ => {}
        }
        if frame.stream == stream && matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
            return status.map(|status| (status, body)).ok_or_else(|| "no status".into());
        }
    }
}

fn judge(door: Door<'_>, fault: &Fault) -> Outcome {
    let mut client = Client::open(door);
    match ask(&mut client, 1) {
        Ok((status, body)) => judged(fault, status, body),
        Err(how) if fault.whole || how == "held open" || how == "GOAWAY" || how == "closed" => Outcome::Passed(how),
        // The stream alone: the connection still answers a PING.
        Err(how) => {
            client.send(&super::frames::frame(super::frames::PING, 0, 0, b"12345678")).unwrap();
            loop {
                match client.next(QUIET) {
                    Next::Frame(frame) if frame.kind == super::frames::PING => return Outcome::Refused(how),
                    Next::Frame(_) => {}
                    other => return Outcome::Passed(format!("{how}, then {other:?}")),
                }
            }
        }
    }
}

#[test]
fn a_failing_application_ends_its_stream_and_leaves_nothing() {
    let setting: Setting = setting();
    let mut app = Failing::on(setting.at.app);
    let (server, client) = (setting.start_server(), setting.start_client());
    let bases = [&server, &client].map(rest::base);
    let mut table = Table::new("origin-faults-http2", 104..=104);
    let doors = [Door::Plain(setting.at.entry), Door::Mtls(setting.at.inbound, &setting.web)];
    for (number, fault) in FAULTS.iter().enumerate() {
        app.tell(number);
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let asked = doors.map(|door| scope.spawn(move || judge(door, fault)));
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        table.row(104, fault.name, worst(&outcomes), None);
        app.heal();
        for door in doors {
            assert_eq!(ask(&mut Client::open(door), 1), Ok((200, 4)), "{}", fault.name);
        }
    }
    table.judge(&[104]);
    for (sidecar, base) in [&server, &client].into_iter().zip(bases) {
        rest::returned(sidecar, base);
    }
}
