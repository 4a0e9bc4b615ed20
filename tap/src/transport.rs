//! The ways frames leave.
//!
//! In: frames, one at a time through [`Out`], by the tap's thread alone. Out: datagrams, a stream, files. Each transport
//! keeps the equation `packets_built = packets_sent + sum(send_errors)` whenever it holds nothing, and says which
//! synthetic connections have a hole. None holds more than a constant number of bytes.

mod clock;
mod dial;
pub(crate) mod link;
mod listen;
mod peer;
mod ring;
pub(crate) mod vxlan;
pub(crate) mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::counters::Counters;
use crate::flow::Out;
use crate::settings::Sensor;
use crate::tap::Shared;

/// What the tap's thread asks of a way out.
pub(crate) trait Transport: Out + Send {
    /// Largest IP packet that fits into a frame.
    fn room(&self) -> u16;

    /// Somebody is there to take frames.
    fn is_up(&self) -> bool;

    /// Sends to this address from now on, or to none.
    fn move_to(&mut self, address: Option<SocketAddr>);

    /// Hands on what was gathered. May wait, but looks at `abandon`.
    fn flush(&mut self);

    /// What happened since the last call.
    fn take_news(&mut self) -> News;

    /// Goes on with what needs no frames: dialling, accepting, asking what has arrived. Says when it wants to be called
    /// again at the latest.
    fn tend(&mut self) -> Option<Duration>;

    /// It wants to begin anew: the connections are to be closed, and [`Transport::renew`] called.
    fn wants_renewal(&self) -> bool;

    /// Begins anew: the next file, the next reader.
    fn renew(&mut self);

    /// Tells of a loss in its own way, if it has one; with none, a frame does.
    fn tell_loss(&mut self, _counters: &Counters) -> bool {
        false
    }

    /// The last call: everything is handed on, or counted as not.
    fn finish(&mut self);
}

/// What became of frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Real connections that lost a frame: what follows of them goes on new synthetic connections.
    pub(crate) lost: Vec<u64>,
    /// All of them did.
    pub(crate) lost_all: bool,
    /// [`Transport::room`] says something else now.
    pub(crate) resized: bool,
}

/// Largest IP packet behind an Ethernet header in a capture, whose frames have at most 65535 bytes.
fn frame_room(mtu: u16) -> u16 {
    mtu.min(u16::MAX - 14)
}

/// Opens the way to a sensor.
pub(crate) fn open(shared: &Arc<Shared>) -> io::Result<Box<dyn Transport>> {
    let shared = Arc::clone(shared);
    match shared.settings.sensor.clone() {
        Sensor::Vxlan { addr, vni } => Ok(Box::new(vxlan::Vxlan::open(addr, vni, shared)?)),
        Sensor::Pcap { addr } => Ok(Box::new(dial::Dial::new(addr, Arc::new(wire::Dialler), shared))),
        Sensor::PcapTls { addr, connector } => Ok(Box::new(dial::Dial::new(addr, connector, shared))),
        Sensor::PcapListen { addr, takes_over } => Ok(Box::new(listen::Listen::open(addr, takes_over, shared)?)),
        Sensor::Ring { dir, size, files } => Ok(Box::new(ring::Files::open(&dir, size, files, shared)?)),
        Sensor::JsonStdout | Sensor::JsonFile { .. } | Sensor::Syslog { .. } | Sensor::Shadow { .. } => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "no frames go there"))
        }
    }
}
