//! What is fuzzed. A target takes any bytes and panics when a property does not hold.
//!
//! | file | idea |
//! | --- | --- |
//! | `http1` | heads and chunks of our own codec; httparse as a second opinion |
//! | `http2` | one head, and whole connections, over the engine |
//! | `forwarded` | judged = forwarded, for either version |
//! | `canonical` | canonical twice = once |
//! | `rules` | compiled = linear; patterns are written as they are read |
//! | `names` | SPIFFE IDs against the sentences of the standard |
//! | `certificates` | arbitrary DER and PEM, signing requests, and good chains a little spoilt |
//! | `attest` | tokens, key sets, templates and answers of API servers; good tokens a little spoilt |
//! | `audit_log` | segments and heads of the CA's audit log: one spelling, one chain |
//! | `ca_files` | the CA's state and deny list, and bundles as documents: written and read back the same |
//! | `xfcc` | what is written about a certificate is read as that and nothing else |
//! | `first_bytes` | protocol detection, and original destinations |
//! | `config` | the rule file |
//! | `dns` | answers of name servers |
//! | `redact` | named secrets in heads and bodies of copies: none survives |
//! | `tap` | exchanges to packets, read back by others |
//! | `exchanges` | the same with their contents known: what a strict reader makes of the packets |
//! | `h2c` | a strict reader of HTTP/2 for them |
//! | `tls` | a server's handshake, and records after one |

mod attest;
mod audit_log;
mod ca_files;
mod canonical;
mod certificates;
mod config;
mod dns;
pub(crate) mod exchanges;
mod first_bytes;
mod forwarded;
mod h2c;
mod http1;
mod http2;
mod names;
mod redact;
mod rules;
mod tap;
mod tls;
mod xfcc;

/// One target.
pub struct Target {
    /// Its name, and that of its folder of inputs.
    pub name: &'static str,
    /// What is fuzzed.
    pub about: &'static str,
    /// Tries one input; panics when a property does not hold.
    pub run: fn(&[u8]),
    /// Words of its language.
    pub words: &'static [&'static [u8]],
    /// Inputs are at most so long.
    pub most: usize,
}

/// The target of this name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().chain(FAULTY).find(|target| target.name == name)
}

const fn target(
    name: &'static str,
    about: &'static str,
    run: fn(&[u8]),
    words: &'static [&'static [u8]],
    most: usize,
) -> Target {
    Target { name, about, run, words, most }
}

/// What goes wrong on purpose, so that tests see that it is found.
pub const FAULTY: &[Target] = &[
    target("faulty_panic", "panics", |input| assert!(!has_fault(input), "a fault"), FAULT, 64),
    target("faulty_abort", "ends the process", end, FAULT, 64),
    target("faulty_hang", "never ends", hang, FAULT, 64),
];

const FAULT: &[&[u8]] = &[b"fault"];

fn has_fault(input: &[u8]) -> bool {
    input.windows(5).any(|window| window == b"fault")
}

fn end(input: &[u8]) {
    if has_fault(input) {
        std::process::abort();
    }
}

fn hang(input: &[u8]) {
    while has_fault(input) {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("http1_request", "a request's head, read, judged and written on", http1::request, http1::WORDS, 4096),
    target("http1_response", "a response's head, read and written on", http1::response, http1::WORDS, 4096),
    target("http1_chunked", "a chunked body with trailers", http1::chunked, http1::CHUNKS, 4096),
    target("http2_head", "the fields of an HTTP/2 head, beside the same in HTTP/1.1", http2::head, http2::WORDS, 2048),
    target("http2_wire", "frames after the preface into the server side", http2::wire, http2::FRAMES, 4096),
    target("canonical", "the canonical reading of method, target and host", canonical::run, canonical::WORDS, 1024),
    target("rules", "rules and requests, judged from tables and one by one", rules::run, rules::WORDS, 4096),
    target("patterns", "patterns of rules, written as they are read", rules::patterns, rules::WORDS, 512),
    target("spiffe_id", "SPIFFE IDs and trust domains", names::run, names::WORDS, 2200),
    target("certificate", "leaves and chains", certificates::chain, certificates::DER, 4096),
    target("bundle", "PEM bundles of roots", certificates::bundle, certificates::PEM, 8192),
    target("csr", "certificate signing requests", certificates::request, certificates::DER, 4096),
    target("token", "service-account tokens", attest::token, attest::TOKENS, 4096),
    target("jwks", "the keys of an issuer", attest::keys, attest::KEYS, 4096),
    target("template", "names made of templates and facts", attest::template, attest::TEMPLATES, 1024),
    target("token_review", "what an API server says to a token", attest::review, attest::REVIEWS, 4096),
    target("audit_log", "segments and heads of the audit log", audit_log::run, audit_log::WORDS, 8192),
    target("ca_state", "the state of a rotation", ca_files::state, ca_files::STATES, 4096),
    target("ca_denied", "the emergency deny list", ca_files::denied, ca_files::DENIED, 4096),
    target("bundle_document", "SPIFFE bundles as documents", ca_files::document, ca_files::DOCUMENTS, 8192),
    target("xfcc", "x-forwarded-client-cert, written from certificates and read back", xfcc::run, xfcc::WORDS, 1024),
    target("detect", "protocol detection by first bytes", first_bytes::detect, http1::WORDS, 10_000),
    target("destination", "original destinations of captured connections", first_bytes::destination, &[], 128),
    target("config", "the rule file", config::run, config::WORDS, 8192),
    target("dns", "answers of name servers", dns::answer, dns::WORDS, 2048),
    target("dns_files", "resolv.conf and hosts", dns::files, dns::FILES, 2048),
    target("tap", "exchanges to packets and back", tap::run, tap::WORDS, 4096),
    target("tap_exchanges", "exchanges whose copy is known", exchanges::run, exchanges::WORDS, 1024),
    target("redact_body", "named secrets in JSON, forms and parts", redact::body, redact::WORDS, 4096),
    target("redact_head", "named secrets in a target, cookies and headers", redact::head, redact::WORDS, 4096),
    target("tap_receive", "datagrams into the tap's reader", tap::receive, &[], 4096),
    target("tap_pcap", "pcap streams of senders, in pieces", tap::pcap, tap::PCAP, 4096),
    target("tls_hello", "a server's handshake with whatever comes", tls::hello, tls::HELLO, 4096),
    target("tls_records", "records after a handshake, sealed and not", tls::records, tls::RECORDS, 4096),
];
