//! The audit log: every certificate, every refusal, every act of the CA, in an order nobody can change unseen.
//!
//! Append-only JSON lines in segments. Each record carries the hash of the line before it ([`Record`]); the last
//! one is named by a signed head ([`Head`]). A certificate leaves only after its record is durable and under a
//! new head ([`Log`]). [`verify`] needs no secret and says where a log is not what was written; [`live`] reads
//! back what is still valid, for the log is the only store of what was issued.
//!
//! | file | idea |
//! | --- | --- |
//! | `record`, `line`, `value`, `stamp`, `hash` | what a line says, and its one spelling |
//! | `chain` | the next line, written or judged |
//! | `key`, `head` | who signs, and what |
//! | `folder`, `segment` | the files, and one of them read line by line |
//! | `disk`, `ledger`, `writer` | calls that may fail; a group goes in whole or not at all; many callers |
//! | `verify`, `live` | the whole log, and what of it is alive |
//! | `refusals` | how many refusals are recorded |
//! | `issue` | the record of a certificate |

mod chain;
mod disk;
mod error;
mod folder;
mod hash;
mod head;
mod issue;
mod key;
mod ledger;
mod line;
mod live;
mod record;
mod refusals;
mod segment;
mod stamp;
#[cfg(test)]
mod tests;
mod value;
mod verify;
mod writer;

pub use error::{Finding, Flaw, LogError};
pub use folder::create;
pub use hash::Hash;
pub use head::Head;
pub use issue::root_id;
pub use key::{LogKey, LogPublicKey};
pub use ledger::{Opened, Receipt, Settings};
pub use line::Misread;
pub use live::live;
pub use record::{Act, Event, Evidence, Issue, Lineage, Record, Refusal, What};
pub use refusals::RefusalBudget;
pub use segment::judge as judge_segment;
pub use stamp::Stamp;
pub use value::{Serial, Text};
pub use verify::{Known, Verified, verify};
pub use writer::Log;

/// No line is longer: the longest name and five texts, all of it escaped, have below 12 KiB.
pub(crate) const MAX_LINE: usize = 16 << 10;
