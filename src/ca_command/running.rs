//! The server that runs on a CA's folder, if one does: what changes the folder then goes through it.
//!
//! It listens on a socket in the folder, mode 0600. So the command that is told the folder finds it without knowing addresses,
//! whoever may use it may write the folder anyway, the kernel says who it is for the audit log, and no page in a browser can
//! reach it. Without a server the command does the same on the folder itself, and writes the same records.

use super::{Failed, open_log, user};
use ca::log::{Act, Event, Log, Text, What};
use serde_json::Value;
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A server that answers.
pub(super) struct Running {
    stream: UnixStream,
    socket: PathBuf,
}

impl Running {
    /// The server of this folder. What a server that was killed left behind is none.
    pub(super) fn on(dir: &Path) -> Result<Option<Self>, Failed> {
        let socket = dir.join(ca_server::SOCKET);
        match UnixStream::connect(&socket) {
            Ok(stream) => Ok(Some(Self { stream, socket })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            // Without a server there is no socket: one that we may not use has a server behind it.
            Err(error) => Err(Failed::Other(format!("{}: {error}", socket.display()))),
        }
    }

    /// `POST path` with a document; the answer's document, or why it was not done.
    pub(super) fn ask(self, path: &str, body: &Value) -> Result<Value, Failed> {
        let Self { mut stream, socket } = self;
        let fail = |detail: &str| Failed::Other(format!("the server behind {}: {detail}", socket.display()));
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let mut answer = Vec::new();
        let spoken = (|| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(head.as_bytes())?;
            stream.write_all(body.as_bytes())?;
            stream.take(MOST_ANSWER).read_to_end(&mut answer)
        })();
        spoken.map_err(|error: io::Error| fail(&error.to_string()))?;
        let text = String::from_utf8(answer).map_err(|_| fail("the answer is not text"))?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| fail("the answer broke off"))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        let document: Value = serde_json::from_str(body).unwrap_or_default();
        match status {
            "200" => Ok(document),
            _ => {
                let why = document.get("error").and_then(Value::as_str).unwrap_or(body.trim()).to_owned();
                Err(if status == "409" { Failed::NotNow(why) } else { Failed::Other(why) })
            }
        }
    }
}

/// The audit log of a folder without a server, opened before anything is done: what cannot be recorded is not done.
pub(super) struct Book {
    log: Log,
    now: SystemTime,
}

impl Book {
    pub(super) fn open(dir: &Path, passphrase: Option<&[u8]>, now: SystemTime) -> Result<Self, Failed> {
        Ok(Self { log: open_log(dir, passphrase, now, false)?, now })
    }

    /// Puts on record what was done.
    pub(super) fn record(&self, what: What, subject: &str, detail: &str, bundle: Option<u64>) -> Result<(), Failed> {
        let act = Act { what, subject: Text::bounded(subject), detail: Text::bounded(detail), bundle, by: user() };
        let kept = self.log.append_and_wait(self.now, Event::Act(Box::new(act)));
        kept.map(drop).map_err(|error| Failed::Other(error.to_string()))
    }
}

/// A step waits for the disk.
const PATIENCE: Duration = Duration::from_secs(30);
/// A state that names everybody who is awaited is below it.
const MOST_ANSWER: u64 = 4 << 20;
