//! Taking the identity from a CA: a key made here, a certificate for it, the CA's roots as they change.
//!
//! First comes the token: without a certificate we know the CA by roots that were given to us, and it knows us by the token. From
//! then on we show the certificate: renewals with a new key at about half of its life, and a watch of the bundle, which we
//! acknowledge once it is in force. What a certificate no longer opens (it has ended, the CA has lost its log, the roots
//! are others) the token opens again. The key never leaves this process.

use super::ca_call::{ANSWER, Call, Expected};
use super::status::Status;
use super::{Broken, left, pause};
use crate::material::Material;
use crate::readers::Readers;
use crate::surroundings::{Surroundings, part};
use crate::text::printable;
use identity::{Bundle, CertificateDer, Denial, Denials, SpiffeId, TrustDomain};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, watch};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use wire::sekisho::ca::v1::denied::What;
use wire::sekisho::ca::v1::trust_client::TrustClient;
use wire::sekisho::ca::v1::{Denied, TrustState, WatchRequest};

/// Something that is read again for every use, since it is replaced from outside; or why it cannot be, as a sentence.
pub type Paper = Arc<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>;

/// What is needed of a CA, and where the result goes.
pub struct FromCa {
    /// `host:port`.
    pub address: String,
    /// Who it must be.
    pub expected: Expected,
    /// PEM of the roots by which it is known at first.
    pub roots: Paper,
    /// The token that proves us at first.
    pub token: Paper,
    /// Our cluster's name there.
    pub cluster: Option<String>,
    /// The lifetime to ask for.
    pub ttl: Option<Duration>,
    /// Who we are; nothing else is accepted.
    pub workload: SpiffeId,
    /// Where the identity is published.
    pub identity: watch::Sender<Option<Arc<Material>>>,
    /// Where the source's state is published.
    pub status: watch::Sender<Status>,
    /// Who has the identity from us: new roots are acknowledged for them as well.
    pub readers: Readers,
    /// The clock and the randomness.
    pub surroundings: Surroundings,
    /// Becomes true when the process is about to end in order: the CA is told.
    pub leaving: watch::Receiver<bool>,
}

/// Follows a CA until dropped.
pub async fn follow_ca(source: FromCa) {
    let mut attempt = 0;
    let mut kept = Kept::default();
    loop {
        let mut delivered = false;
        let broken = source.session(&mut kept, &mut delivered).await;
        if *source.leaving.borrow() {
            return;
        }
        let (text, now) = (printable(&broken.text), source.surroundings.now());
        source.status.send_modify(|status| status.failed(text, now));
        attempt = if delivered { 0 } else { attempt + 1 };
        let left = left(&source.identity, source.surroundings.now());
        tokio::time::sleep(pause(attempt, source.surroundings.random(), broken.patience, left)).await;
    }
}

/// What one session leaves to the next.
#[derive(Debug, Default)]
struct Kept {
    due: Option<Due>,
    /// The last certificate that was asked for did not come. While one is wanted, that a CA answers a watch mends nothing.
    in_vain: bool,
}

/// When a certificate is to be renewed. Kept from session to session: were it worked out anew with each, a watch that breaks often
/// would put it off again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    serial: String,
    at: SystemTime,
}

/// What happens next in a session.
enum Next {
    /// The CA says something.
    State(Option<TrustState>),
    /// It may be time to renew.
    Look,
    /// The process ends.
    Leave,
}

impl FromCa {
    /// From a certificate, new or still good, until something breaks.
    async fn session(&self, kept: &mut Kept, delivered: &mut bool) -> Broken {
        match self.steps(kept, delivered).await {
            Ok(()) => Broken::soon("the CA has ended the connection".to_owned()),
            Err(broken) => broken,
        }
    }

    async fn steps(&self, kept: &mut Kept, delivered: &mut bool) -> Result<(), Broken> {
        let Kept { due, in_vain } = kept;
        let mut material = match self.in_force() {
            Some(material) => material,
            None => {
                let material = asked(in_vain, self.first()).await?;
                *delivered = true;
                material
            }
        };
        let mut renew_at = self.renewal_of(&material, due);
        // Without a watch there is nobody to tell of new roots: they come with each certificate.
        let mut watch = match self.watch(&material, in_vain).await {
            // A watch that does not come about keeps nobody from the certificate that is due.
            Err(broken) if due.as_ref().is_some_and(|due| due.at <= self.surroundings.now()) => {
                asked(in_vain, self.renewed(&material, None)).await?;
                *delivered = true;
                return Err(broken);
            }
            opened => opened?,
        };
        loop {
            let wait = renew_at.duration_since(self.surroundings.now()).unwrap_or_default();
            match next(&mut watch, wait, self.leaving.clone()).await? {
                Next::Leave => {
                    if let Some(watch) = &watch {
                        watch.say(WatchRequest { leaving: true, ..WatchRequest::default() }).await?;
                    }
                    return Ok(());
                }
                Next::State(None) => return Ok(()),
                Next::State(Some(state)) => {
                    *delivered = true;
                    // Nor is one missing that was wanted only because there was no watch, or for a rotation that was taken back.
                    *in_vain &= is_wanted(&state, due.as_ref(), self.surroundings.now());
                    if let Some(changed) = self.take_over(&material, &state, watch.as_ref(), *in_vain).await? {
                        material = changed;
                    }
                    if state.renew_within > 0 {
                        let within = Duration::from_secs(u64::from(state.renew_within));
                        // Others hear of new roots now, and have to have them before we show what was made with one.
                        let ahead = (within / 4).min(AHEAD);
                        let soon = self.surroundings.now() + ahead + part(within - ahead, self.surroundings.random());
                        renew_at = renew_at.min(soon);
                    }
                }
                Next::Look if self.surroundings.now() < renew_at => {}
                Next::Look => {
                    material = asked(in_vain, self.renewed(&material, watch.as_ref())).await?;
                    *delivered = true;
                    renew_at = self.renewal_of(&material, due);
                }
            }
        }
    }

    /// The identity of an earlier session, while it is worth showing.
    fn in_force(&self) -> Option<Arc<Material>> {
        let now = self.surroundings.now();
        self.identity.borrow().clone().filter(|material| material.is_current(now))
    }

    /// The first certificate, by token.
    async fn first(&self) -> Result<Arc<Material>, Broken> {
        let call = Call::as_stranger(self).await?;
        let material = call.certificate(self, Some(self.read_token()?)).await?;
        Ok(self.publish_issued(material))
    }

    /// The next one, by the certificate before; by the token where that is not enough.
    async fn renewed(&self, material: &Material, watch: Option<&Watch>) -> Result<Arc<Material>, Broken> {
        if matches!(self.expected, Expected::Id(_)) {
            // The watch's connection has proved the certificate in force, unless that is younger: then it takes a new one.
            let open = match watch.and_then(|watch| watch.proves(material)) {
                Some(call) => Ok(call),
                None => Call::as_ourselves(self, material).await,
            };
            match open {
                Ok(call) => match call.certificate(self, None).await {
                    Ok(material) => return Ok(self.publish_issued(material)),
                    // It is not us that is refused, but this certificate.
                    Err(refused) if refused.code.is_some_and(is_about_the_certificate) => {}
                    Err(refused) => return Err(refused.into()),
                },
                Err(refused) if refused.tls => {}
                Err(other) => return Err(other.into()),
            }
        }
        self.first().await
    }

    /// The watch of the bundle; `None` where the CA has no such service.
    async fn watch(&self, material: &Material, in_vain: &mut bool) -> Result<Option<Watch>, Broken> {
        if !matches!(self.expected, Expected::Id(_)) {
            return Ok(None);
        }
        let call = match Call::as_ourselves(self, material).await {
            Ok(call) => call,
            Err(refused) if refused.tls => {
                // The CA's certificate is of a root that we do not know yet, or ours of one that it knows no more.
                asked(in_vain, self.first()).await?;
                return Err(Broken::soon("the certificate was taken anew by the token".to_owned()));
            }
            Err(other) => return Err(other.into()),
        };
        let (say, hear) = mpsc::channel(4);
        let mut client = TrustClient::new(call.channel());
        let opened = tokio::time::timeout(ANSWER, client.watch(ReceiverStream::new(hear))).await;
        match opened.map_err(|_elapsed| Broken::soon("the CA does not answer a watch".to_owned()))? {
            Ok(states) => {
                let shown = *material.credentials().svid().hash();
                Ok(Some(Watch { say, states: states.into_inner(), call, shown }))
            }
            Err(status) if status.code() == Code::Unimplemented => Ok(None),
            Err(status) if is_about_the_certificate(status.code()) => {
                asked(in_vain, self.first()).await?;
                Err(Broken::soon("the certificate was taken anew by the token".to_owned()))
            }
            Err(status) => Err(status.into()),
        }
    }

    /// Puts new roots in force and acknowledges them, or says why not.
    async fn take_over(
        &self,
        material: &Arc<Material>,
        state: &TrustState,
        watch: Option<&Watch>,
        in_vain: bool,
    ) -> Result<Option<Arc<Material>>, Broken> {
        let taken = self.with_roots(material, state);
        let answer = match &taken {
            Ok(_) => WatchRequest { acknowledged: state.sequence, ..WatchRequest::default() },
            Err(why) => WatchRequest { refused: why.clone(), ..WatchRequest::default() },
        };
        let taken = match taken {
            Ok(Some(changed)) if in_vain => Some(self.put_in_force(changed)),
            Ok(Some(changed)) => Some(self.publish(changed)),
            Ok(None) if in_vain => None,
            // Nothing has changed, and the CA is there again: a fault of before is over.
            Ok(None) => {
                let now = self.surroundings.now();
                self.status.send_if_modified(|status| {
                    let over = status.fault.is_some();
                    if over {
                        status.delivered(now);
                    }
                    over
                });
                None
            }
            Err(why) => {
                let now = self.surroundings.now();
                self.status.send_modify(|status| status.failed(printable(&why), now));
                None
            }
        };
        if let Some(watch) = watch {
            if let Some(changed) = &taken {
                self.readers.have(changed.version()).await;
            }
            watch.say(answer).await?;
        }
        Ok(taken)
    }

    /// The identity under these roots; `None` where they are the same.
    fn with_roots(&self, material: &Material, state: &TrustState) -> Result<Option<Material>, String> {
        let roots = state.roots.iter().map(|root| CertificateDer::from(root.clone()));
        let domain = TrustDomain::parse(self.workload.trust_domain()).map_err(|error| error.to_string())?;
        let bundle = Bundle::from_roots(domain, roots).map_err(|error| error.to_string())?;
        let bundle = bundle.ok_or("the CA sent no roots")?.denying(denials(&state.denied)?);
        if bundle.roots() == material.bundle().roots() && bundle.denials() == material.bundle().denials() {
            return Ok(None);
        }
        material
            .under(bundle, self.surroundings.now())
            .map(Some)
            .map_err(|error| format!("under the new roots our own certificate does not verify: {error}"))
    }

    /// Half of what is left when it is new, a tenth more or less, so that those who began together do not stay together. Once that is
    /// past, because the CA was away, soon, and not all at once either.
    fn renewal_of(&self, material: &Material, due: &mut Option<Due>) -> SystemTime {
        let (now, random) = (self.surroundings.now(), self.surroundings.random());
        let left = material.expiry().duration_since(now).unwrap_or_default();
        let serial = material.credentials().svid().serial();
        if let Some(due) = due.as_ref().filter(|due| due.serial == serial) {
            return if due.at > now { due.at } else { now + part((left / 8).min(LATE), random) };
        }
        let tenth = left / 10;
        let at = now + left / 2 - tenth / 2 + part(tenth, random);
        *due = Some(Due { serial: serial.to_owned(), at });
        at
    }

    fn read_token(&self) -> Result<String, Broken> {
        let text = (self.token)().map_err(|why| Broken::soon(format!("the token: {why}")))?;
        let token = text.trim_ascii();
        if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
            return Err(Broken::soon("the token: it is empty, or no token".to_owned()));
        }
        Ok(String::from_utf8_lossy(token).into_owned())
    }

    /// A certificate comes with roots and without the deny list, which only the watch brings, and only when it changes: the one in
    /// force stays.
    fn publish_issued(&self, material: Material) -> Arc<Material> {
        let denials = self.identity.borrow().as_ref().map(|before| before.bundle().denials().clone());
        let denying = denials.filter(|denials| *denials != Denials::default()).map(|denials| {
            let bundle = material.bundle().denying(denials);
            material.under(bundle, self.surroundings.now())
        });
        match denying {
            Some(Ok(denying)) => self.publish(denying),
            // The same chain under the same roots was verified a moment ago.
            Some(Err(_)) | None => self.publish(material),
        }
    }

    fn publish(&self, material: Material) -> Arc<Material> {
        let now = self.surroundings.now();
        self.status.send_modify(|status| status.delivered(now));
        self.put_in_force(material)
    }

    fn put_in_force(&self, material: Material) -> Arc<Material> {
        let material = Arc::new(material);
        self.identity.send_replace(Some(Arc::clone(&material)));
        material
    }
}

/// Whether a certificate is to be had now, by what the CA says or by the age of the one in force.
fn is_wanted(state: &TrustState, due: Option<&Due>, now: SystemTime) -> bool {
    state.renew_within > 0 || due.is_some_and(|due| due.at <= now)
}

/// Asks for a certificate, and keeps in mind whether it came.
async fn asked<T>(in_vain: &mut bool, request: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
    let answer = request.await;
    *in_vain = answer.is_err();
    answer
}

/// Whether a refusal is of the certificate that was shown, so that a token may do better: it has ended, the log does not know it, or
/// it is denied. (Where the name is denied, the token is refused as well.)
fn is_about_the_certificate(code: Code) -> bool {
    matches!(code, Code::Unauthenticated | Code::FailedPrecondition | Code::PermissionDenied)
}

/// The deny list of a message. An entry that cannot be read is not passed over: it would let somebody in.
fn denials(entries: &[Denied]) -> Result<Denials, String> {
    let mut denials = Denials::default();
    for entry in entries {
        let denial = match &entry.what {
            Some(What::SpiffeId(id)) => Denial::Id(SpiffeId::parse(id).map_err(|error| error.to_string())?),
            Some(What::Serial(serial)) => Denial::Serial(serial.clone()),
            Some(What::Key(key)) => Denial::Key(key.as_slice().try_into().map_err(|_| "a key is 32 octets")?),
            None => return Err("an entry of the deny list denies nothing that is known here".to_owned()),
        };
        let until = Duration::from_secs(u64::try_from(entry.until).unwrap_or_default());
        denials.add(denial, SystemTime::UNIX_EPOCH + until);
    }
    Ok(denials)
}

/// An open watch.
struct Watch {
    say: mpsc::Sender<WatchRequest>,
    states: Streaming<TrustState>,
    /// Its connection.
    call: Call,
    /// SHA-256 of the certificate that was shown on it.
    shown: [u8; 32],
}

impl Watch {
    /// Its connection, if that is one of this certificate's holder.
    fn proves(&self, material: &Material) -> Option<Call> {
        (self.shown == *material.credentials().svid().hash()).then(|| self.call.clone())
    }

    /// A stream that has ended is noticed where it is read. One that takes nothing any more would hold us up, renewals with it.
    async fn say(&self, message: WatchRequest) -> Result<(), Broken> {
        match self.say.send_timeout(message, ANSWER).await {
            Ok(()) | Err(SendTimeoutError::Closed(_)) => Ok(()),
            Err(SendTimeoutError::Timeout(_)) => Err(Broken::soon("the CA does not hear what it is told".to_owned())),
        }
    }
}

async fn next(
    watch: &mut Option<Watch>,
    wait: Duration,
    mut leaving: watch::Receiver<bool>,
) -> Result<Next, tonic::Status> {
    let state = async {
        match watch {
            Some(watch) => watch.states.message().await,
            None => std::future::pending().await,
        }
    };
    let left = async {
        if leaving.wait_for(|leaving| *leaving).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        state = state => state.map(Next::State),
        // Long sleeps in parts: the clock may be set, and timers of the runtime know nothing of it.
        () = tokio::time::sleep(wait.min(LONGEST_SLEEP)) => Ok(Next::Look),
        () = left => Ok(Next::Leave),
    }
}

/// The time others have to put new roots in force.
const AHEAD: Duration = Duration::from_secs(1);
/// Over how long those who are late spread themselves.
const LATE: Duration = Duration::from_secs(60);
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::papers::{Papers, Pki};

    fn material(papers: &Papers) -> Material {
        let Papers { id, chain, key, roots, .. } = papers;
        Material::from_pem(chain.as_bytes(), key.as_bytes(), roots.as_bytes(), id, SystemTime::now()).unwrap()
    }

    fn source(workload: &SpiffeId) -> FromCa {
        FromCa {
            address: "ca.invalid:1".to_owned(),
            expected: Expected::Id(workload.clone()),
            roots: Arc::new(|| Ok(Vec::new())),
            token: Arc::new(|| Ok(Vec::new())),
            cluster: None,
            ttl: None,
            workload: workload.clone(),
            identity: watch::channel(None).0,
            status: watch::channel(Status::default()).0,
            readers: Readers::default(),
            surroundings: Surroundings::real(),
            leaving: watch::channel(false).1,
        }
    }

    #[test]
    fn a_renewal_is_not_put_off_by_another_session_and_soon_once_it_is_late() {
        use std::sync::Mutex;
        let pki = Pki::new("example.org");
        let papers = pki.papers("spiffe://example.org/ns/shop/sa/web");
        let own = material(&papers);
        let clock = Arc::new(Mutex::new(SystemTime::now()));
        let shown = Arc::clone(&clock);
        let mut source = source(&papers.id);
        source.surroundings = Surroundings::new(move || *shown.lock().unwrap(), || u64::MAX);
        let begun = *clock.lock().unwrap();
        let left = own.expiry().duration_since(begun).unwrap();
        let mut due = None;
        let at = source.renewal_of(&own, &mut due);
        let part = at.duration_since(begun).unwrap().as_secs_f64() / left.as_secs_f64();
        assert!((0.54..0.56).contains(&part), "{part}");
        let mut later = |after: Duration| {
            *clock.lock().unwrap() = begun + after;
            source.renewal_of(&own, &mut due).duration_since(begun).unwrap() - after
        };
        let at = at.duration_since(begun).unwrap();
        assert_eq!(later(at / 2), at - at / 2);
        assert!(later(at + Duration::from_secs(1)) <= LATE);
        assert!(later(left - Duration::from_secs(80)) <= Duration::from_secs(10));
        // Another certificate has a time of its own.
        let next = material(&pki.papers(papers.id.as_str()));
        *clock.lock().unwrap() = begun;
        assert!(source.renewal_of(&next, &mut due) > begun + left / 3);
    }

    #[test]
    fn the_deny_list_outlives_renewals_until_the_watch_brings_another() {
        let pki = Pki::new("example.org");
        let papers = pki.papers("spiffe://example.org/ns/shop/sa/web");
        let source = source(&papers.id);
        let first = source.publish_issued(material(&papers));
        let until = SystemTime::now() + Duration::from_secs(60);
        let state = |denied: &[&str]| TrustState {
            roots: first.bundle().roots().iter().map(|root| root.to_vec()).collect(),
            denied: denied
                .iter()
                .map(|id| Denied {
                    what: Some(What::SpiffeId((*id).to_owned())),
                    until: until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed(),
                })
                .collect(),
            ..TrustState::default()
        };
        let (db, own) = ("spiffe://example.org/ns/shop/sa/db", papers.id.as_str());
        let denying = source.with_roots(&first, &state(&[db, own])).unwrap().unwrap();
        let denying = source.publish(denying);
        assert_eq!(denying.bundle().denials().len(), 2);
        let renewed = source.publish_issued(material(&pki.papers(own)));
        assert_ne!(renewed.version(), first.version());
        assert_eq!(renewed.bundle().denials(), denying.bundle().denials());
        let lifted = source.with_roots(&renewed, &state(&[])).unwrap().unwrap();
        assert!(lifted.bundle().denials().is_empty());
        let renewed = {
            source.publish(lifted);
            source.publish_issued(material(&pki.papers(own)))
        };
        assert!(renewed.bundle().denials().is_empty());
    }

    #[tokio::test]
    async fn an_answered_watch_ends_a_fault_of_the_watch_and_none_of_a_certificate_that_did_not_come() {
        let pki = Pki::new("example.org");
        let papers = pki.papers("spiffe://example.org/ns/shop/sa/web");
        let source = source(&papers.id);
        let own = source.publish_issued(material(&papers));
        let same = TrustState {
            roots: own.bundle().roots().iter().map(|root| root.to_vec()).collect(),
            ..TrustState::default()
        };
        let stranger = Denied { what: Some(What::Serial("0a".to_owned())), until: 0 };
        let other = TrustState { denied: vec![stranger], ..same.clone() };
        let fails = || source.status.send_modify(|status| status.failed("signing".to_owned(), SystemTime::now()));
        let has_fault = || source.status.borrow().fault.is_some();
        let mut in_vain = false;
        for (state, changes) in [(&same, false), (&other, true)] {
            fails();
            asked::<()>(&mut in_vain, async { Err(Broken::soon("signing".to_owned())) }).await.unwrap_err();
            let taken = source.take_over(&own, state, None, in_vain).await.unwrap();
            assert_eq!((taken.is_some(), has_fault()), (changes, true));
            asked(&mut in_vain, async { Ok(()) }).await.unwrap();
            source.take_over(&own, state, None, in_vain).await.unwrap();
            assert!(!has_fault());
        }
        let now = SystemTime::now();
        let due = |at| Some(Due { serial: "0a".to_owned(), at });
        assert!(!is_wanted(&same, due(now + LATE).as_ref(), now));
        assert!(is_wanted(&same, due(now).as_ref(), now));
        assert!(is_wanted(&TrustState { renew_within: 1, ..same }, due(now + LATE).as_ref(), now));
    }
}
