//! The command line: what to measure, for how long, on which cores; and, for the processes that the bench starts from
//! itself, which part they play.

use std::net::SocketAddr;
use std::time::Duration;

use crate::pairs::Make;

const HELP: &str = "\
cargo bench --bench compare [-- OPTIONS]

  --quick             2 rounds of 2 s instead of 5 of 5 s; runs go to benches/runs/tmp/, the README stays as it is
  --rounds N          rounds; each measures every make once, in turn
  --only A,B          some of: sekisho, envoy, haproxy, envoy-h2; the README stays as it is
  --cores SIDECARS,LOAD  the core of the sidecars and the core of load and origin; default 0,1
  --help              this text

Needs haproxy (apt), taskset (util-linux), and an Envoy: $ENVOY, or the one that scripts/test installs, or PATH.
";

/// What the run measures.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: u32,
    pub(crate) makes: Vec<Make>,
    pub(crate) cores: Cores,
    /// Load before the measured window, so that connections, pools and caches are as they stay.
    pub(crate) warm_up: Duration,
    /// The measured window of each workload.
    pub(crate) window: Duration,
}

/// Sidecars on one core, everything else on another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) sidecars: usize,
    pub(crate) load: usize,
}

/// Connections of either workload.
pub(crate) const CONNECTIONS: usize = 64;
/// Requests per second of the open loop.
pub(crate) const RATE: u32 = 1000;

/// The part that this process plays.
pub(crate) enum Role {
    Bench(Options),
    Origin(SocketAddr),
    Closed(Load),
    Open(Load),
    None,
}

/// What a load generator is told.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// The processes of caller, callee and origin.
    pub(crate) pids: [u32; 3],
}

impl Role {
    /// cargo passes `--bench`; the bench itself passes `--role`; a test runner passes neither.
    pub(crate) fn of_this_process() -> Self {
        let mut args: Vec<String> = std::env::args().skip(1).collect();
        match args.first().map(String::as_str) {
            Some("--role") => Self::child(&args[1..]),
            _ => match args.iter().position(|arg| arg == "--bench") {
                Some(at) => {
                    args.remove(at);
                    Self::Bench(Options::parse(&args).unwrap_or_else(|error| {
                        eprintln!("{error}\n\n{HELP}");
                        std::process::exit(2)
                    }))
                }
                None => Self::None,
            },
        }
    }

    fn child(args: &[String]) -> Self {
        match args[0].as_str() {
            "origin" => Self::Origin(args[1].parse().unwrap()),
            "closed" => Self::Closed(Load::parse(&args[1..])),
            "open" => Self::Open(Load::parse(&args[1..])),
            other => panic!("no role {other}"),
        }
    }
}

impl Load {
    /// The arguments of a load generator, as [`Load::parse`] reads them.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let milliseconds = [self.warm_up, self.window].map(|time| time.as_millis().to_string());
        let pids = self.pids.map(|pid| pid.to_string());
        [self.to.to_string()].into_iter().chain(milliseconds).chain(pids).collect()
    }

    fn parse(args: &[String]) -> Self {
        let milliseconds = |text: &String| Duration::from_millis(text.parse().unwrap());
        Self {
            to: args[0].parse().unwrap(),
            warm_up: milliseconds(&args[1]),
            window: milliseconds(&args[2]),
            pids: [3, 4, 5].map(|index| args[index].parse().unwrap()),
        }
    }
}

impl Options {
    /// Whether the run is one that the README may be made from.
    pub(crate) fn is_complete(&self) -> bool {
        !self.quick && self.makes.len() == Make::ALL.len() && self.rounds >= FULL.0
    }

    fn parse(args: &[String]) -> Result<Self, String> {
        let quick = args.iter().any(|arg| arg == "--quick");
        let (rounds, warm_up, window) = if quick { QUICK } else { FULL };
        let mut options = Self {
            quick,
            rounds,
            makes: if quick { Make::ALL[..3].to_vec() } else { Make::ALL.to_vec() },
            cores: Cores { sidecars: 0, load: 1 },
            warm_up,
            window,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => {}
                "--rounds" => {
                    options.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?;
                }
                "--only" => {
                    options.makes = value()?.split(',').map(Make::parse).collect::<Result<_, _>>()?;
                }
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

const QUICK: (u32, Duration, Duration) = (2, Duration::from_millis(500), Duration::from_secs(2));
const FULL: (u32, Duration, Duration) = (5, Duration::from_secs(1), Duration::from_secs(5));

impl Cores {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("--cores {text}: two different core numbers are needed, such as 0,1");
        let (sidecars, load) = text.split_once(',').ok_or_else(wrong)?;
        let cores = Self { sidecars: sidecars.parse().map_err(|_| wrong())?, load: load.parse().map_err(|_| wrong())? };
        if cores.sidecars == cores.load { Err(wrong()) } else { Ok(cores) }
    }
}
