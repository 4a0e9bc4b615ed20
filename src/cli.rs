//! The command line: commands, options, examples, exit codes.

mod ca_lifecycle;
mod ca_server;
mod tap;

pub(crate) use ca_lifecycle::{CaDeny, CaKeys, CaRecover, CaRotate, DenyStep, DenyWhat, RotateStep};

use ca_server::SERVE_HELP;
pub(crate) use ca_server::{CaCheck, CaServe, CaToken, TokenStep};

pub(crate) use tap::{Tap, TapReceive};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, process::ExitCode};

/// The file is not valid, or does not exist.
pub(crate) const EXIT_CONFIG: u8 = 2;
/// The command could not do its work.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// A drain ended by its deadline, with connections still open.
pub(crate) const EXIT_DRAIN: u8 = 3;
/// The rotation does not allow this step, or not yet.
pub(crate) const EXIT_NOT_NOW: u8 = 4;

const EXIT_CODES: &str = "Exit codes: 0 done · 1 failed · 2 the file or the command line is not valid · 3 the drain time ran out · 4 not a step for now";

/// A checkpoint for pods: SPIFFE mutual TLS, allow rules, and a decrypted copy of the traffic for an IDS.
#[derive(Parser)]
#[command(name = "sekisho", version = VERSION, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// `X.Y.Z (commit)`.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SEKISHO_COMMIT"), ")");

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the whole story on one machine, without root: a CA, three workloads, an attacker, an IDS
    #[command(after_help = "Example:\n  sekisho demo --once")]
    Demo(Demo),
    /// Run the sidecar
    #[command(after_help = PROXY_HELP)]
    Proxy(Proxy),
    /// Serve an identity to a workload that brings its own proxy: Workload API and SDS on a unix socket
    #[command(after_help = AGENT_HELP)]
    Agent(Agent),
    /// The certificate authority: make a root, serve, issue, rotate
    #[command(subcommand)]
    Ca(Ca),
    /// The pod's redirect rules (what an init container runs; needs root)
    #[command(subcommand)]
    Capture(Capture),
    /// The other end of a tap
    #[command(subcommand)]
    Tap(Tap),
    /// Check a file and print every problem in it
    #[command(after_help = "Example:\n  sekisho check -c sekisho.toml")]
    Check(Check),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  sekisho completions bash > /etc/bash_completion.d/sekisho")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const PROXY_HELP: &str = "Signals:\n  SIGTERM, SIGINT  drain, then exit; a second one exits at once\n  SIGHUP           read the file and the certificates again\n\n\
The file and the certificates are also read again when they change.\n\nExample:\n  sekisho proxy -c /etc/sekisho/sekisho.toml";

#[derive(Args)]
pub(crate) struct Demo {
    /// Play the scenes once and exit: 0 only if every scene went as told
    #[arg(long)]
    pub(crate) once: bool,
    /// Keep the folder with certificates, files and logs, and print where it is
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Args)]
pub(crate) struct Proxy {
    /// The file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/sekisho/sekisho.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Args)]
pub(crate) struct Check {
    /// The file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/sekisho/sekisho.toml")]
    pub(crate) config: PathBuf,
    /// How to print problems
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// For programs
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Ca {
    /// Make a new root in a folder
    #[command(
        after_help = "Example:\n  sekisho ca init --dir ca --trust-domain example.org --passphrase-file pass.txt"
    )]
    Init(CaInit),
    /// Issue a certificate for one SPIFFE ID
    #[command(
        after_help = "Writes NAME.pem (leaf first, then the intermediate), NAME.key (0600; not with --csr) and roots.pem.\n\n\
Example:\n  sekisho ca issue --dir ca --id spiffe://example.org/ns/shop/sa/web --out . --name web"
    )]
    Issue(CaIssue),
    /// Serve certificates over gRPC: Istio's CreateCertificate, and a watch of the bundle
    #[command(after_help = SERVE_HELP)]
    Serve(CaServe),
    /// Check the server's file and print every problem in it
    #[command(after_help = "Example:\n  sekisho ca check -c /etc/sekisho/ca.toml")]
    Check(CaCheck),
    /// Join tokens: one machine, one use
    #[command(after_help = "Example:\n  sekisho ca token --dir ca create --id spiffe://example.org/vm/db-1 > token")]
    Token(CaToken),
    /// Replace the root: status, prepare, activate, rollback, finish, compromise
    #[command(after_help = ROTATE_HELP)]
    Rotate(CaRotate),
    /// The emergency deny list: names, certificates and keys that are refused although valid
    #[command(
        after_help = "Example:\n  sekisho ca deny --dir ca add --id spiffe://example.org/ns/shop/sa/web --reason \"key stolen\""
    )]
    Deny(CaDeny),
    /// The way out when a root has expired
    #[command(after_help = "Example:\n  sekisho ca recover --dir ca\n  sekisho ca recover --dir ca --apply")]
    Recover(CaRecover),
    /// The audit log: every certificate, refusal and act of the CA
    #[command(subcommand)]
    Log(CaLog),
}

#[derive(Subcommand)]
pub(crate) enum CaLog {
    /// Find any change of the audit log, and say where; needs no key
    #[command(after_help = LOG_VERIFY_HELP)]
    Verify(CaLogVerify),
}

const LOG_VERIFY_HELP: &str = "Exit codes: 0 the log is what was written · 1 it is not; the place is printed · 2 it could not be read, or the command line is not valid\n\n\
Without --head, --expect or --key it cannot be seen that a whole older folder was put back, or another log put in its place.\n\n\
Example:\n  sekisho ca log verify --dir ca --head kept/head.json";

#[derive(Args)]
pub(crate) struct CaLogVerify {
    /// Folder of the CA
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// A copy of log/head.json that was kept elsewhere: the log must contain what it signs
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Option<PathBuf>,
    /// A record and its hash, noted elsewhere
    #[arg(long, value_name = "SEQ:HASH", value_parser = record_and_hash)]
    pub(crate) expect: Option<(u64, ca::log::Hash)>,
    /// The key of the log, as `ca init` printed it
    #[arg(long, value_name = "HASH", value_parser = hash)]
    pub(crate) key: Option<ca::log::Hash>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

const ROTATE_HELP: &str = "Steps: prepare (A+B, A issues) → activate (B+A, B issues) → finish (B); rollback goes one back.\n\
Exit code 4: the rotation does not allow this step, or not yet.\n\nExample:\n  sekisho ca rotate --dir ca prepare\n  \
sekisho ca rotate --dir ca --format json status";

const AGENT_HELP: &str = "Of the file only `workload`, `trust_domain`, [identity] and [agent] are used.\n\n\
Example:\n  sekisho agent -c /etc/sekisho/sekisho.toml";

#[derive(Args)]
pub(crate) struct Agent {
    /// The file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/sekisho/sekisho.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Args)]
pub(crate) struct CaInit {
    /// Folder for the root; made if it does not exist
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Trust domain, e.g. example.org
    #[arg(long)]
    pub(crate) trust_domain: String,
    /// File whose first line encrypts the root key
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct CaIssue {
    /// Folder of the root
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The SPIFFE ID the certificate is for
    #[arg(long)]
    pub(crate) id: String,
    /// Folder to write to
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Name of the files
    #[arg(long)]
    pub(crate) name: String,
    /// Time the certificate is valid, e.g. 24h, 30m
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) ttl: std::time::Duration,
    /// Certificate request (PEM or DER) whose public key is used, instead of making a key. Only its key is taken
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) keys: CaKeys,
    /// Go on although the audit log has records later than now, because the clock was wrong then; is recorded
    #[arg(long)]
    pub(crate) accept_clock: bool,
}

#[derive(Subcommand)]
pub(crate) enum Capture {
    /// Redirect the pod's TCP to the sidecar; drop IPv6 TCP and UDP except loopback
    #[command(after_help = "Example:\n  sekisho capture install --uid 1337 --exclude-inbound-ports 15020,15021,15090")]
    Install(CaptureOptions),
    /// Take the rules away again
    #[command(after_help = "Example:\n  sekisho capture remove")]
    Remove,
    /// Print the rules that are installed; with --render, those that `install` would install
    #[command(after_help = "Example:\n  sekisho capture show --render --uid 1337")]
    Show {
        /// Print what `install` with these options would install, without looking at the system
        #[arg(long)]
        render: bool,
        #[command(flatten)]
        options: CaptureOptions,
    },
}

#[derive(Args)]
pub(crate) struct CaptureOptions {
    /// User of the sidecar: its connections are not redirected
    #[arg(long, default_value_t = 1337)]
    pub(crate) uid: u32,
    /// Group of the sidecar
    #[arg(long, default_value_t = 1337)]
    pub(crate) gid: u32,
    /// Port of the sidecar for connections from other pods
    #[arg(long, default_value_t = 15006)]
    pub(crate) inbound_port: u16,
    /// Port of the sidecar for the application's connections
    #[arg(long, default_value_t = 15001)]
    pub(crate) outbound_port: u16,
    /// Ports of the pod that stay reachable without the sidecar
    #[arg(long, value_delimiter = ',', default_value = "15020,15021,15090")]
    pub(crate) exclude_inbound_ports: Vec<u16>,
    /// Destinations the application reaches without the sidecar
    #[arg(long, value_delimiter = ',', value_name = "CIDRS")]
    pub(crate) exclude_outbound_cidrs: Vec<String>,
    /// Destination ports the application reaches without the sidecar
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    pub(crate) exclude_outbound_ports: Vec<u16>,
}

/// Prints completions for `shell`.
pub(crate) fn completions(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Cli::command(), "sekisho", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// `90s`, `30m`, `24h`, `7d`.
fn hash(text: &str) -> Result<ca::log::Hash, String> {
    ca::log::Hash::parse(text).ok_or_else(|| "not 64 lower-case hex digits".to_owned())
}

fn record_and_hash(text: &str) -> Result<(u64, ca::log::Hash), String> {
    let (seq, record) = text.split_once(':').ok_or("write the number of a record, a colon, and its hash")?;
    Ok((seq.parse().map_err(|_| "the number of the record is not one")?, hash(record)?))
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write for example 90s, 30m, 24h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(86_400),
        _ => None,
    };
    seconds.filter(|seconds| *seconds > 0).map(std::time::Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit_and_fit() {
        assert_eq!(duration("24h"), Ok(std::time::Duration::from_secs(86_400)));
        for wrong in ["", "h", "24", "0s", "-1s", "1w", "99999999999999999999h", "18446744073709551615h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
