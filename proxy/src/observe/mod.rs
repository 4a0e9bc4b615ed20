//! What operators see: access log, refusal lines, metrics, and the admin endpoints. Nothing here may slow a request down.

pub(crate) mod access_log;
pub(crate) mod admin;
pub(crate) mod clock;
mod line;
pub(crate) mod metrics;
pub(crate) mod prometheus;
pub(crate) mod refusal;
pub(crate) mod sink;
pub(crate) mod status;
mod tap_status;
