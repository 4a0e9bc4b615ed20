//! What the inbound port offers, as an independent scanner finds it: sslyze tries each version, each suite and the known
//! weaknesses. Class 94 once more, by somebody else's hand.

use serde_json::{Value, json};
use support::pair::Setting;
use support::pki::Cert;
use support::{tls, tools};

#[test]
fn a_scanner_finds_tls_1_2_and_1_3_only_and_no_weak_suite() {
    let setting = Setting::new();
    let server = setting.start_server();
    let found = scan(setting.at.inbound, &setting.web);
    println!("{found:#}");
    assert_eq!(found["connected"], json!(["COMPLETED", "COMPLETED"]));
    assert_eq!(found["errors"], json!({}));

    for old in ["SSL 2.0", "SSL 3.0", "TLS 1.0", "TLS 1.1"] {
        assert_eq!(found["versions"][old], json!([]), "{old}");
    }
    assert_eq!(
        found["versions"]["TLS 1.2"],
        json!(["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",])
    );
    assert_eq!(
        found["versions"]["TLS 1.3"],
        json!(["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
    );
    assert_eq!(
        found["probes"],
        json!({
            "compression": false,
            "early_data": false,
            "heartbleed": false,
            "ccs_injection": false,
            "robot": "NOT_VULNERABLE_RSA_NOT_SUPPORTED",
            "client_renegotiation": false,
        })
    );
    // All of that over, callers are still served.
    drop(tls::connect(setting.at.inbound, Some(&setting.web), &["http/1.1"]).unwrap());
    assert!(server.is_ready());
}

fn scan(at: std::net::SocketAddr, papers: &Cert) -> Value {
    let mut python = tools::python();
    python.arg(tools::script("tls_scan.py")).arg(at.ip().to_string()).arg(at.port().to_string());
    python.arg(&papers.chain).arg(&papers.key);
    serde_json::from_str(&support::child::run(&mut python)).unwrap()
}
