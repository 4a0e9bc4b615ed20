//! The command line of the CA as a server.

use super::{Format, duration};
use clap::{Args, Subcommand};
use std::{path::PathBuf, time::Duration};

pub(crate) const SERVE_HELP: &str = "Signals:\n  SIGTERM, SIGINT  end what is open, then exit\n\n\
Key sets of clusters and the deny list are read again when they change.\n\nExample:\n  sekisho ca serve -c /etc/sekisho/ca.toml";

#[derive(Args)]
pub(crate) struct CaServe {
    /// The CA's file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/sekisho/ca.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Args)]
pub(crate) struct CaCheck {
    /// The CA's file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/sekisho/ca.toml")]
    pub(crate) config: PathBuf,
    /// How to print problems
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

#[derive(Args)]
pub(crate) struct CaToken {
    /// The CA's folder; where a server runs on it, the token comes from the server
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// File whose first line opens the audit log's key, where no server runs and the keys are encrypted
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) step: TokenStep,
}

#[derive(Subcommand)]
pub(crate) enum TokenStep {
    /// Make a token and print it, once
    Create {
        /// The SPIFFE ID it is good for
        #[arg(long)]
        id: String,
        /// How long it can be used, e.g. 10m
        #[arg(long, default_value = "10m", value_parser = duration)]
        ttl: Duration,
    },
    /// List the tokens, without their secrets
    List,
    /// Take back a token that has not been used
    Revoke {
        /// Its public name
        token: String,
    },
}
