//! The workloads by name, in the order of the tables.

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Closed loop over HTTP/1.1.
    W1,
    /// Open loop at a fixed rate.
    W2,
    /// HTTP/2 from end to end.
    W3,
    /// Large bodies.
    W4,
    /// Handshakes of the callee.
    W5,
    /// Memory.
    W6,
    /// 10,000 rules, 1,000 connections, 5,000 requests per second.
    Rules,
    /// The copy for a sensor.
    Tap,
    /// Cost against connections, rules and services.
    Scale,
}

impl Workload {
    /// In the order of the tables.
    pub(crate) const ALL: [Self; 9] =
        [Self::W1, Self::W2, Self::W3, Self::W4, Self::W5, Self::W6, Self::Rules, Self::Tap, Self::Scale];

    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::W1 => "W1",
            Self::W2 => "W2",
            Self::W3 => "W3",
            Self::W4 => "W4",
            Self::W5 => "W5",
            Self::W6 => "W6",
            Self::Rules => "rules",
            Self::Tap => "tap",
            Self::Scale => "scale",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|workload| workload.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("no workload {name}: there are {}", Self::ALL.map(Self::name).join(", ")))
    }
}
