//! Messages and services of gRPC, generated from `proto/`; no logic.
//!
//! Four services: Istio's certificate service and our own [`sekisho::ca::v1`] towards the CA, the SPIFFE Workload API and
//! Envoy's secret discovery on a unix socket. Field numbers are facts of the wire; of Envoy's large messages only the
//! fields that are used stand here, the others are skipped when read, as protobuf defines.
//!
//! The files in `src/generated/` are committed. `tests/current.rs` makes them anew and compares; with `SEKISHO_UPDATE=1`
//! it writes them.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::panic)] // generated; the meaning stands in proto/

mod lean;

pub use prost::{DecodeError, EncodeError, Message};
pub use prost_types::{Any, Struct, Value, value};

/// The SPIFFE Workload API, which stands in no package.
pub mod workload {
    include!("generated/workload.rs");
}

pub mod istio {
    pub mod v1 {
        pub mod auth {
            include!("generated/istio.v1.auth.rs");
        }
    }
}

pub mod sekisho {
    pub mod ca {
        pub mod v1 {
            include!("generated/sekisho.ca.v1.rs");
        }
    }
}

pub mod google {
    pub mod rpc {
        include!("generated/google.rpc.rs");
    }
}

pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                include!("generated/envoy.config.core.v3.rs");
            }
        }
    }
    pub mod extensions {
        pub mod transport_sockets {
            pub mod tls {
                pub mod v3 {
                    include!("generated/envoy.extensions.transport_sockets.tls.v3.rs");
                }
            }
        }
    }
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                include!("generated/envoy.service.discovery.v3.rs");
            }
        }
        pub mod secret {
            pub mod v3 {
                include!("generated/envoy.service.secret.v3.rs");
            }
        }
    }
}
