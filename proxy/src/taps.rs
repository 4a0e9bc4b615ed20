//! The taps that run for the snapshot in force: started when a file names them, kept over reloads that leave them as they
//! are, stopped when a file no longer has them.

use config::TapSettings;
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
                let sensor = settings.sensor_host.parse::<IpAddr>().ok();
                let sensor = sensor.map(|ip| SocketAddr::new(ip, settings.sensor_port));
                let (tap, running) = tap::Tap::start(tap::Settings::new(
                    settings.name.clone(),
                    tap::Sensor::vxlan(sensor, settings.vni),
                ))
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
        self.running
            .iter()
            .filter(|(settings, _, _)| settings.sensor_host.parse::<IpAddr>().is_err())
            .map(|(settings, tap, _)| (settings.sensor_host.clone(), settings.sensor_port, tap.clone()))
            .collect()
    }

    /// Sends what is waiting and stops all.
    pub(crate) fn stop(&mut self) {
        for (_, _, running) in self.running.drain(..) {
            running.stop(STOP);
        }
    }
}
