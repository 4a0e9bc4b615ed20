//! `sekisho check`: every problem of a file, for people or for programs.

use crate::cli::{self, EXIT_CONFIG, Format};
use std::{io::IsTerminal, process::ExitCode};

/// Checks one file.
pub(crate) fn run(arguments: &cli::Check) -> ExitCode {
    let loaded = config::load(&arguments.config);
    let code = if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) };
    let report = match loaded {
        Ok(snapshot) => {
            if arguments.format == Format::Human {
                let count = |direction| snapshot.rules.rules(direction).len();
                out!(
                    "{}: valid; {} ({}), {} inbound and {} outbound rules, {} services, {} taps",
                    arguments.config.display(),
                    snapshot.workload,
                    snapshot.mode.as_str(),
                    count(policy::Direction::Inbound),
                    count(policy::Direction::Outbound),
                    snapshot.services.len(),
                    snapshot.taps.len(),
                );
            }
            config::Report { problems: snapshot.warnings }
        }
        Err(report) => report,
    };
    match arguments.format {
        Format::Json => out!("{}", report.to_json()),
        Format::Human if report.problems.is_empty() => {}
        Format::Human => err_text!("{}", report.render(std::io::stderr().is_terminal())),
    }
    code
}
