//! This room's part of the door for `fuzz/`: answers of name servers, and the files of the system.

use super::{question, system};
use simple_dns::{Name, TYPE};
use std::{net::IpAddr, time::Duration};

/// The id of the question that every answer is read against.
pub const ID: u16 = 0x5e15;
/// The name that it asks for.
pub const NAME: &str = "ledger.shop.svc";

/// What a datagram says as the answer to the question: addresses and how long they are good, or what the server refused;
/// `None` if it is not the answer.
pub fn answer(datagram: &[u8], v6: bool) -> Option<Result<(Vec<IpAddr>, Duration), &'static str>> {
    let wanted = Name::new(NAME).ok()?;
    question::read(datagram, ID, &wanted, if v6 { TYPE::AAAA } else { TYPE::A })
}

/// What is asked for `name` under this resolv.conf, of how many servers; and what this text as `/etc/hosts` has for it.
pub fn files(text: &str, name: &str) -> (Vec<String>, usize, Vec<IpAddr>) {
    let conf = system::parse_resolv_conf(text);
    (conf.candidates(name), conf.servers.len(), system::parse_hosts(text, name))
}
