//! WebSockets that talk for a while, and end in order or by a reset.

use std::io;
use std::time::Duration;

use super::{Caller, Line};
use crate::app;

/// One after another; every word must come back before the next is said.
pub(crate) fn talks(caller: &Caller) {
    for turn in caller.turns(Duration::from_millis(500)) {
        match talk(caller, turn) {
            Ok(line) if turn % 3 == 0 => line.reset(),
            Ok(_) => {}
            Err(error) => caller.ledger.wrong("websocket", error),
        }
    }
}

fn talk(caller: &Caller, turn: u64) -> io::Result<Line> {
    let mut line = Line::plain(caller.stage.entry())?;
    let fields = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
        app::WS_KEY
    );
    let answer = line.ask("GET", "/soak/live", &fields, b"")?;
    if answer.status() != 101 {
        return Err(io::Error::other(format!("{} {}", answer.status(), answer.text())));
    }
    let words = 10 + turn % 60;
    for word in caller.turns(Duration::from_millis(100)).take(words as usize) {
        let said = app::pattern(1 + (word as usize * 37) % 5000);
        line.send(&said)?;
        if line.bytes(said.len())? != said {
            return Err(io::Error::other("other bytes than those that were sent"));
        }
        caller.ledger.good("websocket");
    }
    Ok(line)
}
