//! What a reader made of a stream of bytes: the messages it saw, in a form in which two readers can be compared.

use std::fmt;

/// A name, lower-cased, and its value.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// One message, as far as it was read.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Method and target, or status and reason.
    pub(super) start: (Vec<u8>, Vec<u8>),
    /// Names in the order in which each came first; values of one name in their order.
    pub(super) fields: Vec<Pair>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<Pair>,
    /// Read to its end.
    pub(super) whole: bool,
    /// Where its first byte lies in the stream; only our reader knows.
    pub(super) at: usize,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  {} | {} |", self.start.0.escape_ascii(), self.start.1.escape_ascii())?;
        for (name, value) in &self.fields {
            write!(f, " {}: {} |", name.escape_ascii(), value[..value.len().min(200)].escape_ascii())?;
        }
        write!(f, " body {} |", self.body.escape_ascii())?;
        for (name, value) in &self.trailers {
            write!(f, " {}: {} |", name.escape_ascii(), value.escape_ascii())?;
        }
        write!(f, " whole: {}", self.whole)
    }
}

/// Brings equal names together, at the place of the first: the order that a `HeaderMap` keeps.
pub(super) fn grouped(fields: Vec<Pair>) -> Vec<Pair> {
    let mut groups: Vec<Pair> = Vec::with_capacity(fields.len());
    let mut rest = fields;
    while !rest.is_empty() {
        let name = rest[0].0.clone();
        let (same, others): (Vec<Pair>, Vec<Pair>) = rest.into_iter().partition(|(other, _)| *other == name);
        groups.extend(same);
        rest = others;
    }
    groups
}
