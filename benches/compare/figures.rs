//! What is read from one record: each function is one figure, in the unit of its name.

use serde_json::Value;

use crate::cost::{self, number};

const SIDES: [&str; 2] = ["caller", "callee"];

/// CPU of both sidecars, user and system, per request.
pub(crate) fn cpu_us(run: &Value) -> f64 {
    user_us(run) + system_us(run)
}

pub(crate) fn user_us(run: &Value) -> f64 {
    seconds(run, "user_s") * 1e6 / requests(run)
}

pub(crate) fn system_us(run: &Value) -> f64 {
    seconds(run, "system_s") * 1e6 / requests(run)
}

/// The cores that both sidecars would need for a rate, by what a request cost them: those that they had may not have
/// been enough.
pub(crate) fn cores_at(rate: u32) -> impl Fn(&Value) -> f64 {
    move |run| cpu_us(run) * f64::from(rate) / 1e6
}

/// Share of their core that both sidecars used.
pub(crate) fn sidecars_share(run: &Value) -> f64 {
    cost::share(run, ["caller", "callee"])
}

/// Share of their core that load and origin used.
pub(crate) fn load_share(run: &Value) -> f64 {
    cost::share(run, ["origin", "load"])
}

/// Share of the sidecars' core that went to others.
pub(crate) fn others_share(run: &Value) -> f64 {
    number(&run["other_work"]["sidecar_core"])
}

pub(crate) fn requests_per_second(run: &Value) -> f64 {
    requests(run) / number(&run["seconds"])
}

/// CPU of both sidecars per 10⁹ bytes of body.
pub(crate) fn cpu_s_per_gb(run: &Value) -> f64 {
    (seconds(run, "user_s") + seconds(run, "system_s")) * 1e9 / number(&run["bytes"])
}

pub(crate) fn gb_per_second(run: &Value) -> f64 {
    number(&run["bytes"]) / 1e9 / number(&run["seconds"])
}

/// CPU of the callee per connection.
pub(crate) fn callee_ms(run: &Value) -> f64 {
    (number(&run["callee"]["user_s"]) + number(&run["callee"]["system_s"])) * 1e3 / requests(run)
}

/// The share of connections for which the callee agreed to what was offered, `resumed` or `post_quantum`.
pub(crate) fn agreed(offer: &'static str) -> impl Fn(&Value) -> f64 {
    move |run| number(&run[offer]) / requests(run)
}

/// Latency from when a request was due, in µs.
pub(crate) fn latency(quantile: &'static str) -> impl Fn(&Value) -> f64 {
    move |run| run["latency_us"][quantile].as_f64().unwrap_or(f64::NAN)
}

/// System calls of a sidecar per request: `all`, `socket` or `epoll`; the mean of the two sidecars.
pub(crate) fn syscalls(kind: &'static str) -> impl Fn(&Value) -> f64 {
    move |run| SIDES.iter().map(|side| number(&run[*side][kind])).sum::<f64>() / 2.0 / requests(run)
}

/// Resident memory at the end of a load.
pub(crate) fn loaded_mib(side: &'static str) -> impl Fn(&Value) -> f64 {
    move |run| number(&run[side]["memory_kib"]["rss"]) / 1024.0
}

/// The larger of both sidecars at the end of a load.
pub(crate) fn larger_loaded_mib(run: &Value) -> f64 {
    f64::max(loaded_mib("caller")(run), loaded_mib("callee")(run))
}

/// Resident memory without load.
pub(crate) fn idle_mib(side: &'static str) -> impl Fn(&Value) -> f64 {
    move |run| number(&run[side]["rss"]) / 1024.0
}

/// The larger of both sidecars without load.
pub(crate) fn larger_idle_mib(run: &Value) -> f64 {
    f64::max(idle_mib("caller")(run), idle_mib("callee")(run))
}

/// What the side that holds the idle connections grew by, per connection.
pub(crate) fn idle_kib_each(side: &'static str) -> impl Fn(&Value) -> f64 {
    move |run| (number(&run["held"][side]["rss"]) - number(&run["before"][side]["rss"])) / number(&run["connections"])
}

/// Resident memory at a moment of W6: `before`, `held` or `closed`.
pub(crate) fn held_mib(moment: &'static str, side: &'static str) -> impl Fn(&Value) -> f64 {
    move |run| number(&run[moment][side]["rss"]) / 1024.0
}

/// Memory after the connections are closed, as a multiple of what it was before.
pub(crate) fn afterwards(side: &'static str) -> impl Fn(&Value) -> f64 {
    move |run| number(&run["closed"][side]["rss"]) / number(&run["before"][side]["rss"])
}

/// Copies that a tap lost; no figure where the make does not say.
pub(crate) fn dropped(run: &Value) -> f64 {
    run["dropped"].as_f64().unwrap_or(f64::NAN)
}

/// The most memory the callee had up to the end of a load, which a queue of copies would show.
pub(crate) fn callee_peak_mib(run: &Value) -> f64 {
    number(&run["callee"]["memory_kib"]["peak"]) / 1024.0
}

fn seconds(run: &Value, kind: &str) -> f64 {
    SIDES.iter().map(|side| number(&run[*side][kind])).sum()
}

fn requests(run: &Value) -> f64 {
    number(&run["requests"])
}
