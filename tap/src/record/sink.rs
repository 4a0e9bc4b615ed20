//! Where records go: standard output, a file, or a syslog receiver over UDP.
//!
//! In: whole lines. Out: bytes, and for every line whether it was taken or with which errno it was not. What is lost is counted,
//! never repeated; a line that was written in part is ended before the next, so that no two run into each other.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sys::datagrams;

use crate::counters::Tally;
use crate::settings::Sensor;

/// A place for records.
pub(crate) enum Sink {
    Stdout { torn: bool },
    File(Appended),
    Syslog(Syslog),
}

/// A file that grows, and that may be moved away to be replaced.
pub(crate) struct Appended {
    path: PathBuf,
    file: File,
    torn: bool,
    looked: Instant,
}

/// One datagram each (RFC 5426).
pub(crate) struct Syslog {
    to: Option<SocketAddr>,
    socket: Option<UdpSocket>,
}

impl Sink {
    /// # Errors
    /// What the system said about the file or the socket.
    pub(crate) fn open(sensor: &Sensor) -> io::Result<Self> {
        Ok(match sensor {
            Sensor::JsonFile { path } => {
                let file = open(path)?;
                Self::File(Appended { path: path.clone(), file, torn: false, looked: Instant::now() })
            }
            Sensor::Syslog { addr } => {
                let mut syslog = Syslog { to: None, socket: None };
                syslog.move_to(*addr)?;
                Self::Syslog(syslog)
            }
            _ => Self::Stdout { torn: false },
        })
    }

    /// The most bytes a record may have.
    pub(crate) fn most(&self) -> usize {
        if matches!(self, Self::Syslog(_)) { DATAGRAM } else { usize::MAX }
    }

    pub(crate) fn is_up(&self) -> bool {
        if let Self::Syslog(syslog) = self { syslog.socket.is_some() } else { true }
    }

    pub(crate) fn move_to(&mut self, addr: Option<SocketAddr>) {
        if let Self::Syslog(syslog) = self {
            // Without a socket nothing is admitted; the next look at the name tries again.
            let _ = syslog.move_to(addr);
        }
    }

    /// Takes every line, or counts it as not sent.
    pub(crate) fn write(&mut self, lines: &[Vec<u8>], tally: &Tally) {
        match self {
            Self::Stdout { torn } => {
                // Held over all of it: the access log of the same process writes there as well.
                let mut stdout = io::stdout().lock();
                whole_lines(&mut stdout, torn, lines, tally);
            }
            Self::File(appended) => {
                appended.look();
                whole_lines(&mut appended.file, &mut appended.torn, lines, tally);
            }
            Self::Syslog(syslog) => syslog.send(lines, tally),
        }
    }
}

impl Appended {
    /// Opens the file anew once it has been moved away or removed.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let is_same = match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            _ => false,
        };
        if !is_same && let Ok(file) = open(&self.path) {
            (self.file, self.torn) = (file, false);
        }
    }
}

/// Records name who asked whom for what: nobody else is to read them.
fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn whole_lines(out: &mut impl Write, torn: &mut bool, lines: &[Vec<u8>], tally: &Tally) {
    let text = lines.concat();
    let mut rest = text.as_slice();
    let mut failed = None;
    if *torn {
        match out.write(b"\n") {
            Ok(1) => *torn = false,
            Ok(_) => failed = Some(libc::EIO),
            Err(error) => failed = error.raw_os_error().or(Some(libc::EIO)),
        }
    }
    while failed.is_none() && !rest.is_empty() {
        match out.write(rest) {
            Ok(written @ 1..) => {
                *torn = rest.get(written - 1).is_none_or(|last| *last != b'\n');
                rest = rest.get(written..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) => failed = Some(libc::EIO),
            Err(error) => failed = error.raw_os_error().or(Some(libc::EIO)),
        }
    }
    if let Err(error) = out.flush() {
        failed = failed.or(error.raw_os_error());
    }
    // A line that lacks nothing but its end is given that before the next.
    let lacks_end = usize::from(*torn && rest.first() == Some(&b'\n'));
    let lost = rest.iter().filter(|byte| **byte == b'\n').count().saturating_sub(lacks_end);
    tally.sent(lines.len().saturating_sub(lost));
    (0..lost).for_each(|_| tally.send_error(failed.unwrap_or(libc::EIO)));
}

impl Syslog {
    fn move_to(&mut self, addr: Option<SocketAddr>) -> io::Result<()> {
        if addr == self.to && self.socket.is_some() == addr.is_some() {
            return Ok(());
        }
        (self.to, self.socket) = (addr, None);
        if let Some(addr) = addr {
            let any: SocketAddr =
                if addr.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    fn send(&mut self, lines: &[Vec<u8>], tally: &Tally) {
        let Some((socket, to)) = self.socket.as_ref().zip(self.to) else {
            lines.iter().for_each(|_| tally.send_error(libc::ENOTCONN));
            return;
        };
        let mut rest = lines;
        while let Some((_, after)) = rest.split_first() {
            let batch = rest.get(..rest.len().min(datagrams::BATCH)).unwrap_or_default();
            match datagrams::send_batch(socket, to, batch) {
                Ok(sent @ 1..) => {
                    tally.sent(sent);
                    rest = rest.get(sent..).unwrap_or_default();
                }
                Ok(0) => {
                    tally.send_error(libc::EAGAIN);
                    rest = after;
                }
                Err(error) => {
                    tally.send_error(error.raw_os_error().unwrap_or(0));
                    rest = after;
                }
            }
        }
    }
}

/// A record as a syslog message (RFC 5424 section 6): facility local0, severity notice for what was refused and informational
/// otherwise, the record itself as the message.
pub(crate) fn syslog(line: &str, time: &str, host: &str, process: u32, is_notice: bool) -> Vec<u8> {
    let priority = 16 * 8 + if is_notice { 5 } else { 6 };
    format!("<{priority}>1 {time} {host} sekisho {process} tap - {line}").into_bytes()
}

/// Room for what stands before the record.
const HEAD: usize = 160;
/// RFC 5426 section 3.2: receivers should take messages of 2048 bytes.
const DATAGRAM: usize = 2048 - HEAD;
/// Between two looks whether a file is still the one of its name.
const LOOK: Duration = Duration::from_millis(500);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    /// Takes so many bytes and no more.
    struct Full(usize, Vec<u8>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.0.saturating_sub(self.1.len()).min(bytes.len());
            self.1.extend_from_slice(&bytes[..room]);
            if room == 0 { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(room) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_counted_and_tears_no_later_line() {
        let tally = Tally::default();
        let (mut out, mut torn) = (Full(6, Vec::new()), false);
        whole_lines(&mut out, &mut torn, &[b"one\n".to_vec(), b"two\n".to_vec(), b"three\n".to_vec()], &tally);
        assert!(torn);
        out.0 = 100;
        whole_lines(&mut out, &mut torn, &[b"four\n".to_vec()], &tally);
        assert_eq!(out.1, b"one\ntw\nfour\n");
        let seen = tally.snapshot(0);
        assert_eq!((seen.packets_sent, seen.send_errors), (2, vec![("ENOSPC", 2)]));
    }

    #[test]
    fn a_line_that_lacks_only_its_end_is_taken() {
        let tally = Tally::default();
        let (mut out, mut torn) = (Full(7, Vec::new()), false);
        whole_lines(&mut out, &mut torn, &[b"one\n".to_vec(), b"two\n".to_vec(), b"three\n".to_vec()], &tally);
        out.0 = 100;
        whole_lines(&mut out, &mut torn, &[b"four\n".to_vec()], &tally);
        assert_eq!(out.1, b"one\ntwo\nfour\n");
        let seen = tally.snapshot(0);
        assert_eq!((seen.packets_sent, seen.send_errors), (3, vec![("ENOSPC", 1)]));
    }
}
