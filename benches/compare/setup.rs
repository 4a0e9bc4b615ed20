//! The files of a sidecar, from the templates in `setup/`.
//!
//! Words between @ signs are replaced. Lines between `# for each service` or `# for each rule` and `# end` are repeated,
//! with @SERVICE@ (a DNS name) or @RULE@ (a number) in each copy; lines after `# with rules` or `# with a tap` stay only
//! where there are any, those after `# without a tap` where there is none.

use std::net::SocketAddr;

use crate::makes::Make;

/// What a pair is set up for, beyond one service and one rule.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    /// HTTP/2 from the load through both sidecars to the origin.
    pub(crate) h2: bool,
    /// Rules of the callee beside the one for orders.
    pub(crate) rules: usize,
    /// Services of the caller, told apart by `Host`; 0 is one service behind a listener of its own.
    pub(crate) services: usize,
    /// Where the callee's copies go.
    pub(crate) sensor: Option<SocketAddr>,
    /// The form of the copies, and further lines of the tap's table.
    pub(crate) tap: (&'static str, &'static str),
}

/// The name of a service; the first is the one that is asked for when services are not what is measured.
pub(crate) fn service(index: usize) -> String {
    if index == 0 { HOST.into() } else { format!("orders{index}.shop.svc") }
}

/// The name that callers use.
pub(crate) const HOST: &str = "orders.shop.svc";

/// A file's text and the ending of its name. `addresses` are those of this one sidecar.
pub(crate) fn file(make: Make, side: &str, shape: Shape, addresses: &[(&str, SocketAddr)]) -> (String, &'static str) {
    let (template, ending) = template(make, side);
    let mut text = repeated(template, "# for each service", shape.services.max(1), |lines, index| {
        lines.replace("@SERVICE@", &service(index))
    });
    text = repeated(&text, "# for each rule", shape.rules, |lines, index| lines.replace("@RULE@", &index.to_string()));
    text = repeated(&text, "# with rules", shape.rules.min(1), |lines, _| lines.to_owned());
    text = repeated(&text, "# with a tap", usize::from(shape.sensor.is_some()), |lines, _| lines.to_owned());
    text = repeated(&text, "# without a tap", usize::from(shape.sensor.is_none()), |lines, _| lines.to_owned());
    let many = usize::from(shape.services > 0);
    text = repeated(&text, "# with many services", many, |lines, _| lines.to_owned());
    text = repeated(&text, "# with one service", 1 - many, |lines, _| lines.to_owned());
    for (word, value) in words(make, shape) {
        text = text.replace(&format!("@{word}@"), &value);
    }
    for (word, address) in addresses {
        text = text.replace(&format!("@{word}@"), &address.to_string());
        text = text.replace(&format!("@{word}_PORT@"), &address.port().to_string());
    }
    let left =
        text.lines().find(|line| line.contains('@') && !line.trim_start().starts_with("# ") && !line.contains("@type"));
    assert!(left.is_none(), "{} {side}: nothing to fill into {left:?}", make.name());
    (text, ending)
}

fn words(make: Make, shape: Shape) -> Vec<(&'static str, String)> {
    let between_h2 = shape.h2 || make == Make::EnvoyH2;
    let envoy = |h2: bool| if h2 { "http2_protocol_options" } else { "http_protocol_options" }.to_owned();
    let haproxy = |h2: bool| if h2 { "proto h2" } else { "" }.to_owned();
    vec![
        ("ALPN", if between_h2 { "h2" } else { "http/1.1" }.to_owned()),
        ("UPSTREAM_PROTOCOL", envoy(between_h2)),
        ("APP_PROTOCOL", envoy(shape.h2)),
        ("PROTO", haproxy(shape.h2)),
        ("SENSOR", shape.sensor.map(|sensor| shape.tap.0.replace("ADDRESS", &sensor.to_string())).unwrap_or_default()),
        ("SENSOR_PORT", shape.sensor.map(|sensor| sensor.port().to_string()).unwrap_or_default()),
        ("TAP_LINES", shape.tap.1.to_owned()),
    ]
}

/// Replaces each part from a line `mark` to the next line `# end` by `count` copies of it.
fn repeated(text: &str, mark: &str, count: usize, copy: impl Fn(&str, usize) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut part: Option<String> = None;
    for line in text.lines() {
        match &mut part {
            None if line.trim() == mark => part = Some(String::new()),
            Some(lines) if line.trim() == "# end" => {
                out.extend((0..count).map(|index| copy(lines, index)));
                part = None;
            }
            Some(lines) => lines.extend([line, "\n"]),
            None => out.extend([line, "\n"]),
        }
    }
    assert!(part.is_none(), "no # end after {mark}");
    out
}

fn template(make: Make, side: &str) -> (&'static str, &'static str) {
    match (make, side == "caller") {
        (Make::Sekisho, true) => (include_str!("setup/sekisho-caller.toml"), "toml"),
        (Make::Sekisho, false) => (include_str!("setup/sekisho-callee.toml"), "toml"),
        (Make::Envoy | Make::EnvoyH2, true) => (include_str!("setup/envoy-caller.yaml"), "yaml"),
        (Make::Envoy | Make::EnvoyH2, false) => (include_str!("setup/envoy-callee.yaml"), "yaml"),
        (Make::Haproxy, true) => (include_str!("setup/haproxy-caller.cfg"), "cfg"),
        (Make::Haproxy, false) => (include_str!("setup/haproxy-callee.cfg"), "cfg"),
        (Make::Nginx, true) => (include_str!("setup/nginx-caller.conf"), "conf"),
        (Make::Nginx, false) => (include_str!("setup/nginx-callee.conf"), "conf"),
    }
}
