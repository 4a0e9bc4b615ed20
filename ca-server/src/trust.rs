//! Our own service, `sekisho.ca.v1.Trust`: the bundle now and whenever it changes, and who has taken it over.
//!
//! The caller proves itself by a certificate of ours, which also says of which lineage it is. Its acknowledgements open the
//! gate of a rotation.

use crate::desk::Desk;
use crate::standing::Standing;
use ca::denied::{self, DenyList};
use rpc::Caller;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use wire::sekisho::ca::v1::trust_server::Trust;
use wire::sekisho::ca::v1::{Denied, TrustState, WatchRequest, denied::What};

/// The service over the one desk.
#[derive(Clone)]
pub(crate) struct Watching(pub(crate) Arc<Desk>);

#[tonic::async_trait]
impl Trust for Watching {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<TrustState, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.filter(|caller| caller.svid().is_some());
        let caller = caller.ok_or_else(|| Status::unauthenticated("a watch needs a client certificate of this CA"))?;
        let now = SystemTime::now();
        // The handshake may be older than the bundle, and than the deny list.
        let standing = Arc::clone(&self.0.standing.borrow());
        let svid =
            caller.verified(&standing.bundle, now).map_err(|error| Status::unauthenticated(error.to_string()))?;
        self.0.not_denied(svid, now).map_err(|refused| refused.status())?;
        let lineage = self.0.memory().held(svid).map(|held| held.lineage.record);
        let lineage = lineage.ok_or_else(|| {
            Status::failed_precondition("this CA's log does not know the client certificate; renew it with a token")
        })?;
        let watch = Watch::begin(Arc::clone(&self.0), lineage);
        // One message waits at most: a reader that is slow gets the newest state next, not every one. In a box, since a channel
        // reserves room for 32 of whatever it carries.
        let (states, out) = mpsc::channel(1);
        tokio::spawn(watch.run(request.into_inner(), states));
        Ok(Response::new(Box::pin(ReceiverStream::new(out).map(|state| Ok(*state)))))
    }
}

/// One open stream.
struct Watch {
    desk: Arc<Desk>,
    lineage: u64,
}

impl Watch {
    fn begin(desk: Arc<Desk>, lineage: u64) -> Self {
        desk.metrics.watches.fetch_add(1, Ordering::Relaxed);
        desk.memory().watch(lineage);
        Self { desk, lineage }
    }

    async fn run(self, mut asked: Streaming<WatchRequest>, states: mpsc::Sender<Box<TrustState>>) {
        let mut standing = self.desk.standing.subscribe();
        let mut denied = self.desk.denied.subscribe();
        let mut ending = self.desk.ending.subscribe();
        let mut sent = None;
        loop {
            let state = {
                let (standing, denied) = (standing.borrow_and_update(), denied.borrow_and_update());
                self.state(&standing, &denied, SystemTime::now())
            };
            if sent.as_ref() != Some(&state) {
                if states.send(Box::new(state.clone())).await.is_err() {
                    return;
                }
                sent = Some(state);
            }
            loop {
                tokio::select! {
                    changed = standing.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    changed = denied.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    message = asked.next() => match message {
                        Some(Ok(message)) if message.leaving => {
                            self.desk.memory().roster.goodbye(self.lineage);
                            return;
                        }
                        Some(Ok(message)) => self.hear(&message),
                        // Half-closed in order, or lost: the roster waits for it to come back.
                        Some(Err(_)) | None => return,
                    },
                    () = states.closed() => return,
                    // It would hold up the end until its time is over, and its holder with it.
                    _ = ending.wait_for(|ending| *ending) => return,
                }
            }
        }
    }

    fn hear(&self, message: &WatchRequest) {
        let published = self.desk.standing.borrow().rotation.sequence();
        let mut memory = self.desk.memory();
        if message.refused.is_empty() {
            memory.roster.acked(self.lineage, message.acknowledged, published);
        } else {
            memory.roster.nacked(self.lineage, published, &message.refused);
        }
    }

    fn state(&self, standing: &Standing, denied: &DenyList, now: SystemTime) -> TrustState {
        let renew = standing.rotation.renew();
        // The change is known to the second. Who renewed within that second and after it renews once more.
        let before = |since: SystemTime| {
            let settled = since + Duration::from_secs(1);
            self.desk.memory().newest(self.lineage).is_none_or(|issued| issued < settled)
        };
        TrustState {
            sequence: standing.rotation.sequence(),
            roots: standing.bundle.roots().iter().map(|root| root.to_vec()).collect(),
            denied: denied.entries(now).iter().map(entry).collect(),
            renew_within: renew
                .filter(|renew| before(renew.since()))
                .map_or(0, |renew| u32::try_from(renew.splay().as_secs()).unwrap_or(u32::MAX).max(1)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.desk.metrics.watches.fetch_sub(1, Ordering::Relaxed);
        self.desk.memory().unwatch(self.lineage);
    }
}

fn entry(entry: &denied::Entry) -> Denied {
    let until = entry.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let what = match &entry.denied {
        denied::Denied::Id(id) => What::SpiffeId(id.as_str().to_owned()),
        denied::Denied::Serial(serial) => What::Serial(serial.clone()),
        denied::Denied::Key(key) => What::Key(unhex(key)),
    };
    Denied { what: Some(what), until: i64::try_from(until).unwrap_or(i64::MAX) }
}

/// Of a value that the deny list has checked to be hexadecimal.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    text.as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |octet, d| octet << 4 | digit(d))).collect()
}
