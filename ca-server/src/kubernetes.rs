//! The API server of a cluster: its public keys, and its word on a token.
//!
//! Both are asked of an address that the operator wrote, never of one that a token names (RFC 8725 §3.10). The server is known by
//! its DNS name under roots from a file, and it knows us by our own service-account token; both files are what every pod has, and
//! are read again for every call, since they are replaced from outside.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use identity::stranger_to_name;
use rpc::Channel;
use rustls::pki_types::ServerName;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tonic::body::Body;
use tower::{Service, ServiceExt};

/// Where an API server is, and how it and we are known to each other.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    /// `host:port`; the host is the name it must prove.
    pub(crate) address: String,
    /// PEM.
    pub(crate) roots: PathBuf,
    /// Our own token.
    pub(crate) token: PathBuf,
}

impl Api {
    /// The key set with which it signs service-account tokens.
    pub(crate) async fn key_set(&self) -> Result<Bytes, String> {
        self.call(Method::GET, "/openid/v1/jwks", String::new()).await
    }

    /// Its answer to a TokenReview.
    pub(crate) async fn review(&self, request: String) -> Result<Bytes, String> {
        self.call(Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", request).await
    }

    async fn call(&self, method: Method, path: &str, body: String) -> Result<Bytes, String> {
        let calling = self.exchange(method, path, body);
        let answer = tokio::time::timeout(PATIENCE, calling).await;
        answer
            .unwrap_or_else(|_elapsed| Err("no answer in time".to_owned()))
            .map_err(|why| format!("{}: {why}", self.address))
    }

    async fn exchange(&self, method: Method, path: &str, body: String) -> Result<Bytes, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let roots = identity::chain_from_pem(&read(&self.roots)?).map_err(|error| text(&error))?;
        let config = stranger_to_name(&roots, &[b"h2"]).map_err(|error| text(&error))?;
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| text(&error))?;
        let channel = Channel::tls(&self.address, name, Arc::new(config), PATIENCE).await;
        let mut channel = channel.map_err(|error| text(&error))?;
        let token = String::from_utf8(read(&self.token)?).map_err(|error| text(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .header(header::ACCEPT, "application/json, application/jwk-set+json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::new(Full::new(Bytes::from(body))))
            .map_err(|error| text(&error))?;
        let answer = channel.ready().await.map_err(|error| text(&error))?.call(request).await;
        let answer = answer.map_err(|error| text(&error))?;
        let status = answer.status();
        // A TokenReview is created (201), a key set is read (200).
        if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
            return Err(format!("it answers {status}"));
        }
        let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| error.to_string())?;
        Ok(body.to_bytes())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST as u64).read_to_end(&mut bytes))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes)
}

const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer, and of the files.
const MOST: usize = 256 << 10;
