//! The redirect rules of a pod's network namespace, as text for `iptables-restore`.
//!
//! In: [`Options`]. Out: the rules to install and to remove. Chains, their order and the exemptions are Istio's, so that what
//! operators know of them holds: the proxy's user is exempt, loopback stays, and 127.0.0.6 is the proxy's own way to the
//! application. IPv6 is not redirected; it is dropped (TCP and UDP, except loopback), so that it is no way round.

use std::fmt::Write;

/// The address from which the proxy dials the application; the rules let it through.
pub const INBOUND_SOURCE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 6);

/// What to redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// User of the proxy: its own connections are not redirected.
    pub uid: u32,
    /// Group of the proxy.
    pub gid: u32,
    /// Where connections from other pods go.
    pub inbound_port: u16,
    /// Where the application's connections go.
    pub outbound_port: u16,
    /// Ports of the pod that stay reachable without the proxy.
    pub exclude_inbound_ports: Vec<u16>,
    /// Destinations (`10.0.0.0/8`) the application reaches without the proxy.
    pub exclude_outbound_cidrs: Vec<String>,
    /// Destination ports the application reaches without the proxy.
    pub exclude_outbound_ports: Vec<u16>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            uid: 1337,
            gid: 1337,
            inbound_port: 15006,
            outbound_port: 15001,
            // The proxy's own health and metrics ports, and Istio's merged ones.
            exclude_inbound_ports: vec![15020, 15021, 15090],
            exclude_outbound_cidrs: Vec::new(),
            exclude_outbound_ports: Vec::new(),
        }
    }
}

/// Chains in the nat table that belong to us.
pub const NAT_CHAINS: [&str; 4] = ["SEKISHO_INBOUND", "SEKISHO_IN_REDIRECT", "SEKISHO_OUTPUT", "SEKISHO_REDIRECT"];

/// Chain in the IPv6 filter table that belongs to us.
pub const DROP_CHAIN: &str = "SEKISHO_DROP6";

impl Options {
    /// Input for `iptables-restore --noflush`: the IPv4 redirect.
    #[must_use]
    pub fn ipv4(&self) -> String {
        let mut out = String::from("*nat\n");
        for chain in NAT_CHAINS {
            let _ = writeln!(out, ":{chain} - [0:0]");
        }
        let Self { uid, gid, inbound_port, outbound_port, .. } = self;
        let _ = writeln!(out, "-A SEKISHO_REDIRECT -p tcp -j REDIRECT --to-ports {outbound_port}");
        let _ = writeln!(out, "-A SEKISHO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {inbound_port}");
        for port in &self.exclude_inbound_ports {
            let _ = writeln!(out, "-A SEKISHO_INBOUND -p tcp --dport {port} -j RETURN");
        }
        let _ = writeln!(out, "-A SEKISHO_INBOUND -p tcp -j SEKISHO_IN_REDIRECT");
        // The proxy's way to the application.
        let _ = writeln!(out, "-A SEKISHO_OUTPUT -o lo -s {INBOUND_SOURCE}/32 -j RETURN");
        for owner in [format!("--uid-owner {uid}"), format!("--gid-owner {gid}")] {
            // The application calls itself by its pod or service address: through the proxy, as any other caller.
            let _ = writeln!(
                out,
                "-A SEKISHO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp -m owner {owner} -j SEKISHO_IN_REDIRECT"
            );
            let _ = writeln!(out, "-A SEKISHO_OUTPUT -o lo -m owner ! {owner} -j RETURN");
            let _ = writeln!(out, "-A SEKISHO_OUTPUT -m owner {owner} -j RETURN");
        }
        let _ = writeln!(out, "-A SEKISHO_OUTPUT -d 127.0.0.1/32 -j RETURN");
        for port in &self.exclude_outbound_ports {
            let _ = writeln!(out, "-A SEKISHO_OUTPUT -p tcp --dport {port} -j RETURN");
        }
        for cidr in &self.exclude_outbound_cidrs {
            let _ = writeln!(out, "-A SEKISHO_OUTPUT -d {cidr} -j RETURN");
        }
        let _ = writeln!(out, "-A SEKISHO_OUTPUT -p tcp -j SEKISHO_REDIRECT");
        out.push_str("-A PREROUTING -p tcp -j SEKISHO_INBOUND\n-A OUTPUT -p tcp -j SEKISHO_OUTPUT\nCOMMIT\n");
        out
    }

    /// Input for `ip6tables-restore --noflush`: IPv6 TCP and UDP dropped, except loopback.
    #[must_use]
    pub fn ipv6(&self) -> String {
        format!(
            "*filter\n:{DROP_CHAIN} - [0:0]\n\
             -A {DROP_CHAIN} -i lo -j RETURN\n-A {DROP_CHAIN} -o lo -j RETURN\n\
             -A {DROP_CHAIN} -p tcp -j DROP\n-A {DROP_CHAIN} -p udp -j DROP\n\
             -A INPUT -j {DROP_CHAIN}\n-A OUTPUT -j {DROP_CHAIN}\n-A FORWARD -j {DROP_CHAIN}\nCOMMIT\n"
        )
    }

    /// Checks what would otherwise fail in the middle of the installation.
    ///
    /// # Errors
    /// A sentence that says which option is wrong.
    pub fn check(&self) -> Result<(), String> {
        for cidr in &self.exclude_outbound_cidrs {
            policy::Cidr::parse(cidr).map_err(|error| format!("--exclude-outbound-cidrs: {cidr}: {error}"))?;
        }
        if self.inbound_port == self.outbound_port {
            return Err("--inbound-port and --outbound-port are the same".to_owned());
        }
        if self.uid == 0 {
            // Everything that root runs would pass by the proxy, and in many pods that is the application.
            return Err(
                "--uid 0: the proxy must not run as root, because its user is exempt from the redirect".to_owned()
            );
        }
        Ok(())
    }
}

/// Commands that take the rules away again, for each program; each may fail when its part is not there.
#[must_use]
pub fn removal() -> Vec<(&'static str, Vec<String>)> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut commands = vec![
        ("iptables", words("-w -t nat -D PREROUTING -p tcp -j SEKISHO_INBOUND")),
        ("iptables", words("-w -t nat -D OUTPUT -p tcp -j SEKISHO_OUTPUT")),
    ];
    for chain in NAT_CHAINS {
        commands.push(("iptables", words(&format!("-w -t nat -F {chain}"))));
    }
    for chain in NAT_CHAINS {
        commands.push(("iptables", words(&format!("-w -t nat -X {chain}"))));
    }
    for hook in ["INPUT", "OUTPUT", "FORWARD"] {
        commands.push(("ip6tables", words(&format!("-w -t filter -D {hook} -j {DROP_CHAIN}"))));
    }
    commands.push(("ip6tables", words(&format!("-w -t filter -F {DROP_CHAIN}"))));
    commands.push(("ip6tables", words(&format!("-w -t filter -X {DROP_CHAIN}"))));
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_exempt_before_anything_is_redirected_outwards() {
        let rules = Options::default().ipv4();
        let at = |needle: &str| rules.find(needle).unwrap_or(usize::MAX);
        assert!(at("-s 127.0.0.6/32 -j RETURN") < at("--uid-owner 1337 -j SEKISHO_IN_REDIRECT"));
        assert!(at("-m owner --uid-owner 1337 -j RETURN") < at("-A SEKISHO_OUTPUT -p tcp -j SEKISHO_REDIRECT"));
        assert!(at("-A SEKISHO_INBOUND -p tcp --dport 15021") < at("-A SEKISHO_INBOUND -p tcp -j SEKISHO_IN_REDIRECT"));
    }

    #[test]
    fn bad_options_are_refused_before_anything_is_changed() {
        let bad = Options { exclude_outbound_cidrs: vec!["10.0.0.0/33".into()], ..Options::default() };
        assert!(bad.check().is_err());
        assert!(Options { uid: 0, ..Options::default() }.check().is_err());
        assert!(Options::default().check().is_ok());
    }
}
