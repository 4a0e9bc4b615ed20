//! One question to one server, and what of its answer counts.
//!
//! Forged answers have to guess a random id and a random port, because each question has a fresh connected socket
//! (RFC 5452 §4). CNAME chains are followed within the answer only, as recursive servers send them.

use crate::limits;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::net::UdpSocket;

/// Asks each server in turn for the addresses of `name`.
pub(super) async fn ask(servers: &[SocketAddr], name: &str) -> Result<(Vec<IpAddr>, Duration), String> {
    let mut last = format!("{name}: no answer");
    for _ in 0..limits::DNS_ATTEMPTS {
        for server in servers {
            // Both families at once; one failing is no reason to do without the other.
            let (v4, v6) = tokio::join!(ask_one(*server, name, TYPE::A), ask_one(*server, name, TYPE::AAAA));
            let mut addresses = Vec::new();
            let mut ttl = limits::DNS_MAX_TTL;
            for answer in [v4, v6] {
                match answer {
                    Ok((found, its_ttl)) => {
                        if !found.is_empty() {
                            ttl = ttl.min(its_ttl);
                        }
                        addresses.extend(found);
                    }
                    Err(error) => last = error,
                }
            }
            if !addresses.is_empty() {
                addresses.truncate(limits::DNS_ADDRESSES);
                return Ok((addresses, ttl));
            }
        }
    }
    Err(last)
}

async fn ask_one(server: SocketAddr, name: &str, record: TYPE) -> Result<(Vec<IpAddr>, Duration), String> {
    let words = |what: &str| format!("{name}: {what}");
    let local: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| words("no randomness"))?;
    let id = u16::from_ne_bytes(id);
    let wanted = Name::new(name).map_err(|_| words("not a host name"))?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(wanted.clone(), QTYPE::TYPE(record), QCLASS::CLASS(CLASS::IN), false));
    let bytes = packet.build_bytes_vec().map_err(|_| words("not a host name"))?;
    let exchange = async {
        let socket = UdpSocket::bind(local).await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if let Some(found) = read(buffer.get(..length).unwrap_or_default(), id, &wanted, record) {
                return Ok::<_, std::io::Error>(found);
            }
        }
    };
    match tokio::time::timeout(limits::DNS_TIMEOUT, exchange).await {
        Err(_elapsed) => Err(words("the name server did not answer in time")),
        Ok(Err(error)) => Err(words(&error.to_string())),
        Ok(Ok(Err(rcode))) => Err(words(rcode)),
        Ok(Ok(Ok(found))) => Ok(found),
    }
}

pub(super) type Found = Result<(Vec<IpAddr>, Duration), &'static str>;

/// What an answer says; `None` if it is not the answer to our question.
pub(super) fn read(bytes: &[u8], id: u16, wanted: &Name<'_>, record: TYPE) -> Option<Found> {
    let packet = Packet::parse(bytes).ok()?;
    let question = packet.questions.first()?;
    let same_name = question.qname.to_string().eq_ignore_ascii_case(&wanted.to_string());
    if packet.id() != id
        || !packet.has_flags(PacketFlag::RESPONSE)
        || !same_name
        || question.qtype != QTYPE::TYPE(record)
    {
        return None;
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Some(Err("no such name (NXDOMAIN)")),
        RCODE::ServerFailure => return Some(Err("the name server failed (SERVFAIL)")),
        _ => return Some(Err("the name server refused the question")),
    }
    let mut name = wanted.to_string();
    let mut addresses = Vec::new();
    let mut ttl = limits::DNS_MAX_TTL;
    // At most as many steps as there are records: a loop of aliases ends.
    for _ in 0..=packet.answers.len() {
        let mut alias = None;
        for answer in packet.answers.iter().filter(|answer| answer.name.to_string().eq_ignore_ascii_case(&name)) {
            match &answer.rdata {
                RData::A(a) => addresses.push(IpAddr::V4(Ipv4Addr::from(a.address))),
                RData::AAAA(aaaa) => addresses.push(IpAddr::V6(Ipv6Addr::from(aaaa.address))),
                RData::CNAME(cname) => alias = Some(cname.0.to_string()),
                _ => continue,
            }
            ttl = ttl.min(Duration::from_secs(answer.ttl.into()));
        }
        match alias {
            Some(next) if addresses.is_empty() => name = next,
            _ => break,
        }
    }
    Some(Ok((addresses, ttl)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use simple_dns::{ResourceRecord, rdata};

    fn answer(id: u16, asked: &str, records: Vec<ResourceRecord<'_>>) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        packet.questions.push(Question::new(
            Name::new(asked).unwrap(),
            QTYPE::TYPE(TYPE::A),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        packet.answers = records;
        packet.build_bytes_vec().unwrap()
    }

    fn a<'a>(name: &'a str, ip: [u8; 4], ttl: u32) -> ResourceRecord<'a> {
        ResourceRecord::new(
            Name::new(name).unwrap(),
            CLASS::IN,
            ttl,
            RData::A(rdata::A { address: u32::from_be_bytes(ip) }),
        )
    }

    fn cname<'a>(name: &'a str, to: &'a str) -> ResourceRecord<'a> {
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, 30, RData::CNAME(rdata::CNAME(Name::new(to).unwrap())))
    }

    #[test]
    fn an_alias_is_followed_within_the_answer() {
        let wanted = Name::new("a.example").unwrap();
        let bytes = answer(7, "a.example", vec![cname("a.example", "b.example"), a("b.example", [10, 0, 0, 1], 5)]);
        let (addresses, ttl) = read(&bytes, 7, &wanted, TYPE::A).unwrap().unwrap();
        assert_eq!(addresses, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(ttl, Duration::from_secs(5));
    }

    #[test]
    fn a_loop_of_aliases_ends_without_addresses() {
        let wanted = Name::new("a.example").unwrap();
        let bytes = answer(7, "a.example", vec![cname("a.example", "b.example"), cname("b.example", "a.example")]);
        assert!(read(&bytes, 7, &wanted, TYPE::A).unwrap().unwrap().0.is_empty());
    }

    #[test]
    fn an_answer_to_another_question_does_not_count() {
        let wanted = Name::new("a.example").unwrap();
        assert!(read(&answer(8, "a.example", vec![a("a.example", [1, 2, 3, 4], 5)]), 7, &wanted, TYPE::A).is_none());
        assert!(read(&answer(7, "c.example", vec![a("c.example", [1, 2, 3, 4], 5)]), 7, &wanted, TYPE::A).is_none());
        assert!(read(b"garbage", 7, &wanted, TYPE::A).is_none());
        // Records for other names are not ours, whatever the question says.
        let bytes = answer(7, "a.example", vec![a("evil.example", [1, 2, 3, 4], 5)]);
        assert!(read(&bytes, 7, &wanted, TYPE::A).unwrap().unwrap().0.is_empty());
    }
}
