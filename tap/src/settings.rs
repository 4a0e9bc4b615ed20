//! What a tap is told at its start, with the defaults and the bounds of every number.
//!
//! In: values of the rule file. Out: a checked [`Settings`]. Refuses what no packet could be built with.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Settings of one VXLAN tap. [`Settings::new`] fills in the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tap's name, the `tap` label of its metrics.
    pub name: String,
    /// Where the datagrams go. `None` while the sensor's name is not resolved: exchanges are dropped `tap_down`.
    pub sensor: Option<SocketAddr>,
    /// VXLAN network identifier, 24 bit.
    pub vni: u32,
    /// Largest IP packet on the path to the sensor, in bytes. The smaller of this and the route's MTU is used.
    /// Default 1500, 576 to 65535.
    pub mtu: u16,
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
    /// Default 200 microseconds, about 1.5 Gbit/s of payload.
    pub batch_gap: Duration,
}

impl Settings {
    /// Defaults around the three values that have none.
    pub fn new(name: impl Into<String>, sensor: Option<SocketAddr>, vni: u32) -> Self {
        Self {
            name: name.into(),
            sensor,
            vni,
            mtu: 1500,
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
        if self.vni > 0x00ff_ffff {
            return refuse("a VXLAN network identifier has 24 bits (RFC 7348 section 5)");
        }
        if self.mtu < MTU_MIN {
            return refuse("mtu must be at least 576");
        }
        Ok(())
    }
}

/// Smallest accepted path MTU; also the floor when a route reports less.
pub(crate) const MTU_MIN: u16 = 576;
