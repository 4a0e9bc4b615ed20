//! The story of one request for a certificate, in the order cheap to dear.
//!
//! ```text
//! source's bucket → turn → log works → evidence → request (form, key, possession) → deny list → holder's bucket → replay
//!   → signature → record, durable → certificate
//! ```
//! A step that refuses leaves the later ones undone, and nothing used up.

use crate::answer::Refused;
use crate::buckets::Buckets;
use crate::kubernetes::Api;
use crate::memory::{self, Held, Leaf, Memory};
use crate::metrics::Metrics;
use crate::standing::Standing;
use crate::turns::Turns;
use arc_swap::ArcSwap;
use ca::attest::{Admission, Attested, Clusters, JoinToken, Lineage, PodToken, Refetch, Refusal, renew};
use ca::denied::DenyList;
use ca::log::{self, Event, Log, RefusalBudget, Text};
use ca::{Issued, Tokens, parse_csr};
use config::Lifetimes;
use identity::{CertificateDer, SpiffeId, Svid};
use rpc::Caller;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, SemaphorePermit, oneshot, watch};
use tonic::Code;

/// What all requests share.
pub(crate) struct Desk {
    /// Who we are. Nobody else is given that name: sidecars take roots and deny list from whoever has it.
    pub(crate) own: SpiffeId,
    pub(crate) standing: watch::Sender<Arc<Standing>>,
    pub(crate) denied: watch::Sender<Arc<DenyList>>,
    pub(crate) clusters: ArcSwap<Clusters>,
    pub(crate) tokens: Tokens,
    pub(crate) log: Log,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) turns: Turns,
    pub(crate) lifetimes: Lifetimes,
    /// The last record could be written.
    pub(crate) log_works: AtomicBool,
    /// API servers by the names of their clusters.
    pub(crate) apis: BTreeMap<String, Api>,
    /// Somebody shows a key that is not known here.
    pub(crate) keys_wanted: Notify,
    refetch: Mutex<Refetch>,
    /// The server is about to end: what would last for ever ends first.
    pub(crate) ending: watch::Sender<bool>,
    memory: Mutex<Memory>,
    sources: Mutex<Buckets<IpAddr>>,
    holders: Mutex<Buckets<String>>,
    refusals: Mutex<RefusalBudget>,
}

/// What a desk is made of.
pub(crate) struct Parts {
    pub(crate) own: SpiffeId,
    pub(crate) standing: Standing,
    pub(crate) denied: DenyList,
    pub(crate) clusters: Clusters,
    pub(crate) tokens: Tokens,
    pub(crate) log: Log,
    pub(crate) memory: Memory,
    pub(crate) apis: BTreeMap<String, Api>,
    pub(crate) turns: Turns,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) shares: Shares,
    pub(crate) now: SystemTime,
}

/// How much for one caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    pub(crate) per_source_per_second: u32,
    pub(crate) per_holder_per_hour: u32,
}

/// One request.
pub(crate) struct Ask<'a> {
    /// PEM.
    pub(crate) csr: &'a str,
    /// The lifetime that is asked for.
    pub(crate) ttl: Option<Duration>,
    /// What stands after `Bearer ` in the metadata `authorization`.
    pub(crate) bearer: Option<&'a str>,
    pub(crate) caller: &'a Caller,
}

/// A certificate that may leave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) issued: Issued,
    /// The roots to be known with it.
    pub(crate) bundle_pem: String,
}

/// What was known of a request when it was refused, for the record.
#[derive(Default)]
struct Known {
    attested: Option<Attested>,
    spki: Option<log::Hash>,
}

impl Desk {
    pub(crate) fn new(parts: Parts) -> Self {
        let (source, holder) = (parts.shares.per_source_per_second, parts.shares.per_holder_per_hour);
        Self {
            own: parts.own,
            standing: watch::Sender::new(Arc::new(parts.standing)),
            denied: watch::Sender::new(Arc::new(parts.denied)),
            clusters: ArcSwap::from_pointee(parts.clusters),
            tokens: parts.tokens,
            log: parts.log,
            metrics: Arc::default(),
            turns: parts.turns,
            lifetimes: parts.lifetimes,
            log_works: AtomicBool::new(true),
            apis: parts.apis,
            keys_wanted: Notify::new(),
            refetch: Mutex::new(Refetch::new(Duration::from_secs(10))),
            ending: watch::Sender::new(false),
            memory: Mutex::new(parts.memory),
            sources: Mutex::new(Buckets::new(source, Duration::from_secs(1), MOST_CALLERS)),
            holders: Mutex::new(Buckets::new(holder, Duration::from_secs(3600), MOST_CALLERS)),
            refusals: Mutex::new(RefusalBudget::new(parts.now)),
        }
    }

    /// Issues, or says why not. A refusal is counted and, within a bound, on record.
    pub(crate) async fn issue(&self, ask: Ask<'_>) -> Result<Answer, Refused> {
        let began = Instant::now();
        let mut known = Known::default();
        match self.steps(&ask, &mut known).await {
            Ok(answer) => {
                let kind = known.attested.as_ref().map_or("", |attested| attested.evidence().kind());
                self.metrics.issued(kind, began.elapsed());
                Ok(answer)
            }
            Err(refused) => {
                self.turn_away(&refused, known, ask.caller.address());
                Err(refused)
            }
        }
    }

    /// A request that was refused before it was one to judge: counted and recorded as every other.
    pub(crate) fn refuse_unread(&self, refused: &Refused, caller: Option<SocketAddr>) {
        self.turn_away(refused, Known::default(), caller);
    }

    fn turn_away(&self, refused: &Refused, known: Known, caller: Option<SocketAddr>) {
        self.metrics.refused(refused.reason);
        self.record_refusal(refused, known, caller, SystemTime::now());
    }

    async fn steps(&self, ask: &Ask<'_>, known: &mut Known) -> Result<Answer, Refused> {
        if let Some(address) = ask.caller.address() {
            self.source(address.ip())?;
        }
        let ttl = self.ttl(ask.ttl)?;
        // Before anything is used up: whoever comes again and again while the disk is full would spend their token on it.
        if !self.log_works.load(Ordering::Relaxed) {
            return Err(log::LogError::Closed.into());
        }
        let standing = Arc::clone(&self.standing.borrow());
        let turn = self.turn().await?;
        let now = SystemTime::now();
        let (shown, turn) = match self.evidence(ask, &standing, now)? {
            // Nobody works while the cluster is asked.
            Shown::Unconfirmed(token) => {
                drop(turn);
                let attested = self.confirmed(*token, ask.bearer.unwrap_or_default()).await?;
                (Shown::Token(Box::new(attested)), self.turn().await?)
            }
            shown => (shown, turn),
        };
        if let Shown::Token(attested) = &shown {
            known.attested = Some(Attested::clone(attested));
        }
        let requested = parse_csr(ask.csr.as_bytes(), shown.id())?;
        self.metrics.ignored(requested.ignored());
        let spki_hash = log::Hash::of(requested.spki());
        known.spki = Some(spki_hash);
        let admission = match shown {
            Shown::Token(attested) => Admitted::Now(attested),
            Shown::Join(admission) => Admitted::ByToken(admission),
            Shown::Unconfirmed(token) => Admitted::Now(Box::new(token.attest()?)),
            Shown::Renewal { svid, chain, lineage } => {
                let leaf = chain.first().map_or(&[][..], |leaf| leaf.as_ref());
                let domain = standing.bundle.trust_domain();
                let oldest = self.lifetimes.lineage;
                Admitted::Now(Box::new(renew(svid, leaf, requested.spki(), lineage.as_ref(), domain, oldest, now)?))
            }
        };
        self.not_our_own(admission.id())?;
        self.deny_list(admission.id(), ask.caller, &spki_hash, now)?;
        self.holder(&admission)?;
        let attested = match admission {
            Admitted::Now(attested) => {
                self.memory().replay.admit(&attested, spki_hash.as_bytes(), now)?;
                *attested
            }
            // The disk decides which of several callers with one token it is.
            Admitted::ByToken(admission) => {
                let tokens = self.tokens.clone();
                tokio::task::spawn_blocking(move || tokens.consume(admission, now))
                    .await
                    .map_err(|_ended| Refused::new("internal", Code::Internal, "the server stops"))??
            }
        };
        known.attested = Some(attested.clone());
        let issued = standing.issuer.issue_requested(&attested, &requested, ttl, now)?;
        // Others work while the disk does: that is what makes one flush serve many records.
        drop(turn);
        self.keep(&attested, &issued, &standing, ask.caller.address(), now).await?;
        Ok(Answer { issued, bundle_pem: standing.bundle_pem.clone() })
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refused> {
        let turn = self.turns.take().await;
        turn.ok_or_else(|| Refused::later("busy", "too many requests wait already", Duration::from_secs(1)))
    }

    /// Asks the token's cluster whether it still holds: the pod may be gone, or the account.
    async fn confirmed(&self, token: PodToken, compact: &str) -> Result<Attested, Refused> {
        let unavailable = |why: String| Refused { text: why, ..Refused::later("review", "", Duration::from_secs(5)) };
        let api =
            self.apis.get(token.cluster()).ok_or_else(|| unavailable("the cluster has no API server here".into()))?;
        let answer = api.review(token.review_request(compact)).await;
        // Details of our own network are for our own log.
        let answer =
            answer.map_err(|_why| unavailable("the cluster cannot be asked about the token at the moment".into()))?;
        Ok(token.reviewed(&answer)?.attest()?)
    }

    fn source(&self, ip: IpAddr) -> Result<(), Refused> {
        let taken = lock(&self.sources).take(network(ip), Instant::now());
        taken.map_err(|again| Refused::later("source_rate", "too many requests from this address", again))
    }

    fn ttl(&self, asked: Option<Duration>) -> Result<Duration, Refused> {
        let ttl = asked.unwrap_or(self.lifetimes.default);
        if ttl > self.lifetimes.longest {
            let longest = self.lifetimes.longest.as_secs();
            let text = format!("a certificate lives at most {longest} s here; {} s were asked for", ttl.as_secs());
            return Err(Refused::new("ttl", Code::InvalidArgument, text));
        }
        Ok(ttl)
    }

    /// A token before a certificate: who brings both has slept long, and a fresh token begins a fresh lineage.
    fn evidence<'a>(&self, ask: &Ask<'a>, standing: &Standing, now: SystemTime) -> Result<Shown<'a>, Refused> {
        match (ask.bearer, ask.caller.svid()) {
            (Some(token), _) if JoinToken::looks_like(token) => Ok(Shown::Join(self.tokens.admit(token, now)?)),
            (Some(token), _) => {
                let clusters = self.clusters.load();
                let verified = clusters.verify(token, now);
                if matches!(verified, Err(Refusal::UnknownKey)) {
                    clusters.whose_keys(token).for_each(|cluster| self.unknown_key(cluster, now));
                }
                let token = verified?;
                if token.needs_review() {
                    return Ok(Shown::Unconfirmed(Box::new(token)));
                }
                Ok(Shown::Token(Box::new(token.attest()?)))
            }
            (None, Some(svid)) => {
                // The handshake may be older than the bundle.
                let chain = ask.caller.chain();
                ask.caller
                    .verified(&standing.bundle, now)
                    .map_err(|error| Refused::new(error.reason(), Code::Unauthenticated, error.to_string()))?;
                let lineage = self.memory().held(svid).map(|held| held.lineage.clone());
                Ok(Shown::Renewal { svid, chain, lineage })
            }
            (None, None) => {
                let text = "neither a token in the metadata `authorization: Bearer …` nor a client certificate";
                Err(Refused::new("no_evidence", Code::Unauthenticated, text))
            }
        }
    }

    /// New keys may be there already; a flood of invented key names must not become a flood of questions.
    fn unknown_key(&self, cluster: &str, now: SystemTime) {
        if self.apis.contains_key(cluster) && lock(&self.refetch).due(now) {
            self.keys_wanted.notify_waiters();
        }
    }

    /// A template of a cluster, or a join token, may lead to our own name by mistake.
    fn not_our_own(&self, id: &SpiffeId) -> Result<(), Refused> {
        if *id == self.own {
            let text = format!("{id} is the name of this CA itself; nobody else is given it");
            return Err(Refused::new("id_of_ca", Code::PermissionDenied, text));
        }
        Ok(())
    }

    /// Whether a certificate of ours is still welcome.
    pub(crate) fn not_denied(&self, svid: &Svid, now: SystemTime) -> Result<(), Refused> {
        let key = hex(svid.key_sha256());
        match self.denied.borrow().find(svid.id(), Some(svid.serial()), Some(&key), now) {
            None => Ok(()),
            Some(entry) => {
                let text = format!("{} is on the deny list", entry.denied);
                Err(Refused::new("denied", Code::PermissionDenied, text))
            }
        }
    }

    fn deny_list(&self, id: &SpiffeId, caller: &Caller, spki: &log::Hash, now: SystemTime) -> Result<(), Refused> {
        let denied = Arc::clone(&self.denied.borrow());
        let key = hex(spki.as_bytes());
        let serial = caller.svid().map(Svid::serial);
        let old_key = caller.svid().map(|svid| hex(svid.key_sha256()));
        let found = denied
            .find(id, serial, Some(&key), now)
            .or_else(|| old_key.and_then(|old| denied.find(id, None, Some(&old), now)));
        match found {
            None => Ok(()),
            Some(entry) => {
                let text = format!("{} is on the deny list", entry.denied);
                Err(Refused::new("denied", Code::PermissionDenied, text))
            }
        }
    }

    fn holder(&self, admission: &Admitted) -> Result<(), Refused> {
        let taken = lock(&self.holders).take(admission.holder(), Instant::now());
        taken.map_err(|again| Refused::later("identity_rate", "too many certificates for this holder", again))
    }

    /// The record first: what is not in the log does not leave.
    async fn keep(
        &self,
        attested: &Attested,
        issued: &Issued,
        standing: &Standing,
        caller: Option<SocketAddr>,
        now: SystemTime,
    ) -> Result<(), Refused> {
        let unreadable = || Refused::new("signing", Code::Unavailable, "the CA cannot issue at the moment");
        let lineage = match attested.lineage() {
            None => log::Lineage::Begins,
            Some(lineage) => log::Lineage::Continues { first: lineage.record, since: log::Stamp::of(lineage.since) },
        };
        let record = log::Issue::of_svid(
            &issued.svid,
            Text::bounded(&standing.root.to_string()),
            memory::evidence(attested.evidence()).ok_or_else(unreadable)?,
            lineage,
            Text::bounded(&attested.holder().to_string()),
            caller,
        )
        .ok_or_else(unreadable)?;
        let (done, durable) = oneshot::channel();
        self.log.append(now, Event::Issued(Box::new(record)), move |answer| drop(done.send(answer)));
        let written = durable.await.unwrap_or(Err(log::LogError::Closed));
        // A queue that is full is no fault of the disk.
        if !matches!(written, Err(log::LogError::Busy)) {
            self.log_works.store(written.is_ok(), Ordering::Relaxed);
        }
        let receipt = written?;
        let lineage = attested.lineage().cloned().unwrap_or_else(|| Lineage {
            record: receipt.seq,
            since: receipt.time.time(),
            holder: attested.holder().clone(),
        });
        self.memory().remember(Leaf {
            serial: &issued.serial,
            id: attested.id().as_str(),
            held: Held { lineage, root: standing.root, issued: now, certificate: *issued.svid.hash() },
            not_after: issued.not_after,
            sequence: standing.rotation.sequence(),
        });
        Ok(())
    }

    fn record_refusal(&self, refused: &Refused, known: Known, caller: Option<SocketAddr>, now: SystemTime) {
        // What is shed is counted only: a flood must not become a flood of records.
        if refused.again.is_some() {
            return;
        }
        let Some(left_out) = lock(&self.refusals).admit(now) else { return };
        let record = log::Refusal {
            reason: Text::bounded(refused.reason),
            id: known.attested.as_ref().map(|attested| attested.id().clone()),
            spki: known.spki,
            evidence: known.attested.as_ref().and_then(|attested| memory::evidence(attested.evidence())),
            caller,
            left_out,
        };
        self.log.append(now, Event::Refused(Box::new(record)), |_written| {});
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}

/// What was shown, verified.
enum Shown<'a> {
    Token(Box<Attested>),
    /// A token that its cluster must confirm first.
    Unconfirmed(Box<PodToken>),
    Join(Admission),
    Renewal {
        svid: &'a Svid,
        chain: &'a [CertificateDer<'static>],
        lineage: Option<Lineage>,
    },
}

impl Shown<'_> {
    fn id(&self) -> &SpiffeId {
        match self {
            Self::Token(attested) => attested.id(),
            Self::Unconfirmed(token) => token.id(),
            Self::Join(admission) => admission.spiffe_id(),
            Self::Renewal { svid, .. } => svid.id(),
        }
    }
}

/// Who may have a certificate, but for using up a join token.
enum Admitted {
    Now(Box<Attested>),
    ByToken(Admission),
}

impl Admitted {
    fn id(&self) -> &SpiffeId {
        match self {
            Self::Now(attested) => attested.id(),
            Self::ByToken(admission) => admission.spiffe_id(),
        }
    }

    fn holder(&self) -> String {
        match self {
            Self::Now(attested) => attested.holder().to_string(),
            Self::ByToken(admission) => admission.token_id(),
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host may choose from (RFC 4291 §2.5.1).
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    log::Hash::from_bytes(*bytes).to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const MOST_CALLERS: usize = 100_000;
