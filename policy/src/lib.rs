//! The `policy` room: from a request that was read once to a verdict that names its rule.
//!
//! In: the raw method, path, authority of a request ([`RawTarget`]), the verified identities, ports and
//! addresses around it ([`Attributes`]), and a set of rules ([`RuleSet`]).
//! Out: a canonical reading ([`Target`]) and a [`Decision`] with the rule that made it.
//! Refuses: every request that two programs could read differently ([`Malformed`]), every pattern that
//! could not match anything ([`PatternError`]), and whatever no allow rule names.
//!
//! The room is pure: no clock, no file, no socket, no TOML. The same rules and the same request give the
//! same verdict on every machine, in any order of the rules.
//!
//! | file | idea |
//! | --- | --- |
//! | `canonical` | the one reading of a request, or why there is none (`path`, `authority`, `malformed`) |
//! | `case` | whether `/admin` is `/ADMIN` |
//! | `template` | path templates, `/orders/{id:uint}` |
//! | `request`, `grpc` | operations: methods with a template, gRPC methods |
//! | `upgrade` | protocols a request may ask to switch to, CONNECT among them |
//! | `id_pattern`, `host`, `cidr` | who, which host, which address |
//! | `rule` | one rule as data |
//! | `decide` | the verdict of a set of rules |
//! | `linear` | what the verdict is, rule by rule |
//! | `compiled` | the same from tables, whatever the number of rules |
//! | `party` | somebody whose part in the rules is looked up once per connection |
//! | `permit` | the proof that a request may go on |

// Tests of the tables share their world of rules with those that see this crate from outside.
#[cfg(test)]
extern crate self as policy;

mod authority;
mod canonical;
mod case;
mod cidr;
mod compiled;
mod decide;
mod escape;
mod grpc;
mod host;
mod id_pattern;
mod linear;
mod malformed;
mod party;
mod path;
mod pattern_error;
mod permit;
mod request;
mod rule;
mod segment;
mod template;
mod upgrade;

pub use canonical::{PathOptions, RawTarget, Scheme, Target, canonicalise};
pub use case::PathCase;
pub use cidr::Cidr;
pub use decide::{Attributes, Decision, Hint, RequestView, RuleRef, RuleSet, Verdict, Why};
pub use grpc::GrpcPattern;
pub use host::HostPattern;
pub use id_pattern::IdPattern;
pub use malformed::Malformed;
pub use party::Party;
pub use pattern_error::{PatternError, TemplateError};
pub use permit::Permit;
pub use request::{Methods, RequestPattern};
pub use rule::{Action, Direction, Mode, Rule, RuleProtocol, Who};
pub use template::{PathTemplate, Specificity};
pub use upgrade::UpgradePattern;
