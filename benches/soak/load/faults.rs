//! Callers who ask the application to fail, and know how that must look from outside.

use std::io;
use std::time::{Duration, Instant};

use support::message::Message;

use super::polite::judge;
use super::{Caller, Line};
use crate::app;

/// What the caller of a fault must see.
enum Due {
    /// One of these statuses.
    Status(&'static [u16]),
    /// An answer that begins and visibly does not end.
    Cut,
    /// 200 with this body: the sidecars had no reason to fail.
    Whole(Vec<u8>),
    /// The application and the caller raced; any end will do.
    Any,
}

/// One fault after the other, by GET and by POST.
pub(crate) fn asked_for(caller: &Caller) {
    let faults = [
        ("close", Due::Status(&[503])),
        ("reset", Due::Status(&[503])),
        ("cut", Due::Cut),
        ("cut-chunks", Due::Cut),
        ("nonsense", Due::Status(&[502, 503])),
        ("two-lengths", Due::Status(&[502, 503])),
        ("late", Due::Whole(b"late".to_vec())),
        ("slow", Due::Whole(app::pattern(1000))),
        ("interim", Due::Whole(b"interim".to_vec())),
        ("leave", Due::Whole(b"leave".to_vec())),
        ("early", Due::Any),
    ];
    let mut kept = None;
    for turn in caller.turns(Duration::from_millis(150)) {
        let (name, due) = &faults[turn as usize % faults.len()];
        let begin = Instant::now();
        let Some(mut line) = kept.take().or_else(|| Line::plain(caller.stage.entry()).ok()) else {
            caller.ledger.wrong("fault", "no connection");
            continue;
        };
        let target = format!("/soak/fault/{name}");
        let answer = if turn % 2 == 0 || *name == "early" {
            let body = app::pattern(if *name == "early" { 300_000 } else { 1000 });
            line.ask("POST", &target, &format!("Content-Length: {}\r\n", body.len()), &body)
        } else {
            line.ask("GET", &target, "", b"")
        };
        let outcome = due.judge(&answer).map_err(|what| format!("{name}: {what}"));
        if outcome.as_ref().is_err_and(|what| what.contains(": 503")) && turn % 2 == 0 && app::left_since(begin) {
            caller.ledger.unlucky("fault");
        } else if matches!(due, Due::Whole(_)) {
            caller.ledger.note("trouble survived", outcome);
        } else {
            caller.ledger.note_due("fault", outcome);
        }
        kept = answer.is_ok_and(|answer| !answer.closes()).then_some(line);
    }
}

impl Due {
    fn judge(&self, answer: &io::Result<Message>) -> Result<(), String> {
        match (self, answer) {
            (Self::Any, _) | (Self::Cut, Err(_)) => Ok(()),
            (Self::Status(due), Ok(answer)) if due.contains(&answer.status()) => Ok(()),
            (Self::Whole(body), Ok(answer)) => judge(answer, body),
            (_, Ok(answer)) => Err(format!("{} with {} bytes", answer.status(), answer.body.len())),
            (_, Err(error)) => Err(error.to_string()),
        }
    }
}

/// An application that never answers: every second time the caller waits for the sidecar to give up, else it leaves.
pub(crate) fn stalls(caller: &Caller) {
    for turn in caller.turns(Duration::from_millis(500)) {
        let Ok(mut line) = Line::plain(caller.stage.entry()) else {
            caller.ledger.wrong("stall", "no connection");
            continue;
        };
        if turn % 2 == 0 {
            let answer = line.ask("GET", "/soak/fault/stall", "", b"");
            caller.ledger.note_due("stall", Due::Status(&[504]).judge(&answer));
        } else {
            let _ = line.send(b"GET /soak/fault/stall HTTP/1.1\r\nHost: orders.shop.svc\r\n\r\n");
            std::thread::sleep(Duration::from_millis(200));
            caller.ledger.as_due("left while stalled");
        }
    }
}
