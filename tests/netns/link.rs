//! What crossed the link, judged by other people's tools: tcpdump wrote it, tcpflow put it together, and here every byte
//! of every TCP flow has to be part of a TLS record.

use std::path::Path;

use support::child::run;
use support::tools;

/// What a recording holds.
#[derive(Debug)]
pub(crate) struct Link {
    /// Packets of any kind.
    pub(crate) packets: usize,
    /// TCP packets with payload.
    pub(crate) payloads: usize,
    /// One per direction of a TCP connection: the name tcpflow gives it, and its bytes.
    flows: Vec<(String, Vec<u8>)>,
    raw: Vec<u8>,
}

impl Link {
    /// Reads a finished recording.
    pub(crate) fn read(dir: &Path, pcap: &Path) -> Self {
        let out = dir.join("flows");
        run(tools::system("tcpflow", "tcpflow").arg("-r").arg(pcap).arg("-o").arg(&out).arg("-q"));
        let mut flows = Vec::new();
        for entry in std::fs::read_dir(&out).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // tcpflow writes `010.077.001.002.40000-010.077.002.002.08080`, and a report of its own beside that.
            if name.starts_with(|c: char| c.is_ascii_digit()) && !name.contains("-HTTP") {
                flows.push((name, std::fs::read(entry.path()).unwrap()));
            }
        }
        let count = |filter: &str| {
            let mut tshark = tools::system("tshark", "tshark");
            run(tshark.arg("-r").arg(pcap).args(["-Y", filter])).lines().count()
        };
        Self { packets: count("frame"), payloads: count("tcp.len > 0"), flows, raw: std::fs::read(pcap).unwrap() }
    }

    /// Panics unless there was traffic and all of its payload is TLS.
    pub(crate) fn assert_all_tls(&self) {
        assert!(self.packets > 0 && self.payloads > 0, "{} packets, {} with payload", self.packets, self.payloads);
        assert!(!self.flows.is_empty());
        for (name, bytes) in &self.flows {
            if let Err(what) = parse_records(bytes) {
                let start = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
                panic!("{name}: {what}; it begins {start:?}");
            }
        }
    }

    /// Whether these bytes were on the link in the clear.
    pub(crate) fn shows(&self, bytes: &[u8]) -> bool {
        let found = |all: &[u8]| all.windows(bytes.len()).any(|window| window == bytes);
        found(&self.raw) || self.flows.iter().any(|(_, flow)| found(flow))
    }
}

/// Reads a stream as TLS records to its last byte (RFC 8446 section 5.1: type, version, length up to 2^14 + 256).
fn parse_records(mut bytes: &[u8]) -> Result<usize, String> {
    let mut count = 0;
    while !bytes.is_empty() {
        let [kind, major, minor, high, low, rest @ ..] = bytes else {
            return Err(format!("{} bytes where a record header should be, after {count} records", bytes.len()));
        };
        let length = usize::from(*high) << 8 | usize::from(*low);
        if !(20..=23).contains(kind) || *major != 3 || !(1..=3).contains(minor) || length == 0 || length > 16_640 {
            return Err(format!("no record header: {:02x?}, after {count} records", &bytes[..5]));
        }
        if length > rest.len() {
            return Err(format!("a record of {length} bytes with {} left, after {count} records", rest.len()));
        }
        bytes = &rest[length..];
        count += 1;
    }
    Ok(count)
}

#[test]
fn records_are_told_from_other_bytes() {
    assert_eq!(parse_records(&[22, 3, 1, 0, 1, 9, 23, 3, 3, 0, 2, 1, 2]), Ok(2));
    assert!(parse_records(b"GET / HTTP/1.1\r\n\r\n").is_err());
    assert!(parse_records(&[22, 3, 1, 0, 9, 1]).is_err());
}
