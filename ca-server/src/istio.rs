//! Istio's certificate service, `istio.v1.auth.IstioCertificateService`.
//!
//! Clients rely on the shape of the answer: the leaf, each intermediate in a string of its own, and last every root in one.

use crate::answer::Refused;
use crate::desk::{Ask, Desk};
use rpc::Caller;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Code, Request, Response, Status};
use wire::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use wire::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use wire::value::Kind;

/// The service over the one desk.
#[derive(Clone)]
pub(crate) struct Istio(pub(crate) Arc<Desk>);

#[tonic::async_trait]
impl IstioCertificateService for Istio {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("the connection has no caller"))?;
        let refuse = |refused: Refused| {
            self.0.refuse_unread(&refused, caller.address());
            refused.status()
        };
        let bearer = bearer(request.metadata()).map_err(refuse)?;
        let message = request.into_inner();
        let ttl = ttl(&message).map_err(refuse)?;
        let ask = Ask { csr: &message.csr, ttl, bearer: bearer.as_deref(), caller: &caller };
        let answer = self.0.issue(ask).await.map_err(|refused| refused.status())?;
        let cert_chain = vec![answer.issued.leaf_pem, answer.issued.intermediate_pem, answer.bundle_pem];
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

/// Around a service: what is larger than a message may be never reaches it, and is counted and recorded here.
#[derive(Clone)]
pub(crate) struct Bounded<S> {
    pub(crate) service: S,
    pub(crate) desk: Arc<Desk>,
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().and_then(Caller::address);
        let (answer, desk) = (self.service.call(request), Arc::clone(&self.desk));
        Box::pin(async move {
            let answer = answer.await?;
            // None of our own refusals has this code.
            if Status::from_header_map(answer.headers()).is_some_and(|status| status.code() == Code::OutOfRange) {
                let text = "the message is larger than any request for a certificate";
                desk.refuse_unread(&Refused::new("message_too_large", Code::OutOfRange, text), caller);
            }
            Ok(answer)
        })
    }
}

/// The token after `Bearer ` (RFC 6750 §2.1). Two of them are one too many.
pub(crate) fn bearer(metadata: &MetadataMap) -> Result<Option<String>, Refused> {
    let malformed = || {
        let text = "the metadata `authorization` is not one `Bearer` token (RFC 6750 §2.1)";
        Refused::new("authorization", Code::Unauthenticated, text)
    };
    let mut values = metadata.get_all("authorization").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(malformed());
    }
    Ok(Some(token.to_owned()))
}

/// What is asked for. Zero and less leave it to us, as at istiod.
fn ttl(message: &IstioCertificateRequest) -> Result<Option<Duration>, Refused> {
    // One caller speaking for another needs a trust in nodes that does not exist here; other signers neither. Istio's agent always
    // sends `CertSigner`, empty where none was configured: nothing is asked for by that.
    let asked = message.metadata.iter().flat_map(|metadata| &metadata.fields);
    for (key, value) in asked {
        let nothing = matches!(&value.kind, Some(Kind::StringValue(text)) if text.is_empty());
        if matches!(key.as_str(), "ImpersonatedIdentity" | "CertSigner") && !nothing {
            let text = format!("`{key}` is not served: a certificate is for whoever proves to be its holder");
            return Err(Refused::new("metadata", Code::InvalidArgument, text));
        }
    }
    match u64::try_from(message.validity_duration) {
        Ok(seconds) if seconds > 0 => Ok(Some(Duration::from_secs(seconds))),
        _ => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn metadata(values: &[&'static str]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append("authorization", value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_else_is_guessed() {
        assert_eq!(bearer(&metadata(&[])).unwrap(), None);
        assert_eq!(bearer(&metadata(&["Bearer abc"])).unwrap().as_deref(), Some("abc"));
        assert_eq!(bearer(&metadata(&["bearer a b"])).unwrap().as_deref(), Some("a b"));
        for values in [&["Bearer "][..], &["Bearer"], &["Basic abc"], &["abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&metadata(values)).unwrap_err().reason, "authorization", "{values:?}");
        }
    }

    #[test]
    fn an_empty_signer_as_istios_agent_sends_it_asks_for_nothing() {
        let asking = |key: &str, kind| {
            let fields = [(key.to_owned(), wire::Value { kind })].into_iter().collect();
            ttl(&IstioCertificateRequest { metadata: Some(wire::Struct { fields }), ..Default::default() })
        };
        for key in ["CertSigner", "ImpersonatedIdentity"] {
            assert_eq!(asking(key, Some(Kind::StringValue(String::new()))).unwrap(), None);
            for kind in [None, Some(Kind::BoolValue(false)), Some(Kind::StringValue("example.com/signer".into()))] {
                assert_eq!(asking(key, kind).unwrap_err().reason, "metadata", "{key}");
            }
        }
        assert_eq!(asking("other", Some(Kind::BoolValue(true))).unwrap(), None);
    }
}
