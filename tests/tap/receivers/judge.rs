//! Three receivers and their agreement.
//!
//! tshark follows streams, tcpflow writes them to files, and `tap_streams.py` puts them together on scapy's layers, strictly:
//! a hole, bytes sent twice or left unacknowledged, and a wrong checksum end it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use support::child::run;
use support::tools;

use crate::sensor::Copy;

/// One connection of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Talk {
    /// Who opened it.
    pub(crate) client: SocketAddr,
    /// Who was called.
    pub(crate) server: SocketAddr,
    /// What the client said.
    pub(crate) asked: Vec<u8>,
    /// What the server said.
    pub(crate) answered: Vec<u8>,
}

type Talks = BTreeMap<(SocketAddr, SocketAddr), (Vec<u8>, Vec<u8>)>;

/// Panics unless all three find the copy faultless and agree on it; gives its connections in the order they were opened.
pub(crate) fn agreed(copy: &Copy) -> Vec<Talk> {
    copy.assert_faultless();
    let talks = by_scapy(copy, 0);
    let theirs: Talks = talks
        .iter()
        .map(|talk| ((talk.client, talk.server), (talk.asked.clone(), talk.answered.clone())))
        .filter(|(_, (asked, answered))| !asked.is_empty() || !answered.is_empty())
        .collect();
    assert_eq!(talks.len(), theirs.len(), "a pair of ends was used twice, or a connection carried nothing");
    assert_same("tshark", &by_tshark(copy, talks.len()), &theirs);
    assert_same("tcpflow", &by_tcpflow(copy), &theirs);
    talks
}

/// Whole connections, or of each direction the first `depth` bytes, in the order they were opened.
pub(crate) fn by_scapy(copy: &Copy, depth: usize) -> Vec<Talk> {
    let out = copy.dir().join("tap-scapy");
    let _ = std::fs::remove_dir_all(&out);
    let mut command = tools::python();
    command.arg(tools::script("tap_streams.py")).arg(copy.path()).arg(&out).arg(depth.to_string());
    let said = run(&mut command);
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .enumerate()
        .map(|(number, line)| {
            let half = |side: &str| std::fs::read(out.join(format!("{number}-{side}"))).unwrap();
            let end = |name: &str| address(line[name].as_str().unwrap(), ' ');
            Talk { client: end("client"), server: end("server"), asked: half("client"), answered: half("server") }
        })
        .collect()
}

/// `tshark -z follow` of every connection: lines of hex, those of the server behind a tab.
fn by_tshark(copy: &Copy, connections: usize) -> Talks {
    let mut talks = Talks::new();
    // A run per so many: each keeps all of its streams in memory.
    for first in (0..connections).step_by(64) {
        let mut tshark = copy.tshark();
        tshark.arg("-q");
        for number in first..connections.min(first + 64) {
            tshark.args(["-z", &format!("follow,tcp,raw,{number}")]);
        }
        let said = run(&mut tshark);
        for part in said.split("Filter: tcp.stream eq ").skip(1) {
            let node = |number| {
                let line = part.lines().find_map(|line| line.strip_prefix(&format!("Node {number}: ")));
                address(line.unwrap(), ':')
            };
            let key = (node(0), node(1));
            let talk: &mut (Vec<u8>, Vec<u8>) = talks.entry(key).or_default();
            for line in part.lines().skip(3).take_while(|line| !line.starts_with('=')) {
                match line.strip_prefix('\t') {
                    Some(hex) => talk.1.extend(unhex(hex)),
                    None => talk.0.extend(unhex(line)),
                }
            }
        }
    }
    talks
}

/// tcpflow's files are named `10.000.000.001.40000-10.000.000.002.08080`, IPv6 addresses written out.
fn by_tcpflow(copy: &Copy) -> Talks {
    let mut talks = Talks::new();
    let servers = copy.servers();
    for (name, bytes) in copy.files_of_tcpflow() {
        let (from, to) = name.split_once('-').unwrap();
        let (from, to) = (address(from, '.'), address(to, '.'));
        if servers.contains(&to.port()) {
            talks.entry((from, to)).or_default().0 = bytes;
        } else {
            talks.entry((to, from)).or_default().1 = bytes;
        }
    }
    talks
}

fn assert_same(who: &str, found: &Talks, expected: &Talks) {
    let keys = |talks: &Talks| talks.keys().copied().collect::<Vec<_>>();
    assert_eq!(keys(found), keys(expected), "the connections of {who}");
    for (key, talk) in found {
        let (other, lengths) = (&expected[key], (talk.0.len(), talk.1.len()));
        // Not assert_eq: it would print megabytes.
        assert!(talk == other, "{who} reads {key:?} otherwise: {lengths:?}, not {:?}", (other.0.len(), other.1.len()));
    }
}

/// An address and a port with this between them; leading zeros as tcpflow writes them.
fn address(text: &str, between: char) -> SocketAddr {
    let (ip, port) = text.rsplit_once(between).unwrap();
    let plain = |part: &str| part.trim_start_matches('0').to_owned();
    let ip: IpAddr = ip.trim_matches(['[', ']']).parse().unwrap_or_else(|_| {
        let parts: Vec<String> = ip.split('.').map(plain).collect();
        let parts = parts.iter().map(|part| if part.is_empty() { "0" } else { part }).collect::<Vec<_>>();
        parts.join(".").parse().unwrap_or_else(|error| panic!("{ip}: {error}"))
    });
    SocketAddr::new(ip, port.parse().unwrap())
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
