//! A real Envoy that takes certificate and roots from `sekisho agent`, and talks mutual TLS with a sidecar of ours in both
//! directions: through renewals, another intermediate, another root, and never started again.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use support::envoy::{Envoy, Version};
use support::load::{Load, Total};
use support::origin::{Origin, Reply};
use support::pair::HOST;
use support::pki::{Cert, spiffe};
use support::{ports, wait};

use super::rotation;
use super::world::{Agent, PATH, Stage, World};

/// What stands in the files of `support/envoy` for files with certificates, and what an agent's socket needs instead.
struct Places {
    files: &'static str,
    names: &'static str,
}

const CALLEE: Places = Places {
    files: "tls_certificates:
            - certificate_chain: { filename: @CERT@ }
              private_key: { filename: @KEY@ }
            validation_context:
              trusted_ca: { filename: @BUNDLE@ }
",
    names: "tls_certificate_sds_secret_configs:
            - { name: default, sds_config: @SDS@ }
            validation_context_sds_secret_config: { name: ROOTCA, sds_config: @SDS@ }
",
};

const CALLER: Places = Places {
    files: "tls_certificates:
          - certificate_chain: { filename: @CERT@ }
            private_key: { filename: @KEY@ }
          validation_context:
            trusted_ca: { filename: @BUNDLE@ }
            match_typed_subject_alt_names:
            - san_type: URI
              matcher: { exact: \"@CALLEE_ID@\" }
",
    names: "tls_certificate_sds_secret_configs:
          - { name: default, sds_config: @SDS@ }
          combined_validation_context:
            default_validation_context:
              match_typed_subject_alt_names:
              - san_type: URI
                matcher: { exact: \"@CALLEE_ID@\" }
            validation_context_sds_secret_config: { name: ROOTCA, sds_config: @SDS@ }
",
};

const SDS: &str = "{ resource_api_version: V3, api_config_source: { api_type: GRPC, transport_api_version: V3, \
                   grpc_services: [ { envoy_grpc: { cluster_name: agent } } ] } }";

/// The bootstrap with certificate and roots from the socket.
fn from_socket(text: &str, places: &Places, socket: &Path) -> String {
    assert!(text.contains(places.files), "the place to fill in is gone");
    let agent = format!(
        "  - name: agent
    connect_timeout: 5s
    load_assignment:
      cluster_name: agent
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ pipe: {{ path: \"{}\" }} }} }}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
",
        socket.display()
    );
    text.replace(places.files, places.names)
        .replace("@SDS@", SDS)
        .replace("  clusters:\n", &format!("  clusters:\n{agent}"))
}

/// Envoy calls our sidecar, and our sidecar calls the other Envoy.
struct Edge {
    world: World,
    caller: Envoy,
    callee: Envoy,
    /// Where our sidecar takes requests for the Envoy that is called.
    to_envoy: SocketAddr,
    _agents: [Agent; 2],
    _origin: Origin,
}

impl Edge {
    fn start() -> Self {
        let stage = Stage::new("6s");
        let agents = [Agent::start(&stage, "web"), Agent::start(&stage, "orders")];
        let (listen, app) = (ports::local(), ports::local());
        // The caller's sidecar goes to the Envoy, and the Envoy that calls to the callee's sidecar.
        let at = stage.at;
        let stage = stage.change("client", |text| text.replace(&at.inbound.to_string(), &listen.to_string()));
        let origin = Origin::forgetful(app, |_| Reply::text("behind Envoy"));
        let nothing = Path::new("/nonexistent");
        let none = Cert { chain: nothing.into(), key: nothing.into(), bundle: nothing.into() };
        let dir = stage.dir.path().to_owned();
        let callee = from_socket(support::envoy::CALLEE, &CALLEE, &agents[1].socket)
            .replace("@APP_PORT@", &app.port().to_string())
            .replace("@CALLER_ID@", &spiffe("shop", "web"));
        let callee = Envoy::with(&dir, "callee", listen, callee, &none);
        let caller = from_socket(support::envoy::CALLER, &CALLER, &agents[0].socket)
            .replace("@CALLEE_PORT@", &at.inbound.port().to_string())
            .replace("@CALLEE_ID@", &spiffe("shop", "orders"))
            .replace("@ALPN@", Version::Http1.alpn());
        let world = stage.start();
        let caller = Envoy::with(&dir, "caller", ports::local(), caller, &none);
        Self { to_envoy: at.entry, world, caller, callee, _agents: agents, _origin: origin }
    }

    /// The serial number that each Envoy shows as its own, in lower-case hex.
    fn serials(&self) -> [String; 2] {
        [&self.caller, &self.callee].map(|envoy| {
            wait::until("Envoy to hold a certificate", wait::SOON, || {
                let certs: Value = serde_json::from_slice(&envoy.admin("/certs").body).ok()?;
                let leaf =
                    certs["certificates"].as_array()?.iter().find_map(|entry| entry["cert_chain"].get(0).cloned())?;
                Some(leaf["serial_number"].as_str()?.to_lowercase())
            })
        })
    }

    /// Waits until both Envoys have other certificates than these.
    fn renewed_since(&self, before: &[String; 2]) -> [String; 2] {
        wait::until("both Envoys to have new certificates", wait::SOON, || {
            let now = self.serials();
            now.iter().zip(before).all(|(now, before)| now != before).then_some(now)
        })
    }

    /// `sds.default.update_success` and `update_rejected` of both.
    fn updates(&self) -> [(u64, u64); 2] {
        [&self.caller, &self.callee].map(|envoy| {
            let stats = envoy.admin("/stats?filter=sds").text();
            let counter = |name: &str| -> u64 {
                let lines = stats.lines().filter(|line| line.split(':').next().unwrap().ends_with(name));
                lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
            };
            (counter("default.update_success"), counter("update_rejected"))
        })
    }
}

#[test]
fn envoys_fed_by_the_agent_talk_with_our_sidecars_through_another_issuer_and_another_root() {
    let mut edge = Edge::start();
    let into = Load::start(edge.caller.addr(), HOST, PATH, 1);
    let into_fresh = Load::fresh(edge.caller.addr(), HOST, PATH, 1);
    let out = Load::start(edge.to_envoy, HOST, PATH, 1);
    let out_fresh = Load::fresh(edge.to_envoy, HOST, PATH, 1);
    let processes = [edge.caller.id(), edge.callee.id()];
    let first = edge.serials();
    let begun = edge.updates();

    let second = edge.renewed_since(&first);
    // Another intermediate.
    edge.world.ca.stop();
    edge.world.ca.again();
    let third = edge.renewed_since(&second);
    let fourth = edge.renewed_since(&third);
    // Another root.
    let old = edge.world.ca.roots();
    edge.world.ca.step("prepare");
    let new = rotation::finished(&edge.world, &old[0]);
    let last = edge.renewed_since(&fourth);
    for serial in &last {
        assert_eq!(edge.world.ca.root_of(serial).as_ref(), Some(&new), "{serial}");
    }

    let updates = edge.updates();
    for (now, before) in updates.iter().zip(begun) {
        assert!(now.0 >= before.0 + 4, "{updates:?} after {begun:?}");
        assert_eq!(now.1, 0, "Envoy rejected what it was sent");
    }
    assert_eq!([edge.caller.id(), edge.callee.id()], processes);
    let totals = [into, into_fresh, out, out_fresh].map(Load::stop);
    println!(
        "Envoy to sidecar {} and {}, sidecar to Envoy {} and {} requests",
        totals[0].ok, totals[1].ok, totals[2].ok, totals[3].ok
    );
    totals.iter().for_each(|total: &Total| total.assert_clean(50));
    edge.world.assert_untroubled();
}
