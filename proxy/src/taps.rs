//! The taps that run for the snapshot in force: started when a file names them, kept over reloads that leave them as they
//! are, stopped when a file no longer has them.

use config::{Extent, Sensor, TapSelection, TapSettings};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Running taps, with the settings each was started for.
#[derive(Default)]
pub(crate) struct Taps {
    running: Vec<(TapSettings, tap::Tap, tap::Running)>,
}

/// How long a tap may take to send what it has when it is stopped.
const STOP: Duration = Duration::from_secs(2);

impl Taps {
    /// Makes exactly the taps of `wanted` run. Nothing is changed on an error.
    pub(crate) fn set(&mut self, wanted: &[TapSettings]) -> io::Result<Vec<tap::Tap>> {
        let mut started = Vec::new();
        for settings in wanted {
            if !self.running.iter().any(|(running, _, _)| running == settings) {
                let (tap, running) = tap::Tap::start(started_as(settings)?)
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
fn started_as(settings: &TapSettings) -> io::Result<tap::Settings> {
    let refuse =
        |what: String| Err(io::Error::new(io::ErrorKind::Unsupported, format!("tap {}: {what}", settings.name)));
    let Sensor::Vxlan { host, port, vni } = &settings.sensor else {
        return refuse(format!("a sensor of `{}` is not yet supported", settings.sensor.scheme()));
    };
    if let Some(key) = unserved(settings) {
        return refuse(format!("`{key}` is not yet supported"));
    }
    let sensor = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, *port));
    let mut started = tap::Settings::new(settings.name.clone(), sensor, *vni);
    started.mtu = settings.mtu;
    started.queue_bytes = usize::try_from(settings.queue).unwrap_or(usize::MAX);
    started.max_body = usize::try_from(settings.body.bytes()).unwrap_or(usize::MAX);
    Ok(started)
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
