//! `[[tap]]`: where decrypted copies go.

use crate::codes;
use crate::problem::Notebook;
use crate::reader::{Table, Text};
use crate::schema::TAP;
use crate::services::{check_name, unique};
use crate::snapshot::TapSettings;
use crate::values;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use toml::de::DeTable;

/// IANA's port for VXLAN (RFC 7348 §5).
const VXLAN_PORT: u16 = 4789;

/// Schemes of the contract that this version refuses by name.
const LATER: [&str; 12] = [
    "pcap",
    "pcap-listen",
    "pcap+mtls",
    "pcapng",
    "shadow",
    "json",
    "syslog+udp",
    "syslog+tcp",
    "otlp",
    "geneve",
    "file",
    "pcap+file",
];

/// Reads every `[[tap]]`.
pub(crate) fn read<'a>(tables: Vec<(&'a DeTable<'a>, Range<usize>)>, notes: &mut Notebook) -> Vec<TapSettings> {
    let mut seen = HashMap::new();
    let mut taps = Vec::new();
    for (map, span) in tables {
        let called = match map.get("name").and_then(|v| v.get_ref().as_str()) {
            Some(name) => format!("tap `{name}`"),
            None => TAP.title.to_owned(),
        };
        let table = Table::open(map, span, &TAP, called, notes);
        let name = table.required_text("name", notes);
        if let Some(name) = &name {
            check_name(name, "a tap", notes);
            unique(&mut seen, name.value.to_owned(), name.span.clone(), "tap", notes);
        }
        let allow_plaintext = table.flag("allow_plaintext_tap", notes);
        let sensor = table.required_text("to_sensor", notes).and_then(|text| sensor(&text, notes));
        if let Some(sensor) = &sensor
            && !allow_plaintext
            && !is_local(&sensor.host)
        {
            notes
                .error(
                    &codes::CONFLICT,
                    table.value_span("to_sensor"),
                    format!("{} would cross the network unencrypted", table.called),
                )
                .label("not on this host")
                .help("write `allow_plaintext_tap = true` if that is acceptable, or send to a sensor on this host");
        }
        if let (Some(name), Some(Sensor { host, port, vni })) = (name, sensor) {
            let name = name.value.to_owned();
            taps.push(TapSettings { name, sensor_host: host, sensor_port: port, vni, allow_plaintext });
        }
    }
    taps
}

struct Sensor {
    host: String,
    port: u16,
    vni: u32,
}

/// Reads `vxlan://host:port?vni=N`.
fn sensor(text: &Text<'_>, notes: &mut Notebook) -> Option<Sensor> {
    const EXAMPLE: &str = "a sensor is `vxlan://host:4789?vni=N`";
    let url = text.value;
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    let place = text.part(notes, 0, scheme.len());
    if LATER.contains(&scheme) {
        notes.error(&codes::LATER, place, format!("the sensor scheme `{scheme}` is not yet supported")).help(EXAMPLE);
        return None;
    }
    let Some(rest) = url.strip_prefix("vxlan://") else {
        notes.error(&codes::BAD_VALUE, place, format!("`{url}` is not a sensor")).help(EXAMPLE);
        return None;
    };
    let start = url.len() - rest.len();
    let (authority, query) = match rest.split_once('?') {
        Some((authority, query)) => (authority, query),
        None => (rest, ""),
    };
    let (host, port) = match host_and_port(authority) {
        Ok(found) => found,
        Err(message) => {
            let place = text.part(notes, start, authority.len());
            notes.error(&codes::BAD_VALUE, place, message).help(EXAMPLE);
            return None;
        }
    };
    match vni(query) {
        Ok(vni) => Some(Sensor { host, port, vni }),
        Err(message) => {
            let place = text.part(notes, url.len() - query.len(), query.len());
            notes.error(&codes::BAD_VALUE, place, message).help(EXAMPLE);
            None
        }
    }
}

fn host_and_port(authority: &str) -> Result<(String, u16), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, values::port_number(port).map_err(|e| e.message)?),
        _ => (authority, VXLAN_PORT),
    };
    let host = values::host_name(host).map_err(|e| e.message)?;
    // A socket wants an IPv6 address without the brackets of the URL.
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).map(str::to_owned);
    Ok((bare.unwrap_or(host), port))
}

/// The one parameter, 24 bits (RFC 7348 §5).
fn vni(query: &str) -> Result<u32, String> {
    let Some(digits) = query.strip_prefix("vni=") else {
        return Err(match query {
            "" => "`vni` is missing".to_owned(),
            _ => format!("`{query}` is not `vni=N`"),
        });
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse::<u32>().ok().filter(|n| plain && *n < 1 << 24);
    number.ok_or_else(|| format!("`{digits}` is not a VNI, 0 to 16777215"))
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}
