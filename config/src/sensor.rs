//! The URL of a sensor: from `to_sensor` to a checked [`Sensor`]. A part that the scheme has no use for is an error.

use crate::codes;
use crate::names::Names;
use crate::problem::Notebook;
use crate::reader::{Text, checked};
use crate::suggest;
use crate::tap_settings::Sensor;
use crate::values;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Reads the URL. `None` only when a problem was noted.
pub(crate) fn read(text: &Text<'_>, names: &Names, notes: &mut Notebook) -> Option<Sensor> {
    let (scheme, rest) = text.value.split_once(':').unwrap_or((text.value, ""));
    let Some(example) = EXAMPLES.iter().find(|(known, _)| *known == scheme).map(|(_, example)| *example) else {
        unknown(text, scheme, notes);
        return None;
    };
    if text.value == "json:stdout" {
        return Some(Sensor::JsonStdout);
    }
    let Some(rest) = rest.strip_prefix("//") else {
        refuse(notes, text.span.clone(), format!("`{}` is not a sensor", text.value), example);
        return None;
    };
    let mut url = Url::split(text, rest, example, notes)?;
    let sensor = match scheme {
        "vxlan" => vxlan(&mut url, notes),
        "pcap" => url.host(PCAP_PORT, notes).map(|(host, port)| Sensor::Pcap { host, port }),
        "pcap-listen" => url.listen(notes).map(|address| Sensor::PcapListen { address }),
        "pcap+mtls" => mtls(&mut url, names, notes),
        "pcapng" => pcapng(&mut url, notes),
        "shadow" => url.host(HTTP_PORT, notes).map(|(host, port)| Sensor::Shadow { host, port }),
        "json" => url.path(notes).map(|path| Sensor::JsonFile { path: path.into() }),
        _ => url.host(SYSLOG_PORT, notes).map(|(host, port)| Sensor::Syslog { host, port }),
    };
    url.no_more_parameters(notes)?;
    sensor
}

/// Where the sensor is, if it is reached in the clear and not on this host.
pub(crate) fn crosses_unencrypted(sensor: &Sensor) -> bool {
    match sensor {
        Sensor::PcapMtls { .. } => false,
        Sensor::PcapListen { address } => !address.ip().to_canonical().is_loopback(),
        other => other.remote().is_some_and(|(host, _)| !is_local(host)),
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn unknown(text: &Text<'_>, scheme: &str, notes: &mut Notebook) {
    let place = text.part(notes, 0, scheme.len());
    if LATER.contains(&scheme) {
        let message = format!("the sensor scheme `{scheme}` is not yet supported");
        notes.error(&codes::LATER, place, message).help(EVERY);
        return;
    }
    let near = suggest::nearest(scheme, EXAMPLES.iter().map(|(known, _)| *known));
    let problem = notes.error(&codes::BAD_VALUE, place, format!("`{}` is not a sensor", text.value));
    match near.and_then(|near| EXAMPLES.iter().find(|(known, _)| *known == near)) {
        Some((_, example)) => problem.help(format!("did you mean `{example}`?")),
        None => problem.help(EVERY),
    };
}

fn vxlan(url: &mut Url<'_, '_>, notes: &mut Notebook) -> Option<Sensor> {
    let vni = url.required("vni", notes).and_then(|digits| {
        // 24 bits (RFC 7348 §5).
        let number = plain_number(digits.value).filter(|n| *n < 1 << 24);
        let message = || format!("`{}` is not a VNI, 0 to 16777215", digits.value);
        url.found(number, &digits, message, notes)
    });
    let (host, port) = url.host(VXLAN_PORT, notes)?;
    Some(Sensor::Vxlan { host, port, vni: vni? })
}

fn mtls(url: &mut Url<'_, '_>, names: &Names, notes: &mut Notebook) -> Option<Sensor> {
    let id = url.required("id", notes).and_then(|id| names.exact(&id, "id", notes));
    let (host, port) = url.host(PCAP_PORT, notes)?;
    Some(Sensor::PcapMtls { host, port, id: id? })
}

fn pcapng(url: &mut Url<'_, '_>, notes: &mut Notebook) -> Option<Sensor> {
    let size = match url.take("size", notes) {
        Some(size) => checked(values::size(size.value), size.span, notes),
        None => Some(RING_SIZE),
    };
    let files = match url.take("files", notes) {
        Some(digits) => {
            let number = plain_number(digits.value).filter(|n| (2..=MOST_FILES).contains(n));
            let message = || format!("`{}` is not a number of files, 2 to {MOST_FILES}", digits.value);
            url.found(number, &digits, message, notes)
        }
        None => Some(RING_FILES),
    };
    let folder = url.path(notes)?;
    Some(Sensor::Pcapng { folder: folder.into(), size: size?, files: files? })
}

fn plain_number(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn refuse(notes: &mut Notebook, place: Range<usize>, message: impl AsRef<str>, example: &str) {
    notes.error(&codes::BAD_VALUE, place, message).help(format!("write it as `{example}`"));
}

/// What stands behind `scheme://`.
struct Url<'t, 'a> {
    text: &'t Text<'a>,
    example: &'static str,
    authority: &'a str,
    /// From its first `/`, or empty.
    path: &'a str,
    /// Those not taken yet.
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'t, 'a> Url<'t, 'a> {
    fn split(text: &'t Text<'a>, rest: &'a str, example: &'static str, notes: &mut Notebook) -> Option<Self> {
        if let Some(odd) = rest.char_indices().find(|(_, c)| c.is_control() || c.is_whitespace() || *c == '#') {
            let place = text.part(notes, text.value.len() - rest.len() + odd.0, odd.1.len_utf8());
            refuse(notes, place, "this character has no place in the URL of a sensor", example);
            return None;
        }
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = before.split_at(before.find('/').unwrap_or(before.len()));
        let mut url = Self { text, example, authority, path, parameters: Vec::new() };
        for part in query.split('&').filter(|_| rest.len() > before.len()) {
            let Some((name, value)) =
                part.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty())
            else {
                let place = url.place(part, notes);
                refuse(notes, place, format!("`{part}` is not `name=value`"), example);
                return None;
            };
            if url.parameters.iter().any(|(known, _)| *known == name) {
                let place = url.place(part, notes);
                refuse(notes, place, format!("`{name}` is there twice"), example);
                return None;
            }
            url.parameters.push((name, value));
        }
        Some(url)
    }

    /// The place of a part of the text; the whole text for an empty one.
    fn place(&self, part: &str, notes: &Notebook) -> Range<usize> {
        let offset = (part.as_ptr() as usize).checked_sub(self.text.value.as_ptr() as usize);
        match offset.filter(|offset| !part.is_empty() && offset + part.len() <= self.text.value.len()) {
            Some(offset) => self.text.part(notes, offset, part.len()),
            None => self.text.span.clone(),
        }
    }

    fn take(&mut self, name: &str, notes: &Notebook) -> Option<Text<'a>> {
        let at = self.parameters.iter().position(|(known, _)| *known == name)?;
        let (_, value) = self.parameters.remove(at);
        Some(Text { value, span: self.place(value, notes) })
    }

    fn required(&mut self, name: &str, notes: &mut Notebook) -> Option<Text<'a>> {
        let found = self.take(name, notes);
        if found.is_none() {
            refuse(notes, self.text.span.clone(), format!("`{name}` is missing"), self.example);
        }
        found
    }

    fn found<T>(
        &self,
        value: Option<T>,
        text: &Text<'_>,
        message: impl FnOnce() -> String,
        notes: &mut Notebook,
    ) -> Option<T> {
        if value.is_none() {
            refuse(notes, text.span.clone(), message(), self.example);
        }
        value
    }

    fn no_more_parameters(&self, notes: &mut Notebook) -> Option<()> {
        let Some((name, _)) = self.parameters.first() else {
            return Some(());
        };
        let place = self.place(name, notes);
        refuse(notes, place, format!("`{name}` is not a parameter of this sensor"), self.example);
        None
    }

    /// A name or an address, without the brackets of a URL, and a port.
    fn host(&self, default: u16, notes: &mut Notebook) -> Option<(String, u16)> {
        if !self.path.is_empty() {
            refuse(notes, self.place(self.path, notes), "this sensor has no path", self.example);
            return None;
        }
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, values::port_number(port)),
            _ => (self.authority, Ok(default)),
        };
        match (values::host_name(host), port) {
            (Ok(host), Ok(port)) => {
                let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).map(str::to_owned);
                Some((bare.unwrap_or(host), port))
            }
            (Err(bad), _) | (_, Err(bad)) => {
                refuse(notes, self.place(self.authority, notes), bad.message, self.example);
                None
            }
        }
    }

    /// An address to listen on.
    fn listen(&self, notes: &mut Notebook) -> Option<SocketAddr> {
        let (host, port) = self.host(PCAP_PORT, notes)?;
        let address = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        if address.is_none() {
            let message = format!("`{host}` is not an address to listen on");
            refuse(notes, self.place(self.authority, notes), message, self.example);
        }
        address
    }

    /// A path of this host, from its root.
    fn path(&self, notes: &mut Notebook) -> Option<&'a str> {
        if !self.authority.is_empty() {
            let message = "a file has no host: three slashes stand before its path";
            refuse(notes, self.place(self.authority, notes), message, self.example);
            return None;
        }
        if self.path.len() < 2 {
            refuse(notes, self.text.span.clone(), "the path is missing", self.example);
            return None;
        }
        Some(self.path)
    }
}

/// Every scheme with an example.
const EXAMPLES: [(&str, &str); 8] = [
    ("vxlan", "vxlan://host:4789?vni=N"),
    ("pcap", "pcap://host:57012"),
    ("pcap-listen", "pcap-listen://127.0.0.1:57012"),
    ("pcap+mtls", "pcap+mtls://host:57012?id=namespace/service-account"),
    ("pcapng", "pcapng:///var/run/tap?size=64MiB&files=8"),
    ("shadow", "shadow://host:port"),
    ("json", "json:stdout` or `json:///var/log/tap.json"),
    ("syslog+udp", "syslog+udp://host:514"),
];

const EVERY: &str = "the sensors are `vxlan`, `pcap`, `pcap-listen`, `pcap+mtls`, `pcapng`, `shadow`, `json` and \
                     `syslog+udp`, for example `vxlan://host:4789?vni=N`";

/// Schemes of the rule language that this version refuses by name.
const LATER: [&str; 5] = ["syslog+tcp", "otlp", "geneve", "file", "pcap+file"];

/// IANA's port for VXLAN (RFC 7348 §5).
const VXLAN_PORT: u16 = 4789;
/// What tools that serve pcap over TCP have agreed on.
const PCAP_PORT: u16 = 57012;
/// RFC 5426 §3.3.
const SYSLOG_PORT: u16 = 514;
const HTTP_PORT: u16 = 80;
const RING_SIZE: u64 = 64 << 20;
const RING_FILES: u32 = 8;
const MOST_FILES: u32 = 10_000;
