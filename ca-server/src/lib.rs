//! The CA as a server: who asks, by which evidence, gets a certificate or a reason why not.
//!
//! In: a folder that `ca init` made, settings, the time. Out: Istio's certificate service and our own bundle watch over gRPC,
//! and an admin interface. Each decision is made by the `ca` room; this one holds the sockets, the clock and the memory
//! between requests.
//!
//! | file | idea |
//! | --- | --- |
//! | `server` | opening the folder, listening, the second hand, the end |
//! | `steps` | the rotation of roots: what the operator asks for, what happens by itself |
//! | `key_sets` | the keys of clusters, which change while we run |
//! | `view` | readiness, metrics, state |
//! | `standing` | what is in force: issuer, bundle, own certificate; replaced whole |
//! | `desk` | the story of one request, in the order cheap to dear |
//! | `memory` | what the log says of certificates that have not ended |
//! | `istio`, `trust` | the two services |
//! | `kubernetes` | what is asked of a cluster's API server |
//! | `turns`, `buckets` | what is done at once, and how much for one caller |
//! | `answer` | from a refusal to a status, a label and a record |
//! | `acts` | denying, join tokens |
//! | `metrics`, `admin` | what an operator sees and may do |

mod acts;
mod admin;
mod answer;
mod buckets;
mod desk;
mod istio;
mod key_sets;
mod kubernetes;
mod memory;
mod metrics;
mod server;
mod standing;
mod steps;
mod trust;
mod turns;
mod view;

pub use server::{SOCKET, Say, Server, ServerError};
pub use steps::Step;
