//! Drills that need root; the name of this module is what leaves them out where there is none.

mod disk;
mod six;
