//! When a stream is handed what: at once when it begins, a random while after each change, and never what has expired.

use crate::material::Material;
use crate::surroundings::{Surroundings, part};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

/// One stream's view of the published identity. A clone begins anew.
pub(crate) struct Pushes {
    identity: watch::Receiver<Option<Arc<Material>>>,
    splay: Duration,
    surroundings: Surroundings,
    /// When a change that has been seen is to be handed on.
    due: Option<Instant>,
}

impl Pushes {
    pub(crate) fn new(
        identity: watch::Receiver<Option<Arc<Material>>>,
        splay: Duration,
        surroundings: Surroundings,
    ) -> Self {
        Self { identity, splay, surroundings, due: None }
    }

    /// The identity in force, if it may be handed out.
    pub(crate) fn now(&mut self) -> Result<Arc<Material>, Absent> {
        let material = self.identity.borrow_and_update().clone().ok_or(Absent::NotYet)?;
        if material.is_current(self.surroundings.now()) { Ok(material) } else { Err(Absent::Expired) }
    }

    /// Waits for a change, and then for a random part of the splay. May be given up and asked again.
    ///
    /// Never ends when there will be no more changes.
    pub(crate) async fn changed(&mut self) {
        let due = match self.due {
            Some(due) => due,
            None => {
                if self.identity.changed().await.is_err() {
                    return std::future::pending().await;
                }
                *self.due.insert(Instant::now() + part(self.splay, self.surroundings.random()))
            }
        };
        tokio::time::sleep_until(due).await;
        self.due = None;
    }

    /// Waits until `material` has expired. The clock may be set meanwhile, so it is asked again every minute.
    pub(crate) async fn expiry_of(&self, material: &Material) {
        loop {
            let now = self.surroundings.now();
            if !material.is_current(now) {
                return;
            }
            let left = material.expiry().duration_since(now).unwrap_or_default() + Duration::from_secs(1);
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
    }
}

impl Clone for Pushes {
    fn clone(&self) -> Self {
        Self::new(self.identity.clone(), self.splay, self.surroundings.clone())
    }
}

/// Why there is nothing to hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    NotYet,
    Expired,
}

impl From<Absent> for Status {
    /// `UNAVAILABLE` tells the caller to come back later; `PERMISSION_DENIED` would tell it to cease using what it has (SPIFFE
    /// Workload Endpoint §6, Workload API §5.2.1), and neither case means that.
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::NotYet => Self::unavailable("there is no identity yet"),
            Absent::Expired => Self::unavailable("the identity has expired and there is no newer one yet"),
        }
    }
}

const LOOK_AGAIN: Duration = Duration::from_secs(60);
