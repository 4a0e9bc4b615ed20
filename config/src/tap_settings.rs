//! What a checked `[[tap]]` says: where the copy goes, what of the traffic is copied, and how much of it.

use identity::SpiffeId;
use policy::{HostPattern, IdPattern, RequestPattern};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[[tap]]`: a decrypted copy of the traffic for a sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapSettings {
    /// Its name, unique.
    pub name: String,
    /// Where the copy goes, and in which form.
    pub sensor: Sensor,
    /// The operator accepts that the copy crosses the network unencrypted.
    pub allow_plaintext: bool,
    /// What is copied.
    pub select: TapSelection,
    /// How much of each body.
    pub body: Extent,
    /// How much of each direction of a stream: WebSocket, CONNECT, opaque TCP.
    pub stream: Extent,
    /// Bytes that may be admitted per second; `None`: no limit.
    pub rate_cap: Option<u64>,
    /// Bytes that copies in the making and in the queue may hold.
    pub queue: u64,
    /// The largest IP packet of the copy, in bytes, 576 to 65535.
    pub mtu: u16,
    /// The port the copy shows for the server, instead of its own.
    pub port: Option<u16>,
    /// The 802.1Q tag of the frames, 1 to 4094.
    pub vlan: Option<u16>,
    /// How HTTP is written in packets.
    pub http: TapHttp,
    /// What is masked besides the defaults.
    pub redact: Vec<Redaction>,
    /// Which defaults are not masked.
    pub pass: Vec<Redaction>,
}

impl TapSettings {
    /// Whether the same tap can go on under `other`: what it is told at its start is the same, though another part of the
    /// traffic may be selected.
    #[must_use]
    pub fn runs_on_as(&self, other: &Self) -> bool {
        let Self { name, sensor, allow_plaintext: _, select: _, body: _, stream: _, rate_cap, queue, .. } = self;
        let Self { mtu, port, vlan, http, redact, pass, .. } = self;
        (name, sensor, rate_cap, queue) == (&other.name, &other.sensor, &other.rate_cap, &other.queue)
            && (mtu, port, vlan, http) == (&other.mtu, &other.port, &other.vlan, &other.http)
            && (redact, pass) == (&other.redact, &other.pass)
    }
}

/// How HTTP is written in packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TapHttp {
    /// As HTTP/1.1, whatever it was.
    #[default]
    Http1,
    /// What was HTTP/2 as an HTTP/2 connection for each exchange; the rest as HTTP/1.1.
    H2c,
}

/// Where a copy goes, and in which form. Hosts are names, or addresses without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sensor {
    /// `vxlan://`: Ethernet frames in UDP datagrams (RFC 7348).
    Vxlan {
        /// Name or address.
        host: String,
        /// UDP port.
        port: u16,
        /// The VXLAN network identifier, 24 bits.
        vni: u32,
    },
    /// `pcap://`: a pcap stream over TCP; we dial.
    Pcap {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `pcap-listen://`: a pcap stream for each that dials us.
    PcapListen {
        /// Where we listen.
        address: SocketAddr,
    },
    /// `pcap+mtls://`: a pcap stream over mutual TLS; we dial.
    PcapMtls {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// The only identity accepted there.
        id: SpiffeId,
    },
    /// `pcapng://`: a ring of files.
    Pcapng {
        /// Where they lie.
        folder: PathBuf,
        /// Bytes after which the next file begins.
        size: u64,
        /// How many files are kept.
        files: u32,
    },
    /// `shadow://`: requests alone, as Envoy mirrors them.
    Shadow {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `json:stdout`: a line of JSON each, on standard output.
    JsonStdout,
    /// `json://`: a line of JSON each, appended to a file.
    JsonFile {
        /// The file.
        path: PathBuf,
    },
    /// `syslog+udp://`: a line of JSON each, as RFC 5424 messages.
    Syslog {
        /// Name or address.
        host: String,
        /// UDP port.
        port: u16,
    },
}

/// The three kinds of taps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TapKind {
    /// Ethernet frames.
    Frames,
    /// JSON records.
    Records,
    /// Requests, sent again.
    Requests,
}

impl Sensor {
    /// What it takes.
    #[must_use]
    pub fn kind(&self) -> TapKind {
        match self {
            Self::Vxlan { .. }
            | Self::Pcap { .. }
            | Self::PcapListen { .. }
            | Self::PcapMtls { .. }
            | Self::Pcapng { .. } => TapKind::Frames,
            Self::JsonStdout | Self::JsonFile { .. } | Self::Syslog { .. } => TapKind::Records,
            Self::Shadow { .. } => TapKind::Requests,
        }
    }

    /// The scheme of its URL.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Vxlan { .. } => "vxlan",
            Self::Pcap { .. } => "pcap",
            Self::PcapListen { .. } => "pcap-listen",
            Self::PcapMtls { .. } => "pcap+mtls",
            Self::Pcapng { .. } => "pcapng",
            Self::Shadow { .. } => "shadow",
            Self::JsonStdout | Self::JsonFile { .. } => "json",
            Self::Syslog { .. } => "syslog+udp",
        }
    }

    /// The host and port that are dialled or sent to; `None` where nothing is.
    #[must_use]
    pub fn remote(&self) -> Option<(&str, u16)> {
        match self {
            Self::Vxlan { host, port, .. }
            | Self::Pcap { host, port }
            | Self::PcapMtls { host, port, .. }
            | Self::Shadow { host, port }
            | Self::Syslog { host, port } => Some((host, *port)),
            Self::PcapListen { .. } | Self::Pcapng { .. } | Self::JsonStdout | Self::JsonFile { .. } => None,
        }
    }
}

/// Which part of the traffic a tap copies: the AND of the keys, OR within each. An empty list is a key not written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TapSelection {
    /// Which side of this sidecar.
    pub direction: TapDirection,
    /// Who calls.
    pub from: Vec<IdPattern>,
    /// Who is called.
    pub to: Vec<IdPattern>,
    /// Operations.
    pub requests: Vec<RequestPattern>,
    /// Hosts asked for.
    pub hosts: Vec<HostPattern>,
    /// Of the application inbound, of the destination outbound.
    pub ports: Vec<u16>,
    /// Names of rules, one of which decided.
    pub rules: Vec<String>,
    /// What was decided.
    pub verdicts: Vec<TapVerdict>,
    /// The status of the response.
    pub status: Vec<StatusPattern>,
    /// Which share of the connections.
    pub sample: Sample,
}

/// Which side of a sidecar a tap looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TapDirection {
    /// What others ask of the workload.
    #[default]
    Inbound,
    /// What the workload asks of others.
    Outbound,
    /// Either.
    Both,
}

impl TapDirection {
    /// Whether the traffic of this direction is meant.
    #[must_use]
    pub fn covers(self, direction: policy::Direction) -> bool {
        match self {
            Self::Both => true,
            Self::Inbound => direction == policy::Direction::Inbound,
            Self::Outbound => direction == policy::Direction::Outbound,
        }
    }
}

/// What the rules said of a request or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TapVerdict {
    /// Allowed.
    Allow,
    /// Refused, by the rules or because it has no canonical reading.
    Deny,
    /// Let through with `mode = "observe"`, but the rules do not allow it.
    ShadowDeny,
}

/// `404`, or `5xx` for 500 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusPattern {
    first: u16,
    last: u16,
}

impl StatusPattern {
    /// Reads three digits, or one and `xx`. The first is 1 to 5 (RFC 9110 §15).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.split_at_checked(1)?;
        let class = first.parse::<u16>().ok().filter(|class| (1..=5).contains(class))?.checked_mul(100)?;
        if rest == "xx" {
            return Some(Self { first: class, last: class.checked_add(99)? });
        }
        let digits = rest.len() == 2 && rest.bytes().all(|b| b.is_ascii_digit());
        let status = class.checked_add(rest.parse::<u16>().ok().filter(|_| digits)?)?;
        Some(Self { first: status, last: status })
    }

    /// Whether the status is meant.
    #[must_use]
    pub fn matches(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

/// A share of the connections, chosen by a hash of each so that every sidecar and every tap chooses the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sample {
    /// `None`: all.
    below: Option<u64>,
}

impl Default for Sample {
    fn default() -> Self {
        Self::ALL
    }
}

impl Sample {
    /// Every connection.
    pub const ALL: Self = Self { below: None };

    /// A share above 0 and at most 1.
    #[must_use]
    pub fn of(share: f64) -> Option<Self> {
        if !(share > 0.0 && share <= 1.0) {
            return None;
        }
        // The product of a share below 1 and 2^64 is below 2^64, so the conversion cuts nothing but the fraction.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let below = (share * 18_446_744_073_709_551_616.0) as u64;
        Some(if share < 1.0 { Self { below: Some(below) } } else { Self::ALL })
    }

    /// Whether every connection is in it, so that no hash need be made.
    #[must_use]
    pub fn is_all(self) -> bool {
        self.below.is_none()
    }

    /// Whether a connection with this hash is in it.
    #[must_use]
    pub fn takes(self, hash: u64) -> bool {
        self.below.is_none_or(|below| hash < below)
    }
}

/// How much of a body or of a stream is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// As much as fits into the queue.
    All,
    /// Nothing.
    None,
    /// So many bytes from the start.
    First(u64),
}

impl Extent {
    /// The same as a number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::None => 0,
            Self::First(bytes) => bytes,
        }
    }
}

/// A value that is masked, or is not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Redaction {
    /// A header by its name, in lower case.
    Header(String),
    /// One cookie by its name, in requests and in responses.
    Cookie(String),
    /// A parameter by its name, in queries and in forms.
    Query(String),
    /// A field of a JSON body by its name, at any depth.
    Json(String),
}

impl Redaction {
    /// Reads `name` of a header, `cookie:name`, `query:name` or `json:name`; or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (kind, name) = text.split_once(':').unwrap_or(("", text));
        if name.is_empty() || name.len() > 128 || name.bytes().any(|b| b.is_ascii_control()) {
            return Err("a name is 1 to 128 bytes without control characters");
        }
        let token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        match kind {
            "" if token && text == name => Ok(Self::Header(name.to_ascii_lowercase())),
            "cookie" if token => Ok(Self::Cookie(name.to_owned())),
            "query" => Ok(Self::Query(name.to_owned())),
            "json" => Ok(Self::Json(name.to_owned())),
            "" | "cookie" => Err("the name of a header or of a cookie is a token (RFC 9110 §5.6.2)"),
            _ => Err("it is none of `name` of a header, `cookie:name`, `query:name` and `json:name`"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_three_digits_or_a_class() {
        let server = StatusPattern::parse("5xx").unwrap();
        assert_eq!([499, 500, 599, 600].map(|s| server.matches(s)), [false, true, true, false]);
        let one = StatusPattern::parse("404").unwrap();
        assert_eq!([403, 404, 405].map(|s| one.matches(s)), [false, true, false]);
        for text in ["", "5", "6xx", "0xx", "5XX", "40", "4040", "4x4", "+04", "4+4", "é04"] {
            assert_eq!(StatusPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_share_is_a_part_of_all_hashes() {
        assert!(Sample::of(1.0).unwrap().is_all() && Sample::ALL.takes(u64::MAX));
        let half = Sample::of(0.5).unwrap();
        assert!(half.takes((1 << 63) - 1) && !half.takes(1 << 63) && !half.is_all());
        assert!(Sample::of(f64::MIN_POSITIVE).is_some_and(|least| !least.takes(0)));
        for share in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Sample::of(share), None, "{share}");
        }
    }

    #[test]
    fn what_is_masked_has_a_kind_and_a_name() {
        assert_eq!(Redaction::parse("X-Secret"), Ok(Redaction::Header("x-secret".into())));
        assert_eq!(Redaction::parse("cookie:sid"), Ok(Redaction::Cookie("sid".into())));
        assert_eq!(Redaction::parse("query:a:b"), Ok(Redaction::Query("a:b".into())));
        assert_eq!(Redaction::parse("json:Été"), Ok(Redaction::Json("Été".into())));
        for text in ["", "a b", ":a", "cookie:", "cookie:a b", "body:x", "json:", "query:a\n"] {
            assert!(Redaction::parse(text).is_err(), "{text}");
        }
    }
}
