//! Address ranges: `10.0.0.0/8`, `2001:db8::/32`, or one address without a slash.

use crate::pattern_error::PatternError;
use std::fmt;
use std::net::IpAddr;

/// A range of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Invariant: no bit past `prefix` is set, and it is not an IPv4 address mapped into IPv6.
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Reads `address/prefix`, or an address alone.
    ///
    /// # Errors
    /// Also when bits past the prefix are set: `10.0.0.1/8` is more likely a slip than a range.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = address
            .parse()
            .map_err(|_| PatternError::new(0, address.len(), format!("`{address}` is not an IP address")))?;
        if network.to_canonical() != network {
            return Err(PatternError::new(0, address.len(), "an IPv4 address is written as one")
                .help(format!("write `{}`", network.to_canonical())));
        }
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) => digits
                .parse::<u8>()
                .ok()
                .filter(|p| *p <= bits && !digits.starts_with('+') && (digits == "0" || !digits.starts_with('0')))
                .ok_or_else(|| {
                    PatternError::new(address.len() + 1, digits.len(), format!("a prefix length is 0 to {bits}"))
                })?,
        };
        let masked = mask(network, prefix);
        if masked != network {
            return Err(PatternError::new(0, text.len(), "the address has bits past its prefix")
                .help(format!("write `{masked}/{prefix}` for the range or `{network}` for the one address")));
        }
        Ok(Self { network, prefix })
    }

    /// Whether the range holds an address; an IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.network.is_ipv4() && mask(ip, self.prefix) == self.network
    }

    /// The first address of the range.
    pub(crate) fn network(&self) -> IpAddr {
        self.network
    }

    /// How many bits all addresses of the range share.
    pub(crate) fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// The address with every bit past the prefix cleared.
pub(crate) fn mask(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::Cidr;

    #[test]
    fn a_range_holds_its_first_and_last_address_and_not_the_next() {
        let table = [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "2001:db8::1"]),
            ("192.229.173.207/32", ["192.229.173.207", "::ffff:192.229.173.207"], ["192.229.173.206", "::"]),
            ("2001:db8::/32", ["2001:db8::", "2001:db8:ffff::1"], ["2001:db9::", "10.0.0.1"]),
        ];
        for (range, inside, outside) in table {
            let cidr = Cidr::parse(range).unwrap();
            inside.iter().for_each(|ip| assert!(cidr.contains(ip.parse().unwrap()), "{range} {ip}"));
            outside.iter().for_each(|ip| assert!(!cidr.contains(ip.parse().unwrap()), "{range} {ip}"));
        }
    }

    #[test]
    fn slips_are_refused() {
        for text in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/",
            "10.0.0/8",
            "",
            "::ffff:10.0.0.1",
            "::1/129",
        ] {
            assert!(Cidr::parse(text).is_err(), "{text}");
        }
    }
}
