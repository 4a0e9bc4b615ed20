//! The makes that are compared, and which of the workloads each takes part in.

use crate::workloads::Workload;

/// A make of sidecar, with the HTTP version that its pair speaks between its two halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Sekisho,
    Envoy,
    EnvoyH2,
    Haproxy,
    Nginx,
}

impl Make {
    /// In the order of a round.
    pub(crate) const ALL: [Self; 5] = [Self::Sekisho, Self::Envoy, Self::EnvoyH2, Self::Haproxy, Self::Nginx];

    /// As the command line and the raw runs have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sekisho => "sekisho",
            Self::Envoy => "envoy",
            Self::EnvoyH2 => "envoy-h2",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// As tables and plots have it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Sekisho => "Sekisho",
            Self::Envoy => "Envoy",
            Self::EnvoyH2 => "Envoy, h2 between",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|make| make.name() == name);
        found.ok_or_else(|| format!("no make {name}: there are {}", Self::ALL.map(Self::name).join(", ")))
    }

    /// Envoy takes part twice, and each half where its protocol has a part in what is measured. nginx cannot speak
    /// HTTP/2 to an upstream. Beside our tap stands Envoy's nearest: each request sent to a second cluster as well. The load
    /// that the limits of a small node are held against is ours alone.
    pub(crate) fn takes_part(self, workload: Workload) -> bool {
        match workload {
            Workload::W1 | Workload::W2 => true,
            Workload::W3 => !matches!(self, Self::Envoy | Self::Nginx),
            Workload::W4 | Workload::W5 | Workload::W6 | Workload::Scale => self != Self::EnvoyH2,
            Workload::Rules => self == Self::Sekisho,
            Workload::Tap => matches!(self, Self::Sekisho | Self::Envoy),
        }
    }
}
