//! The admin, health and metrics listeners: small HTTP/1.1 servers on the control thread, away from traffic.
//!
//! Envoy's paths and shapes for what Envoy has (`/ready`, `/stats/prometheus`), our own for the rest (`/policy/status`, `/tap/status`).
//! Every reply says `nosniff` and `no-cache`, as Envoy's do. Read-only.

use super::{prometheus, status, tap_status};
use crate::{limits, worker::Shared};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{convert::Infallible, sync::Arc};
use tokio::{net::TcpListener, sync::Semaphore};
use tower::{ServiceBuilder, service_fn};

/// Which of the three listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Admin,
    Health,
    Metrics,
}

const HELP: &str = "  /ready: print server state, return 200 if LIVE, otherwise return 503\n  \
    /stats/prometheus: print server stats in prometheus format\n  \
    /policy/status: print the rules in force, and what is wrong with a newer file\n  \
    /tap/status: print what the taps copied, lost and are waiting for\n";

/// Serves one listener for ever.
pub(crate) async fn serve(listener: TcpListener, role: Role, shared: Arc<Shared>, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        let service = ServiceBuilder::new().timeout(limits::ADMIN_TIMEOUT).service(service_fn(
            move |request: Request<hyper::body::Incoming>| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(answer(role, &shared, request.method(), request.uri().path())) }
            },
        ));
        tokio::task::spawn_local(async move {
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .header_read_timeout(limits::ADMIN_TIMEOUT)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(service));
            // Who asks the admin port and goes away is of no interest.
            let _ = serving.await;
            drop(place);
        });
    }
}

fn answer(role: Role, shared: &Shared, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let known = match (role, path) {
        (Role::Admin, "/ready") | (Role::Health, "/healthz/ready") => Page::Ready,
        (Role::Admin | Role::Metrics, "/stats/prometheus") => Page::Metrics,
        (Role::Admin, "/policy/status") => Page::Policy,
        (Role::Admin, "/tap/status") => Page::Taps,
        (Role::Admin, "/" | "/help") => Page::Help,
        _ => Page::Unknown,
    };
    if known != Page::Unknown && method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, format!("Method {method} not allowed, GET required.\n"));
    }
    match known {
        Page::Ready => match status::readiness(shared) {
            Ok(state) => text(StatusCode::OK, format!("{state}\n")),
            Err((state, why)) => {
                let mut reply = text(StatusCode::SERVICE_UNAVAILABLE, format!("{state}\n"));
                reply.headers_mut().insert("x-sekisho-reason", HeaderValue::from_static(why));
                reply
            }
        },
        Page::Metrics => {
            let mut reply = text(StatusCode::OK, prometheus::render(shared));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=UTF-8");
            reply.headers_mut().insert(header::CONTENT_TYPE, kind);
            reply
        }
        Page::Policy => json(&status::policy(shared)),
        Page::Taps => json(&tap_status::document(shared)),
        Page::Help => text(StatusCode::OK, format!("admin commands are:\n{HELP}")),
        Page::Unknown if role == Role::Admin => {
            text(StatusCode::NOT_FOUND, format!("invalid path. admin commands are:\n{HELP}"))
        }
        Page::Unknown => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Ready,
    Metrics,
    Policy,
    Taps,
    Help,
    Unknown,
}

fn json(document: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut body = serde_json::to_string_pretty(document).unwrap_or_default();
    body.push('\n');
    let mut reply = text(StatusCode::OK, body);
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::SERVER, HeaderValue::from_static("envoy"));
    response
}
