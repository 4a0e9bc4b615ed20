//! What is in force: one checked snapshot with its generation, the routes made from it, and the taps that run for it.
//!
//! A snapshot is published whole and read by pointer. Each worker keeps its own counted pointer ([`Live`]) and compares one
//! number to learn that there is a newer one, so a request touches nothing that another worker writes.

use crate::{
    observe::metrics::Names,
    taps::Tapped,
    upstream::{Expect, Route, Security, Target},
};
use config::{Protocol, Snapshot, TapKind};
use policy::Direction;
use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// A published snapshot.
pub(crate) struct Published {
    pub(crate) snapshot: Snapshot,
    /// 1 for the first, one more for each that follows.
    pub(crate) generation: u64,
    pub(crate) since: SystemTime,
    /// In the order of the file, at most 64.
    pub(crate) taps: Vec<Tapped>,
    /// A tap copies a part of the outbound connections.
    pub(crate) samples_outbound: bool,
    /// A tap names outbound connections: it samples them, or writes their Community ID.
    pub(crate) names_outbound: bool,
    /// The application, when its address is in the file.
    pub(crate) app: Option<Arc<Route>>,
    /// One per `[[service]]`, in the order of the file.
    pub(crate) services: Vec<Arc<Route>>,
    rule_ids: [Vec<u32>; 2],
    pub(crate) captured_app_id: u32,
    pub(crate) original_dst_id: u32,
    pub(crate) passthrough_id: u32,
}

/// A worker's pointer to what is in force.
pub(crate) struct Live(Arc<Published>);

impl Live {
    pub(crate) fn new(published: Arc<Published>) -> Self {
        Self(published)
    }

    /// The pointer itself, for what must outlive the worker.
    pub(crate) fn shared(&self) -> Arc<Published> {
        Arc::clone(&self.0)
    }
}

impl Deref for Live {
    type Target = Published;
    fn deref(&self) -> &Published {
        &self.0
    }
}

impl Published {
    pub(crate) fn new(snapshot: Snapshot, generation: u64, taps: Vec<tap::Tap>, names: &Names) -> Self {
        let ids = |direction| snapshot.rules.rules(direction).iter().map(|rule| names.id(&rule.name)).collect();
        let rule_ids = [ids(Direction::Inbound), ids(Direction::Outbound)];
        let app = snapshot.app.as_ref().map(|app| {
            let name = format!("inbound|{}||", app.address.port());
            Arc::new(Route {
                name_id: names.id(&name),
                name: name.into(),
                targets: vec![Target::Socket(app.address)],
                security: Security::Plain,
                protocol: app.protocol,
                timeout: app.timeout,
                connect_timeout: snapshot.proxy.timeouts.connect,
                source: None,
            })
        });
        let services = snapshot
            .services
            .iter()
            .map(|service| {
                let targets = service
                    .endpoints
                    .iter()
                    .map(|endpoint| match endpoint {
                        config::Endpoint::Socket(address) => Target::Socket(*address),
                        config::Endpoint::Name { host, port } => Target::Name(host.as_str().into(), *port),
                    })
                    .collect();
                Arc::new(Route {
                    name_id: names.id(&service.name),
                    name: service.name.as_str().into(),
                    targets,
                    security: Security::Mtls(Expect::Identity(service.identity.clone())),
                    protocol: service.protocol,
                    timeout: service.timeout,
                    connect_timeout: service.connect_timeout.unwrap_or(snapshot.proxy.timeouts.connect),
                    source: None,
                })
            })
            .collect();
        let case = snapshot.rules.path_options().case;
        let taps = taps.into_iter().zip(&snapshot.taps).map(|(tap, settings)| Tapped::new(tap, settings, case));
        let taps: Vec<_> = taps.collect();
        let outbound = || taps.iter().filter(|tap: &&Tapped| tap.selection.covers(Direction::Outbound));
        let samples_outbound = outbound().any(|tap| tap.selection.samples());
        let names_outbound = samples_outbound || outbound().any(|tap| tap.kind == TapKind::Records);
        Self {
            samples_outbound,
            names_outbound,
            captured_app_id: names.id("InboundPassthroughCluster"),
            original_dst_id: names.id("OriginalDstCluster"),
            passthrough_id: names.id("PassthroughCluster"),
            snapshot,
            generation,
            since: SystemTime::now(),
            taps,
            app,
            services,
            rule_ids,
        }
    }

    /// Some tap writes records.
    pub(crate) fn has_records(&self) -> bool {
        self.taps.iter().any(|tapped| tapped.kind == TapKind::Records)
    }

    /// The label id of a rule.
    pub(crate) fn rule_id(&self, direction: Direction, index: usize) -> u32 {
        let [inbound, outbound] = &self.rule_ids;
        let ids = if direction == Direction::Inbound { inbound } else { outbound };
        ids.get(index).copied().unwrap_or(0)
    }

    /// The service that listens on a local address of its own.
    pub(crate) fn service_by_bind(&self, local: SocketAddr) -> Option<usize> {
        self.snapshot.services.iter().position(|service| service.bind.contains(&local))
    }

    /// The service one of whose addresses the application dialled.
    pub(crate) fn service_by_address(&self, destination: SocketAddr) -> Option<usize> {
        self.snapshot.services.iter().position(|service| service.addresses.contains(&destination))
    }

    /// The service that has this host name; a service without host names is not found by name.
    pub(crate) fn service_by_host(&self, host: &str) -> Option<usize> {
        self.snapshot.services.iter().position(|service| service.hosts.iter().any(|name| name == host))
    }

    /// What the application speaks, if the file says.
    pub(crate) fn app_protocol(&self) -> Protocol {
        self.snapshot.app.as_ref().map_or(Protocol::Auto, |app| app.protocol)
    }
}

/// A value that is replaced whole, with a number that tells readers cheaply that it was.
pub(crate) struct Current<T> {
    value: arc_swap::ArcSwap<T>,
    version: AtomicU64,
}

impl<T> Current<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { value: arc_swap::ArcSwap::new(value), version: AtomicU64::new(1) }
    }

    pub(crate) fn publish(&self, value: Arc<T>) {
        self.value.store(value);
        // After the value: who sees the new number sees the new value.
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn load(&self) -> Arc<T> {
        self.value.load_full()
    }
}
