//! The door by which `fuzz/` reaches the encoder: exchanges in, datagrams out, without threads and sockets.
//!
//! Nothing of it is in a build without the feature `fuzzing`. What it calls is what the tap's thread calls.

use std::hash::RandomState;
use std::time::{Duration, Instant};

use crate::exchange::Exchange;
use crate::flow::Out;
use crate::pool::{Limits, Pool};
use crate::redact::{Masked, Media};
use crate::transport::vxlan;
use crate::{Message, Reason, Record, Redaction, Sensor, Settings};

/// The datagrams of these exchanges, in order, with everything closed at the end; and for each exchange why it was not
/// copied, or how many datagrams there were after it. The path to the sensor is IPv6 if `outer_v6`.
pub fn datagrams(
    settings: &Settings,
    outer_v6: bool,
    records: impl Iterator<Item = Record>,
) -> (Vec<Vec<u8>>, Vec<Result<usize, Reason>>) {
    let limits = Limits { rollover: settings.rollover, idle: settings.idle, vlan: settings.vlan };
    let mut pool = Pool::new(limits, RandomState::new());
    pool.set_room(vxlan::room(settings.mtu, outer_v6));
    let vni = if let Sensor::Vxlan { vni, .. } = settings.sensor { vni } else { 0 };
    let mut kept = Kept { vni, datagrams: Vec::new() };
    let mut now = Instant::now();
    let fates = records.map(|record| {
        now += Duration::from_millis(100);
        pool.expire(now, &mut kept);
        pool.acknowledge(now, &mut kept);
        let exchange = Exchange::of(record, settings.max_body, settings.http)?;
        pool.write(&exchange, now, &mut kept);
        Ok(kept.datagrams.len())
    });
    let fates = fates.collect();
    pool.close_all(now, &mut kept);
    (kept.datagrams, fates)
}

/// Keeps every datagram.
struct Kept {
    vni: u32,
    datagrams: Vec<Vec<u8>>,
}

impl Out for Kept {
    fn begin(&mut self, _: u64, _: Instant) -> &mut Vec<u8> {
        self.datagrams.push_mut(vxlan::header(self.vni).to_vec())
    }

    fn end(&mut self) {}
}

/// A body of this `content-type`, masked; `None` when it would be refused.
pub fn body(redaction: &Redaction, content_type: &[u8], body: &[u8], cut: bool) -> Option<Vec<u8>> {
    let mut copy = body.to_vec();
    let media = if content_type.is_empty() { Media::Unsaid } else { Media::of(content_type) };
    redaction.body(media, false, &mut copy, cut, &mut Masked::default()).ok()?;
    Some(copy)
}

/// The text of a message's head; `None` when it would be refused.
pub fn head(message: &Message) -> Option<&[u8]> {
    message.head.fault.is_none().then_some(&message.head.text)
}
