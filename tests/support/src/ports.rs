//! Free ports that stay ours: no two tests get the same one, even when each runs in a process of its own.
//!
//! Binding port 0 and letting go again is a race: the kernel hands the same number to somebody's outgoing connection.
//! So ports are taken from below the ephemeral range (32768 and up), each under a file lock that lives as long as the
//! process, and only after a bind on every address showed that nobody else listens there.

use std::fs::{File, OpenOptions};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

const FIRST: u16 = 18_000;
const LAST: u16 = 31_999;

static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A TCP and UDP port that nobody uses now and no other test will be given while this process lives.
#[must_use]
pub fn free() -> u16 {
    let span = u32::from(LAST - FIRST) + 1;
    // Each process starts its search somewhere else, so that two of them seldom meet at one lock.
    let start = std::process::id().wrapping_mul(97) % span;
    for step in 0..span {
        let port = FIRST + u16::try_from((start + step) % span).unwrap();
        let Some(lock) = lock(port) else { continue };
        if is_unused(port) {
            HELD.lock().unwrap().push(lock);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}

/// A free port on 127.0.0.1.
#[must_use]
pub fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free()))
}

/// Waits for its turn among the tests that use fixed ports or anything else there is only one of. Held until dropped.
#[must_use]
pub fn exclusive(name: &str) -> File {
    let file = open(&format!("exclusive-{name}")).unwrap();
    file.lock().unwrap();
    file
}

fn lock(port: u16) -> Option<File> {
    let file = open(&port.to_string()).ok()?;
    file.try_lock().ok()?;
    Some(file)
}

fn open(name: &str) -> std::io::Result<File> {
    let dir = PathBuf::from("/tmp/sekisho-test-ports");
    if std::fs::create_dir(&dir).is_ok() {
        // Tests with and without root rights share the folder.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777))?;
    }
    let path = dir.join(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666));
    Ok(file)
}

fn is_unused(port: u16) -> bool {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let v4 = SocketAddr::from(([127, 0, 0, 1], port));
    let tcp = TcpListener::bind(any).or_else(|_| TcpListener::bind(v4));
    tcp.is_ok() && UdpSocket::bind(v4).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_hundred_ports_are_all_different_and_free() {
        let ports: BTreeSet<u16> = (0..100).map(|_| free()).collect();
        assert_eq!(ports.len(), 100);
        for port in ports {
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }
}
