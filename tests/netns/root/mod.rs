//! The tests themselves; the name of this module is what leaves them out where there is no root.

mod closed;
mod destinations;
mod rules;
mod taps;
mod traffic;
