//! `sekisho tap`: the options of its commands.

use super::Format;
use clap::{Args, Subcommand};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

#[derive(Subcommand)]
pub(crate) enum Tap {
    /// Take copies that sidecars send over mutual TLS, and hand them to an IDS of this host
    #[command(after_help = RECEIVE_HELP)]
    Receive(TapReceive),
}

const RECEIVE_HELP: &str = "Outputs:\n  \
ring:DIR?size=64MiB&files=8   a ring of pcapng files, the newest finished ones kept\n  \
pipe:PATH                     a named pipe; a pcap stream for each that opens it\n  \
stdout                        a pcap stream\n  \
vxlan://127.0.0.1:4789?vni=N  VXLAN again, on this host\n\n\
An output that does not keep up loses whole frames, and counts them; it never holds up the others for longer than a second.\n\
Counters are printed at the end, and with --every in between: on stderr if stdout is an output.\n\n\
Signals:\n  SIGTERM, SIGINT  take leave of the senders, write what they had sent, then exit; a second one exits at once\n\n\
Exit codes: 0 done · 1 failed · 2 the file or the command line is not valid\n\n\
Example:\n  mkfifo /run/ids.pcap\n  \
sekisho tap receive --listen 0.0.0.0:57012 --cert ids.pem --key ids.key --bundle roots.pem \\\n    \
--from 'shop/*' --out pipe:/run/ids.pcap --out 'ring:/var/lib/ids?size=256MiB&files=16'\n  \
In the file of each sidecar: to_sensor = \"pcap+mtls://ids.example:57012?id=ids/sensor\"";

#[derive(Args)]
pub(crate) struct TapReceive {
    /// Where senders connect
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// Our certificate, leaf first
    #[arg(long, value_name = "FILE", requires = "key", requires = "bundle", conflicts_with = "config")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// The roots of the senders
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) bundle: Option<PathBuf>,
    /// A file that says where our identity comes from: `workload`, `trust_domain` and [identity] of it are used
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Whose copies are taken: `shop/web`, `shop/*`, `ns:shop`, a SPIFFE ID, `td:example.org`; may be repeated
    #[arg(long, value_name = "ID", required_unless_present = "plain", conflicts_with = "plain")]
    pub(crate) from: Vec<String>,
    /// Where frames go; may be repeated
    #[arg(long, value_name = "OUTPUT", default_value = "stdout")]
    pub(crate) out: Vec<String>,
    /// Take plain TCP from anybody who can reach us, without TLS
    #[arg(long, conflicts_with_all = ["cert", "config"])]
    pub(crate) plain: bool,
    /// Senders at a time
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_senders: usize,
    /// Print the counters so often
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    pub(crate) every: Option<Duration>,
    /// How to print the counters
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}
