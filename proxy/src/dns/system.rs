//! `/etc/hosts` and `/etc/resolv.conf`, as resolv.conf(5) and hosts(5) describe them; lines that make no sense are skipped,
//! as every resolver does.

use std::net::{IpAddr, SocketAddr};

/// The parts of resolv.conf that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

/// Reads `/etc/resolv.conf`; an absent file means the local server, as resolv.conf(5) says.
pub(super) fn resolv_conf() -> ResolvConf {
    parse_resolv_conf(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// The addresses `/etc/hosts` has for `name`.
pub(super) fn hosts(name: &str) -> Vec<IpAddr> {
    parse_hosts(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), name)
}

impl ResolvConf {
    /// The names to ask for, in order: as it is first if it has enough dots, with each search domain otherwise.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        let searched = self.search.iter().map(|domain| format!("{name}.{domain}"));
        if name.matches('.').count() >= self.ndots {
            std::iter::once(name.to_owned()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(name.to_owned())).collect()
        }
    }
}

pub(super) fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut conf = ResolvConf { servers: Vec::new(), search: Vec::new(), ndots: 1 };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                if let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>)
                    && conf.servers.len() < 3
                {
                    conf.servers.push(SocketAddr::new(ip, 53));
                }
            }
            Some("search" | "domain") => {
                conf.search = words.take(6).map(|domain| domain.trim_end_matches('.').to_ascii_lowercase()).collect();
            }
            Some("options") => {
                for option in words {
                    if let Some(Ok(ndots)) = option.strip_prefix("ndots:").map(str::parse::<usize>) {
                        conf.ndots = ndots.min(15);
                    }
                }
            }
            _ => {}
        }
    }
    if conf.servers.is_empty() {
        conf.servers.push(SocketAddr::from(([127, 0, 0, 1], 53)));
    }
    conf
}

pub(super) fn parse_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        if let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>)
            && words.any(|word| word.eq_ignore_ascii_case(name))
            && !found.contains(&ip)
        {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_resolv_conf_searches_its_namespace_first() {
        let conf = parse_resolv_conf(
            "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
        );
        assert_eq!(conf.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!(conf.candidates("orders")[0], "orders.shop.svc.cluster.local");
        assert_eq!(conf.candidates("orders").last().unwrap(), "orders");
        assert_eq!(conf.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
    }

    #[test]
    fn hosts_are_found_by_any_name_of_the_line() {
        let text = "127.0.0.1 localhost\n10.0.0.7\tledger ledger.shop # comment ledger2\n::1 localhost\n";
        assert_eq!(parse_hosts(text, "LEDGER.shop"), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert!(parse_hosts(text, "ledger2").is_empty());
        assert_eq!(parse_hosts(text, "localhost").len(), 2);
    }
}
