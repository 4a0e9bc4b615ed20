//! The command line of the CA's roots over time: rotation, the deny list, recovery.

use super::{Format, duration};
use clap::{Args, Subcommand};
use std::{path::PathBuf, time::Duration};

#[derive(Args)]
pub(crate) struct CaRotate {
    /// The CA's folder; where a server runs on it, the step goes through the server
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) keys: CaKeys,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human, global = true)]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) step: RotateStep,
}

/// Where root keys are, and what opens them.
#[derive(Args)]
pub(crate) struct CaKeys {
    /// File whose first line decrypts the root keys
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Folder with root keys as ROOT.key, such as a mounted Secret; keys not in it are looked for in the CA's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum RotateStep {
    /// Print where the rotation stands and what should happen next
    Status,
    /// Found a second root and bring it into the bundle; the first goes on issuing
    Prepare,
    /// Let the prepared root issue
    Activate {
        /// Go ahead although nobody's acknowledgement is known: who does not have the new bundle will refuse new certificates
        #[arg(long = "override")]
        unasked: bool,
    },
    /// One step back: from activated to prepared, from prepared to the first root alone
    Rollback,
    /// Take the old root out of the bundle, once its last certificate has ended
    Finish,
    /// Somebody else has a root's key: another root issues at once, and this one leaves soon
    Compromise {
        /// The root; by default the one that issues
        #[arg(long, value_name = "ROOT")]
        root: Option<String>,
        /// How long the root stays in the bundle for those who have not renewed yet
        #[arg(long, default_value = "15m", value_parser = duration)]
        leave_in: Duration,
    },
}

#[derive(Args)]
pub(crate) struct CaDeny {
    /// The CA's folder; where a server runs on it, the change goes through the server
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// File whose first line opens the audit log's key, where no server runs and the keys are encrypted
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human, global = true)]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) step: DenyStep,
}

#[derive(Subcommand)]
pub(crate) enum DenyStep {
    /// Deny a name, a certificate or a key
    Add {
        #[command(flatten)]
        what: DenyWhat,
        /// Why; whoever is refused and whoever reads the list later sees it
        #[arg(long)]
        reason: String,
        /// How long; by default as long as any certificate can live
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        time: Option<Duration>,
    },
    /// Take an entry away
    Remove {
        #[command(flatten)]
        what: DenyWhat,
    },
    /// Print the entries that hold
    List,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct DenyWhat {
    /// A SPIFFE ID: its certificates are refused and none is issued
    #[arg(long)]
    id: Option<String>,
    /// The serial number of one certificate, lower-case hex
    #[arg(long)]
    serial: Option<String>,
    /// SHA-256 of a SubjectPublicKeyInfo, lower-case hex
    #[arg(long, value_name = "SHA256")]
    key: Option<String>,
}

impl DenyWhat {
    /// The kind and the value that was given.
    pub(crate) fn kind_and_value(&self) -> (&'static str, &str) {
        let given = [("id", &self.id), ("serial", &self.serial), ("key", &self.key)];
        let mut given = given.into_iter().filter_map(|(kind, value)| Some((kind, value.as_deref()?)));
        given.next().unwrap_or_default()
    }
}

#[derive(Args)]
pub(crate) struct CaRecover {
    /// The CA's folder; no server may run on it
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) keys: CaKeys,
    /// Do it; without, only what has expired and what would be done is printed
    #[arg(long)]
    pub(crate) apply: bool,
    /// The highest bundle sequence that was seen anywhere, when the folder comes from an older backup
    #[arg(long, value_name = "N")]
    pub(crate) sequence_above: Option<u64>,
}
