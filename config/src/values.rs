//! Values with a grammar of their own: durations, sizes, rates, addresses, `host:port`, names.

use crate::snapshot::Endpoint;
use crate::tap_settings::Extent;
use policy::HostPattern;
use std::net::SocketAddr;
use std::time::Duration;

/// Why a value cannot be read, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadValue {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

fn bad(message: impl Into<String>) -> BadValue {
    BadValue { message: message.into(), help: None }
}

fn bad_help(message: impl Into<String>, help: impl Into<String>) -> BadValue {
    BadValue { message: message.into(), help: Some(help.into()) }
}

/// A whole number with a unit, `500ms` to `365d`, never zero.
pub(crate) fn duration(text: &str) -> Result<Duration, BadValue> {
    const HELP: &str = "write a whole number and a unit: `500ms`, `10s`, `5m`, `1h` or `1d`";
    const LONGEST: Duration = Duration::from_secs(365 * 86_400);
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad_help(format!("`{text}` is not a duration"), HELP)),
    };
    if digits.is_empty() {
        return Err(bad_help(format!("`{text}` is not a duration"), HELP));
    }
    let duration = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(millis)).map(Duration::from_millis);
    match duration.filter(|d| *d <= LONGEST) {
        None => Err(bad("a duration is at most 365 days")),
        Some(Duration::ZERO) => Err(bad("a duration is more than zero")),
        Some(duration) => Ok(duration),
    }
}

/// A whole number of bytes with a unit, `64KiB` to `1024GiB`.
pub(crate) fn size(text: &str) -> Result<u64, BadValue> {
    const LEAST: u64 = 64 << 10;
    const MOST: u64 = 1024 << 30;
    match bytes(text)?.filter(|size| (LEAST..=MOST).contains(size)) {
        None => Err(bad("a size is at least 64KiB and at most 1024GiB")),
        Some(size) => Ok(size),
    }
}

/// `all`, `none`, or `first` and a size of 1KiB to 1GiB.
pub(crate) fn extent(text: &str) -> Result<Extent, BadValue> {
    const HELP: &str = "write `all`, `none`, or how much from the start: `first 128KiB`";
    match text {
        "all" => return Ok(Extent::All),
        "none" => return Ok(Extent::None),
        _ => {}
    }
    let Some(size) = text.strip_prefix("first ") else {
        return Err(bad_help(format!("`{text}` is not an amount"), HELP));
    };
    match bytes(size)?.filter(|size| (1 << 10..=1 << 30).contains(size)) {
        None => Err(bad_help("the first part is at least 1KiB and at most 1GiB", HELP)),
        Some(size) => Ok(Extent::First(size)),
    }
}

/// A whole number of bits per second with a unit, `8kbit/s` to `1000Gbit/s`, as bytes per second.
pub(crate) fn rate(text: &str) -> Result<u64, BadValue> {
    const HELP: &str = "write a whole number and a unit: `500kbit/s`, `200Mbit/s` or `1Gbit/s`";
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let bytes: u64 = match unit {
        "kbit/s" => 125,
        "Mbit/s" => 125_000,
        "Gbit/s" => 125_000_000,
        _ => return Err(bad_help(format!("`{text}` is not a rate"), HELP)),
    };
    if digits.is_empty() {
        return Err(bad_help(format!("`{text}` is not a rate"), HELP));
    }
    let rate = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(bytes));
    match rate.filter(|rate| (1_000..=125_000_000_000).contains(rate)) {
        None => Err(bad("a rate is at least 8kbit/s and at most 1000Gbit/s")),
        Some(rate) => Ok(rate),
    }
}

/// A whole number of bytes with a unit; `None`: more than a number holds.
fn bytes(text: &str) -> Result<Option<u64>, BadValue> {
    const HELP: &str = "write a whole number and a unit: `512KiB`, `64MiB` or `1GiB`";
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let unit: u64 = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(bad_help(format!("`{text}` is not a size"), HELP)),
    };
    if digits.is_empty() {
        return Err(bad_help(format!("`{text}` is not a size"), HELP));
    }
    Ok(digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)))
}

/// `ip:port`, the port not 0.
pub(crate) fn address(text: &str) -> Result<SocketAddr, BadValue> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(bad("port 0 is not an address")) } else { Ok(address) };
    }
    let message = format!("`{text}` is not an address");
    Err(match text.rsplit_once(':') {
        Some(("", port)) => {
            bad_help(message, format!("write `0.0.0.0:{port}` and `[::]:{port}` for every local address"))
        }
        Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
            bad_help(message, format!("an IPv6 address stands in brackets: `[{host}]:{port}`"))
        }
        Some(("localhost", port)) => bad_help(message, format!("write `127.0.0.1:{port}`")),
        Some(_) if text.parse::<std::net::IpAddr>().is_err() => {
            bad_help(message, "an address is `ip:port`, with a port from 1 to 65535")
        }
        _ => bad_help(message, "the port is missing: an address is `ip:port`"),
    })
}

/// `host:port` with a name or an address.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, BadValue> {
    if text.parse::<SocketAddr>().is_ok() || text.starts_with('[') {
        return address(text).map(Endpoint::Socket);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(bad_help(format!("`{text}` has no port"), format!("write `{text}:PORT`")));
    };
    let port = port_number(port)?;
    Ok(Endpoint::Name { host: host_name(host)?, port })
}

/// 1 to 65535 in plain digits.
pub(crate) fn port_number(digits: &str) -> Result<u16, BadValue> {
    let plain = !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse::<u16>().ok().filter(|p| plain && *p != 0) {
        Some(port) => Ok(port),
        None => Err(bad(format!("`{digits}` is not a port, 1 to 65535"))),
    }
}

/// One host in canonical form.
pub(crate) fn host_name(text: &str) -> Result<String, BadValue> {
    let pattern = HostPattern::parse(text).map_err(|e| BadValue { message: e.message, help: e.help })?;
    pattern.exact().map(str::to_owned).ok_or_else(|| bad("a host is named in full here, without `*`"))
}

/// What rules, services and taps may be called.
pub(crate) fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(duration("1d").unwrap(), Duration::from_secs(86_400));
        for text in ["", "10", "s", "0s", "1.5s", "-1s", "10 s", "1m30s", "1w", "99999999999999999999s", "366d", "+1s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_a_number_and_a_unit() {
        assert_eq!(size("64KiB").unwrap(), 65_536);
        assert_eq!(size("64MiB").unwrap(), 67_108_864);
        assert_eq!(size("1GiB").unwrap(), 1 << 30);
        for text in
            ["", "64", "MiB", "0MiB", "1KiB", "1.5GiB", "-1MiB", "64 MiB", "64MB", "64M", "99999999999GiB", "+64MiB"]
        {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn extents_are_all_none_or_a_start() {
        assert_eq!((extent("all").unwrap(), extent("none").unwrap()), (Extent::All, Extent::None));
        assert_eq!(extent("first 2KiB").unwrap(), Extent::First(2048));
        for text in ["", "ALL", "2KiB", "first", "first 0KiB", "first  2KiB", "first 2", "first 2GiB", "last 2KiB"] {
            assert!(extent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_bits_in_and_bytes_out() {
        assert_eq!(rate("8kbit/s").unwrap(), 1_000);
        assert_eq!(rate("200Mbit/s").unwrap(), 25_000_000);
        assert_eq!(rate("1Gbit/s").unwrap(), 125_000_000);
        for text in ["", "7kbit/s", "200", "Mbit/s", "200MBit/s", "200Mbit", "1.5Mbit/s", "1001Gbit/s", "-1Mbit/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_numbers_and_the_help_says_what_to_write() {
        assert!(address("127.0.0.1:80").is_ok() && address("[::1]:80").is_ok());
        for (text, help) in [
            (":80", "`0.0.0.0:80`"),
            ("::1:80", "`[::1]:80`"),
            ("localhost:80", "`127.0.0.1:80`"),
            ("orders:80", "`ip:port`"),
            ("127.0.0.1", "`ip:port`"),
            ("127.0.0.1:65536", "1 to 65535"),
        ] {
            assert!(address(text).unwrap_err().help.unwrap().contains(help), "{text}");
        }
        assert!(address("127.0.0.1:0").is_err());
    }

    #[test]
    fn endpoints_are_addresses_or_canonical_names() {
        assert_eq!(endpoint("10.0.0.1:80").unwrap(), Endpoint::Socket("10.0.0.1:80".parse().unwrap()));
        assert_eq!(endpoint("Orders.Shop.:80").unwrap(), Endpoint::Name { host: "orders.shop".into(), port: 80 });
        for text in [
            "orders",
            "orders:",
            "orders:0",
            "orders:http",
            "*.shop:80",
            "a b:80",
            ":80",
            "[::1]",
            "http://a:80",
            "a:+80",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }
}
