//! What a tap's thread does with the work it takes off the queue: the one place where the kinds of tap part.
//!
//! In: [`Work`], in order, on one thread. Out: whatever the kind of tap is for: frames here, one day records or requests.
//! A station may wait; the queue then fills, and admission drops whole exchanges.

mod frames;
mod records;
mod requests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::settings::Sensor;
use crate::tap::{Shared, Work};

/// One kind of tap, at work.
pub(crate) trait Station: Send {
    /// Takes one piece of work. An exchange is counted as mirrored or refused here.
    fn handle(&mut self, work: Work, now: Instant);

    /// Hands on what was gathered, with what is due by now: a queue that is never empty must not put it off for ever.
    fn flush(&mut self);

    /// Nothing came for a while: finishes what waited for more, and hands it on.
    fn rest(&mut self);

    /// Ends what is open at the old address and turns to the new one.
    fn move_to(&mut self, address: Option<SocketAddr>);

    /// How long the thread may sleep.
    fn until_next(&self) -> Duration;

    /// The last call: everything is handed on, or counted as not.
    fn finish(&mut self);
}

/// The station for a sensor; sets `down` if nobody is there yet.
pub(crate) fn open(shared: &Arc<Shared>) -> io::Result<Box<dyn Station>> {
    match &shared.settings.sensor {
        Sensor::Vxlan { .. }
        | Sensor::Pcap { .. }
        | Sensor::PcapListen { .. }
        | Sensor::PcapTls { .. }
        | Sensor::Ring { .. } => Ok(Box::new(frames::Frames::open(shared)?)),
        Sensor::Shadow { addr, repeater } => {
            Ok(Box::new(requests::Requests::open(shared, *addr, Arc::clone(repeater))))
        }
        Sensor::JsonStdout | Sensor::JsonFile { .. } | Sensor::Syslog { .. } => {
            Ok(Box::new(records::Records::open(shared)?))
        }
    }
}
