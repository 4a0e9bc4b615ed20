//! What the names of secrets mean.
//!
//! The names are those of SPIRE's defaults, so that an Envoy moves over with its bootstrap file as it is.

use crate::material::Material;
use crate::workload_api::trust_domain_id;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The own certificate with its key.
    Certificate,
    /// The roots of the own trust domain.
    Roots,
    /// The roots of every trust domain there is, each for itself.
    AllRoots,
}

/// What `name` stands for to the holder of `material`; `None` for everything that is not this holder's.
pub(crate) fn meaning(name: &str, material: &Material) -> Option<Meaning> {
    match name {
        "default" => Some(Meaning::Certificate),
        "ROOTCA" => Some(Meaning::Roots),
        "ALL" => Some(Meaning::AllRoots),
        name if name == material.id().as_str() => Some(Meaning::Certificate),
        name if name == trust_domain_id(material.bundle()) => Some(Meaning::Roots),
        _ => None,
    }
}
