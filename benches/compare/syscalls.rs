//! System calls of a running process, counted by strace between two moments.
//!
//! Tracing slows a process down several times over, so nothing is timed meanwhile.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::tools;

/// A strace that follows all threads of a process.
pub(crate) struct Trace {
    process: Child,
    file: String,
    said: String,
}

impl Trace {
    /// Files are written to the current folder.
    pub(crate) fn attach(name: &str, pid: u32) -> Self {
        let (file, said) = (format!("strace-{name}.txt"), format!("strace-{name}.err"));
        let _ = std::fs::remove_file(&file);
        let mut command: Command = tools::system("setpriv", "util-linux");
        command.args(["--pdeathsig", "KILL"]).arg(tools::system("strace", "strace").get_program());
        command.args(["-f", "-c", "-U", "calls,name", "-o", &file, "-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&said).unwrap());
        Self { process: command.spawn().unwrap(), file, said }
    }

    /// Whether counting has begun.
    pub(crate) fn is_attached(&mut self) -> bool {
        let said = std::fs::read_to_string(&self.said).unwrap_or_default();
        let ended = self.process.try_wait().unwrap();
        assert!(ended.is_none(), "strace cannot trace the sidecar: {said}");
        said.contains("attached")
    }

    /// Ends counting; the process runs on.
    pub(crate) fn detach(&self) {
        support::child::signal(self.process.id(), "INT");
    }

    /// What was counted: all calls, those that move bytes, those that wait for readiness.
    pub(crate) fn counts(mut self) -> Value {
        self.process.wait().unwrap();
        let text = std::fs::read_to_string(&self.file).unwrap();
        let mut by_name = serde_json::Map::new();
        for line in text.lines() {
            if let [calls, name] = line.split_whitespace().collect::<Vec<_>>()[..]
                && let Ok(calls) = calls.parse::<u64>()
                && name != "total"
            {
                by_name.insert(name.to_owned(), calls.into());
            }
        }
        let sum = |fits: &dyn Fn(&str) -> bool| -> u64 {
            by_name.iter().filter(|(name, _)| fits(name)).filter_map(|(_, calls)| calls.as_u64()).sum()
        };
        json!({
            "all": sum(&|_| true),
            "socket": sum(&|name| SOCKET.contains(&name)),
            "epoll": sum(&|name| name.starts_with("epoll_")),
            "by_name": by_name,
        })
    }
}

const SOCKET: [&str; 14] = [
    "read", "readv", "recvfrom", "recvmsg", "recvmmsg", "write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile",
    "splice", "accept4", "shutdown",
];
