//! The `sekisho` binary: reads the command line and hands over to the command.

#[macro_use]
mod say;

mod agent_command;
mod ca_command;
mod capture_command;
mod check;
mod cli;
mod credentials;
mod demo;
mod files;
mod following;
mod host;
mod run;
mod socket;
mod tap_command;

use clap::Parser;
use std::process::ExitCode;

/// Lower resident memory and less CPU than the system allocator under the proxy's load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Proxy(arguments) => run::proxy(&arguments),
        cli::Command::Agent(arguments) => agent_command::run(&arguments),
        cli::Command::Ca(command) => ca_command::run(&command),
        cli::Command::Capture(command) => capture_command::run(&command),
        cli::Command::Tap(command) => tap_command::run(&command),
        cli::Command::Check(arguments) => check::run(&arguments),
        cli::Command::Demo(arguments) => demo::run(&arguments),
        cli::Command::Completions { shell } => cli::completions(shell),
    }
}
