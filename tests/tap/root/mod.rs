//! The tunnel as it is on the wire: tcpdump captures what leaves, and its count has to be the sidecar's.
//!
//! | file | idea |
//! | --- | --- |
//! | `loopback` | the datagrams of a sensor on the same host, taken apart by tshark |
//! | `link` | a sensor's host: a network namespace behind a link, and captures on it |
//! | `device` | the kernel's own VXLAN device as the receiver |
//! | `ids` | the Community IDs in records, and those of the packets on the wire and in the copy |
//! | `accounts` | packets captured are packets counted as sent, whatever becomes of them |

mod accounts;
mod device;
mod ids;
mod link;
mod loopback;
