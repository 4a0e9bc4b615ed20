//! The tunnel as it is on the wire: tcpdump captures what leaves, and its count has to be the sidecar's.
//!
//! | file | idea |
//! | --- | --- |
//! | `loopback` | the datagrams of a sensor on the same host, taken apart by tshark |
//! | `link` | a sensor's host: a network namespace behind a link, and captures on it |
//! | `device` | the kernel's own VXLAN device as the receiver |
//! | `ids` | the Community IDs in records, and those of the packets on the wire and in the copy |
//! | `accounts` | packets captured are packets counted as sent, whatever becomes of them |
//! | `full_disk` | files and records on a disk without room |
//! | `reader` | a receiver of pcap streams in a namespace, and a strict reading of what it got |
//! | `acknowledged` | what a receiver's host has acknowledged, as it is on the wire |
//! | `pcap_accounts` | frames acknowledged on the wire are packets counted as sent, whatever becomes of the connection |
//! | `mtls_accounts` | the same for a secured stream, as far as its receiver can tell |

mod accounts;
mod acknowledged;
mod device;
mod full_disk;
mod ids;
mod link;
mod loopback;
mod mtls_accounts;
mod pcap_accounts;
mod reader;
