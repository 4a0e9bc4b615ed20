//! The taps that run for the snapshot in force: started when a file names them, kept over reloads that leave them as they
//! are, stopped when a file no longer has them.

use crate::{live::Current, tap_tls::Secured};
use config::{Extent, Sensor, TapSelection, TapSettings};
use identity::Credentials;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// Running taps, with the settings each was started for.
pub(crate) struct Taps {
    /// In force, for taps that dial over mutual TLS.
    credentials: Arc<Current<Credentials>>,
    running: Vec<(TapSettings, tap::Tap, tap::Running)>,
}

/// How long a tap may take to send what it has when it is stopped.
const STOP: Duration = Duration::from_secs(2);

impl Taps {
    pub(crate) fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials: Arc::new(Current::new(credentials)), running: Vec::new() }
    }

    /// Newer credentials, for the connections to come.
    pub(crate) fn renew(&self, credentials: Arc<Credentials>) {
        self.credentials.publish(credentials);
    }

    /// Makes exactly the taps of `wanted` run. Nothing is changed on an error.
    pub(crate) fn set(&mut self, wanted: &[TapSettings]) -> io::Result<Vec<tap::Tap>> {
        let mut started = Vec::new();
        for settings in wanted {
            if !self.running.iter().any(|(running, _, _)| running == settings) {
                let (tap, running) = tap::Tap::start(started_as(settings, &self.credentials)?)
                    .map_err(|error| io::Error::new(error.kind(), format!("tap {}: {error}", settings.name)))?;
                started.push((settings.clone(), tap, running));
            }
        }
        let (keep, stop): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|(running, _, _)| wanted.contains(running));
        self.running = keep;
        self.running.extend(started);
        if !stop.is_empty() {
            // Off this thread: a tap with a full queue takes its time, and the new rules must not wait for it.
            let _ = std::thread::Builder::new().name("tap-stop".into()).spawn(move || {
                for (_, _, running) in stop {
                    running.stop(STOP);
                }
            });
        }
        // In the order of the file.
        Ok(wanted
            .iter()
            .filter_map(|settings| self.running.iter().find(|(running, _, _)| running == settings))
            .map(|(_, tap, _)| tap.clone())
            .collect())
    }

    /// Taps whose sensor is a name, for resolving it again and again.
    pub(crate) fn named(&self) -> Vec<(String, u16, tap::Tap)> {
        let remote = |(settings, tap, _): &(TapSettings, tap::Tap, tap::Running)| {
            let (host, port) = settings.sensor.remote()?;
            host.parse::<IpAddr>().is_err().then(|| (host.to_owned(), port, tap.clone()))
        };
        self.running.iter().filter_map(remote).collect()
    }

    /// Sends what is waiting and stops all.
    pub(crate) fn stop(&mut self) {
        for (_, _, running) in self.running.drain(..) {
            running.stop(STOP);
        }
    }
}

/// What the tap is told at its start.
fn started_as(settings: &TapSettings, credentials: &Arc<Current<Credentials>>) -> io::Result<tap::Settings> {
    let refuse =
        |what: String| Err(io::Error::new(io::ErrorKind::Unsupported, format!("tap {}: {what}", settings.name)));
    let Some(sensor) = sensor(&settings.sensor, credentials) else {
        return refuse(format!("a sensor of `{}` is not yet supported", settings.sensor.scheme()));
    };
    if let Some(key) = unserved(settings) {
        return refuse(format!("`{key}` is not yet supported"));
    }
    let mut started = tap::Settings::new(settings.name.clone(), sensor);
    started.workload = credentials.load().svid().id().to_string();
    started.mtu = settings.mtu;
    started.queue_bytes = usize::try_from(settings.queue).unwrap_or(usize::MAX);
    started.max_body = usize::try_from(settings.body.bytes()).unwrap_or(usize::MAX);
    Ok(started)
}

/// Where the copy goes; `None` for a kind of tap that no room serves yet.
fn sensor(sensor: &Sensor, credentials: &Arc<Current<Credentials>>) -> Option<tap::Sensor> {
    // A name is resolved later.
    let addr = sensor.remote().and_then(|(host, port)| Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port)));
    Some(match sensor {
        Sensor::Vxlan { vni, .. } => tap::Sensor::Vxlan { addr, vni: *vni },
        Sensor::Pcap { .. } => tap::Sensor::Pcap { addr },
        Sensor::PcapListen { address } => tap::Sensor::PcapListen { addr: *address },
        Sensor::PcapMtls { id, .. } => {
            let secured = Secured { credentials: Arc::clone(credentials), receiver: id.clone() };
            tap::Sensor::PcapTls { addr, connector: Arc::new(secured) }
        }
        Sensor::Pcapng { folder, size, files } => tap::Sensor::Ring { dir: folder.clone(), size: *size, files: *files },
        _ => return None,
    })
}

/// A key that is written and that no room serves yet: better no tap than one that copies what it should not.
fn unserved(settings: &TapSettings) -> Option<&'static str> {
    let TapSettings { select, stream, rate_cap, port, vlan, redact, pass, .. } = settings;
    let keys = [
        ("a selector", *select != TapSelection::default()),
        ("stream", *stream != Extent::All),
        ("rate_cap", rate_cap.is_some()),
        ("port", port.is_some()),
        ("vlan", vlan.is_some()),
        ("redact", !redact.is_empty()),
        ("pass", !pass.is_empty()),
    ];
    keys.into_iter().find(|(_, written)| *written).map(|(key, _)| key)
}
