//! The command line: what to measure, of whom, for how long, on which cores.

use std::path::PathBuf;
use std::time::Duration;

use crate::makes::Make;
use crate::workloads::Workload;

const HELP: &str = "\
cargo bench --bench compare [-- OPTIONS]

  --quick             1 round of short windows instead of 5; runs go to benches/runs/tmp/, the README stays as it is
  --rounds N          rounds; each measures every make once, in turn
  --only A,B          some of: sekisho, envoy, envoy-h2, haproxy, nginx; the README stays as it is
  --workload A,B      some of: W1, W2, W3, W4, W5, W6, rules, tap, scale; the README stays as it is
  --again FILE        raw runs of a full run: what is measured now takes the place of the same rows there; the results are
                      written anew and say which rows were measured later
  --cores SIDECARS,LOAD  the core of the sidecars and the core of load and origin; default 0,1
  --help              this text

Needs haproxy, nginx, strace and openssl (apt), util-linux, and an Envoy: $ENVOY, or the one that scripts/test installs, or PATH.
";

/// What the run measures.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: u32,
    /// The first rounds that also measure the scale, whose curves need no five of them.
    pub(crate) scale_rounds: u32,
    pub(crate) makes: Vec<Make>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) cores: Cores,
    pub(crate) times: Times,
    /// The raw runs of a full run, some of whose rows are measured again.
    pub(crate) again: Option<PathBuf>,
    /// Idle connections of W6.
    pub(crate) idle: usize,
}

/// How long the parts of a round take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Load before the measured window, so that connections, pools and caches are as they stay.
    pub(crate) warm_up: Duration,
    /// The measured window of W1 to W3 and of the tap.
    pub(crate) window: Duration,
    /// That of W4, W5 and the points of the scale, of which there are many.
    pub(crate) short: Duration,
}

/// Sidecars on one core, everything else on another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) sidecars: usize,
    pub(crate) load: usize,
}

/// Connections of W1 and W2.
pub(crate) const CONNECTIONS: usize = 64;
/// Requests per second of W2.
pub(crate) const RATE: u32 = 1000;

const FULL_ROUNDS: u32 = 5;
const FULL: Times =
    Times { warm_up: Duration::from_secs(1), window: Duration::from_secs(4), short: Duration::from_millis(1500) };
const QUICK: Times =
    Times { warm_up: Duration::from_millis(400), window: Duration::from_secs(1), short: Duration::from_secs(1) };

impl Options {
    /// From the words of the command line; ends the process after `--help` or a mistake.
    pub(crate) fn of(args: &[String]) -> Self {
        Self::parse(args).unwrap_or_else(|error| {
            eprintln!("{error}\n\n{HELP}");
            std::process::exit(2)
        })
    }

    /// Whether the run is one that the README may be made from.
    pub(crate) fn is_complete(&self) -> bool {
        let everything = self.makes.len() == Make::ALL.len() && self.workloads.len() == Workload::ALL.len();
        !self.quick && (everything || self.again.is_some()) && self.rounds >= FULL_ROUNDS
    }

    /// The same for all makes and workloads: what the results of a full run show.
    pub(crate) fn of_everything(&self) -> Self {
        Self { makes: Make::ALL.to_vec(), workloads: Workload::ALL.to_vec(), ..self.clone() }
    }

    /// Whether a make is to be measured under a workload.
    pub(crate) fn wants(&self, make: Make, workload: Workload) -> bool {
        self.workloads.contains(&workload) && make.takes_part(workload)
    }

    fn parse(args: &[String]) -> Result<Self, String> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let mut options = Self {
            quick,
            rounds: if quick { 1 } else { FULL_ROUNDS },
            scale_rounds: 1,
            makes: Make::ALL.to_vec(),
            workloads: Workload::ALL.to_vec(),
            cores: Cores { sidecars: 0, load: 1 },
            times: if quick { QUICK } else { FULL },
            again: None,
            idle: if quick { 2_000 } else { 10_000 },
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => {}
                "--rounds" => {
                    options.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?;
                }
                "--only" => options.makes = list(value()?, Make::parse)?,
                "--workload" => options.workloads = list(value()?, Workload::parse)?,
                "--again" => options.again = Some(value()?.into()),
                "--cores" => options.cores = Cores::parse(value()?)?,
                "--help" => {
                    print!("{HELP}");
                    std::process::exit(0)
                }
                other => return Err(format!("unknown option {other}")),
            }
        }
        if options.rounds == 0 {
            return Err("--rounds needs at least 1".into());
        }
        Ok(options)
    }
}

/// Every item once, in the order given.
fn list<T: PartialEq>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut items = Vec::new();
    for item in text.split(',') {
        let item = parse(item)?;
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Ok(items)
}

impl Cores {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("--cores {text}: two different core numbers are needed, such as 0,1");
        let (sidecars, load) = text.split_once(',').ok_or_else(wrong)?;
        let cores = Self { sidecars: sidecars.parse().map_err(|_| wrong())?, load: load.parse().map_err(|_| wrong())? };
        if cores.sidecars == cores.load { Err(wrong()) } else { Ok(cores) }
    }
}
