//! How much the CA does: `cargo bench --bench ca`, with `SEKISHO_BIN` for the binary that is measured.
//!
//! A `sekisho ca serve` on one core, callers on another; for the herd both on both. Counted is the server's own CPU time, so that the
//! rate for a core does not depend on how fast the callers are. Out: a table on the terminal, and what `openssl speed` reaches on
//! the same core in the same minute.
//!
//! | row | what one of it is |
//! | --- | --- |
//! | `start` | from nothing to the first certificate, warm server: what a sidecar waits for |
//! | `renewal` | a request on an open connection with mutual TLS, as on a sidecar's watch: a new key, its CSR checked, a certificate, its record durable |
//! | `connection` | the same with a connection of its own, handshake and both chains included |
//! | `first` | a new TLS connection, a pod's token verified offline, then the same |
//! | `herd` | everybody at once after an outage: a new connection with mutual TLS, a renewal, a watch that stays open; patient as sidecars are |
//!
//! `--only herd` measures one row, `--quick` a tenth of each; `--renewals`, `--firsts` and `--herd` say how many.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed measurement

mod authority;
mod papers;

use authority::Authority;
use papers::{Holder, Papers, Pod};
use rpc::Channel;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream;
use tonic::{Request, Streaming};
use wire::istio::v1::auth::IstioCertificateRequest;
use wire::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use wire::sekisho::ca::v1::trust_client::TrustClient;
use wire::sekisho::ca::v1::{TrustState, WatchRequest};

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let value = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let part = if std::env::args().any(|arg| arg == "--quick") { 10 } else { 1 };
    let number = |name: &str, default: usize| value(name).map_or(default / part, |text| text.parse().unwrap());
    let (renewals, firsts, herd) = (number("--renewals", 20_000), number("--firsts", 8_000), number("--herd", 10_000));
    let only = value("--only");
    let wanted = |row: &str| only.as_deref().is_none_or(|only| only == row);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("renewal") || wanted("first") {
            openssl();
        }
        let papers = Papers::make();
        let authority = Authority::start(&papers, "0");
        println!("idle: {:.1} MiB resident", authority.resident());
        if wanted("start") {
            starts(&authority, &papers).await;
        }
        if wanted("renewal") {
            renew(&authority, &papers, renewals).await;
        }
        if wanted("connection") {
            reconnect(&authority, &papers, renewals / 4).await;
        }
        if wanted("first") {
            first(&authority, &papers, firsts, "ES256").await;
            first(&authority, &papers, firsts, "RS256").await;
        }
        drop(authority);
        if wanted("herd") {
            let papers = Papers::make();
            flock(&Authority::start(&papers, "0,1"), &papers, herd).await;
        }
    });
}

/// What the arithmetic alone costs, by another's hand, on the server's core: a certificate is one signature made and one checked, that of
/// the request.
fn openssl() {
    let speed = Command::new("taskset").args(["-c", "0", "openssl", "speed", "-seconds", "3", "ecdsap256"]).output();
    let text = String::from_utf8(speed.unwrap().stdout).unwrap();
    println!("openssl speed: {}", text.lines().last().unwrap_or("no answer").trim());
}

/// One by one, each from a new connection.
async fn starts(authority: &Authority, papers: &Papers) {
    let mut took = Vec::new();
    for pod in papers.pods("start", 300, "ES256") {
        let begin = Instant::now();
        issue(&connect(authority, papers, None).await, Some(&pod), &papers.csr()).await.unwrap();
        took.push(begin.elapsed());
    }
    took.sort();
    let at = |part: usize| took[took.len() * part / 100].as_secs_f64() * 1000.0;
    println!("start: p50 {:.2} ms, p99 {:.2} ms from connecting to a certificate, one after the other", at(50), at(99));
}

async fn renew(authority: &Authority, papers: &Papers, count: usize) {
    let mut connections = Vec::new();
    for holder in holders(authority, papers, "renew", AT_ONCE).await {
        connections.push(connect(authority, papers, Some(&holder)).await);
    }
    let csrs: Arc<Vec<String>> = Arc::new((0..count).map(|_| papers.csr()).collect());
    let measure = authority.measure();
    let mut tasks = JoinSet::new();
    for (index, channel) in connections.into_iter().enumerate() {
        let csrs = Arc::clone(&csrs);
        tasks.spawn(async move {
            for csr in csrs.iter().skip(index).step_by(AT_ONCE) {
                issue(&channel, None, csr).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    measure.say("renewal on an open connection", count, authority);
}

/// So many at once in each of the rows below that open connections.
const AT_ONCE: usize = 64;

async fn reconnect(authority: &Authority, papers: &Papers, count: usize) {
    let holders = holders(authority, papers, "again", count).await;
    let work: Vec<_> = holders.iter().map(|holder| (papers.as_holder(holder), papers.csr())).collect();
    let measure = authority.measure();
    let address = &authority.address;
    in_parallel(work, |(config, csr)| {
        let address = address.clone();
        async move {
            let channel = Channel::tls(&address, name(), config, Duration::from_secs(30)).await.unwrap();
            issue(&channel, None, &csr).await.unwrap();
        }
    })
    .await;
    measure.say("renewal with its connection", count, authority);
}

async fn first(authority: &Authority, papers: &Papers, count: usize, algorithm: &str) {
    let pods = papers.pods(algorithm, count, algorithm);
    let work: Vec<_> = pods.into_iter().map(|pod| (pod, papers.csr())).collect();
    let stranger = papers.stranger();
    let measure = authority.measure();
    in_parallel(work, |(pod, csr)| {
        let (address, stranger) = (authority.address.clone(), Arc::clone(&stranger));
        async move {
            let channel = Channel::tls(&address, name(), stranger, Duration::from_secs(30)).await.unwrap();
            issue(&channel, Some(&pod), &csr).await.unwrap();
        }
    })
    .await;
    measure.say(&format!("first issue, {algorithm} token"), count, authority);
}

/// What the work comes to, in the order in which it ends.
async fn in_parallel<Work, Done, Doing>(work: Vec<Work>, one: impl Fn(Work) -> Doing) -> Vec<Done>
where
    Doing: Future<Output = Done> + Send + 'static,
    Done: Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let (mut tasks, mut done) = (JoinSet::new(), Vec::new());
    for work in work {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let doing = one(work);
        tasks.spawn(async move {
            let _place = place;
            doing.await
        });
    }
    while let Some(one) = tasks.join_next().await {
        done.push(one.unwrap());
    }
    done
}

/// Everybody with a certificate.
async fn holders(authority: &Authority, papers: &Papers, account: &str, count: usize) -> Vec<Holder> {
    let work: Vec<_> =
        papers.pods(account, count, "ES256").into_iter().map(|pod| (pod, papers.csr_and_key())).collect();
    let stranger = papers.stranger();
    let answers = in_parallel(work, |(pod, (csr, key))| {
        let (address, stranger) = (authority.address.clone(), Arc::clone(&stranger));
        async move {
            let channel = Channel::tls(&address, name(), stranger, Duration::from_secs(30)).await.unwrap();
            let chain = issue(&channel, Some(&pod), &csr).await.unwrap();
            (pod, key, chain)
        }
    })
    .await;
    answers.into_iter().map(|(pod, key, chain)| Holder::of(&pod, &key, &chain)).collect()
}

/// All at once, as after an outage; those that fail, or are told to come again, do so as sidecars do: after a random part of a
/// ceiling that doubles.
async fn flock(authority: &Authority, papers: &Papers, count: usize) {
    let holders = holders(authority, papers, "herd", count).await;
    let before = authority.resident();
    let work: Vec<_> = holders.iter().map(|holder| (papers.as_holder(holder), papers.csr())).collect();
    let measure = authority.measure();
    let mut tasks = JoinSet::new();
    for (config, csr) in work {
        let address = authority.address.clone();
        tasks.spawn(async move {
            let begin = Instant::now();
            for again in 0.. {
                if let Some(watch) = back(&address, &config, &csr).await {
                    return (watch, again, begin.elapsed());
                }
                let ceiling = Duration::from_millis(250 << again.min(8));
                tokio::time::sleep(ceiling.mul_f64(f64::from(random()) / f64::from(u32::MAX))).await;
            }
            unreachable!("attempts do not end");
        });
    }
    let (mut watches, mut agains, mut took) = (Vec::new(), 0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (watch, again, after) = done.unwrap();
        watches.push(watch);
        agains += again;
        took.push(after);
    }
    measure.say("herd", count, authority);
    took.sort();
    let resident = authority.resident();
    println!(
        "herd: {} watches open, the middle one after {:.1} s and the last after {:.1} s; {agains} attempts failed",
        watches.len(),
        took[took.len() / 2].as_secs_f64(),
        took[took.len() - 1].as_secs_f64(),
    );
    println!("herd: {resident:.1} MiB resident, {:.1} KiB more for each", (resident - before) * 1024.0 / count as f64);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let resident = authority.resident();
    println!("herd: {resident:.1} MiB after 3 s, {:.1} KiB more for each", (resident - before) * 1024.0 / count as f64);
    drop(watches);
}

/// One sidecar's attempt, with a sidecar's patience.
async fn back(address: &str, config: &Arc<ClientConfig>, csr: &str) -> Option<Streaming<TrustState>> {
    let channel = Channel::tls(address, name(), Arc::clone(config), Duration::from_secs(5)).await.ok()?;
    tokio::time::timeout(Duration::from_secs(10), issue(&channel, None, csr)).await.ok()?.ok()?;
    let said = tokio_stream::StreamExt::chain(
        tokio_stream::once(WatchRequest { acknowledged: 1, ..WatchRequest::default() }),
        tokio_stream::pending(),
    );
    let mut watch = TrustClient::new(channel).watch(said).await.ok()?.into_inner();
    watch.message().await.ok()??;
    Some(watch)
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    u32::from_be_bytes(bytes)
}

/// Not sent, and not compared.
fn name() -> ServerName<'static> {
    "ca.invalid".try_into().unwrap()
}

async fn connect(authority: &Authority, papers: &Papers, holder: Option<&papers::Holder>) -> Channel {
    let config = holder.map_or_else(|| papers.stranger(), |holder| papers.as_holder(holder));
    Channel::tls(&authority.address, name(), config, Duration::from_secs(30)).await.unwrap()
}

async fn issue(channel: &Channel, pod: Option<&Pod>, csr: &str) -> Result<Vec<String>, tonic::Status> {
    let message = IstioCertificateRequest { csr: csr.to_owned(), ..IstioCertificateRequest::default() };
    let mut request = Request::new(message);
    if let Some(pod) = pod {
        request.metadata_mut().insert("authorization", format!("Bearer {}", pod.token).parse().unwrap());
    }
    let answer = IstioCertificateServiceClient::new(channel.clone()).create_certificate(request).await?;
    Ok(answer.into_inner().cert_chain)
}
