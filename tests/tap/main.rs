//! The decrypted copy, judged by tshark and tcpflow: the packets are faultless, what was refused is among them, and the
//! numbers of the sidecar are the numbers of the sensor.
//!
//! The sensor here takes VXLAN on a plain UDP socket and writes the inner frames to a file, so most of this needs no
//! rights; one test lets tcpdump capture the tunnel itself.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed test

mod community;
mod copy;
mod flood;
mod loss;
mod receive;
mod receivers;
mod records;
mod redaction;
mod root;
mod schema;
mod secrets;
mod selection;
mod sensor;
mod shadow;
mod streams;
mod transports;
mod tunnels;
