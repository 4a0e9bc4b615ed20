//! Plain HTTP for operators: readiness, metrics, state, and the steps of a rotation.
//!
//! Two listeners: what a probe and a scraper may see, and what stays on the host.

use crate::server::Server;
use crate::steps::Step;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// What a listener shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// `/healthz/ready` and `/stats/prometheus`.
    Health,
    /// Those, the state, and what changes it.
    Admin,
}

/// Answers until `stop` becomes true.
pub(crate) async fn serve(listener: TcpListener, face: Face, server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let _place = place;
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(answer(request, face, &server).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(16 * 1024)
                .keep_alive(false)
                .serve_connection(TokioIo::new(tcp), service);
            // Whoever is slow, or leaves, loses the connection and nothing else happens.
            let _ = tokio::time::timeout(PATIENCE, connection).await;
        });
    }
}

async fn answer(request: Request<Incoming>, face: Face, server: &Arc<Server>) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    match (request.method(), request.uri().path(), face) {
        (&Method::GET, "/healthz/ready", _) => match server.readiness() {
            Ok(()) => text(StatusCode::OK, "LIVE\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        (&Method::GET, "/stats/prometheus", _) => text(StatusCode::OK, server.metrics()),
        (&Method::GET, "/status", Face::Admin) => json(StatusCode::OK, &server.status()),
        (&Method::POST, path, Face::Admin) if path.starts_with("/rotation/") => {
            let step = match Step::parse(path.trim_start_matches("/rotation/"), &query) {
                Ok(step) => step,
                Err(why) => return json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": why })),
            };
            let (done, server) = (Arc::clone(server), Arc::clone(server));
            // It waits for the disk.
            let stepped = tokio::task::spawn_blocking(move || done.step(step, "admin")).await;
            match stepped {
                Ok(Ok(())) => json(StatusCode::OK, &server.status()),
                Ok(Err(why)) => json(StatusCode::CONFLICT, &serde_json::json!({ "error": why })),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the step did not end\n".to_owned()),
            }
        }
        (_, "/healthz/ready" | "/stats/prometheus" | "/status", _) => {
            text(StatusCode::METHOD_NOT_ALLOWED, "GET\n".to_owned())
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "GET /healthz/ready, /stats/prometheus, /status; POST /rotation/STEP\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=utf-8", body)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    reply(status, "application/json", format!("{value:#}\n"))
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

const CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);
