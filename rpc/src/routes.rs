//! Which service answers which path.

use http::{Request, Response};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The services of one listener.
#[derive(Clone, Default)]
pub struct Routes(Arc<Vec<(String, Boxed)>>);

impl Routes {
    /// Adds a service, which answers `/its.name/...`.
    #[must_use]
    pub fn with<S>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let mut services = Arc::unwrap_or_clone(self.0);
        services.push((format!("/{}/", S::NAME), BoxCloneSyncService::new(service)));
        Self(Arc::new(services))
    }

    /// The answer to one request; `UNIMPLEMENTED` where nobody is at home.
    pub(crate) fn answer(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send + use<> {
        let found = self.0.iter().find(|(prefix, _)| request.uri().path().starts_with(prefix.as_str()));
        let service = found.map(|(_, service)| service.clone());
        async move {
            match service {
                None => Status::unimplemented("no such service here").into_http(),
                Some(service) => match service.oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                },
            }
        }
    }
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(prefix, _)| prefix)).finish()
    }
}
