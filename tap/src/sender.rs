//! Datagrams to the kernel, in batches, with every refusal counted.
//!
//! In: built datagrams. Out: UDP packets, from an unconnected socket: a connected one would lose datagrams to the
//! port-unreachable messages that a merely sniffing sensor's host sends back. No segmentation offload: a capture on
//! the same host would see one giant packet. One socket per tap: its source port is the same for every datagram, so
//! that a network which balances by ports keeps all of a connection in order. `built = sent + errors` whenever the batch is empty.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::counters::Tally;
use crate::flow::Out;
use crate::settings::MTU_MIN;
use sys::datagrams::{self, BATCH};

/// A socket and where it sends to.
#[derive(Debug)]
pub(crate) struct Outlet {
    socket: UdpSocket,
    sensor: SocketAddr,
    /// Largest IP packet on this path.
    pub(crate) mtu: u16,
}

/// Opens a socket towards a sensor.
pub(crate) fn open(sensor: SocketAddr, mtu: u16) -> io::Result<Outlet> {
    let sensor = canonical(sensor);
    let socket = UdpSocket::bind(unspecified(sensor))?;
    datagrams::prepare(&socket, sensor.is_ipv6())?;
    let mut outlet = Outlet { socket, sensor, mtu };
    outlet.measure(mtu);
    Ok(outlet)
}

impl Outlet {
    pub(crate) fn is_ipv6(&self) -> bool {
        self.sensor.is_ipv6()
    }

    /// Takes the smaller of the configured and the route's MTU, but never less than any path carries.
    fn measure(&mut self, configured: u16) {
        // A throw-away socket is connected for the question; the one that sends never is.
        let route = || {
            let probe = UdpSocket::bind(unspecified(self.sensor))?;
            probe.connect(self.sensor)?;
            datagrams::route_mtu(&probe, self.is_ipv6())
        };
        // No route yet is no reason to refuse: the sends will say so and be counted.
        let known = route().ok().and_then(|mtu| u16::try_from(mtu).ok()).unwrap_or(u16::MAX);
        self.mtu = configured.min(known).max(MTU_MIN);
    }
}

/// Collects datagrams and sends them 32 at a time.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    tally: &'a Tally,
    abandon: &'a AtomicBool,
    outlet: Outlet,
    gap: Duration,
    /// Reused from batch to batch; the first `filled` are waiting.
    datagrams: Vec<Vec<u8>>,
    /// The real connection each belongs to.
    owners: Vec<u64>,
    filled: usize,
    last: Option<Instant>,
    /// Real connections that lost a datagram since the last [`Sender::take_lost`].
    lost: Vec<u64>,
    too_big: bool,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(outlet: Outlet, gap: Duration, tally: &'a Tally, abandon: &'a AtomicBool) -> Self {
        Self {
            tally,
            abandon,
            outlet,
            gap,
            datagrams: vec![Vec::new(); BATCH],
            owners: vec![0; BATCH],
            filled: 0,
            last: None,
            lost: Vec::new(),
            too_big: false,
        }
    }

    pub(crate) fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Sends what is waiting.
    pub(crate) fn flush(&mut self) {
        if self.filled == 0 {
            return;
        }
        self.pause();
        let mut done = 0;
        let mut patience = Patience::default();
        while let Some(rest) = self.datagrams.get(done..self.filled).filter(|rest| !rest.is_empty()) {
            let error = match datagrams::send_batch(&self.outlet.socket, self.outlet.sensor, rest) {
                Ok(sent) if sent > 0 => {
                    // Fewer than asked: the next one met an error that the next call reports, or not any more.
                    self.tally.packets_sent.fetch_add(sent as u64, Relaxed);
                    done += sent;
                    patience = Patience::default();
                    continue;
                }
                Ok(_) => libc::EAGAIN,
                Err(error) => error.raw_os_error().unwrap_or(0),
            };
            self.drain();
            if patience.allows(error, self.abandon) {
                continue;
            }
            self.refused(done, error);
            done += 1;
            patience = Patience::default();
        }
        self.filled = 0;
        self.last = Some(Instant::now());
        self.drain();
    }

    /// Real connections of which a datagram was lost.
    pub(crate) fn take_lost(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.lost)
    }

    /// After a datagram was too big for the path: asks the route again. Says whether it did.
    pub(crate) fn remeasure(&mut self, configured: u16) -> bool {
        let asked = std::mem::take(&mut self.too_big);
        if asked {
            self.outlet.measure(configured);
        }
        asked
    }

    /// Keeps two batches apart, so that the sensor can take the first before the second comes.
    fn pause(&self) {
        if let Some(last) = self.last
            && let Some(rest) = self.gap.checked_sub(last.elapsed())
            && !self.abandon.load(Relaxed)
        {
            thread::sleep(rest);
        }
    }

    fn refused(&mut self, which: usize, error: i32) {
        self.tally.send_error(error);
        self.too_big |= error == libc::EMSGSIZE;
        if let Some(owner) = self.owners.get(which)
            && self.lost.last() != Some(owner)
        {
            self.lost.push(*owner);
        }
    }

    fn drain(&self) {
        self.tally.unreachable.fetch_add(datagrams::drain_errors(&self.outlet.socket), Relaxed);
    }
}

impl Out for Sender<'_> {
    fn datagram(&mut self, connection: u64) -> &mut Vec<u8> {
        if self.filled >= BATCH {
            self.flush();
        }
        self.tally.packets_built.fetch_add(1, Relaxed);
        let slot = self.filled;
        self.filled += 1;
        self.owners.iter_mut().skip(slot).take(1).for_each(|owner| *owner = connection);
        let datagram = self.datagrams.get_mut(slot).expect("a flush left room in a batch of constant size");
        datagram.clear();
        datagram
    }
}

/// How long one datagram is tried.
#[derive(Debug, Default)]
struct Patience {
    tries: u32,
}

impl Patience {
    /// Whether to try the same datagram again, after waiting where waiting can help.
    fn allows(&mut self, error: i32, abandon: &AtomicBool) -> bool {
        self.tries += 1;
        match error {
            // News of an earlier datagram: an ICMP answer came in. This one was not sent.
            libc::ECONNREFUSED | libc::EINTR => self.tries <= RETRIES_AT_ONCE,
            // The socket's or the device's queue is full; it empties by itself.
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => {
                let again = self.tries <= RETRIES_WAITING && !abandon.load(Relaxed);
                if again {
                    thread::sleep(Duration::from_millis(u64::from(self.tries.min(10))));
                }
                again
            }
            // May be such news too; an error of this datagram's own says the same again.
            _ => self.tries <= RETRIES_OTHER,
        }
    }
}

/// Both ends of a mapped address are IPv4 on the wire.
fn canonical(sensor: SocketAddr) -> SocketAddr {
    match sensor {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
        other => other,
    }
}

fn unspecified(sensor: SocketAddr) -> SocketAddr {
    if sensor.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() }
}

/// An ICMP answer may be pending for each datagram of the batch before.
const RETRIES_AT_ONCE: u32 = 2 * BATCH as u32;
const RETRIES_OTHER: u32 = 2;
/// Waits of 1, 2, ... 10, 10, ... ms: about 0.2 s, then the datagram is given up and counted.
const RETRIES_WAITING: u32 = 25;
