//! What a tap is told at its start, with the defaults and the bounds of every number.
//!
//! In: values of the rule file. Out: a checked [`Settings`]. Refuses what no packet could be built with.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::redact::Redaction;
use crate::repeat::Repeat;
use crate::transport::link::Connect;

/// Settings of one tap. [`Settings::new`] fills in the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tap's name, the `tap` label of its metrics.
    pub name: String,
    /// Where the copy goes, and in which form.
    pub sensor: Sensor,
    /// What the interface in a pcapng file is called: the workload's SPIFFE ID. Empty: the tap's name.
    pub workload: String,
    /// Largest IP packet, in bytes: with [`Sensor::Vxlan`] of the outer ones on the path to the sensor, where the smaller
    /// of this and the route's MTU is used, otherwise of the synthetic ones. Default 1500, 576 to 65535.
    pub mtu: u16,
    /// What is masked. Default: [`Redaction::default`].
    pub redaction: Arc<Redaction>,
    /// How exchanges are written. Default [`Mapping::Http1`], the only one for a shadow.
    pub http: Mapping,
    /// Identifier of an 802.1Q tag in every frame, 1 to 4094: the one label that Suricata both tracks and logs. Default none.
    pub vlan: Option<u16>,
    /// Bytes of a body that are copied. Default 128 KiB, a little over Suricata's shipped body limit of 100 KiB.
    pub max_body: usize,
    /// Bytes of copies that may be admitted per second, in bursts of 100 ms. Default: no limit.
    pub rate_cap: Option<u64>,
    /// Bytes that admitted exchanges may hold, in the making and in the queue. Default 4 MiB.
    pub queue_bytes: usize,
    /// Bytes in one direction after which a synthetic connection is replaced. Default 512 KiB: Suricata stops
    /// reading a connection after 1 MiB.
    pub rollover: u64,
    /// How long a synthetic connection may stand idle before it ends with FIN. Default 30 s.
    pub idle: Duration,
    /// Least time between two batches of 32 datagrams, so that a burst does not overrun the sensor's socket buffer.
    /// Default 200 microseconds, about 1.5 Gbit/s of payload. Only for [`Sensor::Vxlan`].
    pub batch_gap: Duration,
}

/// How exchanges are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mapping {
    /// As HTTP/1.1 text (RFC 9112), one after the other on keep-alive connections.
    #[default]
    Http1,
    /// What was HTTP/2 as an HTTP/2 connection in the clear for each exchange (RFC 9113 section 3.3); the rest as HTTP/1.1.
    H2c,
}

/// Where a copy goes, and in which form.
///
/// An address that is `None` is a name not resolved yet; [`crate::Tap::set_sensor`] says it later. Until then exchanges are
/// dropped `tap_down`.
#[derive(Debug, Clone)]
pub enum Sensor {
    /// Frames in UDP datagrams (RFC 7348).
    Vxlan {
        /// Address and port of the sensor, by convention 4789.
        addr: Option<SocketAddr>,
        /// Network identifier, 24 bit.
        vni: u32,
    },
    /// Frames in a pcap stream over a TCP connection that we open, and open again when it breaks.
    Pcap {
        /// Address and port of the reader, by convention 57012.
        addr: Option<SocketAddr>,
    },
    /// Frames in a pcap stream for each of up to eight readers that connect to us. With none, exchanges are dropped `tap_down`;
    /// every reader counts each packet as built and as sent or not.
    PcapListen {
        /// Where we listen; port 0 takes any.
        addr: SocketAddr,
        /// Another tap listens there and is about to stop: the port is waited for. Otherwise a taken port is an error.
        takes_over: bool,
    },
    /// As [`Sensor::Pcap`], over connections that somebody else secures.
    PcapTls {
        /// Address and port of the receiver, by convention 57012.
        addr: Option<SocketAddr>,
        /// Opens a connection, checks who is there. Called for every connection anew, so that it uses today's certificate.
        connector: Arc<dyn Connect>,
    },
    /// Frames in a ring of pcapng files of mode 0600, the oldest of which is removed when there is one too many.
    Ring {
        /// The directory, which exists and is ours to write. Each tap needs one of its own, or a name of its own.
        dir: PathBuf,
        /// Bytes after which a file is finished and the next begun, at least 64 KiB.
        size: u64,
        /// Finished files kept, at least 1.
        files: u32,
    },
    /// Requests alone, sent again to a service; what it answers is forgotten (Envoy's `request_mirror_policies`).
    Shadow {
        /// Address and port of the service.
        addr: Option<SocketAddr>,
        /// Speaks HTTP to it.
        repeater: Arc<dyn Repeat>,
    },
    /// Records as lines of JSON on standard output.
    JsonStdout,
    /// Records as lines of JSON, appended to a file of mode 0600 that is opened anew when it has been moved away.
    JsonFile {
        /// The file.
        path: PathBuf,
    },
    /// Records as syslog messages (RFC 5424) over UDP (RFC 5426), a line of JSON each.
    Syslog {
        /// Address and port of the receiver, by convention 514.
        addr: Option<SocketAddr>,
    },
}

impl Sensor {
    /// The address that [`crate::Tap::set_sensor`] may change.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Vxlan { addr, .. }
            | Self::Pcap { addr }
            | Self::PcapTls { addr, .. }
            | Self::Syslog { addr }
            | Self::Shadow { addr, .. } => *addr,
            Self::PcapListen { .. } | Self::Ring { .. } | Self::JsonStdout | Self::JsonFile { .. } => None,
        }
    }

    /// A sensor that takes VXLAN datagrams.
    pub fn vxlan(addr: Option<SocketAddr>, vni: u32) -> Self {
        Self::Vxlan { addr, vni }
    }
}

impl Settings {
    /// Defaults around the two values that have none.
    pub fn new(name: impl Into<String>, sensor: Sensor) -> Self {
        Self {
            name: name.into(),
            sensor,
            workload: String::new(),
            mtu: 1500,
            http: Mapping::Http1,
            vlan: None,
            redaction: Arc::default(),
            max_body: 128 * 1024,
            rate_cap: None,
            queue_bytes: 4 * 1024 * 1024,
            rollover: 512 * 1024,
            idle: Duration::from_secs(30),
            batch_gap: Duration::from_micros(200),
        }
    }

    /// Refuses values that no packet can be built with.
    pub(crate) fn check(&self) -> io::Result<()> {
        let refuse =
            |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("tap {}: {what}", self.name)));
        match &self.sensor {
            Sensor::Vxlan { vni, .. } if *vni > 0x00ff_ffff => {
                return refuse("a VXLAN network identifier has 24 bits (RFC 7348 section 5)");
            }
            Sensor::Ring { size, .. } if *size < RING_SIZE_MIN => return refuse("a file of the ring needs 64 KiB"),
            Sensor::Ring { files: 0, .. } => return refuse("a ring has at least one file"),
            Sensor::Shadow { .. } if self.http != Mapping::Http1 => return refuse("a shadow repeats HTTP/1.1 text"),
            _ => {}
        }
        if self.mtu < MTU_MIN {
            return refuse("mtu must be at least 576");
        }
        Ok(())
    }
}

/// Smallest accepted path MTU; also the floor when a route reports less.
pub(crate) const MTU_MIN: u16 = 576;
/// Smaller files would hold little more than handshakes.
const RING_SIZE_MIN: u64 = 64 * 1024;
