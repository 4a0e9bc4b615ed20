//! A CA that the kernel kills in the middle of a step of its rotation, by its own system calls and not by a clock.
//!
//! strace runs beside the process and sends SIGKILL as it enters the call, before the kernel does anything of it.

use std::process::Command;

use crate::ca_server::CaServer;
use crate::tools;

/// A moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The new state lies beside the old one, which still stands.
    Before,
    /// The new state stands; nobody was told, and nothing is in the log.
    After,
}

impl Moment {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Before, Self::After];

    /// How a CA is started that is killed at this moment of the first step that it takes. (Of a later one it cannot be: strace
    /// counts the calls of each thread by itself.)
    #[must_use]
    pub fn of_a_step(self, server: &CaServer) -> Command {
        let (call, path) = match self {
            // Of the two names of a move strace compares the first.
            Self::Before => ("/^rename", server.home().join(".state.json.new")),
            // The folder is flushed behind each replacement of the state.
            Self::After => ("fsync", server.home().to_owned()),
        };
        let ours = server.command();
        let mut strace = tools::system("strace", "strace");
        strace.args(["-D", "-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-P"]).arg(path);
        strace.args(["-e", &format!("inject={call}:signal=SIGKILL")]);
        strace.arg(ours.get_program()).args(ours.get_args()).current_dir(ours.get_current_dir().unwrap());
        strace
    }
}
