//! Classes 86 to 98: certificates of every wrong kind at both ends, handshakes that stall, lie or never come, and papers
//! that change while connections are open.

mod callees;
mod certificates;
mod hello;
mod papers;
mod rotation;
mod scan;
