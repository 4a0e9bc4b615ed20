//! The same verdicts as [`crate::linear`], from tables that are made once: what a decision costs depends on the request, and
//! hardly on the number of rules.
//!
//! ```text
//! rule ──▶ who × port × host × template ──▶ one entry each: what else must hold, how narrow it is, which rule
//! entries with the same who, port, host, kind of template and literal segments ──▶ one group, found by one hash
//! request ──▶ whom it is about (1 to a few subjects) ──▶ each kind of template their rules have ──▶ one look-up
//! ```
//!
//! A kind of template is its length, which of its segments are literal, and whether a tail follows: the few kinds there are
//! take the place of the steps of a tree, and their look-ups do not wait for each other. Each subject knows the words of its
//! templates, so that most look-ups that would find nothing are not made. Entries compare in full what the hash stands for.
//! The most specific match is the greatest (path, identity, name), numbered when the tables are made.
//!
//! What the tables do not take is judged by the reference itself ([`Index`] calls it odd): templates of more segments than
//! [`path::DEPTH`], rules with both `requests` and `grpc`, methods beyond the first [`methods::OTHERS`] unusual ones. So are
//! sets of so few rules that there is nothing to find.
//!
//! | file | idea |
//! | --- | --- |
//! | `table` | groups of values found by a hash, laid out flat |
//! | `words` | literal segments as numbers |
//! | `subjects`, `id_shape` | from an identity and an address to the subjects of rules |
//! | `path` | a path as numbers |
//! | `methods` | methods as bits |
//! | `entry` | one way in which one rule matches, and the groups these are found in |
//! | `build` | from rules to the tables |
//! | `index` | the verdict |
//! | `connections` | what is asked once per connection |

mod build;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod collisions;
mod connections;
mod entry;
mod id_shape;
mod index;
mod methods;
mod path;
mod subjects;
mod table;
mod words;

use crate::rule::{Direction, Rule};
pub(crate) use connections::Connections;
pub(crate) use index::{Index, Known};

/// Both directions.
pub(crate) struct Compiled {
    inbound: Index,
    outbound: Index,
    pub(crate) connections: Connections,
}

impl Compiled {
    pub(crate) fn new(inbound: &[Rule], outbound: &[Rule]) -> Self {
        Self {
            inbound: build::index(inbound, Direction::Inbound),
            outbound: build::index(outbound, Direction::Outbound),
            connections: Connections::new(inbound, outbound),
        }
    }

    pub(crate) fn index(&self, direction: Direction) -> &Index {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}
