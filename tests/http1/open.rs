//! The pair of these tests: any request under `/open` passes, and the log is JSON.

use std::io;

use support::pair::{HOST, Pair, Setting, json_log};
use support::script::{Line, Scripted};
use support::sidecar::Sidecar;
use support::wire::Connection;

/// The setting, before anything runs.
pub(crate) fn setting() -> Setting {
    Setting::new().client(json_log).server(|text| {
        json_log(text) + "\n[[inbound]]\nname = \"open\"\nfrom = \"shop/web\"\nrequests = [\"* /open/{rest...}\"]\n"
    })
}

/// The same with one more line under `[proxy]` of both files.
pub(crate) fn setting_with(line: &str) -> Setting {
    let add = |text: String| text.replace("[proxy]\n", &format!("[proxy]\n{line}\n"));
    setting().server(add).client(add)
}

/// Both sidecars before an application that records.
pub(crate) fn pair() -> Pair {
    setting().start()
}

/// Both sidecars before an application that follows a script.
pub(crate) struct Staged {
    pub(crate) origin: Scripted,
    pub(crate) server: Sidecar,
    pub(crate) client: Sidecar,
    pub(crate) setting: Setting,
}

pub(crate) fn staged(script: impl Fn(&mut Line<'_>) -> io::Result<()> + Send + Sync + 'static) -> Staged {
    staged_in(setting(), script)
}

pub(crate) fn staged_in(
    setting: Setting,
    script: impl Fn(&mut Line<'_>) -> io::Result<()> + Send + Sync + 'static,
) -> Staged {
    let origin = Scripted::on(setting.at.app, script);
    let (server, client) = (setting.start_server(), setting.start_client());
    Staged { origin, server, client, setting }
}

impl Staged {
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.setting.at.entry).unwrap()
    }
}

/// A GET under `/open`.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET /open/{path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").into_bytes()
}

/// A request head under `/open` with these lines, each with its line end.
pub(crate) fn head(method: &str, path: &str, lines: &str) -> String {
    format!("{method} /open/{path} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n")
}
