//! The command line: how long, and where to put what was seen.

use std::path::PathBuf;
use std::time::Duration;

use support::tools;

const HELP: &str = "\
cargo bench --bench soak [-- OPTIONS]

  --minutes N   minutes of load; 30, the least by which slopes are judged, is the default
  --out DIR     folder of the samples and the plot; default: benches/soak/runs/, and its tmp/ for less than 30 minutes
  --help        this text

SEKISHO_BIN names another binary than the one cargo has just built. Exit status 1: a gate was not met.
";

/// Minutes of a run by which slopes are judged. In a shorter one, the steps in which an allocator takes memory look like a
/// slope.
pub(crate) const FULL: u64 = 30;

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) minutes: u64,
    /// From sample to sample.
    pub(crate) every: Duration,
    pub(crate) out: PathBuf,
}

impl Options {
    /// From the words of the command line; ends the process after `--help` or a mistake.
    pub(crate) fn of(args: &[String]) -> Self {
        Self::parse(args).unwrap_or_else(|error| {
            eprintln!("{error}\n\n{HELP}");
            std::process::exit(2)
        })
    }

    /// Samples before this many seconds are left out of slopes: pools, tables and the allocator's arenas fill up to what the
    /// load needs. A sixth of the run, and at most five minutes.
    pub(crate) fn warm_up(&self) -> f64 {
        (60.0 * self.minutes as f64 / 6.0).min(300.0)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.minutes >= FULL
    }

    fn parse(args: &[String]) -> Result<Self, String> {
        let mut minutes = FULL;
        let mut out = None;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--minutes" => minutes = value()?.parse().map_err(|_| "--minutes needs a number")?,
                "--out" => out = Some(PathBuf::from(value()?)),
                "--help" => {
                    print!("{HELP}");
                    std::process::exit(0)
                }
                other => return Err(format!("unknown option {other}")),
            }
        }
        if minutes == 0 {
            return Err("--minutes needs at least 1".into());
        }
        let folder = if minutes >= FULL { "benches/soak/runs" } else { "benches/soak/runs/tmp" };
        let out = out.unwrap_or_else(|| tools::repository().join(folder));
        Ok(Self { minutes, every: Duration::from_secs(5), out })
    }
}
