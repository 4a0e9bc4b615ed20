//! Datagrams to the kernel, in batches, with every refusal counted.
//!
//! In: frames, each behind the eight bytes of VXLAN (RFC 7348 section 5). Out: UDP packets, from an unconnected socket: a connected one would lose datagrams to the
//! port-unreachable messages that a merely sniffing sensor's host sends back. No segmentation offload: a capture on
//! the same host would see one giant packet. One socket per tap: its source port is the same for every datagram, so
//! that a network which balances by ports keeps all of a connection in order. `built = sent + errors` whenever the batch is empty.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::flow::Out;
use crate::settings::MTU_MIN;
use crate::tap::Shared;
use crate::transport::{News, Transport};
use sys::datagrams::{self, BATCH};

/// A socket, where it sends to, and what waits to be sent 32 at a time.
pub(crate) struct Vxlan {
    shared: Arc<Shared>,
    /// What stands before every frame.
    header: [u8; 8],
    /// The address wanted, and the socket towards it unless it could not be opened.
    wanted: Option<SocketAddr>,
    outlet: Option<Outlet>,
    /// Reused from batch to batch; the first `filled` are waiting.
    datagrams: Vec<Vec<u8>>,
    /// The real connection each belongs to.
    owners: Vec<u64>,
    filled: usize,
    last: Option<Instant>,
    news: News,
    too_big: bool,
}

#[derive(Debug)]
struct Outlet {
    socket: UdpSocket,
    sensor: SocketAddr,
    /// Largest IP packet on this path.
    mtu: u16,
}

/// What stands before a frame: I flag, reserved bits zero, VNI, reserved zero. Suricata drops frames with any reserved
/// bit set.
pub fn header(vni: u32) -> [u8; 8] {
    let [_, v0, v1, v2] = vni.to_be_bytes();
    [0x08, 0, 0, 0, v0, v1, v2, 0]
}

/// Largest inner IP packet, for a path of `mtu` bytes to the sensor: the outer IP header, UDP, VXLAN and the inner Ethernet
/// header come off.
pub(crate) fn room(mtu: u16, outer_v6: bool) -> u16 {
    mtu.saturating_sub(if outer_v6 { 40 } else { 20 } + 8 + 8 + 14)
}

impl Vxlan {
    pub(crate) fn open(sensor: Option<SocketAddr>, vni: u32, shared: Arc<Shared>) -> io::Result<Self> {
        let outlet = sensor.map(|sensor| Outlet::open(sensor, shared.settings.mtu)).transpose()?;
        Ok(Self {
            shared,
            header: header(vni),
            wanted: sensor,
            outlet,
            datagrams: vec![Vec::new(); BATCH],
            owners: vec![0; BATCH],
            filled: 0,
            last: None,
            news: News::default(),
            too_big: false,
        })
    }

    /// Keeps two batches apart, so that the sensor can take the first before the second comes.
    fn pause(&self) {
        if let Some(last) = self.last
            && let Some(rest) = self.shared.settings.batch_gap.checked_sub(last.elapsed())
            && !self.shared.abandon.load(Relaxed)
        {
            thread::sleep(rest);
        }
    }

    fn refused(&mut self, which: usize, error: i32) {
        self.shared.tally.send_error(error);
        self.too_big |= error == libc::EMSGSIZE;
        if let Some(owner) = self.owners.get(which)
            && self.news.lost.last() != Some(owner)
        {
            self.news.lost.push(*owner);
        }
    }

    fn drain(&self) {
        if let Some(outlet) = &self.outlet {
            self.shared.tally.unreachable.fetch_add(datagrams::drain_errors(&outlet.socket), Relaxed);
        }
    }

    /// One call to the kernel; 0 and an errno if it took none.
    fn send(&self, from: usize) -> Result<usize, i32> {
        let Some(outlet) = &self.outlet else {
            return Err(libc::ENOTCONN);
        };
        let rest = self.datagrams.get(from..self.filled).unwrap_or_default();
        match datagrams::send_batch(&outlet.socket, outlet.sensor, rest) {
            Ok(0) => Err(libc::EAGAIN),
            Ok(sent) => Ok(sent),
            Err(error) => Err(error.raw_os_error().unwrap_or(0)),
        }
    }
}

impl Out for Vxlan {
    fn begin(&mut self, connection: u64, _at: Instant) -> &mut Vec<u8> {
        if self.filled >= BATCH {
            self.flush();
        }
        self.shared.tally.packets_built.fetch_add(1, Relaxed);
        let slot = self.filled;
        self.filled += 1;
        self.owners.iter_mut().skip(slot).take(1).for_each(|owner| *owner = connection);
        let datagram = self.datagrams.get_mut(slot).expect("a flush left room in a batch of constant size");
        datagram.clear();
        datagram.extend_from_slice(&self.header);
        datagram
    }

    fn end(&mut self) {}
}

impl Transport for Vxlan {
    fn room(&self) -> u16 {
        let configured = self.shared.settings.mtu;
        self.outlet.as_ref().map_or(room(configured, true), |outlet| room(outlet.mtu, outlet.sensor.is_ipv6()))
    }

    fn is_up(&self) -> bool {
        self.outlet.is_some()
    }

    fn move_to(&mut self, address: Option<SocketAddr>) {
        self.wanted = address;
        self.outlet = address.and_then(|sensor| Outlet::open(sensor, self.shared.settings.mtu).ok());
    }

    /// Sends what is waiting.
    fn flush(&mut self) {
        if self.filled == 0 {
            return;
        }
        self.pause();
        let mut done = 0;
        let mut patience = Patience::default();
        while done < self.filled {
            let error = match self.send(done) {
                Ok(sent) => {
                    // Fewer than asked: the next one met an error that the next call reports, or not any more.
                    self.shared.tally.packets_sent.fetch_add(sent as u64, Relaxed);
                    done += sent;
                    patience = Patience::default();
                    continue;
                }
                Err(error) => error,
            };
            self.drain();
            if patience.allows(error, &self.shared.abandon) {
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

    /// After a datagram was too big for the path: asks the route again.
    fn take_news(&mut self) -> News {
        if std::mem::take(&mut self.too_big)
            && let Some(outlet) = &mut self.outlet
        {
            outlet.measure(self.shared.settings.mtu);
            self.news.resized = true;
        }
        std::mem::take(&mut self.news)
    }

    /// Opens the socket that could not be opened before.
    fn tend(&mut self) -> Option<Duration> {
        if self.outlet.is_none() && self.wanted.is_some() {
            self.move_to(self.wanted);
            self.news.resized = true;
        }
        (self.outlet.is_none() && self.wanted.is_some()).then_some(REOPEN)
    }

    fn wants_renewal(&self) -> bool {
        false
    }

    fn renew(&mut self) {}

    fn finish(&mut self) {
        self.flush();
    }
}

impl Outlet {
    fn open(sensor: SocketAddr, mtu: u16) -> io::Result<Self> {
        let sensor = canonical(sensor);
        let socket = UdpSocket::bind(unspecified(sensor))?;
        datagrams::prepare(&socket, sensor.is_ipv6())?;
        let mut outlet = Self { socket, sensor, mtu };
        outlet.measure(mtu);
        Ok(outlet)
    }

    /// Takes the smaller of the configured and the route's MTU, but never less than any path carries.
    fn measure(&mut self, configured: u16) {
        // A throw-away socket is connected for the question; the one that sends never is.
        let v6 = self.sensor.is_ipv6();
        let route = || {
            let probe = UdpSocket::bind(unspecified(self.sensor))?;
            probe.connect(self.sensor)?;
            datagrams::route_mtu(&probe, v6)
        };
        // No route yet is no reason to refuse: the sends will say so and be counted.
        let known = route().ok().and_then(|mtu| u16::try_from(mtu).ok()).unwrap_or(u16::MAX);
        self.mtu = configured.min(known).max(MTU_MIN);
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
/// Between two tries to open a socket. Failing is rare: no descriptors, or no such address family.
const REOPEN: Duration = Duration::from_secs(1);
