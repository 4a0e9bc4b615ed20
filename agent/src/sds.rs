//! The server of Envoy's secret discovery (xDS v3, state of the world), as SPIRE's agent serves it.
//!
//! A stream begins with the names of the secrets that its Envoy wants, and is sent each of them, at once and whenever the
//! identity changes. While there is no identity, the stream is kept open and answered when there is one: an Envoy told to come
//! back later would wait longer than needed, with all of its listeners (it binds none before their secrets are there).
//! `DeltaSecrets` is not served.

mod conversation;
mod names;
mod secrets;

use crate::observer::Api;
use crate::pushes::Pushes;
use crate::streams::{Place, Streams};
use conversation::{Conversation, Heard};
pub(crate) use secrets::{SECRET, VALIDATOR, VALIDATOR_CONFIG};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use wire::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;

/// Bytes of a request: an Envoy lists each of its extensions, which is tens of kilobytes.
pub(crate) const REQUEST: usize = 512 * 1024;

/// The service.
pub(crate) struct Sds {
    pushes: Pushes,
    streams: Streams,
}

impl Sds {
    pub(crate) fn new(pushes: Pushes, streams: Streams) -> Self {
        Self { pushes, streams }
    }
}

type Sender = mpsc::Sender<Result<DiscoveryResponse, Status>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Sds {
    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let process = self.streams.process(Api::Secrets, &request)?;
        let place = self.streams.begin(Api::Secrets, process)?;
        let (sender, receiver) = mpsc::channel(1);
        let (pushes, requests) = (self.pushes.clone(), request.into_inner());
        tokio::spawn(async move {
            if let Err(status) = converse(pushes, requests, &place, &sender).await {
                let _ = sender.send(Err(place.refuse(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let process = self.streams.process(Api::Secrets, &request)?;
        let place = self.streams.begin(Api::Secrets, process)?;
        let material = self.pushes.clone().now().map_err(|absent| place.refuse(absent.into()))?;
        let mut conversation = Conversation::default();
        let answer = conversation.hear(request.into_inner()).and_then(|_| conversation.answer(&material));
        let answer = answer.map_err(|refusal| place.refuse(refusal.into()))?;
        place.served(material.version());
        Ok(Response::new(answer))
    }
}

/// One stream, until either side ends it.
async fn converse(
    mut pushes: Pushes,
    mut requests: Streaming<DiscoveryRequest>,
    place: &Place,
    sender: &Sender,
) -> Result<(), Status> {
    let mut conversation = Conversation::default();
    loop {
        if conversation.owes_an_answer()
            && let Ok(material) = pushes.now()
        {
            if sender.send(Ok(conversation.answer(&material)?)).await.is_err() {
                return Ok(());
            }
            place.served(material.version());
        }
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    let heard = conversation.hear(request)?;
                    if heard == Heard::Acknowledgement && let Some(version) = conversation.version() {
                        place.has(version);
                    }
                    tell(place, heard);
                }
                // Its end, or that of the connection: nobody is left to answer.
                Ok(None) | Err(_) => return Ok(()),
            },
            () = pushes.changed() => if let Ok(material) = pushes.now() {
                conversation.learn(material.version());
            },
            () = sender.closed() => return Ok(()),
        }
    }
}

fn tell(place: &Place, heard: Heard) {
    match heard {
        Heard::Subscription | Heard::Acknowledgement => {}
        Heard::Rejection { version, why } => place.rejected(&version, &why),
        Heard::Stale => place.stale(),
    }
}
