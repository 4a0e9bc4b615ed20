//! How much the CA does: `cargo bench --bench ca`, with `SEKISHO_BIN` for the binary that is measured.
//!
//! A `sekisho ca serve` on one core, callers on another. Counted is the server's own CPU time, so that the rate for a core does
//! not depend on how fast the callers are. Out: a table on the terminal.
//!
//! | row | what one of it is |
//! | --- | --- |
//! | renewal | a request on an open connection with mutual TLS: a new key, its CSR checked, a certificate, its record durable |
//! | first issue | a new TLS connection, a pod's token verified offline, then the same |
//! | herd | everybody at once after an outage: a new connection with mutual TLS, a renewal, a watch that stays open |
//! | start | from nothing to the first certificate, warm server: what a sidecar waits for |

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a failure in here is a failed measurement

mod authority;
mod papers;

use authority::Authority;
use papers::{Papers, Pod};
use rpc::Channel;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::codegen::tokio_stream;
use wire::istio::v1::auth::IstioCertificateRequest;
use wire::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use wire::sekisho::ca::v1::WatchRequest;
use wire::sekisho::ca::v1::trust_client::TrustClient;

fn main() {
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let number = |name: &str, default: usize| {
        std::env::args().skip_while(|arg| arg != name).nth(1).map_or(default, |text| text.parse().unwrap())
    };
    let (renewals, firsts, herd) = (number("--renewals", 20_000), number("--firsts", 8_000), number("--herd", 10_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let papers = Papers::make();
        let authority = Authority::start(&papers);
        println!("idle: {:.1} MiB resident", authority.resident());
        starts(&authority, &papers).await;
        renew(&authority, &papers, renewals).await;
        first(&authority, &papers, firsts, "ES256").await;
        first(&authority, &papers, firsts, "RS256").await;
        flock(&authority, &papers, herd).await;
    });
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
    const CONNECTIONS: usize = 64;
    let mut connections = Vec::new();
    for pod in papers.pods("renew", CONNECTIONS, "ES256") {
        let holder = papers.holder(authority, &pod).await;
        connections.push(connect(authority, papers, Some(&holder)).await);
    }
    let csrs: Arc<Vec<String>> = Arc::new((0..count).map(|_| papers.csr()).collect());
    let measure = authority.measure();
    let mut tasks = JoinSet::new();
    for (index, channel) in connections.into_iter().enumerate() {
        let csrs = Arc::clone(&csrs);
        tasks.spawn(async move {
            for csr in csrs.iter().skip(index).step_by(CONNECTIONS) {
                issue(&channel, None, csr).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    measure.say("renewal", count, authority);
}

async fn first(authority: &Authority, papers: &Papers, count: usize, algorithm: &str) {
    let name = format!("first issue, {algorithm} token");
    let pods = papers.pods(algorithm, count, algorithm);
    let csrs: Vec<String> = (0..count).map(|_| papers.csr()).collect();
    let stranger = papers.stranger();
    let places = Arc::new(Semaphore::new(64));
    let measure = authority.measure();
    let mut tasks = JoinSet::new();
    for (pod, csr) in pods.into_iter().zip(csrs) {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let (address, stranger) = (authority.address.clone(), Arc::clone(&stranger));
        tasks.spawn(async move {
            let _place = place;
            let name = "ca.invalid".try_into().unwrap();
            let channel = Channel::tls(&address, name, stranger, Duration::from_secs(30)).await.unwrap();
            issue(&channel, Some(&pod), &csr).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    measure.say(&name, count, authority);
}

/// All at once, as after an outage; those that are told to come again do so.
async fn flock(authority: &Authority, papers: &Papers, count: usize) {
    let mut holders = Vec::new();
    for pod in papers.pods("herd", count, "ES256") {
        holders.push(papers.holder(authority, &pod).await);
    }
    let before = authority.resident();
    let measure = authority.measure();
    let mut tasks = JoinSet::new();
    for holder in holders {
        let (config, csr) = (papers.as_holder(&holder), papers.csr());
        let address = authority.address.clone();
        tasks.spawn(async move {
            let mut again = 0;
            loop {
                let name = "ca.invalid".try_into().unwrap();
                let wait = Duration::from_secs(60);
                if let Ok(channel) = Channel::tls(&address, name, Arc::clone(&config), wait).await
                    && issue(&channel, None, &csr).await.is_ok()
                {
                    let said = tokio_stream::StreamExt::chain(
                        tokio_stream::once(WatchRequest { acknowledged: 1, ..WatchRequest::default() }),
                        tokio_stream::pending(),
                    );
                    let mut watch = TrustClient::new(channel).watch(said).await.unwrap().into_inner();
                    assert!(watch.message().await.unwrap().is_some());
                    return (watch, again);
                }
                again += 1;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
    }
    let (mut watches, mut agains) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (watch, again) = done.unwrap();
        watches.push(watch);
        agains += again;
    }
    measure.say("herd", count, authority);
    let resident = authority.resident();
    println!(
        "herd: {} watches open, {agains} came again; {resident:.1} MiB resident, {:.1} KiB more for each",
        watches.len(),
        (resident - before) * 1024.0 / count as f64
    );
}

async fn connect(authority: &Authority, papers: &Papers, holder: Option<&papers::Holder>) -> Channel {
    let config = holder.map_or_else(|| papers.stranger(), |holder| papers.as_holder(holder));
    Channel::tls(&authority.address, "ca.invalid".try_into().unwrap(), config, Duration::from_secs(30)).await.unwrap()
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
