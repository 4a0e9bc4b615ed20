//! `sekisho check` and `sekisho ca check`: every problem of a file, for people or for programs.

use crate::cli::{self, EXIT_CONFIG, Format};
use config::Report;
use std::{io::IsTerminal, path::Path, process::ExitCode};

/// Checks a sidecar's file.
pub(crate) fn run(arguments: &cli::Check) -> ExitCode {
    let loaded = config::load(&arguments.config).map(|snapshot| {
        let count = |direction| snapshot.rules.rules(direction).len();
        let summary = format!(
            "{} ({}), {} inbound and {} outbound rules, {} services, {} taps",
            snapshot.workload,
            snapshot.mode.as_str(),
            count(policy::Direction::Inbound),
            count(policy::Direction::Outbound),
            snapshot.services.len(),
            snapshot.taps.len(),
        );
        (summary, Report { problems: snapshot.warnings })
    });
    tell(&arguments.config, arguments.format, loaded)
}

/// Checks a CA's file. What it names is not opened.
pub(crate) fn ca(arguments: &cli::CaCheck) -> ExitCode {
    let loaded = config::load_ca(&arguments.config).map(|settings| {
        let summary = format!(
            "{}, certificates of {} s and at most {} s, {} clusters",
            settings.dir.display(),
            settings.lifetimes.default.as_secs(),
            settings.lifetimes.longest.as_secs(),
            settings.clusters.len(),
        );
        (summary, Report { problems: settings.warnings })
    });
    tell(&arguments.config, arguments.format, loaded)
}

fn tell(file: &Path, format: Format, loaded: Result<(String, Report), Report>) -> ExitCode {
    let (code, report) = match loaded {
        Ok((summary, report)) => {
            if format == Format::Human {
                out!("{}: valid; {summary}", file.display());
            }
            (ExitCode::SUCCESS, report)
        }
        Err(report) => (ExitCode::from(EXIT_CONFIG), report),
    };
    match format {
        Format::Json => out!("{}", report.to_json()),
        Format::Human if report.problems.is_empty() => {}
        Format::Human => err_text!("{}", report.render(std::io::stderr().is_terminal())),
    }
    code
}
