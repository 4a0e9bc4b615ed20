//! A receiver of pcap streams in a network namespace, and a strict reading of what it got.
//!
//! Strict: a header, then records that are whole, in order of time, and of TCP connections that begin with SYN and have no
//! hole. Only the end of a connection that was cut may lie within a record.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use support::child::Child;
use support::scratch::Scratch;
use support::{tools, wait};

use super::link::Link;
use crate::transports::packets_in;

static READERS: AtomicU32 = AtomicU32::new(0);

/// The receiver; it may be stopped, killed and started again.
pub(crate) struct Reader {
    pub(crate) child: Child,
}

impl Reader {
    /// Accepts at this address, or dials it; takes so many bytes in a second, or all of them with 0.
    pub(crate) fn start(link: &Link, how: &str, at: SocketAddr, files: &Scratch, rate: u32) -> Self {
        let python = tools::python();
        let mut command = link.command(python.get_program().to_str().unwrap());
        command.arg(tools::script("pcap_reader.py")).arg(how).arg(at.ip().to_string()).arg(at.port().to_string());
        let name = format!("reader-{}", READERS.fetch_add(1, Ordering::SeqCst));
        let mut child = Child::start(link.dir.path(), &name, command.arg(files.path()).arg(rate.to_string()));
        child.wait_for("ready");
        Self { child }
    }

    /// Reads nothing more.
    pub(crate) fn pause(&self) {
        self.child.signal("STOP");
    }

    /// Reads again.
    pub(crate) fn go_on(&self) {
        self.child.signal("CONT");
    }

    /// Waits until so many connections of this process have ended.
    pub(crate) fn ended(&self, count: usize) {
        wait::until("the ends of connections", wait::SOON, || {
            (self.child.stdout.lines().iter().filter(|line| line.starts_with("end")).count() >= count).then_some(())
        });
    }
}

/// What was read of each connection, by its port, every byte of it judged.
pub(crate) fn read(files: &Scratch) -> BTreeMap<u16, Vec<u8>> {
    std::fs::read_dir(files.path())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let port = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let packets = whole_packets(&bytes);
            // The header of the file, times, and lengths are judged there.
            assert_eq!(packets_in(&path), packets.len() as u64);
            assert_unbroken(&packets);
            (port, bytes)
        })
        .collect()
}

/// How much was read so far.
pub(crate) fn bytes(files: &Scratch) -> u64 {
    std::fs::read_dir(files.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// The frames of a pcap stream; the last one is left out when it is not whole.
pub(crate) fn whole_packets(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut all = Vec::new();
    while let Some((head, more)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
        let Some((frame, behind)) = more.split_at_checked(length) else { break };
        all.push(frame);
        rest = behind;
    }
    all
}

/// Bytes behind the last whole record.
pub(crate) fn torn(bytes: &[u8]) -> usize {
    let whole: usize = whole_packets(bytes).iter().map(|frame| 16 + frame.len()).sum();
    bytes.len().saturating_sub(24 + whole)
}

/// Every TCP connection begins with SYN, and no byte of it is missing or there twice.
fn assert_unbroken(packets: &[&[u8]]) {
    let mut next: HashMap<&[u8], u32> = HashMap::new();
    for (number, frame) in packets.iter().enumerate() {
        let ip = &frame[14..];
        let (header, total) = (usize::from(ip[0] & 15) * 4, usize::from(u16::from_be_bytes([ip[2], ip[3]])));
        assert_eq!((ip[0] >> 4, total), (4, ip.len()), "packet {number}");
        // A notice of loss.
        if ip[9] == 17 {
            continue;
        }
        let tcp = &ip[header..];
        let (seq, flags) = (u32::from_be_bytes(tcp[4..8].try_into().unwrap()), tcp[13]);
        let payload = tcp.len() - usize::from(tcp[12] >> 4) * 4;
        // Both addresses, then both ports.
        let ends = &ip[12..header + 4];
        if flags & 2 != 0 {
            next.insert(ends, seq);
        }
        let expected = next.get_mut(ends).unwrap_or_else(|| panic!("packet {number} is of no known connection"));
        assert_eq!(seq, *expected, "packet {number}: a hole, or bytes twice");
        *expected = seq.wrapping_add(payload as u32 + u32::from(flags & 3 != 0));
    }
}
