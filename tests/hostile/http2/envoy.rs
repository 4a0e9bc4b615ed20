//! A real Envoy as the callee's sidecar, hardened by its own list, before a recording application of its own.

use std::time::Duration;

use support::envoy::Envoy;
use support::origin::Origin;
use support::pair::Setting;
use support::pki::Cert;
use support::pki::spiffe;
use support::ports;

use super::Door;

const HARDENED: &str = include_str!("../../support/envoy/http2-callee.yaml");

/// Envoy and what stands behind it.
pub(super) struct Callee {
    pub(super) envoy: Envoy,
    pub(super) origin: Origin,
}

impl Callee {
    /// With streams that may stand still for five minutes, Envoy's default.
    pub(super) fn start(setting: &Setting) -> Self {
        Self::before(setting, Origin::start(), Duration::from_secs(300))
    }

    /// Before this application.
    pub(super) fn before(setting: &Setting, origin: Origin, idle: Duration) -> Self {
        let text = HARDENED
            .replace("@APP_PORT@", &origin.addr().port().to_string())
            .replace("@STREAM_IDLE@", &idle.as_secs().to_string())
            .replace("@CALLER_ID@", &spiffe("shop", "web"));
        let envoy = Envoy::with(setting.dir.path(), "hardened", ports::local(), text, &setting.orders);
        Self { envoy, origin }
    }

    pub(super) fn door<'a>(&self, cert: &'a Cert) -> Door<'a> {
        Door::Mtls(self.envoy.addr(), cert)
    }
}
