//! What callers bring: tokens of a cluster, requests with fresh keys, certificates of before.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::{Bundle, Credentials, SpiffeId, TrustDomain, stranger_to_identity};
use rustls::ClientConfig;
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::SystemTime;

/// Keys of a cluster.
pub(crate) struct Papers {
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    pub(crate) jwks: String,
    roots: OnceCell<Vec<u8>>,
}

/// A pod with its token.
pub(crate) struct Pod {
    id: SpiffeId,
    pub(crate) token: String,
}

/// A certificate with its key.
pub(crate) struct Holder(Arc<Credentials>);

impl Holder {
    /// Of the CA's answer: leaf, intermediate, roots.
    pub(crate) fn of(pod: &Pod, key: &rcgen::KeyPair, answer: &[String]) -> Self {
        let [leaf, intermediate, roots] = answer else { panic!("{} parts", answer.len()) };
        let (chain, key, now) = (format!("{leaf}{intermediate}"), key.serialize_pem(), SystemTime::now());
        let made = Credentials::from_pem(chain.as_bytes(), key.as_bytes(), roots.as_bytes(), &pod.id, now);
        Self(made.unwrap())
    }
}

impl Papers {
    pub(crate) fn make() -> Self {
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let point = ec.public_key().as_ref();
        let public = rsa.public_key();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwks = serde_json::json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "ES256", "alg": "ES256", "use": "sig", "x": text(&point[1..33]), "y": text(&point[33..]) },
            { "kty": "RSA", "kid": "RS256", "alg": "RS256", "use": "sig",
              "n": text(public.modulus().big_endian_without_leading_zero()), "e": text(public.exponent().big_endian_without_leading_zero()) },
        ]});
        Self { ec, rsa, jwks: jwks.to_string(), roots: OnceCell::new() }
    }

    /// The roots of the CA.
    pub(crate) fn know(&self, roots: &[u8]) {
        self.roots.set(roots.to_vec()).unwrap();
    }

    /// So many pods of one account each, with tokens signed by `algorithm`.
    pub(crate) fn pods(&self, account: &str, count: usize, algorithm: &str) -> Vec<Pod> {
        let account = account.to_ascii_lowercase();
        (0..count).map(|number| self.pod(&account, number, algorithm)).collect()
    }

    fn pod(&self, account: &str, number: usize, algorithm: &str) -> Pod {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let (header, claims) = (
            serde_json::json!({ "alg": algorithm, "kid": algorithm }),
            serde_json::json!({
                "iss": "https://kubernetes.default.svc",
                "aud": ["sekisho-ca"],
                "sub": format!("system:serviceaccount:bench:{account}"),
                "iat": now, "nbf": now, "exp": now + 3600,
                "jti": format!("{account}-{number}"),
                "kubernetes.io": {
                    "namespace": "bench",
                    "serviceaccount": { "name": account, "uid": "6f1f0a5e-0000-4000-8000-000000000000" },
                    "pod": { "name": format!("{account}-{number}"), "uid": format!("6f1f0a5e-{:04x}-4000-8000-{number:012x}", account.bytes().fold(0_u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))) },
                },
            }),
        );
        let text = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(&header), text(&claims));
        let signature = match algorithm {
            "ES256" => self.ec.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
            _ => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        Pod {
            id: SpiffeId::parse(&format!("spiffe://example.org/ns/bench/sa/{account}")).unwrap(),
            token: format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)),
        }
    }

    /// A request with a key of its own.
    pub(crate) fn csr(&self) -> String {
        self.csr_and_key().0
    }

    /// The same with its key.
    pub(crate) fn csr_and_key(&self) -> (String, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        (params.serialize_request(&key).unwrap().pem().unwrap(), key)
    }

    pub(crate) fn stranger(&self) -> Arc<ClientConfig> {
        let domain = TrustDomain::parse("example.org").unwrap();
        let bundle = Bundle::from_pem(domain, self.roots.get().unwrap()).unwrap();
        Arc::new(stranger_to_identity(&bundle, ca(), &[b"h2"]).unwrap())
    }

    pub(crate) fn as_holder(&self, holder: &Holder) -> Arc<ClientConfig> {
        holder.0.client_config(ca(), &[b"h2"]).unwrap()
    }
}

fn ca() -> Arc<SpiffeId> {
    Arc::new(SpiffeId::parse("spiffe://example.org/sekisho/ca").unwrap())
}
