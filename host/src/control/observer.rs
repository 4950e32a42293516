//! A listener for those who only look: metrics, health, the status as JSON. Nothing can be
//! changed there, and whoever reaches the address may ask.

use crate::control::http::{self, Kind};
use crate::control::server::encode_error;
use crate::control::{StatusReply, health, metrics};
use crate::registry::Registry;
use hyper::{Method, StatusCode};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// The most connections at once. Further clients wait.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a client may take to read the answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The most bytes that are read after a request, before the connection is closed.
const REST: u64 = 64 << 10;
/// The pause after an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener that answers who asks how the services are.
#[derive(Debug)]
pub struct Observer {
    listener: std::net::TcpListener,
}

impl Observer {
    /// Binds the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// The address that it has.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests about the services of `registry` until the future is dropped.
    ///
    /// Fails if the system does not let it wait for clients.
    pub async fn run(&self, registry: Arc<Registry>) -> io::Result<Infallible> {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.map_err(io::Error::other)?;
            let Ok((stream, _)) = listener.accept().await else {
                // The control socket says what the process has run out of.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let registry = Arc::clone(&registry);
            tokio::spawn(async move {
                serve_connection(stream, &registry).await;
                drop(place);
            });
        }
    }
}

/// Answers the request of one connection.
async fn serve_connection(mut stream: TcpStream, registry: &Registry) {
    let (method, (status, kind, body)) = match http::request(&mut stream, HEAD_TIME).await {
        Ok(Some(request)) => {
            let method = request.method().clone();
            let answer = respond(registry, &method, request.uri().path());
            (method, answer)
        }
        Ok(None) => return,
        Err(error) => {
            let body = encode_error(&error.to_string());
            (Method::GET, (error.status(), Kind::Json, body))
        }
    };
    let sending = http::answer(&mut stream, &method, status, kind, &body, REST);
    // If a client hangs up or does not read the answer, no other client is affected.
    let _ = tokio::time::timeout(ANSWER_TIME, sending).await;
}

fn respond(registry: &Registry, method: &Method, path: &str) -> (StatusCode, Kind, Vec<u8>) {
    let refused = |status, text: String| (status, Kind::Json, encode_error(&text));
    if !matches!(*method, Method::GET | Method::HEAD) {
        let text = "nothing can be changed here; use the control socket".to_owned();
        return refused(StatusCode::METHOD_NOT_ALLOWED, text);
    }
    match path {
        "/metrics" => match metrics::figures(registry) {
            Ok(text) => (StatusCode::OK, Kind::Text, text.into_bytes()),
            Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        "/healthz" | "/readyz" => {
            let (status, line) = health(registry, path == "/readyz");
            (status, Kind::Plain, line)
        }
        "/v1/status" => {
            let services = registry.all().iter().map(|it| it.status()).collect();
            match serde_json::to_vec(&StatusReply { services }) {
                Ok(body) => (StatusCode::OK, Kind::Json, body),
                Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
        _ => refused(
            StatusCode::NOT_FOUND,
            format!("there is no {path}; there are /metrics, /healthz, /readyz and /v1/status"),
        ),
    }
}
