//! Names of endpoints to addresses, without the C library: a static binary has no name service switch.
//!
//! In: a host name from the file. Out: its addresses, from `/etc/hosts` or from the servers of `/etc/resolv.conf`, by A and
//! AAAA questions over UDP (RFC 1035). Answers are kept for their TTL, within bounds; when a server does not answer, the last
//! good answer serves on. An answer counts only if it comes from the server asked, with the id and the question we sent.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod question;
mod system;

use crate::limits;
use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    rc::Rc,
    time::Instant,
};

/// One worker's resolver. The names come from the file, so the cache is bounded by it.
#[derive(Default)]
pub(crate) struct Resolver {
    cache: RefCell<HashMap<String, Entry>>,
}

#[derive(Clone)]
struct Entry {
    addresses: Rc<[IpAddr]>,
    fresh_until: Instant,
}

impl Resolver {
    /// The addresses of `name`; why there is none, otherwise.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Rc<[IpAddr]>, String> {
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(Rc::from([ip]));
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            // RFC 6761 §6.3: never asked of a server.
            return Ok(Rc::from([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]));
        }
        let kept = self.cache.borrow().get(&name).cloned();
        if let Some(entry) = &kept
            && entry.fresh_until > Instant::now()
        {
            return Ok(Rc::clone(&entry.addresses));
        }
        match lookup(&name).await {
            Ok((addresses, ttl)) => {
                let addresses: Rc<[IpAddr]> = addresses.into();
                let ttl = ttl.clamp(limits::DNS_MIN_TTL, limits::DNS_MAX_TTL);
                let entry = Entry { addresses: Rc::clone(&addresses), fresh_until: Instant::now() + ttl };
                self.cache.borrow_mut().insert(name, entry);
                Ok(addresses)
            }
            // The last good answer serves on; it is asked again soon.
            Err(error) => match kept {
                Some(entry) => {
                    let fresh_until = Instant::now() + limits::DNS_MIN_TTL;
                    self.cache.borrow_mut().insert(name, Entry { addresses: Rc::clone(&entry.addresses), fresh_until });
                    Ok(entry.addresses)
                }
                None => Err(error),
            },
        }
    }
}

async fn lookup(name: &str) -> Result<(Vec<IpAddr>, std::time::Duration), String> {
    let hosts = system::hosts(name);
    if !hosts.is_empty() {
        return Ok((hosts, limits::DNS_MIN_TTL));
    }
    let system = system::resolv_conf();
    let mut last = format!("{name}: no name server");
    for candidate in system.candidates(name) {
        match question::ask(&system.servers, &candidate).await {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Resolves a name once, for what is set up outside a worker.
pub(crate) async fn resolve_once(name: &str) -> Result<Vec<IpAddr>, String> {
    Resolver::default().resolve(name).await.map(|found| found.to_vec())
}
